#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node loses its way to a shared volume's device: its files go through the coordinator's node, and back.

Each node reaches the LUN through a file system of its own (lun_way.c) that can be cut, or hang.
"""
import json
import pathlib
import re
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import csvd_mount_test  # noqa: E402  (takes its own word, csv_fsx, of the command line)
import csvd_test  # noqa: E402
from csvd_test import MIB, WAIT_S, gwnet  # noqa: E402

LUN_WAY = sys.argv.pop(1) if len(sys.argv) > 1 else ""


class Node(csvd_test.Node):
    def __init__(self, cluster, number, state):
        super().__init__(cluster, number, state)
        self.fabric, self.control = self.state / "fabric", self.state / "control"
        self.fabric.mkdir()
        self.way("")

    def way(self, how):
        """Atomically: it is read all the time."""
        new = self.control.with_suffix(".new")
        new.write_text(how)
        new.rename(self.control)

    def start(self):
        if self.node.run("test", "-e", self.fabric / "lun", check=False).returncode != 0:
            self.node.spawn(LUN_WAY, self.state.parent / "lun", self.fabric, self.control, "-f", log="way.log")
            gwnet.wait_for(lambda: self.node.run("test", "-e", self.fabric / "lun", check=False).returncode == 0, WAIT_S,
                           "the way to the LUN is there")
        return super().start()


class Cluster(csvd_test.Cluster):
    node_type = Node

    other = None  # a second volume, on a device that nothing happens to
    first = True  # vol1 is one of the cluster's

    def __init__(self, case):
        super().__init__(case)
        case.addCleanup(lambda: [n.way("") for n in self.nodes])  # nothing hangs when it ends

    def said(self, node):
        said = super().said(node)
        said["volumes"][0]["device"] = str(node.fabric / "lun")
        if self.other is not None:
            said["volumes"].append({**said["volumes"][0], "name": "vol2", **self.other})
        if not self.first:
            del said["volumes"][0]
        return said

    def add_other(self):
        device = self.state / "lun2"
        with open(device, "wb") as lun:
            lun.truncate(64 * MIB)
        made = subprocess.run([csvd_test.BIN / "godwit", "csv", "create", "vol2", "--device", device, "--json"],
                              capture_output=True, text=True, check=True)
        self.other = {"device": str(device), "id": json.loads(made.stdout)["id"]}
        self.tell()


class Base(csvd_mount_test.Base):
    cluster_type = Cluster

    def setUp(self):
        super().setUp()
        self.end = self.cluster.state / "end"

    def wait(self, condition, what):
        try:
            return gwnet.wait_for(condition, WAIT_S, what)
        except gwnet.Timeout as e:
            text = "\n".join(f"--- {n.name}: {n.volume() if n.proc else None}\n{n.log()[-3000:]}" for n in self.cluster.nodes)
            raise gwnet.Timeout(f"{e}\n{text}") from None

    def state(self, node, state):
        begun = time.monotonic()
        self.wait(lambda: node.node.volume()["state"] == state, f"{node.node.name} is {state}")
        return time.monotonic() - begun

    def back(self, node):
        """Its way is healed: as soon as the cluster says that nobody acted on its silence, it goes there."""
        node.node.way("")
        begun = time.monotonic()
        # Its lease may end only now: renewals take their time.
        self.wait(lambda: self.told(node) and node.node.volume()["state"] == "direct", f"{node.node.name} is direct")
        return time.monotonic() - begun

    def told(self, node):
        if node.node.volume()["slot"] == "lapsed":
            self.cluster.tell()
        return True

    def finish(self, jobs):
        self.end.touch()
        for node, name, job in jobs:
            self.assertTrue(job.wait(WAIT_S), node.fsx_log(name))
            self.assertIn("0 differences", node.fsx_log(name))
            job.close()
        for _, name, _ in jobs:
            self.assertEqual(len(self.sums(name)), 1)

    def through(self, node):
        return node.node.volume()["redirected"]["bytes"]

    def more_through(self, node):
        before = self.through(node)
        self.wait(lambda: self.through(node) > before + MIB, "data goes through another node")


class Path(Base):
    def test_a_node_without_a_path_goes_through_another_and_comes_back(self):
        first, second, third = self.nodes
        jobs = [(n, f"f{i}", n.fsx(f"f{i}", 11 + i, 50, self.end)) for i, n in enumerate(self.nodes[1:])]
        for how in ("cut", "hang"):
            second.node.way(how)
            lost = self.state(second, "redirected")
            if how == "cut":  # what hangs already stays where it is
                self.more_through(second)
            # What comes now does not go there.
            self.assertEqual(second.sh("echo at once > now && sync now && cat now && rm now").stdout, "at once\n")
            # Longer than its lease on the device, which it cannot renew.
            self.wait(lambda: second.node.volume()["slot"] == "lapsed", "its lease is over")
            second.sh(f"echo through another > {how} && cat {how}")
            self.assertEqual(third.sh(f"cat {how}").stdout, "through another\n")
            self.assertEqual(third.node.volume()["state"], "direct")
            self.assertGreater(first.node.volume()["here"]["gate"]["bytes"], 0)
            self.assertIn("redirected", second.node.godwit("csv", "list").stdout)
            back = self.back(second)
            print(f"# {how}: redirected after {lost:.1f} s, direct {back:.1f} s after it was healed", file=sys.stderr)
        self.finish(jobs)
        self.leave()

    def test_a_node_whose_files_are_closed_still_says_that_it_goes_through_another(self):
        second = self.nodes[1]

        def written():  # and nothing stays open: by itself that would look like a path that is back
            return second.sh("echo more > file && sync file && cat file").stdout == "more\n"
        second.node.way("cut")
        self.wait(lambda: written() and second.node.volume()["state"] == "redirected", "it is redirected")
        before = len(self.states(second))
        self.wait(lambda: written() and second.node.volume()["slot"] == "lapsed", "its lease is over")
        self.assertNotIn("direct", self.states(second)[before:])
        self.back(second)
        self.leave()

    def states(self, node):
        return re.findall(r"state volume=vol1 state=(\w+)", node.node.log())

    def test_the_coordinator_dies_while_a_node_goes_through_it(self):
        c = self.cluster
        second = self.nodes[1]
        jobs = [(second, "f", second.fsx("f", 7, 50, self.end))]
        second.node.way("cut")
        self.state(second, "redirected")
        victim = c.nodes[0]
        for _ in range(2):
            self.more_through(second)
            victim.kill()
            c.fence(victim)
            c.appoint(3 if victim.number == 1 else 1)
            c.join(victim)
            c.tell()
            victim = c.nodes[c.coordinator - 1]
        self.more_through(second)
        self.back(second)
        self.wait_mounted()
        self.finish(jobs)
        self.leave()

    def test_a_planned_move_while_a_node_goes_through_it(self):
        c = self.cluster
        second = self.nodes[1]
        jobs = [(second, "f", second.fsx("f", 9, 50, self.end))]
        second.node.way("cut")
        self.state(second, "redirected")
        for here, there in ((1, 3), (3, 1)):
            self.more_through(second)
            self.assertEqual(c.nodes[here - 1].godwit("csv", "move", "vol1", "--to", f"n{there}").returncode, 0)
            c.appoint(there)
        self.more_through(second)
        self.back(second)
        self.finish(jobs)
        self.leave()


class Volume(Base):
    def test_without_any_way_all_waits_and_nothing_fails(self):
        first, second, _ = self.nodes
        jobs = [(second, "f", second.fsx("f", 3, 50, self.end))]
        second.node.way("cut")
        self.state(second, "redirected")
        first.node.way("hang")
        self.wait(lambda: first.node.volume()["slot"] != "held", "the coordinator's lease is over")
        before = self.through(second)
        self.state(first, "paused")
        self.assertLessEqual(self.through(second), before + 2 * MIB)  # what was under way
        self.back(first)
        self.more_through(second)
        self.back(second)
        self.finish(jobs)
        self.leave()

    def test_a_volume_whose_device_hangs_is_left_and_the_others_go_on(self):
        c = self.cluster
        second = self.nodes[1]
        c.add_other()
        there = second.at.with_name("vol2")
        self.wait(lambda: second.run("grep", "-q", f"{there} fuse", "/proc/mounts", check=False).returncode == 0, "mounted")
        second.node.way("hang")
        self.wait(lambda: second.node.volume()["way"] == "lost", "its device hangs")
        c.first = False
        c.tell()

        def left():
            said = second.node.ask("GET", "/v1/volumes")
            return [v["name"] for v in said["volumes"]] == ["vol2"] and c.id in said["closing"]
        self.wait(left, "it is left, and waits for the device")
        second.run("sh", "-c", f"cd {there} && echo more > file && cat file && rm file")
        self.assertIn(c.id, second.node.ask("GET", "/v1/volumes")["closing"])
        second.node.way("")
        self.wait(lambda: second.node.ask("GET", "/v1/volumes")["closing"] == [], "it is closed")

    def test_what_a_fenced_node_sends_is_refused(self):
        c = self.cluster
        first, second, third = self.nodes
        second.sh("head -c 8M /dev/zero > file")
        writer = second.node.node.spawn(
            # A flush that the cut meets on the device is told to whom it is for, and that is one dd.
            "sh", "-c", f"cd {second.at} && exec 3<>file && touch open && while sleep 0.01; do dd if=/dev/urandom of=file bs=64k "
            "count=1 seek=$((n % 128)) conv=notrunc 2>/dev/null; n=$((n + 1)); done", log="writer")
        self.wait(lambda: third.sh("test -e open", check=False).returncode == 0, "it writes")
        second.node.way("cut")
        self.state(second, "redirected")
        self.more_through(second)
        self.assertIn("busy", third.sh("echo mine > file", check=False).stderr)
        # The others hear of the proof; it does not.
        c.fence(second.node)
        c.epoch += 1
        for node in (first.node, third.node):
            node.ask("PUT", "/v1/members", c.said(node))
        self.wait(lambda: third.sh("head -c 8M /dev/zero > file", check=False).returncode == 0, "the file is free")
        self.wait(lambda: second.node.volume()["client"] != "active", "nobody hears it any more")
        writer.signal(signal.SIGKILL)
        self.assertTrue(writer.wait(WAIT_S))
        self.assertEqual(third.sh("cmp -n 8388608 file /dev/zero && stat -c %s file").stdout, f"{8 * MIB}\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)

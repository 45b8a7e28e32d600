#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The coordinator's own way to a shared volume's device is lost: another node goes on, in a cluster with all its services.

Each node reaches the LUN through a file system of its own (lun_way.c) that can be cut, or hang.
"""
import os
import pathlib
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
FSX, LUN_WAY = (sys.argv.pop(1), sys.argv.pop(1)) if len(sys.argv) > 2 else ("", "")
sys.argv.insert(1, FSX)
import csvd_mount_test  # noqa: E402  (takes its own word, csv_fsx, of the command line)
import csv_cluster_test  # noqa: E402
import gwnet  # noqa: E402

WAIT_S = csv_cluster_test.WAIT_S
STANDS_S = 6.0


class Paths(csv_cluster_test.Volumes):
    test_a_volume_of_a_cluster = None

    def setUp(self):
        super().setUp()
        for node in self.nodes:
            node.fabric, node.control = node.state / "fabric", node.state / "control"
            node.fabric.mkdir()
            self.way(node, "")
            node.node.spawn(LUN_WAY, self.device, node.fabric, node.control, "-f", log="way.log")
            self.wait(lambda n=node: n.node.run("test", "-e", n.fabric / "lun", check=False).returncode == 0, "its way")
            node.node.run("mount", "--bind", node.fabric / "lun", self.device)
        self.addCleanup(lambda: [self.way(n, "") for n in self.nodes])  # nothing hangs when it ends
        self.never_opened()
        self.first = self.served(self.nodes, "n1")
        self.wait(lambda: all(n.volume()["path"] and n.volume()["way"] == "good" for n in self.nodes), "all reach it")
        self.programs = [csvd_mount_test.Node(self, n) for n in self.nodes]
        self.end = self.state / "end"

    def never_opened(self):
        """Nobody waits for a node that had no way to the volume since there is one."""
        n1, n2, n3 = self.nodes
        self.way(n3, "gone")
        for node in self.nodes:
            self.wait(lambda n=node: n.members().get("alone") is False, "it is told")
        n1.godwit("csv", "create", "vol1", "--device", str(self.device))
        first = self.served([n1, n2], "n1")
        self.assertEqual(n1.csv("move", "vol1", "--to", "n2").returncode, 0)
        self.served([n1, n2], "n2", first["term"])
        self.wait(lambda: n2.volume()["here"]["state"] == "active", "the coordinator waits for nobody")
        self.assertEqual(n2.volume()["here"]["missing"], 0)
        pid = n3.members()["pid"]
        self.way(n3, "")
        self.wait(lambda: (n3.volume() or {}).get("state") == "direct", "it opens the volume")
        self.assertEqual(n3.members()["pid"], pid)
        self.assertEqual(n2.csv("move", "vol1", "--to", "n1").returncode, 0)
        self.served(self.nodes, "n1", first["term"] + 1)

    def way(self, node, how):
        """Atomically: it is read all the time."""
        new = node.control.with_suffix(".new")
        new.write_text(how)
        new.rename(node.control)

    def is_in(self, node, state):
        self.wait(lambda: (node.volume() or {}).get("state") == state, f"{node.name} is {state}")

    def standing(self, node):
        """A condition: for some seconds nobody was appointed."""
        seen = []

        def good():
            term = (node.volume() or {}).get("term")
            if not seen or seen[-1][1] != term:
                seen.append((time.monotonic(), term))
            return time.monotonic() - seen[-1][0] > STANDS_S
        return good

    def finish(self, jobs):
        self.end.touch()
        for program, name, job in jobs:
            self.assertTrue(job.wait(WAIT_S), program.fsx_log(name))
            self.assertIn("0 differences", program.fsx_log(name))
            job.close()

    def test_another_node_coordinates_and_nothing_fails(self):
        n1, n2, n3 = self.nodes
        jobs = [(p, f"f{i}", p.fsx(f"f{i}", 5 + i, 50, self.end)) for i, p in enumerate(self.programs)]
        # What is sent hangs first, as it does until an initiator gives up; then it fails.
        self.way(n1, "hang")
        self.wait(lambda: (n1.volume() or {}).get("way") == "lost", "it has lost its way")
        begun = time.monotonic()
        self.way(n1, "gone")
        second = self.served([n2, n3], term=self.first["term"])
        self.assertIn(second["coordinator"], ("n2", "n3"))
        self.programs[2].sh("echo from a third > after")
        print(f"# {time.monotonic() - begun:.1f} s from the first error to a new file", file=sys.stderr)
        self.is_in(n1, "redirected")
        self.assertEqual(self.programs[0].sh("cat after && echo through another > too").stdout, "from a third\n")
        self.assertEqual(self.programs[1].sh("cat too").stdout, "through another\n")
        # Nobody else has a better way: then it stays where it is.
        for node in (n2, n3):
            self.way(node, "gone")
            self.wait(lambda n=node: (n.volume() or {}).get("way") == "lost", "all have lost it")
        self.wait(self.standing(n1), "the term stays the same")
        for node in self.nodes:
            self.way(node, "")
        self.served(self.nodes, term=second["term"] - 1)
        self.finish(jobs)
        for name in ("f0", "f1", "f2"):
            self.assertEqual(len({p.sh(f"sha256sum {name}").stdout for p in self.programs}), 1)
        n1.godwit("csv", "evict", "vol1")
        for node in self.nodes:
            self.wait(lambda n=node: n.ask_csvd("GET", "/v1/volumes")["volumes"] == [], "it is left")
        check = csv_cluster_test.subprocess.run(
            [csv_cluster_test.service.BIN / "godwit", "csv", "check", self.device, "--json"], capture_output=True, text=True,
            check=False)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)


if __name__ == "__main__":
    reason = gwnet.why_not()
    if reason is None and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        reason = "no /dev/fuse"
    if reason:
        print(f"skipped: {reason}")
        sys.exit(77)
    unittest.main(verbosity=2)

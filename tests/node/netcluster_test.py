#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The fixture itself: real corosync in namespaces, every fault it can inject, and its cleaning up."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

LIB = pathlib.Path(__file__).resolve().parents[1] / "lib"
sys.path.insert(0, str(LIB))
import gwnet  # noqa: E402

NETCLUSTER = str(LIB / "netcluster")
SEEN_S = 15.0  # detection takes 2.2 tokens; the rest is for a busy machine


def traces():
    """What a cluster could leave on the machine outside of its directory; [] is the only good answer."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    named = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    mounts = pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    return re.findall(r"^\d+: ((?:n\d+l|link)\d+)[@:]", links, re.M) + \
        [n for n in named if "gwnet" in n] + [m for m in mounts.splitlines() if "gwnet" in m or "corosync" in m]


def members_of_pidns(ns):
    """Processes that live in a PID namespace."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == ns:
                found.append(int(pid))
        except OSError:
            pass
    return found


class Faults(unittest.TestCase):
    """One cluster of three for all; every test starts and ends with all three as members."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = gwnet.Cluster(nodes=3)
        cls.cluster.start()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.destroy()

    def setUp(self):
        self.cluster.wait_members([1, 2, 3])

    def tearDown(self):
        if any(error for _, error in getattr(self._outcome, "errors", [])):
            self.cluster.dump(sys.stderr)
        self.cluster.heal()
        for node in self.cluster.nodes():
            node.resume()
            if node.corosync() is None:
                node.start()

    def test_three_nodes_are_quorate(self):
        q = self.cluster.node(2).quorum()
        self.assertEqual((q.quorate, q.members, q.votes, q.expected, q.needed), (True, (1, 2, 3), 3, 3, 2))

    def test_a_killed_node_is_noticed_by_the_others(self):
        started = time.monotonic()
        self.cluster.node(3).kill()
        self.assertEqual(self.cluster.node(3).pids(), [])
        self.assertIsNone(self.cluster.node(3).quorum())
        self.cluster.wait_members([1, 2], deadline_s=SEEN_S)
        # Not before the token timeout: otherwise something but the silence of the node told them.
        self.assertGreater(time.monotonic() - started, 0.9)

    def test_a_stopped_node_leaves_in_good_order(self):
        self.cluster.node(1).stop()
        self.assertIsNone(self.cluster.node(1).corosync())
        self.cluster.wait_members([2, 3], deadline_s=SEEN_S)

    def test_a_paused_node_is_out_and_comes_back(self):
        before = self.cluster.node(2).corosync().pid
        self.cluster.node(2).pause()
        self.cluster.wait_members([1, 3], deadline_s=SEEN_S)
        self.cluster.node(2).resume()
        self.cluster.wait_members([1, 2, 3], deadline_s=SEEN_S)
        self.assertEqual(self.cluster.node(2).corosync().pid, before)

    def test_a_cut_node_loses_quorum_and_heals(self):
        for carrier in (True, False):
            self.cluster.node(1).cut(carrier=carrier)
            self.cluster.wait_members([2, 3], deadline_s=SEEN_S)
            self.cluster.wait_members([1], quorate=False, deadline_s=SEEN_S)
            self.cluster.node(1).heal()
            self.cluster.wait_members([1, 2, 3], deadline_s=SEEN_S)

    def test_one_of_two_links_can_go(self):
        ring = self.cluster.node(1).quorum().ring
        self.cluster.node(1).cut(link=0)
        # Both directions are really cut on link 0, and link 1 still works.
        self.assertNotEqual(self.ping(2, self.cluster.config.address(1, 0)), 0)
        self.assertEqual(self.ping(2, self.cluster.config.address(1, 1)), 0)
        end = time.monotonic() + 3.0
        while time.monotonic() < end:  # three tokens without a new ring
            self.assertEqual(self.cluster.node(1).quorum().ring, ring)
            time.sleep(0.2)

    def test_split_two_and_one(self):
        self.cluster.split([1, 2], [3])
        self.cluster.wait_members([1, 2], deadline_s=SEEN_S)
        self.cluster.wait_members([3], quorate=False, deadline_s=SEEN_S)
        self.cluster.split([1], [2, 3])
        self.cluster.wait_members([2, 3], deadline_s=SEEN_S)
        self.cluster.wait_members([1], quorate=False, deadline_s=SEEN_S)
        with self.assertRaisesRegex(gwnet.Error, "exactly one group"):
            self.cluster.split([1, 2], [2, 3])

    def test_a_pair_can_be_cut_in_one_direction(self):
        self.cluster.block(1, 3, link=0)
        one, three = self.cluster.config.address(1, 0), self.cluster.config.address(3, 0)
        # Pings between 1 and 3 die on the way to 3: as requests, or as answers.
        self.assertNotEqual(self.ping(1, three), 0)
        self.assertNotEqual(self.ping(3, one), 0)
        self.assertEqual(self.ping(2, three), 0)
        self.assertEqual(self.ping(2, one), 0)
        counted = self.cluster.node(1).run("nft", "list", "ruleset").stdout
        self.assertNotIn("drop", counted)  # nothing is dropped at 1
        self.cluster.heal()
        self.assertEqual(self.ping(1, three), 0)

    def test_commands_work_from_inside_a_node(self):
        inside = self.cluster.node(1)
        name = self.cluster.name
        self.assertEqual(inside.run("hostname").stdout, "n1\n")
        self.assertIn("n3  quorate", inside.run(NETCLUSTER, "status", name).stdout)
        inside.run(NETCLUSTER, "kill", name, "3")
        inside.run(NETCLUSTER, "cut", name, "2")
        inside.run(NETCLUSTER, "wait", name, "1", "--not-quorate", timeout_s=60)
        inside.run(NETCLUSTER, "heal", name)
        inside.run(NETCLUSTER, "wait", name, "1,2", timeout_s=60)

    def test_status_and_streams_of_a_command_pass_through(self):
        done = self.cluster.node(2).run("sh", "-c", "cat; echo err >&2; exit 7", input="in", stdin=None,
                                        check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (7, "in", "err\n"))

    def test_a_command_dies_with_its_caller(self):
        child = self.cluster.node(2).popen("sleep", "600")
        gwnet.wait_for(lambda: self.cluster.node(2).find("sleep"), 5, "sleep runs")
        child.kill()
        child.wait()
        gwnet.wait_for(lambda: self.cluster.node(2).find("sleep") is None, 5, "sleep is gone")

    def ping(self, node, address):
        """Status of one ping."""
        return self.cluster.node(node).run("ping", "-c1", "-W1", address, check=False).returncode


class Clusters(unittest.TestCase):
    """Making and unmaking."""

    def test_two_clusters_at_once_with_encryption_and_votes(self):
        with gwnet.Cluster(nodes=2, links=1) as plain, \
                gwnet.Cluster(nodes=2, crypto=True, votes={1: 3}, token=1500, consensus=2000) as other:
            plain.start()
            other.start()
            q = other.node(2).quorum()
            self.assertEqual((q.votes, q.needed, q.members), (4, 3, (1, 2)))
            self.assertEqual(plain.node(1).quorum().votes, 2)
            cmap = other.node(1).run("corosync-cmapctl").stdout
            self.assertRegex(cmap, r"runtime\.config\.totem\.token \(u32\) = 1500\b")
            self.assertRegex(cmap, r"runtime\.config\.totem\.consensus \(u32\) = 2000\b")
            self.assertRegex(cmap, r"totem\.crypto_cipher \(str\) = aes256\b")
            other.node(1).kill()
            other.wait_members([2], quorate=False, deadline_s=SEEN_S)
            plain.wait_members([1, 2])

    def test_expected_votes_decide(self):
        with gwnet.Cluster(nodes=2, links=1, expected_votes=5) as c:
            c.node(1).start()
            c.node(2).start()
            c.wait_members([1, 2], quorate=False)
            self.assertEqual(c.node(1).quorum().needed, 3)

    def test_destroy_leaves_nothing(self):
        with gwnet.Cluster(nodes=3) as c:
            c.start()
            c.node(2).pause()  # a stopped process must not survive, either
            ns = c.state()["pidns"]
            self.assertGreater(len(members_of_pidns(ns)), 6)
            self.assertEqual(traces(), [])  # not even while it is up
            where = c.dir
        self.assertEqual(members_of_pidns(ns), [])
        self.assertFalse(where.exists())
        self.assertEqual(traces(), [])

    def start_victim(self):
        """A test process with a started cluster, to be killed; its directory is of this test alone."""
        base = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.object(gwnet, "BASE", base))
        self.enterContext(mock.patch.dict(os.environ, GW_NET_DIR=str(base)))
        code = ("import sys, time; sys.path.insert(0, sys.argv[1]); import gwnet\n"
                "c = gwnet.Cluster(nodes=2); c.start(); print(c.name, c.state()['pidns'], flush=True)\n"
                "time.sleep(600)")
        child = subprocess.Popen([sys.executable, "-c", code, str(LIB)], stdout=subprocess.PIPE, text=True)
        self.addCleanup(child.stdout.close)
        name, ns = child.stdout.readline().split()
        return child, name, ns

    def test_a_killed_test_process_leaves_nothing(self):
        child, name, ns = self.start_victim()
        child.send_signal(signal.SIGKILL)
        child.wait()
        gwnet.wait_for(lambda: not members_of_pidns(ns), 10, "all processes ended")
        gwnet.wait_for(lambda: not (gwnet.BASE / name).exists(), 10, "directory gone")
        self.assertEqual(traces(), [])

    def test_gc_removes_what_a_killed_hub_left(self):
        child, name, ns = self.start_victim()
        os.kill(gwnet.Cluster.open(name).state()["hub"], signal.SIGKILL)
        child.kill()
        child.wait()
        gwnet.wait_for(lambda: not members_of_pidns(ns), 10, "all processes ended")
        self.assertTrue((gwnet.BASE / name).exists())
        done = subprocess.run([NETCLUSTER, "gc"], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, f"removed {name}\n")
        self.assertFalse((gwnet.BASE / name).exists())

    def test_a_detached_cluster_outlives_its_maker_until_down(self):
        name = f"d{os.getpid()}"

        def cmd(*args, status=0):
            done = subprocess.run([NETCLUSTER, *args], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, status, done.stderr)
            return done

        self.addCleanup(lambda: subprocess.run([NETCLUSTER, "down", name], capture_output=True, check=False))
        cmd("up", name, "--nodes", "2", "--links", "1")
        self.assertEqual(cmd("gc").stdout.count(name), 0)
        self.assertIn(f"{name}  up  detached", cmd("list").stdout)
        self.assertIn("exists already", cmd("up", name, status=1).stderr)
        self.assertEqual(cmd("exec", name, "2", "--", "hostname").stdout, "n2\n")
        cmd("exec", name, "2", "--", "sh", "-c", "exit 5", status=5)
        cmd("kill", name, "1")
        cmd("wait", name, "2", "--not-quorate")
        self.assertIn("A new membership", cmd("log", name, "2").stdout)
        cmd("down", name)
        self.assertIn("no cluster", cmd("status", name, status=1).stderr)

    def test_run_gives_a_cluster_to_one_command(self):
        script = 'test "$(hostname)" = n2 && "$0" status "$GW_NETCLUSTER" && exit 3'
        done = subprocess.run([NETCLUSTER, "run", "--nodes", "2", "--on", "2", "--", "sh", "-c", script, NETCLUSTER],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("n1  quorate", done.stdout)

    def test_a_bad_configuration_says_why(self):
        with gwnet.Cluster(nodes=1, links=1, token=100) as c:  # too short for four retransmits
            with self.assertRaisesRegex(gwnet.Error, "ended at once|not within"):
                c.start(wait_s=2)
            gwnet.wait_for(lambda: c.node(1).corosync() is None, 5, "corosync gave up")
            self.assertIn("token", c.node(1).log().lower())
        for options in ({"nodes": 0}, {"nodes": 33}, {"links": 9}):
            with self.assertRaises(gwnet.Error):
                gwnet.Config(**options)


if __name__ == "__main__":
    gwnet.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Majorities that are not there: halves with and without a witness, old copies, a start by force."""
import pathlib
import shutil
import signal
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwnet  # noqa: E402
from cluster_service_test import Case, WAIT_S  # noqa: E402


class Quorum(Case):
    LINKS = 1
    DETECT = "500ms"  # quicker than the default; nobody counts the milliseconds here

    def setUp(self):
        super().setUp()
        # Not on a tmpfs, which may know no direct I/O; all nodes see the same file system.
        self.share = pathlib.Path(tempfile.mkdtemp(prefix="gwwitness", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, self.share)

    def quorum(self, node):
        return node.ask("quorum", "show")

    def witness(self, kind):
        """Sets the witness; it votes."""
        if kind == "share":
            where = f"share:{self.share}"
        else:
            disk = self.share / "disk"
            if not disk.exists():
                disk.write_bytes(bytes(2 << 20))
            where = f"disk:{disk}"
        self.nodes[0].godwit("quorum", "set", "--witness", where)
        for node in self.nodes:
            gwnet.wait_for(lambda node=node: (self.quorum(node)["witness"] or {}).get("state") == "ready", WAIT_S,
                           f"{node.name}: witness ready")

    def status_of(self, node):
        return self.quorum(node)["state"]

    def alone(self, side):
        """What the nodes of a half say: their states, "joint" as long as they still see somebody else."""
        names = {n.name for n in side}
        out = set()
        for node in side:
            s = node.status()
            out.add("joint" if {n["name"] for n in s["nodes"] if n["up"]} - names else s["state"])
        return out

    def writes(self, node):
        """A change that must be committed; for a moment after a node joined, its token still stands in the way."""
        gwnet.wait_for(lambda: node.godwit("cert", "renew", check=False).returncode == 0, WAIT_S, f"{node.name} writes")

    def all_active(self):
        for node in self.nodes:
            node.active(len(self.nodes))
        self.equal()


class Halves(Quorum):
    COUNT = 4

    def test_of_two_halves_one_goes_on_with_a_witness_and_none_without(self):
        self.form()
        one, other = self.nodes[:2], self.nodes[2:]
        self.net.split([1, 2], [3, 4])
        for node in self.nodes:
            gwnet.wait_for(lambda node=node: self.status_of(node) == "off", WAIT_S, f"{node.name}: no majority")
        for node in (one[0], other[0]):
            self.assertRegex(self.quorum(node)["why"], "majority|half|view")
        self.net.heal()
        self.all_active()
        self.witness("share")
        q = self.quorum(one[0])
        self.assertEqual((q["votes"], q["votes_total"], q["votes_needed"]), (4, 5, 3))
        corosync = self.net.node(1).quorum()
        self.assertEqual((corosync.quorate, corosync.votes, corosync.expected), (True, 4, 5))
        for sides in ((one, other), (other, one)):
            goes_on = []

            def exactly_one(sides=sides, goes_on=goes_on):
                states = [self.alone(side) for side in sides]
                self.assertFalse(all("active" in s for s in states), states)  # never both
                goes_on[:] = [i for i, s in enumerate(states) if s == {"active"}]
                return len(goes_on) == 1 and states[1 - goes_on[0]] == {"off"}
            self.net.split([n.number for n in sides[0]], [n.number for n in sides[1]])
            gwnet.wait_for(exactly_one, WAIT_S, "one half goes on")
            winner = sides[goes_on[0]]
            q = self.quorum(winner[0])
            self.assertEqual((q["votes"], q["quorate"], q["witness"]["state"]), (3, True, "voting"))
            self.assertTrue(all(self.net.node(n.number).quorum().quorate for n in winner))
            self.assertFalse(any(self.net.node(n.number).quorum().quorate for n in sides[1 - goes_on[0]]))
            self.writes(winner[1])
            self.net.heal()
            self.all_active()
        # An odd number of nodes needs none; without one it is as before.
        self.nodes[0].godwit("quorum", "set", "--witness", "none")
        self.assertIsNone(self.quorum(self.nodes[1])["witness"])
        self.assertEqual(self.net.node(1).quorum().expected, 4)
        self.assertEqual(list(self.share.iterdir())[0].name[:15], "godwit-witness-")


class Two(Quorum):
    COUNT = 2

    def test_an_old_copy_is_refused_by_the_witness(self):
        self.form()
        n1, n2 = self.nodes
        refused = n1.godwit("quorum", "set", "--witness", "qdevice:192.0.2.9", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("keeps nothing", refused.stderr)
        self.assertIsNone(self.quorum(n1)["witness"])
        self.witness("disk")
        # The witness alone is lost: they go on, and say so.
        disk, aside = self.share / "disk", self.share / "aside"
        disk.rename(aside)
        gwnet.wait_for(lambda: self.quorum(n1)["witness"]["state"] == "unreachable", WAIT_S, "n1 misses the witness")
        self.assertIn("No such file", self.quorum(n1)["witness"]["why"])
        self.assertEqual(self.status_of(n1), "active")
        # Without it one of two is no majority; n2 is away.
        n2.stop(signal.SIGKILL)
        self.net.node(2).kill()
        gwnet.wait_for(lambda: self.status_of(n1) == "off", WAIT_S, "n1 is no majority")
        # With it n1 goes on alone, and changes something.
        aside.rename(disk)
        gwnet.wait_for(lambda: self.quorum(n1)["witness"]["state"] == "voting" and self.status_of(n1) == "active",
                       WAIT_S, "n1 goes on")
        self.writes(n1)
        # n1 dies, n2 comes back: it lacks what n1 has written, and waits.
        n1.stop(signal.SIGKILL)
        self.net.node(1).kill()
        n2.start()
        gwnet.wait_for(lambda: "other nodes had the witness" in ((self.quorum(n2)["witness"] or {}).get("why") or ""),
                       WAIT_S, "n2 is refused")
        self.assertEqual(self.status_of(n2), "off")
        self.assertIn("stale", n2.godwit("quorum", "show").stdout)
        # With n1 it goes on; then it has all, and may go on alone.
        n1.start()
        self.all_active()
        n1.stop(signal.SIGKILL)
        self.net.node(1).kill()
        gwnet.wait_for(lambda: self.status_of(n2) == "active", WAIT_S, "n2 goes on")
        n1.start()
        self.all_active()

    def test_an_older_copy_of_the_witness_is_none(self):
        self.form()
        n1, n2 = self.nodes
        self.witness("disk")
        disk = self.share / "disk"
        backup = disk.read_bytes()
        # n1 goes on alone with it; n2 is only cut off from n1 and sees who has it.
        n2_sees = n2.state / "cluster/witness.seen"
        self.net.split([1], [2])
        gwnet.wait_for(lambda: self.alone([n1]) == {"active"}, WAIT_S, "n1 goes on")
        self.writes(n1)
        gwnet.wait_for(lambda: n2_sees.exists() and not n2_sees.read_text().endswith(" 0\n"), WAIT_S, "n2 has seen it")
        self.assertEqual(self.status_of(n2), "off")
        # n1 is lost, and somebody gives back what the witness was before.
        n1.stop(signal.SIGKILL)
        self.net.node(1).kill()
        n2.stop(signal.SIGKILL)
        disk.write_bytes(backup)
        n2.start()
        gwnet.wait_for(lambda: "older copy" in ((self.quorum(n2)["witness"] or {}).get("why") or ""), WAIT_S,
                       "n2 knows it")
        self.assertEqual(self.status_of(n2), "off")
        # With both, a new one is made.
        self.net.heal()
        n1.start()
        self.all_active()
        n1.godwit("quorum", "set", "--witness", "none")
        self.witness("disk")


class Force(Quorum):
    def test_a_survivor_goes_on_by_force_and_the_others_come_back(self):
        self.form()
        n1, n2, n3 = self.nodes
        self.assertIn("nothing is to be forced", n1.godwit("quorum", "set", "--force", "n2,n3", "--yes",
                                                            check=False).stderr)
        for node in (n2, n3):
            node.stop(signal.SIGKILL)
            self.net.node(node.number).kill()
        gwnet.wait_for(lambda: self.status_of(n1) == "off", WAIT_S, "n1 is alone")
        # While its corosync forms the ring without them, it says so instead.
        gwnet.wait_for(lambda: "not here" in n1.godwit("quorum", "set", "--force", "n2", "--yes", check=False).stderr, WAIT_S,
                       "n1 misses n3 in the list")
        self.assertIn("confirmed", n1.godwit("quorum", "set", "--force", "n2,n3", check=False).stderr)
        self.assertEqual(self.status_of(n1), "off")
        n1.godwit("quorum", "set", "--force", "n2,n3", "--yes")
        gwnet.wait_for(lambda: self.quorum(n1)["votes_total"] == 1, WAIT_S, "the log is n1's")
        self.assertGreater(self.quorum(n1)["epoch"], 1 << 32)
        self.writes(n1)
        # The lost majority comes back: it has more votes of old, and loses.
        n2.start()
        n3.start()
        self.all_active()
        self.assertGreater(self.quorum(n2)["epoch"], 1 << 32)
        self.assertEqual(self.net.node(1).quorum().expected, 3)


if __name__ == "__main__":
    gwnet.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Maintenance of nodes: real services, workers and guests that count on their consoles. Rows 41 and 42 of the fault matrix."""
import json
import os
import pathlib
import re
import signal
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwnet  # noqa: E402
import ha_service_test as ha  # noqa: E402
import move_test  # noqa: E402


class Case(ha.Case):
    NODE = ha.RealNode

    def setUp(self):
        super().setUp()
        self.kernel = self.state / "kernel"
        fd = move_test.kernel()
        self.kernel.write_bytes(os.pread(fd, os.fstat(fd).st_size, 0))
        os.close(fd)
        # These guests write all the time, and this machine may be busy.
        self.nodes[0].godwit("cluster", "set", "--blackout-limit", "20s")

    def run_vm(self, name, *words):
        n1 = self.nodes[0]
        n1.godwit("vm", "create", name, "--ha", "--memory", "64M", "--cpus", "1", "--kernel", self.kernel, *words)
        n1.godwit("vm", "start", name)
        return self.online(name, n1)

    grows = ha.Moves.grows

    def rows(self, report):
        return {row["vm"]: row for row in report["vms"]}

    def begin(self, node, *words):
        """A drain that nobody waits for; the number of its job."""
        return node.ask("node", "drain", *words, "--no-wait")["id"]

    def job(self, node, number):
        return node.ask("job", "show", str(number))

    def shown(self, node, name):
        lines = node.godwit("node", "list").stdout.splitlines()
        head = next(line for line in lines if line.startswith("NODE "))
        begin, end = head.index("STATE"), head.index("UP ")
        return next(line[begin:end].strip() for line in lines if line.startswith(name + " "))

    def run_of(self, node, name):
        """Which run of that node the log has."""
        return next(n for n in node.ask("node", "list")["nodes"] if n["name"] == name)["ha"]["run"]

    def where(self, *names):
        return [self.nodes[0].vm(name)["node"] for name in names]


class Drain(Case):
    def test_a_drain_is_taken_back_before_the_log_has_it(self):
        """Nobody answers while it is asked for and taken back."""
        n1, n2, n3 = self.nodes
        self.run_vm("web1", "--preferred", "n2")
        for node in (n2, n3):
            node.signal(signal.SIGSTOP)
        try:
            number = self.begin(n1, "n2")
            self.assertEqual(self.job(n1, number)["state"], "running")
            n1.godwit("job", "cancel", str(number))
        finally:
            for node in (n2, n3):
                node.signal(signal.SIGCONT)
        self.wait(lambda: self.job(n1, number)["state"] == "cancelled", "the job is cancelled")
        self.online("web1", n1)
        self.assertEqual(self.shown(n1, "n2"), "member")
        self.assertNotIn('committed what="drain n2', n1.log())

    def test_a_node_is_emptied_as_far_as_it_goes_and_filled_again(self):
        n1, n2, n3 = self.nodes
        names = ("a1", "a2", "a3")
        for name in names:
            self.run_vm(name, "--preferred", "n2")
        self.run_vm("stuck", "--possible", "n2")
        ids = {name: n1.vm(name)["id"] for name in names}

        # What would be done, on any node.
        plan = json.loads(n3.godwit("node", "drain", "n2", "--dry-run", "--json", check=False).stdout)
        rows = self.rows(plan)
        self.assertEqual((plan["total"], plan["blocked"]), (4, 1))
        self.assertEqual({rows[n]["state"] for n in names}, {"waiting"})
        self.assertIn("n1 is none of its possible owners", rows["stuck"]["text"])
        self.assertEqual(n3.godwit("node", "drain", "n2", "--dry-run", check=False).returncode, 3)
        self.assertEqual(self.where(*names, "stuck"), ["n2"] * 4)

        # One cannot go: the job says so at once, and goes on.
        job = n1.ask("node", "drain", "n2", "--no-wait")
        number = job["id"]
        self.assertIn("possible owners", self.rows(job["progress"])["stuck"]["text"])
        progress = self.wait(lambda: (p := self.job(n1, number)["progress"])["moved"] == 3 and p, "three have moved")
        self.assertEqual((progress["total"], progress["blocked"]), (4, 1))
        self.assertEqual(self.job(n1, number)["state"], "running")
        self.assertIn("possible owners", progress["detail"])
        self.assertEqual(self.shown(n3, "n2"), "draining 3/4")
        stood = {}
        for name in names:
            stood[name] = self.wait(lambda n=name: self.rows(self.job(n1, number)["progress"])[n].get("blackout_ns", 0), "blackout")
            self.grows(self.by_name(n1.vm(name)["node"]), ids[name])
        n1.godwit("job", "cancel", str(number))
        self.wait(lambda: self.job(n1, number)["state"] == "cancelled", "the job is cancelled")
        self.wait(lambda: self.shown(n1, "n2") == "member", "n2 takes VMs again")
        self.assertEqual(self.where("stuck"), ["n2"])

        # They come back, alive; how long they stood still for that is said, not what it was when they left.
        last = json.loads(n1.godwit("node", "resume", "n2", "--failback", "now", "--json").stdout.splitlines()[-1])
        self.assertEqual(self.where(*names), ["n2"] * 3)
        for name in names:
            self.assertNotEqual(self.rows(last["result"])[name].get("blackout_ns", 0), stood[name])
            self.grows(n2, ids[name])

        # What cannot go is left, or shut down.
        done = n3.godwit("node", "drain", "n2", "--fallback", "leave", check=False)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("blackout", done.stdout)
        self.assertEqual(self.where("stuck"), ["n2"])
        last = json.loads(n1.godwit("node", "drain", "n2", "--fallback", "shutdown", "--json").stdout.splitlines()[-1])
        self.assertEqual((last["state"], last["result"]["moved"], last["result"]["left"]), ("done", 4, 0))
        self.assertEqual(self.shown(n1, "n2"), "drained")
        self.assertEqual(n1.vm("stuck")["state"], "waiting")

        # n2 is down for a while and back. Those that prefer it come; the other one may start there only.
        n1.godwit("node", "resume", "n2", "--failback", "policy")
        self.assertEqual(self.where(*names), ["n2"] * 3)
        self.online("stuck", n1)
        self.assertEqual(self.where("stuck"), ["n2"])
        for name in names:
            self.grows(n2, ids[name])

    def test_a_drain_ends_while_vms_are_on_their_way(self):
        """Cancelled: they stay. Fault matrix 42."""
        n1, n2, _ = self.nodes
        n1.godwit("cluster", "set", "--blackout-limit", "1us")  # nothing fits: they go on copying until they give up
        vm = self.run_vm("web1", "--preferred", "n2")
        number = self.begin(n1, "n2")
        self.wait(lambda: self.rows(self.job(n1, number)["progress"])["web1"]["state"] == "moving", "it is on its way")
        n1.godwit("job", "cancel", str(number))
        began = time.monotonic()
        self.wait(lambda: self.job(n1, number)["state"] == "cancelled", "the job is cancelled")
        print(f"cancelled after {time.monotonic() - began:.2f} s", file=sys.stderr)
        self.assertEqual(self.online("web1", n1)["node"], "n2")
        self.assertEqual(n1.vm("web1")["ha"]["token"], vm["ha"]["token"])
        self.grows(n2, vm["id"])
        # Alive it does not go: the job says why. Then it is moved standing still.
        number = self.begin(n1, "n2")
        text = self.wait(lambda: self.rows(self.job(n1, number)["progress"])["web1"].get("text"), "the reason is known")
        self.assertTrue("converge" in text or "blackout limit" in text, text)
        n1.godwit("job", "cancel", str(number))
        self.wait(lambda: self.job(n1, number)["state"] == "cancelled", "the job is cancelled")
        self.wait(lambda: self.shown(n1, "n2") == "member", "n2 takes VMs again")
        last = json.loads(n1.godwit("node", "drain", "n2", "--fallback", "quick", "--json").stdout.splitlines()[-1])
        row = self.rows(last["result"])["web1"]
        self.assertEqual((row["state"], row["how"]), ("moved", "quick"), last)
        there = self.online("web1", n1, but=("n2",))
        self.assertEqual(there["ha"]["token"], vm["ha"]["token"] + 1)
        self.grows(self.by_name(there["node"]), vm["id"])

    def entries(self, node, *, since):
        """What was committed since then, as verbs and names of VMs, and where the job's beginning of the end and its end were."""
        words = r'committed what="(\S+)( \S+)?|(job is taken back|job ended)'
        found = re.findall(words, node.log()[since:])
        return [event or (verb, vm.strip() if verb.startswith("migrate") or verb == "switch" else "") for verb, vm, event in found]

    def test_a_cancelled_drain_begins_nothing_more(self):
        """Taken back with two VMs on their way and two that wait: the log has the end of the wish, and of each move, before the job ends."""
        n1, _, _ = self.nodes
        n1.godwit("cluster", "set", "--blackout-limit", "1us")  # none of them gets there by itself
        names = ("web1", "web2", "web3", "web4")
        vms = {name: self.run_vm(name, "--preferred", "n2") for name in names}
        since = len(n1.log())
        number = self.begin(n1, "n2")

        def states():
            return sorted(row["state"] for row in self.job(n1, number)["progress"]["vms"])
        self.wait(lambda: states() == ["moving", "moving", "waiting", "waiting"], "two are on their way, two wait")
        n1.godwit("job", "cancel", str(number))
        self.wait(lambda: self.job(n1, number)["state"] == "cancelled", "the job is cancelled")
        said = self.entries(n1, since=since)
        taken, over = said.index("job is taken back"), said.index("job ended")
        self.assertLess(taken, over)
        self.assertIn(("drain", ""), said[taken:over])
        for at, entry in enumerate(said[:over]):
            if entry[0] == "migrate":
                self.assertTrue({("migrate-cancel", entry[1]), ("switch", entry[1])} & set(said[at:over]), said)

        # A barrier: whatever was proposed before is in the log. Then nothing is on its way any more, nor begins.
        n1.godwit("vm", "set", "web1", "--priority", "high")
        for name in names:
            self.assertEqual(self.online(name, n1)["node"], "n2")
            self.assertEqual(n1.vm(name)["ha"]["token"], vms[name]["ha"]["token"])
            self.grows(self.by_name("n2"), vms[name]["id"])
        said = self.entries(n1, since=since)
        self.assertEqual(sum(e[0] == "migrate" for e in said), sum(e[0] == "migrate-cancel" for e in said), said)

    def test_what_was_taken_back_alone_is_taken_back_later(self):
        """Cancelled on a node that nobody hears any more: what it asked for is lost with its view, and said again in the next."""
        n1, n2, _ = self.nodes
        n1.godwit("cluster", "set", "--blackout-limit", "1us")
        vm = self.run_vm("web1", "--preferred", "n2", "--possible", "n2,n3")
        number = self.begin(n1, "n2")
        self.wait(lambda: self.rows(self.job(n1, number)["progress"])["web1"]["state"] == "moving", "it is on its way")
        self.net.node(1).cut()
        n1.godwit("job", "cancel", str(number))
        self.wait(lambda: n1.ask("cluster", "status")["state"] != "active", "n1 is alone")
        self.assertEqual(self.job(n1, number)["state"], "running")
        self.net.node(1).heal()
        self.wait(lambda: self.job(n1, number)["state"] == "cancelled", "the job is cancelled")
        self.wait(lambda: self.shown(n1, "n2") == "member", "n2 takes VMs again")
        self.assertEqual(self.online("web1", n1)["node"], "n2")
        self.grows(n2, vm["id"])

    def test_a_host_goes_down_and_comes_back(self):
        """What the unit does before the host goes down, and what its next start makes of it."""
        n1, n2, n3 = self.nodes
        vm = self.run_vm("web1", "--preferred", "n2")
        self.assertEqual(n2.godwit("node", "drain", check=False).returncode, 2)
        self.assertEqual(n2.godwit("node", "drain", "n2", "--self", check=False).returncode, 2)
        n2.godwit("node", "drain", "--self", "--shutdown", "--fallback", "shutdown", "--deadline", "2m")
        self.assertEqual(self.shown(n1, "n2"), "drained")
        there = self.online("web1", n1, but=("n2",))
        self.grows(self.by_name(there["node"]), vm["id"])
        self.net.node(2).kill()
        n2.process.wait(ha.WAIT_S)
        self.wait(lambda: not next(n for n in n1.ask("node", "list")["nodes"] if n["name"] == "n2")["up"], "n2 is down")
        self.assertEqual(n1.vm("web1")["ha"]["token"], there["ha"]["token"])

        # With one node down no other may follow.
        n3.active(2)
        refused = n3.godwit("node", "drain", "--self", "--shutdown", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("1 of 3 votes", refused.stderr)
        self.assertEqual(self.shown(n1, "n3"), "member")

        # Its services begin again, as another run, before the host goes down at last: it stays empty.
        before = self.run_of(n1, "n2")
        shutil.rmtree(n2.run_dir)
        n2.start()
        n2.active(3)
        self.wait(lambda: self.run_of(n1, "n2") > before, "another run of n2")
        self.wait(lambda: n2.ask("cluster", "status")["state"] == "active", "it takes part")
        n1.godwit("vm", "set", "web1", "--priority", "high")  # it has seen what came after its run began
        self.wait(lambda: n2.vm("web1")["ha"]["priority"] == "high", "n2 knows it")
        self.assertEqual(self.shown(n1, "n2"), "drained")
        self.assertNotIn("back after it was emptied", n2.log())
        self.net.node(2).kill()
        n2.process.wait(ha.WAIT_S)
        self.wait(lambda: not next(n for n in n1.ask("node", "list")["nodes"] if n["name"] == "n2")["up"], "n2 is down")

        # It is back, from another boot: it takes VMs again, and the one that prefers it.
        shutil.rmtree(n2.run_dir)  # as /run after a boot
        boot = self.state / "boot_id"
        boot.write_text("0b1f7a54-53a1-4d6e-9c7e-4f1f4f2d7f10\n", encoding="utf-8")
        n2.node.run("mount", "--bind", str(boot), "/proc/sys/kernel/random/boot_id")
        n2.start()
        n2.active(3)
        self.wait(lambda: self.shown(n1, "n2") == "member", "n2 takes VMs again")
        self.wait(lambda: (vm := n1.vm("web1"))["node"] == "n2" and vm["ha"]["state"] == "online", "web1 is back")
        self.grows(n2, vm["id"])
        self.assertEqual(n1.vm("web1")["ha"]["token"], there["ha"]["token"] + 1)

    def test_a_node_dies_while_it_is_emptied(self):
        """Fault matrix 41: its VMs go on elsewhere, as if nobody had emptied it; each of them once."""
        n1, n2, _ = self.nodes
        n1.godwit("cluster", "set", "--blackout-limit", "1us")
        names = ("web1", "web2", "web3")
        vms = {name: self.run_vm(name, "--preferred", "n2") for name in names}
        number = self.begin(n1, "n2")
        self.wait(lambda: "moving" in {row["state"] for row in self.job(n1, number)["progress"]["vms"]}, "they move")
        self.net.node(2).kill()
        for name in names:
            there = self.online(name, n1, but=("n2",))
            self.assertEqual(there["ha"]["token"], vms[name]["ha"]["token"] + 1)
            self.grows(self.by_name(there["node"]), vms[name]["id"])
        # Nobody has to end the drain of a node that is dead.
        self.wait(lambda: self.job(n1, number)["state"] == "done", "the job is over")
        self.assertEqual(n1.godwit("node", "resume", "n2", check=False).returncode, 0)
        n2.process.wait(ha.WAIT_S)


if __name__ == "__main__":
    gwnet.main("/dev/kvm")

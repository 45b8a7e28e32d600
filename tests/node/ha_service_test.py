#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""VMs that the cluster runs: three real node services with their corosyncs, workers that leave traces (ha_worker.py).

What is checked at the end of each test, from the traces: no two workers of a VM ever ran at the same time.
"""
import contextlib
import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import shutil

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import cluster_service_test as service  # noqa: E402
import gwnet  # noqa: E402
import move_test  # noqa: E402

WORKER = pathlib.Path(__file__).resolve().with_name("ha_worker.py")
WAIT_S = 120.0


class Node(service.Node):
    EXTRA = ("--watchdog", "assume", "--worker", WORKER)

    def ask_lines(self, *words):
        """Of commands that print one object after the other."""
        text, found, at = self.godwit(*words, "--json").stdout, [], 0
        while text[at:].strip():
            at += len(text[at:]) - len(text[at:].lstrip())
            one, at = json.JSONDecoder().raw_decode(text, at)
            found.append(one)
        return found

    def vm(self, name):
        """Its row as this node shows it, or None."""
        for vm in self.ask("vm", "list")["vms"]:
            if vm["name"] == name:
                return vm
        return None


class Case(service.Case):
    NODE = Node
    LINKS = 1

    def setUp(self):
        self.script = pathlib.Path(tempfile.mkdtemp(prefix="gwha"))
        self.addCleanup(shutil.rmtree, self.script, ignore_errors=True)
        os.environ["GODWIT_SCRIPT"] = str(self.script)
        super().setUp()
        self.form()
        self.wait(lambda: [n.get("ha", {}).get("state") for n in self.nodes[0].ask("node", "list")["nodes"]] == ["up"] * len(self.nodes),
                  "every node runs VMs")

    def wait(self, condition, what):
        try:
            return gwnet.wait_for(condition, WAIT_S, what)
        except gwnet.Timeout as e:
            logs = "\n".join(f"--- {n.name}\n{n.log()[-6000:]}" for n in self.nodes)
            raise gwnet.Timeout(f"{e}\n{logs}") from None

    def define(self, name, *words, node=0):
        self.nodes[node].godwit("vm", "create", name, "--ha", "--memory", "64M", "--cpus", "1", "--kernel", WORKER,
                                *words)

    def online(self, name, asked, but=()):
        """Waits until it runs on a node that is not one of @but, as @asked sees it; its row."""
        def good():
            vm = asked.vm(name)
            return vm is not None and vm["ha"]["state"] == "online" and vm["node"] not in but and vm
        return self.wait(good, f"{name} is online")

    def until(self, name, asked, state):
        return self.wait(lambda: asked.vm(name)["ha"]["state"] == state, f"{name} is {state}")

    def marks(self, name):
        """[(time, node, pid)] in order of time."""
        path = self.script / f"{name}.marks"
        lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
        return sorted((int(t), node, int(pid)) for t, node, pid in (one.split() for one in lines if one.count(" ") == 2))

    def runs(self, name):
        """[(first, last, node, pid)] of its workers in order; two that overlap are the fault of all faults."""
        found = {}
        for t, node, pid in self.marks(name):
            first = found.get((node, pid), (t, t))[0]
            found[(node, pid)] = (first, t)
        runs = sorted((first, last, node, pid) for (node, pid), (first, last) in found.items())
        for a, b in zip(runs, runs[1:]):
            self.assertLess(a[1], b[0], f"{name} ran twice: {a} and {b}")
        return runs

    def worker(self, name):
        return self.runs(name)[-1][3]

    def by_name(self, name):
        return next(n for n in self.nodes if n.name == name)

    def pid_on(self, node, name):
        """The worker as seen from here."""
        vm = node.ask("vm", "show", name)
        path = node.run_dir / "vm" / vm["id"] / "worker.pid"
        return self.net.outer_pid(int(path.read_text().split()[0]))


class Life(Case):
    def test_the_cluster_runs_a_vm(self):
        n1, n2, n3 = self.nodes
        self.define("web1", "--priority", "high", "--preferred", "n2")
        for node in self.nodes:
            vm = self.wait(lambda n=node: n.vm("web1"), "all know it")
            self.assertEqual((vm["state"], vm["node"], vm["ha"]["want"]), ("off", "", "offline"))
        again = n2.godwit("vm", "create", "web1", "--ha", "--kernel", WORKER, check=False)
        self.assertIn("has a VM named web1", again.stderr)
        again = n3.godwit("vm", "create", "web1", "--kernel", WORKER, check=False)  # nor one of a node alone
        self.assertEqual((again.returncode, again.stderr), (1, "godwit: the cluster has a VM named web1\n"))
        self.assertIn("node list", n1.godwit("node", "evict", "n9", check=False).stderr)
        self.assertIn("no node n9", n1.godwit("vm", "create", "x", "--ha", "--possible", "n9", "--kernel", WORKER,
                                              check=False).stderr)
        # From any node, to where it is preferred; seen everywhere.
        n3.godwit("vm", "start", "web1")
        self.assertEqual(self.online("web1", n1)["node"], "n2")
        self.assertIn("n2", n1.godwit("vm", "list").stdout)
        self.assertEqual(n2.ask("vm", "show", "web1")["state"], "running")
        self.assertEqual(n1.godwit("vm", "log", "web1").returncode, 0)
        self.assertEqual(n1.godwit("vm", "remove", "web1", check=False).returncode, 1)

        # Its worker dies: again, in place.
        first = self.wait(lambda: self.runs("web1"), "it runs")[0][3]
        os.kill(self.pid_on(n2, "web1"), signal.SIGKILL)
        self.wait(lambda: self.worker("web1") != first, "another worker")
        self.assertEqual(self.online("web1", n3)["node"], "n2")

        # The service of its node is killed and comes back: nothing happens to it.
        before = self.online("web1", n1)["ha"]
        second = self.worker("web1")
        n2.stop(signal.SIGKILL)
        n2.start()
        n2.active(3)
        seen = len(self.marks("web1"))
        self.wait(lambda: len(self.marks("web1")) > seen + 100, "it goes on")
        after = self.online("web1", n1)["ha"]
        self.assertEqual((after["token"], after["run"]), (before["token"], before["run"]))
        self.assertEqual(self.worker("web1"), second)

        # One that cannot be started says why, on every node.
        (self.script / "bad1.start").write_text("fail", encoding="utf-8")
        self.define("bad1")
        start = subprocess.Popen([service.BIN / "godwit", "--host", f"unix://{n1.socket}", "vm", "start", "bad1"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait(lambda: "as the script says" in n3.vm("bad1")["error"], "the reason is known")
        (self.script / "bad1.start").unlink()
        self.assertEqual(start.wait(WAIT_S), 0)
        self.online("bad1", n2)
        n2.godwit("vm", "stop", "bad1")

        # A cord that could not be pulled: nobody who stops the VM later means that.
        (self.script / "web1.shutdown").write_text("hold", encoding="utf-8")
        for node in (n1, n3):
            node.stop(signal.SIGKILL)
        self.wait(lambda: n2.status()["state"] != "active", "no quorum")
        for _ in range(20):  # as many as are kept for better times
            n2.godwit("vm", "start", "web1", check=False)
        self.assertIn("no quorum", n2.godwit("vm", "stop", "web1", "--off", check=False).stderr)
        for node in (n1, n3):
            node.start()
        for node in self.nodes:
            node.active(3)
        self.online("web1", n3)
        self.assertEqual(self.worker("web1"), second)

        # The service ends while a guest does not do what it was asked: in good order, and the next one goes on.
        stop = subprocess.Popen([service.BIN / "godwit", "--host", f"unix://{n2.socket}", "vm", "stop", "web1"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait(lambda: "shutdown" in (self.script / "web1.log").read_text().split(), "the guest is asked")
        self.until("web1", n3, "stopping")
        seen = len(self.marks("web1"))
        self.wait(lambda: len(self.marks("web1")) > seen + 50, "it is left the time that it takes")
        process = n2.process
        n2.stop()
        self.assertEqual(process.returncode, 0, n2.log()[-4000:])
        stop.wait(WAIT_S)
        (self.script / "web1.shutdown").unlink()
        n2.start()
        n2.active(3)
        self.until("web1", n3, "offline")

        # The guest shuts itself down: it stays off. Then a person stops it, and removes it.
        n1.godwit("vm", "start", "web1")
        n1.godwit("vm", "stop", "web1")
        self.until("web1", n3, "offline")
        n2.godwit("vm", "remove", "web1")
        for node in self.nodes:
            self.wait(lambda n=node: n.vm("web1") is None, "it is gone")
        self.runs("web1")


class Failover(Case):
    def test_a_node_dies_and_its_vm_goes_on_elsewhere(self):
        n1 = self.nodes[0]
        self.define("web1", "--preferred", "n2,n3")
        n1.godwit("vm", "start", "web1")
        self.assertEqual(self.online("web1", n1)["node"], "n2")
        self.wait(lambda: self.runs("web1"), "it runs")
        self.nodes[1].signal(signal.SIGKILL)  # first: it must not see its worker die and say so
        self.net.node(2).kill()
        self.assertEqual(self.online("web1", n1, but=("n2",))["node"], "n3")
        self.wait(lambda: len(self.runs("web1")) == 2, "it runs elsewhere")
        # The node is back: it joins as another run of itself, and runs nothing.
        n2 = self.nodes[1]
        n2.process.wait(WAIT_S)
        n2.start()
        n2.active(3)
        self.wait(lambda: re.search(r"node joined node=2 run=2", n2.log()), "n2 joins again")
        self.assertEqual(self.online("web1", n2)["node"], "n3")
        self.assertEqual([r[2] for r in self.runs("web1")], ["n2", "n3"])

    def test_a_node_cut_off_ends_its_vm_first(self):
        n1 = self.nodes[0]
        self.define("web1", "--preferred", "n3,n1")
        n1.godwit("vm", "start", "web1")
        self.assertEqual(self.online("web1", n1)["node"], "n3")
        self.wait(lambda: self.runs("web1"), "it runs")
        pid = self.pid_on(self.nodes[2], "web1")
        self.net.split([1, 2], [3])
        self.assertEqual(self.online("web1", n1, but=("n3",))["node"], "n1")
        # It stood still at 0.6 of its lease and was dead at 0.8: long before the other began.
        runs = self.wait(lambda: len(found := self.runs("web1")) == 2 and found, "it runs elsewhere")
        self.assertEqual([r[2] for r in runs], ["n3", "n1"])
        self.assertGreater(runs[1][0] - runs[0][1], 10**9, runs)
        self.assertFalse(pathlib.Path(f"/proc/{pid}").exists())
        self.net.heal()
        n3 = self.nodes[2]
        n3.active(3)
        self.wait(lambda: re.search(r"node joined node=3 run=2", n3.log()), "n3 joins again")
        self.assertEqual(self.online("web1", n3)["node"], "n1")
        self.runs("web1")

    def test_the_guard_does_not_need_the_service(self):
        """The service hangs for good, its corosync too: the VM is ended all the same."""
        n1 = self.nodes[0]
        self.define("web1", "--preferred", "n3,n1")
        n1.godwit("vm", "start", "web1")
        self.assertEqual(self.online("web1", n1)["node"], "n3")
        self.wait(lambda: self.runs("web1"), "it runs")
        n3 = self.nodes[2]
        self.addCleanup(n3.signal, signal.SIGCONT)
        corosync = self.net.node(3).corosync()
        self.addCleanup(corosync.close)
        corosync.signal(signal.SIGSTOP)
        n3.signal(signal.SIGSTOP)
        self.assertEqual(self.online("web1", n1, but=("n3",))["node"], "n1")
        self.wait(lambda: [r[2] for r in self.runs("web1")] == ["n3", "n1"], "it runs elsewhere")
        # It wakes up with a VM that it believes to own, and finds that it does not.
        n3.signal(signal.SIGCONT)
        corosync.signal(signal.SIGCONT)
        n3.active(3)
        self.wait(lambda: re.search(r"node joined node=3 run=2", n3.log()), "n3 joins again")
        self.assertEqual(self.online("web1", n3)["node"], "n1")
        self.runs("web1")


class Alone(Case):
    """A cluster of one: what a service finds when it is started again, and what a copy is worth without the cluster."""
    COUNT = 1
    INFLIGHT_NS = 10**9

    def again(self, node, prepare=lambda: None):
        """Kills the service and starts another, after @prepare."""
        node.stop(signal.SIGKILL)
        prepare()
        node.start()

    def stored(self, node, sql, *values):
        """Changes what the service has written down."""
        with contextlib.closing(sqlite3.connect(node.state / "godwit.db")) as db, db:
            return db.execute(sql, values).fetchall()

    def goes_on(self, name):
        seen = len(self.marks(name))
        self.wait(lambda: len(self.marks(name)) > seen + 50, "it goes on")

    def test_what_runs_counts_whatever_is_known_of_it(self):
        n1, = self.nodes
        self.define("web1")
        n1.godwit("vm", "start", "web1")
        before = self.online("web1", n1)
        self.goes_on("web1")

        # Killed: what it had handed to its disks is waited for before it is started again.
        first = self.worker("web1")
        os.kill(self.pid_on(n1, "web1"), signal.SIGKILL)
        self.wait(lambda: self.worker("web1") != first, "another worker")
        runs = self.runs("web1")
        self.assertGreaterEqual(runs[1][0] - runs[0][1], self.INFLIGHT_NS, runs)
        before = self.online("web1", n1)
        pid = self.pid_on(n1, "web1")

        # A definition of a later version: its worker is left alone, and nobody is told that it ended.
        self.again(n1, lambda: self.stored(n1, "UPDATE object SET value = json_set(value, '$.later', 1)"
                                               " WHERE kind = 'vm'"))
        n1.active(1)
        self.goes_on("web1")
        self.assertIn("cannot read", n1.log())
        after = self.online("web1", n1)
        self.assertEqual((after["ha"]["token"], after["ha"]["run"]), (before["ha"]["token"], before["ha"]["run"]))
        self.assertEqual(len(self.runs("web1")), 2)
        # It cannot be asked to shut down.
        n1.godwit("vm", "stop", "web1")
        self.assertFalse(pathlib.Path(f"/proc/{pid}").exists())
        n1.godwit("vm", "start", "web1")
        self.wait(lambda: len(self.runs("web1")) == 3, "it runs again")

        # Without its database the node does not know whose the VM is: it may run anywhere.
        pid = self.pid_on(n1, "web1")
        def damage():
            os.kill(pid, signal.SIGKILL)
            for path in (n1.state / "cluster").glob("db.sqlite*"):
                path.write_bytes(b"not a database" * 1000)
        self.again(n1, damage)
        refused = n1.godwit("vm", "start", "web1", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("belongs to a cluster", refused.stderr)
        self.assertIn("vm remove", refused.stderr)
        for words in (("set", "web1", "--cpus", "1"), ("move", "web1", "--to", "n2", "--check")):
            self.assertIn("belongs to a cluster", n1.godwit("vm", *words, check=False).stderr)
        n1.godwit("vm", "remove", "web1")
        self.assertEqual(n1.ask("vm", "list")["vms"], [])
        self.assertEqual(self.stored(n1, "SELECT key FROM object WHERE kind = 'cluster'"), [])
        self.assertEqual(len(self.runs("web1")), 3)


class PlainNode(Node):
    EXTRA = ("--worker", WORKER)


class NoProof(Case):
    """Nodes without a watchdog: that one is silent proves nothing."""
    NODE = PlainNode

    def test_a_persons_word(self):
        n1, n2, n3 = self.nodes
        self.define("web1", "--preferred", "n2")
        n1.godwit("vm", "start", "web1")
        self.assertEqual(self.online("web1", n1)["node"], "n2")
        self.assertIn("drain", n1.godwit("node", "evict", "n2", check=False).stderr)
        self.assertIn("no VM waits", n1.godwit("node", "confirm", "n2", "--off", check=False).stderr)
        self.assertEqual(n1.godwit("node", "confirm", "n2", check=False).returncode, 2)
        # A worker that is killed before it has written anything would be none of its runs.
        self.wait(lambda: len(self.runs("web1")) == 1, "it runs")
        self.net.node(2).kill()
        self.until("web1", n1, "fencing")
        self.wait(lambda: n1.ask("node", "show", "n2")["ha"]["state"] == "fencing", "n2 is being fenced")
        said = n1.godwit("explain", "vm", "web1").stdout
        self.assertIn("godwit node confirm n2 --off", said)
        said = n1.godwit("explain", "node", "n2").stdout
        for words in ("is not here", "it is fencing, in its run 1", "Its silence proves nothing", "It has web1"):
            self.assertIn(words, said)
        # A person's word is said on a node itself: not even another node of the cluster passes it on.
        remote = service.Client(n3, n3.state / "cert", "10.77.0.1")
        self.addCleanup(remote.end)
        self.assertEqual(remote.get(), "200")
        self.assertEqual(remote.ask("POST", "/v1/nodes/n2/confirm-off"), "403")
        self.assertEqual(n1.ask("node", "show", "n2")["ha"]["state"], "fencing")
        n1.godwit("node", "confirm", "n2", "--off")
        self.assertRegex(n1.log(), r"somebody says that it is off node=n2 uid=0")
        self.assertNotEqual(self.online("web1", n1, but=("n2",))["node"], "n2")
        self.wait(lambda: len(self.runs("web1")) == 2, "it runs elsewhere")
        n2.process.wait(WAIT_S)
        n2.start()
        n2.active(3)
        self.wait(lambda: re.search(r"node joined node=2 run=2", n2.log()), "n2 joins again")
        self.assertEqual(len(self.runs("web1")), 2)


class RealNode(Node):
    EXTRA = ("--watchdog", "assume", "--worker", WORKER.with_name("bare_worker.py"))

    def console(self, vm_id):
        path = self.state / "vm" / vm_id / "console.log"
        return path.read_bytes() if path.exists() else b""


class Moves(Case):
    """Real workers and a guest that counts on its console: what it says must go on without a gap."""
    NODE = RealNode

    def run_counter(self, name, *words):
        kernel = self.state / "kernel"
        if not kernel.exists():
            fd = move_test.kernel()
            kernel.write_bytes(os.pread(fd, os.fstat(fd).st_size, 0))
            os.close(fd)
        n1 = self.nodes[0]
        n1.godwit("vm", "create", name, "--ha", "--memory", "64M", "--cpus", "1", "--kernel", kernel, *words)
        n1.godwit("vm", "start", name)
        vm = self.online(name, n1)
        self.grows(self.by_name(vm["node"]), vm["id"])
        return vm

    def grows(self, node, vm_id):
        before = len(node.console(vm_id))
        self.wait(lambda: len(node.console(vm_id)) > before + 2, "the guest goes on")

    def only_on(self, node, name):
        """No other node has a worker of it."""
        for other in self.nodes:
            worker = self.net.node(other.number).find("godwit-vm")
            self.assertEqual(worker is not None, other is node, f"{name} on {other.name}")
            if worker is not None:
                worker.close()

    def test_a_vm_moves_alive_and_nodes_are_emptied(self):
        n1, n2, n3 = self.nodes
        vm = self.run_counter("web1", "--preferred", "n2")
        self.assertEqual(vm["node"], "n2")
        token = vm["ha"]["token"]
        keep = os.open(n2.state / "vm" / vm["id"] / "console.log", os.O_RDONLY)
        self.addCleanup(os.close, keep)  # what is forgotten is removed
        self.assertIn("no node n9", n1.godwit("vm", "move", "web1", "--to", "n9", check=False).stderr)
        self.assertIn("no node n9", n2.godwit("vm", "move", "web1", "--to", "n9", check=False).stderr)
        n2.godwit("vm", "move", "web1", "--to", "n3", "--max-blackout", "20s")
        moved = self.online("web1", n1, but=("n2",))
        self.assertEqual((moved["node"], moved["ha"]["token"]), ("n3", token + 1))
        self.grows(n3, vm["id"])
        said = os.pread(keep, 1 << 24, 0) + n3.console(vm["id"])
        for i, byte in enumerate(said):
            self.assertEqual(chr(byte), chr(((i + 1) & 63) + 48), f"at {i} of {said[max(0, i - 40):i + 40]}")
        self.wait(lambda: self.net.node(2).find("godwit-vm") is None, "its worker is gone from n2")
        self.only_on(n3, "web1")

        # Its node is emptied; nothing comes to it until it takes VMs again.
        n1.godwit("node", "drain", "n3")
        there = self.online("web1", n1, but=("n3",))
        self.grows(self.by_name(there["node"]), vm["id"])
        self.assertEqual(there["ha"]["token"], token + 2)
        self.assertIn("drained", n1.godwit("node", "list").stdout)
        self.assertNotEqual(there["node"], "n3")
        n1.godwit("node", "resume", "n3")
        self.wait(lambda: "drained" not in n1.godwit("node", "list").stdout, "n3 takes VMs again")
        self.by_name(there["node"]).godwit("vm", "move", "web1", "--to", "n3", "--max-blackout", "20s")
        self.assertEqual(self.online("web1", n1, but=(there["node"],))["node"], "n3")
        self.grows(n3, vm["id"])


class MovesHard(Moves):
    """Something dies on the way. The VM is never lost and never twice."""
    test_a_vm_moves_alive_and_nodes_are_emptied = None

    def begin(self, name, there, *words):
        """A move from n2 that takes its time; returns the command when memory comes in at @there."""
        move = subprocess.Popen([service.BIN / "godwit", "--host", f"unix://{self.nodes[1].socket}", "vm", "move", name,
                                 "--to", there.name, "--max-blackout", "20s", *words], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)
        self.addCleanup(move.stderr.close)
        self.addCleanup(move.wait, WAIT_S)
        self.addCleanup(move.kill)
        self.wait(lambda: self.net.node(there.number).find("godwit-vm"), "it arrives")
        return move

    def counts_on(self, node, vm):
        self.grows(node, vm["id"])
        self.only_on(node, vm["name"])

    def test_its_end_dies(self):
        n1, n2, n3 = self.nodes
        vm = self.run_counter("web1", "--preferred", "n2")
        before = n2.console(vm["id"])
        move = self.begin("web1", n3, "--bandwidth", "1M")
        self.net.node(3).kill()
        self.assertEqual(move.wait(WAIT_S), 1)
        self.assertEqual(self.online("web1", n1)["node"], "n2")
        self.counts_on(n2, vm)
        self.assertEqual(n2.console(vm["id"])[:len(before)], before)
        self.assertEqual(self.online("web1", n1)["ha"]["token"], vm["ha"]["token"])

    def test_its_begin_dies(self):
        n1, _, n3 = self.nodes
        vm = self.run_counter("web1", "--preferred", "n2")
        self.begin("web1", n3, "--bandwidth", "1M")
        self.net.node(2).kill()
        again = self.online("web1", n1, but=("n2",))
        self.counts_on(self.by_name(again["node"]), vm)
        self.assertEqual(again["ha"]["token"], vm["ha"]["token"] + 1)

    def test_what_arrives_belongs_to_the_log_also_after_a_restart(self):
        """The destination's service is away while the log decides; the source has forgotten the VM when it is back."""
        n1, n2, n3 = self.nodes
        vm = self.run_counter("web1", "--preferred", "n2")
        keep = os.open(n2.state / "vm" / vm["id"] / "console.log", os.O_RDONLY)
        self.addCleanup(os.close, keep)
        self.begin("web1", n3, "--bandwidth", "4M")  # over, and n3 back, before it counts as lost
        self.wait(lambda: re.search("(copy|stop), round", str(n2.ask("job", "list"))), "it is being copied")
        n3.stop(signal.SIGKILL)
        self.wait(lambda: n1.vm("web1")["node"] == "n3", "the log has given it away")
        self.wait(lambda: not any("definition" in n2.ask("vm", "show", v["name"]) and v["state"] == "moved"
                                  for v in n2.ask("vm", "list")["vms"]), "the source has forgotten it")
        n3.start()
        n3.active(3)
        self.assertEqual(self.online("web1", n1)["node"], "n3")
        self.counts_on(n3, vm)
        said = os.pread(keep, 1 << 24, 0) + n3.console(vm["id"])
        self.assertEqual({(b - a) & 63 for a, b in zip(said, said[1:])}, {1}, said)

    def test_the_word_of_the_log_is_enough(self):
        """The source's worker never hears that it is to let go, and its service dies: the destination runs it."""
        n1, n2, n3 = self.nodes
        vm = self.run_counter("web1", "--preferred", "n2")
        (self.script / "hold").write_text("move-commit", encoding="utf-8")
        self.begin("web1", n3)
        self.assertEqual(self.online("web1", n1, but=("n2",))["node"], "n3")
        self.grows(n3, vm["id"])
        n2.stop(signal.SIGKILL)
        (self.script / "hold").unlink()
        n2.start()
        n2.active(3)
        self.wait(lambda: self.net.node(2).find("godwit-vm") is None, "nothing of it is left on n2")
        self.assertEqual(self.online("web1", n2)["node"], "n3")
        self.counts_on(n3, vm)


if __name__ == "__main__":
    gwnet.main("/dev/kvm")

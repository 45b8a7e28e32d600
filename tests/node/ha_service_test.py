#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""VMs that the cluster runs: three real node services with their corosyncs, workers that leave traces (ha_worker.py).

What is checked at the end of each test, from the traces: no two workers of a VM ever ran at the same time.
"""
import os
import pathlib
import re
import signal
import sys
import tempfile
import shutil
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import cluster_service_test as service  # noqa: E402
import gwnet  # noqa: E402

WORKER = pathlib.Path(__file__).resolve().with_name("ha_worker.py")
WAIT_S = 120.0
SKIP = 77


class Node(service.Node):
    EXTRA = ("--watchdog", "assume", "--worker", WORKER)

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
        self.assertIn("no node n9", n1.godwit("vm", "create", "x", "--ha", "--possible", "n9", "--kernel", WORKER,
                                              check=False).stderr)
        # From any node, to where it is preferred; seen everywhere.
        n3.godwit("vm", "start", "web1")
        self.assertEqual(self.online("web1", n1)["node"], "n2")
        self.assertIn("n2", n1.godwit("vm", "list").stdout)
        self.assertEqual(n2.ask("vm", "show", "web1")["state"], "running")
        self.assertIn("runs on n2", n1.godwit("vm", "log", "web1", check=False).stderr)
        self.assertIn("highly available", n2.godwit("vm", "move", "web1", "--to", "n1", check=False).stderr)
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
        pid = self.pid_on(self.nodes[2], "web1")
        self.net.split([1, 2], [3])
        self.assertEqual(self.online("web1", n1, but=("n3",))["node"], "n1")
        # It stood still at 0.6 of its lease and was dead at 0.8: long before the other began.
        runs = self.runs("web1")
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
        self.assertEqual([r[2] for r in self.runs("web1")], ["n3", "n1"])
        # It wakes up with a VM that it believes to own, and finds that it does not.
        n3.signal(signal.SIGCONT)
        corosync.signal(signal.SIGCONT)
        n3.active(3)
        self.wait(lambda: re.search(r"node joined node=3 run=2", n3.log()), "n3 joins again")
        self.assertEqual(self.online("web1", n3)["node"], "n1")
        self.runs("web1")


if __name__ == "__main__":
    reason = gwnet.why_not()
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        reason = reason or f"/dev/kvm: {error}"
    if reason:
        print(f"skipped: {reason}")
        sys.exit(SKIP)
    unittest.main(verbosity=2)

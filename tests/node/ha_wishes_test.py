#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What people wish for VMs of the cluster: which start before others, and what a failover may cost."""
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwnet  # noqa: E402
import ha_service_test as ha  # noqa: E402


class Wishes(ha.Case):
    def refused(self, word, *words):
        done = self.nodes[0].godwit(*words, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(word, done.stderr)

    def ha_of(self, node, name):
        return node.ask("vm", "show", name)["ha"]

    def test_who_starts_first_and_who_waits(self):
        n1, n2, n3 = self.nodes
        self.define("db1", "--preferred", "n3", "--objective", "restart-within=1h")
        self.define("web1", "--preferred", "n3", "--start-after", "db1", "--priority", "high")
        self.define("quiet", "--preferred", "n2", "--objective", "prefer-waiting=10m")
        self.refused("no VM named nobody", "vm", "set", "web1", "--start-after", "nobody")
        self.refused("circle", "vm", "set", "db1", "--start-after", "web1")
        self.refused("circle", "vm", "set", "db1", "--start-after", "db1")
        self.refused("no objective", "vm", "set", "db1", "--objective", "soon")
        self.assertEqual(self.ha_of(n2, "web1")["start_after"], ["db1"])

        # Nobody waits for what is not to run.
        for name in ("web1", "db1", "quiet"):
            n1.godwit("vm", "start", name)
        for name in ("web1", "db1", "quiet"):
            self.wait(lambda name=name: self.marks(name), f"the worker of {name} has said so")
        self.assertRegex(self.ha_of(n1, "db1")["objective"], "^restart within 1h.*if n3 dies it takes up to")
        self.assertIn("waits up to 10m for a lost node", self.ha_of(n1, "quiet")["objective"])
        plan = {vm["vm"]: vm for vm in n1.ask("cluster", "simulate", "--dies", "n3")["vms"]}
        self.assertGreater(plan["web1"]["wave"], plan["db1"]["wave"])

        # n3 dies: db1 first, although web1 is more important. Meanwhile the timer runs.
        before = self.runs("web1")[-1][0]
        n3.stop(signal.SIGKILL)
        self.net.node(3).kill()
        self.wait(lambda: self.ha_of(n1, "db1").get("objective", "").find("are left") > 0, "the timer is shown")
        self.assertIn("its node is lost for", n1.godwit("explain", "vm", "db1").stdout)
        self.online("web1", n1, but=("n3",))
        self.wait(lambda: self.runs("web1")[-1][0] > before, "web1's worker has said so")
        self.assertLess(self.runs("db1")[-1][0], self.runs("web1")[-1][0])

        # n2 dies with the one that would rather wait: nothing is started, and it says for how long.
        n3.start()
        n1.active(3)
        n2.stop(signal.SIGKILL)
        self.net.node(2).kill()
        self.wait(lambda: self.ha_of(n1, "quiet")["state"] == "unmonitored", "it waits")
        self.assertRegex(self.ha_of(n1, "quiet")["objective"], "waits up to 10m for a lost node: [1-9]m .* are left")
        # A person need not wait as long as that: it starts elsewhere, n2 stays away.
        n1.godwit("vm", "start", "quiet", "--timeout", "3m")
        self.online("quiet", n1, but=("n2",))
        n1.godwit("vm", "set", "quiet", "--objective", "none")
        self.assertNotIn("objective", self.ha_of(n1, "quiet"))


if __name__ == "__main__":
    gwnet.main("/dev/kvm")

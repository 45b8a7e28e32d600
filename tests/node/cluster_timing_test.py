#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""corosync's token and the leases that go with it are changed in a cluster that runs VMs: longer, shorter, a node away."""
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwnet  # noqa: E402
import ha_service_test as ha  # noqa: E402


class Timing(ha.Case):
    DETECT = "2s"

    def runs_with(self, node):
        """The token of the corosync that runs there, whatever its file says."""
        text = node.node.run("corosync-cmapctl", "-g", "runtime.config.totem.token").stdout
        return int(text.split("=")[1])

    def told(self, asked):
        """By name: (corosync's token, length of the lease) as that node shows them, in ms."""
        return {n["name"]: (n.get("timing", {}).get("token_ms"), n.get("timing", {}).get("lease_ms"))
                for n in asked.ask("node", "list")["nodes"] if n["up"]}

    def all_have(self, nodes, token, lease):
        for node in nodes:
            self.wait(lambda n=node: set(self.told(n).values()) == {(token, lease)}, f"{node.name} shows {token}, {lease}")
            self.assertEqual(self.runs_with(node), token)

    def test_the_time_of_detection_changes_while_vms_run(self):
        n1, n2, n3 = self.nodes
        self.all_have(self.nodes, 2000, 10000)
        self.define("web1", "--preferred", "n2")
        n1.godwit("vm", "start", "web1")
        self.online("web1", n1)
        self.wait(lambda: self.marks("web1"), "its worker has said so")
        pid = self.worker("web1")
        corosyncs = [n.corosync() for n in self.nodes]

        refused = n1.godwit("cluster", "set", "--detect", "100ms", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("500", refused.stderr)

        # Longer: 5 s need a lease of 22 s.
        changed = n3.ask("cluster", "set", "--detect", "5s")
        self.assertEqual((changed["token_ms"], changed["lease_ms"]), (5000, 22000))
        self.assertNotIn("token_goal_ms", changed)
        self.all_have(self.nodes, 5000, 22000)

        # Shorter, while a node is away: the others do not wait for it.
        n3.stop(signal.SIGKILL)
        self.net.node(3).kill()
        self.wait(lambda: self.net.node(1).quorum().votes == 2, "a ring without n3")
        n1.active(2)
        changed = n1.ask("cluster", "set", "--detect", "1s")
        self.assertEqual((changed["token_ms"], changed["lease_ms"]), (1000, 10000))
        self.all_have([n1, n2], 1000, 10000)
        n3.start()
        n1.active(3)
        self.all_have(self.nodes, 1000, 10000)

        # Nobody was restarted.
        self.assertEqual(self.worker("web1"), pid)
        self.assertEqual([n.corosync() for n in (n1, n2)], corosyncs[:2])
        text = n2.godwit("cluster", "set").stdout
        self.assertRegex(text, r"Detect +1s\nLease +10s\n")


if __name__ == "__main__":
    gwnet.main("/dev/kvm")

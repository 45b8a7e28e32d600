#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""VMs of the cluster are looked at and changed from any node: the one that runs it is asked."""
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import cluster_service_test as service  # noqa: E402
import csvd_test as csvd  # noqa: E402
import gwnet  # noqa: E402
import ha_drain_test as drain  # noqa: E402
import ha_service_test as ha  # noqa: E402


class Forward(drain.Case):
    def test_any_node_can_be_asked(self):
        n1, n2, n3 = self.nodes
        vm = self.run_vm("web1", "--preferred", "n2")
        self.assertEqual(vm["node"], "n2")
        here = n2.ask("vm", "show", "web1")

        # What its owner knows.
        there = n3.ask("vm", "show", "web1")
        self.assertEqual((there["state"], there["id"], there["definition"]), ("running", here["id"], here["definition"]))
        self.assertIn("uptime_ns" if "uptime_ns" in here else "cpus", there)
        self.wait(lambda: len(n2.console(vm["id"])) >= 20, "it has said something")
        self.assertEqual(n1.godwit("vm", "log", "web1").stdout[:20].encode(), n2.console(vm["id"])[:20])
        with subprocess.Popen([service.BIN / "godwit", "--host", f"unix://{n3.socket}", "vm", "console", "web1"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as console:
            self.assertEqual(len(console.stdout.read(20)), 20)
            console.kill()

        # It stands still, and goes on.
        n3.godwit("vm", "pause", "web1")
        self.wait(lambda: n1.ask("vm", "show", "web1")["state"] == "paused", "it stands still")
        for node in (n1, n2, n3):  # and all list it so
            self.wait(lambda n=node: n.vm("web1")["state"] == "paused", f"{node.name} knows it")
        before = len(n2.console(vm["id"]))
        self.assertEqual(len(n2.console(vm["id"])), before)
        n1.godwit("vm", "resume", "web1")
        self.grows(n2, vm["id"])
        for node in (n1, n3):
            self.wait(lambda n=node: n.vm("web1")["state"] == "running", f"{node.name} knows it")

        # Changes: what the cluster does with it at any time, the rest while it is off.
        n3.godwit("vm", "set", "web1", "--priority", "high", "--blackout-limit", "20s", "--preferred", "n3")
        self.wait(lambda: n1.vm("web1")["ha"]["priority"] == "high", "all know it")
        refused = n3.godwit("vm", "set", "web1", "--memory", "128M", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("vm stop web1", refused.stderr)
        self.assertIn("no node n9", n1.godwit("vm", "set", "web1", "--possible", "n9", check=False).stderr)
        saved = n1.godwit("vm", "save", "web1", check=False)
        self.assertIn("cannot be saved", saved.stderr)

        # Moved by a node that is neither end.
        self.assertIn("no node n9", n1.godwit("vm", "move", "web1", "--to", "n9", check=False).stderr)
        moved = n1.godwit("vm", "move", "web1", "--to", "n3")
        self.assertIn("blackout", moved.stderr)
        there = self.online("web1", n1, but=("n2",))
        self.assertEqual((there["node"], there["ha"]["token"]), ("n3", vm["ha"]["token"] + 1))
        self.grows(n3, vm["id"])
        job = n1.ask("job", "list")["jobs"][-1]
        self.assertEqual((job["kind"], job["object"], job["state"]), ("move", "vm/web1", "done"))
        self.assertGreater(job["result"]["blackout_ns"], 0)

        # Its power cord, from anywhere.
        n1.godwit("vm", "stop", "--off", "web1")
        self.until("web1", n2, "offline")
        n2.godwit("vm", "set", "web1", "--memory", "128M")
        self.wait(lambda: n1.vm("web1")["memory_bytes"] == 128 << 20, "all know it")
        self.assertIn("offline", n1.godwit("vm", "pause", "web1", check=False).stderr)
        n1.godwit("vm", "start", "web1")
        self.assertEqual(self.online("web1", n2)["node"], "n3")
        self.assertEqual(n1.ask("vm", "show", "web1")["definition"]["memory_bytes"], 128 << 20)

        # Who is asked leaves the cluster while the owner does not answer: whoever waits is told at once.
        n3.node.run("nft", "add table inet gw; add chain inet gw in { type filter hook input priority 0; }; "
                    "add rule inet gw in tcp dport 7443 drop")
        asked = csvd.UnixConnection(n1.socket)
        asked.request("POST", "/v1/vms/web1/restart")
        n1.ask("vm", "list")  # one loop: that request has been looked at
        n2.godwit("node", "evict", "n1")
        asked.sock.settimeout(60)
        answer = asked.getresponse().read()
        asked.close()
        self.assertIn(b"the node service is stopping", answer)

        # Its node does not answer: what the others know, and why not more.
        self.net.node(3).kill()
        self.assertEqual(n2.ask("vm", "show", "web1")["name"], "web1")


if __name__ == "__main__":
    gwnet.main("/dev/kvm")

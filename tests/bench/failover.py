#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A highly available VM with an unmodified Debian kernel: the power cord of its node is pulled, it boots on another."""
import datetime
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))
import gwlab_client  # noqa: E402
import vm_test  # noqa: E402
from gwlab_client import wait_for  # noqa: E402

NODES = ("n1", "n2", "n3")
DISK = "/dev/disk/by-lun/lun0"
WAIT_S = 240


class Failover(gwlab_client.LabCase):
    """Three nodes. They are virtual machines, so that a watchdog proves nothing of them: --watchdog assume."""

    options = ("--nodes", "3", "--memory", "1536M", "--cpus", "1", "--lun", "64M")
    nodes = NODES
    detect = "3s"

    @classmethod
    def start(cls, node):
        cls.lab.sh(node, "mkdir -p /run/godwit /var/lib/godwit; setsid godwitd --foreground --watchdog assume "
                         ">>/root/godwitd.log 2>&1 </dev/null &")
        wait_for(f"godwitd answers on {node}", lambda: cls.lab.exec(node, "godwit vm list").returncode == 0, WAIT_S)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = vm_test.guest_files()
        for node in cls.nodes:
            cls.start(node)
        words = " ".join(f"--node {n}=10.77.1.{i},10.77.2.{i}" for i, n in enumerate(cls.nodes, 1))
        made = json.loads(cls.lab.sh("n1", f"godwit cluster create lab {words} --detect {cls.detect} --json", timeout=WAIT_S))
        for one in made["invited"]:
            cls.lab.sh(one["name"], f"godwit node add {one['name']} --addr {','.join(one['addrs'])} "
                                    f"--token {one['token']}", timeout=WAIT_S)
        wait_for("all nodes take VMs", lambda: cls.runs() == {n: ("up", 1) for n in cls.nodes}, WAIT_S)

    @classmethod
    def runs(cls):
        """{node: (state, run)} in the table of those who run VMs."""
        nodes = json.loads(cls.lab.sh("n1", "godwit node list --json"))["nodes"]
        return {n["name"]: (n["ha"]["state"], n["ha"]["run"]) for n in nodes if "ha" in n}

    def vm(self):
        return next(vm for vm in json.loads(self.lab.sh("n1", "godwit vm list --json"))["vms"] if vm["name"] == "web")

    def online(self, but=""):
        def good():
            vm = self.vm()
            return vm["ha"]["state"] == "online" and vm["node"] != but and vm
        return wait_for("web is online", good, WAIT_S)

    def ready(self, node):
        wait_for(f"web is ready on {node}", lambda: "gwguest: ready" in self.lab.sh(node, "godwit vm log web"), WAIT_S)

    def committed(self, node, words):
        """When that entry was applied there last [s]."""
        found = re.findall(rf"^(\S+) .*committed what=\"{words}", self.lab.sh(node, "cat /root/godwitd.log"), re.M)
        return datetime.datetime.fromisoformat(found[-1].replace("Z", "+00:00")).timestamp() if found else None

    def test_its_node_loses_power(self):
        self.lab.sh("n1", f"godwit vm create web --ha --preferred n2 --memory 256M --cpus 1 --disk {DISK} "
                          f"--kernel {self.files['bzimage']} --initrd {self.files['initrd']} "
                          "--append 'console=ttyS0 quiet mitigations=off panic=1'")
        self.lab.sh("n3", "godwit vm start web", timeout=WAIT_S)
        self.assertEqual(self.online()["node"], "n2")
        self.ready("n2")
        token = self.vm()["ha"]["token"]

        began = float(self.lab.sh("n1", "date +%s.%N"))
        gwlab_client.run_lab("kill", "--name", self.lab.name, "n2")
        after = self.online(but="n2")
        self.assertEqual(after["ha"]["token"], token + 1)
        self.ready(after["node"])
        done = float(self.lab.sh("n1", "date +%s.%N"))
        at = [began] + [self.committed("n1", words) for words in ("lost  n2", "fenced  n2", "start web", "started web")]
        names = ("detect", "fence (lease)", "token and place", "start")
        for name, a, b in zip(names, at, at[1:]):
            print(f"{name}: {b - a:.2f} s" if a and b else f"{name}: ?", file=sys.stderr)
        print(f"power cord to the guest's agent: {done - began:.1f} s", file=sys.stderr)

        # The node comes back as another run of itself, and runs nothing.
        gwlab_client.run_lab("start", "--name", self.lab.name, "n2")
        wait_for("n2 is back", lambda: self.lab.exec("n2", "true").returncode == 0, WAIT_S)
        self.start("n2")
        wait_for("n2 takes part again", lambda: self.runs()["n2"] == ("up", 2), WAIT_S)
        self.assertEqual(self.vm()["node"], after["node"])
        self.assertEqual(self.lab.exec("n2", "pgrep -x godwit-vm").returncode, 1)
        self.lab.sh(after["node"], "godwit vm stop --off web", timeout=WAIT_S)
        self.lab.sh("n1", "godwit vm remove web", timeout=WAIT_S)


if __name__ == "__main__":
    gwlab_client.main()

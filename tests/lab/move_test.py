#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`godwit vm move` between two nodes with an unmodified Debian kernel: memory, disk and console go on."""
import json
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gwlab_client  # noqa: E402
import vm_test  # noqa: E402
from gwlab_client import wait_for  # noqa: E402

DISK = "/dev/disk/by-lun/lun0"


class Move(vm_test.Node):
    """Two nodes that trust each other and see the same disk; a VM that is moved about."""

    options = ("--nodes", "2", "--memory", "1536M", "--cpus", "1", "--lun", "64M")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start("n2")
        cls.lab.sh("n1", "godwit cert init n1")
        bundle = cls.lab.sh("n1", "godwit cert issue n2")
        cls.lab.exec("n2", "cat >/root/n2.cert && godwit cert install /root/n2.cert", stdin=bundle.encode(), check=True)

    @classmethod
    def start(cls, node):
        cls.lab.sh(node, "mkdir -p /run/godwit /var/lib/godwit; "
                         "setsid godwitd --foreground >>/root/godwitd.log 2>&1 </dev/null &")
        wait_for(f"godwitd answers on {node}", lambda: cls.lab.exec(node, "godwit vm list").returncode == 0)

    def vms(self, node):
        """{name: state} there."""
        return {vm["name"]: vm["state"] for vm in json.loads(self.lab.sh(node, "godwit vm list --json"))["vms"]}

    def boot(self, name):
        self.define(name, 1, options=f"--disk {DISK}")
        self.addCleanup(lambda: self.lab.exec("n2", f"godwit vm stop --off {name}; godwit vm remove {name}"))
        self.godwit(f"vm start {name}")
        self.wait_ready(name)

    def move(self, name, here, there, options="--max-blackout 5s"):
        answer = self.lab.sh(here, f"godwit vm move {name} --to {there} --json {options}", timeout=180)
        job = json.loads(answer.splitlines()[-1])
        self.assertEqual(job["state"], "done", answer)
        print(f"{name} {here}->{there}: blackout {job['result']['blackout_ns'] / 1e6:.0f} ms, "
              f"{job['result']['rounds']} rounds, {job['result']['total_ns'] / 1e9:.1f} s", file=sys.stderr)
        self.assertNotIn(name, self.vms(here))
        self.assertEqual(self.vms(there)[name], "running")
        return job

    def test_a_guest_under_load_moves_back_and_forth(self):
        self.boot("web")
        with self.console("web") as process:
            guest = vm_test.Console(self, process)
            self.assertRegex(guest.ask("mem start size=32M rate=4M seed=9"), "^ok ")
            self.assertRegex(guest.ask("disk load dev=sda size=16M rate=50 seed=9"), "^ok ")
        for here, there in (("n1", "n2"), ("n2", "n1"), ("n1", "n2")):
            self.move("web", here, there)
        with self.lab.spawn("n2", "exec godwit vm console web", stdin=-1) as process:
            guest = vm_test.Console(self, process)
            self.assertRegex(guest.ask("mem check"), "^ok .*bad=0")
            self.assertRegex(guest.ask("disk check"), "^ok ")
            self.assertNotRegex(guest.ask("sh dmesg", raw=True), "Call Trace|hung task|I/O error")

    def test_what_cannot_be_moved_stays(self):
        self.boot("web")
        for words, why in (("--to n1", "is on n1 already"), ("--to n9", "n9"), ("--to n2 --addr 192.0.2.1", "192.0.2.1")):
            done = self.lab.exec("n1", f"godwit vm move web {words}", timeout=120)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(why, done.stderr.decode())
            self.assertEqual(self.vms("n1")["web"], "running")
        self.assertNotIn("web", self.vms("n2"))

    def test_whatever_dies_one_node_has_the_vm(self):
        for victim, node in (("godwitd", "n1"), ("godwitd", "n2"), ("godwit-vm", "n2"), ("godwit-vm", "n1")):
            with self.subTest(victim=victim, node=node):
                self.boot("web")
                self.godwit("vm move web --to n2 --no-wait --bandwidth 4M")
                wait_for("it is being copied", lambda: self.vms("n2").get("web") == "arriving", 60)
                time.sleep(0.5)  # in the middle of the copy, wherever that is
                self.lab.sh(node, f"pkill -9 -x {victim}")
                if victim == "godwitd":
                    self.start(node)
                wait_for("one node has it", lambda: self.one_owner("web"), 120, 1)
                self.remove("web")

    def one_owner(self, name):
        states = [vms[name] for vms in (self.vms("n1"), self.vms("n2")) if name in vms]
        return len(states) == 1 and re.match("running|crashed|starting", states[0])


if __name__ == "__main__":
    gwlab_client.main()

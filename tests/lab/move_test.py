#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`godwit vm move` between two nodes with an unmodified Debian kernel: memory, disk and console go on."""
import contextlib
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gwlab_client  # noqa: E402
import vm_test  # noqa: E402
from gwlab_client import wait_for  # noqa: E402

DISK = "/dev/disk/by-lun/lun0"
ADDRESS = "10.77.3.50"


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
        for node in ("n1", "n2"):
            cls.lab.sh(node, "godwit switch create lan --type external --uplink guest --share")

    @classmethod
    def start(cls, node):
        cls.lab.sh(node, "mkdir -p /run/godwit /var/lib/godwit; "
                         "setsid godwitd --foreground >>/root/godwitd.log 2>&1 </dev/null &")
        wait_for(f"godwitd answers on {node}", lambda: cls.lab.exec(node, "godwit vm list").returncode == 0)

    def vms(self, node):
        """{name: state} there."""
        return {vm["name"]: vm["state"] for vm in json.loads(self.lab.sh(node, "godwit vm list --json"))["vms"]}

    def outside(self, *words):
        """A command line on the machine, in the lab's networks."""
        return ["ip", "netns", "exec", f"gwlab-{self.lab.name}", *map(str, words)]

    def talk(self):
        """One connection to the guest's echo server, that only answers: nobody hears of it but by what arrives there."""
        result = self.lab.directory() / "talk"
        result.unlink(missing_ok=True)
        talker = subprocess.Popen(self.outside(gwlab_client.SOURCE / "deploy/talker.py", ADDRESS, 7, result))

        def end():
            talker.kill()
            talker.wait()
        self.addCleanup(end)
        wait_for("they talk", result.exists)
        return talker, result

    def boot(self, name):
        self.define(name, 1, f"gw.ip={ADDRESS}/24", f"--disk {DISK} --nic switch=lan")
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
        talker, result = self.talk()
        for here, there in (("n1", "n2"), ("n2", "n1"), ("n1", "n2")):
            self.move("web", here, there)
            lines = json.loads(result.read_text())["lines"]
            wait_for("the connection goes on", lambda n=lines: json.loads(result.read_text())["lines"] > n + 10, 60)
        talker.terminate()
        self.assertEqual(talker.wait(60), 0)
        print(f"the connection: {result.read_text()}", file=sys.stderr)
        with self.lab.spawn("n2", "exec godwit vm console web", stdin=-1) as process:
            guest = vm_test.Console(self, process)
            self.assertRegex(guest.ask("mem check"), "^ok .*bad=0")
            self.assertRegex(guest.ask("disk check"), "^ok ")
            self.assertNotRegex(guest.ask("sh dmesg", raw=True), "Call Trace|hung task|I/O error")

    def test_four_at_once_both_ways(self):
        homes = {"a1": "n1", "a2": "n1", "b1": "n2", "b2": "n2"}
        for name, node in homes.items():
            self.lab.sh(node, f"godwit vm create {name} --memory 128M --cpus 1 --kernel {self.files['vmlinux']} --initrd "
                              f"{self.files['initrd']} --append 'console=ttyS0 quiet mitigations=off gw.run=mem,start,size=16M,rate=1M'"
                              f" && godwit vm start {name}")
            self.addCleanup(self.away, name)
        for name, node in homes.items():
            self.wait_said(node, name, "ok mem")
        other = {"n1": "n2", "n2": "n1"}
        with contextlib.ExitStack() as stack:
            moves = {name: stack.enter_context(self.lab.spawn(
                node, f"exec godwit vm move {name} --to {other[node]} --max-blackout 10s --json"))
                for name, node in homes.items()}
            for name, move in moves.items():
                said = move.communicate(timeout=240)[0].decode()
                self.assertEqual(move.returncode, 0, said)
                result = json.loads(said.splitlines()[-1])["result"]
                print(f"{name}: blackout {result['blackout_ns'] / 1e6:.0f} ms, {result['total_ns'] / 1e9:.1f} s", file=sys.stderr)
        for name, node in homes.items():
            self.assertEqual(self.vms(other[node])[name], "running")
            self.assertNotIn(name, self.vms(node))
            with self.lab.spawn(other[node], f"exec godwit vm console {name}", stdin=-1) as process:
                guest = vm_test.Console(self, process)
                self.assertRegex(guest.ask("mem check"), "^ok .*bad=0")

    def away(self, name):
        for node in ("n1", "n2"):
            self.lab.exec(node, f"godwit vm stop --off {name}; godwit vm remove {name}")

    def test_what_cannot_be_moved_stays(self):
        self.boot("web")
        for words, why in (("--to n1", "is on n1 already"), ("--to n9", "n9"), ("--to n2 --addr 192.0.2.1", "192.0.2.1")):
            done = self.lab.exec("n1", f"godwit vm move web {words}", timeout=120)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(why, done.stderr.decode())
            self.assertEqual(self.vms("n1")["web"], "running")
        self.assertNotIn("web", self.vms("n2"))


if __name__ == "__main__":
    gwlab_client.main()

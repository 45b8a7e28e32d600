#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A whole Debian in a VM, from its own disk: a dynamic VHDX made by `godwit disk convert`."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gwlab_client  # noqa: E402
import vm_test  # noqa: E402
from gwlab_client import wait_for  # noqa: E402

# How far the guest's clock is off [s]: a line there and the time back, bounded by when they left and came.
CLOCK = """
import subprocess, sys, time
guest = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
worst = 0
for _ in range(30):
    before = time.time()
    print(file=guest.stdin, flush=True)
    there = float(guest.stdout.readline())
    after = time.time()
    worst = max(worst, before - there, there - after)
print(worst)
"""
TELL_TIME = r"""perl -MTime::HiRes=time -e "\$|=1; printf(qq(%.6f\\n), time) while <>" """
FIO = ("fio --name=v --filename=/var/tmp/fio --rw=randrw --ioengine=libaio --iodepth=16 --direct=1 "
       "--verify=crc32c --verify_fatal=1 --output-format=json")
DEADLINE_S = 300  # for what takes half a minute on an idle machine


class Full(vm_test.Node):
    """One node, one guest for all: booting it takes longer than the rest."""

    options = ("--nodes", "1", "--memory", "3G", "--cpus", "1", "--lun", "3G")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.full = gwlab_client.debian(cls.lab)
        cls.lab.sh("n1", f"cp {cls.full['ssh_key']} /root/key; chmod 600 /root/key")
        cls.address = None

    def ssh(self, line):
        """The words of an ssh command on the node."""
        return (f"ssh -i /root/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
                f"-o ConnectTimeout=60 -o ServerAliveInterval=60 root@{self.address} '{line}'")

    def guest(self, line, timeout=DEADLINE_S):
        return self.lab.sh("n1", self.ssh(line), timeout=timeout)

    def boots(self):
        return self.log("full").count("Linux version")

    def wait_up(self, boots):
        """It has booted so many times, and sshd answers."""
        wait_for(f"boot {boots} begins", lambda: self.boots() >= boots, DEADLINE_S, 1)
        wait_for("the guest's heart beats", lambda: "ok" in self.godwit("vm list"), DEADLINE_S, 1)
        if self.address is None:
            mac = self.godwit_json("vm show full")["definition"]["nics"][0]["mac"]
            self.address = wait_for("the guest has an address", lambda: self.lab.sh(
                "n1", f"ip neigh | awk '/^10\\..*{mac}/ {{ print $1 }}'").strip(), DEADLINE_S, 1)
        wait_for("sshd answers", lambda: self.lab.exec("n1", self.ssh("true"), timeout=90).returncode == 0,
                 DEADLINE_S, 1)

    def clock_error_s(self):
        self.lab.exec("n1", "cat >/root/clock.py", stdin=CLOCK.encode(), check=True)
        return float(self.lab.sh("n1", f"python3 /root/clock.py {self.ssh(TELL_TIME)}", timeout=DEADLINE_S))

    def fio_is_clean(self, text):
        report = json.loads(text[text.index("{"):])
        for job in report["jobs"]:
            self.assertEqual(job["error"], 0, text)
            self.assertGreater(job["write"]["io_bytes"], 0)
            self.assertGreater(job["read"]["io_bytes"], 0)

    def test_a_whole_debian(self):
        self.godwit("disk convert /dev/disk/by-lun/lun0 /root/full.vhdx", timeout=DEADLINE_S)
        self.lab.sh("n1", "qemu-img check -f vhdx /root/full.vhdx", timeout=DEADLINE_S)
        self.godwit("switch create inet --type nat")
        self.godwit(f"vm create full --memory 768M --cpus 2 --kernel {self.full['bzimage']} --initrd "
                    f"{self.full['initrd']} --append 'console=ttyS0 root=LABEL=godwit-guest mitigations=off' "
                    "--disk /root/full.vhdx --nic switch=inet")
        self.addCleanup(self.remove, "full")
        self.godwit("vm start full")
        self.wait_up(1)
        self.assertEqual(self.guest("systemd-detect-virt || true").strip(), "microsoft")
        self.assertIn("sda", self.guest("findmnt -n -o SOURCE /"))
        self.fio_is_clean(self.guest(f"{FIO} --bs=4k --size=24M"))
        self.saved_under_load()
        self.restarts()
        self.ends_in_good_order()

    def saved_under_load(self):
        """Save and restore while fio and iperf3 run in both directions: both go on, and the clock is right."""
        self.guest("iperf3 -s -D")
        load = self.ssh(f"{FIO} --bsrange=4k-64k --size=48M --rate=1m,1m")
        wire = f"iperf3 -c {self.address} -n 40M --bidir -b 20M -J"
        with self.lab.spawn("n1", load) as fio, self.lab.spawn("n1", wire) as iperf:
            wait_for("fio runs", lambda: "yes" in self.guest("pgrep -x fio >/dev/null && echo yes || true"))
            self.godwit("vm save full", timeout=DEADLINE_S)
            self.assertEqual(self.state("full"), "saved")
            self.godwit("vm start full", timeout=DEADLINE_S)
            wait_for("the guest's clock is right", lambda: self.clock_error_s() <= 0.1, DEADLINE_S)
            fio_said = fio.communicate(timeout=DEADLINE_S)[0].decode()
            iperf_said = iperf.communicate(timeout=DEADLINE_S)[0].decode()
        self.assertEqual((fio.returncode, iperf.returncode), (0, 0), fio_said + iperf_said)
        self.fio_is_clean(fio_said)
        report = json.loads(iperf_said)
        self.assertNotIn("error", report)
        for way in ("sum_received", "sum_received_bidir_reverse"):
            self.assertGreater(report["end"][way]["bytes"], 1 << 20, way)
        self.assertNotRegex(self.guest("dmesg"), r"Call Trace|hung task|I/O error|EXT4-fs error")

    def restarts(self):
        """By the firmware, then by the kernel itself."""
        boots = self.boots()
        self.lab.exec("n1", self.ssh("systemctl reboot"))
        self.wait_up(boots + 1)
        self.assertIn("vm.reset", self.godwit("event list"))
        resets = self.godwit("event list").count("vm.reset")
        boots = self.boots()
        self.guest("kexec -l /boot/vmlinuz-* --initrd=$(ls /boot/initrd.img-*) --reuse-cmdline")
        self.lab.exec("n1", self.ssh("systemctl kexec"))
        self.wait_up(boots + 1)
        self.assertEqual(self.godwit("event list").count("vm.reset"), resets)
        self.assertEqual(self.guest("systemd-detect-virt || true").strip(), "microsoft")

    def ends_in_good_order(self):
        """The shutdown service; what is on the disk then."""
        self.guest("echo to be found again >/root/note; cp /bin/bash /root/copy")
        self.godwit("vm stop full", timeout=DEADLINE_S)
        self.assertEqual(self.state("full"), "off")
        self.assertEqual(self.godwit_json("disk check /root/full.vhdx")["verdict"], "ok")
        self.godwit("disk convert /root/full.vhdx /root/full.raw", timeout=DEADLINE_S)
        self.lab.sh("n1", "qemu-img check -f vhdx /root/full.vhdx && "
                          "qemu-img compare -f vhdx -F raw /root/full.vhdx /root/full.raw", timeout=DEADLINE_S)
        self.lab.sh("n1", "e2fsck -fn /root/full.raw", timeout=DEADLINE_S)
        self.assertIn("to be found again", self.lab.sh("n1", "debugfs -R 'cat /root/note' /root/full.raw"))


if __name__ == "__main__":
    gwlab_client.main()

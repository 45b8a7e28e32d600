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
LOGIN = "login: root (automatic login)"  # the last thing that its boot says


class Full(vm_test.Node):
    """One node, one guest for all: booting it takes longer than the rest."""

    options = ("--nodes", "1", "--memory", "3G", "--cpus", "1", "--lun", "3G")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.full = gwlab_client.debian(cls.lab)
        cls.lab.sh("n1", f"cp {cls.full['ssh_key']} /root/key; chmod 600 /root/key")
        cls.address = None

    def ssh(self, line, options=""):
        """The words of an ssh command on the node. One connection for all: an emulated processor takes seconds for the keys
        of each."""
        return (f"ssh -i /root/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
                f"-o ConnectTimeout=60 -o ServerAliveInterval=60 -o ControlPath=/root/ssh {options} "
                f"root@{self.address} '{line}'")

    def guest(self, line, timeout=DEADLINE_S):
        return self.lab.sh("n1", self.ssh(line), timeout=timeout)

    def wait_up(self, boots):
        """It has booted so many times, and sshd answers."""
        self.wait_said("n1", "full", LOGIN, boots, DEADLINE_S)
        wait_for("the guest's heart beats", lambda: "ok" in self.godwit("vm list"), DEADLINE_S, 1)
        if self.address is None:
            mac = self.godwit_json("vm show full")["definition"]["nics"][0]["mac"]
            self.address = wait_for("the guest has an address", lambda: self.lab.sh(
                "n1", f"ip neigh | awk '/^10\\..*{mac}/ {{ print $1 }}'").strip(), DEADLINE_S, 1)
        connect = f"{self.ssh('', '-o ControlMaster=yes -N -f')} >/dev/null 2>&1 </dev/null"
        wait_for("sshd answers", lambda: self.lab.exec("n1", connect, timeout=90).returncode == 0, DEADLINE_S, 1)

    def leaves(self, how):
        """The guest is told to end in this way; the connection ends with it."""
        self.lab.exec("n1", self.ssh(how), timeout=DEADLINE_S)
        self.lab.exec("n1", self.ssh("", "-O exit"), timeout=DEADLINE_S)

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
                    f"{self.full['initrd']} --append 'console=ttyS0 quiet root=LABEL=godwit-guest mitigations=off' "
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
        """By the kernel itself, into the small guest, which boots in a third of the time; by the firmware, back again."""
        for name in ("bzimage", "initrd_gz"):
            self.lab.sh("n1", f"{self.ssh(f'cat >/root/{name}')} <{self.files[name]}", timeout=DEADLINE_S)
        prefix = self.guest("ip -4 -o address show scope global").split()[3]
        self.guest("echo of the Debian >/root/left; kexec -l /root/bzimage --initrd=/root/initrd_gz "
                   f"--command-line=\"console=ttyS0 quiet mitigations=off gw.ip={prefix}\"")
        self.leaves("systemctl kexec")
        self.wait_said("n1", "full", "gwguest: ready", 1, DEADLINE_S)
        self.assertNotIn("vm.reset", self.godwit("event list"))
        with self.console("full") as process:
            guest = vm_test.Console(self, process)
            self.assertRegex(guest.ask("info"), r"hypervisor=MicrosoftHv .*cpus=2 ")
            self.assertIn("of the Debian", guest.ask("sh mount -r -t ext4 /dev/sda /mnt && cat /mnt/root/left", raw=True))
            self.assertNotRegex(guest.ask("sh umount /mnt; dmesg", raw=True), r"Call Trace|hung task|I/O error|EXT4-fs error")
            self.lab.sh("n1", f"ping -c 3 {self.address}")
            self.assertRegex(guest.ask("reboot"), "^ok ")
        self.wait_up(2)
        self.assertIn("vm.reset", self.godwit("event list"))
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

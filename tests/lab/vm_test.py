#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`godwit vm` with unmodified Debian kernels: boot with its proof lines, disk, save, death, shutdown."""
import json
import pathlib
import re
import select
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwlab_client  # noqa: E402
from gwlab_client import wait_for  # noqa: E402

SAID_S = 180  # for what takes ten seconds on an idle machine
# What a booted guest's log must say, and in docs/spec/machine.md why.
PROOF = (
    r"Linux version 6\.\S+-cloud-amd64",
    r"BIOS-provided physical RAM map",
    r"RAMDISK: \[mem",
    r"Hypervisor detected: Microsoft Hyper-V",
    r"Hyper-V: privilege flags low 0x\w+, high 0x30, hints 0x220, misc 0x80500",
    r"Hyper-V: Host Build",
    r"Hyper-V: LAPIC Timer Frequency: 0x",
    r"tsc: Detected [\d.]+ MHz processor",
    r"ACPI: RSDP 0x00000000000E0000",
    r"ACPI: Interpreter enabled",
    r"clocksource: hyperv_clocksource_tsc_page",
    r"clocksource: Switched to clocksource hyperv_clocksource_tsc_page",
    r"hv_vmbus: Vmbus version:5\.3",
    r"hv_vmbus: registering driver hv_storvsc",
    r"scsi host0: storvsc_host_t",
    r"scsi 0:0:0:0: Direct-Access     Msft     Virtual Disk",
    r"sd 0:0:0:0: \[sda\] .*512-byte logical blocks",
    r"hv_utils: Heartbeat IC version 3\.0",
    r"hv_utils: Shutdown IC version 3\.2",
    r"hv_utils: TimeSync IC version 4\.0",
)


def guest_files():
    """{name: path} of the small guest."""
    out = subprocess.run([gwlab_client.SOURCE / "deploy/lab/guest", "small"], capture_output=True, text=True,
                         check=True).stdout
    return dict(line.split("=", 1) for line in out.split())


class Console:
    """The guest's agent, at the other end of `godwit vm console`."""

    def __init__(self, case, process):
        self.case, self.process, self.rest = case, process, b""

    def line(self, deadline):
        """The next line, or None at the deadline or the end."""
        while b"\n" not in self.rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                return None
            data = self.process.stdout.read1(65536)
            if not data:
                return None
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode(errors="replace").strip()

    def ask(self, line, timeout=90, raw=False):
        """Send a command; returns the agent's answer, or with @raw all it printed before."""
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        seen, deadline = [], time.monotonic() + timeout
        while (got := self.line(deadline)) is not None:
            at = got.find("gwguest: ")
            if at >= 0 and re.match("(ok|fail) " + line.split()[0], got[at + 9:]):
                return "\n".join(seen) if raw else got[at + 9:]
            seen.append(got)
        return self.case.fail(f"no answer to '{line}' within {timeout} s:\n" + "\n".join(seen))


class Node(gwlab_client.LabCase):
    """
    One node with godwitd, and what tests of its VMs need. One processor: emulated nodes with several fail
    under nested guests, the guest or the node itself resets, see docs/lab.md.
    """

    options = ("--nodes", "1", "--memory", "2G", "--cpus", "1")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = guest_files()
        cls.start_godwitd()

    @classmethod
    def start_godwitd(cls):
        cls.lab.sh("n1", "mkdir -p /run/godwit /var/lib/godwit; "
                         "setsid godwitd --foreground >>/root/godwitd.log 2>&1 </dev/null &")
        wait_for("godwitd answers", lambda: cls.lab.exec("n1", "godwit vm list").returncode == 0)

    def godwit(self, words, timeout=60):
        return self.lab.sh("n1", f"godwit {words}", timeout=timeout)

    def state(self, name):
        return re.search(rf"^{name} +(\S+)", self.godwit("vm list"), re.M)[1]

    def wait_state(self, name, state, timeout=60):
        wait_for(f"{name} is {state}", lambda: self.state(name) == state, timeout)

    def log(self, name):
        return self.lab.sh("n1", f"godwit vm log {name}")

    def wait_ready(self, name, count=1):
        self.wait_said("n1", name, "gwguest: ready", count)

    def wait_said(self, node, name, text, count=1, timeout=SAID_S):
        """On @count lines of its console. Read from the node's file by one program that waits: asking godwit again and again
        takes half of an emulated processor from the guest that boots, a loop of the shell's a good part, too."""
        vm = re.search(r'"id": "(\S+)"', self.lab.sh(node, f"godwit vm show {name} --json"))[1]
        done = self.lab.exec(node, f"tail -n +1 -s 0.3 -F /var/lib/godwit/vm/{vm}/console.log 2>/dev/null | "
                             f"grep -a -m {count} '{text}'", timeout=timeout)
        if done.returncode != 0:
            self.fail(f"{name} has not said '{text}' {count} times after {timeout} s:\n{done.stderr.decode()}\n"
                      f"{self.lab.exec(node, f'godwit vm log {name}').stdout.decode()}")

    def godwit_json(self, words):
        return json.loads(self.godwit(f"{words} --json"))

    def refused(self, words, why):
        done = self.lab.exec("n1", f"godwit {words}")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(why, done.stderr.decode())

    def define(self, name, cpus, append="", options=""):
        """A VM with the small guest."""
        self.godwit(f"vm create {name} --memory 256M --cpus {cpus} --kernel {self.files['bzimage']} "
                    f"--initrd {self.files['initrd']} "
                    f"--append 'console=ttyS0 quiet mitigations=off panic=1 {append}' {options}")
        self.addCleanup(self.remove, name)

    def create(self, name, cpus, disk=True):
        """A VM with the small guest, booted and ready."""
        disk_words = ""
        if disk:
            self.lab.sh("n1", f"truncate -s 64M /root/{name}.raw")
            disk_words = f"--disk /root/{name}.raw"
        self.define(name, cpus, options=disk_words)
        self.godwit(f"vm start {name}")
        self.wait_ready(name)

    def evidence(self):
        """Print what a node that may be dead still tells."""
        for source in (self.lab.exec("n1", "godwit event list; tail -n 60 /root/godwitd.log; cd /proc; "
                                     "for p in $(pgrep godwit-vm); do for t in $p/task/*; do echo $t "
                                     "$(cat $t/comm $t/wchan $t/syscall); done; done", check=False),
                       self.lab.do("log", "n1", check=False)):
            print((source.stdout + source.stderr).decode(errors="replace")[-16384:], flush=True)

    def run(self, result=None):
        """As ever; a failed test shows what the node knows of it."""
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before:
            self.evidence()
        return result

    def remove(self, name):
        self.lab.exec("n1", f"godwit vm stop --off {name}")
        self.lab.exec("n1", f"godwit vm remove {name}")

    def console(self, name):
        return self.lab.spawn("n1", f"exec godwit vm console {name}", stdin=subprocess.PIPE)

    def boot_and_prove(self, cpus):
        name = f"boot{cpus}"
        self.create(name, cpus)
        with self.console(name) as process:
            guest = Console(self, process)
            log = guest.ask("sh dmesg", raw=True)
            interrupts = guest.ask("sh cat /proc/interrupts", raw=True)
            timer = guest.ask("sh cat /sys/devices/system/clockevents/clockevent0/current_device", raw=True)
        for line in PROOF:
            self.assertRegex(log, line)
        self.assertRegex(log, rf"smp: Brought up 1 node, {cpus} CPU")
        self.assertNotRegex(log, r"ACPI (Error|Exception|BIOS Error)|Call Trace|unchecked MSR")
        self.assertRegex(interrupts, r"HVS: +[1-9]")
        self.assertRegex(interrupts, r"HYP: +[1-9]")
        self.assertIn("Hyper-V clockevent", timer)
        self.assertIn("ok", self.godwit(f"vm show {name}"))


class Vm(Node):
    """VMs as such."""

    def test_a_debian_kernel_boots_on_four_processors_and_again_when_it_reboots(self):
        self.boot_and_prove(4)
        with self.console("boot4") as process:
            process.stdin.write(b"reboot\n")
            process.stdin.flush()
            self.wait_ready("boot4", 2)
        self.assertIn("vm.reset", self.godwit("event list"))
        self.assertEqual(self.state("boot4"), "running")

    def test_a_debian_kernel_boots_on_one_processor_in_a_worker_without_rights_and_outlives_the_service(self):
        self.boot_and_prove(1)
        status = self.lab.sh("n1", "cat /proc/$(pgrep -o godwit-vm)/status")
        self.assertRegex(status, r"Uid:\s+187904\d+\s")
        self.assertRegex(status, r"CapEff:\s+0000000000000000")
        self.assertRegex(status, r"CapBnd:\s+0000000000000000")
        self.assertRegex(status, r"NoNewPrivs:\s+1")
        self.assertRegex(status, r"Seccomp:\s+2")
        self.assertEqual(self.lab.sh("n1", "ls -A /proc/$(pgrep -o godwit-vm)/root/"), "")
        self.stands_still_when_paused("boot1")
        self.outlives_the_service("boot1")

    def test_what_the_guest_writes_is_on_its_disk_after_a_shutdown_and_a_saved_one_goes_on(self):
        self.create("disk", 2)
        with self.console("disk") as process:
            guest = Console(self, process)
            self.assertRegex(guest.ask("disk write dev=sda size=16M seed=5"), "^ok ")
            self.assertRegex(guest.ask("disk verify dev=sda size=16M seed=5"), "^ok ")
            self.assertRegex(guest.ask("disk verify dev=sda size=16M seed=6"), "^fail ")
        self.godwit("vm stop disk", timeout=120)
        self.assertEqual(self.state("disk"), "off")
        self.godwit("vm start disk")
        self.wait_ready("disk", 2)
        with self.console("disk") as process:
            guest = Console(self, process)
            self.assertRegex(guest.ask("disk verify dev=sda size=16M seed=5"), "^ok ")
        self.goes_on_where_it_was_saved("disk")

    def goes_on_where_it_was_saved(self, name):
        with self.console(name) as process:
            guest = Console(self, process)
            self.assertRegex(guest.ask("mem start size=32M rate=4M seed=9"), "^ok ")
            self.assertRegex(guest.ask("disk load dev=sda size=16M rate=50 seed=9"), "^ok ")
        for _ in range(2):
            self.godwit(f"vm save {name}", timeout=120)
            self.assertEqual(self.state(name), "saved")
            self.godwit(f"vm start {name}", timeout=120)
            self.assertEqual(self.state(name), "running")
        with self.console(name) as process:
            guest = Console(self, process)
            self.assertRegex(guest.ask("mem check"), "^ok .*bad=0")
            self.assertRegex(guest.ask("disk check"), "^ok ")
            log = guest.ask("sh dmesg", raw=True)
            wait_for("the guest's clock follows", lambda: self.clock_error_s(guest) < 0.5, 30)
        self.assertNotRegex(log, "Call Trace|hung task|soft lockup|timekeeping watchdog")

    def clock_error_s(self, guest):
        """How far the guest's clock is off [s]: it lies between two looks at the node's."""
        before = float(self.lab.sh("n1", "date +%s.%N"))
        there = float(guest.ask("sh date +%s", raw=True).split()[-1])
        after = float(self.lab.sh("n1", "date +%s.%N"))
        return max(0.0, before - (there + 1), there - after)

    def stands_still_when_paused(self, name):
        with self.console(name) as process:
            guest = Console(self, process)
            guest.ask("tick ms=100")
        self.godwit(f"vm pause {name}")
        length = len(self.log(name))
        time.sleep(1)  # nothing must happen: there is no event to wait for
        self.assertEqual(len(self.log(name)), length)
        self.godwit(f"vm resume {name}")
        wait_for("it ticks again", lambda: len(self.log(name)) > length)
        with self.console(name) as process:
            Console(self, process).ask("tick ms=0")

    def outlives_the_service(self, a):
        """And a dead worker is restarted, that of another VM is not."""
        self.create("b", 1, disk=False)
        before = {n: self.lab.sh("n1", f"godwit vm show {n} --json") for n in (a, "b")}
        self.lab.sh("n1", "pkill -9 -x godwitd")
        self.assertEqual(self.lab.sh("n1", "pgrep -c godwit-vm").strip(), "2")
        self.start_godwitd()
        for name in (a, "b"):
            self.assertEqual(self.state(name), "running")
            self.assertIn(re.search(r'"id": "(\S+)"', before[name])[1],
                          self.lab.sh("n1", f"godwit vm show {name} --json"))
        victim = self.lab.sh("n1", "pgrep -o godwit-vm").strip()
        self.lab.sh("n1", f"kill -9 {victim}")
        self.wait_ready(a, 2)
        self.assertEqual(self.log("b").count("gwguest: ready"), 1)
        events = self.godwit("event list")
        self.assertRegex(events, rf"vm\.crashed +{a} ")
        self.assertNotRegex(events, r"vm\.crashed +b ")


if __name__ == "__main__":
    gwlab_client.main()

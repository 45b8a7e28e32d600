#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The node's own KVM runs guests: QEMU with Hyper-V enlightenments, for what godwit-vm is compared with."""
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwlab_client  # noqa: E402

# Emulated SVM saves XSAVE areas in another layout than it says: guests do without.
CPU = ("host,-kvm,-xsave,hv-relaxed,hv-vapic,hv-time,hv-vpindex,hv-runtime,hv-synic,hv-stimer,hv-reset,"
       "hv-frequencies")


def guest_files():
    """{name: path} of the small guest."""
    out = subprocess.run([gwlab_client.SOURCE / "deploy/lab/guest", "small"], capture_output=True, text=True,
                         check=True).stdout
    return dict(line.split("=", 1) for line in out.split())


class Nested(gwlab_client.LabCase):
    """One node, one guest at a time in it."""

    options = ("--nodes", "1", "--memory", "1G")

    def command(self, arguments):
        files = guest_files()
        return ("exec qemu-system-x86_64 -M pc -accel kvm "
                f"-cpu {CPU} -m 192 -nodefaults -no-user-config -display none -serial stdio -no-reboot "
                f"-kernel {files['vmlinux']} -initrd {files['initrd']} "
                f"-append 'console=ttyS0 quiet mitigations=off panic=-1' {arguments}")

    def expect(self, process, start, timeout=120):
        """The next line of the guest that begins so."""
        seen = []
        deadline = time.monotonic() + timeout
        while line := process.stdout.readline().decode(errors="replace").strip():
            seen.append(line)
            at = line.find("gwguest: " + start)
            if at >= 0:
                return line[at + len("gwguest: "):]
            self.assertLess(time.monotonic(), deadline, seen)
        return self.fail(f"the guest ended before '{start}':\n" + "\n".join(seen))

    def ask(self, process, line):
        """Send a command to the guest; returns its answer."""
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        return self.expect(process, "")

    def test_a_debian_kernel_boots_and_sees_hyper_v(self):
        self.lab.sh("n1", "truncate -s 32M /root/disk")
        disk = "-drive file=/root/disk,if=virtio,format=raw,cache=none"
        with self.lab.spawn("n1", self.command(disk), stdin=subprocess.PIPE) as p:
            begin = time.monotonic()
            info = self.expect(p, "ok info")
            self.assertIn("hypervisor=MicrosoftHv", info)
            self.expect(p, "ready")
            print(f"nested guest ready after {time.monotonic() - begin:.1f} s", file=sys.stderr)
            self.assertIn("cpus=1", info)
            self.assertRegex(self.ask(p, "mem start size=32M rate=4M"), "^ok mem start pages=8192 ")
            self.assertRegex(self.ask(p, "disk write dev=vda size=8M seed=3"), "^ok ")
            self.assertRegex(self.ask(p, "disk verify dev=vda size=8M seed=3"), "^ok ")
            self.assertRegex(self.ask(p, "disk verify dev=vda size=8M seed=4"), "^fail .*foreign=2048")
            self.assertRegex(self.ask(p, "mem check"), "^ok .*bad=0")
            p.stdin.write(b"sh cat /sys/devices/system/clocksource/clocksource0/current_clocksource\n")
            p.stdin.flush()
            self.assertIn(b"hyperv_clocksource", p.stdout.readline())
            self.assertRegex(self.ask(p, "off"), "^ok sh status=0")
            self.expect(p, "ok off")
            self.assertEqual(p.wait(60), 0)
        # What the guest wrote lies on the node's disk: another guest finds it.
        with self.lab.spawn("n1", self.command(disk), stdin=subprocess.PIPE) as p:
            self.expect(p, "ready")
            self.assertRegex(self.ask(p, "disk verify dev=vda size=8M seed=3"), "^ok ")
            self.ask(p, "off")


if __name__ == "__main__":
    gwlab_client.main()

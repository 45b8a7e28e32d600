#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Persistent reservations on the kernel's own target: two paths to one LUN, one of them is fenced."""
import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwlab_client  # noqa: E402

BUILD = pathlib.Path(os.environ.get("GW_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build/debug"))
TRY = BUILD / "tests/node/csv_pr_try"

# One LUN in memory, seen through two ports of tcm_loop: two initiators, each with a disk of its own.
TARGET = r"""
set -e
mkdir -p /var/target/pr /etc/target/pr  # for registrations; looked for once
modprobe -a target_core_mod target_core_file tcm_loop sd_mod
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
cd /sys/kernel/config/target
truncate -s 64M /root/lun
mkdir -p core/fileio_0/lun
echo fd_dev_name=/root/lun,fd_dev_size=67108864 >core/fileio_0/lun/control
echo 1 >core/fileio_0/lun/enable
for n in 1 2; do
    port=loopback/naa.500000000000000$n
    mkdir -p $port/tpgt_1
    echo naa.600000000000000$n >$port/tpgt_1/nexus
    mkdir -p $port/tpgt_1/lun/lun_0
    ln -s /sys/kernel/config/target/core/fileio_0/lun $port/tpgt_1/lun/lun_0/lun
done
"""
DISKS = r"""for d in /sys/block/sd*; do grep -q LIO-ORG $d/device/vendor && echo ${d##*/}; done | sort"""
A, B, C = "c0ff8100000001", "c0ff8200000001", "c0ff8200000002"


class Reservations(gwlab_client.LabCase):
    """One node, which is target and both initiators. No abort: through tcm_loop Linux 6.1 waits for itself."""

    options = ("--nodes", "1")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lab.sh("n1", TARGET, timeout=120)
        gwlab_client.wait_for("two disks", lambda: len(cls.disks()) == 2, timeout=60)

    @classmethod
    def disks(cls):
        return ["/dev/" + name for name in cls.lab.sh("n1", DISKS).split()]

    def ask(self, disk, *words):
        """Lines that csv_pr_try printed."""
        return self.lab.sh("n1", " ".join([str(TRY), disk, *words])).splitlines()

    def test_whose_key_is_taken_away_cannot_write(self):
        first, second = self.disks()
        seen = self.ask(first, "register", A, "reserve", "check", "write", "keys")
        self.assertIn("level preempt-and-abort", seen)
        self.assertEqual([line for line in seen if line.startswith(("reserve", "check", "write", "type", "key "))],
                         ["reserve ok", "check ok", "write ok", "type 7", f"key {A}"])
        # Who has no key reads and does not write.
        self.assertIn("write -52", "\n".join(self.ask(second, "write")))
        seen = self.ask(second, "register", B, "reserve", "check", "write")
        self.assertEqual(seen[-3:], ["reserve ok", "check ok", "write ok"])
        # The first fences the second: no more writes, and it finds out; it cannot fence back.
        self.assertEqual(self.ask(first, "adopt", A, "preempt", B), ["adopt ok", "preempt ok"])
        seen = self.ask(second, "adopt", B, "write", "check", "preempt", A, "write")
        self.assertRegex(seen[1], "^write -(52|5) ")
        self.assertRegex(seen[2], "^check -116 .*fenced")
        self.assertRegex(seen[3], "^preempt -116 ")
        self.assertRegex(seen[4], "^write -52 ")
        self.assertEqual(self.ask(first, "adopt", A, "write", "check", "preempt", B)[1:3], ["write ok", "check ok"])
        # Its next run is let in with a key of its own.
        seen = self.ask(second, "register", C, "reserve", "write", "leave", "write")
        self.assertEqual(seen[1:4], ["register ok", "reserve ok", "write ok"])
        self.assertEqual(seen[4], "leave ok")
        self.assertRegex(seen[5], "^write -52 ")
        # The last one out opens the LUN again.
        self.assertEqual(self.ask(first, "adopt", A, "leave", "keys")[1:], ["leave ok", "type 0", "keys ok"])

    def test_sg_persist_agrees(self):
        first, second = self.disks()
        self.ask(second, "register", B, "reserve")
        self.assertIn(f"0x{B}", self.lab.sh("n1", f"sg_persist --in --read-keys {first}"))
        self.assertIn("Write Exclusive, all registrants",
                      self.lab.sh("n1", f"sg_persist --in --read-reservation {first}"))
        self.assertEqual(self.ask(second, "adopt", B, "leave")[-1], "leave ok")

    def test_the_volume_service_has_a_key_and_ends_its_run_without(self):
        first, second = self.disks()
        run, state = "/run/gwcsvd", "/root/gwcsvd"
        godwit = f"{BUILD}/bin/godwit --host unix://{run}/csvd.sock"
        self.lab.sh("n1", f"{BUILD}/bin/godwit csv create vol1 --device {first} --force")
        self.lab.sh("n1", f"mkdir -p {run} {state}; rm -f /tmp/csvd.pid; setsid {BUILD}/bin/godwit-csvd --foreground "
                    f"--run-dir {run} --state-dir {state} >/tmp/csvd.log 2>&1 </dev/null & echo $! >/tmp/csvd.pid; sleep 1")

        def show():
            out = self.lab.sh("n1", f"{godwit} csv show vol1 --json || true")
            return json.loads(out) if out.startswith("{") else {}
        gwlab_client.wait_for("the service", lambda: "volumes" in self.lab.sh(
            "n1", f"{godwit} csv list --json || true"), timeout=60)
        self.lab.sh("n1", f"{godwit} csv add {first}")
        try:
            gwlab_client.wait_for("the volume", lambda: show().get("state") == "direct", timeout=120)
            key = show()["reservations"]["key"]
            self.assertEqual(show()["reservations"]["level"], "preempt-and-abort")
            self.assertIn(f"key {key.lstrip('0')}", self.ask(second, "keys"))
            self.assertRegex(self.ask(second, "write")[0], "^write -52 ")
            # Another initiator takes the key away: the service finds out, and writes nothing more.
            seen = self.ask(second, "register", B, "reserve")
            self.assertEqual(seen[-2:], ["register ok", "reserve ok"])
            self.assertEqual(self.ask(second, "adopt", B, "preempt", key)[-1], "preempt ok")
            gwlab_client.wait_for("it is over", lambda: show().get("state") == "dead", timeout=60)
            self.assertEqual(self.ask(second, "adopt", B, "leave")[-1], "leave ok")
        finally:
            self.lab.sh("n1", "kill -9 $(cat /tmp/csvd.pid); cat /tmp/csvd.log >&2; umount -l /root/gwcsvd/csv/vol1 || true")

    def test_what_is_no_scsi_device_is_said(self):
        self.lab.sh("n1", "truncate -s 1M /root/file")
        device = self.lab.sh("n1", "modprobe loop; losetup --find --show /root/file").strip()
        self.assertIn("level none: no SCSI device", "\n".join(self.ask(device, "register", A)))


if __name__ == "__main__":
    if not TRY.exists():
        print(f"skipped: {TRY} is not built", file=sys.stderr)
        sys.exit(gwlab_client.SKIPPED)
    gwlab_client.main()

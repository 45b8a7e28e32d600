#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A whole Debian moves between two nodes while it writes and verifies a disk, checks its memory, and talks to the outside.

GODWIT_MOVES says how often (2). What is checked: fio --verify and stress-ng --verify in the guest, one TCP connection each way that
must outlive all moves, every ping at 10 ms, the guest's log, and the pause of each move as the source measured it.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import pathlib
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))
import gwlab_client  # noqa: E402
import move_test  # noqa: E402
from gwlab_client import wait_for  # noqa: E402

MOVES = int(os.environ.get("GODWIT_MOVES", "2"))
DEADLINE_S = 300
ADDRESS = "10.77.3.60"
DISK = "/dev/disk/by-lun/lun0"
PING_MS = 10
LIMIT = os.environ.get("GODWIT_BLACKOUT", "3s")  # emulated nodes
# Both run until they are told to end, and fail at the first difference.
FIO = ("fio --name=v --filename=/var/tmp/fio --size=16M --rw=randrw --bs=4k --ioengine=libaio --iodepth=4 --direct=1 --rate_iops=20 "
       "--verify=crc32c --verify_fatal=1 --time_based --runtime=7200 --output-format=json --output=/root/fio.json")
MEMORY = "stress-ng --vm 1 --vm-bytes 24M --vm-keep --vm-method rand-set --verify --cpu-load 10 --timeout 7200"


class MoveFull(move_test.Move):
    options = ("--nodes", "2", "--memory", "2G", "--cpus", "1", "--lun", "3G")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.full = gwlab_client.debian(cls.lab)
        cls.key = cls.lab.directory() / "key"
        cls.key.write_bytes(pathlib.Path(cls.full["ssh_key"]).read_bytes())
        cls.key.chmod(0o600)

    def spawn_outside(self, *words):
        """It writes into the file .said: nobody reads meanwhile, and a full pipe would stop it."""
        said = self.enterContext(tempfile.NamedTemporaryFile(mode="w", prefix="gwmove-"))
        process = subprocess.Popen(self.outside(*words), stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        process.said = pathlib.Path(said.name)

        def end():
            process.kill()
            process.wait()
        self.addCleanup(end)
        return process

    def guest(self, line, check=True):
        done = subprocess.run(self.outside(
            "ssh", "-i", str(self.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
            "LogLevel=ERROR", "-o", "ConnectTimeout=60", f"root@{ADDRESS}", line), capture_output=True, text=True,
            timeout=DEADLINE_S, check=False)
        if check:
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def boot_full(self):
        self.godwit(f"vm create full --memory 384M --cpus 1 --kernel {self.full['bzimage']} --initrd {self.full['initrd']} "
                    f"--append 'console=ttyS0 root=LABEL=godwit-guest mitigations=off' --disk {DISK} --nic switch=lan")
        mac = self.godwit_json("vm show full")["definition"]["nics"][0]["mac"]
        self.spawn_outside("dnsmasq", "--keep-in-foreground", "--port=0", "--conf-file=/dev/null", "--leasefile-ro",
                           f"--dhcp-range={ADDRESS},{ADDRESS},255.255.255.0,12h", f"--dhcp-host={mac},{ADDRESS}")
        self.godwit("vm start full")
        wait_for("sshd answers", lambda: subprocess.run(
            self.outside("bash", "-c", f"exec 3<>/dev/tcp/{ADDRESS}/22"), capture_output=True, timeout=60,
            check=False).returncode == 0, DEADLINE_S, 2)

    def test_a_whole_debian_under_load(self):
        self.boot_full()
        for unit, line in (("v", FIO), ("m", MEMORY), ("i", "iperf3 -s")):
            self.guest(f"systemd-run --quiet --unit={unit} {line}")
        self.guest("dmesg -C")
        wire = self.spawn_outside("iperf3", "-c", ADDRESS, "-t", "7200", "--bidir", "-b", "1M", "-i", "60")
        ping = self.spawn_outside("ping", "-i", str(PING_MS / 1000), "-D", "-O", ADDRESS)
        times = []
        for i in range(MOVES):
            here, there = (("n1", "n2"), ("n2", "n1"))[i % 2]
            job = self.move("full", here, there, f"--max-blackout {LIMIT}")
            times.append(job["result"]["blackout_ns"] / 1e6)
            self.assertIsNone(wire.poll(), "the connection outside")
            self.assertEqual(self.guest("systemctl is-active v m i").split(), ["active"] * 3)
        self.evidence_of_the_wire(ping, times)
        self.assertNotRegex(self.guest("dmesg"), r"Call Trace|hung task|I/O error|EXT4-fs error|BUG|stall")
        # Told to end, both look at what they have once more.
        self.guest("systemctl kill --signal=INT v m; while systemctl -q is-active v || systemctl -q is-active m; do sleep 1; done")
        self.assertEqual(self.guest("systemctl show -P Result m").split(), ["success"])
        said = self.guest("cat /root/fio.json")  # its exit status only says that it was interrupted
        report = json.loads(said[said.index("{"):])
        self.assertEqual([job["error"] for job in report["jobs"]], [0], said)
        self.assertNotRegex(self.guest("journalctl -u v -u m --no-pager"), "verify:|mismatch|fail:")
        self.assertGreater(report["jobs"][0]["write"]["io_bytes"], 0)
        owner = ("n1", "n2")[MOVES % 2]
        self.lab.sh(owner, "godwit vm stop full", timeout=DEADLINE_S)
        self.lab.sh(owner, f"e2fsck -fn {DISK}", timeout=DEADLINE_S)

    @staticmethod
    def answered(ping):
        """When pings were answered [s since 1970]."""
        return [float(t) for t in re.findall(r"^\[([\d.]+)\] \d+ bytes from", ping.said.read_text(encoding="utf-8"), re.M)]

    def evidence_of_the_wire(self, ping, times):
        moved = time.time()
        wait_for("a ping is answered after the last move", lambda: self.answered(ping)[-1] > moved, 60)
        ping.send_signal(2)
        ping.wait(60)
        stamps = self.answered(ping)
        said = ping.said.read_text(encoding="utf-8")
        gaps = sorted((b - a for a, b in zip(stamps, stamps[1:])), reverse=True)
        lost = re.search(r"(\d+) packets transmitted, (\d+) received", said)
        print(f"{MOVES} moves: blackout ms {' '.join(f'{t:.0f}' for t in times)}; pings {lost[0]}; longest silences on the wire "
              f"{' '.join(f'{g * 1000:.0f}' for g in gaps[:MOVES])} ms", file=sys.stderr)
        # It was watched all the time: a guest does not answer while it stands still.
        self.assertGreaterEqual(gaps[0] * 1000, min(times) / 2)


# Inherited ones are another file's.
for name in [n for n in dir(move_test.Move) if n.startswith("test_")]:
    setattr(MoveFull, name, None)

if __name__ == "__main__":
    gwlab_client.main()

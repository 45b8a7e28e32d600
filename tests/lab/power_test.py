#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Power cords, buttons and the watchdog of a node."""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwlab_client  # noqa: E402
from gwlab_client import wait_for  # noqa: E402


# Sets 4 s, feeds for 8 s, then holds the watchdog open and does nothing.
FEED = """
import fcntl, struct, time
watchdog = open("/dev/watchdog0", "wb", buffering=0)
fcntl.ioctl(watchdog, 0xC0045706, struct.pack("i", 4))  # WDIOC_SETTIMEOUT
for _ in range(8):
    watchdog.write(b"x")
    time.sleep(1)
time.sleep(1000)
"""


class Power(gwlab_client.LabCase):
    """Two nodes: one suffers, one stays as it is."""

    options = ("--nodes", "2", "--memory", "512M")

    def boot_id(self, node):
        return self.lab.sh(node, "cat /proc/sys/kernel/random/boot_id").strip()

    def boot_id_or_none(self, node):
        done = self.lab.exec(node, "cat /proc/sys/kernel/random/boot_id", timeout=10)
        return done.stdout.decode().strip() if done.returncode == 0 else None

    def wait_for_another_boot(self, node, before, timeout=60):
        wait_for(f"{node} boots again", lambda: self.boot_id_or_none(node) not in (None, before), timeout)

    def test_kill_takes_all_but_what_was_synced_and_start_brings_that_back(self):
        before, other = self.boot_id("n1"), self.boot_id("n2")
        self.lab.sh("n1", "echo kept > /root/kept; mkdir /etc/godwit.d; echo new > /etc/hosts.extra; "
                    "rm /etc/motd; echo lost > /run/lost; sync")
        with self.lab.spawn("n1", "echo ready; exec sleep 100") as p:
            self.assertEqual(p.stdout.readline(), b"ready\n")
            self.lab.do("kill", "n1")
            self.assertEqual(p.wait(30), 255)
        self.assertEqual(self.lab.state("n1"), "off")
        for verb in ("kill", "pause", "reset"):
            done = self.lab.do(verb, "n1", check=False)
            self.assertEqual((done.returncode, b"n1 is off" in done.stderr), (1, True), verb)
        done = self.lab.exec("n1", "true")
        self.assertEqual((done.returncode, b"lab start n1" in done.stderr), (255, True))

        self.lab.do("start", "n1")
        self.assertIn(b"already on", self.lab.do("start", "n1", check=False).stderr)
        self.assertNotEqual(self.boot_id("n1"), before)
        self.assertEqual(self.lab.sh("n1", "cat /root/kept /etc/hosts.extra; ls -d /etc/godwit.d"),
                         "kept\nnew\n/etc/godwit.d\n")
        self.assertEqual(self.lab.sh("n1", "ls /run/lost /etc/motd 2>/dev/null || true"), "")
        self.assertEqual(self.boot_id("n2"), other)

    def test_reset_boots_anew_and_ends_commands(self):
        before = self.boot_id("n1")
        with self.lab.spawn("n1", "echo ready; exec sleep 100") as p:
            self.assertEqual(p.stdout.readline(), b"ready\n")
            self.lab.do("reset", "n1")
            self.assertEqual(p.wait(60), 255)
            self.assertIn(b"was reset", p.stdout.read())
        self.wait_for_another_boot("n1", before)

    def test_pause_freezes_and_unpause_goes_on(self):
        before = self.boot_id("n1")
        self.lab.sh("n1", "(while :; do echo tick; sleep 0.1; done) >/tmp/ticks 2>&1 &")
        self.lab.do("pause", "n1")
        self.assertEqual(self.lab.state("n1"), "paused")
        with self.lab.spawn("n1", "wc -l < /tmp/ticks") as p:
            time.sleep(3)  # What is measured is that nothing happens in this time.
            self.assertIsNone(p.poll())
            self.lab.do("unpause", "n1")
            ticks = int(p.stdout.read())
        self.assertLess(ticks, 20)
        self.assertEqual(self.boot_id("n1"), before)
        wait_for("it ticks again", lambda: int(self.lab.sh("n1", "wc -l < /tmp/ticks")) > ticks + 10)

    def test_the_watchdog_resets_a_node_that_stops_feeding_it(self):
        before = self.boot_id("n1")
        self.lab.exec("n1", "cat > /root/feed.py", stdin=FEED.encode(), check=True)
        self.lab.sh("n1", "setsid python3 /root/feed.py >/dev/null 2>&1 &")
        time.sleep(6)  # Longer than the heartbeat: as long as it is fed, nothing happens.
        self.assertEqual(self.boot_id("n1"), before)
        self.wait_for_another_boot("n1", before, 90)

    def test_a_crashed_kernel_boots_anew(self):
        before = self.boot_id("n1")
        self.lab.exec("n1", "sync; echo c > /proc/sysrq-trigger", timeout=5)
        self.wait_for_another_boot("n1", before)
        self.assertIn(b"sysrq triggered crash", self.lab.do("log", "n1").stdout)

    def test_poweroff_from_inside_is_off(self):
        self.lab.exec("n1", "sync; kill -USR2 1; sleep 60", timeout=30)
        wait_for("n1 is off", lambda: self.lab.state("n1") == "off")
        self.lab.do("start", "n1")

    def test_the_log_is_the_console(self):
        self.lab.sh("n2", "echo '<1>written to the console' > /dev/kmsg")
        wait_for("the line", lambda: b"written to the console" in self.lab.do("log", "n2").stdout)


if __name__ == "__main__":
    gwlab_client.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Commands in a node: what goes in and comes out, and what happens when either end goes away."""
import concurrent.futures
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwlab_client  # noqa: E402
from gwlab_client import LAB, wait_for  # noqa: E402


class Exec(gwlab_client.LabCase):
    """One node, many commands."""

    options = ("--nodes", "1", "--memory", "512M")

    def running(self, word):
        """Is a process whose command line has @word running in the node?"""
        # The pattern must not find the shell that looks for it.
        return self.lab.exec("n1", f"pgrep -f '[{word[0]}]{word[1:]}'").returncode == 0

    def test_the_exit_status_is_the_commands_own(self):
        for line, status in (("false", 1), ("true", 0), ("exit 42", 42), ("kill -9 $$", 137)):
            self.assertEqual(self.lab.exec("n1", line).returncode, status, line)
        self.assertEqual(self.lab.exec("n1", "/nonexistent", "x").returncode, 127)
        self.assertEqual(self.lab.exec("n1", "/etc/passwd", "x").returncode, 126)

    def test_one_word_is_a_shell_line_and_several_are_arguments(self):
        self.assertEqual(self.lab.exec("n1", "echo $((6*7)) | tr 4 x").stdout, b"x2\n")
        self.assertEqual(self.lab.exec("n1", "printf", "%s|", "a b", "", "$HOME").stdout, b"a b||$HOME|")

    def test_standard_output_and_standard_error_stay_apart(self):
        done = self.lab.exec("n1", "echo out; echo err >&2")
        self.assertEqual((done.stdout, done.stderr), (b"out\n", b"err\n"))

    def test_every_byte_goes_there_and_back_unchanged(self):
        data = bytes(range(256)) * 64 + os.urandom(2_000_000) + b"\0\xff\r\n\x03\x04GWLX" * 99
        done = self.lab.exec("n1", "cat", stdin=data)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(len(done.stdout), len(data))
        self.assertTrue(done.stdout == data, "same length, other bytes")

    def test_input_that_the_command_does_not_read_holds_up_nothing(self):
        begin = time.monotonic()
        done = self.lab.exec("n1", "exec <&-; exit 5", stdin=bytes(1_000_000))
        self.assertEqual(done.returncode, 5)
        self.assertLess(time.monotonic() - begin, 20)

    def test_a_large_output_arrives_whole(self):
        done = self.lab.exec("n1", "seq 200000")
        self.assertEqual(done.stdout, b"".join(b"%d\n" % i for i in range(1, 200001)))

    def test_commands_run_at_the_same_time(self):
        # Each waits for all others: they only end if all eight run at once.
        line = ("d=/tmp/meeting; mkdir -p $d; touch $d/$$; "
                "until [ $(ls $d | wc -l) -ge 8 ]; do sleep 0.1; done")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            done = list(pool.map(lambda _: self.lab.exec("n1", line), range(8)))
        self.assertEqual([d.returncode for d in done], [0] * 8)

    def test_a_ninth_command_waits_its_turn(self):
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            done = list(pool.map(lambda i: self.lab.exec("n1", f"sleep 0.2; echo {i}"), range(20)))
        self.assertEqual([d.stdout for d in done], [b"%d\n" % i for i in range(20)])

    def test_a_timeout_ends_the_command(self):
        done = self.lab.exec("n1", "exec sleep 300.25", timeout=2)
        self.assertEqual(done.returncode, 124)
        wait_for("the command is ended", lambda: not self.running("sleep 300.25"))

    def test_a_signal_reaches_the_command(self):
        with self.lab.spawn("n1", "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done") as p:
            self.assertEqual(p.stdout.readline(), b"ready\n")
            p.send_signal(signal.SIGINT)
            self.assertEqual(p.stdout.read(), b"caught\n")
            self.assertEqual(p.wait(30), 9)

    def test_a_killed_client_takes_its_command_along(self):
        with self.lab.spawn("n1", "echo ready; exec sleep 300.5") as p:
            self.assertEqual(p.stdout.readline(), b"ready\n")
            self.assertTrue(self.running("sleep 300.5"))
            p.kill()
            p.wait()
        wait_for("the command is ended", lambda: not self.running("sleep 300.5"))

    def test_clients_killed_while_they_send_do_not_hurt_the_next(self):
        data = os.urandom(4 << 20)
        for _ in range(4):
            with self.lab.spawn("n1", "cat", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as p:
                try:
                    p.stdin.write(data[:1 << 20])
                    p.kill()
                    p.stdin.close()
                except BrokenPipeError:
                    pass
            self.assertEqual(self.lab.exec("n1", "cat", stdin=data[:5000]).stdout, data[:5000])

    def test_background_processes_outlive_their_command(self):
        self.lab.sh("n1", "setsid sleep 300.75 >/dev/null 2>&1 & echo started")
        self.assertTrue(self.running("sleep 300.75"))
        self.lab.sh("n1", "pkill -f '[s]leep 300.75'")

    def test_a_terminal_is_a_terminal(self):
        leader, follower = pty.openpty()
        with subprocess.Popen([LAB, "exec", "--name", self.lab.name, "-t", "n1", "--", "sh", "-c",
                               "tty; stty size; read -r x; echo got:$x; exit 3"],
                              stdin=follower, stdout=follower, stderr=follower) as p:
            os.close(follower)
            text = b""
            sent = False
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if select.select([leader], [], [], 1)[0]:
                    try:
                        text += os.read(leader, 4096)
                    except OSError:
                        break
                if b"/dev/pts/" in text and not sent:
                    os.write(leader, b"hello\r")
                    sent = True
            self.assertEqual(p.wait(10), 3)
        os.close(leader)
        self.assertIn(b"got:hello", text)

    def test_the_node_sees_the_tree_and_its_programs(self):
        build = os.environ.get("GW_BUILD") or self.lab.status()["build"]
        self.assertIn("lab-agent", self.lab.sh("n1", f"ls {build}/bin"))
        self.assertIn(f"{build}/bin:", self.lab.sh("n1", "echo $PATH"))
        self.assertEqual(self.lab.sh("n1", f"cat {gwlab_client.SOURCE}/LICENSE"),
                         (gwlab_client.SOURCE / "LICENSE").read_text(encoding="utf-8"))
        done = self.lab.exec("n1", f"touch {gwlab_client.SOURCE}/written-by-a-node")
        self.assertNotEqual(done.returncode, 0)

    def test_a_file_that_changes_on_the_host_changes_in_the_node(self):
        path = pathlib.Path(self.lab.status()["build"]) / "lab-live-file"
        self.addCleanup(path.unlink)
        for text in ("first\n", "second, longer\n", "3\n"):
            new = path.with_suffix(".new")
            new.write_text(text, encoding="utf-8")
            new.rename(path)
            self.assertEqual(self.lab.sh("n1", f"cat {path}"), text)

    def test_the_node_hides_the_state_of_the_host(self):
        self.assertEqual(self.lab.sh("n1", "cat /etc/hostname"), "n1\n")
        self.assertEqual(self.lab.sh("n1", "ls -A /root /var/lib/corosync /etc/godwit | grep -v :$ | grep ."
                                     " || true"), "")

    def test_the_clock_agrees_with_the_hosts(self):
        for _ in range(2):
            before = time.time()
            there = float(self.lab.sh("n1", "date +%s.%N"))
            self.assertGreater(there, before - 2)
            self.assertLess(there, time.time() + 2)
            time.sleep(1)  # The second look sees whether it runs at the right speed.

    def test_modules_of_later_tests_load(self):
        self.lab.sh("n1", "modprobe -a target_core_mod target_core_file iscsi_target_mod iscsi_tcp bridge veth")

    def test_the_devices_of_a_real_machine_are_there(self):
        for device in ("/dev/kvm", "/dev/net/tun", "/dev/fuse", "/dev/watchdog0", "/dev/infiniband/uverbs0",
                       "/dev/disk/by-lun/lun0"):
            self.assertEqual(self.lab.exec("n1", "test", "-e", device).returncode, 0, device)
        self.assertIn("state ACTIVE", self.lab.sh("n1", "rdma link"))


if __name__ == "__main__":
    gwlab_client.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The programs as processes: godwitd in a directory of its own, godwit against it, wrong words, signals."""
import concurrent.futures
import fcntl
import http.client
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from waiting import DEADLINE_S, wait_for  # noqa: E402

BIN = pathlib.Path(os.environ["GW_BUILD"]) / "bin"


def godwit(*words, env=None):
    return subprocess.run([BIN / "godwit", *words], capture_output=True, text=True, timeout=DEADLINE_S,
                          env={"PATH": os.environ["PATH"], **(env or {})}, check=False)


def drained(master):
    """All that was written to a terminal; its master is closed."""
    text = b""
    try:
        while chunk := os.read(master, 65536):
            text += chunk
    except OSError:  # the end, as Linux tells it
        pass
    os.close(master)
    return text


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(self.path)


class Daemon:
    """godwitd in a temporary directory."""

    def __init__(self, root, *options, env=None):
        self.root = pathlib.Path(root)
        self.socket = str(self.root / "run" / "api.sock")
        self.log_path = self.root / "log"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [BIN / "godwitd", "--foreground", "--run-dir", self.root / "run", "--state-dir",
                 self.root / "state", *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})})

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"godwitd ended with {self.process.returncode}:\n{self.log()}")
            try:
                return self.get("/v1/version")[0] == 200
            except OSError:
                return False
        wait_for("godwitd answers", ready)
        return self

    def get(self, path, method="GET"):
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def stop(self, signo=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(signo)
        return self.process.wait(DEADLINE_S)


class Case(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="godwit-programs-")
        self.daemons = []

    def tearDown(self):
        for daemon in self.daemons:
            daemon.stop(signal.SIGKILL)
        shutil.rmtree(self.root)

    def start(self, *options, env=None):
        daemon = Daemon(self.root, *options, env=env)
        self.daemons.append(daemon)
        return daemon


class Godwitd(Case):
    def test_routes(self):
        daemon = self.start().wait_ready()
        status, version = daemon.get("/v1/version")
        self.assertEqual((status, version["api"], version["pid"]), (200, 1, daemon.process.pid))
        status, host = daemon.get("/v1/host")
        self.assertEqual((status, host["source"]), (200, "godwitd"))
        self.assertEqual(host["name"], socket.gethostname())
        status, check = daemon.get("/v1/host/check")
        self.assertEqual(status, 200)
        self.assertIn(check["verdict"], ("ok", "warn", "fail"))
        space = [c for c in check["checks"] if c["id"] == "storage.space"][0]
        self.assertIn(str(daemon.root / "state"), space["found"])
        self.assertEqual(sum(check["counts"].values()), len(check["checks"]))

    def test_what_it_does_not_know_is_refused_with_a_reason(self):
        daemon = self.start().wait_ready()
        status, answer = daemon.get("/v1/nothing")
        self.assertEqual(status, 404)
        self.assertTrue(answer["error"]["message"])
        self.assertEqual(daemon.get("/v1/host", "DELETE")[0], 405)

    def test_many_may_ask_at_once(self):
        daemon = self.start().wait_ready()
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(daemon.get, ["/v1/host", "/v1/host/check"] * 20))
        self.assertEqual({status for status, _ in answers}, {200})

    def test_a_client_that_leaves_early_does_no_harm(self):
        daemon = self.start().wait_ready()
        for _ in range(20):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(daemon.socket)
                client.sendall(b"GET /v1/host/check HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(daemon.get("/v1/host/check")[0], 200)

    def test_sigterm_is_a_clean_end_also_while_somebody_waits(self):
        daemon = self.start().wait_ready()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(daemon.get, "/v1/host/check") for _ in range(8)]
            self.assertEqual(daemon.stop(), 0)
            for future in waiting:  # answered, or told that the other side has gone; never hung
                try:
                    self.assertIn(future.result()[0], (200, 409, 503))
                except (OSError, http.client.HTTPException):
                    pass
        self.assertFalse(os.path.exists(daemon.socket))
        self.assertIn("stopping signal=TERM", daemon.log())

    def test_sigint_stops_too(self):
        self.assertEqual(self.start().wait_ready().stop(signal.SIGINT), 0)

    def test_a_second_instance_is_refused(self):
        first = self.start().wait_ready()
        second = Daemon(self.root)
        self.daemons.append(second)
        self.assertEqual(second.process.wait(DEADLINE_S), 1)
        self.assertIn(f"another godwitd runs in {self.root}/run (pid {first.process.pid})", second.log())
        self.assertEqual(first.get("/v1/version")[0], 200)

    def test_after_kill_9_it_starts_again(self):
        for _ in range(3):
            daemon = self.start().wait_ready()
            self.assertEqual(daemon.stop(signal.SIGKILL), -signal.SIGKILL)
            self.assertTrue(os.path.exists(daemon.socket))
        self.assertEqual(self.start().wait_ready().stop(), 0)

    def test_systemd_is_told(self):
        path = os.path.join(self.root, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(path)
            systemd.settimeout(DEADLINE_S)
            daemon = self.start(env={"NOTIFY_SOCKET": path})
            self.assertTrue(systemd.recv(1000).startswith(b"READY=1\n"))
            self.assertEqual(daemon.get("/v1/version")[0], 200)  # ready means ready
            self.assertEqual(daemon.stop(), 0)
            self.assertEqual(systemd.recv(1000), b"STOPPING=1")

    def test_the_flight_recorder_is_written_on_request(self):
        daemon = self.start().wait_ready()
        daemon.process.send_signal(signal.SIGUSR1)
        box = daemon.root / "state" / "godwitd.blackbox"
        wait_for("a blackbox", lambda: "wrote blackbox" in daemon.log())
        self.assertGreater(box.stat().st_size, 1000)

    def test_only_root_may_connect_without_the_group(self):
        daemon = self.start("--group", "no-such-group").wait_ready()
        self.assertEqual(os.stat(daemon.socket).st_mode & 0o777, 0o600)

    def test_bad_directories_are_refused(self):
        blocked = os.path.join(self.root, "file")
        pathlib.Path(blocked).touch()
        done = subprocess.run([BIN / "godwitd", "--run-dir", blocked, "--state-dir", self.root],
                              capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(blocked, done.stderr)


class Godwit(Case):
    """The command line against a service, a dead one, and others that are none."""

    def listener(self, path):
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(server.close)
        server.bind(path)
        server.listen()
        return server

    def test_host_check_through_the_service(self):
        daemon = self.start().wait_ready()
        done = godwit("host", "check", "--json", "--host", f"unix://{daemon.socket}")
        answer = json.loads(done.stdout)
        self.assertEqual((answer["source"], done.stderr), ("godwitd", ""))
        self.assertEqual(done.returncode, 1 if answer["verdict"] == "fail" else 0)
        text = godwit("host", "check", env={"GODWIT_HOST": f"unix://{daemon.socket}"})
        self.assertEqual(text.returncode, done.returncode)
        for check in answer["checks"]:
            self.assertIn(check["what"], text.stdout)
        counts = answer["counts"]
        self.assertIn(f"{counts['ok']} ok, {counts['warn']} warn, {counts['fail']} failed", text.stdout)

    def test_host_show_through_the_service(self):
        daemon = self.start().wait_ready()
        host = f"unix://{daemon.socket}"
        answer = json.loads(godwit("host", "show", "--json", "--host", host).stdout)
        self.assertEqual((answer["source"], answer["name"]), ("godwitd", socket.gethostname()))
        done = godwit("--host", host, "host", "show")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(answer["kernel"], done.stdout)

    def test_without_a_service_it_looks_itself_and_says_so(self):
        if os.path.exists("/run/godwit/api.sock"):
            self.skipTest("a godwitd serves this machine")
        done = godwit("host", "show", "--json")
        self.assertEqual((done.returncode, json.loads(done.stdout)["source"]), (0, "local"))
        self.assertIn("looking without it", done.stderr)
        self.assertEqual(godwit("host", "show", "-q").stderr, "")

    def test_local_does_not_ask(self):
        done = godwit("host", "show", "--local", "--json", "--host", f"unix://{self.root}/none")
        self.assertEqual((json.loads(done.stdout)["source"], done.stderr), ("local", ""))

    def test_a_named_service_that_is_gone_is_a_failure(self):
        daemon = self.start().wait_ready()
        daemon.stop(signal.SIGKILL)
        for words in (["host", "check"], ["host", "show"]):
            done = godwit(*words, "--host", f"unix://{daemon.socket}")
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn(daemon.socket, done.stderr)
            self.assertIn("systemctl status godwitd", done.stderr)
        done = godwit("host", "check", "--json", "--host", f"unix://{daemon.socket}")
        error = json.loads(done.stderr)["error"]
        self.assertEqual((done.returncode, set(error)), (1, {"code", "message", "reason", "hint"}))

    def test_a_service_that_hangs_is_given_up(self):
        path = os.path.join(self.root, "sock")
        self.listener(path)
        begin = time.monotonic()
        done = godwit("host", "check", "--host", f"unix://{path}", "--timeout", "200ms")
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertLess(time.monotonic() - begin, DEADLINE_S / 2)

    def serve_once(self, answer):
        """One connection gets these bytes. Returns what godwit made of it."""
        path = os.path.join(self.root, "sock")
        server = self.listener(path)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(godwit, "host", "check", "--host", f"unix://{path}")
            server.settimeout(DEADLINE_S)
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)
            return future.result()

    def test_what_newcomers_get_wrong_is_answered(self):
        daemon = self.start().wait_ready()
        (kernel, folder, odd, other) = (pathlib.Path(self.root, name) for name in ("kernel", "folder", "odd", "debian.img"))
        kernel.touch()
        folder.mkdir()
        odd.write_bytes(b"7 bytes")
        other.write_bytes(b"QFI\xfb" + bytes((1 << 20) - 4))
        for words, status, said, hint in (
                ("vm create web --memory 1M", 1, "a VM has 32 MiB to 4 TiB, not 1 MiB", None),
                ("vm create web --memory 513M", 1, "multiple of 2 MiB", "512M and 514M"),
                ("vm create web --kernel /no/kernel", 1, "kernel: /no/kernel: No such file", "check the path"),
                (f"vm create web --kernel {kernel} --iso /no.iso", 1, "DVD: /no.iso: No such file", "check the path"),
                (f"vm create web --kernel {kernel} --disk {folder}", 1, "Is a directory", None),
                (f"vm create web --kernel {kernel} --disk /a.vhdx,size=much", 1, '--disk: size: "much"', "512M"),
                (f"vm create web --kernel {kernel} --disk /no/folder/a.vhdx,size=1G", 1, "folder /no/folder/", "make the folder"),
                ("vm create bare", 0, "it has no kernel and cannot start", "godwit vm set bare --kernel"),
                ("vm create bare", 1, "there is a VM named bare already", None),
                ("vm start bare", 1, "no kernel to boot", "godwit vm set bare --kernel"),
                ("vm set bare", 2, "what shall be changed?", "godwit vm set --help"),
                ("vm stop bare", 1, "it is off", None),
                ("vm show nobody", 1, "there is no VM named nobody", "godwit vm list"),
                ("node drain n2", 1, "runs no VMs for a cluster", "godwit cluster status"),
                ("quorum set", 2, "--witness and --force", "--help"),
                ("quorum set --witness disk", 1, "a kind and a place", "disk:DEVICE"),
                (f"disk create {self.root}/a.qcow2 --size 1G", 1, "only VHDX and raw", ".vhdx"),
                (f"disk convert {other} {self.root}/a.vhdx", 1, "begins as a qcow2 image", "qemu-img convert"),
                (f"csv create v --device {odd}", 1, "a file of 7 bytes, no disk", "/dev/disk/by-id"),
                (f"csv create v --device {folder}", 1, "no disk", "/dev/disk/by-id"),
                (f"csv create v --device {other}", 1, "a volume has 64 MiB to 256 TiB", None),
                ("job watch 7", 1, "there is no job 7", "godwit job list")):
            done = godwit("--host", f"unix://{daemon.socket}", *words.split())
            self.assertEqual((done.returncode, done.stdout), (status, ""), (words, done.stderr))
            self.assertIn(said, done.stderr, words)
            self.assertIn(hint or "", done.stderr, words)
        self.assertEqual([vm["name"] for vm in json.loads(godwit("--host", f"unix://{daemon.socket}", "vm", "list", "--json").stdout)["vms"]],
                         ["bare"])

    def interrupted(self, *words, answer=b""):
        """Ctrl-C while the service works; what it says then."""
        path = os.path.join(self.root, "sock")
        server = self.listener(path)
        server.settimeout(DEADLINE_S)
        with subprocess.Popen([BIN / "godwit", "--host", f"unix://{path}", *words], stderr=subprocess.PIPE, text=True,
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as process:
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)
                process.send_signal(signal.SIGINT)
                said = process.communicate(timeout=DEADLINE_S)[1]
        self.assertEqual(process.returncode, -signal.SIGINT)
        os.unlink(path)
        return said

    def test_who_interrupts_it_hears_what_becomes_of_the_work(self):
        said = self.interrupted("job", "watch", "7", answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.assertIn("job 7 goes on", said)
        self.assertIn("godwit job cancel 7", said)
        self.assertIn("what was to be made is not there", self.interrupted("disk", "convert", "/a.raw", "/b.vhdx"))
        self.assertEqual(self.interrupted("disk", "convert", "/a.raw", "/b.vhdx", "--quiet"), "")

    def test_lists_fit_the_terminal(self):
        daemon = self.start().wait_ready()
        host = f"unix://{daemon.socket}"
        name = "a-name-of-forty-characters-and-some-more"
        pathlib.Path(self.root, "kernel").touch()
        for words in (("vm", "create", name, "--kernel", f"{self.root}/kernel"), ("vm", "start", name)):
            godwit("--host", host, *words)
        for columns in (40, 200):
            done = self.on_terminal(columns, "--host", host, "vm", "list")
            lines = done.replace("\r\n", "\n").splitlines()
            self.assertEqual(len(lines), 2, done)
            self.assertEqual(name in lines[1], columns == 200)
            self.assertLessEqual(max(map(len, lines)), columns if columns == 200 else 60)  # not all columns may be cut
        self.assertIn(name, godwit("--host", host, "vm", "list").stdout)

    def on_terminal(self, columns, *words):
        """What a terminal of this width gets to see."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        env = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
        with subprocess.Popen([BIN / "godwit", *words], stdout=slave, env={**env, "TERM": "dumb"}) as process:
            os.close(slave)
            text = drained(master)
        self.assertEqual(process.returncode, 0)
        return text.decode()

    def test_strange_answers_do_no_harm(self):
        def http_json(body):
            return (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    % len(body)) + body
        for answer in (b"", b"SSH-2.0-x\r\n", http_json(b"{"), http_json(b"[]"), http_json(b"{}"),
                       http_json(b'{"checks": 7, "verdict": {}, "counts": []}'),
                       http_json(b'{"checks": [], "verdict": "splendid"}')):
            done = self.serve_once(answer)
            os.unlink(os.path.join(self.root, "sock"))
            self.assertEqual((done.returncode, done.stdout), (1, ""), answer)
            self.assertTrue(done.stderr.startswith("godwit: "), done.stderr)

    def test_text_from_a_service_cannot_drive_the_terminal(self):
        body = json.dumps({"verdict": "ok", "counts": {}, "checks": [
            {"id": "cpu.x", "what": "\x1b[2Jclear", "found": "a\nb", "needed": "\x9b", "verdict": "ok"}]})
        body = body.encode()
        done = self.serve_once(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
                               b"%d\r\n\r\n" % len(body) + body)
        self.assertIn("?[2Jclear", done.stdout)
        self.assertNotIn("\x1b", done.stdout)
        self.assertIn("a?b", done.stdout)

    def test_colours_only_on_a_terminal_and_not_against_the_users_will(self):
        def on_terminal(env):
            master, slave = pty.openpty()
            done = subprocess.run([BIN / "godwit", "-q", "host", "show", "--local"], stdout=slave,
                                  stderr=subprocess.PIPE, timeout=DEADLINE_S, check=True,
                                  env={"PATH": os.environ["PATH"], "TERM": "xterm", **env})
            os.close(slave)
            text = drained(master)
            self.assertEqual(done.stderr, b"")
            return text
        self.assertIn(b"\x1b[1m", on_terminal({}))
        self.assertNotIn(b"\x1b", on_terminal({"NO_COLOR": "1"}))
        self.assertNotIn(b"\x1b", on_terminal({"TERM": "dumb"}))
        self.assertNotIn("\x1b", godwit("host", "show", "--local", env={"TERM": "xterm"}).stdout)


class Words(unittest.TestCase):
    """Command lines: exit status, streams, proposals."""

    def test_wrong_words(self):
        for words, proposal in (
                ([], "godwit help"), (["hots", "check"], "godwit host check"),
                (["host"], "godwit help host"), (["host", "chekc"], "godwit host check"),
                (["check", "host"], "godwit host check"), (["host", "check", "--jsno"], "--json"),
                (["host", "check", "extra"], "--help"), (["vm", "lsit"], "godwit vm list")):
            done = godwit(*words)
            self.assertEqual((done.returncode, done.stdout), (2, ""), words)
            self.assertIn(proposal, done.stderr, words)

    def test_help_and_version(self):
        for words in (["help"], ["--help"], ["help", "host"], ["help", "host", "check"],
                      ["host", "check", "--help"]):
            done = godwit(*words)
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)
            self.assertIn("godwit", done.stdout)
        self.assertRegex(godwit("--version").stdout, r"^godwit \d+\.\d+\.\d+\n$")

    def test_output_to_a_full_disk_is_a_failure(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([BIN / "godwit", "help"], stdout=full, stderr=subprocess.PIPE,
                                  text=True, timeout=DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot write", done.stderr)

    def test_the_other_programs_say_why_they_refuse(self):
        for program, words, status, text in (
                ("godwit-vm", [], 2, "--config-fd N"),
                ("godwit-vm", ["--config-fd", "977", "--control-fd", "978"], 1, "977"),
                ("godwit-vm", ["--config-df=3"], 2, "did you mean '--config-fd'?"),
                ("godwit-csvd", ["start"], 2, "one word too many"),
                ("godwitd", ["--log-level", "loud"], 2, "err|warn|info|debug|trace"),
                ("godwitd", ["--run-dir", "relative"], 1, "absolute")):
            done = subprocess.run([BIN / program, *words], capture_output=True, text=True,
                                  timeout=DEADLINE_S, check=False)
            self.assertEqual(done.returncode, status, (program, words, done.stderr))
            self.assertIn(text, done.stderr, (program, words))

    def test_csvd_gives_its_directory_back(self):
        with tempfile.TemporaryDirectory() as root:
            pathlib.Path(root, "csvd.json").write_text("{}", encoding="utf-8")
            for _ in range(2):
                done = subprocess.run([BIN / "godwit-csvd", "--run-dir", root, "--state-dir", root],
                                      capture_output=True, text=True, timeout=DEADLINE_S, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertNotIn("another", done.stderr)
                self.assertIn("csvd.json: ", done.stderr)


HOST_DOWN = pathlib.Path(__file__).resolve().parents[2] / "deploy/systemd/host-down"


class Units(unittest.TestCase):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze")
    def test_systemd_understands_the_units(self):
        programs = {"godwitd": BIN / "godwitd", "godwit-csvd": BIN / "godwit-csvd", "godwit-drain": "/bin/true"}
        with tempfile.TemporaryDirectory() as root:
            for name, program in programs.items():
                unit = (BIN.parent / "systemd" / f"{name}.service").read_text(encoding="utf-8")
                path = pathlib.Path(root) / f"{name}.service"
                unit = re.sub(r"(?m)^ExecStart=.*$", f"ExecStart={program}", unit)
                path.write_text(re.sub(r"(?m)^ExecStop=-.*$", f"ExecStop=-{HOST_DOWN} godwit", unit), encoding="utf-8")
            for program in programs:
                path = os.path.join(root, f"{program}.service")
                done = subprocess.run(["systemd-analyze", "--man=no", "verify", path], capture_output=True,
                                      text=True, timeout=DEADLINE_S, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""), program)

    def test_a_host_that_goes_down_is_emptied(self):
        with tempfile.TemporaryDirectory() as root:
            said = pathlib.Path(root) / "said"
            for name, line in (("systemctl", 'echo "$STATE"; exit 1'), ("godwit", f'echo "$@" >{said}')):
                (pathlib.Path(root) / name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
                (pathlib.Path(root) / name).chmod(0o755)
            for state in ("running", "degraded", "stopping"):
                self.assertFalse(said.exists())
                subprocess.run([HOST_DOWN, f"{root}/godwit"], check=True, timeout=DEADLINE_S,
                               env={"PATH": f"{root}:{os.environ['PATH']}", "STATE": state})
            self.assertIn("node drain --self --shutdown", said.read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()

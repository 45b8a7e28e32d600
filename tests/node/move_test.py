#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A VM moves between two workers on one host, with a real KVM and a tiny guest; either worker dies at every step.

The test is the node service of both: it makes the workers, connects them, decides who owns the VM. The guest counts: it
checks and increments a word in each of 1024 pages, over and over, says the count on the serial port after each pass,
and '!' if a page had another value than it must. So both consoles one after the other are the count without a gap.
"""
import array
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwnet  # noqa: E402
from waiting import DEADLINE_S, wait_for  # noqa: E402

BIN = pathlib.Path(os.environ["GW_BUILD"]) / "bin"
EPOCH = 7
CODE = bytes.fromhex("be0010100031c08906bf00002000b9000400008b063907751aff0781c700"
                     "1000004975f1ff068a06243f043066baf803eeebd6b02166baf803eeebfe")


def kernel():
    """The guest as an ELF file with a PVH entry, at 1 MiB."""
    entry = 0x100000
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen", entry)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    at = 64 + 2 * 56
    segments = struct.pack("<IIQQQQQQ", 1, 0, at + len(note), 0, entry, len(CODE), len(CODE), 0)
    segments += struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(note), len(note), 0)
    fd = os.memfd_create("kernel")
    os.write(fd, head + segments + note + CODE)
    return fd


class Worker:
    """A godwit-vm and its control socket."""

    def __init__(self, root, name, definition, arriving=False):
        self.console_path = pathlib.Path(root) / f"{name}.console"
        self.end_path = pathlib.Path(root) / f"{name}.end"
        control = str(pathlib.Path(root) / f"{name}.sock")
        console = os.open(self.console_path, os.O_RDWR | os.O_CREAT, 0o600)
        end = os.open(self.end_path, os.O_RDWR | os.O_CREAT, 0o600)
        kvm = os.open("/dev/kvm", os.O_RDWR)
        boot = kernel()
        config = os.memfd_create("config")
        listen = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listen.bind(control)
        listen.listen(4)
        os.write(config, json.dumps({
            "vm": definition, "bare": True, "arriving": arriving,
            "fds": {"kvm": kvm, "kernel": boot, "initrd": -1, "console_log": console, "end": end,
                    "disks": [], "taps": []}}).encode())
        fds = (kvm, boot, console, end, config, listen.fileno())
        with open(pathlib.Path(root) / f"{name}.log", "wb") as log:
            self.process = subprocess.Popen(
                [BIN / "godwit-vm", "--config-fd", str(config), "--control-fd", str(listen.fileno())],
                pass_fds=fds, stderr=log)
        for fd in fds[:-1]:
            os.close(fd)
        listen.close()
        self.log_path = pathlib.Path(root) / f"{name}.log"
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(DEADLINE_S)
        self.control.connect(control)
        self.id = 0
        self.events = []

    def receive(self):
        data = self.control.recv(1 << 16)
        if not data:
            raise EOFError("the worker is gone: " + self.log_path.read_text())
        message = json.loads(data)
        if "event" in message:
            self.events.append(message)
        return message

    def ask(self, cmd, fd=None, **members):
        """The answer to a command: its result, or its error."""
        self.id += 1
        request = json.dumps({"id": self.id, "cmd": cmd, **members}).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
        self.control.sendmsg([request], rights)
        while True:
            message = self.receive()
            if message.get("id") == self.id:
                return message

    def do(self, cmd, fd=None, **members):
        answer = self.ask(cmd, fd, **members)
        if "error" in answer:
            raise AssertionError(f"{cmd}: {answer['error']}")
        return answer["result"]

    def event(self, name, **members):
        """The first event of this name with these members that has not been taken."""
        while True:
            for i, e in enumerate(self.events):
                if e["event"] == name and all(e.get(k) == v for k, v in members.items()):
                    return self.events.pop(i)
            self.receive()

    def console(self):
        return self.console_path.read_bytes()

    def grows(self):
        """The guest runs: it says something new."""
        before = len(self.console())
        wait_for("the guest goes on", lambda: len(self.console()) > before + 2)

    def wait(self):
        return self.process.wait(DEADLINE_S)

    def end(self):
        return json.loads(self.end_path.read_text())["end"]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.kill()
        self.control.close()


def pairs(count):
    """Connected TCP sockets over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(count):
            a = socket.create_connection(server.getsockname())
            b, _ = server.accept()
            yield a, b


class Move:
    """Two workers, and a VM that runs on the first."""

    def __init__(self, root, memory_bytes=64 << 20):
        self.definition = {
            "id": str(uuid.uuid4()), "name": "tiny", "memory_bytes": memory_bytes, "cpus": 1,
            "generation_id": str(uuid.uuid4()), "boot": {"kernel": "/kernel"}, "disks": [], "nics": []}
        self.source = Worker(root, "source", self.definition)
        self.target = Worker(root, "target", self.definition, arriving=True)
        self.move = str(uuid.uuid4())
        self.token = os.urandom(32).hex()
        self.source.do("start")
        self.source.grows()

    def begin(self, streams=2, confirm=False, tls=None, **options):
        common = {"move": self.move, "epoch": EPOCH, "token": self.token}
        common |= {"tls": tls} if tls else {"plain": True}
        self.target.do("move-receive", confirm=confirm, **common)
        for a, b in pairs(1 + streams):
            with a, b:
                self.source.do("move-socket", a.fileno())
                self.target.do("move-socket", b.fileno())
        self.source.do("move-send", epoch_next=EPOCH + 1, blackout_max_ns=20 * 10**9, **common, **options)

    def close(self):
        self.source.close()
        self.target.close()


class TestCase(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="gw-move-")
        self.addCleanup(directory.cleanup)
        self.m = Move(directory.name)
        self.addCleanup(self.m.close)

    def assert_count(self, console):
        """The count without a gap, a repetition, or a damaged page."""
        for i, byte in enumerate(console):
            self.assertEqual(chr(byte), chr(((i + 1) & 63) + 48), f"at {i} of {console[max(0, i - 40):i + 40]}")

    def assert_runs_on_source(self):
        self.m.source.grows()
        self.assertEqual(self.m.source.do("status")["state"], "running")
        self.assert_count(self.m.source.console())

    def assert_runs_on_target(self):
        self.m.target.grows()
        self.assertEqual(self.m.target.do("status")["state"], "running")
        self.assert_count(self.m.source.console() + self.m.target.console())

    def assert_target_ended(self):
        self.m.target.wait()
        self.assertEqual(self.m.target.console(), b"")


class Moves(TestCase):
    def test_the_guest_goes_on_where_it_was(self):
        m = self.m
        m.begin()
        m.source.event("move-ready")
        frozen = m.source.console()
        self.assertIn("error", m.source.ask("off"))  # only the owner's word counts now
        self.assertIn("error", m.source.ask("resume"))
        self.assertIn("error", m.source.ask("move-cancel"))
        self.assertIn("error", m.target.ask("resume"))
        m.source.do("move-commit")
        ended = m.source.event("move-ended")
        self.assertEqual(ended["outcome"], "done", ended)
        self.assertEqual(ended["result"]["epoch"], EPOCH + 1)
        self.assertGreater(ended["result"]["blackout_ns"], 0)
        self.assertEqual(m.target.event("move-ended")["outcome"], "done")
        self.assert_runs_on_target()
        self.assertEqual(m.source.console(), frozen)
        # The source never runs it again, and waits to be told that it may go.
        for cmd in ("resume", "start", "reset", "move-cancel"):
            self.assertIn("error", m.source.ask(cmd), cmd)
        self.assertTrue(m.source.do("status")["move"]["given"])
        m.source.do("off")
        self.assertEqual(m.source.wait(), 0)
        self.assertEqual(m.source.end(), "moved")
        # The destination is a worker like any other.
        m.target.do("move-take", epoch=EPOCH + 1)
        m.target.do("pause")
        m.target.do("resume")
        self.assert_runs_on_target()
        m.target.do("off")
        self.assertEqual(m.target.wait(), 0)

    def test_the_destinations_owner_is_asked_too(self):
        m = self.m
        m.begin(confirm=True)
        m.source.event("move-ready")
        m.source.do("move-commit")
        self.assertEqual(m.target.event("move-committed")["epoch"], EPOCH + 1)
        self.assertEqual(m.target.do("status")["state"], "paused")
        m.target.do("move-take", epoch=EPOCH + 1)
        self.assertEqual(m.target.event("move-ended")["outcome"], "done")
        self.assert_runs_on_target()

    def test_encrypted(self):
        tls = json.loads(subprocess.run([BIN.parent / "tests/node/pki_print", "n1"], check=True,
                                        capture_output=True).stdout)
        self.m.begin(tls=tls, peer="n1")
        self.m.source.event("move-ready")
        self.m.source.do("move-commit")
        ended = self.m.source.event("move-ended")
        self.assertEqual(ended["outcome"], "done", ended)
        self.assertTrue(ended["result"]["encrypted"])
        self.assert_runs_on_target()

    def test_a_destination_that_cannot_prove_its_name_gets_nothing(self):
        tls = json.loads(subprocess.run([BIN.parent / "tests/node/pki_print", "n1"], check=True,
                                        capture_output=True).stdout)
        self.m.begin(tls=tls, peer="n2")
        self.assertEqual(self.m.source.event("move-ended")["outcome"], "failed")
        self.assert_runs_on_source()
        self.assert_target_ended()

    def test_quick(self):
        self.m.begin(mode="quick")
        self.m.source.event("move-ready")
        self.m.source.do("move-commit")
        self.assertEqual(self.m.target.event("move-ended")["outcome"], "done")
        self.assert_runs_on_target()

    def test_a_check_changes_nothing(self):
        self.m.begin(mode="check", streams=0)
        ended = self.m.source.event("move-ended")
        self.assertEqual(ended["outcome"], "done", ended)
        self.assert_runs_on_source()
        self.assert_target_ended()
        self.assertEqual(self.m.target.end(), "not-moved")

    def test_the_owner_refuses(self):
        self.m.begin()
        self.m.source.event("move-ready")
        self.m.source.do("move-refuse", text="not today")
        self.assertEqual(self.m.source.event("move-ended")["outcome"], "failed")
        self.assert_runs_on_source()
        self.assert_target_ended()

    def test_cancelled_while_memory_is_copied(self):
        self.m.begin(bandwidth_bytes_s=1 << 20)  # it would take long
        self.m.source.event("move-progress", phase="copy")
        self.assertIn("error", self.m.source.ask("pause"))
        self.m.source.do("move-cancel")
        self.assertEqual(self.m.source.event("move-ended")["outcome"], "canceled")
        self.assert_runs_on_source()
        self.assert_target_ended()

    def test_turned_off_while_memory_is_copied(self):
        self.m.begin(bandwidth_bytes_s=1 << 20)
        self.m.source.event("move-progress", phase="copy")
        self.m.source.do("off")
        self.m.source.wait()
        self.assert_target_ended()


class Kills(TestCase):
    """What is left when a worker dies at a step: who runs the guest, or may be told to."""

    def begin_until(self, step):
        m = self.m
        if step == "copy":
            m.begin(bandwidth_bytes_s=1 << 20)
            m.source.event("move-progress", phase="copy")
            return
        m.begin(confirm=True)
        m.source.event("move-ready")
        m.target.event("move-ready")
        if step == "committed":
            m.source.do("move-commit")
            m.target.event("move-committed")

    def test_destination_dies_while_memory_is_copied(self):
        self.begin_until("copy")
        self.m.target.kill()
        self.assertEqual(self.m.source.event("move-ended")["outcome"], "failed")
        self.assert_runs_on_source()

    def test_destination_dies_when_it_is_ready(self):
        self.begin_until("ready")
        self.m.target.kill()
        self.m.source.event("move-lost")
        self.m.source.do("move-refuse")
        self.assertEqual(self.m.source.event("move-ended")["outcome"], "failed")
        self.assert_runs_on_source()

    def test_destination_dies_when_it_is_committed(self):
        self.begin_until("committed")
        frozen = self.m.source.console()
        self.m.target.kill()
        self.assertEqual(self.m.source.event("move-ended")["outcome"], "unknown")
        self.assertIn("error", self.m.source.ask("resume"))
        self.assertEqual(self.m.source.do("status")["state"], "saving")
        self.assertEqual(self.m.source.console(), frozen)

    def test_source_dies_while_memory_is_copied(self):
        self.begin_until("copy")
        self.m.source.kill()
        self.assert_target_ended()

    def test_source_dies_and_its_owner_says_that_it_kept_the_vm(self):
        self.begin_until("ready")
        self.m.source.kill()
        self.m.target.event("move-orphaned")
        self.assertEqual(self.m.target.do("status")["state"], "paused")
        self.m.target.do("move-abandon", text="kept")
        self.assert_target_ended()

    def test_source_dies_and_its_owner_says_that_it_gave_the_vm(self):
        self.begin_until("ready")
        self.m.source.kill()
        self.m.target.event("move-orphaned")
        self.m.target.do("move-take", epoch=EPOCH + 1)
        self.assertEqual(self.m.target.event("move-ended")["outcome"], "done")
        self.assert_runs_on_target()

    def test_source_dies_when_it_is_committed(self):
        self.begin_until("committed")
        self.m.source.kill()
        self.m.target.do("move-take", epoch=EPOCH + 1)
        self.assertEqual(self.m.target.event("move-ended")["outcome"], "done")
        self.assert_runs_on_target()


if __name__ == "__main__":
    gwnet.main("/dev/kvm", cluster=False)

# SPDX-License-Identifier: Apache-2.0
"""Commands in a node, over virtio-serial: the client's half of docs/formats/lab-exec.md."""
import fcntl
import os
import select
import signal
import socket
import struct
import time

from gwlab.errors import LabError

HEADER = struct.Struct("<IIB3xI")
MAGIC = 0x584C5747
PAYLOAD_MAX = 32 * 1024 - HEADER.size
PORTS = 8
FLAG_TTY = 1
# Nobody answers a hello for this long: perhaps a killed client left half a frame. Also what a busy node
# may take; asking again does no harm.
HELLO_RETRY_S = 2.0
EXIT_GONE = 255
EXIT_TIMEOUT = 124


class Timeout(LabError):
    """The time given was not enough."""

    status = EXIT_TIMEOUT


class Gone(LabError):
    """The node went away: power cut, reset or crash."""

    status = EXIT_GONE


class Frames:
    """Splits a byte stream into frames, skipping what is none."""

    def __init__(self):
        self.buf = bytearray()

    def feed(self, data):
        """Yield (session, type, payload) for each frame completed by @data."""
        self.buf += data
        magic = struct.pack("<I", MAGIC)
        while True:
            at = self.buf.find(magic)
            if at < 0:
                del self.buf[:max(0, len(self.buf) - 3)]
                return
            del self.buf[:at]
            if len(self.buf) < HEADER.size:
                return
            _, session, kind, length = HEADER.unpack_from(self.buf)
            if length > PAYLOAD_MAX:
                del self.buf[:1]
                continue
            if len(self.buf) < HEADER.size + length:
                return
            payload = bytes(self.buf[HEADER.size:HEADER.size + length])
            del self.buf[:HEADER.size + length]
            yield session, chr(kind), payload


class Channel:
    """One free port of a node, held until close()."""

    def __init__(self, node_dir, deadline=None):
        self.deadline = deadline
        self.lock = None
        self.socket = socket.socket(socket.AF_UNIX)
        self.frames = Frames()
        self.pending = []
        self.out = bytearray()
        self.session = 0
        try:
            self._take_port(node_dir)
        except BaseException:
            self.close()
            raise

    def close(self):
        """Hang up: a command that still runs is killed."""
        self.socket.close()
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def _take_port(self, node_dir):
        while True:
            for port in range(PORTS):
                try:
                    fd = os.open(node_dir / f"exec{port}.lock",
                                 os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                except OSError as e:
                    raise Gone(f"{node_dir.name}: {e.strerror}") from e
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(fd)
                    continue
                self.lock = fd
                try:
                    self.socket.connect(str(node_dir / f"exec{port}"))
                except OSError as e:
                    raise Gone(f"{node_dir.name} is off", f"lab start {node_dir.name}") from e
                self.socket.setblocking(False)
                return
            self._check_deadline("all exec ports are busy")
            time.sleep(0.05)

    def _check_deadline(self, what):
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise Timeout(f"timed out: {what}")

    def send(self, kind, payload=b""):
        """Queue a frame; pump() sends it."""
        self.out += HEADER.pack(MAGIC, self.session, ord(kind), len(payload)) + payload

    def pump(self, extra=(), wait=None):
        """Move bytes for at most @wait seconds or until something happened.

        Returns (frames of this session, ready descriptors of @extra).
        """
        if self.deadline is not None:
            left = max(0.0, self.deadline - time.monotonic())
            wait = left if wait is None else min(wait, left)
        readable, writable, _ = select.select(
            [self.socket, *extra], [self.socket] if self.out else [], [], wait)
        got = []
        if writable:
            try:
                del self.out[:self.socket.send(self.out)]
            except BlockingIOError:
                pass
            except OSError as e:
                raise Gone("the node went away") from e
        if self.socket in readable:
            try:
                data = self.socket.recv(1 << 18)
            except BlockingIOError:
                data = None
            except OSError:
                data = b""
            if data == b"":
                raise Gone("the node went away")
            for session, kind, payload in self.frames.feed(data or b""):
                if kind == "B":
                    got.append(("B", b""))
                elif session == self.session:
                    got.append((kind, payload))
        return got, [fd for fd in extra if fd in readable]

    def hello(self):
        """Begin a session; waits until the node answers. Returns the status of its set-up."""
        self.session = struct.unpack("<I", os.urandom(4))[0] | 1
        self.send("H")
        asked = time.monotonic()
        while True:
            frames, _ = self.pump(wait=HELLO_RETRY_S)
            for kind, payload in frames:
                if kind == "A":
                    return struct.unpack("<I", payload)[0]
            self._check_deadline("the node does not answer")
            booted = any(kind == "B" for kind, _ in frames)
            if booted or (not self.out and time.monotonic() - asked >= HELLO_RETRY_S):
                # The node may be starting, and reads nothing: zeros only where a frame may be cut.
                if not booted:
                    self.out += bytes(PAYLOAD_MAX)
                self.send("H")
                asked = time.monotonic()


class Command:
    """Run one command on a channel, moving its streams."""

    def __init__(self, channel, argv, stdin=None, on_stdout=None, on_stderr=None, window=None):
        self.channel = channel
        self.stdin = stdin
        self.on_stdout = on_stdout or (lambda data: None)
        self.on_stderr = on_stderr or (lambda data: None)
        self.credit = 0
        flags = FLAG_TTY if window else 0
        rows, columns = window or (0, 0)
        payload = struct.pack("<B3xHH", flags, rows, columns)
        payload += b"".join(os.fsencode(arg) + b"\0" for arg in argv)
        if len(payload) > PAYLOAD_MAX:
            raise LabError("the command line is too long", "put it into a file")
        channel.send("S", payload)
        if stdin is None:
            channel.send("E")

    def signal(self, number):
        """Send a signal to the command's process group."""
        self.channel.send("K", bytes([number]))

    def resize(self, rows, columns):
        """The terminal has another size now."""
        self.channel.send("W", struct.pack("<HH", rows, columns))

    def _read_stdin(self):
        data = os.read(self.stdin, min(self.credit, PAYLOAD_MAX))
        if data:
            self.credit -= len(data)
            self.channel.send("I", data)
        else:
            self.stdin = None
            self.channel.send("E")

    def step(self, extra=()):
        """Wait for something and do it. Returns (exit status or None, ready of @extra)."""
        channel = self.channel
        # Standard input is read only as far as it can be passed on.
        ask = [self.stdin] if self.stdin is not None and self.credit and not channel.out else []
        frames, ready = channel.pump([*ask, *extra])
        for kind, payload in frames:
            if kind == "O":
                self.on_stdout(payload)
            elif kind == "R":
                self.on_stderr(payload)
            elif kind == "C":
                self.credit += struct.unpack("<I", payload)[0]
            elif kind == "Q":
                return struct.unpack("<I", payload)[0], ready
            elif kind == "B":
                raise Gone("the node was reset")
        if self.stdin is not None and self.stdin in ready:
            self._read_stdin()
        channel._check_deadline("the command still runs")
        return None, ready

    def wait(self):
        """Until the command ends; returns its exit status."""
        while True:
            status, _ = self.step()
            if status is not None:
                return status


def shell_or_argv(words):
    """One word is a line for the shell; several are a program and its arguments."""
    return ["/bin/sh", "-c", words[0]] if len(words) == 1 else list(words)


def execute(node_dir, words, stdin=None, on_stdout=None, on_stderr=None, timeout=None):
    """Run a command in a node to its end; returns its exit status."""
    deadline = None if timeout is None else time.monotonic() + timeout
    channel = Channel(node_dir, deadline)
    try:
        channel.hello()
        return Command(channel, shell_or_argv(words), stdin, on_stdout, on_stderr).wait()
    finally:
        channel.close()


class SignalPipe:
    """Signals as bytes on a descriptor, while the context lasts."""

    def __init__(self, *signals):
        self.signals = signals
        self.old = {}

    def __enter__(self):
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.old_fd = signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        for number in self.signals:
            self.old[number] = signal.signal(number, lambda *_: None)
        return self

    def __exit__(self, *_):
        for number, handler in self.old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self.old_fd)
        os.close(self.reader)
        os.close(self.writer)

    def read(self):
        """The numbers of the signals that came."""
        try:
            return list(os.read(self.reader, 64))
        except BlockingIOError:
            return []

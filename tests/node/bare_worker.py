#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stands between godwitd and a real godwit-vm: makes the worker a bare one, and holds messages back.

godwitd starts it like a worker (--config-fd, --control-fd). It starts godwit-vm with `"bare": true` (a host without the
Hyper-V interface) and carries every message and descriptor between the two. GODWIT_SCRIPT names a directory: while a
file `hold` is there that has a message's name ("move-commit" of the service, "move-ready" of the worker), that message
and all after it in its direction wait; the name is written to `held`.
"""
import ctypes
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys

POLL_MS = 10
MESSAGE_BYTES = 65536
FDS_MAX = 4
WORKER = pathlib.Path(os.environ["GW_BUILD"]) / "bin/godwit-vm"
SCRIPT = pathlib.Path(os.environ["GODWIT_SCRIPT"])


class Way:
    """One direction of one client's messages."""

    def __init__(self, here, there):
        self.here, self.there = here, there
        self.queue = []

    def receive(self):
        """False at the end."""
        try:
            message, fds, _, _ = socket.recv_fds(self.here, MESSAGE_BYTES, FDS_MAX)
        except (ConnectionResetError, BrokenPipeError):
            return False
        if message:
            self.queue.append((message, fds))
        return bool(message)

    def carry(self, hold):
        while self.queue:
            message, fds = self.queue[0]
            said = json.loads(message)
            name = said.get("cmd") or said.get("event")
            if name is not None and name == hold:
                (SCRIPT / "held").write_text(name, encoding="utf-8")
                return
            self.queue.pop(0)
            try:
                socket.send_fds(self.there, [message], fds)
            except OSError:
                pass  # nobody listens any more: as if it had come too late
            for fd in fds:
                os.close(fd)


def hold():
    try:
        return (SCRIPT / "hold").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


class Relay:
    def __init__(self, control, path):
        self.control, self.path = control, path
        self.ways = {}
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)

    def accept(self):
        client = self.control.accept()[0]
        worker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        worker.connect(self.path)
        for here, there in ((client, worker), (worker, client)):
            self.ways[here.fileno()] = Way(here, there)
            self.poll.register(here, select.POLLIN)

    def end(self, way):
        for one in (way.here, way.there):
            self.poll.unregister(one)
            del self.ways[one.fileno()]
            one.close()

    def run(self, worker):
        while worker.poll() is None or any(way.queue for way in self.ways.values()):
            for fd, _ in self.poll.poll(POLL_MS):
                if fd == self.control.fileno():
                    self.accept()
                elif fd in self.ways and not self.ways[fd].receive():
                    way = self.ways[fd]
                    way.carry(None)  # what was said before the end was said
                    self.end(way)
            held = hold()
            for way in self.ways.values():
                way.carry(held)
        return worker.returncode


def start(config, listener, inherited):
    fd = os.memfd_create("config")
    os.write(fd, json.dumps({**config, "bare": True}).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return subprocess.Popen(
        [WORKER, "--config-fd", str(fd), "--control-fd", str(listener.fileno())],
        pass_fds=[*inherited, fd, listener.fileno()],
        preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))  # PR_SET_PDEATHSIG


def numbers(value):
    """Every descriptor in the configuration."""
    if isinstance(value, dict):
        value = [v for k, v in value.items() if k not in ("mtu_bytes", "link")]
    if isinstance(value, list):
        return [fd for one in value for fd in numbers(one)]
    return [value] if value >= 0 else []


def main():
    words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    config_fd = int(words["--config-fd"])
    config = json.loads(os.pread(config_fd, os.fstat(config_fd).st_size, 0))
    path = str(SCRIPT / f"{os.getpid()}.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(8)
    inherited = numbers(config["fds"])
    worker = start(config, listener, inherited)
    listener.close()
    for fd in inherited:
        os.close(fd)  # locks go with the worker
    sys.exit(Relay(socket.socket(fileno=int(words["--control-fd"])), path).run(worker))


if __name__ == "__main__":
    main()

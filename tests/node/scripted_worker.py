#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for godwit-vm where a test is about the node service: a worker that does what the test writes down.

godwitd starts it like a worker (--config-fd, --control-fd). GODWIT_SCRIPT names a directory: each command is appended
to NAME.log there, and a file NAME.COMMAND says what to do with it instead of answering: "hold" (no answer while the
file is there), "fail" (an error), "die" (end at once), "deaf" (hang up, and do nothing more).
"""
import json
import os
import pathlib
import select
import signal
import socket
import sys

POLL_MS = 20


class Worker:
    def __init__(self, config, control):
        self.fds = config["fds"]
        self.script = pathlib.Path(os.environ["GODWIT_SCRIPT"])
        self.name = config["vm"]["name"]
        self.saved = self.script.parent / "state" / "vm" / config["vm"]["id"] / "saved.state"
        self.control = control
        self.clients = {}
        self.held = []
        self.state = "off"

    def log(self, text):
        with open(self.script / f"{self.name}.log", "a", encoding="utf-8") as log:
            log.write(text + "\n")

    def asked(self, cmd):
        try:
            return (self.script / f"{self.name}.{cmd}").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""

    def end(self, how, text=""):
        os.pwrite(self.fds["end"], json.dumps({"end": how, "text": text}).encode(), 0)

    def answer(self, client, request, **members):
        try:
            client.send(json.dumps({"id": request["id"], **(members or {"result": {"state": self.state}})}).encode())
        except OSError:
            pass  # the service has gone

    def carry_out(self, client, request, fds):
        cmd = request["cmd"]
        if cmd in ("start", "resume"):
            self.log(f"{cmd} runs, saved state {'there' if self.saved.exists() else 'gone'}")
            self.state = "running"
        elif cmd == "pause":
            self.state = "paused"
        elif cmd == "restore":
            self.log(f"{cmd} of {os.pread(fds[0], 100, 0).decode()}")
            self.state = "paused" if request.get("paused") else "running"
        elif cmd == "save":
            os.pwrite(fds[0], f"memory of {self.name}".encode(), 0)
        elif cmd == "shutdown":
            self.end("powered-off", "the guest shut down")
        self.answer(client, request)
        if cmd in ("save", "shutdown", "off"):
            for waiting in self.held:
                self.answer(*waiting[:2])
            sys.exit(0)

    def handle(self, client, request, fds):
        todo = self.asked(request["cmd"])
        if todo == "die":
            os._exit(1)
        if todo == "deaf":
            for waiting in self.clients.values():
                waiting.close()
            self.control.close()
            signal.pause()
        if todo == "fail":
            self.answer(client, request, error={"errno": 5, "message": "as the script says", "hint": ""})
        elif todo == "hold":
            self.held.append((client, request, fds))
        else:
            self.carry_out(client, request, fds)

    def receive(self, client):
        try:
            message, fds, _, _ = socket.recv_fds(client, 65536, 4)
        except ConnectionResetError:
            return False
        if message:
            request = json.loads(message)
            self.log(request["cmd"])
            self.handle(client, request, fds)
        return bool(message)

    def run(self):
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        while True:
            for fd, _ in poll.poll(POLL_MS):
                if fd == self.control.fileno():
                    client = self.control.accept()[0]
                    self.clients[client.fileno()] = client
                    poll.register(client, select.POLLIN)
                elif not self.receive(self.clients[fd]):
                    poll.unregister(fd)
                    self.clients.pop(fd).close()
            held, self.held = self.held, []
            for waiting in held:
                if self.asked(waiting[1]["cmd"]) == "hold":
                    self.held.append(waiting)
                else:
                    self.handle(*waiting)


def main():
    words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    config_fd = int(words["--config-fd"])
    config = json.loads(os.pread(config_fd, os.fstat(config_fd).st_size, 0))
    Worker(config, socket.socket(fileno=int(words["--control-fd"]))).run()


if __name__ == "__main__":
    main()

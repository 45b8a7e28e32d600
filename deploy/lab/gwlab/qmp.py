# SPDX-License-Identifier: Apache-2.0
"""QEMU's control protocol, as much as the lab needs."""
import json
import socket

from gwlab.errors import LabError


class Qmp:
    """A connection to one QEMU. Use as a context manager."""

    def __init__(self, path, timeout=30):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(self.path)
            self.file = self.socket.makefile("rw", encoding="utf-8")
            self._read()
            self("qmp_capabilities")
        except OSError as e:
            self.socket.close()
            raise LabError(f"{path}: {e}", "the node may be off: see lab status") from e

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def _read(self):
        line = self.file.readline()
        if not line:
            raise LabError(f"{self.path}: QEMU closed the connection")
        return json.loads(line)

    def __call__(self, command, **arguments):
        """Execute @command; returns what it returns. In names `__` stands for `-`."""
        message = {"execute": command}
        if arguments:
            message["arguments"] = {k.replace("__", "-"): v for k, v in arguments.items()}
        try:
            self.file.write(json.dumps(message) + "\n")
            self.file.flush()
            while True:
                answer = self._read()
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise LabError(f"QEMU refused {command}: {answer['error']['desc']}")
        except OSError as e:
            raise LabError(f"{self.path}: {command}: {e}") from e

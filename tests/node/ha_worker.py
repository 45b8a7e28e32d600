#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A scripted worker (scripted_worker.py) that leaves traces while its guest runs: lines "time node pid" in NAME.marks.

Time is the machine's monotonic clock, the same in all namespaces, so that the traces of all workers of a VM show
whether two ever ran at the same time.
"""
import json
import os
import socket
import sys
import threading
import time

import scripted_worker

MARK_S = 0.02


class Worker(scripted_worker.Worker):
    def marks(self):
        with open(self.script / f"{self.name}.marks", "a", encoding="ascii") as marks:
            while True:
                if self.state == "running":
                    marks.write(f"{time.monotonic_ns()} n{os.environ['GW_NODE']} {os.getpid()}\n")
                    marks.flush()
                time.sleep(MARK_S)


def main():
    words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    config_fd = int(words["--config-fd"])
    config = json.loads(os.pread(config_fd, os.fstat(config_fd).st_size, 0))
    worker = Worker(config, socket.socket(fileno=int(words["--control-fd"])))
    threading.Thread(target=worker.marks, daemon=True).start()
    worker.run()


if __name__ == "__main__":
    main()

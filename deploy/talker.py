#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One TCP connection to an echo server that must never break: talker.py ADDRESS PORT RESULT.

A line there and back every 10 ms until SIGTERM. RESULT gets {"lines", "silence_ms", "silence_at", "error"} when it
ends, and {"lines"} every second before: how many came back right, and the longest time without one.
"""
import json
import os
import signal
import socket
import sys
import time

PERIOD_S = 0.01
TIMEOUT_S = 120


def write(path, result):
    with open(path + ".new", "w", encoding="utf-8") as f:
        json.dump(result, f)
    os.rename(path + ".new", path)


def main(address, port, path):
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    result = {"lines": 0, "silence_ms": 0, "silence_at": 0, "error": ""}
    try:
        with socket.create_connection((address, int(port)), timeout=TIMEOUT_S) as s:
            f = s.makefile("rw")
            last = told = time.monotonic()
            while not ended:
                line = f"{result['lines']}\n"
                f.write(line)
                f.flush()
                if f.readline() != line:
                    raise ValueError("something else came back")
                now = time.monotonic()
                if (now - last) * 1000 > result["silence_ms"]:
                    result["silence_ms"], result["silence_at"] = round((now - last) * 1000), time.time()
                result["lines"] += 1
                last = now
                if now - told > 1:
                    told = now
                    write(path, result)
                time.sleep(PERIOD_S)
    except (OSError, ValueError) as e:
        result["error"] = str(e) or type(e).__name__
    write(path, result)
    return 1 if result["error"] else 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))

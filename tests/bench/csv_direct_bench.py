#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""csv_direct_bench.py CSV_DIRECT_BENCH [SECONDS [DIR]]: godwit-csvd alone on a LUN, and csv_direct_bench on it.

The LUN and what it is compared with are two loop devices, halves of one file in DIR (/var/tmp), which they read and write
without its cache. GW_BUILD says where the programs are. Needs root, /dev/fuse and 2 GiB in DIR.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(os.environ["GW_BUILD"]) / "bin"


def main():
    bench, seconds = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "3"
    top = pathlib.Path(tempfile.mkdtemp(prefix="gwdirect", dir=sys.argv[3] if len(sys.argv) > 3 else "/var/tmp"))
    state, run, disk = top / "state", top / "run", top / "disk"
    with open(disk, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, 2 << 30)
        for _ in range(2 << 10):  # written, so that the file system below has nothing to convert
            f.write(bytes(1 << 20))
        os.fsync(f.fileno())
    lun, beside = half(disk, 0), half(disk, 1)
    try:
        on(top, state, run, lun, beside, bench, seconds)
    finally:
        for device in (lun, beside):
            subprocess.run(["losetup", "--detach", device], check=True)
        shutil.rmtree(top)


def half(disk, index):
    """A loop device on one GiB of the file."""
    return subprocess.run(["losetup", "--find", "--show", "--direct-io=on", "--sector-size", "4096", "--offset", str(index << 30),
                           "--sizelimit", str(1 << 30), disk], check=True, capture_output=True, text=True).stdout.strip()


def on(top, state, run, lun, beside, bench, seconds):
    made = subprocess.run([BIN / "godwit", "csv", "create", "vol1", "--device", lun, "--force", "--json"], check=True,
                          capture_output=True, text=True)
    with open(top / "log", "wb") as log:
        csvd = subprocess.Popen([BIN / "godwit-csvd", "--foreground", "--state-dir", state, "--run-dir", run, "--listen",
                                 "127.0.0.1", "--port", "17445"], stdout=log, stderr=log)
    try:
        socket = run / "csvd.sock"
        wait(socket.exists, csvd)
        subprocess.run([BIN / "godwit", "--host", f"unix://{socket}", "csv", "add", lun], check=True,
                       env={**os.environ, "ID": json.loads(made.stdout)["id"]})
        at = state / "csv" / "vol1"
        wait(lambda: os.path.ismount(at), csvd)
        subprocess.run([bench, at / "disk", run / "csvd-direct.sock", beside, seconds], check=True)
    finally:
        csvd.terminate()
        csvd.wait(60)


def wait(condition, process):
    end = time.monotonic() + 90
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit("godwit-csvd does not come")
        time.sleep(0.1)


if __name__ == "__main__":
    main()

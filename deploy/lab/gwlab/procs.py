# SPDX-License-Identifier: Apache-2.0
"""The lab's processes, found by their command lines: a pid file can be stale or not yet written."""
import os
import pathlib
import signal
import time

from gwlab.errors import LabError

PROGRAMS = (b"qemu-system-x86_64", b"qemu-nbd", b"nsenter", b"timeout")
TRACER = pathlib.Path(__file__).resolve().parent / "freeze.py"


def processes(directory):
    """{pid: argv} of the lab's programs whose command line names something in @directory."""
    found = {}
    inside = os.fsencode(directory) + b"/"
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        ours = os.path.basename(argv[0]) in PROGRAMS or argv[1:2] == [os.fsencode(TRACER)]
        if ours and any(inside in arg for arg in argv):
            found[int(entry.name)] = argv
    return found


def kill_processes(directory):
    """SIGKILL all of them and wait until they are gone."""
    deadline = time.monotonic() + 30
    while found := processes(directory):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if time.monotonic() > deadline:
            raise LabError(f"processes {sorted(found)} do not die")
        time.sleep(0.01)

# SPDX-License-Identifier: Apache-2.0
"""Processors of a node that stand still while all else of it goes on: its clock, its watchdog, its disks.

QMP's `stop` also stops the clock and the watchdog, which happens to no real machine. SIGSTOP to QEMU lets the clock go on, but
the watchdog is QEMU's, too. So only the threads that are processors are stopped, by a tracer (ptrace): a process that lives as
long as they stand still. When it ends, however it ends, the kernel lets them go on.

A thread may be stopped with QEMU's big lock in its hands, and then nothing of QEMU goes on. So QEMU is asked something; if it
does not answer, the threads are let go, and stopped again.
"""
import ctypes
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1])) # run as a program

from gwlab.errors import LabError # noqa: E402
from gwlab.procs import TRACER, processes # noqa: E402
from gwlab.qmp import Qmp # noqa: E402
from gwlab.run import ENV # noqa: E402

SEIZE, INTERRUPT, CONT = 0x4206, 0x4207, 7 # PTRACE_...
EVENT_STOP = 128 # PTRACE_EVENT_STOP
WALL = 0x40000000 # __WALL: threads, too
ANSWER_S = 2
ATTEMPTS = 50


def _ptrace(request, tid, data=0):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_long]
    libc.ptrace.restype = ctypes.c_long
    if libc.ptrace(request, tid, None, data) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace({request:#x}): {os.strerror(ctypes.get_errno())}")


def _processors(pid):
    """The threads of QEMU that are processors."""
    return [int(task.name) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
            if re.fullmatch(r"CPU \d+/\w+\s*", (task / "comm").read_text())]


def _answers(path):
    try:
        with Qmp(path, ANSWER_S) as qmp:
            qmp("query-version")
        return True
    except LabError:
        return False


def _stop(tid):
    """Returns the signal that it was about to take, or 0."""
    _ptrace(INTERRUPT, tid)
    _, status = os.waitpid(tid, WALL)
    if not os.WIFSTOPPED(status):
        raise LabError("QEMU has ended")
    return 0 if status >> 16 == EVENT_STOP else os.WSTOPSIG(status)


def hold(pid, path):
    """Stop the processors of QEMU @pid, whose QMP socket is @path; returns when they stand still and it answers."""
    tids = _processors(pid)
    if not tids:
        raise LabError(f"no processors in process {pid}")
    for tid in tids:
        _ptrace(SEIZE, tid)
    for _ in range(ATTEMPTS):
        taken = {tid: _stop(tid) for tid in tids}
        if _answers(path):
            return
        for tid, number in taken.items():
            _ptrace(CONT, tid, number)
        time.sleep(0.02)
    raise LabError("QEMU does not answer when they stand still")


def tracers(directory):
    """Pids of those that hold the processors of the node in @directory."""
    return [pid for pid, argv in processes(directory).items() if argv[1:2] == [os.fsencode(TRACER)]]


def freeze(node):
    """Stop a node's processors; returns when they stand still."""
    if tracers(node.dir):
        return
    # It outlives us, and says one line.
    tracer = subprocess.Popen( # pylint: disable=consider-using-with
        [sys.executable, TRACER, str(node.pid()), node.dir / "qmp"], env=ENV, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = tracer.stdout.readline().strip()
    tracer.stdout.close()
    if said != "they stand still":
        tracer.kill()
        raise LabError(f"{node.name} cannot be frozen: {said or 'its tracer ended'}")


def thaw(node):
    """Let them go on; False: they were not held."""
    found = tracers(node.dir)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    while tracers(node.dir):
        time.sleep(0.01)
    return bool(found)


if __name__ == "__main__":
    try:
        hold(int(sys.argv[1]), sys.argv[2])
    except (LabError, OSError) as e:
        sys.exit(f"{e}")
    print("they stand still", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    while True:
        signal.pause()

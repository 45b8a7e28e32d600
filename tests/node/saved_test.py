#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Saved states are used once and not lost, whenever godwitd dies. This file is also the stand-in for its workers."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from waiting import DEADLINE_S, POLL_S, wait_for  # noqa: E402

BIN = pathlib.Path(os.environ.get("GW_BUILD", "")) / "bin"
HEAD = b"GODWTST1" + bytes(4088)  # what a whole saved state begins with


# ---- the worker ----

class Worker:
    """Says what it is told, and notes it; "append" of the definition is the folder it works in."""

    def __init__(self, config):
        self.folder = pathlib.Path(config["vm"]["boot"]["append"])
        self.saved = next(iter(self.folder.glob("state/vm/*"))) / "saved.state"

    def note(self, **what):
        with open(self.folder / "notes", "a", encoding="ascii") as f:
            f.write(json.dumps({**what, "saved": self.saved.exists()}) + "\n")

    def answer(self, request, fds):
        """True if it ends now."""
        command = request["cmd"]
        self.note(cmd=command, paused=request.get("paused"))
        if command == "save":
            os.pwrite(fds[0], b"memory", 4096)
            while (self.folder / "hold").exists():
                time.sleep(POLL_S)
            os.pwrite(fds[0], HEAD, 0)
        return command in ("save", "off")


def work():
    words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    config_fd = int(words["--config-fd"])
    worker = Worker(json.loads(os.pread(config_fd, os.fstat(config_fd).st_size, 0)))
    control = socket.socket(fileno=int(words["--control-fd"]))
    while True:
        client = control.accept()[0]
        while True:
            message, fds, _, _ = socket.recv_fds(client, 65536, 4)
            if not message:
                break
            request = json.loads(message)
            over = worker.answer(request, fds)
            try:
                client.send(json.dumps({"id": request["id"], "result": {"state": "running"}}).encode())
            except OSError:
                pass  # nobody hears it
            if over:
                return


# ---- the tests ----

def kvm_usable():
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
        return True
    except OSError:
        return False


@unittest.skipUnless(kvm_usable(), "no /dev/kvm")
class Saved(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="godwit-saved-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.daemon = None
        self.start()
        self.addCleanup(self.end)
        self.godwit(f"vm create v --kernel /bin/sh --restart never --append {self.root}")
        self.folder = self.root / "state" / "vm" / json.loads(self.godwit("vm show v --json"))["id"]
        self.godwit("vm start v")

    def end(self):
        (self.root / "hold").unlink(missing_ok=True)
        self.godwit("vm stop --off v", check=False)
        self.kill()

    def start(self):
        with open(self.root / "log", "ab") as log:
            self.daemon = subprocess.Popen(
                [BIN / "godwitd", "--foreground", "--run-dir", self.root / "run", "--state-dir", self.root / "state",
                 "--worker-uid-base", "0", "--worker", __file__], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("godwitd answers", lambda: self.godwit("switch list", check=False) is not None)

    def kill(self):
        self.daemon.kill()
        self.daemon.wait()

    def godwit(self, line, check=True):
        done = subprocess.run([BIN / "godwit", *line.split()], capture_output=True, text=True, timeout=DEADLINE_S,
                              check=False, env={**os.environ, "GODWIT_HOST": f"unix://{self.root}/run/api.sock"})
        if done.returncode != 0:
            if check:
                log = (self.root / "log").read_text(encoding="utf-8")
                raise AssertionError(f"godwit {line}: {done.stdout}{done.stderr}{log}")
            return None
        return done.stdout

    def state(self):
        return re.search(r"^v +(\S+)", self.godwit("vm list"), re.M)[1]

    def file(self, name):
        return self.folder / name

    def notes(self, command):
        lines = [json.loads(line) for line in (self.root / "notes").read_text(encoding="ascii").splitlines()]
        return [n for n in lines if n["cmd"] == command]

    def save_and_hold(self):
        """A save that has begun and does not end; returns the command."""
        (self.root / "hold").touch()
        process = subprocess.Popen([BIN / "godwit", "vm", "save", "v"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL,
                                   env={**os.environ, "GODWIT_HOST": f"unix://{self.root}/run/api.sock"})
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait_for("the worker saves", lambda: self.notes("save"))

    def test_it_is_gone_before_the_vm_runs(self):
        self.godwit("vm save v")
        self.assertEqual(self.state(), "saved")
        self.assertEqual(self.file("saved.state").read_bytes()[:8], HEAD[:8])
        self.godwit("vm start v")
        self.assertEqual(self.state(), "running")
        self.assertEqual([(n["paused"], n["saved"]) for n in self.notes("restore")], [(True, True)])
        self.assertEqual([n["saved"] for n in self.notes("resume")], [False])

    def test_a_save_outlives_the_service(self):
        saving = self.file("saving.state")
        saved = self.file("saved.state")
        self.save_and_hold()
        self.kill()
        (self.root / "hold").unlink()
        wait_for("the worker has saved", lambda: saving.read_bytes()[:8] == HEAD[:8])
        self.start()
        wait_for("the VM is saved", lambda: self.state() == "saved")
        self.assertEqual((saved.exists(), saving.exists()), (True, False))
        self.godwit("vm start v")
        self.assertEqual(self.state(), "running")

    def test_a_save_that_ends_after_the_service_has_returned(self):
        self.save_and_hold()
        self.kill()
        self.start()
        (self.root / "hold").unlink()
        wait_for("the VM is saved", lambda: self.state() == "saved")

    def test_the_end_of_the_service_answers_who_waits_for_a_worker(self):
        self.save_and_hold()
        waiting = subprocess.Popen([BIN / "godwit", "vm", "list"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env={**os.environ, "GODWIT_HOST": f"unix://{self.root}/run/api.sock"})
        self.addCleanup(waiting.wait)
        self.addCleanup(waiting.kill)
        self.godwit("switch list")
        self.daemon.terminate()
        self.assertEqual(self.daemon.wait(DEADLINE_S), 0)
        waiting.wait(DEADLINE_S)

    def test_a_busy_worker_does_not_hold_up_the_list(self):
        self.save_and_hold()
        self.assertEqual(self.state(), "saving")
        (self.root / "hold").unlink()
        wait_for("the VM is saved", lambda: self.state() == "saved")

    def test_a_save_that_was_cut_short_is_none(self):
        self.save_and_hold()
        saving = self.file("saving.state")
        worker = int(next(self.root.glob("run/vm/*/worker.pid")).read_text(encoding="ascii").split()[0])
        self.kill()
        os.kill(worker, signal.SIGKILL)
        self.start()
        self.assertEqual(self.state(), "crashed")
        self.assertFalse(saving.exists())

    def test_what_is_left_of_a_vm_that_runs_is_not_used_again(self):
        stale = self.file("saved.state")
        self.kill()
        stale.write_bytes(HEAD)
        self.start()
        wait_for("the stale state is deleted", lambda: not stale.exists())
        self.assertEqual(self.state(), "running")
        self.godwit("vm stop --off v")
        self.assertEqual(self.state(), "off")


if __name__ == "__main__":
    if "--config-fd" in sys.argv:
        work()
    else:
        unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""VMs as the node service sees them: workers that die, hang or fail, and a service that is killed in the middle."""
import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwnet  # noqa: E402
from waiting import DEADLINE_S, wait_for  # noqa: E402

BIN = pathlib.Path(os.environ["GW_BUILD"]) / "bin"
WORKER = pathlib.Path(__file__).resolve().with_name("scripted_worker.py")


def lives(pid):
    """Is it a process that still does something?"""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


PTRACE_DETACH, PTRACE_SEIZE, PTRACE_O_TRACEEXIT = 17, 0x4206, 0x40


def ptrace(*words):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(*words) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


@contextlib.contextmanager
def until_killed(pid):
    """A process that, killed, does not get further than that."""
    ptrace(PTRACE_SEIZE, pid, None, PTRACE_O_TRACEEXIT)
    try:
        yield
    finally:
        os.waitpid(pid, 0)  # it has come to its end
        ptrace(PTRACE_DETACH, pid, None, None)


def killed(pid):
    """It stands where only tracing holds it."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "t"


class Case(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="godwit-manager-"))
        self.script = self.root / "script"
        self.script.mkdir()
        self.workers = set()
        self.daemon = None
        self.start()

    def tearDown(self):
        for name in self.states():
            self.workers.add(self.pid(name))
        self.kill_service()
        for pid in self.workers - {None}:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.root)

    def start(self):
        with open(self.root / "log", "ab") as log:
            self.daemon = subprocess.Popen(
                [BIN / "godwitd", "--foreground", "--run-dir", self.root / "run", "--state-dir", self.root / "state",
                 "--worker", WORKER],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "GODWIT_SCRIPT": self.script})
        wait_for("godwitd answers", lambda: self.godwit("vm", "list", check=False).returncode == 0)

    def kill_service(self):
        """As a crash would."""
        self.daemon.kill()
        self.daemon.wait(DEADLINE_S)

    def log(self):
        return (self.root / "log").read_text(encoding="utf-8", errors="replace")

    def popen(self, *words):
        return subprocess.Popen(
            [BIN / "godwit", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={"PATH": os.environ["PATH"], "GODWIT_HOST": f"unix://{self.root}/run/api.sock"})

    def godwit(self, *words, check=True):
        process = self.popen(*words)
        out, err = process.communicate(timeout=DEADLINE_S)
        if check and process.returncode != 0:
            raise AssertionError(f"godwit {words}: {process.returncode}\n{out}{err}\n{self.log()}")
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def define(self, name, *options):
        self.godwit("vm", "create", name, "--memory", "64M", "--cpus", "1", "--kernel", WORKER, *options)

    def tell(self, name, cmd, what=None):
        """From now on @name's worker does @what when it is told @cmd; None: as usual."""
        path = self.script / f"{name}.{cmd}"
        if what is None:
            path.unlink()
        else:
            new = path.with_suffix(".new")
            new.write_text(what, encoding="utf-8")
            new.rename(path)

    def told(self, name):
        """What @name's workers were told, in order."""
        path = self.script / f"{name}.log"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def states(self):
        done = self.godwit("vm", "list", "--json", check=False)
        return {vm["name"]: vm["state"] for vm in json.loads(done.stdout)["vms"]} if done.returncode == 0 else {}

    def until(self, name, state):
        wait_for(f"{name} is {state}\n{self.log()}", lambda: self.states().get(name) == state)

    def files(self, name, kind):
        """The paths of a VM's files of that name."""
        vm = json.loads(self.godwit("vm", "show", name, "--json").stdout)
        return self.root / kind / "vm" / vm["definition"]["id"]

    def pid(self, name):
        path = self.files(name, "run") / "worker.pid"
        return int(path.read_text(encoding="utf-8").split()[0]) if path.exists() else None

    def saved(self, name):
        return self.files(name, "state") / "saved.state"

    def events(self, name):
        """What happened to it: [(event, text)]."""
        text = self.godwit("event", "list", "--json").stdout
        found, at = [], 0
        while text[at:].strip():
            event, at = json.JSONDecoder().raw_decode(text, at)
            found.append(event)
            at += len(text[at:]) - len(text[at:].lstrip())
        return [(e["event"], e["text"]) for e in found if e.get("vm") == name]

    def alive(self):
        self.assertIsNone(self.daemon.poll(), self.log())


class Life(Case):
    def test_a_killed_worker_is_told_of_and_started_again(self):
        self.define("a", "--restart", "on-failure")
        self.define("b", "--restart", "never")
        for name in ("a", "b"):
            self.godwit("vm", "start", name)
        first = {name: self.pid(name) for name in ("a", "b")}
        for pid in first.values():
            os.kill(pid, signal.SIGKILL)
        self.until("b", "crashed")
        wait_for("a runs again", lambda: self.states()["a"] == "running" and self.pid("a") != first["a"])
        for name in ("a", "b"):
            self.assertIn("vm.crashed", dict(self.events(name)))
        self.assertIn("vm.restart", dict(self.events("a")))
        self.assertNotIn("vm.restart", dict(self.events("b")))
        self.assertEqual(self.states()["b"], "crashed")

    def test_a_restart_that_fails_is_tried_again(self):
        self.define("a", "--restart", "on-failure")
        self.godwit("vm", "start", "a")
        self.tell("a", "start", "die")
        os.kill(self.pid("a"), signal.SIGKILL)
        wait_for("two more attempts", lambda: self.told("a").count("start") >= 3)
        self.tell("a", "start")
        self.until("a", "running")

    def test_one_that_was_started_by_hand_is_not_restarted_once_more(self):
        for name in ("a", "b"):
            self.define(name, "--restart", "on-failure")
            self.godwit("vm", "start", name)
        pid = self.pid("b")
        os.kill(self.pid("a"), signal.SIGKILL)
        self.until("a", "crashed")
        self.godwit("vm", "start", "a")
        os.kill(pid, signal.SIGKILL)  # its restart is due later than a's was
        wait_for("b runs again", lambda: self.states()["b"] == "running" and self.pid("b") != pid)
        self.assertNotIn("vm.restart-failed", dict(self.events("a")))
        self.assertEqual(self.told("a").count("start"), 2)

    def test_a_worker_that_cannot_be_found_again_does_not_run(self):
        self.define("a")
        in_the_way = self.files("a", "run") / "worker.pid/x"
        in_the_way.mkdir(parents=True)
        done = self.godwit("vm", "start", "a", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("worker.pid", done.stderr)
        self.assertEqual(self.states(), {"a": "off"})
        self.assertNotIn("start", self.told("a"))
        in_the_way.rmdir()
        in_the_way.parent.rmdir()
        self.godwit("vm", "start", "a")
        self.until("a", "running")

    def test_a_worker_that_does_not_end_holds_up_nobody_else(self):
        """As one whose disk hangs: killed, it is there as long as it is traced."""
        for name in ("web1", "web2"):
            self.define(name)
        self.godwit("vm", "start", "web1")
        self.tell("web1", "shutdown", "deaf")
        with until_killed(self.pid("web1")):
            stop = self.popen("vm", "stop", "web1")
            wait_for("it hung up", lambda: "shutdown" in self.told("web1"))
            wait_for("it is killed", lambda: killed(self.pid("web1")))
            for _ in range(2):
                self.godwit("vm", "start", "web2")
                self.godwit("vm", "stop", "--off", "web2")
            self.assertNotIn(self.states()["web1"], ("off", "crashed"))
            for verb in ("start", "remove"):
                self.assertEqual(self.godwit("vm", verb, "web1", check=False).returncode, 1)
        self.assertNotEqual(stop.communicate(timeout=DEADLINE_S), None)
        wait_for("it has ended", lambda: self.states()["web1"] in ("off", "crashed"))
        self.tell("web1", "shutdown")
        self.godwit("vm", "start", "web1")
        self.until("web1", "running")

    def test_the_cord_during_a_start(self):
        self.define("a")
        self.tell("a", "start", "hold")
        starter = self.popen("vm", "start", "a")
        wait_for("the worker is told to start", lambda: "start" in self.told("a"))
        self.godwit("vm", "stop", "--off", "a")  # the worker answers the start, too, before it ends
        self.assertNotEqual(starter.wait(DEADLINE_S), 0)
        self.assertIn("turned off", starter.communicate()[1])
        self.assertEqual(self.states()["a"], "off")
        self.tell("a", "start")
        self.godwit("vm", "start", "a")
        self.alive()

    def test_the_cord_during_a_save(self):
        self.define("a", "--restart", "on-failure")
        self.godwit("vm", "start", "a")
        self.tell("a", "save", "hold")
        saver = self.popen("vm", "save", "a")
        wait_for("the worker is told to save", lambda: "save" in self.told("a"))
        self.godwit("vm", "stop", "--off", "a")
        self.assertNotEqual(saver.wait(DEADLINE_S), 0)
        saver.communicate()
        self.assertEqual(self.states()["a"], "off")
        self.assertEqual([p.name for p in self.files("a", "state").glob("*.state")], [])
        self.alive()

    def test_the_cord_during_a_restore_keeps_the_saved_state(self):
        self.define("a")
        self.godwit("vm", "start", "a")
        self.godwit("vm", "save", "a")
        self.tell("a", "restore", "hold")
        starter = self.popen("vm", "start", "a")
        wait_for("the worker is told to restore", lambda: "restore" in self.told("a"))
        self.godwit("vm", "stop", "--off", "a")
        self.assertNotEqual(starter.wait(DEADLINE_S), 0)
        starter.communicate()
        self.alive()
        self.until("a", "saved")
        self.assertTrue(self.saved("a").exists())

    def test_a_save_that_fails_leaves_it_as_it_was(self):
        self.define("a")
        self.godwit("vm", "start", "a")
        self.tell("a", "save", "fail")
        done = self.godwit("vm", "save", "a", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("as the script says", done.stderr)
        self.assertEqual(self.states()["a"], "running")
        self.assertFalse((self.files("a", "state") / "saving.state").exists())
        self.godwit("vm", "pause", "a")
        self.assertNotEqual(self.godwit("vm", "save", "a", check=False).returncode, 0)
        self.assertEqual(self.states()["a"], "paused")

    def test_a_restored_guest_runs_when_its_state_is_gone(self):
        self.define("a")
        self.godwit("vm", "start", "a")
        self.godwit("vm", "save", "a")
        self.assertEqual(self.states()["a"], "saved")
        self.godwit("vm", "start", "a")
        self.assertEqual(self.states()["a"], "running")
        self.assertIn("restore of memory of a", self.told("a"))
        self.assertIn("resume runs, saved state gone", self.told("a"))

    def test_a_restore_that_fails_keeps_the_saved_state(self):
        self.define("a", "--restart", "always")
        self.godwit("vm", "start", "a")
        self.godwit("vm", "save", "a")
        for how in ("fail", "die"):
            self.tell("a", "restore", how)
            self.assertNotEqual(self.godwit("vm", "start", "a", check=False).returncode, 0)
            self.until("a", "saved")
            self.tell("a", "restore")
        self.godwit("vm", "start", "a")
        self.assertEqual(self.states()["a"], "running")


class ServiceKilled(Case):
    def test_workers_live_on_and_are_found_again(self):
        for name in ("a", "b"):
            self.define(name)
            self.godwit("vm", "start", name)
        self.godwit("vm", "pause", "b")
        pids = {name: self.pid(name) for name in ("a", "b")}
        self.workers |= set(pids.values())
        self.kill_service()
        self.assertTrue(all(lives(pid) for pid in pids.values()))
        self.start()
        self.until("b", "paused")
        self.assertEqual(self.states()["a"], "running")
        self.assertEqual({name: self.pid(name) for name in ("a", "b")}, pids)
        self.godwit("vm", "resume", "b")
        for name in ("a", "b"):
            self.godwit("vm", "stop", "--off", name)
            self.assertFalse(lives(pids[name]))

    def test_what_died_meanwhile_has_crashed(self):
        self.define("a", "--restart", "never")
        self.godwit("vm", "start", "a")
        pid = self.pid("a")
        self.kill_service()
        os.kill(pid, signal.SIGKILL)
        wait_for("it is gone", lambda: not lives(pid))
        self.start()
        self.assertEqual(self.states()["a"], "crashed")

    def restore_held(self):
        """A restore that the service does not live to see the end of. Returns the worker's pid."""
        self.define("a")
        self.godwit("vm", "start", "a")
        self.godwit("vm", "save", "a")
        self.tell("a", "restore", "hold")
        starter = self.popen("vm", "start", "a")
        wait_for("the worker is told to restore", lambda: "restore" in self.told("a"))
        pid = self.pid("a")
        self.workers.add(pid)
        self.kill_service()
        starter.communicate(timeout=DEADLINE_S)
        return pid

    def test_during_a_restore_the_saved_state_counts(self):
        pid = self.restore_held()
        self.start()
        self.until("a", "saved")
        self.assertFalse(lives(pid))
        self.tell("a", "restore")
        self.godwit("vm", "start", "a")
        self.assertEqual(self.states()["a"], "running")
        self.assertEqual([line for line in self.told("a") if "there" in line], [])

    def test_between_restore_and_resume_the_worker_counts(self):
        pid = self.restore_held()
        self.tell("a", "restore")
        wait_for("it has restored", lambda: "restore of memory of a" in self.told("a"))
        self.start()
        self.until("a", "paused")
        self.assertFalse(self.saved("a").exists())
        self.godwit("vm", "resume", "a")
        self.assertEqual((self.states()["a"], self.pid("a")), ("running", pid))


if __name__ == "__main__":
    gwnet.main("/dev/kvm", cluster=False)

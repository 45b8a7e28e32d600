#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`godwit vm move` between two node services with real workers and a tiny guest; whatever dies at whatever step.

Two godwitd in network namespaces of their own. The guest counts on its serial port (see move_test.py): both consoles, one
after the other, are the count without a gap. Between each service and its workers stands bare_worker.py, which can hold a
message back: so a step is where the move stands still, not a guess of when it might be there.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest
import uuid

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parents[1] / "lib"))
import gwnet  # noqa: E402
import move_test  # noqa: E402
from move_test import BIN  # noqa: E402
from waiting import wait_for  # noqa: E402

COMMAND_S = 120
SILENCE_S = 15  # longer than a peer may be silent
ABLE = ("running", "paused", "off", "saved", "crashed", "starting")  # it runs there, or can be started there

# Where a move can stand still: (name, which side's worker waits, for which message).
STEPS = (
    ("prepared", "n1", "move-send"),       # the destination waits for the copy
    ("copying", None, None),               # as long as the bandwidth makes it
    ("ready", "n1", "move-ready"),         # all is there, the source's service has not heard
    ("decided", "n1", "move-commit"),      # written down at the source, its worker has not heard
    ("committed", "n2", "move-committed"),  # the guest runs there, that service has not heard
    ("taken", "n2", "move-take"),          # written down at the destination, its worker has not heard
    ("reported", "n1", "move-ended"),      # all is done, the source's service has not heard
)
VICTIMS = ("worker n1", "worker n2", "godwitd n1", "godwitd n2", "network")
GIVEN = ("decided", "committed", "taken", "reported")  # from here on the destination owns the VM


PEER = """
import http.client, json, ssl, sys
folder, addr = sys.argv[1:]
ctx = ssl.create_default_context(cafile=folder + "/ca.pem")
ctx.check_hostname = False
ctx.load_cert_chain(folder + "/node.pem", folder + "/node.key")
conn = http.client.HTTPSConnection(addr, 7443, context=ctx, timeout=60)
for line in sys.stdin:
    method, path, body = json.loads(line)
    conn.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"} if body else {})
    answer = conn.getresponse()
    print(json.dumps([answer.status, answer.read().decode()]), flush=True)
"""


class Host:
    """A godwitd in a namespace."""

    def __init__(self, node, address):
        self.node, self.address, self.name = node, address, node.name
        self.script = node.dir / "script"
        self.script.mkdir()
        self.service = None
        self.start()

    def start(self):
        self.service = self.node.spawn(
            "env", f"GODWIT_SCRIPT={self.script}", BIN / "godwitd", "--foreground", "--state-dir", self.node.dir / "state",
            "--run-dir", self.node.dir / "run", "--worker", HERE.with_name("bare_worker.py"), log="godwitd.log")
        wait_for(f"godwitd answers on {self.name}", lambda: self.godwit("vm", "list").returncode == 0, self.log)

    def kill_service(self):
        self.service.signal(signal.SIGKILL)
        self.service.wait(30)

    def log(self):
        path = self.node.dir / "godwitd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def popen(self, *words):
        return subprocess.Popen([BIN / "godwit", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env={**os.environ, "GODWIT_HOST": f"unix://{self.node.dir}/run/api.sock"})

    def godwit(self, *words):
        process = self.popen(*words)
        out, err = process.communicate(timeout=COMMAND_S)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def ok(self, *words):
        done = self.godwit(*words)
        if done.returncode != 0:
            raise AssertionError(f"{self.name}: godwit {words}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}")
        return done.stdout

    def states(self):
        """{name: state}, or None if the service does not answer."""
        done = self.godwit("vm", "list", "--json")
        return {vm["name"]: vm["state"] for vm in json.loads(done.stdout)["vms"]} if done.returncode == 0 else None

    def console(self, vm_id):
        path = self.node.dir / "state/vm" / vm_id / "console.log"
        return path.read_bytes() if path.exists() else b""

    def hold(self, message):
        (self.script / "held").unlink(missing_ok=True)
        (self.script / "hold").write_text(message, encoding="utf-8")

    def held(self):
        return (self.script / "held").exists()

    def release(self):
        (self.script / "hold").unlink(missing_ok=True)

    def kill_worker(self, gone_is_fine):
        worker = self.node.find("godwit-vm")
        if worker is None and gone_is_fine:
            return
        worker = worker or wait_for("there is a worker", lambda: self.node.find("godwit-vm"), self.log)
        worker.signal(signal.SIGKILL)
        worker.wait(30)
        worker.close()


class Pair(unittest.TestCase):
    def setUp(self):
        self.cluster = gwnet.Cluster(nodes=2, links=1)
        self.addCleanup(self.cluster.destroy)
        self.n1, self.n2 = (Host(node, self.cluster.config.address(node.number, 0)) for node in self.cluster.nodes())
        self.hosts = {"n1": self.n1, "n2": self.n2}
        self.n1.ok("cert", "init", "n1")
        bundle = self.n1.node.dir / "n2.cert"
        self.n1.ok("cert", "issue", "n2", "--out", bundle)
        self.n2.ok("cert", "install", bundle)
        self.kernel = self.cluster.dir / "kernel"
        fd = move_test.kernel()
        self.kernel.write_bytes(os.pread(fd, os.fstat(fd).st_size, 0))
        os.close(fd)

    def define(self, host, name="tiny", memory="64M", disks=()):
        """A VM that counts; its id."""
        host.ok("vm", "create", name, "--memory", memory, "--cpus", "1", "--kernel", self.kernel, "--restart", "never",
                *(word for disk in disks for word in ("--disk", disk)))
        host.ok("vm", "start", name)
        vm_id = json.loads(host.ok("vm", "show", name, "--json"))["definition"]["id"]
        self.grows(host, vm_id)
        return vm_id

    def grows(self, host, vm_id):
        before = len(host.console(vm_id))
        wait_for("the guest goes on", lambda: len(host.console(vm_id)) > before + 2, self.logs)

    def move_words(self, there, name="tiny", *options):
        return ("vm", "move", name, "--to", there.name, "--addr", there.address, "--max-blackout", "20s", *options)

    def assert_count(self, console):
        for i, byte in enumerate(console):
            self.assertEqual(chr(byte), chr(((i + 1) & 63) + 48), f"at {i} of {console[max(0, i - 40):i + 40]}")

    def logs(self):
        return f"n1:\n{self.n1.log()[-6000:]}\nn2:\n{self.n2.log()[-6000:]}"


class Moves(Pair):
    def test_a_vm_moves_there_and_back(self):
        vm_id = self.define(self.n1)
        for here, there in ((self.n1, self.n2), (self.n2, self.n1), (self.n1, self.n2)):
            job = json.loads(here.ok(*self.move_words(there), "--json").splitlines()[-1])
            self.assertEqual(job["state"], "done", job)
            self.assertGreater(job["result"]["blackout_ns"], 0)
            self.assertTrue(job["result"]["encrypted"])
            self.assertLessEqual(job["result"]["clock_ns"], 0)  # one machine, one clock: only the way back
            self.assertEqual(there.states(), {"tiny": "running"})
            wait_for("it is forgotten", lambda h=here: h.states() == {})
            self.grows(there, vm_id)
        self.n2.ok("vm", "stop", "--off", "tiny")

    def test_the_count_goes_on(self):
        vm_id = self.define(self.n1)
        keep = os.open(self.n1.node.dir / "state/vm" / vm_id / "console.log", os.O_RDONLY)
        self.addCleanup(os.close, keep)  # what is forgotten is removed
        self.n1.ok(*self.move_words(self.n2))
        self.grows(self.n2, vm_id)
        here = os.pread(keep, 1 << 24, 0)
        self.assert_count(here + self.n2.console(vm_id))

    def test_quick_and_plain(self):
        vm_id = self.define(self.n1)
        job = json.loads(self.n1.ok(*self.move_words(self.n2, "tiny", "--quick", "--plain"), "--json").splitlines()[-1])
        self.assertFalse(job["result"]["encrypted"])
        self.grows(self.n2, vm_id)

    def test_a_check_says_everything_and_changes_nothing(self):
        vm_id = self.define(self.n1)
        self.n1.ok(*self.move_words(self.n2, "tiny", "--check"))
        self.n2.ok("vm", "create", "tiny", "--memory", "64M", "--cpus", "1", "--kernel", self.kernel)
        self.kernel.rename(self.kernel.with_name("elsewhere"))
        done = self.n1.godwit(*self.move_words(self.n2, "tiny", "--check"))
        self.assertEqual(done.returncode, 1, done.stdout)
        for said in ("another VM named tiny", str(self.kernel), "2 things are missing"):
            self.assertIn(said, done.stdout + done.stderr)
        done = self.n1.godwit(*self.move_words(self.n2))
        self.assertEqual(done.returncode, 1)
        self.assertIn("another VM named tiny", done.stderr)
        self.grows(self.n1, vm_id)
        self.assertEqual(self.n2.states(), {"tiny": "off"})

    def test_disks_that_both_see_move_along(self):
        shared = self.cluster.dir / "shared"
        shared.mkdir()
        disks = [shared / "child.vhdx", shared / "data.raw"]
        self.n1.ok("disk", "create", shared / "parent.vhdx", "--size", "16M")
        self.n1.ok("disk", "create", disks[0], "--parent", shared / "parent.vhdx")
        self.n1.ok("disk", "create", disks[1], "--size", "1M", "--format", "raw")
        vm_id = self.define(self.n1, disks=disks)
        for here, there in ((self.n1, self.n2), (self.n2, self.n1)):
            here.ok(*self.move_words(there))
            self.grows(there, vm_id)
            self.assertEqual(sorted(p.name for p in shared.iterdir()), ["child.vhdx", "data.raw", "parent.vhdx"])

    def test_a_disk_of_the_same_name_is_not_the_same_disk(self):
        """/dev/shm is a node's own: there, too, is a disk of that name."""
        for host in (self.n1, self.n2):
            host.node.run("truncate", "-s", "1M", "/dev/shm/disk.raw")
        vm_id = self.define(self.n1, disks=["/dev/shm/disk.raw"])
        for more in ((), ("--check",)):
            done = self.n1.godwit(*self.move_words(self.n2), *more)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("this node's own, not the source's", done.stdout + done.stderr)
            self.assertIn("storage that both nodes share", done.stdout + done.stderr)
        self.assertEqual(self.n2.states(), {})
        self.grows(self.n1, vm_id)
        self.assertEqual(self.n1.node.run("find", "/dev/shm", "-name", ".godwit*").stdout, "")

    def test_what_makes_no_sense_is_refused(self):
        self.define(self.n1)
        for words, why in ((("--to", "n1"), "is on n1 already"), (("--to", "a b"), "no node's name"),
                           (("--to", "n2", "--addr", "10.77.0.99"), "10.77.0.99"),
                           (("--to", "n9", "--addr", self.n2.address), "n9"),
                           (("--to", "n2", "--transport", "rdma"), "RDMA are not in this version yet"),
                           (("--to", "n2", "--transport", "smb"), "SMB are not in this version yet"),
                           (("--to", "n2", "--storage", "/elsewhere"), "not in this version yet")):
            done = self.n1.godwit("vm", "move", "tiny", *words)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn(why, done.stderr)
        self.assertIn("no VM named x", self.n1.godwit("vm", "move", "x", "--to", "n2").stderr)
        self.assertEqual(self.n1.states(), {"tiny": "running"})

    def test_a_vm_that_is_removed_there_before_its_source_has_heard(self):
        """It was there, and the source does not have it any more: also when it cannot be found there now."""
        self.define(self.n1)
        self.n1.hold("move-ended")
        move = self.n1.popen(*self.move_words(self.n2, "tiny", "--transport", "tcp"))
        wait_for("the source has not heard", self.n1.held, self.logs)
        wait_for("it runs there", lambda: self.n2.states() == {"tiny": "running"}, self.logs)
        self.n2.ok("vm", "stop", "--off", "tiny")
        self.n2.ok("vm", "remove", "tiny")
        self.n2.kill_service()
        self.n2.start()
        self.assertEqual(self.n1.states(), {"tiny": "moved"})
        self.n1.release()
        out, err = move.communicate(timeout=COMMAND_S)
        self.assertEqual(move.returncode, 0, out + err)
        self.assertEqual((self.n1.states(), self.n2.states()), ({}, {}))

    def test_a_service_that_hears_too_late_keeps_the_vm(self):
        """All is there, but with a yes it would have stood still for longer than it may."""
        vm_id = self.define(self.n1)
        self.n1.hold("move-ready")
        move = self.n1.popen(*self.move_words(self.n2)[:-1], "5s")
        wait_for("all is there", self.n1.held, self.logs)
        held = time.monotonic()
        wait_for("the limit is over", lambda: time.monotonic() > held + 5)
        self.n1.release()
        out, err = move.communicate(timeout=COMMAND_S)
        self.assertEqual(move.returncode, 1, out + err)
        self.assertIn("too late", err)
        self.grows(self.n1, vm_id)
        self.assert_count(self.n1.console(vm_id))
        wait_for("it is gone there", lambda: self.n2.states() == {})

    def test_cancelled(self):
        vm_id = self.define(self.n1)
        move = self.n1.popen(*self.move_words(self.n2, "tiny", "--bandwidth", "1M"))
        wait_for("it is being copied", lambda: (self.n2.states() or {}).get("tiny") == "arriving")
        job = json.loads(self.n1.ok("job", "list", "--json"))["jobs"][-1]["id"]
        began = time.monotonic()
        self.n1.ok("job", "cancel", job)
        _, said = move.communicate(timeout=COMMAND_S)
        print(f"cancelled in {time.monotonic() - began:.1f} s", file=sys.stderr)
        self.assertEqual(move.returncode, 1, said)
        self.assertIn("cancel", said)
        wait_for("it is gone there", lambda: self.n2.states() == {})
        self.grows(self.n1, vm_id)
        self.n1.ok(*self.move_words(self.n2))
        self.grows(self.n2, vm_id)

    def test_a_guest_that_writes_faster_than_it_can_be_copied_stays(self):
        """It rewrites 4 MiB over and over; at 4 MB/s, with a pause of 50 ms, that cannot be moved, slowed down or not."""
        vm_id = self.define(self.n1)
        move = self.n1.popen("vm", "move", "tiny", "--to", "n2", "--addr", self.n2.address, "--max-blackout", "50ms",
                             "--bandwidth", "4M", "--json")
        out, err = move.communicate(timeout=COMMAND_S)
        self.assertEqual(move.returncode, 1, out + err)
        job = json.loads(out.splitlines()[-1])
        self.assertEqual(job["state"], "failed")
        self.assertRegex(job["error"]["message"], "converge|blackout|limit")
        self.assertEqual(job["result"]["stops"], 0)
        print(f"given up after {job['result']['total_ns'] / 1e9:.0f} s: {job['error']['message']}", file=sys.stderr)
        self.grows(self.n1, vm_id)
        wait_for("it is gone there", lambda: self.n2.states() == {})
        self.assert_count(self.n1.console(vm_id))

    def test_several_both_ways_at_once_wait_for_one_another(self):
        names = {f"a{i}": self.n1 for i in range(3)} | {f"b{i}": self.n2 for i in range(3)}
        ids = {name: self.define(host, name, "64M") for name, host in names.items()}
        moves = [host.popen(*self.move_words(self.n2 if host is self.n1 else self.n1, name))
                 for name, host in names.items()]
        for move in moves:
            out, err = move.communicate(timeout=COMMAND_S)
            self.assertEqual(move.returncode, 0, f"{out}{err}\n{self.logs()}")
        for name, host in names.items():
            there = self.n2 if host is self.n1 else self.n1
            self.assertEqual(there.states()[name], "running")
            self.grows(there, ids[name])


    def test_more_than_may_arrive_at_once_wait(self):
        """Four that another node has announced, and does not send; then a real one, which comes when one of them is taken back."""
        vm_id = self.define(self.n1)
        definition = json.loads(self.n1.ok("vm", "show", "tiny", "--json"))["definition"]
        peer = self.n1.node.popen(sys.executable, "-c", PEER, str(self.n1.node.dir / "state/cert"), self.n2.address,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(peer.communicate)

        def ask(method, path, body=None):
            peer.stdin.write(json.dumps([method, path, body]) + "\n")
            peer.stdin.flush()
            return json.loads(peer.stdout.readline())

        def announce(i):
            return ask("POST", "/v1/arrivals", {"move": str(uuid.UUID(int=i + 1)), "epoch": 1, "plain": True, "port": 7443, "definition": {
                **definition, "name": f"crowd{i}", "id": str(uuid.uuid4())}})

        for i in range(4):
            status, said = announce(i)
            self.assertEqual(status, 201, said)
        status, said = announce(4)
        self.assertEqual(status, 503, said)
        self.assertIn("4 VMs are arriving already", said)
        move = self.n1.popen(*self.move_words(self.n2))
        # It is asked for again and again, and refused; nothing else makes it wait.
        wait_for("it waits", lambda: json.loads(self.n1.ok("job", "list", "--json"))["jobs"], self.logs)
        with self.assertRaises(subprocess.TimeoutExpired):
            move.communicate(timeout=2)
        self.assertEqual(sorted(self.n2.states()), [f"crowd{i}" for i in range(4)])
        self.grows(self.n1, vm_id)
        self.assertEqual(ask("DELETE", f"/v1/arrivals/{uuid.UUID(int=3)}")[0], 204)
        out, err = move.communicate(timeout=COMMAND_S)
        self.assertEqual(move.returncode, 0, f"{out}{err}\n{self.logs()}")
        self.assertEqual(self.n2.states()["tiny"], "running")
        self.grows(self.n2, vm_id)


class Matrix(Pair):
    """One cell: the move stands still at a step, something dies, all goes on; then one node has the VM."""

    steps = STEPS

    def owner(self, name):
        """The host that has it, once only one has and can run it."""
        states = {host: (host.states() or {"?": "?"}).get(name) for host in self.hosts.values()}
        have = [host for host, state in states.items() if state is not None]
        return have[0] if len(have) == 1 and states[have[0]] in ABLE else None

    def assert_not_twice(self, name):
        states = [(host.states() or {}).get(name) for host in self.hosts.values()]
        self.assertLessEqual(sum(state in ABLE for state in states), 1, f"{states}\n{self.logs()}")

    def begin(self, step, side, message, name):
        if message is not None:
            self.hosts[side].hold(message)
        slow = ("--bandwidth", "1M") if step == "copying" else ()
        move = self.n1.popen(*self.move_words(self.n2, name, *slow))
        if message is not None:
            wait_for(f"it stands still at {step}", self.hosts[side].held, self.logs)
        else:
            wait_for("it is being copied", lambda: '"copy"' in self.n1.ok("job", "list", "--json"))
        return move

    def strike(self, victim, step):
        what, _, where = victim.partition(" ")
        if what == "network":
            self.n2.node.cut()
        elif what == "worker":
            # Once the destination has the VM, the source's worker ends by itself, sooner or later than this.
            self.hosts[where].kill_worker(gone_is_fine=where == "n1" and step in GIVEN)
        else:
            self.hosts[where].kill_service()

    def mend(self, victim):
        if victim == "network":
            self.n2.node.heal()
        elif victim.startswith("godwitd"):
            self.hosts[victim.split()[1]].start()

    @staticmethod
    def until_over(move):
        """The source has noticed that nobody answers. Where the word was given meanwhile it never is."""
        try:
            move.wait(SILENCE_S)
        except subprocess.TimeoutExpired:
            pass

    def cell(self, step, side, message, victim):
        name = f"{step}-{victim.replace(' ', '-')}"
        vm_id = self.define(self.n1, name)
        log = os.open(self.n1.node.dir / "state/vm" / vm_id / "console.log", os.O_RDONLY)
        try:
            move = self.begin(step, side, message, name)
            self.strike(victim, step)
            self.assert_not_twice(name)
            for host in self.hosts.values():
                host.release()
            self.assert_not_twice(name)
            if victim == "network" and step not in GIVEN:
                self.until_over(move)
            self.mend(victim)
            owner = wait_for(f"one node has {name}", lambda: self.owner(name), self.logs)
            move.communicate(timeout=COMMAND_S)
            self.assert_not_twice(name)
            if step in GIVEN:
                self.assertIs(owner, self.n2, self.logs())
            elif step != "ready" and victim != "godwitd n2":  # it can get there without that one
                self.assertIs(owner, self.n1, self.logs())
            return f"{owner.name} {self.life(owner, name, vm_id, os.pread(log, 1 << 24, 0))}"
        finally:
            os.close(log)

    def life(self, owner, name, vm_id, said_here):
        """It counts on, or can be started."""
        state = wait_for("it has settled", lambda: (s := owner.states()[name]) != "starting" and s)
        if state == "running":
            self.grows(owner, vm_id)
            if owner is self.n1:
                self.assert_count(owner.console(vm_id))
            else:
                self.assert_count(said_here + owner.console(vm_id))
            text = "runs on"
        else:
            self.assertEqual(state, "crashed", self.logs())
            owner.ok("vm", "start", name)
            self.grows(owner, vm_id)
            text = "starts again"
        owner.ok("vm", "stop", "--off", name)
        owner.ok("vm", "remove", name)
        return text

    def test_every_step(self):
        rows = []
        for step, side, message in self.steps:
            cells = []
            for victim in VICTIMS:
                with self.subTest(step=step, victim=victim):
                    cells.append("failed")
                    cells[-1] = self.cell(step, side, message, victim)
            rows.append((step, *cells))
        head = ("step", *VICTIMS)
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        for row in (head, *rows):
            print("  ".join(text.ljust(width) for text, width in zip(row, widths)), file=sys.stderr)


class MatrixBefore(Matrix):
    """The steps at which the source owns it."""

    steps = tuple(step for step in STEPS if step[0] not in GIVEN)


class MatrixAfter(Matrix):
    """The steps at which the destination owns it."""

    steps = tuple(step for step in STEPS if step[0] in GIVEN)


if __name__ == "__main__":
    gwnet.main("/dev/kvm")

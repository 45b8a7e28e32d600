#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The cluster database on three real corosyncs: views, commits, loss of a node, a split.

One cluster for all tests, in order; each leaves three working members behind.
"""
import contextlib
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwnet  # noqa: E402

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else ""
WAIT_S = 40.0


class Member:
    """One cluster_db_node in a node of the cluster; lines out, lines in."""

    def __init__(self, node, state, nodes=3):
        self.number = node.number
        argv = [PROGRAM, str(state / f"n{node.number}.db"), str(node.number), str(nodes)]
        self.log = open(state / f"n{node.number}.log", "a", encoding="utf-8")
        self.proc = node.popen(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
                               bufsize=1)
        self.lines = queue.Queue()
        self.seen = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.proc.stdout:
            self.lines.put(line.rstrip("\n"))

    def say(self, line):
        self.proc.stdin.write(line + "\n")

    def hear(self, prefix, deadline_s=WAIT_S):
        """The rest of the next line that begins with prefix; others are passed over."""
        end = time.monotonic() + deadline_s
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise gwnet.Timeout(f"n{self.number}: no '{prefix}' within {deadline_s:g} s; saw {self.seen[-8:]}")
            try:
                line = self.lines.get(timeout=left)
            except queue.Empty:
                continue
            self.seen.append(line)
            if line.startswith(prefix + " "):
                return line[len(prefix) + 1:]

    def ask(self, line, prefix=None):
        self.say(line)
        return self.hear(prefix or " ".join(line.split()[:2]))

    def status(self):
        """As a dict."""
        text = self.ask("status", "status")
        return {"state": text.split()[0], **dict(w.split("=") for w in text.split()[1:])}

    def put(self, key, text):
        """Until it is done; what a client does whose proposal was refused during a change of views."""
        end = time.monotonic() + WAIT_S
        while True:
            answer = self.ask(f"put {key} {text}")
            if re.match(r"0 \d+$", answer):
                return int(answer.split()[1])
            if time.monotonic() > end:
                raise gwnet.Timeout(f"n{self.number}: put {key}: {answer}")
            time.sleep(0.05)

    def wait(self, want, what):
        """Waits for a status that want(dict) accepts."""
        return gwnet.wait_for(lambda: (s := self.status()) and want(s) and s, WAIT_S, f"n{self.number}: {what}")

    def active(self, votes):
        return self.wait(lambda s: s["state"] == "active" and s["votes"] == str(votes), f"active, {votes} votes")

    def kill(self):
        """SIGKILL."""
        self.proc.kill()
        self.proc.wait()
        self.close()

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.proc.stdin.close()
        self.proc.wait(20)
        self.reader.join(10)  # until the program itself is gone, not only what started it
        self.proc.stdout.close()
        self.log.close()


class ClusterDb(unittest.TestCase):
    """Tests run in the order of their names."""

    @classmethod
    def setUpClass(cls):
        cls.state = pathlib.Path(tempfile.mkdtemp(prefix="gwdb"))
        cls.cluster = gwnet.Cluster(nodes=3, crypto=True)
        cls.cluster.start()
        cls.members = {n: Member(cls.cluster.node(n), cls.state) for n in (1, 2, 3)}

    @classmethod
    def tearDownClass(cls):
        for member in cls.members.values():
            member.kill()
        cls.cluster.destroy()
        if os.environ.get("GW_KEEP"):
            print(f"kept: {cls.state}", file=sys.stderr)
        else:
            shutil.rmtree(cls.state)

    def all_equal(self):
        """All members have applied the same log and have the same objects."""
        def same():
            seen = [m.status() for m in self.members.values()]
            return len({(s["applied"], s["hash"], s["objects"]) for s in seen}) == 1 and seen[0]
        return gwnet.wait_for(same, WAIT_S, "all members have the same database")

    def test_1_three_members_form_a_view_and_commit(self):
        epochs = {m.active(3)["epoch"] for m in self.members.values()}
        self.assertEqual(len(epochs), 1)
        for n, member in self.members.items():
            member.put(f"vm{n}", f"from {n}")
        for member in self.members.values():
            for n in self.members:
                self.assertEqual(member.ask(f"get vm{n}"), f"from {n}")
        self.assertEqual(self.all_equal()["stale"], "0")

    def test_2_a_killed_member_comes_back_with_everything(self):
        self.members[1].kill()  # the leader
        for n in (2, 3):
            self.members[n].active(2)
        for i in range(20):
            self.members[2].put(f"while{i}", "gone")
        self.members[1] = Member(self.cluster.node(1), self.state)
        self.members[1].active(3)
        self.assertEqual(self.members[1].ask("get while19"), "gone")
        self.assertEqual(self.members[1].ask("get vm1"), "from 1")
        self.all_equal()

    def test_3_a_new_disk_gets_the_whole_state(self):
        self.members[3].kill()
        for path in self.state.glob("n3.db*"):
            path.unlink()
        self.members[1].active(2)
        for i in range(300):
            self.members[1].say(f"put many{i} {'x' * 2000}")
            if i % 50 == 49:  # of 64 at a time
                for _ in range(50):
                    self.assertRegex(self.members[1].hear("put"), r"^many\d+ 0 \d+$")
        self.members[3] = Member(self.cluster.node(3), self.state, nodes=0)
        self.members[3].active(3)
        self.assertEqual(self.members[3].ask("get vm2"), "from 2")
        self.assertEqual(self.members[3].ask("get many299"), "x" * 2000)
        self.all_equal()

    def test_4_the_minority_of_a_split_refuses(self):
        self.members[3].put("before", "the split")
        self.cluster.split([1, 2], [3])
        self.members[3].wait(lambda s: s["stale"] == "1", "stale")
        self.cluster.wait_members([3], quorate=False, deadline_s=WAIT_S)
        self.members[3].wait(lambda s: s["state"] == "off", "off")
        self.members[1].active(2)
        gwnet.wait_for(lambda: self.members[3].ask("put lost x").startswith("refused"), WAIT_S, "refused")
        self.assertEqual(self.members[3].ask("peek before"), "the split")  # stale, but there
        self.members[1].put("during", "the split")
        self.assertEqual(self.members[3].ask("peek during"), "-")
        self.cluster.heal()
        for member in self.members.values():
            member.active(3)
        self.assertEqual(self.members[3].ask("get during"), "the split")
        self.assertEqual(self.members[1].ask("get lost"), "-")
        self.all_equal()

    def test_5_corosync_dies_and_returns(self):
        epoch = int(self.members[2].active(3)["epoch"])
        proc = self.cluster.node(2).corosync()
        proc.signal(9)
        proc.wait(10)
        proc.close()
        self.members[2].wait(lambda s: s["state"] == "off", "off")
        self.members[1].active(2)
        self.members[1].put("without", "n2")
        self.cluster.node(2).start()
        self.members[2].active(3)
        self.assertEqual(self.members[2].ask("get without"), "n2")
        self.assertGreater(int(self.members[2].status()["epoch"]), epoch)
        self.all_equal()

    def test_6_power_fails_everywhere(self):
        self.members[2].put("last", "word")
        for member in self.members.values():
            member.kill()
        for n in (3, 1, 2):
            self.members[n] = Member(self.cluster.node(n), self.state)
        for n in (3, 1, 2):
            self.members[n].active(3)
            self.assertEqual(self.members[n].ask("get last"), "word")
        self.all_equal()


class Alone(unittest.TestCase):
    """The same code without corosync."""

    def test_a_stand_alone_host_keeps_what_it_wrote(self):
        with tempfile.TemporaryDirectory() as where:
            path = str(pathlib.Path(where) / "alone.db")
            for i in range(2):
                done = subprocess.Popen([PROGRAM, path, "1", "1", "alone"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1)
                answers = iter(done.stdout.readline, "")
                next(line for line in answers if line.startswith("state active"))
                if i == 0:
                    done.stdin.write("put web1 hello\n")
                    self.assertRegex(next(a for a in answers if a.startswith("put")), r"^put web1 0 \d+\n$")
                done.stdin.write("get web1\n")
                self.assertEqual(next(a for a in answers if a.startswith("get")), "get web1 hello\n")
                done.kill()
                done.wait()
                done.stdin.close()
                done.stdout.close()


if __name__ == "__main__":
    gwnet.main()

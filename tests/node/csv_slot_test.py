#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Liveness slots between processes: who stands still is seen as stale, and sees itself as fenced."""
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else ""


class Node:
    """A node of the volume: a process, and the lines it printed with their times."""

    def __init__(self, device, number, incarnation):
        self.process = subprocess.Popen([PROGRAM, device, str(number), "4", str(incarnation)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lines = queue.Queue()
        self.seen = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put((time.monotonic(), line.strip()))

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait(self, line, timeout=60):
        """The next time it prints @line (or a line that begins with it); returns when."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                when, what = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not within {timeout} s: {line!r} after {self.seen[-10:]}") from None
            self.seen.append(what)
            if what == line or what.startswith(line + " "):
                return when

    def forget(self):
        """What it printed up to now."""
        while not self.lines.empty():
            self.seen.append(self.lines.get()[1])
        seen, self.seen = self.seen, []
        return seen

    def stop(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


class Slots(unittest.TestCase):
    """Three processes on one file."""

    def setUp(self):
        handle, self.device = tempfile.mkstemp(prefix="gw-slots-", dir="/var/tmp")
        os.ftruncate(handle, 64 << 20)
        os.close(handle)
        self.addCleanup(os.unlink, self.device)
        self.nodes = [self.node(number, 5) for number in range(3)]

    def node(self, number, incarnation):
        node = Node(self.device, number, incarnation)
        self.addCleanup(node.stop)
        return node

    def slot(self, number):
        with open(self.device, "rb") as file:
            file.seek((32 + number) * 4096)
            return file.read(4096)

    def test_a_frozen_node_is_stale_to_others_and_fenced_to_itself(self):
        first, second, victim = self.nodes
        first.wait("peer 2 alive")
        second.wait("peer 2 alive")
        victim.wait("until")
        frozen = time.monotonic()
        victim.process.send_signal(signal.SIGSTOP)
        # Not before its lease of 5 s is over for certain, whatever its clock does.
        stale = first.wait("peer 2 stale")
        self.assertGreater(stale - frozen, 4.5)
        second.wait("peer 2 stale")
        first.tell("sentence 2 5")
        first.wait("sentenced 2 0")
        before = self.slot(2)
        victim.forget()
        victim.process.send_signal(signal.SIGCONT)
        victim.wait("fenced sentenced")
        self.assertEqual(self.slot(2), before, "a fenced node wrote its slot")
        seen = victim.forget()
        self.assertEqual([line for line in seen if line.startswith("until")], [])
        # The others were none of this.
        self.assertEqual([line for line in first.forget() if "lapsed" in line or "fenced" in line], [])
        # It comes back as a new run, which the sentence does not mean.
        victim.tell("quit")
        victim.process.wait(30)
        again = self.node(2, 6)
        again.wait("until")
        first.wait("peer 2 alive")

    def test_a_node_that_slept_through_its_lease_asks_before_it_goes_on(self):
        first, _, victim = self.nodes
        first.wait("peer 2 alive")
        victim.wait("until")
        victim.process.send_signal(signal.SIGSTOP)
        first.wait("peer 2 stale")
        before = self.slot(2)
        victim.process.send_signal(signal.SIGCONT)
        victim.wait("lapsed")
        self.assertEqual(self.slot(2), before)
        victim.tell("readmit")
        victim.wait("until")
        first.wait("peer 2 alive")

    def test_a_second_process_in_the_same_slot_does_not_get_it(self):
        self.nodes[0].wait("until")
        copy = self.node(0, 6)
        copy.wait("fenced claimed")
        self.nodes[0].forget()
        self.nodes[0].wait("until")


if __name__ == "__main__":
    unittest.main(verbosity=2)

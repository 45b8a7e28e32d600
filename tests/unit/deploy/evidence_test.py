#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""deploy/evidence.py: silences are as long as they were, and what is missing is found."""
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = pathlib.Path(__file__).resolve().parents[3] / "deploy/evidence.py"


class Evidence(unittest.TestCase):
    """Runs it as the demonstration does."""

    def setUp(self):
        self.file = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "file"

    def run_it(self, verb, text, *words):
        self.file.write_text(text, encoding="utf-8")
        return subprocess.run([sys.executable, PROGRAM, verb, self.file, *map(str, words)], capture_output=True, text=True,
                              check=False)

    def said(self, verb, text, *words):
        done = self.run_it(verb, text, *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return dict(word.split("=") for word in done.stdout.split())

    @staticmethod
    def pings(*answers):
        return "PING 10.0.0.1 56(84) bytes of data.\n" + "".join(
            f"[{t:.6f}] 64 bytes from 10.0.0.1: icmp_seq={n} ttl=64 time=0.3 ms\n" for t, n in answers)

    def test_the_longest_silence_of_pings(self):
        text = self.pings((100.00, 1), (100.01, 2), (101.51, 90), (101.52, 91))
        self.assertEqual(self.said("ping", text, 99, 101.52), {"answered": "3", "lost": "87", "silence_ms": "1500"})

    def test_who_is_silent_until_the_end_is_silent_until_the_end(self):
        self.assertEqual(self.said("ping", self.pings((100.0, 1), (100.5, 2)), 99, 107)["silence_ms"], "6500")
        self.assertEqual(self.said("talk", "100.0 1 1.0\n100.5 2 1.5\n", 99, 107)["outside_ms"], "6500")

    def test_a_silence_that_is_not_over_or_began_before_counts_whole(self):
        text = self.pings((100.0, 1), (103.0, 4), (104.0, 5))
        self.assertEqual(self.said("ping", text, 102.5, 104.5)["silence_ms"], "3000")
        self.assertEqual(self.said("ping", text, 101, 102)["silence_ms"], "3000")
        self.assertEqual(self.said("ping", text, 99, 101)["silence_ms"], "3000")

    def test_sequence_numbers_of_pings_begin_again(self):
        text = self.pings((100.0, 65535), (100.1, 0), (100.2, 2))
        self.assertEqual(self.said("ping", text, 99, 100.2), {"answered": "2", "lost": "1", "silence_ms": "100"})

    def test_a_guests_lines_are_measured_by_both_clocks(self):
        text = "100.0 1 5.00\n100.1 2 5.01\n103.0 3 6.01\n103.1 4 6.02\n"
        self.assertEqual(self.said("talk", text, 99, 104), {"lines": "3", "outside_ms": "2900", "inside_ms": "1000"})
        self.assertEqual(self.said("talk", text, 103.05, 103.1)["outside_ms"], "100")

    def test_a_missing_line_is_found_wherever_it_is(self):
        for text in ("1.0 1 1.0\n2.0 3 2.0\n9.0 4 9.0\n", "1.0 1 1.0\n2.0 1 2.0\n"):
            done = self.run_it("talk", text, 8, 10)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("after line 1 came", done.stderr)

    def test_a_line_that_is_half_written_is_none(self):
        self.assertEqual(self.said("talk", "1.0 1 1.0\n1.5 2 1.5\n2.0 3", 0, 3)["lines"], "1")

    def test_nothing_heard_is_no_silence_of_nothing(self):
        self.assertEqual(self.said("ping", "", 0, 1), {"answered": "0", "lost": "0", "silence_ms": "0"})

    def test_a_failover_in_its_parts(self):
        log = "".join(f'2026-01-01T00:00:{s:02}.000Z godwitd[7] info  ha: committed what="{what}"\n' for s, what in (
            (1, "started db n2#1 token 4"), (12, "lost  n2#1"), (20, "fenced  n2#1"), (21, "start db n3#1"),
            (22, "started db-2 n3#1"), (23, "started db n3#1 token 9")))
        begin = 1767225610  # 2026-01-01T00:00:10Z
        self.assertEqual(self.said("failover", log, "n2", "db", begin), {"detect": "2.0", "fence": "8.0", "start": "3.0"})
        done = self.run_it("failover", log, "n2", "mail", begin)
        self.assertEqual(done.returncode, 1)
        self.assertIn("started mail", done.stderr)

    def test_lines_are_stamped_when_they_come(self):
        before = time.time()
        subprocess.run([sys.executable, PROGRAM, "stamp", self.file], input=b"1 2.5\n", check=True)
        at, *rest = self.file.read_text(encoding="utf-8").split()
        self.assertTrue(before <= float(at) <= time.time())
        self.assertEqual(rest, ["1", "2.5"])

    def test_wrong_words_are_answered_with_the_right_ones(self):
        for words in ((), ("ping",), ("sing", self.file, "1", "2"), ("ping", self.file, "1")):
            self.file.write_text("", encoding="utf-8")
            done = subprocess.run([sys.executable, PROGRAM, *words], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn("evidence.py ping FILE FROM TO", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""deploy/demo does what the README promises, and leaves nothing behind, also when it is interrupted."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = [ROOT / "deploy/demo", "--built"]
PLAIN = {**os.environ, "NO_COLOR": "1"}


def leftovers(pid):
    """Processes and namespaces of the demo that had this number."""
    found = [p.name for p in pathlib.Path("/run/netns").glob(f"*demo{pid}*")]
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"guest=demo{pid}-".encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            pass
    return found


class Demo(unittest.TestCase):
    """Boots its own labs."""

    def test_a_quorum_a_vm_that_moves_a_cut_and_a_healing(self):
        demo = subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                stdin=subprocess.DEVNULL, env=PLAIN)
        out = demo.communicate()[0]
        self.assertEqual(demo.returncode, 0, out)
        self.assertNotIn("\x1b", out)
        for node in (1, 2, 3):  # with all, at the start, after healing, after the power came back
            self.assertEqual(len(re.findall(rf"n{node}  quorate +votes 3 of 3  members n1 n2 n3\n", out)), 3, out)
            self.assertRegex(out, rf"n{node}: \d+ ok, \d+ warn, 0 failed\n")
        self.assertIn("Verdict      equal\n", out)
        for node in (1, 2, 3):
            self.assertRegex(out, rf"n{node} +{node}  member +yes +1 ")
        self.assertRegex(out, r"web runs on n2: .*, blackout [\d.]+ ?m?s")
        self.assertRegex(out, r"gwguest: ok mem check .*bad=0")
        self.assertRegex(out, r"gwguest: ok disk check ")
        self.assertRegex(out, r"the connection: [1-9]\d+ lines there and back, longest silence \d+ ms\n")
        self.assertIn("n3  not quorate  votes 1 of 3  members n3\n", out)
        self.assertIn("n1  quorate      votes 2 of 3  members n1 n2\n", out)
        self.assertRegex(out, r"db +running +n2 ")
        self.assertRegex(out, r"db +running +n3 ")
        self.assertIn("what it had written to its disk is there\n", out)
        self.assertRegex(out, r"from the power cord to an answer of the guest: [\d.]+ s\n")
        self.assertRegex(out, r"picture: \S+\.svg\n")
        self.assertTrue(out.endswith("All good.\n"), out)
        self.assertEqual(leftovers(demo.pid), [])

    def test_an_interrupted_demo_cleans_up(self):
        demo = subprocess.Popen(DEMO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                stdin=subprocess.DEVNULL, env=PLAIN)
        end = time.monotonic() + 60
        while not any(name.isdigit() for name in leftovers(demo.pid)):  # the first node's process
            self.assertIsNone(demo.poll())
            self.assertLess(time.monotonic(), end)
            time.sleep(0.1)
        demo.send_signal(signal.SIGTERM)
        self.assertEqual(demo.wait(60), 143)
        self.assertEqual(leftovers(demo.pid), [])


if __name__ == "__main__":
    check = subprocess.run([ROOT / "deploy/lab/lab", "check"], capture_output=True, text=True, check=False)
    if check.returncode != 0:
        reasons = [line for line in check.stdout.splitlines() if " ok" not in line]
        print(f"skipped: no lab here: {'; '.join(reasons)}")
        sys.exit(77)
    unittest.main(verbosity=2)

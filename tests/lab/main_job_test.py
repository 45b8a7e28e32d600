#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The main job, as deploy/demo does it: what the README promises, and leaves nothing behind, also when it is interrupted.

With GODWIT_DEMO=full in the environment the whole of it, with a Debian; else deploy/demo --small, which takes less time.
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FULL = os.environ.get("GODWIT_DEMO") == "full"
# Small, it runs beside other tests: a busy survivor is not to lose its VMs.
DEMO = [ROOT / "deploy/demo", "--built", *([] if FULL else ["--small", "--detect", "8s"])]
PLAIN = {**os.environ, "NO_COLOR": "1"}
MOVER = "web" if FULL else "mail"
LOST = ("db", "dns", "mail") if FULL else ("db", "dns")  # with a power cord
FIGURES = r"wire \d+ ms, ssh \d+ ms, inside \d+ ms" if FULL else r"wire \d+ ms"
CHECKED = ["all know the witness", "the copies of the database are equal", "all have the volume at /var/lib/godwit/csv/vol1",
           f"{MOVER} runs on n3", f"n3 is empty, {MOVER} runs elsewhere", f"{MOVER} is back on n3",
           f"{' '.join(LOST)} run elsewhere", "what db had written to its disk is there",
           "n2 runs nothing: its VMs are others' now", "n1 and n3 go on, n2 waits", "n2 has the volume again", "all VMs are off"]
if FULL:
    CHECKED += ["n3 reads what n2 wrote", "sshd of web answers", "no line of the ssh session is missing",
                "the ssh session lives, fio goes on", "fio found every block as it wrote it",
                "web's kernel has nothing to complain about"]
else:
    CHECKED += ["mail answers pings", "what mail had written is there"]


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

    def run_it(self, *words):
        """What it said, and its exit status; nothing of it may be left."""
        demo = subprocess.Popen([*DEMO, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                stdin=subprocess.DEVNULL, env=PLAIN)
        out = demo.communicate()[0]
        self.assertEqual(leftovers(demo.pid), [])
        self.assertNotIn("\x1b", out)
        return out, demo.returncode

    def test_the_main_job_from_nothing_to_a_failover(self):
        out, status = self.run_it()
        self.assertEqual(status, 0, out)
        for node in (1, 2, 3):  # with all, at the start, after the power came back, after healing
            self.assertEqual(len(re.findall(rf"n{node}  quorate +votes 3 of 3  members n1 n2 n3\n", out)), 3, out)
            self.assertRegex(out, rf"n{node}: \d+ ok, \d+ warn, 0 failed\n")
        self.assertRegex(out, r"vol1 +direct ")
        if FULL:
            self.assertRegex(out, r"root root \d{9} .* web\.vhdx")
        self.assertRegex(out, rf"\n  move, n1 to n3 +.* in .*blackout .*; {FIGURES}\n")
        for step in ("drain of n3", "its failback"):
            self.assertRegex(out, rf"\n  {step} +[\d.]+ s; {FIGURES}\n")
        for name in LOST:
            self.assertRegex(out, rf"\n  {name}, after n2's power cord +detect [\d.]+ s, fence [\d.]+ s, start [\d.]+ s; "
                                  r"answers after [\d.]+ s\n")
        self.assertIn("n2  not quorate  votes 1 of 3  members n2\n", out)
        verdicts = re.findall(r"^  (ok|FAILED) {10,}(.+)$", out, re.M)
        self.assertEqual({verdict for verdict, _ in verdicts}, {"ok"})
        for text in CHECKED:
            self.assertIn(text, [said for _, said in verdicts], out)
        picture = pathlib.Path(re.search(r"picture: (\S+\.svg)\n", out)[1])
        self.assertIn(MOVER, (ROOT / picture).read_text(encoding="utf-8"))
        self.assertTrue(out.endswith("All good.\n"), out)

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

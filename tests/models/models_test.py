#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every schedule of the small models: what we do is safe, and each part of it is needed.

A variant that should fail and does not means that the model has become too weak to prove anything.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
STORAGE = "PREEMPT ABORT CHECK RAISE"
LEASE = "RESET INFLIGHT CHECK RAISE"
RECLAIM = "RECLAIM WAIT PROOF TERM"
CASES = [  # model, definitions, safe
    ("fence", STORAGE, True),
    ("fence", LEASE, True),
    ("fence", f"RESET INFLIGHT {STORAGE}", True),
    ("fence", "", False),
    ("fence", "PREEMPT", False),
    ("fence", "RESET", False),
    ("fence", "ABORT CHECK RAISE", False),
    ("fence", "PREEMPT CHECK RAISE", False),
    ("fence", "PREEMPT ABORT RAISE", False),
    ("fence", "PREEMPT ABORT CHECK", False),
    ("fence", "INFLIGHT CHECK RAISE", False),
    ("fence", "RESET CHECK RAISE", False),
    ("fence", "RESET INFLIGHT RAISE", False),
    ("fence", "RESET INFLIGHT CHECK", False),
    ("commit", "MAJORITY PERSIST", True),
    ("commit", "", False),
    ("commit", "PERSIST", False),
    ("commit", "MAJORITY", False),
    ("lease", "", True),
    ("lease", "REPLY", False),
    ("lease", "PETLATE", False),
    ("lease", "EARLY", False),
    ("lease", "NODOG", False),
    ("reclaim", RECLAIM, True),
    ("reclaim", "", False),
    ("reclaim", "WAIT PROOF TERM", False),
    ("reclaim", "RECLAIM PROOF TERM", False),
    ("reclaim", "RECLAIM WAIT TERM", False),
    ("reclaim", "RECLAIM WAIT PROOF", False),
    ("once", "RECORD", True),
    ("once", "", False),
    ("once", "MEMORY", False),
    ("once", "RECORD SPLIT", False),
    ("once", "RECORD FIRST", False),
    ("qdevice", "TAG", True),
    ("qdevice", "FRESH NACK", True),
    ("qdevice", "", False),
    ("qdevice", "FRESH", False),
    ("qdevice", "FRESH NACK KEEP", False),
    ("redirect", "SETTLE ABORT", True),
    ("redirect", "", False),
    ("redirect", "SETTLE", False),
]


def check(model, definitions, folder):
    """True if no schedule breaks an assertion; and the number of states."""
    flags = [f"-D{d}" for d in definitions.split()]
    run = lambda *argv: subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout
    run("spin", *flags, "-a", str(HERE / f"{model}.pml"))
    run("cc", "-w", "-O1", "-DSAFETY", "-o", "pan", "pan.c")
    out = run("./pan", "-m100000")
    if "max search depth too small" in out or "errors:" not in out:
        sys.exit(f"{model} {definitions}: the search is not complete\n{out}")
    states = next(line.split()[0] for line in out.splitlines() if "states, stored" in line)
    return "errors: 0" in out, int(states)


def main():
    if not shutil.which("spin") or not shutil.which("cc"):
        print("skipped: spin or cc is not installed")
        return 77
    wrong = 0
    for model, definitions, safe in CASES:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            ok, states = check(model, definitions, folder)
        wrong += ok != safe
        print(f"{model:8} {definitions or '-':32} {'safe' if ok else 'unsafe':7} {states:7} states"
              f"{'' if ok == safe else '   WRONG'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Says what ctest's summary does not: which tests are slow, were skipped and why, failed and with what words.

usage: ctest_report.py TEST.XML...   files of `ctest --output-junit`, one per build; the file again.xml beside one
                                     of them is of the tests that failed there and were run once more
Exit status 1 if a test failed and was not good when it was run once more.
"""
import pathlib
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass

SLOWEST = 10
LAST_LINES = 30  # of what a failed test said


@dataclass
class Case:
    """One test of one build."""
    build: str
    name: str
    seconds: float
    verdict: str  # good, failed, skipped
    lines: list  # of its output, without empty ones


def verdict(case):
    """ctest's words for it, in three."""
    if case.get("status") == "run" and case.find("failure") is None:
        return "good"
    skipped = case.find("skipped")
    if skipped is not None and "SKIP_" in skipped.get("message", "") or case.get("status") == "disabled":
        return "skipped"
    return "failed"  # also what could not be started


def read(path):
    """Every test in one file."""
    for case in ET.parse(path).getroot().iter("testcase"):
        lines = [line.rstrip() for line in (case.findtext("system-out") or "").splitlines() if line.strip()]
        yield Case(path.parent.name, case.get("name"), float(case.get("time", 0)), verdict(case), lines)


def said(case):
    """Prints the end of what a test said."""
    print(f"  {case.name} ({case.build}), {case.seconds:.1f} s, its last lines:")
    for line in case.lines[-LAST_LINES:]:
        print(f"    | {line}")


def main(paths):
    """Prints all lists, what failed last."""
    paths = [pathlib.Path(path) for path in paths]
    cases = [case for path in paths for case in read(path)]
    again = {(c.build, c.name): c for path in paths if (path.parent / "again.xml").exists()
             for c in read(path.parent / "again.xml")}
    slow = sorted((c for c in cases if c.verdict != "skipped"), key=lambda c: -c.seconds)[:SLOWEST]
    print(f"\nSlowest tests (of {len(cases)} in {len(paths)} builds)")
    for c in slow:
        print(f"  {c.seconds:8.1f} s  {c.name} ({c.build})")
    skipped = [c for c in cases if c.verdict == "skipped"]
    print(f"\nSkipped tests: {len(skipped) or 'none'}")
    for c in skipped:
        print(f"  {c.name} ({c.build}): {c.lines[-1].strip() if c.lines else 'it did not say why'}")
    failed = [c for c in cases if c.verdict == "failed"]
    second = [c for c in failed if (c.build, c.name) in again and again[c.build, c.name].verdict == "good"]
    if second:
        print(f"\nGood only when run once more: {len(second)}")
        for c in second:
            said(c)
    bad = [again.get((c.build, c.name), c) for c in failed if c not in second]
    if bad:
        print(f"\nFailed tests: {len(bad)}")
        for c in bad:
            said(c)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

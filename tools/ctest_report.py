#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Says what ctest's summary does not: which tests were skipped and why, and which are slow.

usage: ctest_report.py TEST.XML...   files of `ctest --output-junit`, one per build
"""
import pathlib
import sys
import xml.etree.ElementTree as ET

SLOWEST = 10


def reason(case):
    """Last line that a skipped test printed."""
    lines = [line.strip() for line in (case.findtext("system-out") or "").splitlines() if line.strip()]
    return lines[-1] if lines else "it did not say why"


def read(path):
    """(build, test, seconds, why skipped or None) of every test in one file."""
    build = pathlib.Path(path).parent.name
    for case in ET.parse(path).getroot().iter("testcase"):
        skipped = case.find("skipped") is not None or case.get("status") in ("notrun", "disabled")
        yield build, case.get("name"), float(case.get("time", 0)), reason(case) if skipped else None


def main(paths):
    """Prints both lists."""
    cases = [case for path in paths for case in read(path)]
    slow = sorted((c for c in cases if c[3] is None), key=lambda c: -c[2])[:SLOWEST]
    print(f"\nSlowest tests (of {len(cases)} in {len(paths)} builds)")
    for build, name, seconds, _ in slow:
        print(f"  {seconds:8.1f} s  {name} ({build})")
    skipped = [c for c in cases if c[3] is not None]
    print(f"\nSkipped tests: {len(skipped) or 'none'}")
    for build, name, _, why in skipped:
        print(f"  {name} ({build}): {why}")


if __name__ == "__main__":
    main(sys.argv[1:])

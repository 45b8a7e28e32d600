#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""csv_lock_bench.py CSV_LOCK_BENCH [SECONDS]: locks, metadata of a shared volume, for nodes that do not coordinate it.

Four hosts (network namespaces) and a LUN, a file in /var/tmp: n1 and n2 run a real godwit-csvd each, n1 coordinates;
on n3 and n4 csv_lock_bench asks in place of one. mount.* lines are about n2's mount: system calls of one process,
through FUSE and two godwit-csvd; local.* are the same on n1. GW_BUILD says where the programs are (a release build).
Needs root, /dev/fuse, and what tests/node needs. On a machine that does other things: chrt -f 10 before it.
"""
import os
import pathlib
import statistics
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "node"))
import csvd_test  # noqa: E402
from csvd_test import WAIT_S, gwnet  # noqa: E402

PORT = 17450
# One at a time, like the operations by the protocol.
WORK = """
import os, sys, time
folder, seconds = sys.argv[1], float(sys.argv[2])
os.chdir(folder)
times = {"create": [], "getattr": [], "rename": [], "unlink": []}
def timed(what, call, *words):
    begin = time.perf_counter_ns()
    out = call(*words)
    times[what].append(time.perf_counter_ns() - begin)
    return out
end, i = time.monotonic() + seconds, 0
while time.monotonic() < end:
    i += 1
    a, b = f"m{os.getpid()}-{i}", f"m{os.getpid()}-{i}-new"
    timed("create", os.mknod, a)
    timed("getattr", os.stat, a)
    timed("rename", os.rename, a, b)
    timed("unlink", os.unlink, b)
for what, all_ in times.items():
    print(what, *all_)
"""


class Cluster(csvd_test.Cluster):
    """The members that run csv_lock_bench are members all the same."""

    def members(self):
        return [n for n in self.nodes if n.number <= 2]

    def said(self, node):
        said = super().said(node)
        said["members"] += [{"id": n.number, "name": n.name, "run": 1, "addr": n.addr} for n in self.nodes[2:]]
        return said


def figure(name, value, unit):
    print(f"{name:<44} {value:12.1f} {unit}", flush=True)


def p50_p99(name, times):
    times = sorted(times)
    figure(f"{name}.p50", times[len(times) // 2] / 1e3, "us")
    figure(f"{name}.p99", times[len(times) * 99 // 100] / 1e3, "us")
    figure(f"{name}.rate", 1e9 / statistics.mean(times), "1/s")


def mounted(node, name, seconds):
    at = node.state / "csv" / "vol1"
    gwnet.wait_for(lambda: node.node.run("grep", "-q", f"{at} fuse", "/proc/mounts", check=False).returncode == 0,
                   WAIT_S, "it is mounted")
    said = node.node.run(sys.executable, "-c", WORK, at, seconds, timeout_s=WAIT_S + seconds).stdout
    for line in said.splitlines():
        what, *times = line.split()
        p50_p99(f"{name}.{what}", [int(t) for t in times])


def main():
    bench = sys.argv[1]
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    case = unittest.TestCase()
    try:
        c = Cluster(case, nodes=4)
        run(c, bench, seconds)
    finally:
        case.doCleanups()


def run(c, bench, seconds):
    first, second, third, fourth = c.nodes
    for node in (first, second):
        c.join(node)
    c.appoint(1)
    c.settled()
    first.node.spawn(bench, "serve", first.state / "cert", first.addr, str(PORT), log="serve")
    gwnet.wait_for(lambda: "ready" in (first.node.dir / "serve").read_text(), WAIT_S, "the echo is there")

    def words(what, node):
        return [bench, what, node.state / "cert", first.addr, str(PORT), c.device, str(node.number), first.name,
                str(seconds)]

    print(third.node.run(*words("alone", third), timeout_s=WAIT_S + seconds).stdout, end="", flush=True)
    both = [n.node.popen(*words("turns", n), stdout=-1, text=True) for n in (third, fourth)]
    said = [p.communicate(timeout=WAIT_S + seconds)[0] for p in both]
    if any(p.returncode != 0 for p in both):
        raise SystemExit("csv_lock_bench turns failed")
    print(said[0], end="", flush=True)
    mounted(second, "mount", seconds / 2)
    mounted(first, "local", seconds / 2)
    figure("load_average", os.getloadavg()[0], "processes")


if __name__ == "__main__":
    main()

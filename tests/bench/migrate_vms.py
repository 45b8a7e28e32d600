#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole moves of real VMs between two workers over loopback beside QEMU's and iperf3, in turns, in one run.

    migrate_vms.py BUILD [-m MiB[,MiB]] [-c CASE[,CASE]] [-r REPEATS] [-s STREAMS]

BUILD is a release build (BUILD/bin/godwit-vm). Ours is a tiny guest on /dev/kvm: a timer wakes it every 2 ms, it writes a word in each of so many pages of a window of 256 MiB, and says a character 5 times a second.
A case fails if the guest does not go on at the destination. What the guest's memory holds (noise; or half of the
pages, the others never touched) is written into it from outside before the move: into the file that is its memory.
The destination's memory is not allocated in advance, the worker has no option for that. QEMU, as in
migrate_peers.py, idles in its BIOS under TCG; so it has no part in the cases that dirty memory.
One figure per line; `dirty` is what the mover measured, not what was asked for. Load average: see the first line.
"""
import argparse
import importlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import uuid

HERE = pathlib.Path(__file__).resolve().parent
MIB = 1 << 20
PAGE = 4096
TICK_S = 0.002
APIC_HZ = 10**9  # of the virtual timer, by KVM and by QEMU
WINDOW = 32 * MIB, 288 * MIB
CASES = {  # name: pages of 8 that hold noise, MB/s dirtied, blackout limit ms, TLS
    "noise_20": (8, 0, 20, False),
    "noise_300": (8, 0, 300, False),
    "noise_tls_20": (8, 0, 20, True),
    "half_20": (4, 0, 20, False),
    "dirty100_20": (8, 100, 20, False),
    "dirty300_20": (8, 300, 20, False),
    "dirty600_20": (8, 600, 20, False),
    "dirty300_300": (8, 300, 300, False),
    "dirty600_300": (8, 600, 300, False),
}
# 32 bits, no paging: APIC timer, then for ever: hlt; write a word in `pages` pages of the window; after `say` ticks
# a character 48..111. At the end: timer count, pages, window start and end (and again where it goes on), say.
CODE = bytes.fromhex("fabc000009000f0115b0001000ea1400100008000f011da8001000bb0000e0fec783f0000000ff010000c78320"
                     "03000020000200c783e00300000b000000a1d00010008983800300008b3dd800100031ed31f6fbf4ebfd8b0dd4"
                     "001000e319ff0781c7001000003b3ddc00100072068b3dd80010004975e7463b35e000100072d231f64589e824"
                     "3f043066baf803eeebc2c705b000e0fe00000000bc00000900ebb58db6000000000701c8ff0f0066900f00b800"
                     "100066900000000000000000ffff0000009bcf0091000800008e10000000000000000000000000000000000000"
                     "000000")


def guest(dirty_mb_s):
    """The guest's code, for a dirty rate."""
    pages = round(dirty_mb_s * 1e6 * TICK_S / PAGE)
    return CODE[:-20] + struct.pack("<IIIII", round(TICK_S * APIC_HZ), pages, *WINDOW, round(0.2 / TICK_S))


def figure(name, value, unit):
    """One line, as the C programs print it."""
    print(f"{name:<44} {value:12.1f} {unit}", flush=True)


def available():
    """MemAvailable, bytes."""
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable")) * 1024


def fill(path, mib, share):
    """Guest memory from outside: of 8 pages, `share` hold noise, the others stay holes. The first 2 MiB are the loader's."""
    fd = os.open(path, os.O_RDWR)
    try:
        for at in range(2 * MIB, mib * MIB, 8 * PAGE):
            os.pwrite(fd, os.urandom(share * PAGE), at)
    finally:
        os.close(fd)


def memory_of(pid):
    """The file that is a worker's guest memory."""
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        if "memfd:godwit-guest" in os.readlink(fd):
            return str(fd)
    raise RuntimeError("the worker has no guest memory")


def cpu_s(pid):
    """Processor time of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def goes_on(path, what):
    """Wait for something new on a console."""
    had = os.path.getsize(path)
    until = time.monotonic() + 30
    while os.path.getsize(path) < had + 2:
        if time.monotonic() > until:
            raise RuntimeError(f"{what}: the guest does not go on")
        time.sleep(0.02)


def in_order(console):
    """No character is missing or there twice."""
    return all(b == 48 + (i + 1) % 64 for i, b in enumerate(console))


def print_case(name, values):
    """The figures of one move: (figure, value, unit)."""
    for key, value, unit in values:
        figure(f"{name}.{key}", value, unit)


def credentials(build):
    """Texts of certificates for a move, or None."""
    tool = os.path.join(build, "tests", "node", "pki_print")
    if not os.access(tool, os.X_OK):
        return None
    return json.loads(subprocess.run([tool, "n1"], check=True, capture_output=True).stdout)


def ours(move_test, name, mib, case, streams, tls):
    """A case with two workers."""
    share, dirty, limit_ms, encrypted = case
    move_test.CODE = guest(dirty)
    definition = {"id": str(uuid.uuid4()), "name": "bench", "memory_bytes": mib * MIB, "cpus": 1,
                  "generation_id": str(uuid.uuid4()), "boot": {"kernel": "/kernel"}, "disks": [], "nics": []}
    common = {"move": str(uuid.uuid4()), "epoch": 7, "token": os.urandom(32).hex()}
    common |= {"tls": tls} if encrypted else {"plain": True}
    with tempfile.TemporaryDirectory() as folder:
        source = move_test.Worker(folder, "source", definition)
        target = move_test.Worker(folder, "target", definition, arriving=True)
        try:
            source.do("start")  # which empties the memory
            goes_on(source.console_path, name)
            fill(memory_of(source.process.pid), mib, share)
            before = cpu_s(source.process.pid) + cpu_s(target.process.pid)
            target.do("move-receive", **common)
            for a, b in move_test.pairs(1 + streams):
                with a, b:
                    source.do("move-socket", a.fileno())
                    target.do("move-socket", b.fileno())
            source.do("move-send", epoch_next=8, blackout_max_ns=limit_ms * 10**6,
                      **({"peer": "n1"} if encrypted else {}), **common)
            rates = []
            while True:
                message = source.receive()
                if message.get("event") == "move-progress" and message["dirty_bytes_s"]:
                    rates.append(message["dirty_bytes_s"])
                if message.get("event") == "move-ready":
                    source.do("move-commit")
                if any(e["event"] == "move-ended" for e in source.events):
                    break
            ended = source.event("move-ended")
            cpu = cpu_s(source.process.pid) + cpu_s(target.process.pid) - before
            if ended["outcome"] != "done":
                print(f"# {name}: {ended['outcome']}: {ended['error']}", flush=True)
                return
            goes_on(target.console_path, name)
            if not in_order(source.console() + target.console()):
                raise RuntimeError(f"{name}: the guest's count is damaged")
        finally:
            source.close()
            target.close()
    r = ended["result"]
    if r["data_pages"] * PAGE < (mib - 2) * MIB * share // 8:
        raise RuntimeError(f"{name}: only {r['data_pages']} pages with content were moved")
    rate = mib * MIB * 1e3 / r["total_ns"]
    print_case(name, (
        ("rate", rate, "MB/s"), ("total", r["total_ns"] / 1e9, "s"), ("blackout", r["blackout_ns"] / 1e6, "ms"),
        ("rounds", r["rounds"], ""), ("dirty", max(rates, default=0) / 1e6, "MB/s"),
        ("throttle", r["throttle_percent"], "%"), ("cpu", cpu / (mib / 1024), "s/GiB")))
    if r["blackout_ns"] > limit_ms * 10**6:
        print(f"# {name}: the blackout is above its limit of {limit_ms} ms", flush=True)


def run(modules, a, name, mib):
    """One case of ours; of QEMU's where the guest only idles."""
    move_test, peers = modules
    share, dirty, limit_ms, encrypted = CASES[name]
    if available() < 2 * mib * MIB * 1.1:
        print(f"# {name}, {mib} MiB: source and destination do not fit into the memory that is free: left out")
        return
    tls = credentials(a.build) if encrypted else None
    full = f"{name}.{mib // 1024}g.{a.s}"
    if encrypted and tls is None:
        print(f"# {name}: tests/node/pki_print is not built: left out")
    else:
        ours(move_test, full, mib, CASES[name], a.s, tls)
    if dirty == 0 and limit_ms == 20 and not encrypted and shutil.which("qemu-system-x86_64"):
        peers.qemu(full, mib, share, False, a.s)


def main():
    """All cases, repeated."""
    args = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    args.add_argument("build")
    args.add_argument("-m", default="2048", metavar="MiB,...")
    args.add_argument("-c", default=",".join(CASES), metavar="CASE,...")
    args.add_argument("-r", type=int, default=1, metavar="REPEATS")
    args.add_argument("-s", type=int, default=4, metavar="STREAMS")
    a = args.parse_args()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        sys.exit("migrate_vms: no /dev/kvm")
    if not os.access(os.path.join(a.build, "bin", "godwit-vm"), os.X_OK):
        sys.exit(f"migrate_vms: {a.build}/bin/godwit-vm is not there: build the release preset first")
    unknown = set(a.c.split(",")) - set(CASES)
    if unknown:
        sys.exit(f"migrate_vms: no such case: {', '.join(sorted(unknown))}")
    os.environ["GW_BUILD"] = os.path.abspath(a.build)
    sys.path += [str(HERE), str(HERE.parent / "node")]
    modules = importlib.import_module("move_test"), importlib.import_module("migrate_peers")
    print(f"# load average {os.getloadavg()[0]:.1f}; QEMU idles in its BIOS under TCG", flush=True)
    for _ in range(a.r):
        if shutil.which("iperf3"):
            modules[1].iperf(a.s)
        for mib in map(int, a.m.split(",")):
            for name in a.c.split(","):
                run(modules, a, name, mib)


if __name__ == "__main__":
    main()

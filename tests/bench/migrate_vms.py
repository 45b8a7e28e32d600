#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole moves of real VMs between two workers over loopback beside QEMU's and iperf3, in turns, in one run.

    migrate_vms.py BUILD [-m MiB[,MiB]] [-c CASE[,CASE]] [-r REPEATS] [-s STREAMS] [--fill none,ahead] [--private] [--alone]

BUILD is a release build (BUILD/bin/godwit-vm). Both programs move the same tiny guest: a timer wakes it every 2 ms, it
writes a word in each of so many pages of a window of 256 MiB, and says a character 5 times a second; Godwit's on /dev/kvm, QEMU's under
KVM if that starts there, else under TCG (the first line says which). What else is in its memory (noise; noise in half of the pages, the others
never touched; nothing) is written from outside before the move. Both ends have memory of memfd or tmpfs.

A case's name: what is in memory (`noise`, `half`, `idle`) or how many MB/s it dirties (`dirty300`, with noise), `cold` or `warm` (the
destination's memory is allocated before: `fill: all` of ours, `prealloc` of QEMU), `tls`, or `crc` (checksums of pages, which a plain move of ours has by default; QEMU has none), or
neither, the blackout limit in ms. QEMU uses multifd with as
many channels as we have data connections, and auto-converge.

One figure per line: `name value unit`, then medians and ratios of them (of rates: ours / QEMU and ours / iperf3 in the same turn). `dirty` is what the
mover measured, not what was asked for. Exit status 1: a move failed, a guest did not go on where it was, or a blackout was longer than its limit.
That a guest that dirties too fast is given up is no failure: it is said.
"""
import argparse
import importlib
import json
import mmap
import os
import pathlib
import re
import shutil
import statistics
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
SHARES = {"noise": 8, "half": 4, "idle": 0}  # pages of 8 that hold noise
NAME = re.compile(r"(noise|half|idle|dirty(\d+))_(cold|warm)(_tls|_crc)?_(\d+)")
CASES = ("noise_cold_20,noise_cold_300,noise_warm_20,noise_warm_300,noise_warm_crc_20,noise_cold_tls_20,noise_warm_tls_20,half_cold_20,half_warm_20,idle_cold_20,"
         "dirty100_cold_20,dirty100_warm_20,dirty300_cold_20,dirty300_warm_20,dirty300_warm_tls_20,dirty600_warm_20,"
         "dirty100_warm_300,dirty300_warm_300,dirty300_warm_tls_300,dirty600_warm_300")
QEMU_MAX_S = 90
# 32 bits, no paging: APIC timer, then for ever: hlt; write a word in `pages` pages of the window; after `say` ticks
# a character 48..111. At the end: timer count, pages, window start and end (and again where it goes on), say.
CODE = bytes.fromhex("fabc000009000f0115b0001000ea1400100008000f011da8001000bb0000e0fec783f0000000ff010000c78320"
                     "03000020000200c783e00300000b000000a1d00010008983800300008b3dd800100031ed31f6fbf4ebfd8b0dd4"
                     "001000e319ff0781c7001000003b3ddc00100072068b3dd80010004975e7463b35e000100072d231f64589e824"
                     "3f043066baf803eeebc2c705b000e0fe00000000bc00000900ebb58db6000000000701c8ff0f0066900f00b800"
                     "100066900000000000000000ffff0000009bcf0091000800008e10000000000000000000000000000000000000"
                     "000000")
ENTRY = 0x100000
MADV_POPULATE_WRITE = 23
POOL = os.urandom(16 * MIB)


def guest(dirty_mb_s):
    """The guest's code, for a dirty rate."""
    pages = round(dirty_mb_s * 1e6 * TICK_S / PAGE)
    return CODE[:-20] + struct.pack("<IIIII", round(TICK_S * APIC_HZ), pages, *WINDOW, round(0.2 / TICK_S))


def multiboot(code):
    """The same for QEMU: a Multiboot image. Behind the code its header, and where it is entered: the firmware's timer must be silent."""
    code += bytes(-len(code) % 4)
    magic, flags, at = 0x1BADB002, 1 << 16, ENTRY + len(code)
    entry = at + 32
    mask = bytes.fromhex("b0ffe621e6a1e9")  # both PICs; jmp ENTRY
    end = entry + len(mask) + 4
    return (code + struct.pack("<IIIIIIII", magic, flags, -(magic + flags) & 0xffffffff, at, ENTRY, end, end, entry) +
            mask + struct.pack("<i", ENTRY - end))


class Figures:
    """What was measured: printed at once, and kept for the medians."""

    def __init__(self):
        self.values = {}
        self.failures = []

    def add(self, name, value, unit):
        """One line, as the C programs print it."""
        print(f"{name:<52} {value:12.2f} {unit}", flush=True)
        self.values.setdefault(name, []).append(value)

    def fail(self, text):
        """Goes on, but not well."""
        print("# failed: " + text, flush=True)
        self.failures.append(text)

    def last(self, name):
        """What add() was told last, or None."""
        return self.values.get(name, [None])[-1]

    def summary(self):
        """Medians of everything that was measured more than once; the longest blackouts."""
        for name, values in list(self.values.items()):
            if len(values) > 1:
                print(f"{'median.' + name:<52} {statistics.median(values):12.2f} of {len(values)}, {min(values):.2f} to {max(values):.2f}")


def available():
    """MemAvailable, bytes."""
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable")) * 1024


def fill(path, mib, share):
    """Guest memory from outside: of 8 pages, `share` hold noise, the others stay holes. The first 2 MiB are the loader's."""
    fd = os.open(path, os.O_RDWR)
    size = PAGE * share if share < 8 else MIB
    try:
        for i, at in enumerate(range(2 * MIB, mib * MIB, MIB if share == 8 else 8 * PAGE)):
            if size:
                start = i * 61 * PAGE % (len(POOL) - size) | 8  # no two pages alike for a while
                os.pwrite(fd, memoryview(POOL)[start:start + size], at)
    finally:
        os.close(fd)


def back(mib):
    """
    Memory that will be handed out next is backed by the hypervisor, if there is one under this machine: it takes back what is free for some
    seconds, and getting that again costs many times what first touch costs on hardware. A real host pays the latter only.
    """
    with mmap.mmap(-1, (mib * 5 // 4 + 64) * MIB) as m:
        m.madvise(mmap.MADV_HUGEPAGE)
        m.madvise(MADV_POPULATE_WRITE)


def memory_of(pid):
    """The file that is a worker's guest memory."""
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        if "memfd:godwit-guest" in os.readlink(fd):
            return str(fd)
    raise RuntimeError("the worker has no guest memory")


def cpu_s(*pids):
    """Processor time of processes so far."""
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def goes_on(path, what):
    """Wait for something new on a console."""
    def size():
        return os.path.getsize(path) if os.path.exists(path) else 0
    had = size()
    until = time.monotonic() + 30
    while size() < had + 2:
        if time.monotonic() > until:
            raise RuntimeError(f"{what}: the guest does not go on")
        time.sleep(0.02)


def in_order(console):
    """No character is missing or there twice."""
    return all(b == 48 + (i + 1) % 64 for i, b in enumerate(console))


class Case:
    """One row: NAME taken apart."""

    def __init__(self, name, mib, streams):
        what, dirty, ready, tls, limit = NAME.fullmatch(name).groups()
        self.name, self.mib, self.streams = name, mib, streams
        self.dirty = int(dirty or 0)
        self.share = SHARES.get(what, 8)
        self.warm, self.tls, self.limit_ms = ready == "warm", tls == "_tls", int(limit)
        self.crc = tls == "_crc"
        self.full = f"{name}.{mib // 1024}g.{streams}"
        self.content_mib = mib if self.warm else mib * self.share // 8
        self.rate = None  # of ours
        self.backend = "memory-backend-memfd,share=on"


def credentials(build):
    """Texts of certificates for a move, or None."""
    tool = os.path.join(build, "tests", "node", "pki_print")
    if not os.access(tool, os.X_OK):
        return None
    return json.loads(subprocess.run([tool, "n1"], check=True, capture_output=True).stdout)


def wait_filled(target, mib):
    """The destination has all of its memory."""
    while True:
        if target.event("move-progress")["filled_bytes"] == mib * MIB:
            return


def send(move_test, source, target, case, filling, tls):
    """The move; returns its end, the dirty rates that were measured, the processor time it took."""
    common = {"move": str(uuid.uuid4()), "epoch": 7, "token": os.urandom(32).hex()}
    common |= {"tls": tls} if case.tls else {"plain": True}
    target.do("move-receive", fill="all" if case.warm else filling, connect_max_ns=10**11, **common)
    if case.warm:
        wait_filled(target, case.mib)
    before = cpu_s(source.process.pid, target.process.pid)
    for a, b in move_test.pairs(1 + case.streams):
        with a, b:
            source.do("move-socket", a.fileno())
            target.do("move-socket", b.fileno())
    source.do("move-send", epoch_next=8, blackout_max_ns=case.limit_ms * 10**6, crc=case.crc,
              **({"peer": "n1"} if case.tls else {}), **common)
    rates = [0]
    while not any(e["event"] == "move-ended" for e in source.events):
        message = source.receive()
        if message.get("event") == "move-progress":
            rates.append(message["dirty_bytes_s"])
        if message.get("event") == "move-ready":
            if time.monotonic_ns() > message.get("deadline_ns", 1 << 63):
                source.do("move-refuse", text="the benchmark came too late to decide within the limit")
            else:
                source.do("move-commit")
    return source.event("move-ended"), max(rates), cpu_s(source.process.pid, target.process.pid) - before


def ours(move_test, figures, case, filling, tls):
    """A case with two workers."""
    name = case.full + ("" if case.warm else f".{filling}")
    move_test.CODE = guest(case.dirty)
    definition = {"id": str(uuid.uuid4()), "name": "bench", "memory_bytes": case.mib * MIB, "cpus": 1,
                  "generation_id": str(uuid.uuid4()), "boot": {"kernel": "/kernel"}, "disks": [], "nics": []}
    with tempfile.TemporaryDirectory() as folder:
        source = move_test.Worker(folder, "source", definition)
        target = move_test.Worker(folder, "target", definition, arriving=True)
        try:
            source.do("start")  # which empties the memory
            goes_on(source.console_path, name)
            fill(memory_of(source.process.pid), case.mib, case.share)
            back(case.content_mib)
            ended, dirty, cpu = send(move_test, source, target, case, filling, tls)
            if ended["outcome"] == "done":
                goes_on(target.console_path, name)
                if not in_order(source.console() + target.console()):
                    raise RuntimeError(f"{name}: the guest's count is damaged")
        finally:
            source.close()
            target.close()
    r = ended["result"]
    if ended["outcome"] != "done":
        if case.dirty and "converge" in ended["error"]:
            print(f"# {name}: given up after {r['total_ns'] / 1e9:.1f} s: {ended['error']}", flush=True)
        else:
            figures.fail(f"{name}: {ended['outcome']}: {ended['error']}")
        return
    if r["data_pages"] * PAGE < (case.mib - 2) * MIB * case.share // 8:
        raise RuntimeError(f"{name}: only {r['data_pages']} pages with content were moved")
    case.rate = case.mib * MIB * 1e3 / r["total_ns"]
    for key, value, unit in (
            ("rate", case.rate, "MB/s"), ("total", r["total_ns"] / 1e9, "s"), ("blackout", r["blackout_ns"] / 1e6, "ms"),
            ("rounds", r["rounds"], ""), ("stops", r["stops"], ""), ("dirty", dirty / 1e6, "MB/s"), ("throttle", r["throttle_percent"], "%"),
            ("cpu", cpu / (case.mib / 1024), "s/GiB")):
        figures.add(f"{name}.{key}", value, unit)
    print("# blackout parts [us]: " + " ".join(f"{k} {r[k + '_ns'] // 1000}" for k in ("pause", "save", "copy", "load", "commit", "run")))
    if r["blackout_ns"] > case.limit_ms * 10**6:
        figures.fail(f"{name}: the blackout is above its limit of {case.limit_ms} ms")


def qemu_tls(folder, tls, end):
    """Words for credentials of one end."""
    if tls is None:
        return ()
    for name, text in (("ca-cert", tls["ca"]), (f"{end}-cert", tls["cert"]), (f"{end}-key", tls["key"])):
        pathlib.Path(folder, name + ".pem").write_text(text, encoding="ascii")
    return "-object", f"tls-creds-x509,id=tls,dir={folder},endpoint={end},verify-peer=on"


def qemu(peers, figures, case, accel, tls):
    """The same case on QEMU's side."""
    name = f"qemu.{case.full}"
    tls = tls if case.tls else None
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        kernel = os.path.join(folder, "kernel")
        pathlib.Path(kernel).write_bytes(multiboot(guest(case.dirty)))
        pathlib.Path(folder, "ram").touch()
        os.truncate(os.path.join(folder, "ram"), case.mib * MIB)
        consoles = [os.path.join(folder, end + ".console") for end in ("source", "target")]
        more = ("-m", str(case.mib), "-kernel", kernel)
        source = peers.Qemu(folder, "source", f"memory-backend-file,id=ram,size={case.mib}M,mem-path={folder}/ram,share=on", *more,
                            "-serial", f"file:{consoles[0]}", *qemu_tls(folder, tls, "client"), accel=accel)
        try:
            goes_on(consoles[0], name)
            fill(os.path.join(folder, "ram"), case.mib, case.share)
            back(case.content_mib)
            target = peers.Qemu(folder, "target", f"{case.backend},id=ram,size={case.mib}M,"
                                f"prealloc={'on' if case.warm else 'off'},prealloc-threads=2", *more, "-serial", f"file:{consoles[1]}",
                                "-incoming", "defer", *qemu_tls(folder, tls, "server"), accel=accel)
            try:
                pids = source.process.pid, target.process.pid
                before = cpu_s(*pids)
                info = peers.migrate(source, target, case.streams, limit_ms=case.limit_ms, tls=tls is not None, max_s=QEMU_MAX_S)
                cpu = cpu_s(*pids) - before
                if info["status"] == "completed":
                    goes_on(consoles[1], name)
            finally:
                target.end()
        finally:
            source.end()
        said = b"".join(pathlib.Path(path).read_bytes() for path in consoles if os.path.exists(path))
    if info["status"] != "completed":
        print(f"# {name}: {info['status']} after {info.get('total-time', 0) / 1000:.1f} s {info.get('error-desc', '')}", flush=True)
        return
    if not in_order(said):
        print(f"# {name}: the guest's count is damaged", flush=True)
    total = info["total-time"] / 1000
    rate = case.mib * MIB / total / 1e6
    for key, value, unit in (
            ("rate", rate, "MB/s"), ("total", total, "s"), ("blackout", info["downtime"], "ms"),
            ("dirty", info["ram"]["dirty-pages-rate"] * info["ram"]["page-size"] / 1e6, "MB/s"), ("cpu", cpu / (case.mib / 1024), "s/GiB")):
        figures.add(f"{name}.{key}", value, unit)
    if case.rate is not None:
        figures.add(f"ratio.{case.full}.qemu", case.rate / rate, "x")


def run(modules, figures, a, case):
    """One turn of a case."""
    move_test, peers = modules
    if available() < (case.mib * case.share // 8 + case.content_mib * 5 // 4 + 256) * MIB:
        print(f"# {case.full}: source and destination do not fit into the memory that is free: left out")
        return
    tls = credentials(a.build) if case.tls else None
    if case.tls and tls is None:
        print(f"# {case.name}: tests/node/pki_print is not built: left out")
        return
    rate = peers.iperf(case.streams, 1) if shutil.which("iperf3") and not a.alone else None
    for filling in ("all",) if case.warm else a.fill.split(","):
        ours(move_test, figures, case, filling, tls)
    if rate is not None:
        figures.add(f"iperf3.{case.streams}", rate, "MB/s")
        if case.rate is not None:
            figures.add(f"ratio.{case.full}.iperf3", case.rate / rate, "x")
    if a.private:
        case.backend = "memory-backend-ram"
    if a.accel is not None:
        qemu(peers, figures, case, a.accel, tls)


def qemu_accel(peers):
    """What QEMU can run the guest with: the words of -accel, or None."""
    if shutil.which("qemu-system-x86_64") is None:
        return None
    for accel in ("kvm", "tcg,tb-size=32"):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            kernel, console = os.path.join(folder, "kernel"), os.path.join(folder, "console")
            pathlib.Path(kernel).write_bytes(multiboot(guest(0)))
            try:
                q = peers.Qemu(folder, "q", "memory-backend-memfd,id=ram,size=512M,share=on", "-m", "512", "-kernel", kernel, "-serial",
                               f"file:{console}", accel=accel)
            except RuntimeError:
                continue
            try:
                until = time.monotonic() + 15
                while time.monotonic() < until:
                    if os.path.exists(console) and os.path.getsize(console) > 2:
                        return accel
                    time.sleep(0.05)
            finally:
                q.end()
    return None


def main():
    """All cases, repeated."""
    args = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    args.add_argument("build")
    args.add_argument("-m", default="2048", metavar="MiB,...")
    args.add_argument("-c", default=CASES, metavar="CASE,...")
    args.add_argument("-r", type=int, default=1, metavar="REPEATS")
    args.add_argument("-s", type=int, default=4, metavar="STREAMS")
    args.add_argument("--alone", action="store_true", help="neither QEMU nor iperf3")
    args.add_argument("--private", action="store_true", help="QEMU's destination has private memory, not a memfd")
    args.add_argument("--fill", default="none", metavar="none,ahead", help="who faults in a cold destination's memory")
    a = args.parse_args()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        sys.exit("migrate_vms: no /dev/kvm")
    if not os.access(os.path.join(a.build, "bin", "godwit-vm"), os.X_OK):
        sys.exit(f"migrate_vms: {a.build}/bin/godwit-vm is not there: build the release preset first")
    unknown = [name for name in a.c.split(",") if not NAME.fullmatch(name)]
    if unknown:
        sys.exit(f"migrate_vms: no such case: {', '.join(unknown)}")
    os.environ["GW_BUILD"] = os.path.abspath(a.build)
    sys.path += [str(HERE), str(HERE.parent / "node")]
    modules = importlib.import_module("move_test"), importlib.import_module("migrate_peers")
    a.accel = None if a.alone else qemu_accel(modules[1])
    print(f"# load average {os.getloadavg()[0]:.1f}; QEMU: {a.accel or 'not here, or it does not start the guest'}", flush=True)
    figures = Figures()
    for _ in range(a.r):
        for mib in map(int, a.m.split(",")):
            for name in a.c.split(","):
                run(modules, figures, a, Case(name, mib, a.s))
    figures.summary()
    sys.exit(1 if figures.failures else 0)


if __name__ == "__main__":
    main()

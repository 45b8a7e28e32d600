#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Migrations of ours beside QEMU's and iperf3, in turns, in one run: one figure per line.

    migrate_peers.py BUILD [-m MiB] [-r REPEATS] [-s STREAMS]

BUILD is a release build (BUILD/tests/bench/migrate_bench). QEMU moves a guest of the same size whose
memory holds the same share of noise and zeros (it idles in its BIOS) with multifd over loopback, with a
blackout limit of 20 ms, to a destination whose memory is allocated in advance (warm) or not (cold).
What is not installed is left out, and said. Run it with real-time priority (chrt -f 10) on a busy machine.
"""
import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20


def figure(name, value, unit):
    """One line, as the C programs print it."""
    print(f"{name:<44} {value:12.1f} {unit}", flush=True)


class Qemu:
    """One process and its QMP socket."""

    def __init__(self, folder, name, memory, *extra, accel="tcg,tb-size=32"):
        path = os.path.join(folder, name)
        self.errors = open(path + ".err", "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", accel, "-machine", "pc,memory-backend=ram", "-nodefaults",
             "-no-user-config", "-display", "none", "-object", memory, "-qmp", f"unix:{path},server=on,wait=off",
             *extra], stderr=self.errors, stdin=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > until or self.process.poll() is not None:
                    self.errors.seek(0)
                    raise RuntimeError("qemu: " + self.errors.read()) from None
                time.sleep(0.05)
        self.lines = self.socket.makefile("rw")
        self.lines.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(f"qemu: {command}: {answer['error']['desc']}")

    def cpu_s(self):
        """Processor time so far."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        """Kill it."""
        self.process.kill()
        self.process.wait()
        self.socket.close()
        self.errors.close()


def fill(path, mib, share):
    """A guest's memory: of 8 pages, share hold noise, the others were never written."""
    with open(path, "wb") as f:
        f.truncate(mib * MIB)
        for at in range(2 * MIB, mib * MIB, 32768):  # the BIOS has the first MiB
            f.seek(at)
            f.write(os.urandom(4096 * share))


def migrate(source, target, streams, limit_ms=20, tls=False, max_s=120):
    """One migration; returns QEMU's own figures. tls: both have an object of that name, for node n1."""
    for end in (source, target):
        end("migrate-set-capabilities", capabilities=[{"capability": word, "state": True} for word in ("multifd", "auto-converge")])
        end("migrate-set-parameters", **{"multifd-channels": streams}, **({"tls-creds": "tls", "tls-hostname": "n1"} if tls else {}))
    source("migrate-set-parameters", **{"max-bandwidth": 100 * 10**9, "downtime-limit": limit_ms})
    with socket.socket() as s:  # a free port
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    target("migrate-incoming", uri=f"tcp:127.0.0.1:{port}")
    source("migrate", uri=f"tcp:127.0.0.1:{port}")
    until = time.monotonic() + max_s
    canceled = False
    while time.monotonic() < until + 30:
        info = source("query-migrate")
        if info.get("status") in ("completed", "failed", "cancelled"):
            return info
        if time.monotonic() > until and not canceled:
            source("migrate_cancel")
            canceled = True
        time.sleep(0.02)
    raise RuntimeError("qemu: the migration does not end")


def qemu(name, mib, share, warm, streams):
    """A case on QEMU's side."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        fill(os.path.join(folder, "ram"), mib, share)
        source = Qemu(folder, "source",
                      f"memory-backend-file,id=ram,size={mib}M,mem-path={folder}/ram,share=on", "-m", str(mib))
        target = Qemu(folder, "target", f"memory-backend-memfd,id=ram,size={mib}M,share=on,"
                      f"prealloc={'on' if warm else 'off'}", "-m", str(mib), "-incoming", "defer")
        try:
            time.sleep(1)  # the BIOS gives up looking for a disk
            before = source.cpu_s() + target.cpu_s()
            info = migrate(source, target, streams)
            cpu = source.cpu_s() + target.cpu_s() - before
        finally:
            source.end()
            target.end()
    if info["status"] != "completed":
        print(f"# qemu.{name}: {info['status']}")
        return
    total = info["total-time"] / 1000
    figure(f"qemu.{name}.rate", mib * MIB / total / 1e6, "MB/s")
    figure(f"qemu.{name}.total", total, "s")
    figure(f"qemu.{name}.blackout", info["downtime"], "ms")
    figure(f"qemu.{name}.cpu", cpu / (mib / 1024), "s/GiB")


def iperf(streams, seconds=2):
    """What TCP does between two processes here, in MB/s; None: it did not work."""
    server = subprocess.Popen(["iperf3", "-s", "-1", "-B", "127.0.0.1", "-p", "5299"], stdout=subprocess.DEVNULL)
    try:
        for _ in range(50):
            answer = subprocess.run(["iperf3", "-c", "127.0.0.1", "-p", "5299", "-P", str(streams), "-t", str(seconds), "-J"],
                                    capture_output=True, text=True, check=False)
            result = json.loads(answer.stdout or "{}")
            if "error" not in result:
                return result["end"]["sum_received"]["bits_per_second"] / 8e6
            time.sleep(0.1)
        print("# iperf3: " + result["error"])
        return None
    finally:
        server.kill()
        server.wait()


def main():
    """All cases, repeated."""
    args = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    args.add_argument("build")
    args.add_argument("-m", type=int, default=2048, metavar="MiB")
    args.add_argument("-r", type=int, default=1, metavar="REPEATS")
    args.add_argument("-s", type=int, default=4, metavar="STREAMS")
    a = args.parse_args()
    ours = os.path.join(a.build, "tests", "bench", "migrate_bench")
    if not os.access(ours, os.X_OK):
        sys.exit(f"migrate_peers: {ours} is not there: build the release preset first")
    for tool in ("qemu-system-x86_64", "iperf3"):
        if shutil.which(tool) is None:
            print(f"# {tool} is not installed: left out")
    for _ in range(a.r):
        rate = iperf(a.s) if shutil.which("iperf3") else None
        if rate is not None:
            figure(f"iperf3.{a.s}", rate, "MB/s")
        for case, share, warm in (("noise_cold", 8, False), ("noise_warm", 8, True), ("half_zero_warm", 4, True)):
            subprocess.run([ours, "-m", str(a.m), "-t", f"{case}_{a.s}"], check=True)
            if shutil.which("qemu-system-x86_64"):
                qemu(f"{case}_{a.s}", a.m, share, warm, a.s)
        subprocess.run([ours, "-m", str(a.m), "-t", "dirty_"], check=True)


if __name__ == "__main__":
    main()

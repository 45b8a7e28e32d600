#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Godwit beside QEMU in one lab node: time to userspace, memory of the process, disk, network.

    tests/bench/qemu_bench.py [--rounds 3] [--cpus 1]

Both run Debian's kernel with the small guest, one after the other, --rounds times; a figure is the median, one
per line: `<kind>.<what> <value> <unit>`. Kinds: godwit, pc and microvm (QEMU with virtio). `ratio.` lines say
how many times better Godwit is than the better of the two. Needs GW_BUILD (a release build) and GW_SOURCE as
the tests do. The node is emulated, so only ratios mean something.
"""
import argparse
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "lib"))
MEMORY_MIB = 256
DISK_MIB = 256
TRANSFER = 32 << 20
ECHOES = 300
DEADLINE_S = 180
# Emulated SVM lays XSAVE areas out differently than it says.
CPU = ("host,-kvm,-xsave,hv-relaxed,hv-vapic,hv-time,hv-vpindex,hv-runtime,hv-synic,hv-stimer,hv-reset,"
       "hv-frequencies")
APPEND = "console=ttyS0 quiet mitigations=off panic=1 gw.ip={}/24"
# What is measured, and its unit. Larger is better, but for SMALLER.
UNITS = {"boot_s": "s", "memory_mib": "MiB", "read_4k_per_s": "1/s", "write_4k_per_s": "1/s",
         "read_1m_mib_s": "MiB/s", "write_1m_mib_s": "MiB/s", "rtt_us": "us", "net_out_mb_s": "MB/s",
         "net_in_mb_s": "MB/s"}
SMALLER = ("boot_s", "memory_mib", "rtt_us")


def sh(line, check=True):
    """Run a shell line; returns its output."""
    return subprocess.run(line, shell=True, check=check, capture_output=True, text=True).stdout


def wait_for(what, condition):
    end = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {DEADLINE_S} s: {what}")
        time.sleep(0.02)
    return value


class Agent:
    """The guest's commands over TCP."""

    def __init__(self, address):
        self.address = address
        self.stream = wait_for(f"{address} answers", self.connect)

    def connect(self):
        try:
            s = socket.create_connection((self.address, 7001), 2)
            s.settimeout(DEADLINE_S)
            return s.makefile("rwb", buffering=0)
        except OSError:
            return None

    def ask(self, line):
        self.stream.write(line.encode() + b"\n")
        while True:
            got = self.stream.readline().decode(errors="replace")
            if not got:
                raise ConnectionError(f"the guest left during '{line}'")
            if re.search("gwguest: (ok|fail) ", got):
                return got

    def timed(self, line):
        begin = time.monotonic()
        answer = self.ask(line)
        if "ok" not in answer:
            raise RuntimeError(f"{line}: {answer}")
        return time.monotonic() - begin


class Godwit:
    name, disk, address, gateway = "godwit", "sda", "10.9.0.2", "10.9.0.1"

    def __init__(self, files, cpus):
        self.files, self.cpus = files, cpus
        sh("godwit switch create bench --type internal --subnet 10.9.0.0/24")

    def start(self):
        sh(f"godwit vm create bench --memory {MEMORY_MIB}M --cpus {self.cpus} --kernel {self.files['vmlinux']} "
           f"--initrd {self.files['initrd']} --append '{APPEND.format(self.address)}' --disk /root/disk.raw "
           "--nic switch=bench")
        self.id = json.loads(sh("godwit vm show bench --json"))["id"]
        log = pathlib.Path(f"/var/lib/godwit/vm/{self.id}/console.log")
        begin = time.monotonic()
        sh("godwit vm start bench")
        wait_for("ready", lambda: log.exists() and b"gwguest: ready" in log.read_bytes())
        return time.monotonic() - begin

    def pid(self):
        return int(sh("pgrep -n godwit-vm"))

    def stop(self):
        sh("godwit vm stop --off bench; godwit vm remove bench")

    def close(self):
        sh("godwit switch remove bench")


class Qemu:
    """QEMU as its users run it: virtio, O_DIRECT, io_uring, the host's tap, the enlightenments."""

    disk, address, gateway = "vda", "10.9.1.2", "10.9.1.1"

    def __init__(self, files, cpus, machine):
        self.files, self.cpus, self.name = files, cpus, machine
        self.process = None
        sh("ip link add qbr type bridge; ip addr add 10.9.1.1/24 dev qbr; ip link set qbr up; "
           "ip tuntap add qtap mode tap vnet_hdr; ip link set qtap master qbr; ip link set qtap up")
        self.vhost = subprocess.run("modprobe vhost_net && test -e /dev/vhost-net", shell=True, check=False,
                                    capture_output=True).returncode == 0

    def command(self):
        bus = "device" if self.name == "microvm" else "pci"
        machine = {"pc": "pc", "microvm": "microvm,pit=off,pic=off,isa-serial=on,rtc=on,x-option-roms=off"}
        return ["qemu-system-x86_64", "-accel", "kvm", "-cpu", CPU, "-smp", str(self.cpus), "-nodefaults",
                "-no-user-config", "-display", "none", "-m", str(MEMORY_MIB),
                "-object", f"memory-backend-memfd,id=ram,size={MEMORY_MIB}M,share=on",
                "-machine", machine[self.name] + ",memory-backend=ram", "-serial", "file:/root/serial",
                "-kernel", self.files["vmlinux"], "-initrd", self.files["initrd"],
                "-append", APPEND.format(self.address),
                "-drive", "if=none,id=d,file=/root/disk.raw,format=raw,cache=none,aio=io_uring",
                "-device", f"virtio-blk-{bus},drive=d",
                "-netdev", f"tap,id=n,ifname=qtap,script=no,downscript=no,vhost={'on' if self.vhost else 'off'}",
                "-device", f"virtio-net-{bus},netdev=n" + (",romfile=" if bus == "pci" else "")]

    def start(self):
        serial = pathlib.Path("/root/serial")
        serial.write_bytes(b"")
        begin = time.monotonic()
        self.process = subprocess.Popen(self.command())
        wait_for("ready", lambda: b"gwguest: ready" in serial.read_bytes() or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise RuntimeError(f"QEMU ended with {self.process.returncode}")
        return time.monotonic() - begin

    def pid(self):
        return self.process.pid

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE_S)

    def close(self):
        sh("ip link del qtap; ip link del qbr", check=False)


def overhead_mib(pid):
    """Proportional share of the process's memory without the guest's [MiB]."""
    total, counts = 0, True
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            counts = "memfd:" not in line
        elif counts and line.startswith("Pss:"):
            total += int(line.split()[1])
    return total / 1024


def receive(listener):
    """All of one connection; returns the seconds from its first byte to its end."""
    with listener.accept()[0] as s:
        s.settimeout(DEADLINE_S)
        got = len(s.recv(1 << 16))
        begin = time.monotonic()
        while data := s.recv(1 << 20):
            got += len(data)
        if got != TRANSFER:
            raise RuntimeError(f"{got} bytes of {TRANSFER} came")
        return time.monotonic() - begin


def network(subject, agent):
    """Round trip [us], guest to host and host to guest [MB/s]."""
    with socket.create_connection((subject.address, 7), DEADLINE_S) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        for _ in range(ECHOES):
            begin = time.monotonic()
            s.sendall(b"x" * 64)
            got = 0
            while got < 64:
                got += len(s.recv(64))
            times.append(time.monotonic() - begin)
    yield "rtt_us", statistics.median(times) * 1e6
    with socket.create_server((subject.gateway, 5002)) as listener:
        listener.settimeout(DEADLINE_S)
        agent.stream.write(f"sh dd if=/dev/zero bs=64k count={TRANSFER >> 16} 2>/dev/null | "
                           f"nc {subject.gateway} 5002\n".encode())
        took = receive(listener)
        agent.stream.readline()
    yield "net_out_mb_s", TRANSFER / took / 1e6
    agent.stream.write(b"sh nc -l -p 5001 | wc -c\n")
    s = wait_for("the guest listens", lambda: connect(subject.address, 5001))
    with s:
        begin = time.monotonic()
        s.sendall(bytes(TRANSFER))
        s.shutdown(socket.SHUT_WR)
        s.recv(1)
        yield "net_in_mb_s", TRANSFER / (time.monotonic() - begin) / 1e6
    agent.stream.readline()


def connect(address, port):
    try:
        s = socket.create_connection((address, port), 2)
        s.settimeout(DEADLINE_S)
        return s
    except OSError:
        return None


def storage(subject, agent):
    device = f"/dev/{subject.disk}"
    agent.timed(f"sh dd if=/dev/zero of={device} bs=1M count={DISK_MIB} oflag=direct")  # no holes
    for what, arguments, amount in (
            ("read_4k_per_s", f"if={device} of=/dev/null bs=4k count=3000 iflag=direct", 3000),
            ("write_4k_per_s", f"if=/dev/zero of={device} bs=4k count=3000 oflag=direct", 3000),
            ("read_1m_mib_s", f"if={device} of=/dev/null bs=1M count={DISK_MIB} iflag=direct", DISK_MIB),
            ("write_1m_mib_s", f"if=/dev/zero of={device} bs=1M count={DISK_MIB} oflag=direct", DISK_MIB)):
        yield what, amount / agent.timed(f"sh dd {arguments}")


def measure(subject):
    """One life of a guest: {what: value}."""
    figures = {"boot_s": subject.start()}
    try:
        agent = Agent(subject.address)
        figures["memory_mib"] = overhead_mib(subject.pid())
        figures.update(storage(subject, agent))
        figures.update(network(subject, agent))
    finally:
        subject.stop()
    return figures


def in_node(args):
    files = json.loads(args.files)
    sh(f"truncate -s {DISK_MIB}M /root/disk.raw; mkdir -p /run/godwit /var/lib/godwit; "
       "setsid godwitd --foreground >/root/godwitd.log 2>&1 </dev/null &")
    wait_for("godwitd answers", lambda: subprocess.run(["godwit", "vm", "list"], check=False,
                                                       capture_output=True).returncode == 0)
    kinds = (lambda: Godwit(files, args.cpus), lambda: Qemu(files, args.cpus, "pc"),
             lambda: Qemu(files, args.cpus, "microvm"))
    results = {}
    for _ in range(args.rounds):
        for make in kinds:
            subject = make()
            try:
                for what, value in measure(subject).items():
                    results.setdefault((subject.name, what), []).append(value)
            except (OSError, RuntimeError, TimeoutError, subprocess.CalledProcessError) as error:
                print(f"# {subject.name}: {error} {getattr(error, 'stderr', '') or ''}", flush=True)
            finally:
                subject.close()
    report({key: statistics.median(values) for key, values in results.items()})


def report(figures):
    for (kind, what), value in figures.items():
        print(f"{kind}.{what} {value:.2f} {UNITS[what]}")
    for what in dict.fromkeys(what for _, what in figures):
        ours = figures.get(("godwit", what))
        theirs = [figures[k, what] for k in ("pc", "microvm") if (k, what) in figures]
        if ours and theirs:
            best = min(theirs) / ours if what in SMALLER else ours / max(theirs)
            print(f"ratio.{what} {best:.2f} x")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--files", help=argparse.SUPPRESS)  # inside the node
    args = parser.parse_args()
    if args.files:
        in_node(args)
        return
    import gwlab_client  # pylint: disable=import-outside-toplevel
    out = subprocess.run([gwlab_client.SOURCE / "deploy/lab/guest", "small"], capture_output=True, text=True,
                         check=True).stdout
    files = json.dumps(dict(line.split("=", 1) for line in out.split()))
    lab = gwlab_client.Lab("qemubench", "--nodes", "1", "--memory", "2G", "--cpus", "2")
    lab.up()
    try:
        done = lab.exec("n1", "env", f"GW_BUILD={os.environ['GW_BUILD']}", "python3", str(HERE), "--rounds",
                        str(args.rounds), "--cpus", str(args.cpus), "--files", files,
                        timeout=args.rounds * 600, check=False)
        sys.stdout.write(done.stdout.decode(errors="replace"))
        sys.stderr.write(done.stderr.decode(errors="replace"))
        sys.exit(done.returncode)
    finally:
        lab.down()


if __name__ == "__main__":
    main()

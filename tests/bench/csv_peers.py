#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
A shared volume beside GFS2 with the kernel's DLM: the same three lab nodes, corosync and kind of LUN, in turns.

    tests/bench/csv_peers.py [--rounds 3] [--files 60]

One figure per line: `<peer>.<what> <value> <unit>`, peer csv, gfs2 or raw (the LUN itself); `ratio.` lines say
how many times better the volume is than GFS2. Needs gfs2-utils and dlm-controld beside the packages of the lab,
GW_BUILD (a release build) and GW_SOURCE as the tests do. The nodes are emulated: only ratios mean something.

What is done (program WORK, in the nodes):
    alone     one node makes files of 4 KiB in a folder of its own, each synced; then removes them
    beside    two nodes do so at once, in one folder: the lock of the folder goes to and fro
    handover  a node writes and syncs 4 KiB of one file, then the other reads it, by turns
    write, read   1 MiB at a time past the page cache, in a file that is allocated
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1] / "lib"))
import gwlab_client  # noqa: E402
from gwlab_client import wait_for  # noqa: E402

NODES = ("n1", "n2", "n3")
ROOTS = {"csv": "/var/lib/godwit/csv/vol1", "gfs2": "/root/gfs2"}
DEVICES = {"csv": "/dev/disk/by-lun/lun0", "gfs2": "/dev/disk/by-lun/lun1", "raw": "/dev/disk/by-lun/lun2"}
WAIT_S = 300
DATA_MIB = 64
WORK = r"""
import json, mmap, os, sys, time

def made(folder, count, tag):
    os.makedirs(folder, exist_ok=True)
    page = b"x" * 4096
    out = []
    begin = time.monotonic()
    for i in range(count):
        a = time.monotonic()
        fd = os.open(f"{folder}/{tag}{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(fd, page)
        os.fsync(fd)
        os.close(fd)
        out.append(time.monotonic() - a)
    middle = time.monotonic()
    for i in range(count):
        os.unlink(f"{folder}/{tag}{i}")
    end = time.monotonic()
    return {"make": count / (middle - begin), "unlink": count / (end - middle), "times": sorted(out)}

def touch(path, text):
    a = time.monotonic()
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    os.pwrite(fd, text.encode().ljust(4096), 0)
    os.fsync(fd)
    os.close(fd)
    return {"s": time.monotonic() - a}

def look(path, text):
    a = time.monotonic()
    fd = os.open(path, os.O_RDONLY)
    got = os.pread(fd, 4096, 0)
    os.close(fd)
    return {"s": time.monotonic() - a, "good": got == text.encode().ljust(4096)}

def stream(path, size):
    page = mmap.mmap(-1, 1 << 20)
    page.write(os.urandom(1 << 20))
    if not path.startswith("/dev/"):
        fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
        for _ in range(size):
            os.write(fd, page)
        os.fsync(fd)
        os.close(fd)
    out = {}
    for what, flags, call in (("write", os.O_WRONLY, os.pwritev), ("read", os.O_RDONLY, os.preadv)):
        fd = os.open(path, flags | os.O_DIRECT)
        a = time.monotonic()
        for i in range(size):
            call(fd, [page], i << 20)
        os.fsync(fd)
        out[what] = size / (time.monotonic() - a)
        os.close(fd)
    return out

name, *words = sys.argv[1:]
print(json.dumps({"made": made, "touch": touch, "look": look, "stream": stream}[name](
    *[int(w) if w.isdigit() else w for w in words])))
"""


def figure(name, value, unit):
    print(f"{name:<44} {value:12.2f} {unit}", flush=True)


class Peers:
    """Three nodes in one cluster, with both file systems mounted on all of them."""

    def __init__(self, lab):
        self.lab = lab
        for node in NODES:
            lab.exec(node, "cat > /root/work.py", stdin=WORK.encode(), check=True)
        self.form()
        self.make_csv()
        self.make_gfs2()

    def form(self):
        for node in NODES:
            self.lab.sh(node, "mkdir -p /run/godwit /var/lib/godwit; setsid godwitd --foreground --watchdog assume "
                              ">>/root/godwitd.log 2>&1 </dev/null &")
            self.lab.sh(node, "setsid godwit-csvd --foreground >>/root/csvd.log 2>&1 </dev/null &")
            wait_for(f"godwitd answers on {node}", lambda n=node: self.lab.exec(n, "godwit vm list").returncode == 0, WAIT_S)
        # One link: the DLM speaks TCP on one only.
        words = " ".join(f"--node {n}=10.77.1.{i}" for i, n in enumerate(NODES, 1))
        made = json.loads(self.lab.sh("n1", f"godwit cluster create lab {words} --detect 3s --json", timeout=WAIT_S))
        for one in made["invited"]:
            self.lab.sh(one["name"], f"godwit node add {one['name']} --addr {','.join(one['addrs'])} "
                                     f"--token {one['token']}", timeout=WAIT_S)

    def make_csv(self):
        self.lab.sh("n1", f"godwit csv create vol1 --device {DEVICES['csv']}", timeout=WAIT_S)
        for node in NODES:
            wait_for(f"the volume is mounted on {node}", lambda n=node: self.lab.exec(
                n, f"mountpoint -q {ROOTS['csv']} && touch {ROOTS['csv']}/{n}", timeout=30).returncode == 0, WAIT_S)

    def make_gfs2(self):
        name = self.lab.sh("n1", "corosync-cmapctl -g totem.cluster_name").split("= ")[-1].strip()
        for node in NODES:
            self.lab.sh(node, "mkdir -p /etc/dlm /var/log/dlm_controld /sys/kernel/config; modprobe -a configfs dlm gfs2; "
                              "mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config; "
                              # Where udev's rules would put them.
                              "mkdir -p /dev/misc; for d in /dev/dlm*; do ln -sf $d /dev/misc/; done; "
                              "dlm_controld --enable_fencing 0 --enable_quorum_lockspace 0 --protocol tcp >/root/dlm.log 2>&1")
        for node in NODES:
            wait_for(f"the DLM's daemon of {node} is a member", lambda n=node: "quorate 1" in self.lab.exec(
                n, "dlm_tool status").stdout.decode(), WAIT_S)
        self.lab.sh("n1", f"mkfs.gfs2 -O -q -p lock_dlm -t {name}:gfs2 -j {len(NODES)} -J 32 {DEVICES['gfs2']}", timeout=WAIT_S)
        for node in NODES:
            self.lab.sh(node, f"mkdir -p {ROOTS['gfs2']}; mount -t gfs2 -o noatime {DEVICES['gfs2']} {ROOTS['gfs2']}", timeout=WAIT_S)

    def work(self, node, *words):
        return json.loads(self.lab.sh(node, " ".join(["python3 /root/work.py", *map(str, words)]), timeout=WAIT_S))

    def beside(self, root, count):
        """Two nodes at once in one folder: the slower one's answer, and all times."""
        words = [["exec", "--name", self.lab.name, n, "--", f"python3 /root/work.py made {root}/both {count} {n}-"]
                 for n in NODES[:2]]
        all_ = [subprocess.Popen([str(gwlab_client.LAB), *w], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) for w in words]
        answers = []
        for one in all_:
            out = one.communicate(timeout=WAIT_S)[0]
            if one.returncode != 0:
                raise RuntimeError(f"two nodes in one folder: exit {one.returncode}")
            answers.append(json.loads(out))
        return answers

    def round(self, peer, number, files):
        """{what: value} of one turn."""
        root = ROOTS[peer]
        alone = self.work("n1", "made", f"{root}/alone", files, "f")
        out = {"make_alone_per_s": alone["make"], "unlink_alone_per_s": alone["unlink"]}
        out["make_alone_p50_ms"], out["make_alone_p99_ms"] = (1e3 * t for t in ends(alone["times"]))
        both = self.beside(root, files)
        out["make_beside_per_s"] = sum(b["make"] for b in both)
        out["make_beside_p50_ms"], out["make_beside_p99_ms"] = (1e3 * t for t in ends(sorted(both[0]["times"] + both[1]["times"])))
        wrote, read = [], []
        for turn in range(8):
            text = f"{number}-{turn}"
            a, b = (NODES[turn % 2], NODES[1 - turn % 2])
            wrote.append(self.work(a, "touch", f"{root}/ball", text)["s"])
            seen = self.work(b, "look", f"{root}/ball", text)
            if not seen["good"]:
                raise RuntimeError(f"{peer}: {b} does not read what {a} wrote and synced")
            read.append(seen["s"])
        out["handover_write_ms"], out["handover_read_ms"] = 1e3 * statistics.median(wrote), 1e3 * statistics.median(read)
        data = self.work("n1", "stream", f"{root}/data", DATA_MIB)
        out["write_mib_s"], out["read_mib_s"] = data["write"], data["read"]
        return out

    def raw(self):
        data = self.work("n1", "stream", DEVICES["raw"], DATA_MIB)
        return {"write_mib_s": data["write"], "read_mib_s": data["read"]}


def ends(times):
    """Median and 99th percentile of sorted times."""
    return times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--files", type=int, default=60)
    options = options.parse_args()
    seen = {"csv": [], "gfs2": [], "raw": []}
    lab = gwlab_client.Lab("peers", "--nodes", "3", "--memory", "1G", "--cpus", "1", "--lun", "1G", "--lun", "1G", "--lun", "128M")
    with lab:
        peers = Peers(lab)
        for number in range(options.rounds):
            for peer in ("csv", "gfs2"):
                seen[peer].append(peers.round(peer, number, options.files))
            seen["raw"].append(peers.raw())
    middle = {peer: {k: statistics.median(r[k] for r in rounds) for k in rounds[0]} for peer, rounds in seen.items()}
    for peer, values in middle.items():
        for name, value in values.items():
            unit = "ms" if name.endswith("_ms") else "MiB/s" if name.endswith("mib_s") else "1/s"
            figure(f"{peer}.{name}", value, unit)
    for name in middle["csv"]:
        a, b = middle["csv"][name], middle["gfs2"][name]
        figure(f"ratio.{name}", b / a if name.endswith("_ms") else a / b, "x")
    figure("load_average", os.getloadavg()[0], "processes")


if __name__ == "__main__":
    main()

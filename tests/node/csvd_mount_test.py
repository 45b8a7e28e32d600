#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The mounted files of a shared volume on three nodes: the same everywhere, one writer at a time, whoever coordinates."""
import os
import pathlib
import shutil
import signal
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
FSX = sys.argv.pop(1) if len(sys.argv) > 1 else ""

import csvd_test  # noqa: E402
from csvd_test import MIB, WAIT_S, gwnet  # noqa: E402


class Node:
    """What programs on a node do with the mounted files."""

    def __init__(self, case, node):
        self.case, self.node = case, node
        self.at = node.state / "csv" / "vol1"

    def run(self, *words, check=True):
        done = self.node.node.run(*[str(w) for w in words], check=False, timeout_s=WAIT_S)
        if check:
            self.case.assertEqual(done.returncode, 0, f"{self.node.name}: {words}: {done.stdout}{done.stderr}")
        return done

    def sh(self, script, check=True):
        return self.run("sh", "-c", f"cd {self.at} && {script}", check=check)

    def mounted(self):
        return self.run("grep", "-q", f"{self.at} fuse", "/proc/mounts", check=False).returncode == 0

    def fsx(self, name, seed, count, *end):
        return self.node.node.spawn(FSX, self.at / name, str(seed), str(count), str(MIB), *end, log=f"{name}.fsx")

    def fsx_log(self, name):
        return (self.node.node.dir / f"{name}.fsx").read_text(errors="replace")


class Base(unittest.TestCase):
    cluster_type = csvd_test.Cluster

    def setUp(self):
        try:
            os.close(os.open("/dev/fuse", os.O_RDWR))
        except OSError as e:
            self.skipTest(str(e))
        self.cluster = self.cluster_type(self)
        self.cluster.start()
        self.nodes = [Node(self, n) for n in self.cluster.nodes]
        self.wait_mounted()

    def wait_mounted(self):
        gwnet.wait_for(lambda: all(n.mounted() for n in self.nodes if n.node.proc is not None), WAIT_S, "mounted")

    def sums(self, name):
        return {n.sh(f"sha256sum {name}").stdout.split()[0] for n in self.nodes}

    def leave(self):
        for node in reversed(self.cluster.nodes):
            self.assertTrue(node.stop())
        check = self.cluster.check()
        self.assertEqual((check["faults"], check["replayed"]), ([], 0))


class Files(Base):
    def test_what_is_closed_here_is_seen_there(self):
        first, second, third = self.nodes
        first.sh("mkdir dir && head -c 3000001 /dev/urandom > dir/file && echo one > text")
        self.assertEqual(len(self.sums("dir/file")), 1)
        second.sh("echo two >> text")
        third.sh("echo three >> text && mv text dir/words")
        for node in self.nodes:
            self.assertEqual(node.sh("cat dir/words").stdout, "one\ntwo\nthree\n")
            self.assertNotEqual(node.sh("cat text", check=False).returncode, 0)
        second.sh("truncate -s 5 dir/words && chmod 600 dir/words && touch -d 2001-01-01 dir/words")
        for node in self.nodes:
            self.assertEqual(node.sh("stat -c '%s %a %Y' dir/words; cat dir/words").stdout,
                             first.sh("date -d 2001-01-01 +'5 600 %s'").stdout + "one\nt")
        third.sh("rm -r dir")
        self.assertEqual(first.sh("ls -A").stdout, "")
        self.leave()

    def test_one_node_writes_at_a_time_and_others_read(self):
        first, second, third = self.nodes
        first.sh("echo before > file")
        writer = first.node.node.spawn("sh", "-c", f"cd {first.at} && exec 3>>file && echo ready >&3 && sync file && "
                                       "touch open && while [ -e open ]; do sleep 0.1; done; echo last >&3",
                                       log="writer")
        gwnet.wait_for(lambda: second.sh("test -e open", check=False).returncode == 0, WAIT_S, "it is open")
        self.assertEqual(second.sh("cat file").stdout, "before\nready\n")
        refused = second.sh("echo mine >> file", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("busy", refused.stderr)
        self.assertNotEqual(third.sh("truncate -s 0 file", check=False).returncode, 0)
        first.sh("echo also >> file")  # on its own node everybody may
        third.sh("rm open")
        self.assertTrue(writer.wait(WAIT_S))
        gwnet.wait_for(lambda: second.sh("echo mine >> file", check=False).returncode == 0, WAIT_S, "it is closed")
        self.assertEqual(third.sh("sort file").stdout, "also\nbefore\nlast\nmine\nready\n")
        self.leave()

    def test_readers_let_go_of_what_a_writer_frees(self):
        first, second, third = self.nodes
        first.sh("head -c 4M /dev/urandom > file")
        reader = third.node.node.spawn("sh", "-c", f"cd {third.at} && exec 3<file && head -c 2M <&3 | sha256sum && "
                                       "touch read && while [ -e read ]; do sleep 0.1; done; cat <&3 | wc -c",
                                       log="reader")
        gwnet.wait_for(lambda: second.sh("test -e read", check=False).returncode == 0, WAIT_S, "it was read")
        second.sh("fallocate -p -o 1M -l 1M file && truncate -s 3M file && truncate -s 5M file && sync file")
        self.assertEqual(second.sh("stat -c %b file").stdout, f"{2 * 2048}\n")
        first.sh("tail -c 2M file | cmp - /dev/zero 2>&1 | grep -q EOF && rm read")
        self.assertTrue(reader.wait(WAIT_S))
        self.assertEqual((third.node.node.dir / "reader").read_text().split()[-1], str(3 * MIB))
        self.leave()

    def test_images_made_on_one_node_are_good_on_another(self):
        if shutil.which("qemu-img") is None:
            self.skipTest("no qemu-img")
        first, second, third = self.nodes
        first.sh("head -c 5M /dev/urandom > source && truncate -s 20M source")
        for kind in ("vhdx", "qcow2"):
            second.sh(f"qemu-img convert -O {kind} source image.{kind}")
            third.sh(f"qemu-img check image.{kind} && qemu-img compare source image.{kind}")
            first.sh(f"qemu-img compare source image.{kind}")
        self.leave()

    def test_a_node_that_died_leaves_its_files_to_others(self):
        first, second, _ = self.nodes
        third = self.nodes[2].node
        self.nodes[2].sh("echo saved > file && sync file")
        third.node.spawn("sh", "-c", f"cd {self.nodes[2].at} && exec 3>>file && touch open && sleep 1000", log="holder")
        gwnet.wait_for(lambda: first.sh("test -e open", check=False).returncode == 0, WAIT_S, "it is open")
        third.kill()
        self.assertNotEqual(first.sh("echo mine >> file", check=False).returncode, 0)
        self.cluster.fence(third)
        self.cluster.tell()
        gwnet.wait_for(lambda: first.sh("echo mine >> file", check=False).returncode == 0, WAIT_S, "it is free")
        self.assertEqual(second.sh("cat file").stdout, "saved\nmine\n")


    def test_a_writer_that_slept_writes_nothing_more(self):
        first, second, third = self.nodes
        sleeper = third.node
        third.sh("head -c 8M /dev/zero > file && sync file")
        code = "import os, sys, threading\n" \
               "def write(at):\n" \
               "    fd = os.open('file', os.O_RDWR)\n" \
               "    try:\n" \
               "        while os.pwrite(fd, b'B' * (1 << 20), at << 20):\n" \
               "            os.path.exists('begun') or open('begun', 'w').close()\n" \
               "    except OSError as e:\n" \
               "        print('ended', e.errno, flush=True)\n" \
               "[threading.Thread(target=write, args=(i,)).start() for i in range(8)]\n"
        sleeper.node.spawn("sh", "-c", f"cd {third.at} && exec {sys.executable} -c \"{code}\"", log="writers")
        gwnet.wait_for(lambda: first.sh("test -e begun", check=False).returncode == 0, WAIT_S, "it writes")
        sleeper.proc.signal(signal.SIGSTOP)  # with writes of eight threads in its hands

        def stale():
            return next(n for n in first.node.volume()["nodes"] if n["name"] == sleeper.name)["slot"] == "stale"
        gwnet.wait_for(stale, WAIT_S, "its slot stands still")
        self.cluster.fence(sleeper)
        self.cluster.tell()
        taken = "head -c 8M /dev/zero | tr '\\0' C | dd of=file bs=1M conv=notrunc status=none && sync file"
        gwnet.wait_for(lambda: first.sh(taken, check=False).returncode == 0, WAIT_S, "another one writes")
        sleeper.proc.signal(signal.SIGCONT)
        sleeper.ask("PUT", "/v1/members", self.cluster.said(sleeper))
        log = sleeper.node.dir / "writers"
        gwnet.wait_for(lambda: log.read_text().count("ended") == 8, WAIT_S, "all its writes are refused")
        for node in (first, second):
            self.assertEqual(node.sh("tr -d C < file | wc -c; stat -c %s file").stdout.split(), ["0", str(8 * MIB)])


class Load(Base):
    def finish(self, jobs):
        for node, name, job in jobs:
            self.assertTrue(job.wait(WAIT_S), node.fsx_log(name))
            self.assertIn("0 differences", node.fsx_log(name))
            job.close()
        for _, name, _ in jobs:
            self.assertEqual(len(self.sums(name)), 1)

    def test_random_operations_on_all_nodes_at_once(self):
        jobs = [(n, f"f{i}-{k}", n.fsx(f"f{i}-{k}", 10 * i + k, 150)) for i, n in enumerate(self.nodes)
                for k in range(2)]
        self.finish(jobs)
        self.leave()

    def test_coordinators_are_killed_and_no_program_sees_an_error(self):
        c = self.cluster
        end = c.state / "end"
        jobs = [(n, f"f{i}", n.fsx(f"f{i}", i, 50, end)) for i, n in enumerate(self.nodes[1:])]
        for _ in range(3):  # n1 coordinates, dies, comes back, and coordinates again
            victim = c.nodes[0]
            victim.kill()
            c.check()
            c.fence(victim)
            c.appoint(2)
            c.join(victim)
            c.tell()
            c.settled()
            self.assertEqual(c.nodes[1].godwit("csv", "move", "vol1", "--to", "n1").returncode, 0)
            c.appoint(1)
            c.settled()
        self.wait_mounted()
        end.touch()
        self.finish(jobs)
        print("#", *[n.fsx_log(name).strip() for n, name, _ in jobs], file=sys.stderr)
        self.leave()


if __name__ == "__main__":
    unittest.main()

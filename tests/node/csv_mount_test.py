#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A shared volume in a file, mounted by one process: what programs do with files, and what is left of it."""
import errno
import fcntl
import filecmp
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

NODE, FSX = (sys.argv.pop(1), sys.argv.pop(1)) if len(sys.argv) > 2 else ("", "")
GODWIT = pathlib.Path(os.environ.get("GW_BUILD", "build/debug")) / "bin" / "godwit"
DEADLINE_S = 120.0  # for what should take milliseconds: the machine may be busy
POLL_S = 0.02
MIB = 1 << 20


def wait_for(what, condition):
    end = time.monotonic() + DEADLINE_S
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {DEADLINE_S:.0f} s: {what}")
        time.sleep(POLL_S)
    return result


def run(*words, **more):
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=DEADLINE_S, check=True,
                          **more).stdout


def noise(size, seed=1):
    """Bytes that do not repeat in blocks, the same for a seed."""
    word = (seed * 0x9E3779B97F4A7C15 + 1) & (2**64 - 1)
    out = bytearray()
    while len(out) < size:
        word = (word * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        out += word.to_bytes(8, "little") * 9
    return bytes(out[:size])


class Mounted(unittest.TestCase):
    SIZE = 256 * MIB
    ALONE = False

    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="gw-csv-mount-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, self.root)
        self.device = self.root / "volume"
        self.at = self.root / "mnt"
        self.at.mkdir()
        with open(self.device, "wb") as file:
            file.truncate(self.SIZE)
        run(GODWIT, "csv", "create", "vol1", "--device", self.device)
        self.process = None
        self.mount()
        self.addCleanup(self.stop_hard)

    def mount(self):
        with open(self.root / "log", "ab") as log:
            words = [NODE, self.device, self.at] + (["alone"] if self.ALONE else [])
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        self.addCleanup(self.process.stdout.close)
        self.assertEqual(self.process.stdout.readline(), b"mounted\n", self.log())

    def log(self):
        return (self.root / "log").read_text()

    def stop_hard(self):
        self.process.kill()
        self.process.wait()
        while subprocess.run(["umount", "-l", self.at], capture_output=True, check=False).returncode == 0:
            pass

    def unmount(self):
        """As the service ends: all is in order afterwards."""
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.process.wait(DEADLINE_S), 0, self.log())
        self.check()

    def check(self, replayed=False):
        done = subprocess.run([GODWIT, "csv", "check", self.device, "--json"], capture_output=True, text=True,
                              timeout=DEADLINE_S, check=False)
        result = json.loads(done.stdout)
        self.assertEqual((result["faults"], result["remain"]), ([], 0), done.stdout)
        if not replayed:
            self.assertEqual(result["replayed"], 0)
        return result

    def free(self):
        return os.statvfs(self.at).f_bavail * os.statvfs(self.at).f_frsize

    def assert_error(self, number, function, *args, **more):
        with self.assertRaises(OSError) as caught:
            function(*args, **more)
        self.assertEqual(errno.errorcode[caught.exception.errno], errno.errorcode[number])


class Names(Mounted):
    SIZE = 64 * MIB

    def test_trees_are_made_copied_moved_and_removed(self):
        tree = self.root / "tree"
        for folder in ("a/b/c", "a/d", "e"):
            (tree / folder).mkdir(parents=True)
            for i in range(5):
                (tree / folder / f"file {i}").write_bytes(noise(i * 1000, i))
        free = self.free()
        run("cp", "-a", tree, self.at / "copy")
        run("diff", "-r", tree, self.at / "copy")
        run("mv", self.at / "copy", self.at / "moved")
        run("mv", self.at / "moved/a/b", self.at / "moved/e")
        self.assertEqual(len(list((self.at / "moved/e").rglob("*"))), 5 + 1 + 1 + 5)
        self.assertEqual((self.at / "moved/e/b/c/file 3").read_bytes(), noise(3000, 3))
        run("rm", "-r", self.at / "moved")
        wait_for("the space is free again", lambda: self.free() == free)
        self.unmount()

    def test_names_have_the_limits_of_other_file_systems(self):
        (self.at / ("x" * 255)).touch()
        self.assert_error(errno.ENAMETOOLONG, (self.at / ("x" * 256)).touch)
        (self.at / "ä €").mkdir()
        (self.at / "file").touch()
        self.assertEqual(sorted(os.listdir(self.at)), ["file", "x" * 255, "ä €"])
        self.assert_error(errno.ENOENT, os.unlink, self.at / "none")
        self.assert_error(errno.EISDIR, os.unlink, self.at / "ä €")
        self.assert_error(errno.ENOTDIR, os.rmdir, self.at / "file")
        self.assert_error(errno.EEXIST, os.mkdir, self.at / "file")
        self.assert_error(errno.EEXIST, os.open, self.at / "file", os.O_CREAT | os.O_EXCL)
        self.assert_error(errno.ENOTDIR, os.listdir, self.at / "file")
        self.assert_error(errno.EPERM, os.link, self.at / "file", self.at / "link")
        self.assert_error(errno.EPERM, os.symlink, "file", self.at / "link")
        self.assert_error(errno.EPERM, os.mkfifo, self.at / "fifo")

    def test_renames_replace_what_they_may(self):
        (self.at / "a").write_text("a")
        (self.at / "b").write_text("b")
        (self.at / "dir").mkdir()
        (self.at / "full/in").mkdir(parents=True)
        os.rename(self.at / "a", self.at / "b")
        self.assertEqual((self.at / "b").read_text(), "a")
        self.assert_error(errno.EISDIR, os.rename, self.at / "b", self.at / "dir")
        self.assert_error(errno.ENOTDIR, os.rename, self.at / "dir", self.at / "b")
        self.assert_error(errno.ENOTEMPTY, os.rename, self.at / "dir", self.at / "full")
        self.assert_error(errno.EINVAL, os.rename, self.at / "full", self.at / "full/in/x")
        os.rename(self.at / "full", self.at / "dir")
        (self.at / "c").write_text("c")
        run("mv", "-n", self.at / "c", self.at / "b")  # RENAME_NOREPLACE
        self.assertEqual(((self.at / "b").read_text(), (self.at / "c").read_text()), ("a", "c"))
        self.unmount()

    def test_a_large_directory_lists_each_name_once_while_it_changes(self):
        many = {f"name {i}" for i in range(800)}
        for name in many:
            (self.at / name).touch()
        seen = []
        with os.scandir(self.at) as names:
            for entry in names:
                seen.append(entry.name)
                if len(seen) == 100:  # what is made meanwhile may be seen or not
                    for name in many - set(seen):
                        if name.endswith("7"):
                            os.unlink(self.at / name)
        gone = many - set(os.listdir(self.at))
        self.assertEqual(len(seen), len(set(seen)))
        self.assertGreater(len(gone), 30)
        self.assertEqual(many - gone, set(seen) - gone)
        run("rm", "-r", *[self.at / n for n in os.listdir(self.at)])
        self.assertEqual(os.listdir(self.at), [])
        self.unmount()

    def test_attributes_are_kept(self):
        path = self.at / "file"
        path.write_text("text")
        os.chmod(path, 0o640)
        os.chown(path, 12, 34)
        os.utime(path, ns=(10**18, 10**18 + 7))
        self.unmount()
        self.mount()
        st = os.stat(path)
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_nlink),
                         (0o640, 12, 34, 4, 10**18 + 7, 1))
        with open(path, "a", encoding="utf-8") as file:
            file.write("!")
            file.flush()
            os.utime(path, ns=(5, 5))
        self.assertEqual(os.stat(path).st_mtime_ns, 5)  # closing does not set it again
        before = time.time_ns()
        path.write_text("new")
        self.assertGreater(os.stat(path).st_mtime_ns, before - 10**9)
        self.unmount()


class Data(Mounted):
    def test_random_operations_are_as_in_memory(self):
        for seed in (1, 2):
            run(FSX, self.at / "file", seed, 600)
        self.unmount()

    def test_files_of_several_processes_do_not_mix(self):
        jobs = [subprocess.Popen([FSX, self.at / f"file{i}", str(10 + i), "250", str(2 * MIB)],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for i in range(6)]
        for job in jobs:
            _, err = job.communicate(timeout=DEADLINE_S)
            self.assertEqual(job.returncode, 0, err)
        self.unmount()

    def test_processes_append_to_one_file(self):
        def append(letter):
            with open(self.at / "log", "ab", buffering=0) as file:
                for i in range(40):
                    file.write(f"{letter}{i:03}\n".encode())
        threads = [threading.Thread(target=append, args=(letter,)) for letter in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = (self.at / "log").read_text().split()
        self.assertEqual(sorted(lines), sorted(f"{x}{i:03}" for x in "abcd" for i in range(40)))

    def test_a_file_without_a_name_lives_until_it_is_closed(self):
        free = self.free()
        with open(self.at / "file", "w+b") as file:
            file.write(noise(3 * MIB))
            file.flush()
            os.unlink(self.at / "file")
            self.assertEqual(os.listdir(self.at), [])
            file.seek(0)
            self.assertEqual(file.read(), noise(3 * MIB))
            os.fsync(file.fileno())
            self.assertLess(self.free(), free)
        wait_for("its space is free", lambda: self.free() == free)
        self.unmount()

    def test_a_full_volume_says_so_and_can_be_used_again(self):
        free = self.free()
        with open(self.at / "full", "wb", buffering=0) as file:
            with self.assertRaises(OSError) as caught:
                while True:
                    file.write(noise(MIB))
            self.assertEqual(caught.exception.errno, errno.ENOSPC)
            size = file.tell()
        self.assertEqual(self.free(), 0)
        self.assertGreater(size, free - 2 * MIB)
        with open(self.at / "full", "rb") as file:
            file.seek(size // MIB // 2 * MIB)
            self.assertEqual(file.read(MIB), noise(MIB))
        self.assert_error(errno.ENOSPC, (self.at / "other").write_bytes, b"x")
        os.truncate(self.at / "full", 10 * MIB)
        (self.at / "other").write_bytes(b"x")
        os.unlink(self.at / "full")
        os.unlink(self.at / "other")
        wait_for("all is free", lambda: self.free() == free)
        self.unmount()

    def test_space_is_reserved_punched_and_found(self):
        path = self.at / "file"
        with open(path, "w+b", buffering=0) as file:
            run("fallocate", "-n", "-l", 4 * MIB, path)
            self.assertEqual((os.stat(path).st_size, os.stat(path).st_blocks), (0, 4 * 2048))
            os.posix_fallocate(file.fileno(), 0, 8 * MIB)
            self.assertEqual((os.stat(path).st_size, os.stat(path).st_blocks), (8 * MIB, 8 * 2048))
            os.pwrite(file.fileno(), noise(2 * MIB), 3 * MIB)
            self.assertEqual(os.lseek(file.fileno(), 0, os.SEEK_DATA), 3 * MIB)
            self.assertEqual(os.lseek(file.fileno(), 3 * MIB, os.SEEK_HOLE), 5 * MIB)
            self.assert_error(errno.ENXIO, os.lseek, file.fileno(), 6 * MIB, os.SEEK_DATA)
            run("fallocate", "-p", "-o", 4 * MIB, "-l", 2 * MIB, path)
            self.assertEqual(os.stat(path).st_blocks, 6 * 2048)
            self.assertEqual(os.pread(file.fileno(), 2 * MIB, 3 * MIB), noise(2 * MIB)[:MIB] + bytes(MIB))
        self.assertEqual(os.stat(path).st_blocks, 6 * 2048)
        self.unmount()

    def test_what_was_zeroed_at_the_end_stays_zero_when_the_size_is_told(self):
        path = self.at / "file"
        with open(path, "wb", buffering=0) as file:
            file.write(noise(899222))
            file.truncate(2281)
            os.pwrite(file.fileno(), noise(4096, 2), 0)
            run("fallocate", "-z", "-o", 0, "-l", 4096, path)
        self.assertEqual(path.read_bytes(), bytes(4096))
        self.unmount()

    def test_what_was_allocated_ahead_is_freed_at_the_last_close(self):
        path = self.at / "file"
        with open(path, "wb", buffering=0) as file:
            for i in range(40):
                file.write(noise(MIB, i))
            ahead = os.stat(path).st_blocks
        self.assertGreater(ahead, 40 * 2048)
        wait_for("the rest is free", lambda: os.stat(path).st_blocks == 40 * 2048)
        self.assertEqual(path.read_bytes()[39 * MIB:], noise(MIB, 39))
        self.unmount()

    def test_images_of_other_programs(self):
        if shutil.which("qemu-img") is None:
            self.skipTest("no qemu-img")
        source = self.root / "source.raw"
        with open(source, "wb") as file:
            file.write(noise(5 * MIB))
            file.seek(12 * MIB)
            file.write(noise(MIB, 2))
            file.truncate(24 * MIB)
        for kind in ("raw", "qcow2", "vhdx"):
            image = self.at / f"image.{kind}"
            run("qemu-img", "convert", "-O", kind, source, image)
            if kind != "raw":
                run("qemu-img", "check", image)
            run("qemu-img", "compare", source, image)
            run("qemu-img", "create", "-f", kind, self.at / f"new.{kind}", "24M")
            run("qemu-img", "convert", "-n", "-t", "none", "-T", "none", "-O", kind, image, self.at / f"new.{kind}")
            run("qemu-img", "compare", "-T", "none", source, self.at / f"new.{kind}")
        self.unmount()


class Alone(Data):
    """The kernel keeps names and attributes."""
    ALONE = True


class Ends(Mounted):
    SIZE = 128 * MIB

    def write_until_killed(self, thread_ready):
        """Files that were synced have names that say so; what is in doubt has another."""
        try:
            for i in range(10000):
                new = self.at / "new"
                with open(new, "wb") as file:
                    file.write(noise(50000 + i, i))
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(new, self.at / f"synced {i % 20} {i}")
                if i >= 20:
                    os.unlink(self.at / f"synced {i % 20} {i - 20}")
                if i == 30:
                    thread_ready.set()
        except OSError:
            pass

    def test_what_was_synced_survives_a_kill(self):
        for _ in range(3):
            ready = threading.Event()
            writer = threading.Thread(target=self.write_until_killed, args=(ready,))
            writer.start()
            self.assertTrue(ready.wait(DEADLINE_S))
            self.process.kill()
            self.process.wait()
            writer.join(DEADLINE_S)
            self.check(replayed=True)
            self.mount()  # over what is left of the dead mount
            names = [n for n in os.listdir(self.at) if n.startswith("synced")]
            self.assertGreaterEqual(len(names), 20)
            for name in names:
                i = int(name.split()[2])
                self.assertEqual((self.at / name).read_bytes(), noise(50000 + i, i))
            run("rm", "-r", *[self.at / n for n in os.listdir(self.at)])
        self.unmount()

    def test_an_unmount_from_outside_ends_the_process(self):
        (self.at / "file").write_bytes(noise(MIB))
        run("umount", self.at)
        self.assertEqual(self.process.wait(DEADLINE_S), 0, self.log())
        self.check()

    def test_stopping_saves_what_open_files_have(self):
        file = os.open(self.at / "file", os.O_WRONLY | os.O_CREAT)
        os.write(file, noise(MIB))
        self.unmount()
        self.assert_error(errno.ENOTCONN, os.write, file, b"x")
        self.assert_error(errno.ENOTCONN, os.close, file)
        self.mount()
        self.assertEqual((self.at / "file").read_bytes(), noise(MIB))
        self.unmount()

    def test_a_second_process_is_refused(self):
        other = subprocess.run([NODE, self.device, self.root], capture_output=True, text=True, timeout=DEADLINE_S,
                               check=False)
        self.assertEqual(other.returncode, 1)
        self.assertIn("another process has it mounted", other.stderr)

    def test_direct_io_and_locks_work(self):
        path = self.at / "file"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        self.addCleanup(os.close, descriptor)
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        run("dd", "if=/dev/urandom", f"of={path}", "bs=1M", "count=5", "oflag=direct", "conv=notrunc")
        run("dd", f"if={path}", f"of={self.root}/copy", "bs=64k", "iflag=direct")
        self.assertTrue(filecmp.cmp(path, self.root / "copy", shallow=False))


def may_mount():
    """Root, a device that is there, and the right to mount (not in every container)."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError:
        return False
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


if __name__ == "__main__":
    if not may_mount():
        print("needs root, /dev/fuse and the right to mount")
        sys.exit(77)
    unittest.main()

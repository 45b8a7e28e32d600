#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the lab says to a person who errs. Boots nothing."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy/lab"))
from gwlab import channel, host, kernel  # noqa: E402
from gwlab.errors import LabError  # noqa: E402

LAB = ROOT / "deploy/lab/lab"


def lab(*words, **env):
    return subprocess.run([LAB, *words], capture_output=True, text=True, check=False,
                          env={**os.environ, **env}, stdin=subprocess.DEVNULL)


class Usage(unittest.TestCase):
    """The command line."""

    def test_nonsense_is_answered_with_2_and_a_reason(self):
        for words, reason in (
                ((), "VERB"),
                (("upp",), "upp"),
                (("up", "--nodes", "0"), "1 to 16"),
                (("up", "--nodes", "x"), "1 to 16"),
                (("up", "--nodes", "17"), "1 to 16"),
                (("up", "--memory", "lots"), "512M"),
                (("up", "--memory", "1M"), "256M"),
                (("up", "--lun", "1K"), "at least 16M"),
                (("up", "--name", "A/b"), "lower-case"),
                (("up", "--name", "../x"), "lower-case"),
                (("up", "--accel", "magic"), "magic"),
                (("cut", "n1"), "NETWORK"),
                (("pause",), "NODE"),
                (("unpause", "n1", "--clock-runs"), "--clock-runs"),
                (("exec",), "NODE")):
            done = lab(*words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(reason, done.stderr, words)

    def test_a_lab_that_is_not_there_is_named(self):
        for words in (("exec", "n1", "true"), ("pause", "n1", "--clock-runs"), ("down",), ("kill", "n1"), ("cut", "n1", "guest"), ("log", "n1")):
            done = lab(words[0], "--name", "test-nowhere", *words[1:])
            self.assertEqual(done.returncode, 1, words)
            self.assertIn("there is no lab 'test-nowhere'", done.stderr)
            self.assertIn("lab up", done.stderr)

    def test_no_lab_is_a_state_like_others(self):
        with tempfile.TemporaryDirectory() as empty:
            self.assertEqual(lab("status", GODWIT_LAB_DIR=empty).stdout, "no lab is up\n")
            self.assertEqual(lab("status", "--json", GODWIT_LAB_DIR=empty).stdout.split(),
                             ['{', '"labs":', '[]', '}'])

    def test_a_directory_without_room_for_sockets_is_refused(self):
        done = lab("up", GODWIT_LAB_DIR="/tmp/" + "x" * 100)
        self.assertEqual(done.returncode, 1)
        self.assertIn("GODWIT_LAB_DIR", done.stderr)

    def test_too_much_memory_is_refused_before_anything_is_made(self):
        done = lab("up", "--name", "test-huge", "--nodes", "16", "--memory", "64G")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"not enough memory: 16 nodes of 65536 MiB need \d+ MiB")
        self.assertIn("hint:", done.stderr)

    def test_a_build_without_agent_is_named(self):
        done = lab("up", "--name", "test-nobuild", GW_BUILD="/nonexistent")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cmake --build", done.stderr)

    def test_help_names_every_verb(self):
        text = lab("--help").stdout
        for verb in ("up", "down", "exec", "kill", "start", "reset", "pause", "unpause", "cut", "heal",
                     "log", "status", "check", "fetch"):
            self.assertRegex(text, rf"(?m)^ +{verb}\b")


class Machine(unittest.TestCase):
    """What is looked for on the host."""

    def test_missing_programs_are_named_by_package(self):
        with tempfile.TemporaryDirectory() as empty, mock.patch.object(
                host.shutil, "which", lambda name, path=None: None if "qemu" in name else f"{empty}/{name}"):
            with self.assertRaises(LabError) as caught:
                host.require_packages()
        self.assertIn("qemu-system-x86 qemu-utils", str(caught.exception))
        self.assertIn("apt-get install", caught.exception.hint)

    def test_a_full_disk_is_named(self):
        full = os.statvfs_result((4096, 4096, 1000, 10, 10, 100, 10, 10, 0, 255))
        with mock.patch.object(host.os, "statvfs", lambda _: full), self.assertRaises(LabError) as caught:
            host.require_disk(pathlib.Path("/var/tmp"), 3)
        self.assertIn("not enough disk space", str(caught.exception))

    def test_kvm_is_used_only_with_nesting(self):
        cases = (("flags : fpu svm\n", "1\n", "kvm"), ("flags : fpu vmx\n", "Y\n", "kvm"),
                 ("flags : fpu vmx\n", "N\n", "tcg"), ("flags : fpu\n", "1\n", "tcg"))
        for cpuinfo, nested, expected in cases:
            texts = {"/proc/cpuinfo": cpuinfo, "/sys/module/kvm_amd/parameters/nested": nested,
                     "/sys/module/kvm_intel/parameters/nested": nested}
            with mock.patch.object(pathlib.Path, "read_text", lambda self, t=texts: t[str(self)]), \
                    mock.patch.object(host.os, "open", lambda *_: os.dup(0)):
                self.assertEqual(host.choose_acceleration("auto"), expected, (cpuinfo, nested))

    def test_memory_is_what_is_available(self):
        text = pathlib.Path("/proc/meminfo").read_text(encoding="utf-8")
        available = int(re.search(r"MemAvailable: +(\d+)", text)[1]) // 1024
        self.assertAlmostEqual(host.available_memory_mib(), available, delta=available / 2)


class Formats(unittest.TestCase):
    """Bytes that others read."""

    def test_frames_survive_noise_and_cuts(self):
        frame = channel.HEADER.pack(channel.MAGIC, 7, ord("O"), 3) + b"abc"
        for piece in range(1, 40):
            reader = channel.Frames()
            stream = b"GWLnoiseGWLX\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff" + frame + b"GW" + frame
            got = []
            for at in range(0, len(stream), piece):
                got += reader.feed(stream[at:at + piece])
            self.assertEqual(got, [(7, "O", b"abc")] * 2, piece)

    def test_an_archive_is_what_cpio_reads(self):
        with tempfile.TemporaryDirectory() as tmp:
            archive = pathlib.Path(tmp) / "a.cpio"
            kernel.write_cpio(archive, [("dir", 0o40755, b""), ("dir/file", 0o100644, b"text\n")])
            try:
                listed = subprocess.run(["cpio", "-it", "--quiet"], input=archive.read_bytes(),
                                        capture_output=True, check=True).stdout
            except FileNotFoundError:
                self.skipTest("no cpio here")
        self.assertEqual(listed, b"dir\ndir/file\n")

    def test_an_unknown_kernel_image_is_refused(self):
        with self.assertRaises(LabError):
            kernel.decompress(bytes(4096))
        image = bytearray(4096)
        image[0x202:0x206] = b"HdrS"
        with self.assertRaises(LabError):
            kernel.decompress(bytes(image))


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root", file=sys.stderr)
        sys.exit(77)
    unittest.main(verbosity=2)

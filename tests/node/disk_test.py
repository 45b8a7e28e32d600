#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`godwit disk` against a godwitd in a directory of its own: images, other programs, interruptions."""
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from waiting import DEADLINE_S, wait_for  # noqa: E402

BIN = pathlib.Path(os.environ["GW_BUILD"]) / "bin"
ENDLESS = 1 << 42  # a sparse file that takes minutes to read


class Disks(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="godwit-disk-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.work = self.root / "work"
        self.work.mkdir()
        self.daemon = None
        self.start()
        self.addCleanup(self.stop, signal.SIGKILL)

    def start(self):
        with open(self.root / "log", "ab") as log:
            self.daemon = subprocess.Popen(
                [BIN / "godwitd", "--foreground", "--run-dir", self.root / "run", "--state-dir", self.root / "state",
                 "--worker-uid-base", "0"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("godwitd answers", lambda: self.godwit("vm list", check=False).returncode == 0)

    def stop(self, signo=signal.SIGTERM):
        self.daemon.send_signal(signo)
        return self.daemon.wait(DEADLINE_S)

    def words(self, line):
        return [BIN / "godwit", *line.split()]

    def env(self):
        return {"PATH": os.environ["PATH"], "GODWIT_HOST": f"unix://{self.root}/run/api.sock"}

    def godwit(self, line, check=True):
        done = subprocess.run(self.words(line), capture_output=True, text=True, timeout=DEADLINE_S, check=False,
                              cwd=self.work, env=self.env())
        if check and done.returncode != 0:
            raise AssertionError(f"godwit {line}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def refused(self, line):
        """What it says on standard error."""
        done = self.godwit(line, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, ""), line)
        return done.stderr

    def json(self, line):
        return json.loads(self.godwit(f"--json {line}").stdout)

    def qemu_img(self, *words):
        done = subprocess.run(["qemu-img", *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False,
                              cwd=self.work)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def left(self):
        return sorted(os.listdir(self.work))

    def begin_endless(self, target):
        """A conversion that is under way."""
        with open(self.work / "endless.img", "wb") as f:
            f.truncate(ENDLESS)
        process = subprocess.Popen(self.words(f"disk convert endless.img {target}"), cwd=self.work, env=self.env(),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        partial = self.work / f".{target}.partial"
        wait_for("it works on it", lambda: partial.exists() and partial.stat().st_size > 1 << 20)
        return process

    def test_relative_paths_are_of_the_folder_one_is_in(self):
        self.godwit("disk create ./a.vhdx --size 1G")
        self.assertEqual(self.json("disk show a.vhdx")["path"], f"{self.work}/a.vhdx")
        self.assertEqual(self.json(f"disk show {self.work}/a.vhdx")["size_bytes"], 1 << 30)
        self.assertIn("1 GiB", self.godwit("disk show a.vhdx").stdout)

    @unittest.skipUnless(shutil.which("qemu-img"), "no qemu-img")
    def test_other_programs_agree_about_what_was_converted(self):
        data = os.urandom(3 << 20)
        with open(self.work / "a.img", "wb") as f:
            f.truncate(256 << 20)
            for at in (0, 33 << 20, (256 << 20) - len(data)):
                f.seek(at)
                f.write(data)
        for kind in ("dynamic", "fixed"):
            self.godwit(f"disk convert a.img {kind}.vhdx --format vhdx-{kind}")
            self.qemu_img("check", "-f", "vhdx", f"{kind}.vhdx")
            self.qemu_img("compare", "-f", "raw", "-F", "vhdx", "a.img", f"{kind}.vhdx")
            self.assertEqual(self.json(f"disk check {kind}.vhdx")["verdict"], "ok")
            self.assertEqual(self.json(f"disk show {kind}.vhdx")["kind"], kind)
        self.godwit("disk resize dynamic.vhdx --size 512M")
        self.qemu_img("check", "-f", "vhdx", "dynamic.vhdx")
        self.qemu_img("convert", "-f", "vhdx", "-O", "vhdx", "-o", "subformat=dynamic", "fixed.vhdx", "theirs.vhdx")
        self.godwit("disk convert theirs.vhdx b.img")
        self.qemu_img("compare", "-f", "raw", "-F", "raw", "a.img", "b.img")

    def test_damage_is_told_by_the_exit_status(self):
        self.godwit("disk create a.vhdx --size 1G")
        with open(self.work / "a.vhdx", "r+b") as f:
            f.seek(192 << 10)
            f.write(b"damage")
        done = self.godwit("disk check a.vhdx", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--repair", done.stdout)
        self.assertIn("repaired", self.godwit("disk check a.vhdx --repair").stdout)
        self.assertEqual(self.json("disk check a.vhdx")["verdict"], "ok")

    def test_an_image_in_use_is_refused_and_its_vm_named(self):
        self.godwit("vm create web1 --disk a.vhdx,size=1G")
        with open(self.work / "a.vhdx", "r+b") as f:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for line in ("disk show a.vhdx", "disk resize a.vhdx --size 2G", "disk check a.vhdx --repair",
                         "disk create b.vhdx --parent a.vhdx"):
                self.assertRegex(self.refused(line), r"in use by .*\n")
            self.assertIn("VM web1", self.refused("disk resize a.vhdx --size 2G"))
        self.godwit("disk resize a.vhdx --size 2G")

    def test_disks_are_made_with_their_vm_or_not_at_all(self):
        (self.work / "there.vhdx").touch()
        self.assertIn("there.vhdx is there already",
                      self.refused("vm create web1 --disk a.vhdx,size=1G --disk there.vhdx,size=1G"))
        self.assertEqual(self.left(), ["there.vhdx"])
        self.assertIn("no name", self.refused("vm create we/b --disk a.vhdx,size=1G"))
        self.godwit("vm create web1 --dry-run --disk a.vhdx,size=1G")
        self.assertEqual(self.left(), ["there.vhdx"])
        self.godwit("vm create web1 --disk a.vhdx,size=1G,format=vhdx-fixed,sectors=4kn --disk b.vhdx,parent=a.vhdx "
                    "--disk c.img,size=1M,read-only")
        disks = self.json("vm show web1")["definition"]["disks"]
        self.assertEqual([(d["path"], d["format"]) for d in disks],
                         [(f"{self.work}/{n}", f) for n, f in (("a.vhdx", "vhdx"), ("b.vhdx", "vhdx"), ("c.img", "raw"))])
        self.assertEqual(self.json("disk show b.vhdx")["parents"], [f"{self.work}/a.vhdx"])
        self.assertEqual(self.json("disk show b.vhdx")["logical_sector_bytes"], 4096)

    def test_errors_say_once_what_is_wrong(self):
        self.assertEqual(self.refused("vm show web1"),
                         "godwit: there is no VM named web1\n  godwit vm list shows those there are\n")
        self.assertEqual(self.refused("disk show a.vhdx").splitlines()[0],
                         f"godwit: {self.work}/a.vhdx: No such file or directory")
        (self.work / "a.vhdx").write_bytes(b"x" * 4096)
        self.assertEqual(self.refused("disk show a.vhdx").count(str(self.work)), 1)
        self.assertEqual(self.refused("disk convert a.vhdx b.img").count(str(self.work)), 1)

    def test_interrupting_the_command_interrupts_the_work(self):
        process = self.begin_endless("a.vhdx")
        self.assertIn("is being made already", self.refused("disk create a.vhdx --size 1G"))
        process.send_signal(signal.SIGINT)
        self.assertNotEqual(process.wait(DEADLINE_S), 0)
        wait_for("nothing is left of it", lambda: self.left() == ["endless.img"])
        self.godwit("disk create a.vhdx --size 1G")

    def test_the_end_of_the_service_ends_the_work(self):
        process = self.begin_endless("a.vhdx")
        self.assertEqual(self.stop(), 0)
        self.assertEqual(process.wait(DEADLINE_S), 1)
        self.assertEqual(self.left(), ["endless.img"])

    def test_after_a_crash_there_is_no_half_image(self):
        process = self.begin_endless("a.vhdx")
        self.stop(signal.SIGKILL)
        self.assertEqual(process.wait(DEADLINE_S), 1)
        self.assertEqual(self.left(), [".a.vhdx.partial", "endless.img"])
        self.start()
        self.godwit("disk create a.vhdx --size 1G")
        self.assertEqual(self.left(), ["a.vhdx", "endless.img"])


if __name__ == "__main__":
    unittest.main()

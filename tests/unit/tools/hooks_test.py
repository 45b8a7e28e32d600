#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/install-hooks.sh: the hooks stop what they are for, and nothing else."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

INSTALL = pathlib.Path(__file__).resolve().parents[3] / "tools" / "install-hooks.sh"


class Hooks(unittest.TestCase):
    """A repository whose gate is a script that the test chooses."""

    def setUp(self):
        for name in [n for n in os.environ if n.startswith("GIT_")]:
            del os.environ[name]
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.git("init", "-q", ".")
        self.git("config", "user.name", "A")
        self.git("config", "user.email", "a@example.org")
        (self.dir / "tools").mkdir()
        shutil.copy(INSTALL, self.dir / "tools/install-hooks.sh")
        self.gate("exit 0")

    def git(self, *args, check=True):
        """git in the repository."""
        return subprocess.run(["git", *args], cwd=self.dir, capture_output=True, text=True, check=check)

    def install(self, *args):
        """The installer in the repository."""
        return subprocess.run(["tools/install-hooks.sh", *args], cwd=self.dir, capture_output=True, text=True,
                              check=False)

    def gate(self, body):
        """Sets what tools/check.sh does."""
        path = self.dir / "tools/check.sh"
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def commit(self, message="base: a change\n\nBecause."):
        """Tries to commit; (done, what was said)."""
        done = self.git("commit", "--allow-empty", "-qm", message, check=False)
        return done.returncode == 0, done.stderr

    def test_a_red_gate_stops_a_commit_and_a_green_one_does_not(self):
        self.assertEqual(self.install().returncode, 0)
        self.gate('test "$1" = quick')
        self.assertEqual(self.commit(), (True, ""))
        self.gate("echo not so >&2; exit 1")
        self.assertEqual(self.commit(), (False, "not so\n"))

    def test_the_gate_does_not_get_the_variables_of_git(self):
        self.install()
        self.gate("test -z \"$GIT_INDEX_FILE$GIT_DIR\"")
        self.assertEqual(self.commit(), (True, ""))

    def test_subjects(self):
        self.install()
        for good in ("csv/lease: refuse nonzero reserved bytes", "base/ring, base/bitmap: dirty bits",
                     "deploy/test: " + "x" * 59, "fixup! anything", "tests: x\n\nwhy"):
            self.assertEqual(self.commit(good), (True, ""), good)
        for bad in ("no area", "base:", "base:x", "base: " + "x" * 67, "base: x\nsecond line"):
            done, said = self.commit(bad)
            self.assertFalse(done, bad)
            self.assertIn("commit-msg:", said)

    def test_hooks_of_others_stay(self):
        path = self.dir / ".git/hooks/pre-commit"
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        done = self.install()
        self.assertEqual(done.returncode, 1)
        self.assertIn("is not ours", done.stderr)
        self.assertEqual(path.read_text(encoding="utf-8"), "#!/bin/sh\n")

    def test_twice_and_removal(self):
        self.install()
        self.assertEqual(self.install().returncode, 0)
        self.assertEqual(self.install("--remove").returncode, 0)
        self.gate("exit 1")
        self.assertEqual(self.commit("anything"), (True, ""))
        self.assertEqual(self.install("--what").returncode, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)

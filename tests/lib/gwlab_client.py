# SPDX-License-Identifier: Apache-2.0
"""Labs for tests: boot one, run commands in its nodes, wait for things, always clean up.

    class Storage(gwlab_client.LabCase):
        options = ("--nodes", "2", "--lun", "64M")

        def test_something(self):
            self.lab.sh("n1", "echo hello > /root/file")
            self.assertEqual(self.lab.sh("n1", "cat /root/file"), "hello\\n")

    if __name__ == "__main__":
        gwlab_client.main()

Everything goes through deploy/lab/lab, as a person would. main() exits with 77 where no lab can be.
"""
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
LAB = SOURCE / "deploy/lab/lab"
BASE = pathlib.Path(os.environ.get("GODWIT_LAB_DIR", "/var/tmp/godwit-lab"))
NAMESPACES = pathlib.Path("/run/netns")
SKIPPED = 77


class CommandError(AssertionError):
    """A command in a node, or of the lab, did not do what the test needs."""


def run_lab(*words, stdin=None, timeout=240, check=True):
    """Run `lab WORDS...`; returns a CompletedProcess with bytes. check: fail unless it exits 0."""
    done = subprocess.run([str(LAB), *map(str, words)], input=stdin or b"", capture_output=True,
                          timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise CommandError(f"lab {' '.join(map(str, words))}: exit {done.returncode}\n"
                           f"{done.stdout.decode(errors='replace')}{done.stderr.decode(errors='replace')}")
    return done


def own_name(word):
    """A name for a lab that no other run of a test uses, and that sweep() knows."""
    return f"t{os.getpid()}-{word}"[:20]


def debian(lab):
    """The whole Debian for guests, as `deploy/lab/guest full --json` says; its disk becomes the lab's first LUN."""
    full = json.loads(subprocess.run([SOURCE / "deploy/lab/guest", "full", "--json"], capture_output=True, check=True).stdout)
    # The image gets into the nodes as a disk: their view of the machine's files is slow.
    subprocess.run(["cp", "--sparse=always", full["disk"], lab.directory() / "lun0.raw"], check=True)
    return full


def sweep():
    """Remove the labs of tests whose process is gone."""
    known = [p.name for p in BASE.glob("t*-*")] + [p.name[6:] for p in NAMESPACES.glob("gwlab-t*-*")]
    for name in sorted(set(known)):
        owner = re.match(r"t(\d+)-", name)
        if owner and not os.path.exists(f"/proc/{owner[1]}"):
            run_lab("down", "--name", name, check=False)


class Lab:
    """A lab of a test. Use as a context manager, or up() and down()."""

    def __init__(self, name, *options):
        self.name = own_name(name)
        self.options = options

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_):
        self.down()

    def up(self):
        """Boot it."""
        try:
            run_lab("up", "--name", self.name, *self.options)
        except BaseException:
            self.down()
            raise

    def down(self):
        """Remove it, if it is there."""
        if (NAMESPACES / f"gwlab-{self.name}").exists() or self.directory().exists():
            run_lab("down", "--name", self.name)

    def directory(self):
        """Where its files are."""
        return BASE / self.name

    def do(self, verb, *words, **kwargs):
        """`lab VERB ...` for this lab: start, kill, reset, pause, unpause, cut, heal, log."""
        return run_lab(verb, "--name", self.name, *words, **kwargs)

    def exec(self, node, *words, stdin=None, timeout=60, check=False):
        """Run a command in a node; a CompletedProcess with bytes. One word is a shell line."""
        return run_lab("exec", "--name", self.name, "--timeout", timeout, node, "--", *words,
                       stdin=stdin, timeout=timeout + 30, check=check)

    def sh(self, node, line, timeout=60):
        """Run a shell line that must succeed; returns its standard output as text."""
        return self.exec(node, line, timeout=timeout, check=True).stdout.decode(errors="replace")

    @contextlib.contextmanager
    def spawn(self, node, *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE):
        """A command that goes on beside the test; it ends with the context."""
        with subprocess.Popen([str(LAB), "exec", "--name", self.name, node, "--", *words],
                              stdin=stdin, stdout=stdout, stderr=subprocess.STDOUT) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def status(self):
        """`lab status --json` of this lab."""
        return json.loads(self.do("status", "--json").stdout)["labs"][0]

    def state(self, node):
        """off, running, paused."""
        return next(n["state"] for n in self.status()["nodes"] if n["name"] == node)


def wait_for(what, condition, timeout=30, step=0.2):
    """Poll @condition until it is true; returns what it returned. AssertionError after @timeout."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(step)
    return value


class LabCase(unittest.TestCase):
    """Tests that share one booted lab. @options: of `lab up`."""

    options = ()
    lab = None

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(cls.__name__.lower(), *cls.options)
        cls.lab.up()
        cls.addClassCleanup(cls.lab.down)


def unavailable():
    """Why there can be no lab on this machine; None: there can."""
    if os.geteuid() != 0:
        return "needs root"
    for verb in ("check", "fetch"):
        done = run_lab(verb, check=False)
        if done.returncode != 0:
            return (done.stdout + done.stderr).decode(errors="replace").strip()
    return None


def main():
    """Run the tests of the calling file, or say why not and exit with 77."""
    if why := unavailable():
        print(f"skipped, no lab here: {why}", file=sys.stderr)
        sys.exit(SKIPPED)
    sweep()
    unittest.main(verbosity=2)

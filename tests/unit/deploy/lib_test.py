#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""deploy/lib.sh, tools/ctest.sh and tools/ctest_report.py: a failure is never shown or counted as anything else."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
JUNIT = """<?xml version="1.0"?>
<testsuite name="(empty)" tests="3">
<testcase name="quick_test" classname="quick_test" time="0.25" status="run"><system-out>ok</system-out></testcase>
<testcase name="slow_test" classname="slow_test" time="12.5" status="run"/>
<testcase name="rdma_test" classname="rdma_test" time="0.01" status="notrun">
<skipped message="SKIP_RETURN_CODE=77"/>
<system-out>looking
skipped: no RDMA device
</system-out></testcase>
</testsuite>
"""
# One is skipped, one good, one fails if there is a file, one always, and one is not there.
PROJECT = """cmake_minimum_required(VERSION 3.25)
project(x NONE)
enable_testing()
add_test(NAME lacks COMMAND sh -c "echo looking; echo no such thing; exit 77")
set_tests_properties(lacks PROPERTIES SKIP_RETURN_CODE 77)
add_test(NAME fine COMMAND true)
add_test(NAME odd COMMAND sh -c "echo first words; ! rm busy")
add_test(NAME bad COMMAND sh -c "echo last words; exit 3")
add_test(NAME gone COMMAND ./no-such-program)
"""


def gone(pid):
    """True if the process has ended, reaped or not."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return True
    return False


class Lib(unittest.TestCase):
    """Runs snippets against a copy of lib.sh, so that logs and packages are the test's own."""

    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.dir / "deploy").mkdir()
        shutil.copy(ROOT / "deploy/lib.sh", self.dir / "deploy/lib.sh")

    def script(self, text):
        """Arguments that run text after sourcing the library."""
        return ["bash", "-c", f"set -euo pipefail; . {self.dir}/deploy/lib.sh; log_open t; {text}", "deploy-test"]

    def sh(self, text):
        """Runs it to the end."""
        return subprocess.run(self.script(text), capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1"}, cwd=self.dir)

    def log(self):
        """Text of the only log."""
        (path,) = (self.dir / "build/log").glob("t-*.log")
        return path.read_text(encoding="utf-8")

    def ended_by_a_signal(self, text):
        """SIGTERM to a script that wrote the id of a process to the file pid: neither is left."""
        child = subprocess.Popen(self.script(text), cwd=self.dir, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not ((self.dir / "pid").exists() and (self.dir / "pid").read_text()):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)
        pid = int((self.dir / "pid").read_text())
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(60), 143)
        while not gone(pid):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.02)

    def test_verdicts_follow_the_exit_status(self):
        done = self.sh("stage good true; stage lacking sh -c 'echo no disk; exit 77'; stage bad sh -c 'echo why; exit 3' ||"
                       " echo returned $?; stages_table; echo \"failed: $(stages_failed)\"")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"  good +[\d.]+ s  ok\n")
        self.assertRegex(done.stdout, r"  lacking +[\d.]+ s  skipped  no disk\n")
        self.assertRegex(done.stdout, r"  bad +[\d.]+ s  FAILED  status 3\n    \| why\nreturned 1\n")
        self.assertIn("failed: bad \n", done.stdout)
        self.assertIn("why", self.log())

    def test_a_failed_stage_ends_a_script_that_does_not_expect_it(self):
        done = self.sh("stage bad false; echo still here")
        self.assertEqual(done.returncode, 1)
        self.assertNotIn("still here", done.stdout)

    def test_output_goes_to_the_log_and_shown_lines_to_the_reader(self):
        done = self.sh("f() { echo hidden; show seen; }; stage s f")
        self.assertNotIn("hidden", done.stdout)
        self.assertIn("\n      seen\n", done.stdout)
        self.assertIn("hidden\nseen\n", self.log())

    def test_a_stage_has_no_input_and_plain_output_has_no_escapes(self):
        done = self.sh("stage s cat; stage t true")
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("\x1b", done.stdout)

    def test_the_remark_is_what_ctest_said(self):
        done = self.sh("stage s echo '100% tests passed, 0 tests failed out of 7'")
        self.assertRegex(done.stdout, r"ok  100% tests passed, 0 tests failed out of 7\n")

    def test_die_says_what_and_the_hint(self):
        done = self.sh("die 'no disk' 'buy one'")
        self.assertEqual((done.returncode, done.stderr), (1, "deploy-test: no disk\n  buy one\n"))

    def test_a_signal_ends_the_stage_and_its_children(self):
        self.ended_by_a_signal("stage s sh -c 'sleep 600 & echo $! >pid; wait'")

    def test_a_stage_beside_others_is_told_when_it_is_waited_for(self):
        done = self.sh("beside long sh -c 'until [ -e go ]; do sleep 0.02; done; echo from beside; exit 3';"
                       f"stage first touch go; beside_end || echo returned $?; echo \"failed: $(stages_failed)\"")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"(?s)  first +[\d.]+ s  ok\n.*  long +[\d.]+ s  FAILED  status 3\n    \| from beside\nreturned 1\n")
        self.assertIn("failed: long \n", done.stdout)
        self.assertRegex(self.log(), r"(?s)== first: ok.*\n== long: sh -c.*from beside\n")
        self.assertEqual(list((self.dir / "build/log").glob("*.beside")), [])

    def test_a_signal_ends_the_stage_beside_as_well(self):
        self.ended_by_a_signal("beside b sh -c 'echo $$ >pid; sleep 600'; stage s sleep 600")

    def test_who_yields_has_the_lowest_priority(self):
        done = self.sh("was=$(nice); stage s yielding sh -c 'nice; exit 5' || :; [ $(nice) = $was ] && echo as before")
        self.assertIn("    | 19\n", done.stdout)
        self.assertTrue(done.stdout.endswith("as before\n"), done.stdout)

    @unittest.skipUnless(os.path.exists("/proc/self/autogroup"), "no kernel that groups sessions")
    def test_who_yields_does_so_to_other_sessions(self):
        done = self.sh("stage s yielding sh -c 'cat /proc/self/autogroup; exit 5' || :")
        (group,) = re.findall(r"(/autogroup-\d+) nice (-?\d+)", done.stdout)
        self.assertEqual(group[1], "19")
        # Ours is empty if nobody between the first process and us began a session.
        ours = pathlib.Path("/proc/self/autogroup").read_text(encoding="ascii")
        self.assertNotIn(group[0] + " ", ours)

    def test_a_signal_ends_who_yields(self):
        self.ended_by_a_signal("stage s yielding sh -c 'sleep 600 & echo $! >pid; wait'")

    def test_packages_by_section(self):
        (self.dir / "deploy/packages").write_text(
            "# head\n\n[build]\ncmake  # what for\n\n[run]\nbash\n# no\nno-such-package-here\n[test]\nclang\n")
        done = self.sh("echo $(packages_of build run); echo $(packages_missing run)")
        self.assertEqual(done.stdout.splitlines(), ["cmake bash no-such-package-here", "no-such-package-here"])

    def test_the_real_list_is_well_formed(self):
        sections = set()
        for line in (ROOT / "deploy/packages").read_text(encoding="utf-8").splitlines():
            line = line.split("#")[0].strip()
            if m := re.fullmatch(r"\[(\w+)\]", line):
                sections.add(m.group(1))
            else:
                self.assertRegex(line, r"^([a-z0-9][a-z0-9.+-]+)?$")
        self.assertEqual(sections, {"build", "run", "test", "lab"})


class Report(unittest.TestCase):
    """tools/ctest_report.py"""

    def test_it_names_reasons_and_slow_tests(self):
        with tempfile.TemporaryDirectory() as top:
            path = pathlib.Path(top) / "release" / "test.xml"
            path.parent.mkdir()
            path.write_text(JUNIT, encoding="utf-8")
            out = subprocess.run([sys.executable, ROOT / "tools/ctest_report.py", path], check=True,
                                 capture_output=True, text=True).stdout
        self.assertIn("Slowest tests (of 3 in 1 builds)\n      12.5 s  slow_test (release)\n", out)
        self.assertIn("Skipped tests: 1\n  rdma_test (release): skipped: no RDMA device\n", out)
        self.assertEqual(out.count("rdma_test"), 1)

    def ctest(self, top, *args):
        """Runs what PROJECT has, or some of it; then the report's text and status."""
        subprocess.run(["ctest", *args], cwd=top, check=False, capture_output=True)
        done = subprocess.run([sys.executable, ROOT / "tools/ctest_report.py", top / "test.xml"], check=False,
                              capture_output=True, text=True)
        return done.stdout, done.returncode

    def test_it_reads_what_this_ctest_writes(self):
        with tempfile.TemporaryDirectory() as source:
            top = pathlib.Path(source) / "b"
            (pathlib.Path(source) / "CMakeLists.txt").write_text(PROJECT, encoding="utf-8")
            subprocess.run(["cmake", "-S", source, "-B", top], check=True, capture_output=True)
            out, status = self.ctest(top, "--output-junit", "test.xml", "-E", "odd|bad|gone")
            self.assertIn("Skipped tests: 1\n  lacks (b): no such thing\n", out)
            self.assertRegex(out, r"\d\.\d s  fine \(b\)")
            self.assertNotIn("Failed", out)
            self.assertEqual(status, 0)

            (top / "busy").touch()
            out, status = self.ctest(top, "--output-junit", "test.xml", "-E", "bad|gone")
            self.assertRegex(out, r"Failed tests: 1\n  odd \(b\), [\d.]+ s, its last lines:\n    \| first words\n")
            self.assertEqual(status, 1)

            out, status = self.ctest(top, "--rerun-failed", "--output-junit", "again.xml")
            self.assertRegex(out, r"Good only when run once more: 1\n  odd .*\n    \| first words\n")
            self.assertNotIn("Failed", out)
            self.assertEqual(status, 0)

            self.ctest(top, "--output-junit", "test.xml")
            out, status = self.ctest(top, "--rerun-failed", "--output-junit", "again.xml")
            self.assertRegex(out, r"Failed tests: 2\n  bad .*\n    \| last words\n  gone ")
            self.assertNotIn("Good only", out)
            self.assertEqual(status, 1)


class Again(unittest.TestCase):
    """tools/ctest.sh: what of a run's failures is taken back by a second one."""

    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name in ("deploy/lib.sh", "tools/ctest.sh", "tools/ctest_report.py"):
            (self.dir / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.dir / name)
        self.marks = self.dir / "marks"
        self.marks.mkdir()

    def run_tests(self, *lines):
        """Runs tests with these shell lines as a stage; its verdict."""
        tests = "".join(f"add_test(NAME t{i} COMMAND sh -c [[{line}]])\n"
                        f"set_tests_properties(t{i} PROPERTIES SKIP_RETURN_CODE 77 WORKING_DIRECTORY {self.marks})\n"
                        for i, line in enumerate(lines))
        (self.dir / "CMakeLists.txt").write_text(
            f"cmake_minimum_required(VERSION 3.25)\nproject(x NONE)\nenable_testing()\n{tests}", encoding="utf-8")
        subprocess.run(["cmake", "-S", self.dir, "-B", self.dir / "build/release"], check=True, capture_output=True)
        script = f"set -euo pipefail; . {self.dir}/deploy/lib.sh; log_open t; cd {self.dir}; stage tests tools/ctest.sh build/release"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1"})
        return done.stdout.splitlines()[0].split(" s  ")[1], done.returncode

    def test_all_good(self):
        self.assertEqual(self.run_tests("true", "exit 77"), ("ok  100% tests passed, 0 tests failed out of 2", 0))

    def test_good_the_second_time(self):
        self.assertEqual(self.run_tests("true", "mkdir busy || exit 0; exit 3"),
                         ("ok  100% tests passed, 1 of them only when run once more", 0))

    def test_never_good(self):
        self.assertEqual(self.run_tests("true", "exit 3"), ("FAILED  status 8", 1))

    def test_skipped_the_second_time(self):
        self.assertEqual(self.run_tests("true", "mkdir busy || exit 77; exit 3"), ("FAILED  status 1", 1))

    def test_too_many(self):
        self.assertEqual(self.run_tests(*(f"mkdir busy{i} || exit 0; exit 3" for i in range(6))), ("FAILED  status 8", 1))

    def test_what_was_left_by_a_run_before_is_none_of_this_ones(self):
        self.assertEqual(self.run_tests("mkdir busy || exit 0; exit 3", "exit 0")[1], 0)
        self.assertEqual(self.run_tests(), ("FAILED  status 8", 1))  # no tests at all


if __name__ == "__main__":
    unittest.main(verbosity=2)

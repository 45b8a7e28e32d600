#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/check.sh, run for real on a miniature tree, lets the good one pass and catches each kind of bad one.

The miniature has this tree's own gate, presets, CMake helpers and linter settings, and one module in base/
with one test. Each case adds one mistake, runs one step and expects it to fail for the right reason.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
TOOLS = ("clang-format", "clang-tidy", "cppcheck", "shellcheck", "clang", "ninja", "git")
COPIED = ("tools/check.sh", "tools/ctest.sh", "tools/ctest_report.py", "tools/tidy.py", "tools/cppcheck.cfg", "cmake", "CMakePresets.json", ".clang-format",
          ".clang-tidy", ".gitignore", "tests/lib/test.h")
HASH = "# SPDX-License-Identifier: Apache-2.0\n"
SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"

CMAKE = HASH + """cmake_minimum_required(VERSION 3.25)
project(miniature LANGUAGES C)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_C_EXTENSIONS OFF)
list(APPEND CMAKE_MODULE_PATH ${PROJECT_SOURCE_DIR}/cmake)
include(GodwitFlags)
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(cmocka REQUIRED IMPORTED_TARGET cmocka)
include(GodwitModule)
include(CTest)
add_subdirectory(base)
add_subdirectory(tests)
"""
GOOD = {
    "CMakeLists.txt": CMAKE,
    "base/CMakeLists.txt": HASH + "gw_module(base SOURCES sum.c PUBLIC_DEPS Threads::Threads)\n",
    "tests/CMakeLists.txt": HASH + "gw_test(sum_test LABEL unit SOURCES sum_test.c DEPS base)\n",
    "base/sum.h": SPDX + """#ifndef BASE_SUM_H
#define BASE_SUM_H

/* sum() - a plus b. */
int sum(int a, int b);

#endif
""",
    "base/sum.c": SPDX + """#include "base/sum.h"

int sum(int a, int b)
{
\treturn a + b;
}
""",
    "tests/sum_test.c": SPDX + """#include "base/sum.h"

#include "tests/lib/test.h"

static void adds(void **state)
{
\t(void)state;
\tassert_int_equal(sum(2, 3), 5);
}

int main(void)
{
\tconst struct CMUnitTest tests[] = {cmocka_unit_test(adds)};

\treturn cmocka_run_group_tests(tests, NULL, NULL);
}
""",
}


class Gate(unittest.TestCase):
    """One miniature tree for all; every test leaves it as it was."""

    @classmethod
    def setUpClass(cls):
        for name in [n for n in os.environ if n.startswith("GIT_")]:
            del os.environ[name]  # those of a git hook that runs this test
        cls.dir = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        for name in COPIED:
            (cls.dir / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, cls.dir / name)
        (cls.dir / "base").mkdir()
        for name, text in GOOD.items():
            (cls.dir / name).write_text(text, encoding="utf-8")
        for words in (["init", "-q", "-b", "main", "."], ["add", "-A"],
                      ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "tree: miniature"]):
            subprocess.run(["git", *words], cwd=cls.dir, check=True)

    def gate(self, *steps):
        """Runs steps of the gate."""
        return subprocess.run(["sh", "tools/check.sh", *steps], cwd=self.dir, capture_output=True, text=True,
                              check=False)

    def change(self, name, text):
        """Writes a file for the length of this test."""
        path = self.dir / name
        self.addCleanup(lambda: path.write_text(GOOD[name], encoding="utf-8") if name in GOOD else path.unlink())
        path.write_text(text, encoding="utf-8")

    def assert_caught(self, step, *words):
        """The step fails, and says these words."""
        done = self.gate(step)
        said = done.stdout + done.stderr
        self.assertNotEqual(done.returncode, 0, said)
        self.assertNotIn("check: ok", said)
        for word in words:
            self.assertRegex(said, word)

    def body(self, lines, head=""):
        """Makes sum() do this first."""
        code = "".join(f"\t{line}\n" for line in lines)
        self.change("base/sum.c", GOOD["base/sum.c"].replace("{\n", "{\n" + code).replace("\nint", head + "\nint", 1))

    def test_a_good_tree_passes_every_step(self):
        done = self.gate()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count("100% tests passed"), 4)

    def test_an_unformatted_file(self):
        self.change("base/sum.c", GOOD["base/sum.c"].replace("\treturn", "  return"))
        self.assert_caught("format", r"base/sum\.c:5:", "clang-format-violations")

    def test_an_include_across_layers(self):
        self.change("base/sum.c", GOOD["base/sum.c"] + '#include "hv/vp.h"\n')
        self.assert_caught("tidy", r"base/sum\.c:\d+: layer: base/ may not include hv/vp\.h")

    def test_bad_scripts(self):
        self.change("tools/bad.sh", "#!/bin/sh\nrm -rf $1/x\n")
        self.assert_caught("scripts", "SC2086")

    def test_bad_python_without_a_suffix(self):
        self.change("tools/bad", "#!/usr/bin/env python3\nif True print(1)\n")
        self.assert_caught("scripts", "SyntaxError")

    def test_a_header_that_needs_another(self):
        self.change("base/sum.h", GOOD["base/sum.h"].replace("int a,", "uint32_t a,"))
        self.assert_caught("headers", r"does not stand alone: base/sum\.h")

    def test_a_warning(self):
        self.body(["unsigned char c = a;", "(void)c;"])
        self.assert_caught("debug", "Werror=conversion")

    def test_a_failing_test(self):
        self.change("base/sum.c", GOOD["base/sum.c"].replace("a + b", "a - b"))
        self.assert_caught("debug", "0x5", "1 tests? failed out of 1")

    def test_a_test_that_fails_once(self):
        self.body(["if (mkdir(\"once\", 0700) == 0) {", "\ta++;", "}"], head="#include <sys/stat.h>\n")
        done = self.gate("debug")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("100% tests passed, 1 of them only when run once more", done.stdout)

    def test_a_leak(self):
        self.body(["void *p = malloc((size_t)a);", "(void)memset(p, b, 1);"],
                  head="#include <stdlib.h>\n#include <string.h>\n")
        self.assert_caught("asan", "LeakSanitizer: detected memory leaks", "in sum ")

    def test_a_read_past_the_end(self):
        self.body(["char *p = calloc(1, (size_t)a);", "a += p[a];", "free(p);"], head="#include <stdlib.h>\n")
        self.assert_caught("asan", "heap-buffer-overflow", "in sum ")

    def test_undefined_behaviour(self):
        self.body(["int big = 2147483646 + a;", "(void)big;"])
        self.assert_caught("clang-asan", "signed integer overflow")

    def test_a_data_race(self):
        self.body(["pthread_t t;", "", "(void)pthread_create(&t, NULL, count, NULL);", "total++;",
                   "(void)pthread_join(t, NULL);"],
                  head="#include <pthread.h>\n\nstatic int total;\n\nstatic void *count(void *arg)\n{\n\t"
                       "total++;\n\treturn arg;\n}\n")
        self.assert_caught("tsan", "ThreadSanitizer: data race", "total")

    def test_what_clang_tidy_sees(self):
        self.body(["if (a == 0)", "\treturn b;"])
        self.assert_caught("clang-tidy", "readability-braces-around-statements")

    def test_lint_sees_only_what_changed(self):
        self.assertEqual(self.gate("lint").returncode, 0)
        self.body(["if (a == 0)", "\treturn b;"])
        self.assert_caught("lint", r"base/sum\.c:\d+:\d+: error: .*readability-braces")

    def test_what_cppcheck_sees(self):
        self.body(["int *p = 0;", "*p = a;"])
        self.assert_caught("cppcheck", "nullPointer")


if __name__ == "__main__":
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        print(f"skipped: not installed: {', '.join(missing)} (packages: section [test] of deploy/packages)")
        sys.exit(77)
    unittest.main(verbosity=2)

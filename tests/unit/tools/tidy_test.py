#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/tidy.py catches each class of what it is for, and says nothing about what is right."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

TIDY = pathlib.Path(__file__).resolve().parents[3] / "tools" / "tidy.py"
SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"


def guard(name):
    """The opening of a right header."""
    macro = name.upper().replace("/", "_").replace(".", "_")
    return f"{SPDX}#ifndef {macro}\n#define {macro}\n"


class Tidy(unittest.TestCase):
    """Every test writes files into a fresh repository and reads what tidy says about them."""

    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        # A git hook that runs this test has variables that would lead git to the repository of the hook.
        for name in [n for n in os.environ if n.startswith("GIT_")]:
            del os.environ[name]
        subprocess.run(["git", "init", "-q", "."], cwd=self.dir, check=True)

    def tidy(self, **files):
        """Writes {path: text} and runs tidy over the repository."""
        for name, text in files.items():
            path = self.dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(0o755 if text.startswith("#!") else 0o644)
        return self.look()

    def look(self):
        """What tidy says."""
        return subprocess.run([sys.executable, str(TIDY)], cwd=self.dir, capture_output=True, text=True,
                              check=False)

    def assert_clean(self, files):
        """Nothing to complain about."""
        done = self.tidy(**files)
        self.assertEqual((done.returncode, done.stdout), (0, "tidy: ok\n"), done.stderr)

    def assert_caught(self, name, text, *messages):
        """Exactly these complaints, at this file."""
        done = self.tidy(**{name: text})
        self.assertEqual(done.returncode, 1, done.stdout)
        found = done.stdout.splitlines()
        self.assertEqual(len(found), len(messages), done.stdout)
        for line, message in zip(found, messages):
            self.assertRegex(line, rf"^{name}:\d+: ")
            self.assertIn(message, line)

    def test_right_files_pass(self):
        self.assert_clean({
            "base/a.h": guard("base/a.h") + "#include <stdint.h>\n#endif\n",
            "hv/x/b.c": SPDX + '#include "hv/x/b_int.h"\n\n#include "base/a.h"\n',
            "hv/x/b_int.h": guard("hv/x/b_int.h") + "#endif\n",
            "hv/kvm/kvm.c": SPDX + "#include <linux/kvm.h>\n",
            "cluster/coro/cpg.c": SPDX + "#include <corosync/cpg.h>\n",
            "csv/lease.c": SPDX + '#include "cluster/vmops.h"\n#include "smbtransport/tcp.h"\n',
            "hv/CMakeLists.txt": "# SPDX-License-Identifier: Apache-2.0\ngw_module(hv_x SOURCES b.c DEPS base)\n",
            "deploy/x.py": "#!/usr/bin/env python3\n# SPDX-License-Identifier: Apache-2.0\n",
        })

    def test_an_include_against_the_arrows_is_caught(self):
        for top, other in (("base", "hv"), ("hv", "cluster"), ("cluster", "hv"), ("smbtransport", "cluster"),
                           ("hv", "migrate"), ("migrate", "csv"), ("csv", "hv"), ("hv", "bin"), ("base", "tests")):
            with self.subTest(f"{top} -> {other}"):
                self.setUp()
                self.assert_caught(f"{top}/a.c", f'{SPDX}#include "{other}/x/y.h"\n',
                                   f"layer: {top}/ may not include {other}/x/y.h")

    def test_no_way_of_writing_an_include_gets_around_the_layers(self):
        for line, message in (
                ('#  include "cluster/state.h"', "layer:"), ('#include"cluster/state.h"', "layer:"),
                ('\t#include "cluster/state.h"', "layer:"), ('#include /* x */ "cluster/state.h"', "layer:"),
                ('#include "../cluster/state.h"', "from the repository root"),
                ('#include "base/../cluster/state.h"', "from the repository root"),
                ('#include "./cluster/state.h"', "from the repository root"),
                ('#include "state.h"', "from the repository root"), ("#include CLUSTER_H", "names no file")):
            with self.subTest(line):
                self.setUp()
                self.assert_caught("hv/a.c", f"{SPDX}{line}\n", message)

    def test_our_headers_in_angle_brackets_are_caught(self):
        self.assert_caught("hv/a.c", f"{SPDX}#include <cluster/state.h>\n", "angle brackets", "layer:")

    def test_an_include_in_a_comment_is_none(self):
        self.assert_clean({"hv/a.c": SPDX + '/*\n#include "cluster/state.h"\n*/\n// #include <corosync/cpg.h>\n'})

    def test_every_door_is_guarded(self):
        for header in ("linux/kvm.h", "corosync/cpg.h", "qb/qblog.h", "infiniband/verbs.h", "rdma/rdma_cma.h",
                       "liburing.h", "openssl/ssl.h", "microhttpd.h", "curl/curl.h", "cmocka.h"):
            with self.subTest(header):
                self.setUp()
                self.assert_caught("migrate/a.c", f"{SPDX}#include <{header}>\n", f"door: <{header.split('/')[0]}")

    def test_private_headers_stay_in_their_folder(self):
        self.assert_caught("hv/y/a.c", f'{SPDX}#include "hv/x/b_int.h"\n', "private header of hv/x")

    def test_a_folder_outside_of_the_layers_is_caught(self):
        self.assert_caught("misc/a.c", SPDX, "folder misc/ is in no layer")

    def test_linking_against_the_arrows_is_caught(self):
        spdx = "# SPDX-License-Identifier: Apache-2.0\n"
        self.assert_caught("hv/CMakeLists.txt", spdx + "gw_module(hv_x SOURCES a.c PUBLIC_DEPS base cluster_state)\n",
                           "layer: hv/ may not link cluster_state")
        self.setUp()
        self.assert_caught("hv/x/CMakeLists.txt", spdx + "gw_module(cluster_x SOURCES a.c)\n",
                           "module cluster_x in hv/", "layer: hv/ may not link cluster_x")

    def test_declaring_by_hand_is_caught(self):
        self.assert_caught("hv/a.c", f"{SPDX}extern int state_of(int node);\n", "goes around the headers")

    def test_banned_words_are_caught_in_code_only(self):
        for code in ("strcpy(a, b);", "sprintf (a, b);", "n = atoi(a);", "p = alloca(n);", "gets(a);",
                     "struct s { int a; } __attribute__((packed));"):
            with self.subTest(code):
                self.setUp()
                self.assert_caught("base/a.c", f"{SPDX}{code}\n", "banned")
        self.setUp()
        self.assert_clean({"base/a.c": SPDX + '/* unlike strcpy() */\nlog("gets(x)");\nwidgets(1);\n'})

    def test_a_hint_before_its_error_is_caught(self):
        said = 'errbuf_hint(eb, "try %s; later", x);\n'
        for then in ('return errbuf_set(eb, -EIO, "no");', '(void)errbuf_sys(eb, err, "no");', 'err = errbuf_set(eb, -1, "no");'):
            with self.subTest(then):
                self.setUp()
                self.assert_caught("base/a.c", f"{SPDX}{said}{then}\n", "hint is lost")
        self.setUp()
        self.assert_clean({"base/a.c": f'{SPDX}(void)errbuf_set(eb, -EIO, "no");\n{said}return errbuf_set(other, -EIO, "no");\n'})

    def test_loose_ends_are_caught_in_comments_too(self):
        for word in ("FIXME", "XXX", "TODO", "TODO(me)"):
            with self.subTest(word):
                self.setUp()
                self.assert_caught("base/a.c", f"{SPDX}/* {word}: later */\n", "issue number")
        self.setUp()
        self.assert_clean({"base/a.c": SPDX + "/* TODO(#12): later */\n"})

    def test_guard_licence_and_columns(self):
        self.assert_caught("base/a.h", f"{SPDX}#ifndef A_H\n#define A_H\n#endif\n", "must be BASE_A_H")
        self.setUp()
        self.assert_caught("base/a.c", "int x;\n", "licence is missing")
        self.setUp()
        self.assert_caught("deploy/a.sh", "#!/bin/sh\n\n\n# SPDX-License-Identifier: late\n", "licence is missing")
        self.setUp()
        self.assert_caught("base/a.c", SPDX + "\t" * 12 + "xxxxx\n", "longer than 100 columns")

    def test_scripts_are_executable_and_nothing_else_is(self):
        script, text = self.dir / "deploy/a.sh", self.dir / "base/a.c"
        self.assert_clean({"deploy/a.sh": "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n", "base/a.c": SPDX})
        script.chmod(0o644)
        text.chmod(0o755)
        done = self.look()
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout.count("is executable, nothing else"), 2, done.stdout)

    def test_links_to_nothing_are_caught(self):
        self.assert_caught("docs/A.md", "[x](B.md#part) and [y](https://example.org/z) and [z](#here)\n",
                           "link to nothing: B.md")
        self.setUp()
        self.assert_clean({"docs/A.md": "[x](B.md#part)\n", "docs/B.md": "[y](../README.md)\n", "README.md": ""})

    def test_decision_records_have_their_parts(self):
        parts = "\n## Context\n## Decision\n## Alternatives and why not\n## How it is tested\n"
        self.assert_clean({"docs/decisions/0007-a-b.md": "# 0007: a\n" + parts, "docs/decisions/README.md": ""})
        self.assert_caught("docs/decisions/0008-a.md", "# 0007: a\n" + parts, "starts with '# 0008: '")
        self.setUp()
        self.assert_caught("docs/decisions/0007-a.md", "# 0007: a\n" + parts.replace("## Alt", "## Fun"),
                           "'## Alternatives'")
        self.setUp()
        self.assert_caught("docs/decisions/why.md", "# why\n" + parts, "is called NNNN")

    def test_sizes_are_advice(self):
        body = "int f(void)\n{\n" + "\tg();\n" * 71 + "}\n"
        done = self.tidy(**{"base/a.c": SPDX + body + "\n" * 800})
        self.assertEqual(done.returncode, 0)
        self.assertIn("advice: base/a.c:3: function longer", done.stderr)
        self.assertIn("advice: base/a.c: longer than 800 lines", done.stderr)

    def test_untracked_files_are_seen_and_ignored_and_deleted_ones_not(self):
        self.assert_clean({".gitignore": "/build/\n", "build/a.c": "no licence\n"})
        self.tidy(**{"base/a.c": "no licence\n"})
        subprocess.run(["git", "add", "base/a.c"], cwd=self.dir, check=True)
        (self.dir / "base/a.c").unlink()
        self.assert_clean({})


if __name__ == "__main__":
    unittest.main(verbosity=2)

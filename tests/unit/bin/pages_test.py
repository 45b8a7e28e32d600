#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the programs generate from their tables: troff without warnings, completion in real shells."""
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

BUILD = pathlib.Path(os.environ["GW_BUILD"])
PAGES = BUILD / "pages"
ENV = {"PATH": f"{BUILD}/bin:{os.environ['PATH']}", "LC_ALL": "C", "HOME": "/nonexistent"}
TOOLS = ("groff", "man", "bash", "zsh")


def run(*command):
    """Standard output; both streams must be free of complaints."""
    done = subprocess.run(command, capture_output=True, text=True, env=ENV, timeout=60, check=False)
    if done.returncode != 0 or done.stderr:
        raise AssertionError(f"{command}: exit {done.returncode}: {done.stderr}")
    return done.stdout


def programs():
    return sorted(p.name for p in PAGES.iterdir())


class Man(unittest.TestCase):
    def pages(self):
        found = sorted(PAGES.glob("*/man/*.[18]"))
        self.assertGreater(len(found), 3)
        return found

    def test_groff_has_nothing_to_say(self):
        for page in self.pages():
            run("groff", "-man", "-ww", "-z", "-Tutf8", str(page))

    def test_man_has_nothing_to_say(self):
        for page in self.pages():
            run("man", "--warnings", "--encoding=UTF-8", "--local-file", "--troff-device=utf8", str(page))

    def test_pages_have_the_sections_of_a_manual(self):
        for page in self.pages():
            text = run("man", "--local-file", "--pager=cat", str(page))
            for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"):
                self.assertIn(f"\n{section}\n", "\n" + text, page.name)

    def test_every_program_has_its_page(self):
        for program in programs():
            self.assertTrue(list((PAGES / program / "man").glob(f"{program}.[18]")), program)

    def test_every_noun_has_its_page(self):
        nouns = run("godwit", "__complete", "1", "godwit", "").splitlines()
        self.assertGreater(len(nouns), 2)
        for noun in nouns:
            name = noun.split("\t")[0]
            self.assertTrue((PAGES / "godwit" / "man" / f"godwit-{name}.1").exists(), name)


class Bash(unittest.TestCase):
    def complete(self, program, *words):
        """COMPREPLY for the last of the words (as bash parts them), with the real script."""
        script = (f"source {PAGES}/{program}/bash/{program}; COMP_WORDS=(\"$@\"); "
                  "COMP_CWORD=$(($# - 1)); "
                  f"_{program}_complete {program} \"${{COMP_WORDS[COMP_CWORD]}}\" x; "
                  "printf '%s\\n' \"${COMPREPLY[@]}\"")
        return run("bash", "--norc", "-c", script, "bash", program, *words).split()

    def test_words(self):
        self.assertIn("host", self.complete("godwit", ""))
        self.assertEqual(self.complete("godwit", "hos"), ["host"])
        self.assertEqual(self.complete("godwit", "host", "ch"), ["check"])
        self.assertEqual(self.complete("godwit", "help", "host", "sh"), ["show"])
        self.assertEqual(self.complete("godwit", "bogus", ""), [])

    def test_options(self):
        self.assertEqual(self.complete("godwit", "host", "check", "--js"), ["--json"])
        self.assertEqual(self.complete("godwit", "--json", "host", "ch"), ["check"])

    def test_scripts_parse(self):
        for program in programs():
            run("bash", "-n", str(PAGES / program / "bash" / program))


class Zsh(unittest.TestCase):
    def complete(self, *words):
        """What the function hands to _describe."""
        script = ("compdef() { }; _describe() { print -l -- \"${(@P)2}\" }; "
                  f"source {PAGES}/godwit/zsh/_godwit; words=(\"$@\"); CURRENT=$#; _godwit")
        return run("zsh", "-f", "-c", script, "zsh", "godwit", *words).splitlines()

    def test_words_come_with_their_summaries(self):
        self.assertEqual([w.split(":")[0] for w in self.complete("hos")], ["host"])
        found = self.complete("host", "ch")
        self.assertEqual(len(found), 1)
        self.assertTrue(found[0].startswith("check:Check whether"), found)

    def test_scripts_parse(self):
        for program in programs():
            run("zsh", "-n", str(PAGES / program / "zsh" / f"_{program}"))


if __name__ == "__main__":
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        print("skipped: not installed:", ", ".join(missing))
        sys.exit(77)
    unittest.main()

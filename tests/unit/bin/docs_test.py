#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Commands that documents, help texts and hints tell people to type are commands that the programs understand."""
import functools
import os
import pathlib
import re
import shlex
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(os.environ["GW_BUILD"]) / "bin"
PROGRAMS = ("godwit", "godwitd", "godwit-csvd")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/guide/*.md"))]
LABELS = ("fence device",)  # of what is hashed or encrypted
# `n1# godwit ...`, `# ...`, `$ ...`, or the command alone; what a program says begins with `godwit:`.
PROMPT = re.compile(r"^(?:\w*[#$] )?((?:godwit|godwitd|godwit-csvd) .*)$")


@functools.cache
def asked(words):
    done = subprocess.run([BIN / words[0], "__parse", *words[1:]], capture_output=True, text=True, timeout=60, check=False)
    return None if done.returncode == 0 else done.stderr.strip()


def complaint(words):
    """What the program says of these words; None if it understands them."""
    return asked(tuple(words))


def commands(line):
    """The commands of ours in a line for a shell, as words; [--x] is as --x, a|b as a."""
    line = re.sub(r"(?<=\w)\|\w[\w|-]*", "", line.replace("[", "").replace("]", ""))
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    command = []
    for word in [*lexer, ";"]:
        if set(word) <= set(";&|<>"):
            if command and command[0] in PROGRAMS:
                yield command
            command = []
        else:
            command.append(word)


def blocks(text):
    """Lines of the parts between fences, those that end in a backslash with what follows."""
    for block in re.findall(r"(?ms)^```\w*\n(.*?)^```$", text):
        yield from block.replace("\\\n", " ").splitlines()


class Documents(unittest.TestCase):
    def understood(self, words, where, part=False):
        """@part: some words may be missing, so --help stands for them."""
        more = [w for w in words if w != "..."]
        faults = [complaint(words)] if not part else []
        if part or (faults[0] and more != words):
            faults.append(complaint([*more, "--help"]))
        if part and more[-1].startswith("--") and "needs a value" in (faults[-1] or ""):
            return
        self.assertIsNone(faults[-1], f"{where}: {' '.join(words)}")

    def test_lines_to_be_typed(self):
        count = 0
        for document in DOCUMENTS:
            for line in blocks(document.read_text(encoding="utf-8")):
                typed = PROMPT.match(line)
                for words in commands(typed[1]) if typed else ():
                    count += 1
                    with self.subTest(document.name, line=line):
                        self.understood(words, document.name)
        self.assertGreater(count, 50)

    def test_commands_within_sentences(self):
        count = 0
        for document in DOCUMENTS:
            text = re.sub(r"(?ms)^```\w*\n.*?^```$", "", document.read_text(encoding="utf-8"))
            for line in re.findall(r"`((?:godwit|godwitd|godwit-csvd) [^`\n]+)`", text):
                for words in commands(line):
                    count += 1
                    with self.subTest(document.name, line=line):
                        self.understood(words, document.name, part=True)
        self.assertGreater(count, 30)


def listed(*words):
    """What completion proposes after these words."""
    done = subprocess.run([BIN / words[0], "__complete", str(len(words) - 1), *words], capture_output=True, text=True, timeout=60,
                          check=True)
    return [line.split("\t")[0] for line in done.stdout.splitlines() if not line.startswith(":")]


class Programs(unittest.TestCase):
    """What the program itself tells people to type."""

    @classmethod
    def setUpClass(cls):
        cls.verbs = {noun: listed("godwit", noun, "") for noun in listed("godwit", "")}

    def test_examples_of_the_help(self):
        count = 0
        for noun, verbs in self.verbs.items():
            for verb in verbs if noun not in ("help", "completion") else ():
                done = subprocess.run([BIN / "godwit", "help", noun, verb], capture_output=True, text=True, timeout=60, check=False,
                                      env={**os.environ, "COLUMNS": "100"})
                _, _, examples = done.stdout.partition("Examples:\n")
                for line in examples.splitlines():
                    for words in commands(line.strip()):
                        count += 1
                        with self.subTest(f"{noun} {verb}", line=line):
                            self.assertIsNone(complaint(words), line)
        self.assertGreater(count, 10)

    def test_hints_name_commands_and_options_that_there_are(self):
        """`godwit NOUN VERB ... --option` in the literals of the sources."""
        count, options = 0, {}
        for source in [p for folder in ("base", "bin", "cluster", "csv", "hv", "migrate") for p in sorted((ROOT / folder).rglob("*.c"))]:
            text = re.sub(r'"\s*\n\s*"', "", source.read_text(encoding="utf-8"))
            for literal in re.findall(r'"((?:[^"\\\n]|\\.)*)"', text):
                for noun, verb, rest in re.findall(r"\bgodwit ([a-z]+) ([a-z]+)\b((?:(?!godwit |[;:.,)] |\\n| or ).)*)", literal):
                    if noun == "help" or not self.verbs.get(noun) or f"{noun} {verb}" in LABELS:
                        continue
                    count += 1
                    with self.subTest(source.name, literal=literal):
                        self.assertIn(verb, self.verbs[noun])
                        known = options.setdefault((noun, verb), [])
                        known += [] if known else listed("godwit", noun, verb, "--")
                        for option in re.findall(r"(?<![\w-])--[a-z-]+", rest):
                            self.assertIn(option, known)
        self.assertGreater(count, 50)


if __name__ == "__main__":
    unittest.main()

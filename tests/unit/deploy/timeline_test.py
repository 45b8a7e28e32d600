#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""deploy/timeline.py: marks become a picture; what is no mark is named."""
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

PROGRAM = pathlib.Path(__file__).resolve().parents[3] / "deploy/timeline.py"
SVG = "{http://www.w3.org/2000/svg}"


class Timeline(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def draw(self, text):
        (self.dir / "marks").write_text(text, encoding="utf-8")
        return subprocess.run([sys.executable, PROGRAM, self.dir / "marks", self.dir / "svg"], capture_output=True,
                              text=True, check=False)

    def picture(self, text):
        done = self.draw(text)
        self.assertEqual(done.returncode, 0, done.stderr)
        return xml.etree.ElementTree.parse(self.dir / "svg").getroot()

    def test_bars_are_as_long_as_what_they_show(self):
        root = self.picture("0 step - boot <it>\n10 begin n1 vm:web\n30 end n1 vm:web\n30 begin n2 vm:web\n30 point n2 31 ms\n"
                            "40 begin n1 off\n70 step - end\n")
        bars = {bar[0].text: float(bar.get("width")) for bar in root.iter(f"{SVG}rect") if len(bar)}
        self.assertEqual(list(bars), ["off 40.0 to 70.0 s", "vm:web 10.0 to 30.0 s", "vm:web 30.0 to 70.0 s"])
        self.assertAlmostEqual(bars["vm:web 30.0 to 70.0 s"] / bars["vm:web 10.0 to 30.0 s"], 2, places=2)
        words = [text.text for text in root.iter(f"{SVG}text")]
        for word in ("n1", "n2", "boot <it>", "31 ms", "web"):
            self.assertIn(word, words)

    def test_nothing_is_an_empty_picture(self):
        self.assertEqual(len(list(self.picture("").iter(f"{SVG}circle"))), 0)

    def test_what_is_no_mark_is_named(self):
        for text, why in (("0 step - a\nx begin n1 y\n", "line 2"), ("1 begin n1\n", "line 1"), ("1 jump n1 y\n", "'jump'")):
            done = self.draw(text)
            self.assertEqual(done.returncode, 1)
            self.assertIn(why, done.stderr)


if __name__ == "__main__":
    unittest.main()

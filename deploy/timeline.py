#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The demonstration as a picture: reads marks, a line each, writes an SVG.

    deploy/timeline.py MARKS SVG

A mark is "SECONDS KIND ROW TEXT":
    12.5 step - boot a VM on n1           a step begins
    14.0 begin n1 vm:web                  something begins in the row of a node: a VM, "off", "cut"
    31.2 end n1 vm:web                    and ends (what never ends lasts to the last mark)
    31.0 point n1 blackout 31 ms          something happened
"""
import dataclasses
import html
import sys

WIDTH, LEFT, RIGHT = 960, 70, 100
TOP, ROW, GAP, BAR = 150, 46, 14, 22
COLOURS = ("#2a78d6", "#1baf7a", "#eda100", "#4a3aa7", "#e87ba4", "#eb6834")
BAD = {"off": "#8a8984", "cut": "#e34948", "draining": "#c9c7be"}


@dataclasses.dataclass
class Mark:
    """A line of the input."""

    at: float
    kind: str
    row: str
    text: str


@dataclasses.dataclass
class Span:
    """Something that lasts, in the row of a node."""

    row: str
    text: str
    begin: float
    end: float


def parse(lines):
    """Marks, in order of time. ValueError names the line that is none."""
    marks = []
    for number, line in enumerate(lines, 1):
        words = line.strip().split(" ", 3)
        try:
            at, kind, row, text = float(words[0]), *words[1:]
        except (ValueError, IndexError):
            raise ValueError(f"line {number}: not 'SECONDS KIND ROW TEXT': {line.strip()}") from None
        if kind not in ("step", "begin", "end", "point"):
            raise ValueError(f"line {number}: '{kind}' is none of step, begin, end, point")
        marks.append(Mark(at, kind, row, text))
    return sorted(marks, key=lambda mark: mark.at)


def spans(marks, last):
    """What lasts: begin to end, or to @last."""
    done, open_ = [], {}
    for mark in marks:
        key = (mark.row, mark.text)
        if mark.kind == "begin":
            open_.setdefault(key, mark.at)
        elif mark.kind == "end" and key in open_:
            done.append(Span(*key, open_.pop(key), mark.at))
    return done + [Span(*key, begin, last) for key, begin in open_.items()]


def ticks(last):
    """Round seconds along the axis, about ten."""
    step = next((s for s in (5, 10, 15, 30, 60, 120, 300) if last / s <= 12), 600)
    return range(0, int(last) + 1, step)


class Picture:
    """An SVG that grows."""

    def __init__(self, last, rows):
        self.last, self.rows, self.free = max(last, 1.0), rows, 0.0
        self.height = TOP + len(rows) * (ROW + GAP) + 40
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
                      f'font-family="sans-serif" font-size="11" fill="#0b0b0b">',
                      f'<rect width="{WIDTH}" height="{self.height}" fill="#fcfcfb"/>']

    def x(self, at):
        """Where a time is."""
        return LEFT + at / self.last * (WIDTH - LEFT - RIGHT)

    def y(self, row):
        """The upper edge of a row."""
        return TOP + self.rows.index(row) * (ROW + GAP)

    def text(self, x, y, text, extra=""):
        """Words at a place."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{html.escape(text)}</text>')

    def line(self, x1, y1, x2, y2, colour):
        """A thin line."""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>')

    def axis(self):
        """Seconds below, a row for each node."""
        bottom = TOP + len(self.rows) * (ROW + GAP)
        for at in ticks(self.last):
            self.line(self.x(at), TOP - 4, self.x(at), bottom, "#e4e3df")
            self.text(self.x(at), bottom + 16, f"{at} s", 'text-anchor="middle" fill="#52514e"')
        for row in self.rows:
            self.text(LEFT - 10, self.y(row) + ROW / 2 + 4, row, 'text-anchor="end" font-weight="bold"')

    def step(self, mark):
        """The name of a step, slanted, at its beginning."""
        x = max(self.x(mark.at), self.free)
        self.free = x + 15
        self.line(x, TOP - 14, self.x(mark.at), TOP - 4, "#52514e")
        self.text(x + 3, TOP - 18, mark.text, f'transform="rotate(-40 {x + 3:.1f} {TOP - 18})" fill="#52514e"')

    def bar(self, span, colours):
        """A VM, or what is wrong with the node, as long as it lasts."""
        bad = span.text in BAD
        y = self.y(span.row) + (0 if bad else 10 + 4 * (list(colours).index(span.text) % 3))
        height, width = (ROW, BAR)[not bad], max(self.x(span.end) - self.x(span.begin), 1.5)
        colour = BAD[span.text] if bad else colours[span.text]
        self.parts.append(f'<rect x="{self.x(span.begin):.1f}" y="{y}" width="{width:.1f}" height="{height}" rx="4" '
                          f'fill="{colour}" fill-opacity="{0.25 if bad else 1}"><title>{html.escape(span.text)} '
                          f'{span.begin:.1f} to {span.end:.1f} s</title></rect>')
        label = span.text.removeprefix("vm:")
        if width > 8 * len(label):
            self.text(self.x(span.begin) + 5, y + (12 if bad else 15), label, f'fill="{colour if bad else "#ffffff"}"')

    def point(self, mark):
        """Something that happened."""
        x, y = self.x(mark.at), self.y(mark.row) + ROW
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="3.5" fill="#0b0b0b"/>')
        self.text(x + 6, y + 9, mark.text)

    def end(self):
        """The whole picture."""
        return "\n".join(self.parts + ["</svg>", ""])


def draw(marks):
    """The SVG of these marks."""
    last = marks[-1].at if marks else 0.0
    rows = sorted({mark.row for mark in marks if mark.kind != "step"})
    bars = spans(marks, last)
    names = sorted({span.text for span in bars if span.text not in BAD})
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    picture = Picture(last, rows)
    picture.axis()
    for mark in marks:
        if mark.kind == "step":
            picture.step(mark)
    for span in sorted(bars, key=lambda one: one.text not in BAD):
        picture.bar(span, colours)
    for mark in marks:
        if mark.kind == "point":
            picture.point(mark)
    return picture.end()


def main(argv):
    """Read, draw, write."""
    if len(argv) != 3:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        with open(argv[1], encoding="utf-8") as source:
            svg = draw(parse(source))
        with open(argv[2], "w", encoding="utf-8") as target:
            target.write(svg)
    except (OSError, ValueError) as error:
        print(f"timeline: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

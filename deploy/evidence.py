#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
What deploy/demo measures, from the files that its measuring commands write.

    deploy/evidence.py stamp FILE                 standard input to FILE, each line after the time it came [s since 1970]
    deploy/evidence.py ping FILE FROM TO          pings answered, lost, and the longest silence, in that time
    deploy/evidence.py talk FILE FROM TO          a guest's lines "N SECONDS": how many, the longest silence outside (when they
                                                  came) and inside (the guest's own clock). Exit status 1: one is missing
    deploy/evidence.py failover LOG NODE VM FROM  of a godwitd's log: when NODE was found lost, proven gone, and VM started

FILE of ping is what `ping -D -O` says. FROM and TO are seconds since 1970. Each prints one line of NAME=VALUE words.
"""
import datetime
import re
import sys
import time

PING = re.compile(r"\[([\d.]+)\] \d+ bytes from .* icmp_seq=(\d+)")


def longest(times):
    """The longest time between one and the next [ms]."""
    return max((round((b - a) * 1000) for a, b in zip(times, times[1:])), default=0)


def silence(seen, end):
    """The longest one of [(time, ...)] [ms]; one that is not over at @end lasts until then."""
    times = [item[0] for item in seen]
    return longest(times + [end] if times and times[-1] < end else times)


def around(items, begin, end):
    """Those of [(time, ...)] within, with the last one before and the first one after: a silence may begin or end outside."""
    inside = [i for i, item in enumerate(items) if begin <= item[0] <= end]
    if not inside:  # nothing was heard: what lies on both sides
        after = next((i for i, item in enumerate(items) if item[0] > end), len(items))
        return items[max(after - 1, 0):after + 1]
    return items[max(inside[0] - 1, 0):inside[-1] + 2]


def ping(text, begin, end):
    """Of the output of ping -D -O."""
    seen = around([(float(t), int(n)) for t, n in PING.findall(text)], begin, end)
    # icmp_seq has 16 bits.
    sent = sum((b[1] - a[1]) % 65536 for a, b in zip(seen, seen[1:]))
    return {"answered": max(len(seen) - 1, 0), "lost": sent - max(len(seen) - 1, 0),
            "silence_ms": silence(seen, end)}


def talk(text, begin, end):
    """Of stamped lines "N SECONDS". ValueError: a line is missing, or comes twice, anywhere in the file."""
    lines = []
    for line in text.splitlines(keepends=True):
        words = line.split()
        if len(words) != 3 or not line.endswith("\n"):
            continue  # the last one, half written; or a word of ssh
        lines.append((float(words[0]), int(words[1]), float(words[2])))
    for a, b in zip(lines, lines[1:]):
        if b[1] != a[1] + 1:
            raise ValueError(f"after line {a[1]} came {b[1]}")
    seen = around(lines, begin, end)
    return {"lines": max(len(seen) - 1, 0), "outside_ms": silence(seen, end),
            "inside_ms": longest([one[2] for one in seen])}


def committed(log, words, begin):
    """When the first entry that begins with @words was committed after @begin [s]; None."""
    for stamp in re.findall(rf'^(\S+) .*committed what="{words}(?![\w-])', log, re.M):
        at = datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
        if at >= begin:
            return at
    return None


def failover(log, node, name, begin):
    """Seconds of each part. ValueError: one is not in the log."""
    found, last = {}, begin
    for part, words in (("detect", f"lost  {node}"), ("fence", f"fenced  {node}"), ("start", f"started {name}")):
        at = committed(log, words, begin)
        if at is None:
            raise ValueError(f"'{words}' is not in the log after that time")
        found[part] = round(at - last, 1)
        last = at
    return found


def stamp(path):
    """Until the end of the input."""
    with open(path, "a", encoding="utf-8") as out:
        for line in sys.stdin:
            out.write(f"{time.time():.6f} {line}")
            out.flush()


def main(argv):
    """As the words say."""
    if len(argv) == 3 and argv[1] == "stamp":
        stamp(argv[2])
        return 0
    try:
        with open(argv[2], encoding="utf-8", errors="replace") as source:
            text = source.read()
        if argv[1] == "failover":
            said = failover(text, argv[3], argv[4], float(argv[5]))
        else:
            said = {"ping": ping, "talk": talk}[argv[1]](text, float(argv[3]), float(argv[4]))
    except (IndexError, KeyError):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"evidence: {error}", file=sys.stderr)
        return 1
    print(" ".join(f"{name}={value}" for name, value in said.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

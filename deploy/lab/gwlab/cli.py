# SPDX-License-Identifier: Apache-2.0
"""The commands of the lab."""
import argparse
import contextlib
import fcntl
import json
import os
import re
import signal
import struct
import sys
import termios
import time
import tty

from gwlab import cable, channel, host, kernel
from gwlab.errors import LabError, UsageError
from gwlab.lab import META_PACKAGE, Lab, names
from gwlab.network import NETWORKS, NODES_MAX

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
MIB = 1 << 20


def size(text):
    """Bytes of "512M", "1G", ..."""
    match = re.fullmatch(r"(\d+)([KMGT]?)(?:i?B)?", text)
    if not match or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no size: write 512M or 1G")
    return int(match[1]) * UNITS[match[2]]


def memory(text):
    """A node's memory [MiB]."""
    mib = size(text) // MIB
    if not 256 <= mib <= 64 * 1024:
        raise argparse.ArgumentTypeError("a node has 256M to 64G of memory")
    return mib


def disk(text):
    """A disk's size [bytes]."""
    value = size(text)
    if value < 16 * MIB or value % MIB:
        raise argparse.ArgumentTypeError("a disk has at least 16M, and whole MiB")
    return value


def number(low, high):
    """A type for argparse: an integer low..high."""
    def convert(text):
        if not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"'{text}': a number from {low} to {high}")
        return int(text)
    return convert


def say(text):
    """Progress, for a person."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


# ---- commands: each takes the parsed arguments and returns an exit status ----

def cmd_up(args):
    lab = Lab(args.name)
    begin = time.monotonic()
    lab.up({"nodes": args.nodes, "memory_mib": args.memory, "cpus": args.cpus,
            "disk_bytes": args.disk, "lun_bytes": args.lun or [2 << 30],
            "acceleration": args.accel}, (lambda _: None) if args.quiet else say, args.timeout)
    if not args.quiet:
        answering = " ".join(node.name for node in lab.nodes())
        say(f"{answering} answer after {time.monotonic() - begin:.1f} s")
    return 0


def cmd_down(args):
    lab = Lab(args.name)
    if not lab.dir.exists() and not lab.network.exists():
        lab.load()  # Says that there is none.
    lab.down()
    return 0


def cmd_check(_args):
    ok = True
    for what, test in (("root", host.require_root), ("packages", host.require_packages),
                       ("memory", lambda: host.require_memory(3, 1024))):
        try:
            test()
            print(f"{what:<13} ok")
        except LabError as e:
            ok = False
            print(f"{what:<13} {e}; {e.hint}")
    usable, why = host.nested_kvm()
    print(f"{'acceleration':<13} {'kvm' if usable else 'tcg'}: {why}")
    return 0 if ok else 1


def cmd_fetch(_args):
    host.require_packages()
    print(kernel.get(META_PACKAGE, say).path)
    return 0


def exec_terminal(command, window_fd):
    """Until the command ends, with the terminal's signals passed on."""
    with channel.SignalPipe(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT,
                            signal.SIGWINCH) as signals:
        while True:
            status, ready = command.step([signals.reader])
            if status is not None:
                return status
            for got in signals.read() if signals.reader in ready else []:
                if got != signal.SIGWINCH:
                    command.signal(got)
                elif window_fd is not None:
                    command.resize(*window_size(window_fd))


def window_size(fd):
    """(rows, columns) of a terminal."""
    return struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))[:2]


@contextlib.contextmanager
def raw_terminal(fd):
    """Keys go to the node as they are, Ctrl-C too."""
    old = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, old)


def is_open(fd):
    """Is there anything behind this descriptor?"""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def write_all(fd):
    """A function that writes all of what it gets to @fd."""
    def write(data):
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    return write


def cmd_exec(args):
    node = Lab(args.name).load().node(args.node)
    words = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not words:
        raise UsageError("no command", "lab exec n1 -- uname -a")
    if args.tty and not os.isatty(0):
        raise UsageError("-t needs a terminal", "leave -t out")
    deadline = None if args.timeout is None else time.monotonic() + args.timeout
    port = channel.Channel(node.dir, deadline)
    try:
        port.hello()
        command = channel.Command(
            port, channel.shell_or_argv(words), None if args.no_stdin or not is_open(0) else 0, write_all(1),
            write_all(2), window_size(0) if args.tty else None)
        with raw_terminal(0) if args.tty else contextlib.nullcontext():
            return exec_terminal(command, 0 if args.tty else None)
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    finally:
        port.close()


def cmd_start(args):
    lab = Lab(args.name).load()
    node = lab.node(args.node)
    node.start()
    node.wait_ready(180)
    return 0


def cmd_kill(args):
    Lab(args.name).load().node(args.node).kill()
    return 0


def cmd_reset(args):
    Lab(args.name).load().node(args.node).reset()
    return 0


def cmd_pause(args):
    Lab(args.name).load().node(args.node).pause(args.clock_runs)
    return 0


def cmd_unpause(args):
    Lab(args.name).load().node(args.node).unpause()
    return 0


def cmd_cut(args):
    lab = Lab(args.name).load()
    node = lab.node(args.node)
    if args.verb == "heal":
        node.set_cut(lab.cable(args.cable), None)
    else:
        node.set_cut(lab.cable(args.cable), cable.SILENT if args.silent else cable.CABLE, args.stall)
    return 0


def cmd_log(args):
    node = Lab(args.name).load().node(args.node)
    try:
        with open(node.console, "rb") as log:
            while True:
                while data := log.read(1 << 16):
                    write_all(1)(data)
                if not args.follow or not node.dir.exists():
                    return 0
                time.sleep(0.2)  # The log is a plain file that QEMU appends to.
    except FileNotFoundError:
        return 0
    except (KeyboardInterrupt, BrokenPipeError):
        return 0


def describe(lab):
    """A lab as `status --json` shows it."""
    return {
        "name": lab.name, "directory": str(lab.dir), "namespace": lab.network.namespace,
        "acceleration": lab.conf["acceleration"], "memory_mib": lab.conf["memory_mib"],
        "cpus": lab.conf["cpus"], "source": lab.conf["source"], "build": lab.conf["build"],
        "luns": [{"name": lun.name, "path": str(lun.path), "bytes": lun.bytes}
                 for lun in lab.luns()],
        "nodes": [{"name": node.name, "state": node.state(), "pid": node.pid(),
                   "cuts": lab.cuts(node.name),
                   "addresses": {net: f"10.77.{k}.{node.number}" for net, k in NETWORKS.items()}}
                  for node in lab.nodes()],
    }


def cmd_status(args):
    if args.name_given:
        labs = [Lab(args.name).load()]
    else:
        labs = [Lab(name).load() for name in names()]
    if args.json:
        print(json.dumps({"labs": [describe(lab) for lab in labs]}, indent=1))
        return 0
    if not labs:
        print("no lab is up")
    for lab in map(describe, labs):
        print(f"lab {lab['name']}: {lab['acceleration']}, {lab['memory_mib']} MiB and {lab['cpus']} CPU "
              f"a node, {len(lab['luns'])} LUN, namespace {lab['namespace']}")
        for node in lab["nodes"]:
            cuts = "".join(f"  {what} cut ({how})" for what, how in node["cuts"].items())
            print(f"  {node['name']:<4} {node['state']:<10} {node['addresses']['cluster']}{cuts}")
    return 0


# ---- the command line ----

def parser():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default=argparse.SUPPRESS, metavar="LAB",
                        help="which lab (default: $GODWIT_LAB, or 'default')")
    top = argparse.ArgumentParser(
        prog="lab", parents=[common], description="A datacenter of virtual nodes on this machine.",
        epilog="Exit status: 0 done, 1 refused or failed, 2 usage; exec: the command's own, "
               "124 timed out, 255 the node is off or went away.")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name, function, text, node=False):
        sub = verbs.add_parser(name, help=text, description=text, parents=[common])
        sub.set_defaults(function=function)
        if node:
            sub.add_argument("node", metavar="NODE", help="n1, n2, ...")
        return sub

    up = verb("up", cmd_up, "Make a lab; returns when all nodes answer.")
    up.add_argument("--nodes", type=number(1, NODES_MAX), default=3, metavar="N")
    up.add_argument("--memory", type=memory, default=1024, metavar="SIZE", help="of a node (1G)")
    up.add_argument("--cpus", type=number(1, 16), default=1, metavar="N", help="of a node (1)")
    up.add_argument("--lun", type=disk, action="append", metavar="SIZE",
                    help="a disk that all nodes share; repeat it for more (2G)")
    up.add_argument("--disk", type=disk, default=8 << 30, metavar="SIZE",
                    help="a node's private disk, sparse (8G)")
    up.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto")
    up.add_argument("--timeout", type=number(1, 3600), metavar="S",
                    help="how long the nodes may take to answer")
    up.add_argument("-q", "--quiet", action="store_true", help="no progress")
    verb("down", cmd_down, "Remove the lab: nodes, networks, disks, files.")
    verb("check", cmd_check, "Say whether this machine can run a lab.")
    verb("fetch", cmd_fetch, "Download the nodes' kernel now, not at the first up.")
    execute = verb("exec", cmd_exec, "Run a command in a node: one word is a shell line, several are a "
                   "program and its arguments.")
    execute.add_argument("-t", "--tty", action="store_true", help="with a terminal")
    execute.add_argument("-n", "--no-stdin", action="store_true", help="no standard input")
    execute.add_argument("--timeout", type=float, metavar="S", help="exit 124 after so long")
    execute.add_argument("node", metavar="NODE")
    execute.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    verb("kill", cmd_kill, "Pull a node's power cord.", True)
    verb("start", cmd_start, "Switch a node on; returns when it answers.", True)
    verb("reset", cmd_reset, "Press a node's reset button.", True)
    verb("pause", cmd_pause, "Freeze a node.", True).add_argument(
        "--clock-runs", action="store_true",
        help="only its processors: its clock, its watchdog and what it has sent to its disks go on")
    verb("unpause", cmd_unpause, "Let a frozen node go on.", True)
    for name, text in (("cut", "Cut a node's cable to a network or LUN."),
                       ("heal", "Mend a cut cable.")):
        sub = verb(name, cmd_cut, text, True)
        sub.add_argument("cable", metavar="NETWORK",
                         help="cluster, storage, guest, lun (lun0), lun1, ...")
        if name == "cut":
            sub.add_argument("--silent", action="store_true",
                             help="the carrier stays, disk requests hang before they fail")
            sub.add_argument("--stall", type=number(1, 3600), default=cable.STALL_S, metavar="S",
                             help=f"how long they hang ({cable.STALL_S})")
    verb("log", cmd_log, "Print a node's console.", True).add_argument(
        "-f", "--follow", action="store_true", help="go on printing")
    verb("status", cmd_status, "Show the labs.").add_argument("--json", action="store_true")
    return top


def main(argv):
    """Run one command; returns the exit status."""
    args = parser().parse_args(argv)
    args.name_given = hasattr(args, "name")
    if not args.name_given:
        args.name = os.environ.get("GODWIT_LAB", "default")
    try:
        return args.function(args)
    except LabError as e:
        print(f"lab: {e}", file=sys.stderr)
        if e.hint:
            print(f"lab: hint: {e.hint}", file=sys.stderr)
        return e.status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT

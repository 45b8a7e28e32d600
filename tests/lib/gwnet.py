# SPDX-License-Identifier: Apache-2.0
"""A cluster of network namespaces with one real corosync in each: the fixture of the `node` tests.

One cluster is one PID namespace and one network namespace, held by a *hub* process that is PID 1
inside. The hub's network namespace carries one bridge per link; each node is a child with its own
network, mount and UTS namespace, joined to every bridge by a veth pair. Nothing has a name outside:
no entry in /run/netns, no interface on the machine, no mount. So any number of clusters run at once,
and when the hub dies the kernel ends every process and takes every namespace with it.

The hub lives as long as its owner: it ends itself when the pipe from the process that created the
cluster closes, also when that process was killed with SIGKILL. Only a directory under /run/gwnet can
be left behind, and only if the hub itself was killed: gc() removes it, and every create() calls gc().

    with gwnet.Cluster(nodes=3) as c:
        c.start()
        c.wait_members([1, 2, 3])
        c.node(3).kill()
        c.wait_members([1, 2], on=[1, 2])

Inside a node /run, /dev/shm and corosync's directories are the node's own; the directory of the
cluster is at the same path inside and outside, so a Unix socket made there by a program in a node
can be used from the test. The commands of tests/lib/netcluster work from inside a node, too.
"""
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
import unittest

BASE = pathlib.Path(os.environ.get("GW_NET_DIR", "/run/gwnet"))
NODES_MAX = 32  # corosync's own practical limit
LINKS_MAX = 8  # knet's limit
PRIVATE_DIRS = ("/etc/corosync", "/var/lib/corosync", "/var/log/corosync")
COMMAND_S = 30.0
POLL_S = 0.05
SKIP = 77


class Error(Exception):
    """Something outside the test went wrong; the text says what."""


class Timeout(Error):
    """wait_for() ran out of time."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What a cluster is made of. Times in milliseconds; None leaves corosync's default."""

    nodes: int = 3
    links: int = 2
    token: int = 1000
    consensus: int | None = None
    expected_votes: int | None = None
    votes: dict | None = None  # node number -> votes; 1 where absent
    crypto: bool = False
    link_mode: str = "active"
    debug: bool = False

    def __post_init__(self):
        if not 1 <= self.nodes <= NODES_MAX:
            raise Error(f"nodes={self.nodes}: 1..{NODES_MAX}")
        if not 1 <= self.links <= LINKS_MAX:
            raise Error(f"links={self.links}: 1..{LINKS_MAX}")

    def address(self, node, link):
        """Address of a node on a link; private to the cluster's namespaces."""
        return f"10.77.{link}.{node}"

    def corosync_conf(self):
        """The text of corosync.conf, the same on every node."""
        return _corosync_conf(self)


@dataclasses.dataclass(frozen=True)
class Quorum:
    """What one node's corosync says about itself."""

    quorate: bool
    members: tuple
    ring: str
    votes: int
    expected: int
    needed: int


def why_not():
    """The reason why no cluster can be made on this machine, or None."""
    if os.geteuid() != 0:
        return "needs root (namespaces, nftables)"
    missing = [p for p in ("corosync", "corosync-quorumtool", "ip", "nft", "unshare", "nsenter")
               if shutil.which(p, path=_path()) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (packages: see deploy/packages)"
    probe = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "nft", "list", "ruleset"],
                           capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        return f"no namespaces or nftables here: {probe.stderr.strip()}"
    return None


def main(*devices, cluster=True, argv=None):
    """unittest.main(); but skipped, with the reason, where no cluster can be made or a device cannot be used."""
    reason = why_not() if cluster else None
    for device in devices:
        try:
            os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            reason = reason or f"{device}: {error.strerror}"
    if reason:
        print(f"skipped: {reason}")
        sys.exit(SKIP)
    unittest.main(verbosity=2, argv=argv)


def wait_for(condition, deadline_s, what, poll_s=POLL_S):
    """Calls condition() until it is true and returns its value; Timeout after deadline_s."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise Timeout(f"not within {deadline_s:g} s: {what}")
        time.sleep(poll_s)


class Proc:
    """A process inside a node. Held by a pidfd, so a reused number is never signalled."""

    def __init__(self, pid):
        self.pid = pid  # as this process knows it
        self._fd = os.pidfd_open(pid)

    def signal(self, sig):
        """Sends sig; False if the process is gone."""
        try:
            signal.pidfd_send_signal(self._fd, sig)
        except ProcessLookupError:
            return False
        return True

    def alive(self):
        """True until the process has ended."""
        return not select.select([self._fd], [], [], 0)[0]

    def wait(self, timeout_s):
        """Waits for the end; False if it did not come."""
        return bool(select.select([self._fd], [], [], timeout_s)[0])

    def close(self):
        """Gives the handle back; the process goes on."""
        os.close(self._fd)


class Node:
    """One node of a cluster; made by Cluster.node()."""

    def __init__(self, cluster, number):
        self.cluster = cluster
        self.number = number
        self.name = f"n{number}"
        self.dir = cluster.dir / self.name

    # --- commands ---------------------------------------------------------------------------

    def argv(self, command):
        """The command line that runs `command` in this node, from here."""
        holder = str(self.cluster.outer_pid(self.cluster.holder(self.number)))
        # -r -w: root and directory of the holder; in a chroot the root is not that of its namespace.
        enter = ["nsenter", "-t", holder, "-n", "-m", "-u", "-r", "-w"]
        if not self.cluster.inside():
            enter.append("-p")
        return [*enter, "--", "setpriv", "--pdeathsig", "KILL", "--", "/bin/sh", "-c",
                'cd "$1" 2>/dev/null || cd /; shift; exec "$@"', "sh", os.getcwd(), *map(str, command)]

    def env(self):
        """Environment of commands in the node."""
        return {**os.environ, "PATH": _path(), "LC_ALL": "C.UTF-8", "GW_NET_DIR": str(BASE),
                "GW_NETCLUSTER": self.cluster.name, "GW_NODE": str(self.number)}

    def run(self, *command, check=True, timeout_s=COMMAND_S, **kwargs):
        """Runs a command in the node to its end; a CompletedProcess with text output."""
        kwargs = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, **kwargs}
        done = subprocess.run(self.argv(command), env=self.env(), timeout=timeout_s, check=False, **kwargs)
        if check and done.returncode != 0:
            raise Error(f"{self.name}: {command[0]}: status {done.returncode}: {(done.stderr or '').strip()}")
        return done

    def popen(self, *command, **kwargs):
        """A subprocess.Popen in the node; it dies with the caller and with the cluster."""
        return subprocess.Popen(self.argv(command), env=self.env(), **kwargs)

    def spawn(self, *command, log):
        """Starts a program that outlives the caller, output appended to dir/log; returns its Proc."""
        script = 'out=$1; shift; "$@" >>"$out" 2>&1 </dev/null & echo $!'
        argv = self.argv(["/bin/sh", "-c", script, "sh", str(self.dir / log), *command])
        done = subprocess.run(argv, env=self.env(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=COMMAND_S, check=False)
        if done.returncode != 0:
            raise Error(f"{self.name}: {command[0]}: {done.stderr.strip()}")
        try:
            return Proc(self.cluster.outer_pid(int(done.stdout)))
        except (Error, ProcessLookupError):
            out = self.dir / log
            said = out.read_text(errors="replace").strip()[-500:] if out.exists() else None
            raise Error(f"{self.name}: {command[0]} ended at once: {said or 'it said nothing'}") from None

    def pids(self):
        """Numbers (as seen from here) of all processes of the node but its holder."""
        net = self.cluster.state()["net"][str(self.number)]
        holder = self.cluster.outer_pid(self.cluster.holder(self.number))
        return [pid for pid in _all_pids() if pid != holder and _namespace(pid, "net") == net]

    def signal_all(self, sig):
        """Signals every process of the node until no new one appears; returns how many."""
        done = set()
        while new := set(self.pids()) - done:
            for pid in new:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sig)
            done |= new
        return len(done)

    # --- corosync and power -----------------------------------------------------------------

    def start(self):
        """Starts corosync; does not wait for a membership."""
        if self.corosync() is not None:
            raise Error(f"{self.name}: corosync runs already")
        return self.spawn("corosync", "-f", log="corosync.out")

    def corosync(self):
        """The Proc of the node's corosync, or None."""
        return self.find("corosync")

    def find(self, program):
        """The Proc of the first process of that name (as in ps -C) in the node, or None."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                if pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == program[:15]:
                    return Proc(pid)
        return None

    def stop(self, timeout_s=20.0):
        """Ends corosync in good order (it leaves the membership)."""
        proc = self.corosync()
        if proc is None:
            return
        proc.signal(signal.SIGCONT)
        proc.signal(signal.SIGTERM)
        if not proc.wait(timeout_s):
            raise Timeout(f"{self.name}: corosync did not stop within {timeout_s:g} s")
        proc.close()

    def kill(self):
        """Pulls the power cord: SIGKILL to everything in the node, which stays as an empty shell."""
        self.signal_all(signal.SIGKILL)
        wait_for(lambda: not self.pids(), 10, f"{self.name}: processes ended")

    def pause(self):
        """Freezes everything in the node (SIGSTOP)."""
        return self.signal_all(signal.SIGSTOP)

    def resume(self):
        """Lets everything in the node go on (SIGCONT)."""
        return self.signal_all(signal.SIGCONT)

    # --- network ----------------------------------------------------------------------------

    def cut(self, link=None, carrier=True):
        """Takes the node's port off a link (all links if None); carrier=False also drops the carrier."""
        for one in self.cluster.link_list(link):
            self.cluster.hub_ip(f"link set {_port(self.number, one)} nomaster" +
                                ("" if carrier else f"\nlink set {_port(self.number, one)} down"))

    def heal(self, link=None):
        """Undoes cut()."""
        for one in self.cluster.link_list(link):
            self.cluster.hub_ip(f"link set {_port(self.number, one)} master {_bridge(one)} up")

    # --- looking ----------------------------------------------------------------------------

    def quorum(self):
        """Quorum of corosync-quorumtool -s, or None if corosync does not answer."""
        try:
            done = self.run("corosync-quorumtool", "-s", check=False, timeout_s=5)
        except subprocess.TimeoutExpired:
            return None
        return parse_quorumtool(done.stdout)

    def log(self):
        """Text of corosync's log and of what it printed."""
        parts = [self.dir / "var/log/corosync/corosync.log", self.dir / "corosync.out"]
        return "".join(p.read_text(errors="replace") for p in parts if p.exists())


class Cluster:
    """A cluster that this process owns: it ends with destroy(), the `with` block or the process."""

    def __init__(self, config=None, name=None, detached=False, **options):
        reason = why_not()
        if reason:
            raise Error(reason)
        gc()
        config = config or Config(**options)
        name = name or f"t{os.getpid()}-{secrets.token_hex(3)}"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}", name):
            raise Error(f"name {name!r}: letters, digits, - and _, at most 31")
        self._attach(name)
        self._pipe = None
        try:
            self.dir.mkdir(parents=True)
        except FileExistsError:
            raise Error(f"cluster {name} exists already") from None
        try:
            self._launch(config, detached)
        except BaseException:
            self.destroy()
            raise

    def _attach(self, name):
        self.name = name
        self.dir = BASE / name
        self._pids = {}
        self._relays = []
        self._config = None

    @classmethod
    def open(cls, name):
        """A handle on a cluster that somebody else made; does not own it."""
        self = cls.__new__(cls)
        self._attach(name)
        self._pipe = None
        if "hub" not in self.state():
            raise Error(f"no cluster {name} (netcluster list shows what there is)")
        return self

    def _launch(self, config, detached):
        hub_in, self._pipe = os.pipe()
        (self.dir / "state.json").write_text(json.dumps(
            {"config": dataclasses.asdict(config), "owner": os.getpid()}))
        with open(self.dir / "hub.log", "w", encoding="utf-8") as log:
            hub = subprocess.Popen(
                ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--net", "--mount-proc",
                 "--propagation", "private", "--", sys.executable, "-S", "-E", __file__, str(self.dir)],
                stdin=hub_in, stdout=subprocess.PIPE, stderr=log, start_new_session=True, cwd="/",
                env={"PATH": _path(), "LC_ALL": "C.UTF-8"})
        os.close(hub_in)
        ready = hub.stdout.readline().decode().strip()
        hub.stdout.close()
        if ready != "ready":
            hub.wait(COMMAND_S)
            raise Error(f"the hub did not come up: {(self.dir / 'hub.log').read_text().strip()}")
        child = next(p for p in _all_pids() if _parent(p) == hub.pid)
        self.remember("hub", child)
        self.remember("pidns", _namespace(child, "pid"))
        self._hub = hub
        if detached:
            self.remember("owner", 0)
            os.write(self._pipe, b"d")
            os.close(self._pipe)
            self._pipe = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if exc[0] is not None:
            self.dump(sys.stderr)
        self.destroy()

    def destroy(self):
        """Ends everything and removes the directory. Twice is fine; never fails for what is gone."""
        for child in self._relays:
            child.kill()
            child.wait()
            child.stdout.close()
        self._relays = []
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        _end_hub(self.dir)
        shutil.rmtree(self.dir, ignore_errors=True)
        if getattr(self, "_hub", None) is not None:
            try:
                self._hub.wait(COMMAND_S)
            except subprocess.TimeoutExpired:
                raise Error(f"{self.name}: processes of the cluster do not end; does PID 1 reap orphans?") from None
            self._hub = None

    # --- nodes ------------------------------------------------------------------------------

    @property
    def config(self):
        """The Config the cluster was made with."""
        if self._config is None:
            raw = self.state()["config"]
            raw["votes"] = {int(k): v for k, v in (raw["votes"] or {}).items()}
            self._config = Config(**raw)
        return self._config

    def node(self, number):
        """Node 1..nodes."""
        if not 1 <= number <= self.config.nodes:
            raise Error(f"node {number}: this cluster has 1..{self.config.nodes}")
        return Node(self, number)

    def nodes(self):
        """All nodes, in order."""
        return [Node(self, i) for i in range(1, self.config.nodes + 1)]

    def start(self, wait_s=20.0):
        """Starts corosync on every node and waits until all are members of one quorate ring."""
        for node in self.nodes():
            node.start()
        self.wait_members([n.number for n in self.nodes()], deadline_s=wait_s)

    def wait_members(self, members, on=None, quorate=True, deadline_s=20.0):
        """Waits until each node of `on` (default: the members) reports exactly these members."""
        want = tuple(sorted(members))

        def settled():
            seen = [self.node(i).quorum() for i in (on or want)]
            return all(q is not None and q.members == want and q.quorate == quorate for q in seen) \
                and len({q.ring for q in seen}) == 1

        try:
            wait_for(settled, deadline_s, f"members {want} quorate={quorate} on {on or want}")
        except Timeout as e:
            raise Timeout(f"{e}\n{self.status_text()}") from None

    def status_text(self):
        """One line per node."""
        lines = []
        for node in self.nodes():
            q = node.quorum()
            lines.append(f"{node.name}  no answer" if q is None else
                         f"{node.name}  {'quorate    ' if q.quorate else 'not quorate'}  "
                         f"votes {q.votes}/{q.expected}  ring {q.ring}  members {','.join(map(str, q.members))}")
        return "\n".join(lines)

    def dump(self, out, lines=30):
        """Writes the end of every log, for a failed test."""
        for node in self.nodes():
            tail = "\n".join(node.log().splitlines()[-lines:])
            print(f"--- {self.name} {node.name}: corosync\n{tail}", file=out)

    # --- faults between nodes ---------------------------------------------------------------

    def block(self, source, target, link=None):
        """Drops what `target` gets from `source`; one direction only."""
        self._update_blocks(lambda b: b | {(source, target, one) for one in self.link_list(link)})

    def cut_pair(self, a, b, link=None):
        """Cuts a and b off from each other; both still reach everybody else."""
        self.block(a, b, link)
        self.block(b, a, link)

    def split(self, *groups):
        """Partitions the cluster: nodes of different groups do not hear each other."""
        where = {node: index for index, group in enumerate(groups) for node in group}
        if sorted(where) != [n.number for n in self.nodes()] or len(where) != sum(map(len, groups)):
            raise Error(f"split: every node must be in exactly one group: {groups}")
        self._update_blocks(lambda _: {(a, b, link) for a in where for b in where
                                       for link in range(self.config.links) if where[a] != where[b]})

    def weather(self, loss, jitter_ms=0, link=None):
        """Loses each frame between nodes with the chance `loss` (0..1), delays the others by 0..jitter_ms."""
        hub = "1" if self.inside() else str(self.state()["hub"])
        relay = pathlib.Path(__file__).resolve().with_name("gwrelay.py")
        for one in self.link_list(link):
            ports = [_port(n.number, one) for n in self.nodes()]
            self.hub_ip("\n".join(f"link set {port} nomaster" for port in ports))
            child = subprocess.Popen(
                ["nsenter", "-t", hub, "-n", "--", "setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-S", "-E",
                 str(relay), str(loss), str(jitter_ms), *ports], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            self._relays.append(child)
            if child.stdout.readline() != b"ready\n":
                raise Error(f"{self.name}: no bad weather on link {one}")

    def calm(self):
        """Ends weather()."""
        for child in self._relays:
            child.kill()
            child.wait()
            child.stdout.close()
        if self._relays:
            self._relays = []
            for node in self.nodes():
                node.heal()

    def heal(self):
        """Removes every block(), cut_pair(), split(), weather() and Node.cut()."""
        self.calm()
        self._update_blocks(lambda _: set())
        for node in self.nodes():
            node.heal()

    def _update_blocks(self, change):
        with self._locked_state() as state:
            old = {tuple(x) for x in state.get("blocks", [])}
            new = change(set(old))
            state["blocks"] = sorted(new)
            for target in {b[1] for b in old ^ new}:
                self._apply_blocks(target, new)

    def _apply_blocks(self, target, blocks):
        sources = [self.config.address(s, link) for s, t, link in sorted(blocks) if t == target]
        rules = "table inet gwcut\ndelete table inet gwcut\n"  # the first line makes the second legal
        if sources:
            rules += ("add table inet gwcut\n"
                      "add chain inet gwcut in { type filter hook input priority -300; }\n"
                      f"add rule inet gwcut in ip saddr {{ {', '.join(sources)} }} counter drop\n")
        self.node(target).run("nft", "-f", "-", input=rules, stdin=None)

    # --- state and processes ----------------------------------------------------------------

    def state(self):
        """What the cluster knows about itself; process numbers are those inside, but for the hub's."""
        try:
            return json.loads((self.dir / "state.json").read_text())
        except FileNotFoundError:
            return {}

    @contextlib.contextmanager
    def _locked_state(self):
        with open(self.dir / "lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self.state()
            yield state
            new = self.dir / "state.new"
            new.write_text(json.dumps(state))
            new.rename(self.dir / "state.json")

    def remember(self, key, value):
        """Stores one value of the state."""
        with self._locked_state() as state:
            state[key] = value

    def holder(self, number):
        """Inner process number of the node's holder."""
        return self.state()["holders"][str(number)]

    def inside(self):
        """True if this process runs in the cluster's PID namespace."""
        return _namespace("self", "pid") == self.state()["pidns"]

    def outer_pid(self, inner):
        """The number by which this process knows the process `inner`."""
        if self.inside():
            return inner
        ns = self.state()["pidns"]
        known = self._pids.get(inner)
        for pid in ([known] if known else []) + _all_pids():
            if _namespace(pid, "pid") == ns and _inner_pid(pid) == inner:
                self._pids[inner] = pid
                return pid
        raise Error(f"{self.name}: no process {inner}")

    def link_list(self, link):
        """[link], or all links for None."""
        if link is None:
            return list(range(self.config.links))
        if not 0 <= link < self.config.links:
            raise Error(f"link {link}: this cluster has 0..{self.config.links - 1}")
        return [link]

    def hub_ip(self, batch):
        """Runs an `ip -batch` in the network that joins the nodes."""
        hub = "1" if self.inside() else str(self.state()["hub"])
        _run(["nsenter", "-t", hub, "-n", "--", "ip", "-batch", "-"], input=batch + "\n")


def parse_quorumtool(text):
    """Quorum out of the text of `corosync-quorumtool -s`; None if it holds none."""
    fields = dict(re.findall(r"^([A-Z][A-Za-z ]+):[ \t]*(.*?)[ \t]*$", text, re.M))
    try:
        members = re.findall(r"^ +(\d+) +\d+ \S", text, re.M)
        return Quorum(quorate=fields["Quorate"] == "Yes", members=tuple(sorted(map(int, members))),
                      ring=fields["Ring ID"], votes=int(fields["Total votes"]),
                      expected=int(fields["Expected votes"]), needed=int(fields["Quorum"].split()[0]))
    except (KeyError, ValueError, IndexError):
        return None


def clusters():
    """(name, alive, owner) of every directory under BASE; owner 0 means detached."""
    found = []
    for path in sorted(BASE.iterdir()) if BASE.is_dir() else []:
        try:
            state = json.loads((path / "state.json").read_text())
        except (FileNotFoundError, ValueError):
            state = {}
        found.append((path.name, _hub_alive(state), state.get("owner", -1)))
    return found


def gc(everything=False):
    """Removes what dead owners left; with everything also living clusters. Returns the names."""
    removed = []
    for name, alive, owner in clusters():
        path = BASE / name
        try:
            fresh = time.time() - path.stat().st_mtime < COMMAND_S
        except FileNotFoundError:
            continue  # somebody else was faster
        starting = fresh and (owner < 0 or os.path.exists(f"/proc/{owner}"))
        orphan = alive and owner > 0 and not os.path.exists(f"/proc/{owner}")
        if everything or orphan or (not alive and not starting):
            _end_hub(path)
            shutil.rmtree(path, ignore_errors=True)
            removed.append(name)
    return removed


# --- helpers ------------------------------------------------------------------------------------


def _corosync_conf(cfg):
    totem = ["version: 2", "cluster_name: gwnet", "transport: knet", f"token: {cfg.token}",
             "token_coefficient: 0", f"link_mode: {cfg.link_mode if cfg.links > 1 else 'passive'}"]
    if cfg.consensus is not None:
        totem.append(f"consensus: {cfg.consensus}")
    totem += ["crypto_model: openssl", "crypto_cipher: aes256", "crypto_hash: sha256",
              "keyfile: /etc/corosync/authkey"] if cfg.crypto else ["crypto_cipher: none", "crypto_hash: none"]
    quorum = ["provider: corosync_votequorum"]
    if cfg.expected_votes is not None:
        quorum.append(f"expected_votes: {cfg.expected_votes}")
    text = _block("totem", totem) + _block("quorum", quorum) + "nodelist {\n"
    for i in range(1, cfg.nodes + 1):
        node = [f"nodeid: {i}", f"name: n{i}", f"quorum_votes: {(cfg.votes or {}).get(i, 1)}"]
        text += _block("node", node + [f"ring{n}_addr: {cfg.address(i, n)}" for n in range(cfg.links)])
    return text + "}\n" + _block("system", ["move_to_root_cgroup: no"]) + _block("logging", [
        "to_syslog: no", "to_stderr: no", "to_logfile: yes", "logfile: /var/log/corosync/corosync.log",
        "timestamp: hires", f"debug: {'on' if cfg.debug else 'off'}"])


def _block(name, lines):
    return f"{name} {{\n" + "".join(f"\t{line}\n" for line in lines) + "}\n"


def _path():
    return os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin"


def _run(argv, **kwargs):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=COMMAND_S, **kwargs)
    if done.returncode != 0:
        raise Error(f"{' '.join(map(str, argv))}: {done.stderr.strip()}")
    return done.stdout


def _bridge(link):
    return f"link{link}"


def _port(node, link):
    return f"n{node}l{link}"


def _all_pids():
    return [int(e) for e in os.listdir("/proc") if e.isdigit()]


def _namespace(pid, kind):
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None


def _stat_line(pid, name):
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    m = re.search(rf"^{name}:\s*(.*)$", text, re.M)
    return m.group(1).split() if m else []


def _parent(pid):
    return int((_stat_line(pid, "PPid") or ["0"])[0])


def _inner_pid(pid):
    return int((_stat_line(pid, "NSpid") or ["0"])[-1])


def _hub_alive(state):
    return "hub" in state and _namespace(state["hub"], "pid") == state.get("pidns")


def _end_hub(path):
    """Kills the hub of a cluster directory, and so everything in the cluster."""
    try:
        state = json.loads((path / "state.json").read_text())
        fd = os.pidfd_open(state["hub"])
    except (OSError, ValueError, KeyError):
        return
    try:
        if _hub_alive(state):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            select.select([fd], [], [], COMMAND_S)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


# --- the hub: PID 1 of a cluster ----------------------------------------------------------------

HOLDER = """
set -e
hostname "$2"
for d in $3; do mount --bind "$1$d" "$d"; done
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mkdir -p "$1/run/lock" "$1/run$5"
mount --bind "$4" "$1/run$5"
mount --rbind "$1/run" /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
echo ready
exec sleep infinity
"""


def _hub_node(top, cfg, number, key):
    """Makes one node; returns the process number of its holder."""
    home = top / f"n{number}"
    for d in (*PRIVATE_DIRS, "/run"):
        (home / d[1:]).mkdir(parents=True)
    (home / "etc/corosync/corosync.conf").write_text(cfg.corosync_conf())
    (home / "etc/corosync/authkey").touch(mode=0o400)
    (home / "etc/corosync/authkey").write_bytes(key)
    (home / "etc/corosync/uidgid.d").mkdir()
    # Where BASE is not under /run it is visible in the node anyway; the bind mount then does no harm.
    under_run = str(top)[4:] if str(top).startswith("/run/") else "/.cluster"
    holder = subprocess.Popen(
        ["unshare", "--net", "--mount", "--uts", "--propagation", "private", "--", "/bin/sh", "-c", HOLDER,
         "sh", str(home), f"n{number}", " ".join(PRIVATE_DIRS), str(top), under_run],
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    if holder.stdout.readline() != b"ready\n":
        raise Error(f"n{number}: mounts failed")
    outside, inside = [], ["link set lo up"]
    for n in range(cfg.links):
        port = _port(number, n)
        outside += [f"link add {port} type veth peer name {_bridge(n)} netns {holder.pid}",
                    f"link set {port} master {_bridge(n)} up"]
        inside += [f"addr add {cfg.address(number, n)}/24 dev {_bridge(n)}", f"link set {_bridge(n)} up"]
    _run(["ip", "-batch", "-"], input="\n".join(outside) + "\n")
    _run(["nsenter", "-t", str(holder.pid), "-n", "--", "ip", "-batch", "-"], input="\n".join(inside) + "\n")
    return holder


def _hub_main(top):
    """Builds the namespaces, then waits for the owner's end and buries orphans."""
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_w, False)
    os.set_blocking(wake_r, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    state_file = top / "state.json"
    state = json.loads(state_file.read_text())
    cfg = Config(**{**state["config"], "votes": {int(k): v for k, v in (state["config"]["votes"] or {}).items()}})
    # No IPv6: its neighbour traffic only wakes the machine up.
    for scope in ("default", "all"):
        with contextlib.suppress(OSError):
            pathlib.Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
    _run(["ip", "-batch", "-"], input="\n".join(
        ["link set lo up"] + [f"link add {_bridge(n)} type bridge forward_delay 0\nlink set {_bridge(n)} up"
                              for n in range(cfg.links)]) + "\n")
    key = secrets.token_bytes(256)
    holders = [_hub_node(top, cfg, i, key) for i in range(1, cfg.nodes + 1)]
    state["holders"] = {i: h.pid for i, h in enumerate(holders, 1)}
    state["net"] = {i: _namespace(h.pid, "net") for i, h in enumerate(holders, 1)}
    state_file.write_text(json.dumps(state))
    signal.set_wakeup_fd(wake_w)
    os.write(1, b"ready\n")
    watch = [0, wake_r]
    while True:
        ready = select.select(watch, [], [])[0]
        if wake_r in ready:
            os.read(wake_r, 4096)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if 0 in ready:
            if os.read(0, 1) == b"d":  # detached: nobody holds the other end
                watch.remove(0)
                continue
            shutil.rmtree(top, ignore_errors=True)
            os._exit(0)  # the kernel ends all others


if __name__ == "__main__":
    _hub_main(pathlib.Path(sys.argv[1]))

# SPDX-License-Identifier: Apache-2.0
"""One lab: its directory, its configuration, its nodes.

    <base>/<name>/lab.json       what was asked for, and which cables are cut
                  initrd.cpio    the nodes' initial RAM disk
                  lun0.raw ...   the shared disks
                  n1/ n2/ ...    per node: private disk, sockets, console log

lab.json is written before anything is made, so that `lab down` finds all of it, whatever was
interrupted. Processes are found by their command lines, not by pid files that can be stale.
"""
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import shutil
import stat

from gwlab import host, kernel
from gwlab.errors import LabError, UsageError
from gwlab.network import NETWORKS, Network
from gwlab.node import Node
from gwlab.procs import kill_processes

BASE = pathlib.Path(os.environ.get("GODWIT_LAB_DIR", "/var/tmp/godwit-lab")).absolute()
SOURCE = pathlib.Path(__file__).resolve().parents[3]
META_PACKAGE = "linux-image-amd64"
# What reaches a node's disks; all else is loaded from there.
BOOT_MODULES = ("virtio_pci", "virtio_blk", "ext4", "9p", "9pnet_virtio", "overlay")
UNIX_PATH_MAX = 107
READY_TIMEOUT_S = {"kvm": 60, "tcg": 180}


@dataclasses.dataclass
class Lun:
    """A disk that all nodes share."""

    name: str
    path: pathlib.Path
    bytes: int


def find_build():
    """The build tree whose programs the nodes run."""
    if given := os.environ.get("GW_BUILD"):
        candidates = [pathlib.Path(given).absolute()]
    else:
        candidates = [SOURCE / "build/release", SOURCE / "build/debug"]
    for build in candidates:
        if (build / "bin/lab-agent").exists():
            return build
    raise LabError(f"no bin/lab-agent in {' or '.join(str(c) for c in candidates)}",
                   "build it: cmake --preset release && cmake --build build/release")


def names():
    """The labs that exist."""
    try:
        return sorted(p.name for p in BASE.iterdir() if (p / "lab.json").exists())
    except FileNotFoundError:
        return []


class Lab:
    """A lab by its name; exists() tells whether it is there."""

    def __init__(self, name):
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,19}", name):
            raise UsageError(f"'{name}' cannot name a lab",
                             "use up to 20 lower-case letters, digits and hyphens")
        self.name = name
        self.dir = BASE / name
        self.network = Network(name)
        self.initrd = self.dir / "initrd.cpio"
        self.conf = {}
        if len(str(self.dir / "n99/exec9")) > UNIX_PATH_MAX or re.search(r"[,\s]", str(self.dir)):
            raise LabError(f"the directory {self.dir} is too long or has commas or blanks in it",
                           "set GODWIT_LAB_DIR to a shorter one")

    # ---- configuration ----

    def exists(self):
        """Is there such a lab, whole or in part?"""
        return (self.dir / "lab.json").exists()

    def load(self):
        """Read the configuration of an existing lab; returns self."""
        try:
            self.conf = json.loads((self.dir / "lab.json").read_text())
        except FileNotFoundError:
            others = names()
            raise LabError(f"there is no lab '{self.name}'",
                           f"lab up; running: {' '.join(others)}" if others else "lab up") from None
        return self

    def _save(self):
        new = self.dir / "lab.json.new"
        new.write_text(json.dumps(self.conf, indent=1) + "\n")
        new.rename(self.dir / "lab.json")

    @contextlib.contextmanager
    def _locked_conf(self):
        """Read, change and write lab.json as one."""
        fd = os.open(self.dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            self.load()
            yield
            self._save()
        finally:
            os.close(fd)

    def nodes(self):
        """All nodes."""
        return [Node(self, number) for number in range(1, self.conf["nodes"] + 1)]

    def node(self, name):
        """The node called @name."""
        for node in self.nodes():
            if node.name == name:
                return node
        raise UsageError(f"there is no node '{name}'",
                         f"nodes: {' '.join(n.name for n in self.nodes())}")

    def luns(self):
        """The shared disks."""
        return [Lun(f"lun{i}", self.dir / f"lun{i}.raw", size)
                for i, size in enumerate(self.conf["lun_bytes"])]

    def lun(self, name):
        """The shared disk called @name."""
        return next(lun for lun in self.luns() if lun.name == name)

    def cable(self, word):
        """A network or LUN by what a person calls it; `lun` is lun0."""
        known = [*NETWORKS, *(lun.name for lun in self.luns())]
        word = "lun0" if word == "lun" else word
        if word not in known:
            raise UsageError(f"there is no network or disk '{word}'", f"there are: {' '.join(known)}")
        return word

    def cuts(self, node_name):
        """{cable: how} of one node."""
        return self.conf["cuts"].get(node_name, {})

    def set_cut(self, node_name, cable, how):
        """Remember a cut (@how None: healed)."""
        with self._locked_conf():
            cuts = self.conf["cuts"].setdefault(node_name, {})
            cuts.pop(cable, None)
            if how is not None:
                cuts[cable] = how

    def kernel(self):
        """The nodes' kernel."""
        return kernel.Kernel(pathlib.Path(self.conf["kernel"]))

    def shares(self):
        """[(9p tag, directory)] that each node sees."""
        shares = [("root", "/"), ("source", self.conf["source"])]
        if self.build_tag():
            shares.append((self.build_tag(), self.conf["build"]))
        return shares

    def build_tag(self):
        """A share of its own for a build tree outside of the source; empty: none needed."""
        inside = pathlib.Path(self.conf["build"]).is_relative_to(self.conf["source"])
        return "" if inside else "build"

    # ---- up and down ----

    def up(self, wanted, say, timeout=None):
        """Make the lab and wait until its nodes answer. @wanted: nodes, memory_mib, cpus, ..."""
        self._require(wanted)
        build = find_build()
        debian = kernel.get(META_PACKAGE, say)
        try:
            self.dir.mkdir(parents=True, mode=0o700)
        except FileExistsError:
            raise LabError(f"there is a lab '{self.name}' already, or what is left of one",
                           f"lab status --name {self.name}, lab down --name {self.name}") from None
        self.conf = {"version": 1, "name": self.name, **wanted, "cuts": {},
                     "acceleration": host.choose_acceleration(wanted["acceleration"]),
                     "kernel": str(debian.path), "source": str(SOURCE), "build": str(build)}
        self._save()
        say(f"kernel {debian.release}, {self.conf['acceleration']}, {wanted['nodes']} nodes, "
            f"{wanted['memory_mib']} MiB and {wanted['cpus']} CPU each")
        self._make_initrd(debian)
        for lun in self.luns():
            self._make_lun(lun)
        nodes = self.nodes()
        self.network.create([node.name for node in nodes])
        with concurrent.futures.ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(Node.create, nodes))
            list(pool.map(Node.start, nodes))
            timeout = timeout or READY_TIMEOUT_S[self.conf["acceleration"]]
            list(pool.map(lambda node: node.wait_ready(timeout), nodes))

    def _require(self, wanted):
        host.require_root()
        host.require_packages()
        host.require_memory(wanted["nodes"], wanted["memory_mib"])
        host.require_disk(BASE, wanted["nodes"])

    def _make_lun(self, lun):
        with open(lun.path, "xb") as f:
            f.truncate(lun.bytes)
        try:
            os.close(os.open(lun.path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC))
        except OSError as e:
            raise LabError(f"{lun.path} cannot be opened without cache (O_DIRECT): {e.strerror}",
                           "set GODWIT_LAB_DIR to a file system that has it (not tmpfs)") from e

    def _make_initrd(self, debian):
        modules = debian.module_files(BOOT_MODULES)
        text = "".join(f"{key}={value}\n" for key, value in (
            ("nodes", self.conf["nodes"]), ("source", self.conf["source"]),
            ("build", self.conf["build"]), ("build_tag", self.build_tag()),
            ("modules", debian.modules), ("luns", " ".join(lun.name for lun in self.luns()))))
        agent = pathlib.Path(self.conf["build"]) / "bin/lab-agent"
        directory, regular = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755
        kernel.write_cpio(self.initrd, [
            *((name, directory, b"") for name in ("dev", "proc", "sys", "lower", "disk", "new")),
            ("init", regular, agent.read_bytes()),
            ("lab.conf", regular, text.encode()),
            ("modules", regular, "".join(f"/{m.name}\n" for m in modules).encode()),
            *((module.name, regular, module.read_bytes()) for module in modules),
        ])

    def down(self):
        """Leave nothing behind; works on what an interrupted up() has made."""
        kill_processes(self.dir)
        self.network.remove()
        shutil.rmtree(self.dir, ignore_errors=True)
        if self.dir.exists():
            raise LabError(f"{self.dir} cannot be removed")
        with contextlib.suppress(OSError):
            BASE.rmdir()  # The last one closes the door.

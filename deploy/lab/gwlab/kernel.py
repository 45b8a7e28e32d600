# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel packages, downloaded and unpacked once, never installed.

A cache entry is <cache>/<package>_<version>/ with lib/modules/<release>/ and boot/; it is made aside and
renamed, so that what exists is whole.
"""
import contextlib
import fcntl
import lzma
import os
import pathlib
import re
import shutil
import struct
import subprocess
import zlib

from gwlab.errors import LabError
from gwlab.run import run

CACHE = pathlib.Path(os.environ.get("GODWIT_LAB_CACHE", "/var/cache/godwit-lab"))


class Kernel:
    """An unpacked kernel package."""

    def __init__(self, path):
        self.path = path
        self.release = next((path / "lib/modules").iterdir()).name
        self.modules = path / "lib/modules"
        self.bzimage = path / f"boot/vmlinuz-{self.release}"
        self.vmlinux = path / f"boot/vmlinux-{self.release}"

    def existing(self, names):
        """Those of @names that are modules of this kernel, not built in or absent."""
        lines = (self.modules / self.release / "modules.dep").read_text().splitlines()
        known = {pathlib.Path(line.split(":")[0]).stem.replace("-", "_") for line in lines}
        return [name for name in names if name.replace("-", "_") in known]

    def module_files(self, names):
        """Files of @names and all they depend on, in the order to load them."""
        out = run("modprobe", "-S", self.release, "-d", self.path, "-a", "--show-depends", *names)
        seen = {}
        for line in out.splitlines():
            words = line.split()
            if words and words[0] == "insmod":
                seen.setdefault(pathlib.Path(words[1]))
        return list(seen)


@contextlib.contextmanager
def locked(kind):
    """One process at a time makes entries of this @kind in the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    fd = os.open(CACHE / f".{kind}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def get(meta, say=print):
    """The kernel that the Debian package @meta (linux-image-amd64, ...-cloud-amd64) stands for.

    The newest cached one of that flavour, without asking the network; else it is downloaded.
    """
    flavour = meta.removeprefix("linux-image-")
    with locked("kernel"):
        entries = [p for p in CACHE.glob(f"linux-image-*-{flavour}_*")
                   if re.fullmatch(rf"linux-image-[0-9.+~-]+-{flavour}_[^/]+", p.name)]
        if entries:
            return Kernel(max(entries, key=lambda p: p.stat().st_mtime))
        say(f"downloading {meta} from Debian")
        return Kernel(download(meta))


def download(meta):
    """Fetch and unpack what @meta depends on; returns the cache entry."""
    hint = "run apt-get update, and see that Debian's packages can be reached"
    depends = run("apt-cache", "depends", "--no-recommends", "--no-suggests", meta, hint=hint)
    match = re.search(r"Depends: (linux-image-\S+)", depends)
    if not match:
        raise LabError(f"apt knows no kernel behind {meta}", hint)
    partial = CACHE / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", match.group(1),
            cwd=partial, hint=hint)
        deb = next(partial.glob("*.deb"))
        version = run("dpkg-deb", "-f", deb, "Version").strip()
        tree = partial / "tree"
        run("dpkg-deb", "-x", deb, tree)
        kernel = Kernel(tree)
        run("depmod", "-b", tree, kernel.release)
        kernel.vmlinux.write_bytes(decompress(kernel.bzimage.read_bytes()))
        entry = CACHE / f"{match.group(1)}_{version.replace(':', '%')}"
        tree.rename(entry)
        return entry
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def decompress(image):
    """The ELF kernel inside a bzImage.

    It boots directly (PVH) and saves unpacking it anew in each node, a second under emulation.
    """
    if image[0x202:0x206] != b"HdrS":
        raise LabError("the kernel image is no bzImage")
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (image[0x1F1] + 1) * 512 + offset
    payload = image[start:start + length]
    if payload[:6] == b"\xfd7zXZ\0":
        elf = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
    elif payload[:2] == b"\x1f\x8b":
        elf = zlib.decompressobj(31).decompress(payload)
    else:
        elf = decompress_with_tool(payload)
    if elf[:4] != b"\x7fELF":
        raise LabError("the kernel image does not hold an ELF kernel")
    return elf


def decompress_with_tool(payload):
    """LZ4 and zstd are not in Python's library. A trailing length after the stream is expected."""
    tool = {b"\x02\x21\x4c\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}.get(payload[:4])
    if not tool:
        raise LabError(f"the kernel image is packed in an unknown way ({payload[:4].hex()})")
    try:
        done = subprocess.run([tool, "-dcq"], input=payload, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, check=False)
    except FileNotFoundError as e:
        raise LabError(f"{tool} is needed to unpack the kernel", f"apt-get install {tool}") from e
    return done.stdout


def write_cpio(path, files):
    """Write an uncompressed "newc" archive: [(name, mode, bytes)]. Under emulation inflating costs
    more than reading."""
    with open(path, "wb") as out:
        for number, (name, mode, data) in enumerate(files + [("TRAILER!!!", 0, b"")], 1):
            fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
            head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
            out.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))

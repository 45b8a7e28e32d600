# SPDX-License-Identifier: Apache-2.0
"""The guest kit: a small guest of one process, and a full Debian, both from Debian packages only.

What was built is kept in the cache under a hash of all that went in; prints `name=path` lines.
"""
import argparse
import gzip
import hashlib
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import time

from gwlab import kernel
from gwlab.errors import LabError
from gwlab.lab import find_build
from gwlab.run import ENV, run

CLOUD_KERNEL = "linux-image-cloud-amd64"
# Hyper-V's devices, file systems, and virtio's devices for comparison with QEMU. Those that a kernel does
# not have, or has built in, are left out.
SMALL_MODULES = (
    "hv_vmbus", "hv_storvsc", "hv_netvsc", "hv_utils", "hv_balloon", "hyperv_keyboard", "hid-hyperv",
    "hv_sock", "sd_mod", "sr_mod", "sg", "ext4", "isofs",
    "virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_scsi", "virtio_balloon",
)
SMALL_VERSION = 1  # Counts changes of the recipe below that its inputs do not show.

FULL_SUITE = "bookworm"
FULL_BYTES = 3 << 30
FULL_PACKAGES = (
    "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "iputils-ping", "procps", "openssh-server",
    "initramfs-tools", CLOUD_KERNEL, "hyperv-daemons", "e2fsprogs", "fio", "iperf3", "stress-ng", "kexec-tools",
    "ca-certificates", "less", "vim-tiny",
)
FULL_VERSION = 4
# Not in the image: it is copied to volumes, and read in emulated nodes.
FULL_WITHOUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
# What a guest in an emulated node does without: it would be a third of its boot (docs/decisions/0294). e2scrub_reap alone takes
# 14 s of its processor, logind and hostnamed 3 each, a generator 0.2.
FULL_MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "man-db.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
    "e2scrub_reap.service", "systemd-logind.service", "systemd-hostnamed.service",
    "systemd-networkd-wait-online.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount",
    "systemd-pstore.service", "systemd-repart.service", "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service",
    "dev-hugepages.mount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount", "getty@tty1.service",
)
# Among them that of SysV scripts, of which kexec-tools' turns each reboot into a kexec.
FULL_GENERATORS_OFF = ("bless-boot", "cryptsetup", "debug", "getty", "gpt-auto", "hibernate-resume", "integritysetup", "rc-local", "run",
                       "system-update", "sysv", "veritysetup")
# Its initial RAM disk has no drivers but these (MODULES=list): with all of Debian's, booting takes half a minute longer in
# an emulated node. Made when the kernel's package is installed: the files must be there before.
FULL_INITRD_FILES = {
    "etc/initramfs-tools/conf.d/godwit": "MODULES=list\n",
    "etc/initramfs-tools/hooks/godwit":
        "#!/bin/sh\n[ \"$1\" != prereqs ] || exit 0\n. /usr/share/initramfs-tools/hook-functions\n"
        f"manual_add_modules {' '.join(SMALL_MODULES)}\n",
}
UNUSED_DAYS = 14


def digest(*parts):
    """16 hex digits that stand for all of @parts (bytes or text)."""
    total = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        total.update(hashlib.sha256(data).digest())
    return total.hexdigest()[:16]


def build_cached(kind, key, build):
    """The cache directory of @kind and @key; @build(partial directory) makes it if it is not there."""
    entry = kernel.CACHE / f"guest-{kind}-{key}"
    with kernel.locked(f"guest-{kind}"):
        if not entry.exists():
            partial = kernel.CACHE / f"guest-{kind}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                build(partial)
                partial.rename(entry)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        os.utime(entry)
        for old in kernel.CACHE.glob(f"guest-{kind}-*"):
            if old != entry and time.time() - old.stat().st_mtime > UNUSED_DAYS * 86400:
                shutil.rmtree(old)
    return entry


def link(source, target):
    """The same file at another place; a copy where a link cannot be."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def static_busybox():
    """The bytes of Debian's busybox-static."""
    path = shutil.which("busybox", path="/bin:/usr/bin")
    data = pathlib.Path(path).read_bytes() if path else b""
    if not data or b"/ld-linux" in data[:8192]:
        raise LabError("busybox is missing or not static", "apt-get install busybox-static")
    return data


def small(say):
    """{name: path} of the small guest: kernels, and an initial RAM disk whose /init is lab-guest."""
    debian = kernel.get(CLOUD_KERNEL, say)
    try:
        agent = (find_build() / "bin/lab-guest").read_bytes()
    except FileNotFoundError as e:
        raise LabError(f"{e.filename} is not built", "cmake --build build/release") from e
    busybox = static_busybox()

    def build(directory):
        modules = debian.module_files(debian.existing(SMALL_MODULES))
        folder, program, plain = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFREG | 0o644
        names = ("bin", "dev", "etc", "modules", "mnt", "proc", "root", "sys", "tmp")
        applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True, env=ENV)
        kernel.write_cpio(directory / "initrd.cpio", [
            *((name, folder, b"") for name in names),
            ("init", program, agent),
            ("bin/busybox", program, busybox),
            *((f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox") for name in applets.stdout.split()
              if name != "busybox"),
            ("modules/order", plain, "".join(f"{m.name}\n" for m in modules).encode()),
            *((f"modules/{m.name}", plain, m.read_bytes()) for m in modules),
        ])
        with gzip.GzipFile(directory / "initrd.cpio.gz", "wb", 6, mtime=0) as packed:
            packed.write((directory / "initrd.cpio").read_bytes())
        link(debian.vmlinux, directory / "vmlinux")
        link(debian.bzimage, directory / "bzImage")

    entry = build_cached("small", digest(SMALL_VERSION, SMALL_MODULES, debian.path.name, agent, busybox),
                         build)
    return {"vmlinux": entry / "vmlinux", "bzimage": entry / "bzImage", "initrd": entry / "initrd.cpio",
            "initrd_gz": entry / "initrd.cpio.gz"}


FULL_FILES = {
    "etc/hostname": "guest\n",
    "etc/hosts": "127.0.0.1 localhost guest\n",
    "etc/fstab": "LABEL=godwit-guest / ext4 defaults,noatime,discard 0 1\n",
    # DHCP on every Ethernet device; gw.ip= as in the small guest would need a program of ours.
    "etc/systemd/network/80-ether.network":
        "[Match]\nType=ether\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n[DHCPv4]\nClientIdentifier=mac\nUseHostname=no\n",
    "etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf":
        "[Service]\nExecStart=\nExecStart=-/sbin/agetty -o '-p -f -- \\\\u' --keep-baud --autologin root "
        "115200,57600,38400,9600 %I $TERM\n",
    # PAM's sessions, further host keys and a key exchange for the time after quantum computers are seconds of each login there.
    "etc/ssh/sshd_config.d/lab.conf":
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\nUsePAM no\n"
        "HostKey /etc/ssh/ssh_host_ed25519_key\nKexAlgorithms curve25519-sha256\n",
}


def write_files(root, files):
    """{name: text} below @root; what begins with #! can be run."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755 if text.startswith("#!") else 0o644)


def full_configure(root, key):
    """Make the tree of a bare Debian into the guest."""
    write_files(root, FULL_FILES)
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(key.with_suffix(".pub"), ssh / "authorized_keys")
    run("systemctl", f"--root={root}", "enable", "systemd-networkd", "ssh", "serial-getty@ttyS0.service",
        "hv-kvp-daemon", "hv-vss-daemon")
    run("systemctl", f"--root={root}", "mask", *FULL_MASKED)
    generators = root / "etc/systemd/system-generators"
    generators.mkdir(exist_ok=True)
    for name in FULL_GENERATORS_OFF:
        (generators / f"systemd-{name}-generator").symlink_to("/dev/null")
    # Each copy of the image becomes a machine of its own.
    (root / "etc/machine-id").write_text("", encoding="utf-8")


def full(say):
    """{name: path} of a whole Debian: a raw ext4 disk, its kernel and initrd, a key to log in with."""
    if missing := [name for name in ("mmdebstrap", "ssh-keygen", "mke2fs")
                   if not shutil.which(name, path=ENV["PATH"])]:
        raise LabError(f"missing programs: {' '.join(missing)}",
                       "apt-get install mmdebstrap openssh-client e2fsprogs")

    def build(directory):
        say(f"building a Debian {FULL_SUITE} image; this takes some minutes, once")
        root, key, early = directory / "root", directory / "id_ed25519", directory / "early"
        write_files(early, FULL_INITRD_FILES)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab guest", "-f", key)
        # In a mount namespace of its own: what it mounts is gone with it, whatever happens.
        run("unshare", "--mount", "mmdebstrap", "--mode=root", "--variant=minbase", "--quiet",
            f"--include={','.join(FULL_PACKAGES)}", "--aptopt=APT::Install-Recommends \"false\"",
            "--aptopt=APT::Sandbox::User \"root\"",
            *(f"--dpkgopt=path-exclude={path}" for path in FULL_WITHOUT), f"--essential-hook=cp -r {early}/. \"$1\"", FULL_SUITE, root,
            hint="see that Debian's packages can be reached")
        full_configure(root, key)
        for name, target in (("vmlinuz", "vmlinuz"), ("initrd.img", "initrd.img")):
            shutil.copy(next((root / "boot").glob(f"{name}-*")), directory / target)
        (directory / "vmlinux").write_bytes(kernel.decompress((directory / "vmlinuz").read_bytes()))
        disk = directory / "disk.raw"
        with open(disk, "xb") as f:
            f.truncate(FULL_BYTES)
        run("mke2fs", "-q", "-t", "ext4", "-L", "godwit-guest", "-m", "0", "-d", root, disk)
        shutil.rmtree(root)
        shutil.rmtree(early)

    key = digest(FULL_VERSION, FULL_SUITE, FULL_BYTES, FULL_PACKAGES,
                 json.dumps([FULL_FILES, FULL_INITRD_FILES, FULL_MASKED, FULL_GENERATORS_OFF, FULL_WITHOUT]))
    entry = build_cached("full", key, build)
    return {"disk": entry / "disk.raw", "vmlinux": entry / "vmlinux", "bzimage": entry / "vmlinuz",
            "initrd": entry / "initrd.img", "ssh_key": entry / "id_ed25519"}


def export(paths, output):
    """Copies in a directory of the caller's; sparse, and cheap where the file system can."""
    output.mkdir(parents=True, exist_ok=True)
    copies = {}
    for name, path in paths.items():
        copies[name] = output / path.name
        run("cp", "--sparse=always", "--reflink=auto", "--preserve=mode", path, copies[name])
    return copies


def main(argv):
    """Build what is asked for and print where it is; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="guest", description="Build guests to run inside of nodes; prints name=path lines.")
    parser.add_argument("kind", choices=("small", "full"),
                        help="small: one process, boots in seconds; full: Debian with systemd, ssh, fio")
    parser.add_argument("--output", type=pathlib.Path, metavar="DIR",
                        help="copies there (a disk that is written to must be a copy)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        paths = {"small": small, "full": full}[args.kind](
            lambda text: print(f"guest: {text}", file=sys.stderr, flush=True))
        if args.output:
            paths = export(paths, args.output.absolute())
    except LabError as e:
        print(f"guest: {e}", file=sys.stderr)
        if e.hint:
            print(f"guest: hint: {e.hint}", file=sys.stderr)
        return e.status
    texts = {name: str(path) for name, path in paths.items()}
    print(json.dumps(texts, indent=1) if args.json else
          "\n".join(f"{name}={path}" for name, path in texts.items()))
    return 0

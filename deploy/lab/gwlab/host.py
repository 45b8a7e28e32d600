# SPDX-License-Identifier: Apache-2.0
"""What this machine has: packages, memory, disk space, acceleration."""
import os
import pathlib
import shutil

from gwlab.errors import LabError

# Program -> the Debian package that brings it.
PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-nbd": "qemu-utils",
    "ip": "iproute2",
    "rdma": "iproute2",
    "nsenter": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "modprobe": "kmod",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "sysctl": "procps",
}
MIB = 1024 * 1024
# What a node takes on top of its memory: QEMU itself and its translation buffer.
NODE_OVERHEAD_MIB = 192
# What a node's private disk usually grows to; it is sparse and may take more.
NODE_DISK_MIB = 256


def missing_packages():
    """The packages without which there is no lab, sorted."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return sorted({package for program, package in PROGRAMS.items()
                   if not shutil.which(program, path=path)})


def require_packages():
    """Say which packages are missing, if any."""
    if missing := missing_packages():
        raise LabError(f"missing packages: {' '.join(missing)}",
                       f"apt-get install {' '.join(missing)}")


def require_root():
    """The lab makes network namespaces and runs QEMU in them."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root (network namespaces, bridges)", "run it with sudo")


def available_memory_mib():
    """Memory that can be had without swapping."""
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def require_memory(nodes, memory_mib):
    """Refuse a lab that would make the machine swap or kill."""
    need, have = nodes * (memory_mib + NODE_OVERHEAD_MIB), available_memory_mib()
    if need > have:
        raise LabError(
            f"not enough memory: {nodes} nodes of {memory_mib} MiB need {need} MiB with QEMU, "
            f"{have} MiB is available", "use a smaller --memory or fewer --nodes")


def require_disk(directory, nodes):
    """Refuse a lab whose disks would fill the machine's."""
    while not directory.exists():
        directory = directory.parent
    stat = os.statvfs(directory)
    need, have = nodes * NODE_DISK_MIB, stat.f_bavail * stat.f_frsize // MIB
    if need > have:
        raise LabError(f"not enough disk space: {nodes} nodes need about {need} MiB in "
                       f"{directory}, {have} MiB is free",
                       "set GODWIT_LAB_DIR to a larger file system")


def nested_kvm():
    """(usable, why): can KVM here run nodes that run KVM themselves?"""
    flags = set()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split(":")[1].split())
            break
    vendor = "kvm_intel" if "vmx" in flags else "kvm_amd" if "svm" in flags else None
    if not vendor:
        return False, "the CPU shows neither vmx nor svm"
    try:
        nested = pathlib.Path(f"/sys/module/{vendor}/parameters/nested").read_text().strip()
    except OSError:
        return False, f"the module {vendor} is not loaded"
    if nested not in ("1", "Y", "y"):
        return False, f"{vendor} is loaded without nesting (nested={nested})"
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return False, f"/dev/kvm: {e.strerror}"
    return True, f"{vendor} with nesting"


def choose_acceleration(wanted):
    """"kvm" or "tcg" for a wish of auto, kvm or tcg."""
    if wanted == "tcg":
        return "tcg"
    usable, why = nested_kvm()
    if wanted == "kvm" and not usable:
        raise LabError(f"KVM with nesting cannot be used: {why}", "use --accel auto or tcg")
    return "kvm" if usable else "tcg"

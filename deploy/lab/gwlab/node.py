# SPDX-License-Identifier: Apache-2.0
"""One node: its QEMU process, its power and its cables."""
import contextlib
import os
import time
from pathlib import Path

from gwlab import cable, channel, freeze
from gwlab.errors import LabError
from gwlab.network import MTU, NETWORKS
from gwlab.procs import kill_processes, processes
from gwlab.qmp import Qmp
from gwlab.run import run

# An AMD processor with SVM and nested paging, as TCG emulates it. Features that TCG lacks are
# switched off to keep QEMU silent.
TCG_CPU = ("EPYC,+svm,+npt,-rdseed,-sha-ni,-fxsr-opt,-misalignsse,-3dnowprefetch,-osvw,-topoext,"
           "-nrip-save,-xsavec")
# Translated code of one node. The default (a quarter of memory) would be too much for several.
TCG_BUFFER_MIB = 128
KERNEL_ARGUMENTS = ("console=ttyS0 quiet loglevel=5 panic=1 mitigations=off audit=0 apparmor=0 "
                    "cryptomgr.notests net.ifnames=0")
# The emulated TSC is the host's clock; left alone the kernel distrusts it under load. What the agent does for
# emulated nodes: docs/lab.md.
TCG_ARGUMENTS = "tsc=reliable clocksource=tsc gwlab.emulated"
# A node's kernel spins at each change of promiscuous mode or of a multicast filter until the device has
# answered on its control queue: with an emulated processor as long as QEMU's main loop does not run.
NO_CONTROL = ",".join(f"{feature}=off" for feature in (
    "ctrl_vq", "ctrl_rx", "ctrl_rx_extra", "ctrl_vlan", "ctrl_mac_addr", "ctrl_guest_offloads", "guest_announce"))
# Of the nodes, as nice has it: 9 times the weight of anything else.
PRIORITY = "-10"


class Node:
    """A node of a lab."""

    def __init__(self, lab, number):
        self.lab = lab
        self.number = number
        self.name = f"n{number}"
        self.dir = lab.dir / self.name
        self.disk = self.dir / "disk.raw"
        self.console = self.dir / "console.log"
        self.log = self.dir / "qemu.log"

    def qmp(self):
        """A connection to the node's QEMU."""
        return Qmp(self.dir / "qmp")

    def pid(self):
        """QEMU's process id; None: the node is off."""
        for pid, argv in processes(self.dir).items():
            if argv[0].endswith(b"qemu-system-x86_64"):
                return pid
        return None

    def state(self):
        """off, running, paused, frozen, or what else QEMU calls it."""
        if self.pid() is None:
            return "off"
        if freeze.tracers(self.dir):
            return "frozen"
        try:
            with self.qmp() as qmp:
                return qmp("query-status")["status"]
        except LabError:
            return "off" if self.pid() is None else "unreachable"

    def require_on(self):
        """LabError if the node is off."""
        if self.pid() is None:
            raise LabError(f"{self.name} is off", f"lab start {self.name}")

    def create(self):
        """Make the private disk, the upper layer of the node's root file system."""
        self.dir.mkdir(mode=0o700)
        with open(self.disk, "xb") as f:
            f.truncate(self.lab.conf["disk_bytes"])
        run("mkfs.ext4", "-q", "-L", self.name, "-m", "0",
            "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", self.disk)

    # ---- QEMU's command line ----

    def _machine(self):
        conf = self.lab.conf
        kernel = self.lab.kernel()
        arguments = f"{KERNEL_ARGUMENTS} gwlab.node={self.number}"
        if conf["acceleration"] == "kvm":
            accel = ["-accel", "kvm", "-cpu", "host"]
        else:
            arguments += f" {TCG_ARGUMENTS}"
            accel = ["-accel", f"tcg,thread=multi,tb-size={TCG_BUFFER_MIB}", "-cpu", TCG_CPU]
        return [
            "-name", f"guest={self.lab.name}-{self.name},debug-threads=on",
            "-machine", "q35", *accel, "-smp", str(conf["cpus"]), "-m", str(conf["memory_mib"]),
            "-nodefaults", "-no-user-config", "-display", "none", "-daemonize", "-S",
            "-D", str(self.log), "-rtc", "base=utc",
            "-kernel", str(kernel.vmlinux), "-initrd", str(self.lab.initrd),
            "-append", arguments,
            "-device", "i6300esb", "-action", "watchdog=reset",
            "-chardev", f"file,id=console,path={self.console},append=on",
            "-serial", "chardev:console", "-qmp", f"unix:{self.dir}/qmp,server=on,wait=off",
        ]

    def _ports(self):
        args = ["-device", f"virtio-serial-pci,max_ports={channel.PORTS + 1}"]
        for port in range(channel.PORTS):
            args += ["-chardev", f"socket,id=exec{port},path={self.dir}/exec{port},server=on,wait=off",
                     "-device", f"virtserialport,chardev=exec{port},name=gwlab.exec.{port}"]
        return args

    def _shares(self):
        args = []
        for tag, path in self.lab.shares():
            args += ["-fsdev", f"local,id={tag},path={path},security_model=none,readonly=on,"
                               "multidevs=remap",
                     "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        return args

    def _disks(self):
        args = ["-blockdev", f"driver=file,node-name=private,filename={self.disk}",
                "-device", "virtio-blk-pci,drive=private,serial=private"]
        for lun in self.lab.luns():
            # Shared by all nodes: nothing may be cached here. The second block node is what a node
            # whose cable to the LUN is pulled gets instead; see cable.py.
            args += [
                "-blockdev", f"driver=file,node-name={lun.name},filename={lun.path},locking=off,"
                             "cache.direct=on,aio=threads,discard=unmap",
                "-blockdev", f"driver=blkdebug,node-name={lun.name}-cut,image.driver=null-co,"
                             f"image.size={lun.bytes},inject-error.0.event=none,"
                             "inject-error.0.errno=5",
                "-device", f"virtio-blk-pci,id={lun.name},drive={lun.name},share-rw=on,"
                           f"serial={lun.name},write-cache=on",
            ]
        return args

    def _nics(self):
        args = []
        for net, number in NETWORKS.items():
            args += ["-netdev", f"tap,id={net},ifname={self.name}-{net},script=no,downscript=no",
                     "-device", f"virtio-net-pci,id=nic-{net},netdev={net},romfile=,{NO_CONTROL},"
                                f"host_mtu={MTU[net]},mac=52:54:00:4c:{number:02x}:{self.number:02x}"]
        return args

    # ---- power ----

    def start(self):
        """Power on. Returns when QEMU runs; wait_ready() waits for the node itself."""
        if self.pid() is not None:
            raise LabError(f"{self.name} is already on")
        for name in ["qmp", *(f"exec{port}" for port in range(channel.PORTS))]:
            (self.dir / name).unlink(missing_ok=True)
        run("nsenter", f"--net={self.lab.network.path}", "qemu-system-x86_64",
            *self._machine(), *self._ports(), *self._shares(), *self._disks(), *self._nics())
        self._before_others()
        with self.qmp() as qmp:
            cable.restore(self, qmp, self.lab.cuts(self.name),
                          {lun.name: lun for lun in self.lab.luns()})
            qmp("cont")

    def _before_others(self):
        """A node that gets no processor for seconds is dead to its cluster: what else this machine does
        comes after its nodes. A kernel that shares processors among sessions first knows sessions only."""
        with contextlib.suppress(OSError): # without the right to it, as it is
            os.setpriority(os.PRIO_PROCESS, self.pid(), int(PRIORITY))
            Path(f"/proc/{self.pid()}/autogroup").write_text(PRIORITY, encoding="ascii")

    def wait_ready(self, timeout):
        """Until the node runs commands; LabError with the end of its console otherwise."""
        try:
            port = channel.Channel(self.dir, time.monotonic() + timeout)
            try:
                status = port.hello()
            finally:
                port.close()
        except LabError as e:
            raise LabError(f"{self.name} did not come up: {e}\n{self.console_tail()}",
                           f"lab log {self.name}") from e
        if status != 0:
            raise LabError(f"{self.name}: its set-up failed ({status})\n{self.console_tail()}",
                           f"lab log {self.name}")

    def console_tail(self, lines=15):
        """The end of the console log."""
        try:
            text = self.console.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])

    def kill(self):
        """Pull the power cord."""
        self.require_on()
        kill_processes(self.dir)

    def reset(self):
        """Press the reset button."""
        self.require_on()
        with self.qmp() as qmp:
            qmp("system_reset")

    def pause(self, clock_runs=False):
        """Freeze the node's processors, and its clock and watchdog unless @clock_runs."""
        self.require_on()
        if clock_runs:
            freeze.freeze(self)
        else:
            with self.qmp() as qmp:
                qmp("stop")

    def unpause(self):
        """Let a frozen node go on."""
        self.require_on()
        if not freeze.thaw(self):
            with self.qmp() as qmp:
                qmp("cont")

    # ---- cables ----

    def set_cut(self, what, how, stall_s=cable.STALL_S):
        """Cut (cable.CABLE, cable.SILENT) or heal (None) a network or LUN; also if the node is off."""
        qmp = self.qmp() if self.pid() is not None else None
        with qmp or contextlib.nullcontext():
            if what in NETWORKS:
                cable.set_network(self, qmp, what, how)
            elif qmp:
                cable.set_lun(self, qmp, self.lab.lun(what), how, stall_s)
        self.lab.set_cut(self.name, what, how)

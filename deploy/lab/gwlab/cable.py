# SPDX-License-Identifier: Apache-2.0
"""A node's cables: networks and paths to LUNs, cut and healed while it runs.

Two ways of losing one:

    cable    the plug is pulled: a NIC loses its carrier, disk requests fail at once
    silent   the far end is dead: the carrier stays and packets vanish; disk requests hang for
             STALL_S, as a SCSI stack would wait, and then fail. Healed before that, they go on unharmed.

When cut() returns, nothing that the node sends afterwards gets through.

For a LUN this is done below QEMU's virtio-blk device by exchanging the block node. A failing one is
made at the node's start. A silent one is made when asked for: a qemu-nbd between QEMU and the file, frozen
with SIGSTOP, and killed when the time is over. (SIGSTOP to QEMU would stop the node; QEMU's I/O throttling lets
through one request more, and on a reset all that it holds back.)
"""
import os
import signal
import subprocess
import time

from gwlab.errors import LabError
from gwlab.network import NETWORKS
from gwlab.procs import processes
from gwlab.run import ENV

CABLE, SILENT = "cable", "silent"
STALL_S = 30


def set_network(node, qmp, net, how):
    """@how: None (whole), CABLE or SILENT."""
    node.lab.network.connect(node.name, net, how is None)
    if qmp:
        qmp("set_link", name=f"nic-{net}", up=how != CABLE)


def _attached(qmp, name):
    """The block node that the device @name uses now."""
    for device in qmp("query-block"):
        if device.get("qdev", "").startswith(f"/machine/peripheral/{name}/"):
            return device["inserted"]["node-name"]
    raise LabError(f"QEMU has no disk {name}")


def _attach(qmp, name, block_node):
    """Exchange the block node below a device. Waits for requests under way."""
    # Setting the one that is there already makes QEMU 7.2 abort.
    if _attached(qmp, name) != block_node:
        qmp("qom-set", path=f"/machine/peripheral/{name}", property="drive", value=block_node)


def set_lun(node, qmp, lun, how, stall_s=STALL_S):
    """@how: None (whole), CABLE or SILENT, which becomes CABLE after @stall_s."""
    _thaw(node, qmp, lun)
    if how == SILENT:
        _freeze(node, qmp, lun, stall_s)
    else:
        _attach(qmp, lun.name, lun.name if how is None else f"{lun.name}-cut")


def _servers(node, lun):
    """Pids of the qemu-nbd, if any, between @node and @lun."""
    socket = os.fsencode(node.dir / f"{lun.name}.nbd")
    return [pid for pid, argv in processes(node.dir).items()
            if argv[0] == b"qemu-nbd" and socket in argv]


def _freeze(node, qmp, lun, stall_s):
    socket = node.dir / f"{lun.name}.nbd"
    socket.unlink(missing_ok=True)
    with open(node.log, "ab") as log:
        subprocess.Popen(  # pylint: disable=consider-using-with # It outlives us.
            ["timeout", "--signal=KILL", str(stall_s), "qemu-nbd", "--persistent", "-k", str(socket),
             "--image-opts", f"driver=file,filename={lun.path},locking=off,cache.direct=on,"
             "aio=threads"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENV, start_new_session=True)
    deadline = time.monotonic() + 10
    while True:
        try:
            qmp("blockdev-add", driver="nbd", node__name=f"{lun.name}-silent",
                server={"type": "unix", "path": str(socket)})
            break
        except LabError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    _attach(qmp, lun.name, f"{lun.name}-silent")
    for pid in _servers(node, lun):
        os.kill(pid, signal.SIGSTOP)
    socket.unlink()  # There is no coming back when it is killed.


def _thaw(node, qmp, lun):
    if _attached(qmp, lun.name) != f"{lun.name}-silent":
        return
    for pid in _servers(node, lun):
        os.kill(pid, signal.SIGCONT)
    _attach(qmp, lun.name, lun.name)
    qmp("blockdev-del", node__name=f"{lun.name}-silent")
    for pid in _servers(node, lun):
        os.kill(pid, signal.SIGKILL)


def restore(node, qmp, cuts, luns):
    """Cut again what was cut when the node was switched off. A path that was silent fails by now."""
    for name, how in cuts.items():
        if name in NETWORKS:
            set_network(node, qmp, name, how)
        else:
            set_lun(node, qmp, luns[name], CABLE)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""VMs whose disks lie on a mounted shared volume: three nodes with everything, real workers with the tiny guest.

All nodes have the volume under the same path, as installed ones do: each one's state directory is bound there.
"""
import json
import os
import pathlib
import shutil
import socket
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import cluster_service_test as service  # noqa: E402
import csv_cluster_test  # noqa: E402
import gwnet  # noqa: E402
import move_test  # noqa: E402

WORKER = pathlib.Path(__file__).resolve().with_name("bare_worker.py")
MIB = 1 << 20
SOON_S = 4.0


class Node(csv_cluster_test.Node):
    EXTRA = ("--watchdog", "assume", "--worker", WORKER, "--volume-io", "device")

    def __init__(self, cluster, number, state):
        super().__init__(cluster, number, state)
        own, same = self.state, state / "same"
        for folder in (own, same):
            folder.mkdir(exist_ok=True)
        self.node.run("mount", "--bind", own, same)
        self.state = same

    def start(self):
        super().start()
        return self

    def vm(self, name):
        for vm in self.ask("vm", "list")["vms"]:
            if vm["name"] == name:
                return vm
        return None

    def run(self, *words, check=True):
        return self.node.run(*map(str, words), check=check, timeout_s=120)

    def console(self, vm_id):
        path = self.log_path.with_suffix("") / "vm" / vm_id / "console.log"
        return path.read_bytes() if path.exists() else b""


class Disk:
    """Requests of the guest's disks, by the control socket of a bare worker."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(str(path))
        self.socket.settimeout(service.WAIT_S)
        self.number = 0
        self.results = {}

    def close(self):
        self.socket.close()

    def start(self, disk, op, offset=0, size=0, byte=0):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "cmd": "disk", "disk": disk, "op": op, "offset": offset,
                                     "bytes": size, "byte": byte}).encode())
        return self.number

    def take(self):
        said = json.loads(self.socket.recv(65536))
        if "id" in said:
            self.results[said["id"]] = said

    def ended(self, number):
        """Without waiting."""
        self.socket.setblocking(False)
        try:
            while number not in self.results:
                self.take()
        except BlockingIOError:
            return False
        finally:
            self.socket.settimeout(service.WAIT_S)
        return True

    def wait(self, number):
        while number not in self.results:
            self.take()
        return self.results.pop(number)

    def do(self, *words, **more):
        return self.wait(self.start(*words, **more))


class Vms(csv_cluster_test.Volumes):
    NODE = Node
    test_a_volume_of_a_cluster = None

    def setUp(self):
        self.script = pathlib.Path(tempfile.mkdtemp(prefix="gwcsvvm"))
        self.addCleanup(shutil.rmtree, self.script, ignore_errors=True)
        os.environ["GODWIT_SCRIPT"] = str(self.script)
        super().setUp()
        self.wait(lambda: [n.get("ha", {}).get("state") for n in self.nodes[0].ask("node", "list")["nodes"]]
                  == ["up"] * len(self.nodes), "every node runs VMs")
        self.nodes[0].godwit("csv", "create", "vol1", "--device", str(self.device))
        self.served(self.nodes)
        self.at = self.state / "same" / "csv" / "vol1"
        self.wait(lambda: all(self.is_mounted(n) for n in self.nodes), "all have mounted it")
        kernel = move_test.kernel()
        boot = self.state / "kernel"
        boot.write_bytes(os.pread(kernel, os.fstat(kernel).st_size, 0))
        os.close(kernel)
        self.nodes[0].run("cp", boot, self.at / "kernel")

    def is_mounted(self, node):
        return node.run("grep", "-q", f"{self.at} fuse", "/proc/mounts", check=False).returncode == 0

    def online(self, name, asked, but=()):
        def good():
            vm = asked.vm(name)
            return vm is not None and vm["ha"]["state"] == "online" and vm["node"] not in but and vm
        return self.wait(good, f"{name} is online")

    def grows(self, node, vm_id):
        before = len(node.console(vm_id))
        self.wait(lambda: len(node.console(vm_id)) > before + 2, "the guest goes on")

    def users(self):
        """Of each node: disks of which a worker has the device."""
        return [n.volume()["direct"]["users"] for n in self.nodes]

    def overwrite(self, node, disk):
        """As a program would that knows nothing of VMs: its last bytes, by what they are."""
        return node.run("dd", "if=/dev/zero", f"of={disk}", "bs=4096", "count=1", "conv=notrunc", check=False)

    def test_a_vm_lives_on_a_volume(self):
        n1, n2, n3 = self.nodes
        disk, data = self.at / "web1.vhdx", self.at / "data.raw"
        words = ("vm", "create", "web1", "--ha", "--preferred", "n1", "--memory", "64M", "--cpus", "1", "--kernel",
                 self.at / "kernel", "--disk", disk, "--disk", data)
        missing = n1.godwit(*map(str, words), check=False)
        self.assertEqual(missing.returncode, 1)
        self.assertIn("web1.vhdx: No such file", missing.stderr)
        self.assertIn("godwit disk create", missing.stderr)
        n2.godwit("disk", "create", str(disk), "--size", "64M")
        n3.godwit("disk", "create", str(data), "--size", "4M", "--format", "raw")
        # From a node that neither made it nor will run it.
        n3.godwit(*map(str, words))
        n2.godwit("vm", "start", "web1")
        vm = self.online("web1", n3)
        self.assertEqual(vm["node"], "n1")
        self.wait(lambda: self.users() == [2, 0, 0], "its disks are on the device")
        self.grows(n1, vm["id"])
        # Nobody else writes to it, anywhere; who reads may.
        for node in self.nodes:
            self.assertEqual(n2.godwit("disk", "show", str(disk), check=False).returncode, 0)
            refused = node.godwit("disk", "resize", str(disk), "--size", "128M", check=False)
            self.assertIn("in use", refused.stderr)
        for node in (n2, n3):
            self.assertIn("busy", self.overwrite(node, disk).stderr.lower())

        self.full(n1, n2, vm, disk, data)

        # Moved, there and on: each time the right to write goes along.
        for here, there in ((n1, n2), (n2, n3)):
            here.godwit("vm", "move", "web1", "--to", there.name, "--max-blackout", "20s")
            self.wait(lambda t=there: t.vm("web1")["node"] == t.name, "it is there")
            self.online("web1", here)
            self.grows(there, vm["id"])
            self.wait(lambda t=there: self.users() == [2 if n is t else 0 for n in self.nodes], "and there on the device")
            self.assertIn("busy", self.overwrite(here, disk).stderr.lower())

        # The power of its node fails: another one has the disks.
        begun = time.monotonic()
        self.net.node(3).kill()
        self.assertIn(self.online("web1", n1, but=("n3",))["node"], ("n1", "n2"))
        print(f"# {time.monotonic() - begun:.1f} s from the failure to the VM elsewhere", file=sys.stderr)
        here = self.by_name(n1.vm("web1")["node"])
        other = n2 if here is n1 else n1
        self.grows(here, vm["id"])
        self.assertIn("busy", self.overwrite(other, disk).stderr.lower())

        # Off: whoever wants to may use it.
        here.godwit("vm", "stop", "--off", "web1")
        self.wait(lambda: n1.vm("web1")["ha"]["state"] == "offline", "it is off")
        other.godwit("disk", "check", str(disk))
        other.godwit("disk", "resize", str(disk), "--size", "128M")
        self.assertEqual(here.ask("disk", "show", str(disk))["size_bytes"], 128 * MIB)
        here.godwit("disk", "convert", str(disk), str(self.at / "copy.raw"), "--format", "raw")
        self.assertEqual(other.run("stat", "-c", "%s", self.at / "copy.raw").stdout.strip(), str(128 * MIB))
        if shutil.which("qemu-img"):
            self.with_qemu(here, other)

    def full(self, here, other, vm, *disks):
        """The volume has no room: the VM stands still and sees no error, until there is some."""
        guest = Disk(next(self.script.glob("*.sock")))
        self.addCleanup(guest.close)
        self.assertIn("result", guest.do(0, "write", 0, MIB, 7))
        filler = self.at / "filler"
        other.run("sh", "-c", f"while fallocate -l $(($(stat -c %s {filler} 2>/dev/null || echo 0) + {4 * MIB})) {filler}; "
                              f"do :; done; while fallocate -l $(($(stat -c %s {filler}) + {MIB})) {filler}; do :; done",
                  check=False)
        # What is allocated ahead for an open file is used up at some time.
        writes = []
        for at in range(8 * MIB, 56 * MIB, MIB):
            writes.append((0, at, guest.start(0, "write", at, MIB, at // MIB)))
            critical = self.wait(lambda: (guest.ended(writes[-1][2]) and "ended") or
                                 (here.vm("web1")["state"] == "critical" and "critical"), "it is written, or stands still")
            if critical == "critical":
                break
        writes.append((1, 2 * MIB, guest.start(1, "write", 2 * MIB, MIB, 2)))
        self.wait(lambda: here.vm("web1")["state"] == "critical", "the VM stands still")
        row = here.vm("web1")
        self.assertIn("no room is left where its disk", row["error"])
        self.assertTrue(any(str(d) in row["error"] for d in disks), row)
        self.assertEqual(row["ha"]["state"], "online")
        self.assertIn("critical", here.godwit("vm", "list").stdout)
        self.assertIn("no room", here.godwit("vm", "show", "web1").stdout)
        self.assertIn("vm.critical", here.godwit("event", "list").stdout)
        self.assertIn("critical", here.godwit("vm", "move", "web1", "--to", other.name, check=False).stderr)
        before = here.console(vm["id"])
        self.assertFalse(self.soon(lambda: guest.ended(writes[-2][2]) or here.console(vm["id"]) != before))
        other.run("rm", filler)
        self.wait(lambda: here.vm("web1")["state"] == "running", "it goes on")
        self.assertEqual(here.vm("web1")["error"], "")
        self.grows(here, vm["id"])
        for disk, at, number in writes:
            self.assertIn("result", guest.wait(number))
            self.assertIn("result", guest.do(disk, "read", at, MIB, at // MIB))
        self.assertIn("result", guest.do(0, "flush"))
        self.assertIn("result", guest.do(0, "read", 0, MIB, 7))

    def soon(self, condition):
        """Within seconds, or not."""
        try:
            return gwnet.wait_for(condition, SOON_S, "soon")
        except gwnet.Timeout:
            return False

    def with_qemu(self, here, other):
        raw, vhdx = self.at / "q.raw", self.at / "q.vhdx"
        here.run("qemu-img", "create", "-f", "vhdx", vhdx, "32M")
        other.run("qemu-img", "check", vhdx)
        other.run("qemu-img", "convert", "-f", "vhdx", "-O", "raw", vhdx, raw)
        self.assertIn("identical", here.run("qemu-img", "compare", raw, vhdx).stdout)
        other.godwit("disk", "check", str(vhdx))


if __name__ == "__main__":
    gwnet.main("/dev/kvm", "/dev/fuse")

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shared volumes of a cluster: three nodes with corosync, godwitd and godwit-csvd, and one file as their LUN."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import cluster_service_test as service  # noqa: E402
import csvd_test as csvd  # noqa: E402
import ha_service_test as ha  # noqa: E402
import gwnet  # noqa: E402

WAIT_S = 120.0
MIB = 1 << 20


class Node(service.Node):
    EXTRA = ("--watchdog", "assume")
    proc = None

    def volumes_start(self, addr):
        """godwit-csvd, as its unit has it: beside godwitd."""
        self.proc = self.node.spawn(service.BIN / "godwit-csvd", "--foreground", "--state-dir", self.state, "--run-dir",
                                    self.run_dir, "--listen", addr, log="csvd.log")

    def volumes_log(self):
        path = self.node.dir / "csvd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def ask_csvd(self, method, path, body=None):
        connection = csvd.UnixConnection(self.run_dir / "csvd.sock")
        try:
            text = json.dumps(body) if body is not None else None
            connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise csvd.Refused(answer.status, raw)
        return json.loads(raw) if raw else {}

    def volume(self):
        """Its row, or None: not (yet) known, or nobody answers."""
        try:
            return self.ask_csvd("GET", "/v1/volumes/vol1")["volume"]
        except (OSError, http.client.HTTPException, csvd.Refused):
            return None

    def members(self):
        try:
            return self.ask_csvd("GET", "/v1/members")
        except OSError:
            return {}

    def make(self, name):
        self.ask_csvd("POST", "/v1/volumes/vol1/files", {"name": name, "size_bytes": MIB})

    def names(self):
        return sorted(f["name"] for f in self.ask_csvd("GET", "/v1/volumes/vol1/files")["files"])

    def path(self):
        return self.state / "csv" / "vol1"

    def sh(self, script):
        return self.node.run("sh", "-c", f"cd {self.path()} && {script}", timeout_s=WAIT_S)

    def csv(self, *words):
        return subprocess.run([service.BIN / "godwit", "--host", f"unix://{self.run_dir}/csvd.sock", "csv", *words],
                              capture_output=True, text=True, timeout=WAIT_S, check=False)


class Volumes(service.Case):
    NODE = Node
    LINKS = 1

    def setUp(self):
        super().setUp()
        self.form()
        for node in self.nodes:
            node.volumes_start(self.net.config.address(node.number, 0))
        self.device = self.state / "lun"
        with open(self.device, "wb") as lun:
            lun.truncate(256 * MIB)

    def wait(self, condition, what):
        try:
            return gwnet.wait_for(condition, WAIT_S, what)
        except gwnet.Timeout as e:
            said = "\n".join(f"--- {n.name}\n{n.volume()}\n{n.log()[-3000:]}\n{n.volumes_log()[-3000:]}"
                             for n in self.nodes)
            raise gwnet.Timeout(f"{e}\n{said}") from None

    def served(self, nodes, coordinator=None, term=0):
        """All use it directly, and agree; the row of the first."""
        def good():
            rows = [n.volume() for n in nodes]
            return all(r is not None and r["state"] == "direct" and r["coordinator"] == rows[0]["coordinator"]
                       and r["term"] == rows[0]["term"] > term for r in rows) \
                and coordinator in (None, rows[0]["coordinator"]) and rows[0]
        return self.wait(good, f"the volume is served {coordinator} {term}")

    def by_name(self, name):
        return next(n for n in self.nodes if n.name == name)

    def test_a_volume_of_a_cluster(self):
        n1, n2, n3 = self.nodes
        for node in self.nodes:
            self.wait(lambda n=node: n.members().get("alone") is False, "it is told")
        n1.godwit("csv", "create", "vol1", "--device", str(self.device))
        first = self.served(self.nodes)
        self.assertEqual((first["coordinator"], first["term"]), ("n1", 2))
        for node in self.nodes:
            node.make(f"of-{node.name}")
        names = ["of-n1", "of-n2", "of-n3"]
        for node in self.nodes:
            self.assertEqual(node.names(), names)
        again = n2.godwit("csv", "add", str(self.device), check=False)
        self.assertIn("the cluster has volume vol1", again.stderr)

        # Its node is emptied: the coordinator goes to a node that takes things, before anything else.
        n3.godwit("node", "drain", "n1")
        self.served(self.nodes, "n2", first["term"])
        n3.godwit("node", "resume", "n1")
        self.wait(lambda: "drained" not in n3.godwit("node", "list").stdout, "n1 takes VMs again")
        back = n2.csv("move", "vol1", "--to", "n1")
        self.assertEqual(back.returncode, 0, back.stderr)
        first = self.served(self.nodes, "n1", first["term"] + 1)

        # Planned: the coordinator hands over, and the log says who goes on.
        moved = n1.csv("move", "vol1", "--to", "n2")
        self.assertEqual(moved.returncode, 0, moved.stderr)
        second = self.served(self.nodes, "n2", first["term"])
        self.assertEqual(n3.names(), names)

        # The power of the coordinator's node fails.
        begun = time.monotonic()
        self.net.node(2).kill()
        rest = [n1, n3]
        third = self.served(rest, "n1", second["term"])
        n3.make("after")
        took = time.monotonic() - begun
        self.assertEqual(third["term"], second["term"] + 1)
        names = ["after", *names]
        for node in rest:
            self.assertEqual(node.names(), names)
        # Not before it was proven gone: its lease was over.
        self.assertGreater(took, 8)
        print(f"# {took:.1f} s from the failure to a new file", file=sys.stderr)

        # It is back, as another run of itself.
        n2.process.wait(WAIT_S)
        n2.start()
        n2.volumes_start(self.net.config.address(2, 0))
        self.served(self.nodes, "n1")
        self.assertEqual(n2.names(), names)

        # The service alone is killed, on the coordinator's node: godwitd says that it is gone.
        n1.proc.signal(signal.SIGKILL)
        n1.proc.wait(WAIT_S)
        fourth = self.served([n2, n3], "n2", third["term"])
        n1.volumes_start(self.net.config.address(1, 0))
        self.assertEqual(self.served(self.nodes, "n2")["term"], fourth["term"])
        self.assertEqual(n1.names(), names)

        # godwitd alone comes back: nothing happens to the volume.
        before = n2.ask_csvd("GET", "/v1/members")
        n2.stop(signal.SIGKILL)
        n2.start()
        n2.active(3)
        self.assertEqual(self.served(self.nodes, "n2")["term"], fourth["term"])
        after = n2.ask_csvd("GET", "/v1/members")
        self.assertEqual((before["run"], before["pid"]), (after["run"], after["pid"]))

        if os.path.exists("/dev/fuse"):
            self.hanging(n1, n3)
        self.again(n1, n3, fourth["term"])

        # No more of it.
        n3.godwit("csv", "evict", "vol1")
        for node in self.nodes:
            self.wait(lambda n=node: n.ask_csvd("GET", "/v1/volumes")["volumes"] == [], "it is left")
        names = self.names
        check = subprocess.run([service.BIN / "godwit", "csv", "check", self.device, "--json"], capture_output=True,
                               text=True, check=False)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)
        self.assertEqual(json.loads(check.stdout)["files"], len(names))


    def hanging(self, waiter, victim):
        """One that hangs while another node waits for what it has is ended by the godwitd beside it."""
        for node in (waiter, victim):
            self.wait(lambda n=node: (n.volume() or {}).get("path"), "it is mounted")
        before = waiter.volume()
        waiter.sh("head -c 3M /dev/zero > held")
        reader = victim.node.spawn("sh", "-c", f"cd {victim.path()} && exec 3<held && cat <&3 >/dev/null && echo read "
                                   "&& exec sleep 1000", log="reader")
        self.wait(lambda: "read" in (victim.node.dir / "reader").read_text(), "it was read")
        victim.proc.signal(signal.SIGSTOP)
        waiter.sh("fallocate -p -o 1M -l 1M held && rm held")
        victim.proc.wait(WAIT_S)
        self.assertIn("godwit-csvd is ended", victim.log())
        reader.signal(signal.SIGKILL)
        reader.wait(WAIT_S)
        victim.volumes_start(self.net.config.address(victim.number, 0))
        self.assertEqual(self.served(self.nodes)["term"], before["term"])

    def again(self, slow, other, term):
        """A volume that was evicted is not used again before all have closed it, and never in an older term."""
        self.names = slow.names()
        slow.proc.signal(signal.SIGSTOP)
        other.godwit("csv", "evict", "vol1")
        for _ in range(2):
            refused = other.godwit("csv", "add", str(self.device), check=False)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn(f"node {slow.number} may still have it open", refused.stderr)
            self.wait(lambda: other.ask_csvd("GET", "/v1/volumes")["volumes"] == [], "it is left")
        removed = other.godwit("csv", "remove", "vol1", "--device", str(self.device), "--yes", check=False)
        self.assertIn(f"node {slow.number} may still have it open", removed.stderr)
        slow.proc.signal(signal.SIGCONT)
        self.wait(lambda: other.godwit("csv", "add", str(self.device), check=False).returncode == 0, "it is closed")
        self.served(self.nodes, None, term)
        self.assertEqual(slow.names(), self.names)
        used = other.godwit("csv", "check", "--repair", str(self.device), check=False)
        self.assertIn("the cluster uses it", used.stderr)


class VmNode(Node):
    """Its state is at the same path on every node, and so are the files of the volume."""
    EXTRA = (*Node.EXTRA, "--worker", ha.WORKER)

    def __init__(self, cluster, number, state):
        super().__init__(cluster, number, state)
        common = state / "common"
        self.state.mkdir(exist_ok=True)
        common.mkdir(exist_ok=True)
        self.node.run("mount", "--bind", str(self.state), str(common))
        self.state = common
        self.kept = True

    def keep(self, addr):
        """As systemd would: a volume service that ended is started again."""
        proc = self.node.find("godwit-csvd") if self.kept else None
        if proc is not None:
            proc.close()
        elif self.kept:
            self.volumes_start(addr)

    def has(self, name):
        """Makes the file, however many attempts that takes."""
        try:
            if name not in self.names():
                self.make(name)
            return True
        except (OSError, http.client.HTTPException, csvd.Refused):
            return False

    def vm(self, name):
        return next((vm for vm in self.ask("vm", "list")["vms"] if vm["name"] == name), None)


class Roles(Volumes):
    """VMs of the cluster whose disks are on the volume."""
    NODE = VmNode
    test_a_volume_of_a_cluster = None
    runs, marks = ha.Case.runs, ha.Case.marks

    def setUp(self):
        self.script = pathlib.Path(tempfile.mkdtemp(prefix="gwha"))
        self.addCleanup(shutil.rmtree, self.script, ignore_errors=True)
        os.environ["GODWIT_SCRIPT"] = str(self.script)
        super().setUp()

    def wait(self, condition, what):
        def kept():
            for node in self.nodes:
                node.keep(self.net.config.address(node.number, 0))
            return condition()
        return super().wait(kept, what)

    def define(self, name, path, *words):
        return self.nodes[0].godwit("vm", "create", name, "--ha", "--memory", "64M", "--cpus", "1", "--kernel", ha.WORKER,
                                    "--disk", f"{path},format=raw", *words, check=False)

    def online(self, asked, but=()):
        def good():
            vm = asked.vm("web1")
            return vm["ha"]["state"] == "online" and vm["node"] not in but and vm
        try:
            return self.wait(good, "web1 is online")
        except gwnet.Timeout as e:
            said = asked.godwit("explain", "vm", "web1", check=False).stdout
            raise gwnet.Timeout(f"{e}\n{said}") from None

    def several_at_once(self, volume):
        """Each says in its entry that the volume is there; none fails because another one was faster."""
        def define(i, name):
            process = subprocess.Popen([service.BIN / "godwit", "--host", f"unix://{self.nodes[i % 3].socket}", "vm", "create", name,
                                        "--ha", "--memory", "64M", "--cpus", "1", "--kernel", ha.WORKER, "--timeout", "2m",
                                        "--disk", f"{volume / name}.raw,size=1M,format=raw"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            return process
        names = [f"many{i}" for i in range(9)]
        for name, process in [(name, define(i, name)) for i, name in enumerate(names)]:
            self.wait(lambda p=process: p.poll() is not None, f"{name} is defined")
            self.assertEqual((process.stderr.read(), process.returncode),
                             (f"godwit: {name} is defined; start it with: godwit vm start {name}\n", 0))
            process.stderr.close()
        self.wait(lambda: all(set(names) <= {vm["name"] for vm in n.ask("vm", "list")["vms"]} for n in self.nodes), "all know them")
        self.assertIn("the cluster has a VM named many1", self.define("many1", volume / "web1.raw").stderr)
        for name in names:
            self.nodes[0].godwit("vm", "remove", name)

    def test_a_vm_waits_for_its_volume_to_refuse_what_was(self):
        n1, n2, n3 = self.nodes
        for node in self.nodes:
            self.wait(lambda n=node: n.members().get("run"), "it is told")
        n1.godwit("csv", "create", "vol1", "--device", str(self.device))
        self.served(self.nodes)
        self.wait(lambda: n1.has("web1.raw"), "it has a file")
        where = n1.state / "csv"
        stray = self.state / "n1" / "csv" / "vol2"  # a folder, where a volume would be
        stray.mkdir()
        (stray / "x.raw").write_bytes(bytes(MIB))
        self.assertIn("no volume vol2", self.define("x", where / "vol2" / "x.raw").stderr)
        made = self.define("web1", where / "vol1" / "web1.raw", "--preferred", "n2,n3")
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertIn("web1 has files", n2.godwit("csv", "evict", "vol1", check=False).stderr)
        self.several_at_once(where / "vol1")
        n3.godwit("vm", "start", "web1")
        self.assertEqual(self.online(n1)["node"], "n2")
        self.assertRegex(n1.log(), r'committed what="ack web1 token \d+ volume 1')

        # Nobody who could speak for the volume: it waits, and says for what.
        n3.godwit("vm", "stop", "web1")
        for node in self.nodes:
            node.kept = False
            proc = node.node.find("godwit-csvd")
            if proc is not None:
                proc.signal(signal.SIGKILL)
                proc.close()
        start = subprocess.Popen([service.BIN / "godwit", "--host", f"unix://{n1.socket}", "vm", "start", "web1"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(start.wait, WAIT_S)
        self.addCleanup(start.kill)
        self.wait(lambda: "volume vol1" in n1.godwit("explain", "vm", "web1").stdout, "it says that it waits for vol1")
        self.assertEqual(n1.vm("web1")["ha"]["state"], "raising")
        for node in self.nodes:
            node.kept = True
        first = self.served(self.nodes)["coordinator"]

        # The node of both fails. Its volume has to be somebody else's before the VM is.
        there = self.online(n1)["node"]
        if first != there:
            self.assertEqual(self.by_name(first).csv("move", "vol1", "--to", there).returncode, 0)
            self.served(self.nodes, there)
        other = next(n for n in self.nodes if n.name != there)
        self.by_name(there).kept = False
        self.net.node(self.by_name(there).number).kill()
        again = self.online(other, but=(there,))["node"]
        self.wait(lambda: len(self.runs("web1")) == 3, "it runs elsewhere")
        log = self.by_name(again).log()
        self.assertLess(log.rindex('what="fenced'), log.rindex('what="ack web1'))
        self.assertLess(log.rindex('what="ack web1'), log.rindex('what="start web1'))


if __name__ == "__main__":
    gwnet.main(*["/dev/kvm"] if "Roles" in sys.argv else [])

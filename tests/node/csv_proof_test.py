#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node proven stopped by its shared volumes. There is no LUN with reservations in namespaces: what godwit-csvd says about them is put
in its mouth, on the way to godwitd; all else is real."""
import datetime
import http.client
import http.server
import json
import os
import pathlib
import re
import socketserver
import sys
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import cluster_service_test as service  # noqa: E402
import csv_cluster_test as cluster  # noqa: E402
import csvd_test as csvd  # noqa: E402
import gwnet  # noqa: E402

MIB = 1 << 20


class Mouth(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens where godwitd looks for godwit-csvd, asks that, and says a little more."""
    daemon_threads = True

    def __init__(self, run_dir, real, told):
        self.real = real
        self.told = told  # what is said of keys; and what was asked
        super().__init__(str(run_dir / "csvd.sock"), Speaker)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def get_request(self):
        request, _ = super().get_request()
        return request, ("local", 0)

    def handle_error(self, request, client_address):
        pass  # who asked has ended


class Speaker(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, raw):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def pass_on(self):
        told = self.server.told
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        if self.path.endswith("/fence"):
            told["asked"].append(json.loads(body))
            self.answer(200, json.dumps({"proof": told["proof"]}).encode())
            return
        connection = csvd.UnixConnection(self.server.real)
        try:
            connection.request(self.command, self.path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            status, raw = answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        finally:
            connection.close()
        if self.path in ("/v1/volumes", "/v1/standing") and status == 200 and told["level"]:
            document = json.loads(raw)
            for row in document["volumes"]:
                if "reservations" in row:  # another word in it, no member that it does not have
                    row["reservations"].update(level=told["level"], why="", key="0000000000000001")
            raw = json.dumps(document).encode()
        self.answer(status, raw)

    do_GET = do_PUT = do_POST = do_DELETE = pass_on


class ProofNode(cluster.VmNode):
    EXTRA = ("--watchdog", "none", "--worker", cluster.ha.WORKER)  # its silence proves nothing

    def __init__(self, net, number, state):
        super().__init__(net, number, state)
        self.told = {"level": None, "proof": None, "asked": []}
        self.mouth = None

    def volumes_start(self, addr):
        real = self.run_dir / "real"
        real.mkdir(parents=True, exist_ok=True)
        if self.mouth is None:
            self.mouth = Mouth(self.run_dir, real / "csvd.sock", self.told)
        self.proc = self.node.spawn(service.BIN / "godwit-csvd", "--foreground", "--state-dir", self.state, "--run-dir", real,
                                    "--listen", addr, log="csvd.log")


class Proofs(cluster.Roles):
    NODE = ProofNode
    test_a_vm_waits_for_its_volume_to_refuse_what_was = None

    def all_say(self, **what):
        for node in self.nodes:
            node.told.update(what)

    def explained(self, node, vm, words):
        return self.wait(lambda: words in node.godwit("explain", "vm", vm, check=False).stdout, f"explain {vm}: {words}")

    def vm_state(self, node, vm):
        return node.vm(vm)["ha"]["state"]

    @staticmethod
    def spans(log):
        """What came after the proof, and when, as one node saw it."""
        lines = re.findall(r"^(\S+)Z \S+ \w+ +(?:ha: committed what=\"(fenced|ack|start|started) |csv: (coordinator appointed))", log, re.M)
        last = max(i for i, line in enumerate(lines) if line[1] == "fenced")
        begin = datetime.datetime.fromisoformat(lines[last][0])
        return "after the proof: " + ", ".join(
            f"{what or more} {(datetime.datetime.fromisoformat(at) - begin).total_seconds() * 1e3:.0f} ms"
            for at, what, more in lines[last + 1:])

    def runs_somewhere(self, vm):
        """The node, whichever a busy machine makes of it."""
        n1 = self.nodes[0]
        n1.godwit("vm", "start", vm, check=False)
        self.wait(lambda: self.vm_state(n1, vm) == "online", f"{vm} is online")
        return self.by_name(n1.vm(vm)["node"])

    def coordinates(self, node):
        """It does, or is asked to; a busy machine may take more than one attempt."""
        row = node.volume()
        if row is not None and row["coordinator"] not in (None, node.name):
            self.by_name(row["coordinator"]).csv("move", "vol1", "--to", node.name)
        return row is not None and row["coordinator"] == node.name

    def dies(self, node):
        """Its power fails. Returns the others."""
        node.kept = False
        self.net.node(node.number).kill()
        return [n for n in self.nodes if n is not node]

    def test_keys_of_all_volumes_are_a_proof_unless_a_vm_writes_elsewhere(self):
        n1 = self.nodes[0]
        for node in self.nodes:
            self.wait(lambda n=node: n.members().get("run"), "it is told")
        n1.godwit("csv", "create", "vol1", "--device", str(self.device))
        self.served(self.nodes)
        volume = n1.state / "csv" / "vol1"
        for name in ("web1.raw", "web2.raw"):
            self.wait(lambda n=name: n1.has(n), f"there is {name}")
        elsewhere = self.state / "elsewhere.raw"
        elsewhere.write_bytes(bytes(MIB))
        for made in (self.define("web1", volume / "web1.raw", "--disk", f"{elsewhere},format=raw"),
                     self.define("web2", volume / "web2.raw")):
            self.assertEqual(made.returncode, 0, made.stderr)

        # It writes elsewhere as well: keys prove nothing, so none is taken, and it waits for a person.
        self.all_say(level="preempt-and-abort", proof="aborted")
        lost = self.runs_somewhere("web1")
        rest = self.dies(lost)
        self.explained(rest[0], "web1", "storage proves nothing: web1 writes to more than shared volumes")
        self.assertEqual(self.vm_state(rest[0], "web1"), "fencing")
        self.assertEqual([n.told["asked"] for n in self.nodes], [[], [], []])
        rest[0].godwit("node", "confirm", lost.name, "--off")
        self.wait(lambda: self.vm_state(rest[0], "web1") == "online", "web1 is online")
        self.by_name(rest[0].vm("web1")["node"]).godwit("vm", "stop", "web1", "--off")

        # It is back. Another node dies; volumes without keys prove nothing.
        self.all_say(level="none")
        lost.process.wait(cluster.WAIT_S)
        lost.start()
        lost.kept = True
        self.served(self.nodes)
        lost = self.runs_somewhere("web2")
        self.wait(lambda: self.coordinates(lost), "its volume has to be somebody else's, too")
        self.served(self.nodes, lost.name)
        rest = self.dies(lost)
        self.explained(rest[0], "web2", "storage proves nothing: no keys to take away on volume vol1 here")

        # They have some by now, but the lost node has none there: that proves nothing either.
        self.all_say(level="preempt-and-abort", proof="absent")
        self.explained(rest[0], "web2", "preempt volume 1 failed")
        self.assertEqual(self.vm_state(rest[0], "web2"), "fencing")

        # And now it had one.
        self.all_say(proof="aborted")
        self.wait(lambda: self.vm_state(rest[0], "web2") == "online", "web2 is online")
        asked = rest[0].told["asked"]
        self.assertEqual({(a["id"], a["run"] >> 16) for a in asked}, {(lost.number, asked[0]["run"] >> 16)})
        print("# " + self.spans(rest[0].log()), file=sys.stderr)
        events = rest[0].godwit("event", "list").stdout
        self.assertRegex(events, r"node.fenced .*proven stopped by: storage")
        self.assertRegex(events, r"fence.tried .*it has no key there")
        self.assertRegex(events, r"fence.tried .*what it had sent is aborted")
        flight = json.loads(rest[0].godwit("node", "flight", "--json").stdout)
        fenced = [r for r in flight["records"] if r[1] == "fenced" and r[2] == lost.number]
        self.assertEqual(fenced[-1][3], 1, fenced)
        self.assertGreater(fenced[-1][4], 0)
        self.assertRegex(rest[0].godwit("node", "flight", "--all").stdout, rf"fenced +node {lost.number} +by storage, after ")


if __name__ == "__main__":
    reason = gwnet.why_not()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        reason = reason or "/dev/kvm cannot be used"
    if reason:
        print(f"skipped: {reason}")
        sys.exit(77)
    unittest.main(verbosity=2)

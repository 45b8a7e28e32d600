#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shared volumes of a cluster: three nodes with corosync, godwitd and godwit-csvd, and one file as their LUN."""
import http.client
import json
import pathlib
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import cluster_service_test as service  # noqa: E402
import csvd_test as csvd  # noqa: E402
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
            self.wait(lambda n=node: n.members().get("run"), "it is told")
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

        # No more of it.
        n3.godwit("csv", "evict", "vol1")
        for node in self.nodes:
            self.wait(lambda n=node: n.ask_csvd("GET", "/v1/volumes")["volumes"] == [], "it is left")
        check = subprocess.run([service.BIN / "godwit", "csv", "check", self.device, "--json"], capture_output=True,
                               text=True, check=False)
        self.assertEqual(check.returncode, 0, check.stdout + check.stderr)
        self.assertEqual(json.loads(check.stdout)["files"], len(names))


if __name__ == "__main__":
    reason = gwnet.why_not()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(77)
    unittest.main(verbosity=2)

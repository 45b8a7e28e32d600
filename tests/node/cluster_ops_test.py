#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an operator does with a cluster: who may speak, certificates that are renewed, copies of the database."""
import contextlib
import json
import pathlib
import shutil
import sqlite3
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwnet  # noqa: E402
import ha_service_test  # noqa: E402
from cluster_service_test import Case, Client, WAIT_S  # noqa: E402

PKI = sys.argv.pop(1) if len(sys.argv) > 1 and "pki_print" in sys.argv[1] else None


class Trust(Case):
    LINKS = 1

    def once(self, node, folder, addr):
        client = Client(node, folder, addr)
        try:
            return client.get()
        finally:
            client.end()

    def bundle(self, node, name):
        """What cert issue makes, as a folder."""
        out = self.state / f"bundle-{name}"
        out.mkdir()
        text = node.ask("cert", "issue", name)
        for file, member in (("node.pem", "node_pem"), ("node.key", "node_key"), ("ca.pem", "ca_pem")):
            (out / file).write_text(text[member])
        return out

    def test_who_was_evicted_is_out_at_once(self):
        self.form()
        n1, n2, n3 = self.nodes
        addr = "10.77.0.1"
        old = self.state / "n3-kept"
        shutil.copytree(n3.state / "cert", old)
        kept = Client(n3, old, addr)
        self.addCleanup(kept.end)
        self.assertEqual(kept.get(), "200")
        # A certificate of the CA is not enough: the name must be a node's, the key must be that node's.
        for name in ("n2", "n9"):
            self.assertNotEqual(self.once(n3, self.bundle(n3, name), addr), "200", name)
        n2.godwit("node", "evict", "n3")
        gwnet.wait_for(lambda: kept.get() != "200", WAIT_S, "an open connection is closed or refused")
        self.assertNotEqual(self.once(n3, old, addr), "200")
        # It comes back with another key: the old one stays out.
        gwnet.wait_for(lambda: not n3.status()["present"], WAIT_S, "n3 knows")
        n3.add(n2.token("n3"))  # any node admits
        for node in self.nodes:
            node.active(3)
        self.assertEqual(self.once(n3, n3.state / "cert", addr), "200")
        self.assertNotEqual(self.once(n3, old, addr), "200")
        # Nothing waits for admission: nobody listens.
        for node in self.nodes:
            gwnet.wait_for(lambda node=node: not node.node.run("ss", "-Hltn", "sport = :7444").stdout, WAIT_S,
                           f"{node.name}: admissions closed")
        # The one that formed the cluster is lost with its CA: the others go on admitting.
        n1.stop()
        self.net.node(1).stop()
        n2.active(2)
        n2.godwit("node", "evict", "n1")
        n2.active(2)
        shutil.rmtree(n1.state)
        n1.start().add(n3.token("n1"))
        for node in self.nodes:
            node.active(3)
        self.equal()
        for node in self.nodes:
            self.assertNotIn("PRIVATE KEY", node.log())
            self.assertNotIn(b"PRIVATE KEY", (node.state / "cluster/db.sqlite").read_bytes())

    def test_certificates_are_renewed(self):
        self.form()
        n1, n2, _ = self.nodes
        before = n2.ask("cert", "show")
        old = self.state / "n2-kept"
        shutil.copytree(n2.state / "cert", old)
        self.assertEqual(self.once(n2, old, "10.77.0.1"), "200")
        gwnet.wait_for(lambda: n2.godwit("cert", "renew", check=False).returncode == 0, WAIT_S, "renewed")
        after = n2.ask("cert", "show")
        self.assertNotEqual(before["serial"], after["serial"])
        gwnet.wait_for(lambda: self.once(n2, old, "10.77.0.1") != "200", WAIT_S, "the old key is out")
        self.assertEqual(self.once(n2, n2.state / "cert", "10.77.0.1"), "200")
        self.equal()
        # Two thirds of the time are over: it renews by itself.
        n2.stop()
        cert = n2.state / "cert"
        aged = subprocess.run([PKI, "n2", cert / "ca.pem", n1.state / "cert/ca.key", cert / "node.key", "600"],
                              capture_output=True, text=True, check=True).stdout
        (cert / "node.pem").write_text(aged)
        n2.start()
        gwnet.wait_for(lambda: not n2.ask("cert", "show")["renew_due"], WAIT_S, "renewed by itself")
        self.assertNotEqual((cert / "node.pem").read_text(), aged)
        gwnet.wait_for(lambda: len(n1.ask("node", "show", "n2")["keys"]) == 1, WAIT_S, "one key again")
        for node in self.nodes:
            node.active(3)
        self.equal()


class Backup(Case):
    LINKS = 1
    COUNT = 2

    def vms(self, node):
        return {vm["name"] for vm in node.ask("vm", "list")["vms"]}

    def vm(self, name, *words):
        self.nodes[0].godwit("vm", "create", name, "--ha", "--memory", "64M", "--kernel", sys.executable, *words)

    def test_the_database_goes_back_to_what_it_was(self):
        self.form()
        n1, n2 = self.nodes
        self.vm("web1", "--priority", "high")
        self.vm("web2")
        file = self.state / "backup.json"
        n1.godwit("cluster", "backup", str(file))
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        copy = json.loads(file.read_text())
        self.assertEqual({o["key"] for o in copy["objects"] if o["kind"] == "vm"}, {"web1", "web2"})
        self.assertNotIn("PRIVATE KEY", file.read_text())
        # Something goes, something comes, something changes.
        n2.godwit("vm", "remove", "web2")
        self.vm("web3")
        n1.godwit("vm", "remove", "web1")
        self.vm("web1", "--priority", "low")
        gwnet.wait_for(lambda: self.vms(n2) == {"web1", "web3"}, WAIT_S, "n2 knows")
        self.assertEqual(n2.ask("cluster", "restore", str(file), "--dry-run")["changed"], 3)
        self.assertEqual(self.vms(n2), {"web1", "web3"})
        self.assertEqual(n2.ask("cluster", "restore", str(file))["changed"], 3)
        for node in self.nodes:
            gwnet.wait_for(lambda node=node: self.vms(node) == {"web1", "web2"}, WAIT_S, f"{node.name}: as it was")
        self.assertEqual(n2.ask("cluster", "restore", str(file))["changed"], 0)
        again = self.state / "again.json"
        n2.godwit("cluster", "backup", str(again))
        self.assertEqual(*[[o for o in json.loads(f.read_text())["objects"] if o["kind"] == "vm"]
                           for f in (file, again)])
        self.equal()
        # What is no backup, or another cluster's.
        other = self.state / "other.json"
        other.write_text(json.dumps({**copy, "cluster": "11111111-2222-3333-4444-555555555555"}))
        self.assertIn("another cluster", n1.godwit("cluster", "restore", str(other), check=False).stderr)
        self.assertEqual(n1.ask("cluster", "restore", str(other), "--force")["changed"], 0)
        for text in ("{}", "[]", "{", file.read_text()[:-20], json.dumps({**copy, "format": 2}),
                     json.dumps({**copy, "objects": [{"kind": "vm", "key": "/", "doc": {}}]})):
            other.write_text(text)
            self.assertEqual(n1.godwit("cluster", "restore", str(other), check=False).returncode, 1, text[:40])
        self.assertEqual(self.vms(n1), {"web1", "web2"})
        # Without a majority nothing is given back.
        n2.stop()
        self.net.node(2).stop()
        gwnet.wait_for(lambda: n1.status()["state"] == "off", WAIT_S, "n1 is alone")
        self.assertIn("no quorum", n1.godwit("cluster", "restore", str(file), check=False).stderr)
        n1.godwit("cluster", "backup", str(again))
        self.assertTrue(json.loads(again.read_text())["stale"])


class Level(Case):
    LINKS = 1

    def raised(self, node, level):
        gwnet.wait_for(lambda: node.status()["level"] == level, WAIT_S, f"{node.name} is at level {level}")

    def refused(self, *words):
        done = self.nodes[0].godwit(*words, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def test_what_older_nodes_do_not_understand_waits_for_the_level(self):
        self.form()
        n1, _, n3 = self.nodes
        for node in self.nodes:  # a database that the first version made
            node.stop()
            with contextlib.closing(sqlite3.connect(node.state / "cluster/db.sqlite")) as db, db:
                mark, = db.execute("SELECT value FROM meta WHERE key = CAST('mark' AS BLOB)").fetchone()
                self.assertEqual(mark[32:36], (2).to_bytes(4, "little"))
                db.execute("UPDATE meta SET value = ? WHERE key = CAST('mark' AS BLOB)",
                           (mark[:32] + (1).to_bytes(4, "little") + mark[36:],))
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.active(3)
            self.assertEqual((node.status()["level"], node.status()["level_max"]), (1, 2))
        made = ("--ha", "--memory", "64M", "--kernel", sys.executable)
        n1.godwit("vm", "create", "db1", *made)
        for words in (("vm", "create", "web1", *made, "--start-after", "db1"),
                      ("vm", "set", "db1", "--objective", "restart-within=1h"),
                      ("cluster", "set", "--detect", "2s")):
            said = self.refused(*words)
            self.assertIn(f"{words[-2]} needs functional level 2, the cluster is at 1", said)
            self.assertIn("godwit cluster upgrade", said)
        self.assertIn("1 of 2; godwit cluster upgrade", n1.godwit("cluster", "status").stdout)
        n1.godwit("vm", "set", "db1", "--priority", "high")  # what the first version knew
        # Nobody knows what a node that is away could understand.
        n3.stop()
        self.assertIn("n3 is not here", gwnet.wait_for(
            lambda: (said := self.refused("cluster", "upgrade")) and "n3" in said and said, WAIT_S, "it is missed"))
        self.assertEqual(n1.status()["level"], 1)
        n3.start()
        for node in self.nodes:
            node.active(3)
        self.assertEqual(n3.ask("cluster", "upgrade")["level"], 2)
        for node in self.nodes:
            self.raised(node, 2)
        n1.godwit("cluster", "upgrade")  # it is already
        n1.godwit("vm", "create", "web1", *made, "--start-after", "db1")
        n1.godwit("vm", "set", "db1", "--objective", "restart-within=1h")
        self.equal()


class BackupBusy(ha_service_test.Case):
    COUNT = 2

    def test_not_while_a_vm_runs(self):
        n1, n2 = self.nodes
        self.define("web1")
        n1.godwit("vm", "start", "web1")
        self.online("web1", n2)
        file = self.state / "backup.json"
        n1.godwit("cluster", "backup", str(file))
        done = n2.godwit("cluster", "restore", str(file), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("VM web1 is online", done.stderr)
        n1.godwit("vm", "stop", "web1", "--off")
        self.until("web1", n2, "offline")
        self.assertEqual(n2.ask("cluster", "restore", str(file))["changed"], 0)


if __name__ == "__main__":
    gwnet.main()

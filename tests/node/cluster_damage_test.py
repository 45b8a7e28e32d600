#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What lies on a node's disk is wrong: refused and fetched from the others, or found by what it leads to."""
import contextlib
import json
import pathlib
import signal
import sqlite3
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwnet  # noqa: E402
from cluster_service_test import Case, WAIT_S  # noqa: E402

PAGE = 4096


def files(node):
    return node.state / "cluster"


@contextlib.contextmanager
def database(node):
    """The file of a node that is down, with all that is in its log."""
    db = sqlite3.connect(files(node) / "db.sqlite")
    try:
        yield db
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close()


class Damage(Case):
    LINKS = 1
    DETECT = "500ms"

    def test_a_damaged_database_comes_from_the_others(self):
        self.form()
        n1, n2, n3 = self.nodes
        # Also the node that made the cluster, whose file once began with itself alone.
        for node in (n3, n1):
            node.stop(signal.SIGKILL)
            n2.active(2)
            with database(node):
                pass
            path = files(node) / "db.sqlite"
            with open(path, "r+b") as db:
                for page in range(1, path.stat().st_size // PAGE):
                    db.seek(page * PAGE)
                    db.write(b"x" * 64)
            n2.godwit("cert", "renew")
            node.start()
            for one in self.nodes:
                one.active(3)
            self.assertIn("database damaged", node.log())
            self.assertEqual(len(list(files(node).glob("db.sqlite.damaged-*"))), 1)
            self.equal()

    def test_who_does_something_else_with_the_log_stops(self):
        self.form()
        n1, n2, _ = self.nodes
        n2.stop(signal.SIGKILL)
        n1.active(2)
        # What the objects of the tables began with is other than elsewhere: nothing that their form would show.
        with database(n2) as db:
            changed = 0
            for key, value in db.execute("SELECT key, value FROM pair").fetchall():
                if key[:1] == b"m" and value[24:25] == b"{":
                    created, = struct.unpack_from("<Q", value, 8)
                    other = value[:8] + struct.pack("<Q", created + 1) + value[16:]
                    db.execute("UPDATE pair SET value = ? WHERE key = ?", (other, key))
                    changed += 1
            self.assertGreater(changed, 3)
        n2.start()
        n2.active(3)
        check = n1.godwit("cluster", "check", "--json", check=False)
        self.assertEqual((check.returncode, json.loads(check.stdout)["verdict"]), (1, "different"))
        for node in self.nodes:
            if node.status()["state"] != "halted":
                node.godwit("cert", "renew", check=False)
        gwnet.wait_for(lambda: n2.status()["state"] == "halted", WAIT_S, "n2 stops")
        self.assertIn("entries did something else here than at the majority", n2.log())
        for node in (self.nodes[0], self.nodes[2]):
            node.active(2)
        # Its copy goes; it gets the others'.
        n2.stop(signal.SIGKILL)
        for path in files(n2).glob("db.sqlite*"):
            path.unlink()
        n2.start()
        for node in self.nodes:
            node.active(3)
        self.equal()


if __name__ == "__main__":
    gwnet.main()

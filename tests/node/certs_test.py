#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`godwit cert` and `godwit job`: two services become known to each other, strangers are refused."""
import http.client
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from programs_test import BIN, DEADLINE_S, Daemon  # noqa: E402


def free_port():
    """A TCP port of loopback that nobody has now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Node:
    """godwitd with a directory and a port of its own."""

    def __init__(self, case, name):
        self.root = tempfile.TemporaryDirectory(prefix="godwit-certs-")
        case.addCleanup(self.root.cleanup)
        self.name, self.port, self.case = name, free_port(), case
        self.daemon = None
        self.start()
        case.addCleanup(self.stop)

    def start(self):
        self.daemon = Daemon(self.root.name, "--listen", "127.0.0.1", "--port", str(self.port)).wait_ready()

    def stop(self):
        self.daemon.stop()

    def godwit(self, *words, stdin=None):
        return subprocess.run([BIN / "godwit", "--host", f"unix://{self.daemon.socket}", *words], input=stdin,
                              capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def ok(self, *words):
        done = self.godwit(*words)
        self.case.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def file(self, name):
        return pathlib.Path(self.root.name) / "state/cert" / name


def ask(port, name, ca, cert=None, key=None, path="/v1/version", method="GET"):
    """GET over TLS; returns (status, body)."""
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if cert:
        context.load_cert_chain(cert, key)
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as raw:
        with context.wrap_socket(raw, server_hostname=name) as tls:
            connection = http.client.HTTPConnection(name, timeout=DEADLINE_S)
            connection.sock = tls
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())


class Certs(unittest.TestCase):
    def setUp(self):
        self.n1, self.n2 = Node(self, "n1"), Node(self, "n2")

    def test_two_nodes_get_to_know_each_other(self):
        self.assertIn("no certificate yet", self.n1.godwit("cert", "show").stderr)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.n1.port), 5)
        self.n1.ok("cert", "init", "n1", "--name", "lab")
        shown = json.loads(self.n1.ok("cert", "show", "--json"))
        self.assertEqual((shown["node"], shown["authority"], shown["port"]), ("n1", True, self.n1.port))

        bundle = pathlib.Path(self.n1.root.name) / "n2.cert"
        self.n1.ok("cert", "issue", "n2", "--out", str(bundle))
        self.assertEqual(bundle.stat().st_mode & 0o777, 0o600)
        self.n2.ok("cert", "install", str(bundle))
        self.assertFalse(json.loads(self.n2.ok("cert", "show", "--json"))["authority"])
        for node in (self.n1, self.n2):
            self.assertEqual(node.file("node.key").stat().st_mode & 0o777, 0o600)

        # Each serves the other, and nobody without a certificate of this CA.
        for here, there in ((self.n1, self.n2), (self.n2, self.n1)):
            status, body = ask(there.port, there.name, here.file("ca.pem"), here.file("node.pem"),
                               here.file("node.key"))
            self.assertEqual((status, body["api"]), (200, 1))
        with self.assertRaises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            ask(self.n1.port, "n1", self.n1.file("ca.pem"))
        # What makes identities is for the node itself only.
        status, body = ask(self.n1.port, "n1", self.n2.file("ca.pem"), self.n2.file("node.pem"),
                           self.n2.file("node.key"), "/v1/certs/issue", "POST")
        self.assertEqual((status, body["error"]["code"]), (403, "denied"))

    def test_an_identity_outlives_the_service(self):
        self.n1.ok("cert", "init", "n1")
        before = self.n1.ok("cert", "show", "--json")
        self.n1.stop()
        self.n1.start()
        self.assertEqual(self.n1.ok("cert", "show", "--json"), before)
        self.assertEqual(ask(self.n1.port, "n1", self.n1.file("ca.pem"), self.n1.file("node.pem"),
                             self.n1.file("node.key"))[0], 200)

    def test_what_is_wrong_is_refused_and_changes_nothing(self):
        for words, text in ((("cert", "init", "a b"), "cannot be a name"),
                            (("cert", "issue", "n2"), "does not hold the key of the CA"),
                            (("cert", "install", "/nonexistent"), "/nonexistent"),
                            (("job", "show", "7"), "there is no job 7"),
                            (("job", "watch", "x"), "no job's number")):
            done = self.n1.godwit(*words)
            self.assertEqual(done.returncode, 1, words)
            self.assertIn(text, done.stderr, words)
        self.assertFalse(json.loads(self.n1.ok("cert", "show", "--json"))["present"])

        self.n1.ok("cert", "init", "n1")
        done = self.n1.godwit("cert", "init", "n1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("already is n1", done.stderr)

        bundle = json.loads(self.n1.ok("cert", "issue", "n2"))
        other = json.loads(self.n1.ok("cert", "issue", "n3"))
        path = pathlib.Path(self.n2.root.name) / "bundle"
        for damaged in ({**bundle, "node": "n9"}, {**bundle, "node_key": other["node_key"]},
                        {**bundle, "node_pem": other["node_pem"]}, {**bundle, "ca_pem": "x"},
                        {k: v for k, v in bundle.items() if k != "node_key"}):
            path.write_text(json.dumps(damaged), encoding="utf-8")
            done = self.n2.godwit("cert", "install", str(path))
            self.assertEqual(done.returncode, 1, damaged.keys())
            self.assertTrue(done.stderr)
            self.assertFalse(self.n2.file("node.pem").exists())

    def test_no_job_yet(self):
        self.assertEqual(json.loads(self.n1.ok("job", "list", "--json")), {"jobs": []})


if __name__ == "__main__":
    os.environ.setdefault("PATH", "/usr/bin:/bin")
    unittest.main(verbosity=2)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clusters of real node services: one godwitd with its corosync per namespace, formed by commands alone."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwnet  # noqa: E402

BIN = pathlib.Path(os.environ["GW_BUILD"]) / "bin"
WAIT_S = 60.0

CLIENT = """
import http.client, ssl, sys
cert, key, ca, addr = sys.argv[1:5]
ctx = ssl.create_default_context(cafile=ca)
ctx.check_hostname = False
ctx.load_cert_chain(cert, key)
conn = http.client.HTTPSConnection(addr, int(sys.argv[5]), context=ctx, timeout=20)
for line in sys.stdin:
    try:
        conn.request(*line.split())
        answer = conn.getresponse()
        answer.read()
        print(answer.status, flush=True)
    except (OSError, http.client.HTTPException) as e:
        print("cut", type(e).__name__, flush=True)
        conn.close()
        conn.auto_open = 0
"""


class Node:
    """godwitd in a node of the fixture, with directories of its own."""
    EXTRA = ()

    def __init__(self, cluster, number, state):
        self.node = cluster.node(number)
        self.name, self.number = f"n{number}", number
        self.addrs = ",".join(cluster.config.address(number, link) for link in range(cluster.config.links))
        self.state, self.run_dir = state / self.name, self.node.dir / "godwit"
        self.socket = self.run_dir / "api.sock"
        self.log_path = state / f"{self.name}.log"
        self.process = None
        self.node.run("rm", "-f", "/etc/corosync/corosync.conf", "/etc/corosync/authkey")

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = self.node.popen(
                str(BIN / "godwitd"), "--foreground", "--run-dir", str(self.run_dir), "--state-dir", str(self.state),
                "--corosync", "direct", "--group", "root", "--worker-uid-base", "0", *map(str, self.EXTRA),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        gwnet.wait_for(lambda: self.ended() or self.godwit("cluster", "status", check=False).returncode == 0, WAIT_S,
                       f"{self.name}: godwitd answers")
        return self

    def ended(self):
        if self.process.poll() is not None:
            raise gwnet.Error(f"{self.name}: godwitd ended with {self.process.returncode}\n{self.log()}")
        return False

    def stop(self, signo=signal.SIGTERM):
        """Ends the service only; corosync goes on."""
        if self.process is not None:
            self.signal(signo)
            self.process.wait(WAIT_S)
            self.process = None

    def signal(self, signo):
        """To the service itself: what popen() started is what runs it."""
        proc = self.node.find("godwitd")
        if proc is not None:
            proc.signal(signo)
            proc.close()
        if signo == signal.SIGCONT:
            self.process.send_signal(signo)  # nsenter stops with what it started

    def corosync(self):
        """Its number, or None."""
        proc = self.node.corosync()
        if proc is None:
            return None
        proc.close()
        return proc.pid

    def log(self):
        return self.log_path.read_text(errors="replace")

    def godwit(self, *words, check=True):
        # From outside: a socket below the directory of the fixture can be used from here.
        done = subprocess.run([BIN / "godwit", "--host", f"unix://{self.socket}", *words], capture_output=True,
                              text=True, timeout=150, check=False)
        if check and done.returncode != 0:
            raise gwnet.Error(f"{self.name}: godwit {' '.join(map(str, words))}: {done.returncode}: {done.stderr}")
        return done

    def ask(self, *words):
        return json.loads(self.godwit(*words, "--json").stdout)

    def status(self):
        return self.ask("cluster", "status")

    def active(self, votes):
        """Waits until this node is in a primary view with that many votes, and all its nodes are settled."""
        def good():
            s = self.status()
            return s.get("state") == "active" and s["votes"] == votes and s["votes_total"] >= votes \
                and s["waiting_for"] is None and s
        try:
            return gwnet.wait_for(good, WAIT_S, f"{self.name}: active with {votes} votes")
        except gwnet.Timeout as e:
            raise gwnet.Timeout(f"{e}; it says {self.status()}\n{self.log()[-3000:]}") from None

    def token(self, name):
        return self.ask("node", "token", name)["token"]

    def add(self, token, *words, check=True):
        return self.godwit("node", "add", self.name, "--addr", self.addrs, "--token", token, *words, check=check)


class Client:
    """One connection to the API of another node, from inside a node, kept open."""

    def __init__(self, node, folder, addr, port=7443):
        self.process = node.node.popen(
            sys.executable, "-c", CLIENT, *(str(folder / f) for f in ("node.pem", "node.key", "ca.pem")), addr,
            str(port), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def ask(self, method, path):
        """The status, or "cut ..."."""
        self.process.stdin.write(f"{method} {path}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def get(self, path="/v1/cluster"):
        return self.ask("GET", path)

    def end(self):
        self.process.stdin.close()
        self.process.wait(WAIT_S)
        self.process.stdout.close()


class Case(unittest.TestCase):
    COUNT = 3
    LINKS = 2
    DETECT = "1s"
    NODE = Node

    def setUp(self):
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="gwcluster"))
        self.addCleanup(shutil.rmtree, self.state)
        self.net = gwnet.Cluster(nodes=self.COUNT, links=self.LINKS)
        self.addCleanup(self.net.destroy)
        self.nodes = [self.NODE(self.net, n, self.state).start() for n in range(1, self.COUNT + 1)]
        self.addCleanup(self.end)

    def end(self):
        for node in self.nodes:
            if os.environ.get("GW_SHOW"):
                print(f"--- {node.name}\n{node.log()[-4000:]}", file=sys.stderr)
            node.stop(signal.SIGKILL)

    def create(self):
        words = [w for n in self.nodes for w in ("--node", f"{n.name}={n.addrs}")]
        return self.nodes[0].ask("cluster", "create", "lab", "--detect", self.DETECT, *words)

    def form(self):
        """All nodes, by what create prints."""
        invited = {one["name"]: one for one in self.create()["invited"]}
        for node in self.nodes[1:]:
            self.assertEqual(",".join(invited[node.name]["addrs"]), node.addrs)
            node.add(invited[node.name]["token"])
        for node in self.nodes:
            node.active(len(self.nodes))

    def equal(self):
        def good():
            check = json.loads(self.nodes[0].godwit("cluster", "check", "--json", check=False).stdout or "{}")
            self.assertNotEqual(check.get("verdict"), "different", check)
            return check.get("verdict") == "equal" and check  # not yet: a node that has just come back
        check = gwnet.wait_for(good, WAIT_S, "the copies are equal")
        self.assertEqual(len(check["nodes"]), len(self.nodes))


class Life(Case):
    def test_nodes_form_a_cluster_and_see_it(self):
        first = self.nodes[0]
        self.assertIn("in no cluster", first.godwit("cluster", "status").stderr)
        self.assertEqual(first.godwit("node", "list", check=False).returncode, 1)
        self.form()
        seen = [n.status() for n in self.nodes]
        self.assertEqual({s["uuid"] for s in seen}, {seen[0]["uuid"]})
        self.assertEqual({(s["epoch"], s["leader"]) for s in seen}, {(seen[0]["epoch"], seen[0]["leader"])})
        for node, s in zip(self.nodes, seen):
            self.assertEqual((s["node"], s["stale"], s["quorate"], s["votes_needed"]), (node.name, False, True, 2))
            self.assertEqual([(n["name"], n["state"], n["up"], n["votes"]) for n in s["nodes"]],
                             [(n.name, "member", True, 1) for n in self.nodes])
        self.assertEqual(len({n["incarnation"] for n in seen[0]["nodes"]}), 3)
        q = self.net.node(2).quorum()
        self.assertEqual((q.quorate, q.votes, q.expected), (True, 3, 3))
        self.equal()
        # What was done already is not done again.
        again = self.create()
        self.assertEqual(again["invited"], [])
        self.assertEqual(again["uuid"], seen[0]["uuid"])
        self.assertEqual(self.nodes[1].ask("quorum", "show")["votes"], 3)
        self.assertIn("10.77.1.2", self.nodes[2].godwit("node", "show", "n2").stdout)

        # A minority is stale and refuses; healed, it is as the others.
        self.net.split([1, 2], [3])
        gwnet.wait_for(lambda: self.nodes[2].status()["state"] == "off", WAIT_S, "n3 is alone")
        gone = self.nodes[2].ask("node", "list")
        self.assertEqual((gone["stale"], len(gone["nodes"])), (True, 3))
        self.assertIn("stale", self.nodes[2].godwit("cluster", "status").stdout)
        self.assertEqual(self.nodes[2].godwit("node", "evict", "n2", check=False).returncode, 1)
        self.nodes[0].active(2)
        self.assertEqual(self.nodes[0].godwit("cluster", "check", check=False).returncode, 3)
        self.net.heal()
        for node in self.nodes:
            node.active(3)
        self.equal()

        # Its corosync dies: godwitd starts it again. godwitd dies: the others lose one vote for a while.
        before = {n["name"]: n["incarnation"] for n in self.nodes[0].status()["nodes"]}
        killed = self.nodes[1].corosync()
        os.kill(killed, signal.SIGKILL)
        gwnet.wait_for(lambda: self.nodes[1].corosync() not in (None, killed), WAIT_S, "corosync again")
        for node in self.nodes:
            node.active(3)
        self.nodes[2].stop(signal.SIGKILL)
        self.nodes[0].active(2)
        self.nodes[2].start().active(3)
        after = {n["name"]: n["incarnation"] for n in self.nodes[0].active(3)["nodes"]}
        self.assertEqual(before["n1"], after["n1"])
        self.assertNotEqual(before["n3"], after["n3"])
        self.equal()

    def test_members_leave_and_come_back(self):
        self.form()
        # In good order: it knows that it is out.
        self.nodes[0].godwit("node", "evict", "n3")
        gwnet.wait_for(lambda: not self.nodes[2].status()["present"], WAIT_S, "n3 knows")
        gwnet.wait_for(lambda: self.nodes[2].corosync() is None, WAIT_S, "its corosync has ended")
        self.assertEqual([n["name"] for n in self.nodes[0].active(2)["nodes"]], ["n1", "n2"])
        self.nodes[1].active(2)
        q = self.net.node(1).quorum()
        self.assertEqual((q.members, q.expected), ((1, 2), 2))
        # Back, as somebody new.
        self.nodes[2].add(self.nodes[0].token("n3"))
        for node in self.nodes:
            node.active(3)
        self.assertEqual([n["nodeid"] for n in self.nodes[0].status()["nodes"]], [1, 2, 4])
        self.equal()
        # Its disk is lost: evicted while it is down, it joins again.
        self.nodes[1].stop(signal.SIGKILL)
        self.net.node(2).stop()
        self.nodes[0].active(2)
        self.assertEqual(self.nodes[0].godwit("node", "token", "n2", check=False).returncode, 1)
        self.nodes[0].godwit("node", "evict", "n2")
        self.nodes[0].active(2)
        shutil.rmtree(self.nodes[1].state)
        self.nodes[1].start().add(self.nodes[0].token("n2"))
        for node in self.nodes:
            node.active(3)
        self.equal()
        # The cluster is no more.
        self.assertIn("3 nodes", self.nodes[0].godwit("cluster", "remove", check=False).stderr)
        for name, text in (("n1", "cannot evict itself"), ("n9", "no node n9")):
            self.assertIn(text, self.nodes[0].godwit("node", "evict", name, check=False).stderr)
        self.nodes[0].godwit("node", "evict", "n2")
        self.nodes[0].godwit("node", "evict", "n3")
        self.nodes[0].active(1)
        self.nodes[0].godwit("cluster", "remove")
        self.assertFalse(self.nodes[0].status()["present"])
        gwnet.wait_for(lambda: self.nodes[0].corosync() is None, WAIT_S, "corosync has ended")


class Hard(Case):
    """What goes wrong on the way."""

    def test_tokens_are_for_one_node_once(self):
        self.nodes = self.nodes[:3]
        n1, n2, n3 = self.nodes
        invited = {one["name"]: one["token"] for one in self.create()["invited"]}
        # Another name's, a wrong secret, another key's pin, no token at all.
        self.assertIn("not for node n3", n3.add(invited["n2"], check=False).stderr)
        pin, rest = invited["n3"].split(".", 1)
        wrong = ("0" if rest[0] != "0" else "1") + rest[1:]
        self.assertIn("not for node n3", n3.add(f"{pin}.{wrong}", check=False).stderr)
        bent = ("A" if pin[0] != "A" else "B") + pin[1:]
        done = n3.add(f"{bent}.{rest}", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("pinned", done.stderr.lower())
        self.assertIn("no token", n3.add("x", check=False).stderr)
        self.assertIn("no address of this host", n3.godwit("node", "add", "n3", "--addr", "10.77.0.99", "--token",
                                                           invited["n3"], check=False).stderr)
        self.assertFalse(n3.status()["present"])
        n2.add(invited["n2"])
        # Used: not for another key, even under the same name.
        state = n2.state
        n2.stop()
        self.net.node(2).stop()
        shutil.rmtree(state)
        n2.start()
        self.assertIn("was used", n2.add(invited["n2"], check=False).stderr)
        # No secret in the logs.
        secret = rest.split("@")[0]
        for node in self.nodes:
            self.assertNotIn(secret, node.log())

    def test_a_service_killed_on_the_way_goes_on(self):
        n1, n2, _ = self.nodes
        words = ["cluster", "create", "lab", "--node", f"n1={n1.addrs}", "--node", f"n2={n2.addrs}"]
        first = subprocess.Popen([BIN / "godwit", "--host", f"unix://{n1.socket}", *words],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        gwnet.wait_for((n1.state / "cluster/cluster.json").exists, WAIT_S, "create has begun")
        n1.stop(signal.SIGKILL)
        first.wait(WAIT_S)
        n1.start()
        token = n1.ask(*words)["invited"][0]["token"]
        # The new node dies when it has asked: it asks again by itself.
        n1.signal(signal.SIGSTOP)
        first = subprocess.Popen([BIN / "godwit", "--host", f"unix://{n2.socket}", "node", "add", "n2", "--addr",
                                  n2.addrs, "--token", token], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        gwnet.wait_for((n2.state / "join.json").exists, WAIT_S, "add has begun")
        n2.stop(signal.SIGKILL)
        first.wait(WAIT_S)
        n1.signal(signal.SIGCONT)
        n2.start()
        n2.active(2)
        n2.add(token)  # the command again finds it done
        n1.active(2)
        self.assertFalse((n2.state / "join.json").exists())
        self.assertEqual([n["name"] for n in n1.status()["nodes"]], ["n1", "n2"])


class Away(Case):
    COUNT = 4

    def test_a_node_that_was_away_learns_who_is_there(self):
        n1, _, n3, _ = self.nodes
        self.form()
        # n3 is away while n4 goes: its corosync.conf is old when it comes back.
        n3.stop(signal.SIGKILL)
        self.net.node(3).stop()
        n1.active(3)
        n1.godwit("node", "evict", "n4")
        self.nodes.pop().stop()
        # Without n2 only one of two would be here.
        n1.active(2)
        self.assertIn("no majority", n1.godwit("node", "evict", "n2", check=False).stderr)
        n3.start()
        for node in self.nodes:
            self.assertEqual([n["name"] for n in node.active(3)["nodes"]], ["n1", "n2", "n3"])
        self.equal()
        self.assertEqual(self.net.node(3).quorum().expected, 3)


if __name__ == "__main__":
    gwnet.main()

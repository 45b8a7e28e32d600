#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""godwit-csvd on three nodes and one device: the test is the cluster that says who is in, who coordinates, who is gone."""
import concurrent.futures
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import gwnet  # noqa: E402

BIN = pathlib.Path(os.environ["GW_BUILD"]) / "bin"
PKI = pathlib.Path(os.environ["GW_BUILD"]) / "tests/node/pki_print"
WAIT_S = 90.0
MIB = 1 << 20
# As short as the formula allows: what is waited for here is the lease.
FAST = {"renew_ms": 500, "slot_ms": 500, "lease_ms": 5000, "watchdog_ms": 2000, "install_ms": 250}


def pki(*names):
    """Certificates of a new CA for these nodes."""
    return json.loads(subprocess.run([PKI, "--nodes", *names], capture_output=True, text=True, check=True).stdout)


class Refused(Exception):
    """An error answer of the control interface."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=WAIT_S)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(self.path)


class Node:
    """godwit-csvd in a node of the fixture, with directories and a certificate of its own."""

    def __init__(self, cluster, number, state):
        self.node, self.number, self.name = cluster.node(number), number, f"n{number}"
        self.addr = cluster.config.address(number, 0)
        self.state, self.run_dir = state / self.name, self.node.dir / "csvd"
        self.socket = self.run_dir / "csvd.sock"
        self.log_path = state / f"{self.name}.log"
        self.proc = None
        self.run = 0
        (self.state / "cert").mkdir(parents=True)

    def certify(self, pki):
        for name, text, mode in (("ca.pem", pki["ca"], 0o644), ("node.pem", pki["cert"], 0o644),
                                 ("node.key", pki["key"], 0o600)):
            path = self.state / "cert" / name
            path.write_text(text)
            path.chmod(mode)

    def start(self):
        self.run += 1
        self.proc = self.node.spawn(BIN / "godwit-csvd", "--foreground", "--state-dir", self.state, "--run-dir",
                                    self.run_dir, "--listen", self.addr, "--log-level", "debug", log="csvd.log")
        gwnet.wait_for(self.answers, WAIT_S, f"{self.name}: godwit-csvd answers")
        return self

    def answers(self):
        try:
            return self.ask("GET", "/v1/members") is not None
        except OSError:
            return False

    def kill(self):
        self.proc.signal(signal.SIGKILL)
        assert self.proc.wait(WAIT_S)
        self.proc.close()
        self.proc = None

    def stop(self):
        """In order."""
        self.proc.signal(signal.SIGTERM)
        done = self.proc.wait(WAIT_S)
        self.proc.close()
        self.proc = None
        return done

    def log(self):
        return (self.node.dir / "csvd.log").read_text(errors="replace")

    def ask(self, method, path, body=None):
        connection = UnixConnection(self.socket)
        try:
            text = json.dumps(body) if body is not None else None
            connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        out = json.loads(raw) if raw else {}
        if answer.status >= 400:
            raise Refused(answer.status, out)
        return out

    def volume(self):
        return self.ask("GET", "/v1/volumes/vol1")["volume"]

    def make(self, name, size):
        self.ask("POST", "/v1/volumes/vol1/files", {"name": name, "size_bytes": size})

    def remove(self, name):
        self.ask("DELETE", f"/v1/volumes/vol1/files/{name}")

    def names(self):
        return sorted(f["name"] for f in self.ask("GET", "/v1/volumes/vol1/files")["files"])

    def godwit(self, *words):
        return subprocess.run([BIN / "godwit", "--host", f"unix://{self.socket}", *words], capture_output=True,
                              text=True, timeout=WAIT_S, check=False)


class Cluster:
    """What a cluster's database would say."""

    node_type = Node

    def __init__(self, case, nodes=3, size=256 * MIB):
        why = gwnet.why_not()
        if why:
            case.skipTest(why)
        self.case = case
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="gwcsvd", dir="/var/tmp"))
        case.addCleanup(shutil.rmtree, self.state)
        self.net = gwnet.Cluster(nodes=nodes, links=1)
        case.addCleanup(self.net.destroy)
        self.device = self.state / "lun"
        with open(self.device, "wb") as lun:
            lun.truncate(size)
        made = subprocess.run([BIN / "godwit", "csv", "create", "vol1", "--device", self.device, "--json"],
                              capture_output=True, text=True, check=True)
        self.id = json.loads(made.stdout)["id"]
        self.epoch, self.term, self.coordinator, self.quiet = 0, 1, None, True
        self.fenced, self.holders = {}, []
        self.nodes = [self.node_type(self.net, n, self.state) for n in range(1, nodes + 1)]
        bundle = pki(*[n.name for n in self.nodes])
        for node in self.nodes:
            node.certify(bundle[node.name])
        case.addCleanup(self.show)

    def show(self):
        if os.environ.get("GW_SHOW"):
            for node in self.nodes:
                print(f"--- {node.name}\n{node.log()[-6000:]}", file=sys.stderr)

    def members(self):
        return [n for n in self.nodes if n.proc is not None and self.fenced.get(n.number, 0) < n.run]

    def said(self, node):
        volume = {"name": "vol1", "device": str(self.device), "id": self.id, "term": self.term, "quiet": self.quiet,
                  "holders": [{"id": i, "run": r} for i, r in self.holders]}
        if self.coordinator is not None:
            volume["coordinator"] = self.coordinator
        return {"epoch": self.epoch, "self": node.number, "timing": FAST, "volumes": [volume],
                "members": [{"id": n.number, "name": n.name, "run": n.run, "addr": n.addr} for n in self.members()],
                "fenced": [{"id": i, "run": r} for i, r in self.fenced.items()]}

    def tell(self):
        self.epoch += 1
        for node in self.members():
            node.ask("PUT", "/v1/members", self.said(node))

    def join(self, node):
        node.start()
        self.holders.append((node.number, node.run))

    def appoint(self, number):
        self.coordinator, self.term = number, self.term + 1
        self.tell()

    def start(self, coordinator=1):
        for node in self.nodes:
            self.join(node)
        self.appoint(coordinator)
        self.settled()

    def fence(self, node):
        """It is gone, and what it had sent to the device is done or lost: the process has ended."""
        self.fenced[node.number] = node.run
        self.holders = [(i, r) for i, r in self.holders if i != node.number or r > node.run]

    def settled(self):
        def good():
            return all(n.volume()["state"] == "direct" for n in self.members())
        try:
            gwnet.wait_for(good, WAIT_S, "all nodes use the volume directly")
        except gwnet.Timeout as e:
            text = "\n".join(f"{n.name}: {n.volume()}" for n in self.members())
            raise gwnet.Timeout(f"{e}\n{text}") from None

    def node_of(self, number):
        return next(n for n in self.nodes if n.number == number)

    def check(self):
        done = subprocess.run([BIN / "godwit", "csv", "check", self.device, "--json"], capture_output=True, text=True,
                              check=False)
        self.case.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)


class Writer(threading.Thread):
    """Makes and removes files through one node, without end; keeps what was acknowledged."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.enough = node, threading.Event()
        self.have, self.doubt, self.error, self.count = set(), set(), None, 0

    def step(self, serial):
        # The number of the run as well: what the test does not know stays as it is.
        name = f"{self.node.name}.{self.node.run}.{serial}"
        self.doubt.add(name)
        self.node.make(name, (1 + serial % 3) * MIB + serial)
        self.doubt.discard(name)
        self.have.add(name)
        self.count += 1
        if len(self.have) > 3:
            gone = min(self.have)
            self.have.discard(gone)
            self.doubt.add(gone)
            self.node.remove(gone)
            self.doubt.discard(gone)
            self.count += 1

    def run(self):
        serial = 0
        while not self.enough.is_set():
            serial += 1
            try:
                self.step(serial)
            except (OSError, http.client.HTTPException, Refused) as e:
                if not self.enough.is_set():  # else its node was killed
                    self.error = e
                return

    def stop(self):
        self.enough.set()
        self.join(WAIT_S)
        assert not self.is_alive()


class Life(unittest.TestCase):
    def test_three_nodes_share_a_volume(self):
        c = Cluster(self)
        c.start()
        first, second, third = c.nodes
        seen = {n.name: n.volume() for n in c.nodes}
        self.assertEqual({(v["coordinator"], v["term"], v["client"], v["slot"]) for v in seen.values()},
                         {("n1", 2, "active", "held")})
        self.assertIsNone(seen["n2"]["here"])
        self.assertEqual(sorted(n["name"] for n in seen["n1"]["nodes"] if n["connected"]), ["n1", "n2", "n3"])

        # All make and grow files at the same time, and everybody sees all of them.
        def work(node):
            for i in range(12):
                node.make(f"{node.name}-{i}", i * 200000 + 1)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(work, c.nodes))
        want = sorted(f"n{n}-{i}" for n in (1, 2, 3) for i in range(12))
        for node in c.nodes:
            self.assertEqual(node.names(), want)
        with self.assertRaises(Refused) as refused:
            third.make("n1-0", 5)
        self.assertEqual(refused.exception.status, 409)
        second.remove("n1-3")
        self.assertNotIn("n1-3", third.names())

        # People see it.
        out = second.godwit("csv", "list").stdout
        self.assertIn("vol1", out)
        self.assertIn("direct", out)
        self.assertIn("n1, term 2", second.godwit("csv", "show", "vol1").stdout)
        self.assertEqual(json.loads(first.godwit("csv", "show", "vol1", "--json").stdout)["here"]["state"], "active")
        self.assertEqual(second.godwit("csv", "show", "nothing").returncode, 1)

        # Planned move: the coordinator hands over, the cluster appoints the next.
        wrong = second.godwit("csv", "move", "vol1", "--to", "n3")
        self.assertEqual(wrong.returncode, 1)
        self.assertIn("n1", wrong.stderr)
        done = first.godwit("csv", "move", "vol1", "--to", "n3")
        self.assertEqual(done.returncode, 0, done.stderr)
        c.appoint(3)
        c.settled()
        self.assertEqual(third.volume()["here"]["state"], "active")
        self.assertIsNone(first.volume()["here"])
        want.remove("n1-3")
        for node in c.nodes:
            self.assertEqual(node.names(), want)

        # All leave in order: nothing is in the journal, and what was made is there.
        for node in (first, second, third):
            self.assertTrue(node.stop())
        check = c.check()
        self.assertEqual((check["files"], check["faults"], check["replayed"]), (len(want), [], 0))

    def test_who_is_somebody_else_is_refused(self):
        c = Cluster(self, nodes=2)
        # n2 has the certificate of n3, of the same CA; then one of another CA.
        bundle = pki("n1", "n3")
        c.nodes[0].certify(bundle["n1"])
        c.nodes[1].certify(bundle["n3"])
        for node in c.nodes:
            c.join(node)
        c.appoint(1)
        gwnet.wait_for(lambda: "says that it is another one name=n3" in c.nodes[0].log(), WAIT_S, "n1 refuses n3")
        self.assertEqual(c.nodes[1].volume()["state"], "paused")
        c.nodes[1].kill()
        c.fence(c.nodes[1])
        c.nodes[1].certify(pki("n2")["n2"])
        c.join(c.nodes[1])
        c.tell()
        gwnet.wait_for(lambda: "peer refused" in c.nodes[1].volume()["detail"], WAIT_S, "n2 refuses n1")
        # Who has nothing to show gets nothing.
        code = "import socket,sys; s=socket.create_connection((sys.argv[1], 7445), 20); s.sendall(b'GWCP' * 999); " \
               "s.settimeout(20); print(len(s.recv(1 << 16)))"
        c.nodes[1].node.run(sys.executable, "-c", code, c.nodes[0].addr, check=False)
        c.nodes[0].make("still", 5)
        self.assertEqual(c.nodes[0].names(), ["still"])


# Opens connections that say nothing, and new ones when they are ended, from several threads.
KNOCK = """
import socket, sys, threading, time
def knock():
    have = []
    while True:
        try:
            have.append(socket.create_connection((sys.argv[1], 7445), 5))
        except OSError:
            time.sleep(0.01)
        if len(have) == 200:
            print("full", flush=True)
            time.sleep(0.2)
            have = have[20:]
for _ in range(4):
    threading.Thread(target=knock).start()
"""


class Hard(unittest.TestCase):
    def test_who_only_knocks_keeps_nobody_away(self):
        c = Cluster(self)
        first, second, third = c.nodes
        for node in (first, second):
            c.join(node)
        c.tell()  # they listen now; the third is no member
        knocks = third.node.spawn(sys.executable, "-c", KNOCK, first.addr, log="knocks")
        gwnet.wait_for(lambda: "full" in (third.node.dir / "knocks").read_text(), WAIT_S, "there are many")
        c.appoint(1)
        c.settled()
        second.make("through", MIB)
        self.assertEqual(first.names(), ["through"])
        knocks.signal(signal.SIGKILL)

    def test_coordinators_are_killed_and_nobody_sees_an_error(self):
        c = Cluster(self)
        c.start()
        writers = {n.number: Writer(n) for n in c.nodes}
        for w in writers.values():
            w.start()
        have, doubt, total = set(), set(), 0
        for turn in range(6):
            victim = c.node_of(c.coordinator)
            before = {n: w.count for n, w in writers.items()}
            gwnet.wait_for(lambda: all(w.error or w.count > before[n] + 2 for n, w in writers.items()), WAIT_S,
                           "all get on")
            self.assertEqual([w.error for w in writers.values() if w.error], [], "an error came to a client")
            gone = writers.pop(victim.number)
            gone.enough.set()
            victim.kill()
            gone.stop()
            have |= gone.have
            doubt |= gone.doubt
            total += gone.count
            c.check()  # as it lies there: a crash at any moment leaves a volume in order
            c.fence(victim)
            c.appoint(next(n.number for n in c.members() if n.number != victim.number))
            c.join(victim)
            c.tell()
            gwnet.wait_for(lambda v=victim: v.volume()["client"] != "none", WAIT_S, "it has the volume open again")
            writers[victim.number] = Writer(victim)
            writers[victim.number].start()
        c.settled()
        for w in writers.values():
            w.stop()
            self.assertIsNone(w.error, "an error came to a client")
            self.assertEqual(w.doubt, set())
            have |= w.have
            total += w.count
        stall = max(n.volume()["meta"]["max_us"] for n in c.nodes) / 1e6
        there = set(c.nodes[0].names())
        self.assertEqual(have - there, set(), "something that was acknowledged is gone")
        self.assertEqual(there - have - doubt, set(), "something that was removed is there")
        for node in c.nodes:
            self.assertEqual(set(node.names()), there)
        for node in sorted(c.nodes, key=lambda n: n.number == c.coordinator):
            self.assertTrue(node.stop())
        self.assertEqual(c.check()["files"], len(there))
        print(f"# {total} operations, term {c.term}, longest wait {stall:.1f} s", file=sys.stderr)

    def test_a_node_that_slept_asks_before_it_goes_on(self):
        c = Cluster(self, nodes=2)
        c.start()
        second = c.nodes[1]
        second.make("before", MIB)
        second.proc.signal(signal.SIGSTOP)
        gwnet.wait_for(lambda: next(n for n in c.nodes[0].volume()["nodes"] if n["name"] == "n2")["slot"] == "stale",
                       WAIT_S, "n1 sees that the slot of n2 stands still")
        second.proc.signal(signal.SIGCONT)
        gwnet.wait_for(lambda: second.volume()["slot"] == "lapsed", WAIT_S, "n2 sees that it slept too long")
        # It does not use the device; through n1 it may go on, which judges what it sends.
        state = second.volume()
        self.assertIn(state["state"], ("paused", "redirected"))
        self.assertEqual(state["reason"], "lease")
        c.tell()  # nobody acted on it
        c.settled()
        second.make("behind", MIB)
        self.assertEqual(c.nodes[0].names(), ["before", "behind"])
        # Now it is fenced while it sleeps: this run is over, whatever it thinks.
        second.proc.signal(signal.SIGSTOP)
        c.fence(second)
        c.tell()
        second.proc.signal(signal.SIGCONT)
        second.ask("PUT", "/v1/members", c.said(second))
        gwnet.wait_for(lambda: second.ask("GET", "/v1/members")["run"] == 0, WAIT_S, "n2 knows")
        self.assertEqual(second.ask("GET", "/v1/volumes")["volumes"], [])
        c.nodes[0].make("after", MIB)


class Alone(unittest.TestCase):
    def test_a_host_without_a_cluster_has_its_volume_for_itself(self):
        c = Cluster(self, nodes=1)
        node = c.nodes[0].start()
        self.assertEqual(node.godwit("csv", "add", str(c.device)).returncode, 0)
        gwnet.wait_for(lambda: node.volume()["state"] == "direct", WAIT_S, "the volume is used")
        node.make("one", 3 * MIB)
        self.assertEqual(node.godwit("csv", "move", "vol1", "--to", "x").returncode, 1)
        node.kill()
        c.check()
        # It remembers, and the next run takes the volume over.
        node.start()
        gwnet.wait_for(lambda: node.volume()["state"] == "direct", WAIT_S, "the volume is used again")
        self.assertEqual(node.names(), ["one"])
        node.make("two", 1)
        self.assertEqual(node.godwit("csv", "evict", "vol1").returncode, 0)
        gwnet.wait_for(lambda: node.ask("GET", "/v1/volumes")["volumes"] == [], WAIT_S, "it is left")
        self.assertEqual((c.check()["files"], c.check()["replayed"]), (2, 0))
        self.assertTrue(node.stop())
        # A node of a cluster opens nothing before it is told who else is there.
        node.start()
        self.assertEqual(node.godwit("csv", "add", str(c.device)).returncode, 0)
        node.ask("PUT", "/v1/members", {"epoch": 1, "self": 1, "members": [], "fenced": [], "volumes": []})
        self.assertTrue(node.stop())
        node.start()
        self.assertEqual(node.ask("GET", "/v1/volumes"), {"alone": False, "volumes": [], "closing": []})


if __name__ == "__main__":
    unittest.main()

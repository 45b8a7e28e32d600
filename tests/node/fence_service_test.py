#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fence devices: nodes without a watchdog, and a power switch that really ends everything that runs on a node.

The agents are programs as those of the package fence-agents; they ask the switch, which is a thread of this test.
"""
import json
import pathlib
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import ha_service_test as ha  # noqa: E402
import gwnet  # noqa: E402

SECRET = "tiger-in-the-tank-42"

AGENT = """#!/usr/bin/env python3
import json, socket, sys
asked = dict(line.rstrip("\\n").split("=", 1) for line in sys.stdin)
with socket.socket(socket.AF_UNIX) as s:
    s.connect(asked["ip"])
    s.sendall(json.dumps({**asked, "argv": sys.argv[1:]}).encode() + b"\\n")
    answer = s.makefile().readline().strip()
if answer == "denied":
    print("login failed with " + asked.get("passwd", ""))
sys.exit({"on": 0, "done": 0, "off": 2}.get(answer, 1))
"""


class Switch:
    """Power of all nodes."""

    def __init__(self, path, net):
        self.path, self.net = path, net
        self.asked = []
        self.off = set()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(16)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                conn, _ = self.socket.accept()
            except OSError:
                return
            with conn:
                asked = json.loads(conn.makefile().readline())
                self.asked.append(asked)
                conn.sendall(self.answer(asked).encode() + b"\n")

    def answer(self, asked):
        if asked.get("passwd") != SECRET:
            return "denied"
        node = int(asked["plug"])
        if asked["action"] == "off":
            self.net.node(node).kill()
            self.off.add(node)
            return "done"
        return "off" if node in self.off else "on"

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


class PowerNode(ha.Node):
    EXTRA = ()


class Power(ha.Case):
    NODE = PowerNode

    def setUp(self):
        agents = pathlib.Path(tempfile.mkdtemp(prefix="gwagents"))
        self.addCleanup(shutil.rmtree, agents)
        (agents / "fence_test").write_text(AGENT, encoding="utf-8")
        (agents / "fence_test").chmod(0o755)
        PowerNode.EXTRA = ("--worker", ha.WORKER, "--fence-agents", agents)
        super().setUp()
        self.switch = Switch(self.script / "switch", self.net)
        self.addCleanup(self.switch.close)

    def add(self, name, node, *words, secret=SECRET, check=True):
        path = self.script / "secrets"
        path.write_text(f"passwd={secret}\n", encoding="utf-8")
        return self.nodes[0].godwit("fence", "add", name, "--node", node, "--agent", "fence_test", "--option",
                                    f"ip={self.switch.path}", "--option", f"plug={node[1:]}", "--secrets", path, *words, check=check)

    def no_secret(self, *more):
        texts = [n.log() for n in self.nodes] + [n.godwit("fence", *words).stdout for n in self.nodes[::2]
                                                 for words in (("list",), ("list", "--json"), ("show", "pdu2"))]
        backup = self.state / "backup"
        self.nodes[0].godwit("cluster", "backup", backup)
        files = [backup, *self.state.glob("n*/cluster/db.sqlite*")]
        self.assertGreaterEqual(len(files), 4)
        for text in (*texts, *more, *(f.read_bytes().decode("latin-1") for f in files)):
            self.assertNotIn(SECRET, text)

    def simulate(self, node, *words, status=0):
        done = node.godwit("cluster", "simulate", *words, "--json", check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        return json.loads(done.stdout)

    def told(self, node, *words):
        """Events of the cluster as that node shows them: [(event, subject, node)]."""
        return [(e["event"], e.get("vm") or e.get("device") or "", e.get("node", ""))
                for e in node.ask_lines("event", "list", *words) if "entry" in e]

    def test_a_leader_that_hears_nothing_shoots_nobody(self):
        """Row 28 of the fault matrix: who leads a view that is over takes the others for lost, as they take it."""
        for node in ("n1", "n2", "n3"):
            self.add(f"pdu{node[1:]}", node)
        leader = self.by_name(self.nodes[0].status()["leader"])
        others = [n for n in self.nodes if n is not leader]
        for i, node in enumerate(self.nodes):
            self.define(f"vm{i}", "--preferred", node.name)
            self.nodes[0].godwit("vm", "start", f"vm{i}")
        for i, node in enumerate(self.nodes):
            self.assertEqual(self.online(f"vm{i}", others[0])["node"], node.name)
        mine = f"vm{self.nodes.index(leader)}"
        self.wait(lambda: self.runs(mine), "it runs")
        # Its corosync stops: nobody tells it that its view is over, and both sides have what it takes to shoot.
        corosync = self.net.node(leader.number).corosync()
        corosync.signal(signal.SIGSTOP)
        corosync.close()
        self.online(mine, others[0], but=(leader.name,))
        self.assertEqual(self.switch.off, {leader.number})
        # The two that are left lose each other: two leaders at most, no majority, no shot.
        shots = [a for a in self.switch.asked if a["action"] == "off"]
        self.net.split([others[0].number, leader.number], [others[1].number])
        for node in others:
            self.wait(lambda n=node: n.status()["state"] == "off", f"{node.name} has no majority")
        deadline = time.monotonic() + 5  # what would be wrong would come with the next second
        while time.monotonic() < deadline:
            self.assertEqual(self.switch.off, {leader.number})
            time.sleep(0.2)
        self.assertEqual([a for a in self.switch.asked if a["action"] == "off"], shots)
        self.assertEqual({a["plug"] for a in shots}, {str(leader.number)})
        for node in others:
            self.assertNotIn(f"fencing  {others[0].name}#", node.log())
            self.assertNotIn(f"fencing  {others[1].name}#", node.log())
        self.net.heal()
        for node in others:
            node.active(2)
        for i in range(3):
            self.runs(f"vm{i}")

    def test_a_node_cut_off_is_switched_off(self):
        n1, n2, n3 = self.nodes
        self.assertIn("no fence devices", n1.godwit("fence", "list").stderr)
        self.assertIn("no node n9", self.add("x", "n9", check=False).stderr)
        self.assertIn("--secrets", self.add("x", "n2", "--option", "password=x", check=False).stderr)
        # What the agent says about a failure is told, but not with the password that it names.
        wrong = "no-such-tiger-1"
        self.add("old2", "n2", secret=wrong)
        said = n3.godwit("fence", "test", "old2", check=False).stderr
        self.assertIn("login failed with ***", said)
        self.assertNotIn(wrong, said)
        self.define("web1", "--preferred", "n2")
        n1.godwit("vm", "start", "web1")
        self.assertEqual(self.online("web1", n1)["node"], "n2")
        self.wait(lambda: self.runs("web1"), "it runs")
        # What would be? It will be so. Of n1 and n3 nothing proves that they stopped, and both are a majority.
        foretold = self.simulate(n3, "--dies", "n2")
        self.assertEqual([(v["vm"], v["fate"]) for v in foretold["vms"]], [("web1", "starts")])
        self.assertEqual([(n["node"], n["proof"]) for n in foretold["nodes"]], [("n2", "power")])
        self.assertEqual(self.simulate(n3, "--dies", "n1")["vms"], [])
        both = self.simulate(n3, "--dies", "n2,n1", status=3)
        self.assertEqual((both["majority"], both["waits"]), (False, 1))
        self.assertIn("nothing proves", n1.godwit("cluster", "simulate", "--dies", "n3").stdout)
        self.assertEqual([v["fate"] for v in self.simulate(n1, "--drain", "n2")["vms"]], ["moves"])
        self.assertIn("no node n9", n1.godwit("cluster", "simulate", "--dies", "n9", check=False).stderr)
        self.assertEqual(n1.godwit("cluster", "simulate", check=False).returncode, 2)
        # Cut off, it goes on for a while; its silence proves nothing, and the device refuses.
        self.net.split([1, 3], [2])
        self.until("web1", n1, "fencing")
        last = self.wait(lambda: n3.ask("fence", "show", "old2")["last"], "the device was tried")
        self.assertFalse(last["ok"])
        self.assertIn("login failed with ***", last["text"])
        self.assertIn("power device 1 failed", self.wait(
            lambda: (t := n1.godwit("explain", "vm", "web1").stdout + n3.godwit("explain", "vm", "web1").stdout) and "failed" in t and t,
            "the leader says what failed"))
        self.assertIn("old2", n1.godwit("explain", "node", "n2").stdout)
        # Another device, at the next level: now it is switched off, and that is the proof.
        self.add("pdu2", "n2", "--level", "2")
        self.assertEqual(n3.godwit("fence", "list").returncode, 0)
        self.assertEqual(self.online("web1", n1, but=("n2",))["node"], foretold["vms"][0]["to"])
        self.wait(lambda: len(self.runs("web1")) == 2, "it runs elsewhere")
        self.assertEqual(self.switch.off, {2})
        self.assertTrue(n3.ask("fence", "show", "pdu2")["last"]["ok"])
        self.assertTrue(any(re.search(r"fenced.*power", n.log()) for n in (n1, n3)), n1.log()[-3000:])
        self.assertIn("node is off", n3.godwit("fence", "test", "pdu2").stdout.replace("n2", "node"))
        self.assertFalse([a for a in self.switch.asked if a["argv"]])
        self.no_secret()
        # Power again: another run of it.
        self.net.heal()
        self.switch.off.clear()
        n2.process.wait(ha.WAIT_S)
        n2.start()
        n2.active(3)
        self.wait(lambda: re.search(r"node joined node=2 run=2", n2.log()), "n2 joins again")
        self.runs("web1")
        # The whole story, the same on every node, also on the one that was away; and some of it.
        story = self.told(n1)
        there = self.online("web1", n1)["node"]
        of_n2 = [e for e, _, node in story if node == "n2"]
        self.assertEqual([e for e in of_n2 if e not in ("fence.tried", "node.added", "node.state", "node.keys")],
                         ["node.joined", "fence.added", "vm.online", "node.lost", "node.fencing", "fence.added", "node.fenced",
                          "node.joined"])
        self.assertEqual(of_n2.count("fence.tried"), 2)
        self.assertLess(story.index(("node.fenced", "", "n2")), story.index(("vm.online", "web1", there)))
        for node in (n2, n3):
            self.wait(lambda n=node: self.told(n) == self.told(n1), "all tell the same")
        self.assertEqual(self.told(n3, "--vm", "web1", "--node", there), [("vm.online", "web1", there)])
        self.assertEqual(self.told(n3, "--since", "1ms"), [])
        self.equal()
        # What it had recorded until it was killed is there, and goes on.
        flight = n2.ask("node", "flight")
        self.assertEqual(flight["summary"]["begins"], 2)
        self.assertEqual({n["nodeid"] for n in flight["summary"]["nodes"]}, {1, 2, 3})
        kinds = [r[1] for r in flight["records"]]
        self.assertIn("no-view", kinds[:kinds.index("begin", 1)])
        file = n2.state / "cluster/flight"
        self.assertIn("Node 2, recorded since", n1.godwit("node", "flight", "--file", file, "--all").stdout)
        self.assertIn("no record of the boot before", n2.godwit("node", "flight", "--previous", check=False).stderr)
        n2.godwit("fence", "remove", "old2")
        self.wait(lambda: [f["name"] for f in n1.ask("fence", "list")["fences"]] == ["pdu2"], "old2 is removed")


if __name__ == "__main__":
    gwnet.main("/dev/kvm")

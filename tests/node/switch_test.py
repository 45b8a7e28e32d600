#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Virtual switches: godwitd in a network namespace of its own, guests and the world outside in others."""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BIN = pathlib.Path(os.environ["GW_BUILD"]) / "bin"
HERE = pathlib.Path(__file__).resolve()
WORKER = HERE.with_name("stand_in_worker.py")
INSIDE = "GODWIT_SWITCH_TEST_INSIDE"
DEADLINE_S = 60.0  # for anything that should take milliseconds: the machine may be busy
POLL_S = 0.05
OUTSIDE = "192.0.2.1"  # what is beyond the host
HOST = "192.0.2.5"
SERVER = f"""import socket
server = socket.create_server(("{OUTSIDE}", 7000))
print("listening", flush=True)
client, peer = server.accept()
print(peer[0], client.makefile().read())
"""
CLIENT = f"""import socket
with socket.create_connection(("{OUTSIDE}", 7000)) as client:
    client.sendall(b"hello")
"""
SENDER = """import socket, sys
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind(("eth0", 0))
sender.send(bytes.fromhex(sys.argv[1]))
"""
DNS_LEASE = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/$mask" dev "$interface"
ip route add default via "$router"
echo "$ip $mask $router $dns $mtu" >"$LEASE"
"""


def run(*words, check=True, **more):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=DEADLINE_S, check=False,
                          **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_for(what, condition):
    """The first true result of condition()."""
    end = time.monotonic() + DEADLINE_S
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {DEADLINE_S:.0f} s: {what}")
        time.sleep(POLL_S)


def kernel_can(*words):
    """Can this kernel make such an interface?"""
    if subprocess.run(["ip", "link", "add", "gwprobe", "type", *words], capture_output=True, check=False).returncode:
        return False
    run("ip", "link", "del", "gwprobe")
    return True


def within(namespace, *words, **more):
    return run("ip", "netns", "exec", namespace, *words, **more)


def ping(namespace, address):
    """Does an answer come?"""
    return within(namespace, "ping", "-c", "1", "-W", "1", address, check=False).returncode == 0


def answers(namespace, address):
    """As ping(), for what must work: the first packets may be lost while addresses are looked up."""
    wait_for(f"{namespace} reaches {address}", lambda: ping(namespace, address))


def forwarding():
    return pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text(encoding="ascii").strip()


def picture():
    """All of the host's network that a switch could leave a trace in."""
    links = re.findall(r"^\d+: ([^:@]+)[@:].*? master (\S+)|^\d+: ([^:@]+)", run("ip", "-o", "link").stdout, re.M)
    addresses = re.findall(r"^\d+: (\S+) +inet6? (\S+) .*scope (?:global|host) ", run("ip", "-o", "addr").stdout, re.M)
    routes = sorted(line.strip() for line in run("ip", "route").stdout.splitlines())
    return {"links": sorted(links), "addresses": sorted(addresses), "routes": routes, "forwarding": forwarding(),
            "rules": run("nft", "list", "ruleset").stdout, "dnsmasq": dnsmasqs()}


def dnsmasqs():
    """Processes of that name in this network namespace."""
    ours = os.readlink("/proc/self/ns/net")
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="utf-8") == "dnsmasq\n" and \
                    os.readlink(f"/proc/{pid}/ns/net") == ours:
                found.append(int(pid))
        except OSError:
            pass
    return found


class Capture:
    """What comes by at an interface, as tcpdump says it."""

    def __init__(self, namespace, interface, what):
        self.process = subprocess.Popen(["ip", "netns", "exec", namespace, "tcpdump", "-nlU", "-i", interface, what],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        while "listening" not in self.process.stderr.readline():
            if self.process.poll() is not None:
                raise AssertionError("tcpdump ended")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def until(self, text):
        """All lines up to the one with @text, which must come."""
        lines = ""
        while text not in lines:
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(f"no {text} in:\n{lines}")
            lines += line
        return lines


class Case(unittest.TestCase):
    """A host with an uplink to the outside; what a test makes it removes, and nothing may be left."""

    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="godwit-switch-"))
        self.daemon = None
        self.guests = []
        run("ip", "netns", "add", "outside")
        for name, address in (("up0", f"{HOST}/24"), ("up1", None)):
            run("ip", "link", "add", name, "type", "veth", "peer", "name", name, "netns", "outside")
            run("ip", "link", "set", name, "up")
            within("outside", "ip", "link", "set", name, "up")
            if address:
                run("ip", "addr", "add", address, "dev", name)
        run("ip", "route", "add", "default", "via", OUTSIDE, "dev", "up0")
        within("outside", "ip", "addr", "add", f"{OUTSIDE}/24", "dev", "up0")
        within("outside", "ip", "link", "set", "lo", "up")
        self.before = picture()
        self.start()

    def tearDown(self):
        for guest in self.guests:
            self.godwit("vm", "stop", "--off", guest, check=False)
            self.godwit("vm", "remove", guest, check=False)
        for switch in self.switches():
            self.godwit("switch", "remove", switch)
        after = picture()
        self.stop()
        for guest in self.guests:
            run("ip", "netns", "del", guest)
        run("ip", "link", "del", "up0")
        run("ip", "link", "del", "up1")
        run("ip", "netns", "del", "outside")
        shutil.rmtree(self.root)
        self.assertEqual(after, self.before)

    # ---- the service ----

    def start(self):
        with open(self.root / "log", "ab") as log:
            self.daemon = subprocess.Popen(
                [BIN / "godwitd", "--foreground", "--run-dir", self.root / "run", "--state-dir",
                 self.root / "state", "--worker", WORKER, "--worker-uid-base", "0"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("godwitd answers", lambda: self.godwit("switch", "list", check=False).returncode == 0)

    def stop(self, signo=signal.SIGTERM):
        self.daemon.send_signal(signo)
        self.daemon.wait(DEADLINE_S)

    def godwit(self, *words, check=True):
        done = run(BIN / "godwit", *words, check=False,
                   env={"PATH": os.environ["PATH"], "GODWIT_HOST": f"unix://{self.root}/run/api.sock"})
        if check and done.returncode != 0:
            log = (self.root / "log").read_text(encoding="utf-8")
            raise AssertionError(f"godwit {words}: {done.returncode}\n{done.stdout}{done.stderr}\n{log}")
        return done

    def post(self, path, body):
        connection = http.client.HTTPConnection("localhost", timeout=DEADLINE_S)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(str(self.root / "run" / "api.sock"))
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def refused(self, text, *words):
        done = self.godwit(*words, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(text, done.stderr)

    def create(self, name, kind, *options):
        self.godwit("switch", "create", name, "--type", kind, *options)
        return self.show(name)

    def show(self, name):
        return json.loads(self.godwit("switch", "show", name, "--json").stdout)

    def switches(self):
        return [s["name"] for s in json.loads(self.godwit("switch", "list", "--json").stdout)["switches"]]

    # ---- guests ----

    def guest(self, name, *nics, address=None, cpus=1):
        """A VM that runs: a namespace with eth0, eth1... address: of eth0."""
        run("ip", "netns", "add", name)
        self.guests.append(name)
        options = [word for nic in nics for word in ("--nic", nic)]
        self.godwit("vm", "create", name, "--memory", "64M", "--cpus", str(cpus), "--kernel", WORKER, *options)
        self.power_on(name, address)

    def power_on(self, name, address=None):
        self.godwit("vm", "start", name)
        wait_for("eth0", lambda: within(name, "ip", "link", "show", "eth0", check=False).returncode == 0)
        within(name, "ip", "link", "set", "lo", "up")
        if address:
            within(name, "ip", "addr", "add", address, "dev", "eth0")

    def dhcp(self, name):
        """What eth0 got: address, mask, router, name server, MTU."""
        script = self.root / "udhcpc.sh"
        lease = self.root / f"{name}.lease"
        script.write_text(DNS_LEASE, encoding="ascii")
        script.chmod(0o755)
        within(name, "env", f"LEASE={lease}", "busybox", "udhcpc", "-f", "-q", "-n", "-i", "eth0", "-s", script,
               "-t", "10", "-T", "1", "-O", "mtu")
        return lease.read_text(encoding="ascii").split()

    def nics(self, name):
        return json.loads(self.godwit("vm", "show", name, "--json").stdout)["definition"]["nics"]

    def mac(self, name):
        return self.nics(name)[0]["mac"]


class Life(Case):
    def test_each_type_is_made_and_shown(self):
        made = {"a-nat": self.create("a-nat", "nat"), "b-int": self.create("b-int", "internal"),
                "c-priv": self.create("c-priv", "private"), "d-ext": self.create("d-ext", "external", "--uplink", "up1")}
        self.assertEqual(self.switches(), sorted(made))
        for name, status in made.items():
            self.assertEqual(status["state"], "ok", name)
            alias = run("ip", "link", "show", status["bridge"]).stdout
            self.assertIn(f"alias godwit switch {name}", alias)
        self.assertEqual(made["a-nat"]["subnet"], "10.77.0.0/24")
        self.assertEqual([made[n]["host"] for n in sorted(made)], [True, True, False, False])
        table = self.godwit("switch", "list").stdout
        self.assertRegex(table, r"a-nat +nat +ok +10\.77\.0\.0/24 +1 +0")
        self.assertRegex(table, r"d-ext +external +ok +up1 +1 +0")

    def test_what_cannot_be_is_refused_with_a_reason(self):
        self.create("one", "internal", "--subnet", "10.1.0.0/16")
        self.refused("already", "switch", "create", "one", "--type", "private")
        self.refused("no network interface eth77", "switch", "create", "x", "--type", "external", "--uplink", "eth77")
        self.refused("needs an uplink", "switch", "create", "x", "--type", "external")
        self.refused("have no uplinks", "switch", "create", "x", "--type", "nat", "--uplink", "up1")
        self.refused("switch one has the subnet 10.1.0.0/16", "switch", "create", "x", "--type", "nat", "--subnet",
                     "10.1.2.0/24")
        self.refused("the host has 192.0.2", "switch", "create", "x", "--type", "nat", "--subnet", "192.0.2.128/25")
        self.refused("an address in a subnet", "switch", "create", "x", "--type", "nat", "--subnet", "10.5.5.5/24")
        self.refused("cannot be an uplink", "switch", "create", "x", "--type", "external", "--uplink", "lo")
        self.refused("addresses of this host", "switch", "create", "x", "--type", "external", "--uplink", "up0")
        self.refused("is no name for a switch", "switch", "create", "../x", "--type", "private")
        self.refused("no switch named x", "switch", "show", "x")
        self.refused("no switch named x", "switch", "remove", "x")
        self.assertEqual(self.switches(), ["one"])

    def test_names_are_completed(self):
        self.create("inet", "nat")
        for words, candidates in ((("switch", "show", ""), {"inet"}), (("vm", "create", "x", "--nic", ""), {"switch=inet"}),
                                  (("switch", "create", "x", "--uplink", "up"), {"up0", "up1"}),
                                  (("switch", "s"), {"set", "show"})):
            offered = self.godwit("__complete", str(len(words)), "godwit", *words).stdout
            self.assertEqual({line.split("\t")[0] for line in offered.splitlines()}, candidates, words)

    def test_a_dry_run_changes_nothing(self):
        now = picture()
        self.godwit("switch", "create", "x", "--type", "nat", "--dry-run")
        self.assertEqual((self.switches(), picture()), ([], now))

    def test_one_that_fails_half_way_leaves_nothing(self):
        now = picture()
        # An alien interface with the name of the bridge to be, which is made of the id.
        body = {"id": "11223344-0000-4000-8000-000000000000", "name": "x", "type": "internal"}
        run("ip", "link", "add", "gwb-11223344", "type", "bridge")
        try:
            self.assertIn("not ours", self.post("/v1/switches", body)["error"]["message"])
        finally:
            run("ip", "link", "del", "gwb-11223344")
        self.assertEqual((self.switches(), picture()), ([], now))

    def test_one_in_use_is_not_removed(self):
        self.create("s", "private")
        self.guest("g1", "switch=s")
        self.refused("VM g1 has an adapter", "switch", "remove", "s")
        self.assertEqual(self.show("s")["ports"][0]["vm"], "g1")
        self.godwit("vm", "stop", "--off", "g1")
        wait_for("the tap is gone", lambda: self.show("s")["ports"] == [])
        self.refused("VM g1 has an adapter", "switch", "remove", "s")

    def test_an_address_is_of_one_adapter_and_stays(self):
        self.create("s", "private")
        self.create("t", "private")
        for name in ("g1", "g2"):
            run("ip", "netns", "add", name)
            self.guests.append(name)
        define = ("--memory", "64M", "--kernel", WORKER)
        self.godwit("vm", "create", "g1", *define, "--nic", "switch=s", "--nic", "switch=s")
        first, second = self.nics("g1")
        self.assertRegex(first["mac"], "^00:15:5d:")
        self.assertNotEqual(first["mac"], second["mac"])
        self.refused(f"VM g1 has the address {second['mac']}", "vm", "create", "g2", *define, "--nic",
                     f"switch=s,mac={second['mac']}")
        self.refused("again", "vm", "create", "g2", *define, "--nic", "mac=02:00:00:00:00:01", "--nic",
                     "mac=02:00:00:00:00:01")
        self.refused("no unicast MAC", "vm", "create", "g2", *define, "--nic", "mac=01:00:00:00:00:01")
        self.godwit("vm", "set", "g1", "--nic", "switch=t,vlan=5", "--nic", "mac=02:00:00:00:00:02")
        after = self.nics("g1")
        self.assertEqual(after[0], {**first, "switch": "t", "vlan": 5})
        self.assertEqual(after[1], {"id": second["id"], "mac": "02:00:00:00:00:02"})
        self.godwit("vm", "set", "g1", "--nic", "none")
        self.assertEqual(self.nics("g1"), [])
        self.godwit("vm", "create", "g2", *define, "--nic", f"switch=s,mac={second['mac']}")

    def test_an_adapter_has_a_queue_for_each_processor(self):
        self.create("s", "private")
        self.guest("g1", "switch=s", address="10.3.0.11/24", cpus=4)
        self.guest("g2", "switch=s", address="10.3.0.12/24")
        taps = {p["vm"]: p["tap"] for p in self.show("s")["ports"]}
        queues = {vm: len([q for q in os.listdir(f"/sys/class/net/{tap}/queues") if q.startswith("tx-")])
                  for vm, tap in taps.items()}
        self.assertEqual(queues, {"g1": 4, "g2": 1})
        answers("g1", "10.3.0.12")
        self.godwit("vm", "stop", "--off", "g1")
        wait_for("the tap is gone", lambda: [p["vm"] for p in self.show("s")["ports"]] == ["g2"])

    def test_a_vm_whose_switch_is_missing_says_so(self):
        run("ip", "netns", "add", "g1")
        self.guests.append("g1")
        self.godwit("vm", "create", "g1", "--memory", "64M", "--kernel", WORKER, "--nic", "switch=nowhere")
        self.refused("there is no switch named nowhere", "vm", "start", "g1")


class Restart(Case):
    def test_guests_do_not_notice(self):
        bridge = self.create("s", "nat")["bridge"]
        self.guest("g1", "switch=s")
        self.dhcp("g1")
        answers("g1", OUTSIDE)
        now = picture()
        self.stop(signal.SIGKILL)
        self.assertTrue(ping("g1", OUTSIDE))
        self.start()
        self.assertEqual(picture(), now)  # the same interfaces, rules and the same dnsmasq
        self.assertEqual(self.show("s")["dhcp"]["pid"], dnsmasqs()[0])
        self.assertEqual((self.show("s")["bridge"], self.show("s")["state"]), (bridge, "ok"))
        self.assertTrue(ping("g1", OUTSIDE))

    def test_one_that_failed_works_when_its_uplink_comes(self):
        self.create("s", "external", "--uplink", "up1")
        self.stop()
        run("ip", "link", "set", "up1", "name", "gone1")
        self.start()
        self.assertEqual(self.show("s")["state"], "failed")
        run("ip", "link", "set", "gone1", "name", "up1")
        wait_for("it is tried again", lambda: self.show("s")["state"] == "ok")
        self.assertIn("switch.restored", self.godwit("event", "list").stdout)

    def test_an_adopted_vm_stops_and_starts_at_once(self):
        self.create("s", "private")
        self.guest("g1", "switch=s", cpus=2)
        self.stop(signal.SIGKILL)
        self.start()
        for _ in range(5):
            self.godwit("vm", "stop", "--off", "g1")
            self.assertEqual(self.show("s")["ports"], [])
            self.power_on("g1")
            self.stop(signal.SIGKILL)
            self.start()

    def test_what_was_lost_is_made_again(self):
        bridge = self.create("s", "nat")["bridge"]
        self.guest("g1", "switch=s")
        self.dhcp("g1")
        answers("g1", OUTSIDE)
        now = picture()
        pid = dnsmasqs()[0]
        self.stop(signal.SIGKILL)
        run("ip", "link", "del", bridge)
        run("nft", "flush", "ruleset")
        os.kill(pid, signal.SIGKILL)
        wait_for("dnsmasq is gone", lambda: not dnsmasqs())
        self.start()
        after = picture()
        self.assertEqual(len(after.pop("dnsmasq")), 1)
        now.pop("dnsmasq")
        self.assertEqual(after, now)
        answers("g1", OUTSIDE)

    def test_a_switch_that_cannot_be_made_waits_for_its_uplink(self):
        self.create("s", "external", "--uplink", "up1")
        self.create("t", "private")
        self.stop()
        run("ip", "link", "set", "up1", "name", "gone1")
        self.start()
        status = self.show("s")
        self.assertEqual((status["state"], self.show("t")["state"]), ("failed", "ok"))
        self.assertIn("no network interface up1", status["error"])
        run("ip", "link", "set", "gone1", "name", "up1")
        self.guest("g1", "switch=s", address="192.0.2.99/24")
        self.assertEqual(self.show("s")["state"], "ok")
        within("outside", "ip", "addr", "del", f"{OUTSIDE}/24", "dev", "up0")
        within("outside", "ip", "addr", "add", f"{OUTSIDE}/24", "dev", "up1")
        answers("g1", OUTSIDE)


class Frames(Case):
    def test_guests_of_one_switch_reach_each_other_and_not_those_of_another(self):
        self.create("s", "internal", "--subnet", "10.3.0.0/24")
        self.create("t", "internal")
        self.guest("g1", "switch=s", address="10.3.0.11/24")
        self.guest("g2", "switch=s", address="10.3.0.12/24")
        self.guest("g3", "switch=t", address="10.3.0.13/24")
        answers("g1", "10.3.0.12")
        answers("g1", "10.3.0.1")  # the host
        self.assertFalse(ping("g1", "10.3.0.13"))
        self.assertFalse(ping("g3", "10.3.0.12"))

    def test_the_host_is_not_in_a_private_switch(self):
        bridge = self.create("s", "private")["bridge"]
        self.guest("g1", "switch=s", address="192.0.2.11/24")
        self.guest("g2", "switch=s", address="192.0.2.12/24")
        answers("g1", "192.0.2.12")
        # The host would answer for any of its addresses on any interface; not here.
        self.assertFalse(ping("g1", HOST))
        mac = pathlib.Path(f"/sys/class/net/{bridge}/address").read_text(encoding="ascii").strip()
        within("g1", "ip", "neigh", "replace", HOST, "lladdr", mac, "dev", "eth0")
        self.assertFalse(ping("g1", HOST))
        self.assertNotIn("inet6", run("ip", "addr", "show", bridge).stdout)

    def test_a_guest_cannot_use_anothers_address(self):
        self.create("s", "private")
        self.guest("g1", "switch=s", address="10.3.0.11/24")
        self.guest("g2", "switch=s", address="10.3.0.12/24")
        answers("g1", "10.3.0.12")
        before = self.mac("g1")
        within("g1", "ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
        self.assertFalse(ping("g1", "10.3.0.12"))
        within("g1", "ip", "link", "set", "eth0", "address", self.mac("g2"))
        self.assertFalse(ping("g1", "10.3.0.12"))
        within("g1", "ip", "link", "set", "eth0", "address", before)
        answers("g2", "10.3.0.11")  # what was for g2 still goes there

    def test_a_guest_does_not_see_what_is_for_others(self):
        self.create("s", "internal", "--subnet", "10.3.0.0/24")
        self.guest("g1", "switch=s", address="10.3.0.11/24")
        self.guest("g2", "switch=s", address="10.3.0.12/24")
        # To an address that nobody has: a bridge would send it everywhere.
        within("g1", "ip", "neigh", "add", "10.3.0.77", "lladdr", "02:00:00:00:00:77", "dev", "eth0")
        with Capture("g2", "eth0", "icmp") as capture:
            self.assertFalse(ping("g1", "10.3.0.77"))
            answers("g1", "10.3.0.12")
            self.assertNotIn("10.3.0.77", capture.until("10.3.0.12: ICMP echo request"))

    def test_an_mtu_reaches_the_guest(self):
        self.create("s", "nat", "--mtu", "1400")
        self.guest("g1", "switch=s")
        self.assertEqual(self.dhcp("g1")[-1], "1400")
        tap = self.show("s")["ports"][0]["tap"]
        self.assertIn("mtu 1400", run("ip", "link", "show", tap).stdout)

    def test_vlans_are_apart(self):
        if not kernel_can("bridge", "vlan_filtering", "1"):
            self.skipTest("this kernel's bridges know no VLANs")
        self.create("s", "internal", "--subnet", "10.3.0.0/24", "--vlan", "5")
        self.guest("g1", "switch=s,vlan=7", address="10.3.0.11/24")
        self.guest("g2", "switch=s,vlan=7", address="10.3.0.12/24")
        self.guest("g3", "switch=s,vlan=8", address="10.3.0.13/24")
        self.guest("g4", "switch=s", address="10.3.0.14/24")
        answers("g1", "10.3.0.12")
        answers("g4", "10.3.0.1")  # the host is in the switch's VLAN
        for address in ("10.3.0.13", "10.3.0.14", "10.3.0.1"):
            self.assertFalse(ping("g1", address), address)
        # A guest that tags frames itself does not get into another VLAN.
        within("g3", "ip", "link", "add", "link", "eth0", "name", "eth0.7", "type", "vlan", "id", "7")
        within("g3", "ip", "link", "set", "eth0.7", "up")
        within("g3", "ip", "addr", "flush", "dev", "eth0")
        within("g3", "ip", "addr", "add", "10.3.0.13/24", "dev", "eth0.7")
        self.assertFalse(ping("g3", "10.3.0.11"))
        self.assertEqual({p["vm"]: p["vlan"] for p in self.show("s")["ports"]}, {"g1": 7, "g2": 7, "g3": 8, "g4": 5})

    def test_tags_of_guests_do_not_pass(self):
        self.create("s", "private")
        self.guest("g1", "switch=s", address="10.3.0.11/24")
        self.guest("g2", "switch=s", address="10.3.0.12/24")
        mac = self.mac("g1").replace(":", "")
        answers("g1", "10.3.0.12")
        with Capture("g2", "eth0", "") as capture:
            # Its own VLAN, another one, and two tags.
            for tag in ("81000001", "81000007", "88a80007" "81000007"):
                within("g1", sys.executable, "-c", SENDER, "ffffffffffff" + mac + tag + "88b5" + "00" * 50)
            within("g1", sys.executable, "-c", SENDER, "ffffffffffff" + mac + "88b6" + "00" * 50)
            self.assertNotIn("0x88b5", capture.until("0x88b6"))

    def test_without_vlans_they_are_refused(self):
        if kernel_can("bridge", "vlan_filtering", "1"):
            self.skipTest("this kernel's bridges know VLANs")
        self.refused("Operation not supported", "switch", "create", "s", "--type", "private", "--vlan", "5")
        self.create("s", "private")
        run("ip", "netns", "add", "g1")
        self.guests.append("g1")
        self.godwit("vm", "create", "g1", "--memory", "64M", "--kernel", WORKER, "--nic", "switch=s,vlan=7")
        self.refused("know no VLANs", "vm", "start", "g1")


class Change(Case):
    def test_uplinks_change_under_a_guest(self):
        within("outside", "ip", "addr", "add", "10.6.0.1/24", "dev", "up1")
        bridge = self.create("s", "external", "--uplink", "up1")["bridge"]
        self.guest("g1", "switch=s", address="10.6.0.99/24")
        within("g1", "ip", "addr", "add", "192.0.2.99/24", "dev", "eth0")
        answers("g1", "10.6.0.1")
        self.godwit("switch", "set", "s", "--uplink", "up0", "--share")
        answers("g1", OUTSIDE)
        answers("g1", HOST)
        answers("outside", HOST)
        self.assertFalse(ping("g1", "10.6.0.1"))
        status = self.show("s")
        self.assertEqual(([u["name"] for u in status["uplinks"]], status["host"], status["state"]), (["up0"], True, "ok"))
        self.assertIn(f"default via {OUTSIDE} dev {bridge}", run("ip", "route").stdout)
        # A change that cannot be: all is as it was.
        now = picture()
        self.refused("addresses of this host", "switch", "set", "s", "--no-share")
        self.refused("no network interface eth77", "switch", "set", "s", "--uplink", "eth77")
        self.refused("two uplinks", "switch", "set", "s", "--team", "lacp")
        self.assertEqual(picture(), now)
        answers("g1", OUTSIDE)
        self.stop(signal.SIGKILL)
        self.start()
        self.assertEqual([u["name"] for u in self.show("s")["uplinks"]], ["up0"])
        self.assertIn("switch.changed", (self.root / "log").read_text(encoding="utf-8"))

    def test_what_a_guest_was_told_changes_only_without_it(self):
        self.create("s", "nat", "--subnet", "10.9.0.0/24")
        self.create("t", "nat", "--subnet", "10.8.0.0/24")
        self.guest("g1", "switch=s")
        self.dhcp("g1")
        self.refused("the subnet cannot change: 1 adapter is plugged into s", "switch", "set", "s", "--subnet",
                     "10.9.0.0/16")
        self.refused("the MTU cannot change", "switch", "set", "s", "--mtu", "1400")
        self.assertTrue(ping("g1", OUTSIDE))
        self.godwit("vm", "stop", "--off", "g1")
        wait_for("the tap is gone", lambda: self.show("s")["ports"] == [])
        self.refused("switch t has the subnet", "switch", "set", "s", "--subnet", "10.8.0.0/16")
        self.godwit("switch", "set", "s", "--subnet", "10.9.0.0/16", "--mtu", "1400")
        self.assertEqual((self.show("s")["subnet"], self.show("s")["mtu_bytes"]), ("10.9.0.0/16", 1400))
        self.power_on("g1")
        lease = self.dhcp("g1")
        self.assertEqual((lease[1], lease[4]), ("16", "1400"))
        answers("g1", OUTSIDE)


class Nat(Case):
    def test_a_guest_gets_an_address_and_reaches_the_outside(self):
        self.create("s", "nat", "--subnet", "10.9.0.0/24")
        self.guest("g1", "switch=s")
        address, mask, router, dns, *_ = self.dhcp("g1")
        self.assertRegex(address, r"^10\.9\.0\.\d+$")
        self.assertEqual((mask, router, dns), ("24", "10.9.0.1", "10.9.0.1"))
        answers("g1", OUTSIDE)
        # The outside sees the host's address, and has no way in.
        with subprocess.Popen(["ip", "netns", "exec", "outside", sys.executable, "-c", SERVER], stdout=subprocess.PIPE,
                              text=True) as server:
            try:
                self.assertEqual(server.stdout.readline(), "listening\n")
                within("g1", sys.executable, "-c", CLIENT)
                self.assertEqual(server.communicate(timeout=DEADLINE_S)[0], f"{HOST} hello\n")
            finally:
                server.kill()
        within("outside", "ip", "route", "add", "10.9.0.0/24", "via", HOST)
        self.assertFalse(ping("outside", address))
        lookup = within("g1", "busybox", "nslookup", "localhost", "10.9.0.1", check=False).stdout
        self.assertIn("10.9.0.1", lookup)

    def test_two_of_them_are_apart(self):
        self.create("s", "nat")
        self.create("t", "nat")
        self.guest("g1", "switch=s")
        self.guest("g2", "switch=t")
        addresses = [self.dhcp(g)[0] for g in ("g1", "g2")]
        self.assertNotEqual(addresses[0].rsplit(".", 1)[0], addresses[1].rsplit(".", 1)[0])
        answers("g1", OUTSIDE)
        answers("g2", OUTSIDE)
        self.assertFalse(ping("g1", addresses[1]))

    def test_forged_sources_stay_inside(self):
        self.create("s", "nat")
        self.guest("g1", "switch=s")
        self.dhcp("g1")
        answers("g1", OUTSIDE)
        within("g1", "ip", "addr", "add", "203.0.113.9/32", "dev", "eth0")
        with Capture("outside", "up0", "icmp") as capture:
            within("g1", "ping", "-c", "2", "-W", "1", "-I", "203.0.113.9", OUTSIDE, check=False)
            answers("g1", OUTSIDE)
            self.assertNotIn("203.0.113.9", capture.until(f"{OUTSIDE}: ICMP echo request"))

    def test_the_host_does_not_become_a_router_for_others(self):
        run("ip", "netns", "add", "inner")
        try:
            run("ip", "link", "add", "in0", "type", "veth", "peer", "name", "in0", "netns", "inner")
            run("ip", "addr", "add", "198.51.100.1/24", "dev", "in0")
            run("ip", "link", "set", "in0", "up")
            within("inner", "ip", "addr", "add", "198.51.100.2/24", "dev", "in0")
            within("inner", "ip", "link", "set", "in0", "up")
            within("inner", "ip", "route", "add", "default", "via", "198.51.100.1")
            within("outside", "ip", "route", "add", "198.51.100.0/24", "via", HOST)
            answers("inner", HOST)
            self.create("s", "nat")
            self.assertEqual(forwarding(), "1")
            self.assertFalse(ping("inner", OUTSIDE))
            self.godwit("switch", "remove", "s")
            # An administrator's own decision stays.
            pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
            self.create("s", "nat")
            answers("inner", OUTSIDE)
            self.godwit("switch", "remove", "s")
            self.assertEqual(forwarding(), "1")
        finally:
            pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("0", encoding="ascii")
            run("ip", "link", "del", "in0")
            run("ip", "netns", "del", "inner")

    def test_dnsmasq_is_started_again_when_it_dies(self):
        first = self.create("s", "nat")["dhcp"]["pid"]
        os.kill(first, signal.SIGKILL)
        status = wait_for("another one", lambda: self.show("s")["dhcp"]["pid"] not in (0, first) and self.show("s"))
        self.assertEqual((status["state"], status["dhcp"]["restarts"]), ("ok", 1))
        self.assertEqual(dnsmasqs(), [status["dhcp"]["pid"]])
        self.assertIn("switch.dhcp", self.godwit("event", "list").stdout)
        self.guest("g1", "switch=s")
        self.assertTrue(self.dhcp("g1"))

    def test_rules_of_others_stay(self):
        run("nft", "add table inet mine; add chain inet mine c; add rule inet mine c ip saddr 203.0.113.7 drop")
        mine = run("nft", "list", "table", "inet", "mine").stdout
        try:
            self.create("s", "nat")
            self.godwit("switch", "remove", "s")
            self.assertEqual(run("nft", "list", "table", "inet", "mine").stdout, mine)
        finally:
            run("nft", "delete", "table", "inet", "mine")


class External(Case):
    def test_guests_are_in_the_network_of_the_uplink(self):
        within("outside", "ip", "addr", "del", f"{OUTSIDE}/24", "dev", "up0")
        within("outside", "ip", "addr", "add", f"{OUTSIDE}/24", "dev", "up1")
        self.create("s", "external", "--uplink", "up1")
        self.refused("up1 is an uplink of switch s", "switch", "create", "t", "--type", "external", "--uplink", "up1")
        self.guest("g1", "switch=s", address="192.0.2.99/24")
        answers("g1", OUTSIDE)
        answers("outside", "192.0.2.99")
        self.assertFalse(ping("g1", HOST))  # the host has no part in it
        neighbour = within("outside", "ip", "neigh", "show", "192.0.2.99").stdout
        self.assertIn(self.mac("g1"), neighbour)

    def test_a_shared_uplink_gives_its_addresses_and_gets_them_back(self):
        run("ip", "addr", "add", "192.0.2.6/24", "dev", "up0")
        run("ip", "addr", "add", "2001:db8::5/64", "dev", "up0", "nodad")
        run("ip", "route", "add", "203.0.113.0/24", "via", OUTSIDE, "metric", "77")
        now = picture()
        bridge = self.create("s", "external", "--uplink", "up0", "--share")["bridge"]
        routes = run("ip", "route").stdout
        self.assertIn(f"default via {OUTSIDE} dev {bridge}", routes)
        self.assertIn(f"203.0.113.0/24 via {OUTSIDE} dev {bridge} metric 77", routes)
        addresses = run("ip", "addr", "show", bridge).stdout
        for address in (f"{HOST}/24", "192.0.2.6/24", "2001:db8::5/64"):
            self.assertIn(address, addresses)
        self.assertNotIn("inet ", run("ip", "addr", "show", "up0").stdout)
        answers("outside", HOST)
        self.guest("g1", "switch=s", address="192.0.2.99/24")
        answers("g1", OUTSIDE)
        answers("g1", HOST)
        self.stop(signal.SIGKILL)
        self.start()
        answers("outside", HOST)
        self.godwit("vm", "stop", "--off", "g1")
        self.godwit("vm", "remove", "g1")
        self.godwit("switch", "remove", "s")
        self.assertEqual(picture(), now)
        answers("outside", HOST)
        run("ip", "addr", "del", "192.0.2.6/24", "dev", "up0")
        run("ip", "addr", "del", "2001:db8::5/64", "dev", "up0")
        run("ip", "route", "del", "203.0.113.0/24")

    def test_vlans_are_tagged_on_the_uplink(self):
        if not kernel_can("bridge", "vlan_filtering", "1"):
            self.skipTest("this kernel's bridges know no VLANs")
        within("outside", "ip", "link", "add", "link", "up1", "name", "up1.7", "type", "vlan", "id", "7")
        within("outside", "ip", "link", "set", "up1.7", "up")
        within("outside", "ip", "addr", "add", "10.7.0.1/24", "dev", "up1.7")
        self.create("s", "external", "--uplink", "up1")
        self.guest("g1", "switch=s,vlan=7", address="10.7.0.2/24")
        self.guest("g2", "switch=s", address="10.7.0.3/24")
        answers("g1", "10.7.0.1")
        self.assertFalse(ping("g2", "10.7.0.1"))

    def test_a_team_outlives_the_loss_of_a_member(self):
        if not kernel_can("bond"):
            self.skipTest("this kernel has no bonds")
        now = picture()
        run("ip", "netns", "exec", "outside", "ip", "link", "add", "br0", "type", "bridge")
        for name in ("up0", "up1"):
            within("outside", "ip", "link", "set", name, "master", "br0")
        within("outside", "ip", "addr", "del", f"{OUTSIDE}/24", "dev", "up0")
        within("outside", "ip", "addr", "add", f"{OUTSIDE}/24", "dev", "br0")
        within("outside", "ip", "link", "set", "br0", "up")
        status = self.create("s", "external", "--uplink", "up0,up1", "--team", "active-backup", "--share")
        self.assertEqual((status["state"], status["team"]), ("ok", "active-backup"))
        self.guest("g1", "switch=s", address="192.0.2.99/24")
        answers("g1", OUTSIDE)
        answers("outside", HOST)
        within("outside", "ip", "link", "set", "up0", "down")
        answers("g1", OUTSIDE)
        answers("outside", HOST)
        within("outside", "ip", "link", "set", "up0", "up")
        self.godwit("vm", "stop", "--off", "g1")
        self.godwit("vm", "remove", "g1")
        self.godwit("switch", "remove", "s")
        self.assertEqual(picture(), now)
        answers("outside", HOST)

    def test_lacp_is_what_the_bond_speaks(self):
        if not kernel_can("bond"):
            self.skipTest("this kernel has no bonds")
        bridge = self.create("s", "external", "--uplink", "up0", "--uplink", "up1", "--team", "lacp",
                             "--share")["bridge"]
        bonds = run("ip", "-d", "link", "show", "type", "bond").stdout
        self.assertIn("mode 802.3ad", bonds)
        self.assertIn(f"master {bridge}", bonds)


def main():
    if os.geteuid() != 0:
        print("skipped: needs root")
        sys.exit(77)
    for program in ("ip", "nft", "dnsmasq", "busybox", "ping", "tcpdump", "unshare"):
        if shutil.which(program) is None:
            print(f"skipped: {program} is missing")
            sys.exit(77)
    if INSIDE not in os.environ:
        os.execvpe("unshare", ["unshare", "--net", "--mount", "--propagation", "private", sys.executable,
                               str(HERE), *sys.argv[1:]], {**os.environ, INSIDE: "1"})
    run("mount", "-t", "tmpfs", "none", "/run")  # of its own: named namespaces
    run("mount", "-t", "sysfs", "none", "/sys")
    run("ip", "link", "set", "lo", "up")
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`godwit switch` and `--nic` with unmodified Debian kernels: DHCP, TCP, two VMs, save, restarts."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gwlab_client  # noqa: E402
import vm_test  # noqa: E402
from gwlab_client import wait_for  # noqa: E402

# In a guest: udhcpc's answers become addresses. Lines are short, as the guest's agent wants them.
DHCP = (
    r"""printf '#!/bin/sh\n[ $1 = bound ] || exit 0\n' >/tmp/lease""",
    """echo 'ip addr add $ip/$mask dev $interface; ip route add default via $router' >>/tmp/lease""",
    "chmod +x /tmp/lease; ip link set eth0 up",
    "udhcpc -f -q -n -i eth0 -s /tmp/lease -t 20 -T 1",
)
# Of tests/node/switch_test.py.
ON_DEBIAN = ("External.test_vlans_are_tagged_on_the_uplink", "External.test_lacp_is_what_the_bond_speaks")
BYTES = 8 << 20  # of a transfer: some thousand segments, large frames among them
# On the node: what guests reach beyond it.
OUTSIDE = """ip netns add outside
ip link add to-outside type veth peer name eth0 netns outside
ip addr add 192.0.2.1/24 dev to-outside; ip link set to-outside up
ip -n outside addr add 192.0.2.2/24 dev eth0; ip -n outside link set eth0 up; ip -n outside link set lo up"""
# All that a server in the guest sends, as a checksum; the server may not listen yet.
READER = """
import hashlib, socket, sys, time
for _ in range(100):
    try:
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
        break
    except ConnectionRefusedError:
        time.sleep(0.2)
total = hashlib.md5()
while data := s.recv(65536):
    total.update(data)
print(total.hexdigest())
"""
# One TCP connection to the guest's echo port that must never break: a line forth and back, again and again.
TALKER = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], 7), timeout=30)
s.settimeout(120)
f = s.makefile("rw")
for n in range(1000000):
    f.write(f"{n}\\n"); f.flush()
    answer = f.readline()
    if answer != f"{n}\\n":
        sys.exit(f"sent {n}, got {answer!r}")
    open("/root/talker", "w").write(str(n))
    time.sleep(0.1)
"""


class Net(vm_test.Node):
    """One node with switches."""

    def boot(self, name, nics, cpus=1, append=""):
        """A VM with adapters."""
        self.define(name, cpus, append, " ".join(f"--nic {nic}" for nic in nics))
        self.godwit(f"vm start {name}")

    def switch(self, name, options):
        """Before the VMs that use it: what is made last is removed first."""
        self.godwit(f"switch create {name} {options}")
        self.addCleanup(lambda: self.godwit(f"switch remove {name}"))

    def taps(self):
        return re.findall(r"gwt-\w+", self.lab.sh("n1", "ip -o link"))

    def ports(self, name):
        return self.godwit_json(f"switch show {name}")["ports"]

    def nic(self, name):
        return self.godwit_json(f"vm show {name}")["definition"]["nics"][0]

    def talked(self):
        return int(self.lab.sh("n1", "cat /root/talker 2>/dev/null || echo 0") or 0)

    def goes_on(self, what):
        """The talker's connection carries on."""
        now = self.talked()
        wait_for(f"the connection goes on: {what}", lambda: self.talked() > now + 3, 120)

    def test_a_guest_behind_nat(self):
        """One VM for all of it: booting one takes longer than the rest."""
        self.lab.sh("n1", OUTSIDE)
        self.addCleanup(lambda: self.lab.exec("n1", "ip netns del outside"))
        self.switch("inet", "--type nat")
        self.switch("other", "--type internal")
        self.boot("web", ["switch=inet"], cpus=2)
        self.wait_ready("web")
        mac = self.nic("web")["mac"]
        self.assertRegex(mac, "^00:15:5d:")
        with self.console("web") as process:
            guest = vm_test.Console(self, process)
            self.proofs(guest, mac)
            address = self.lease(guest)
            self.transfers(guest, address)
        nic = self.godwit_json("vm show web")["nics"][0]
        self.assertEqual(nic["mac"], mac)
        self.assertGreater(nic["rx_bytes"], BYTES)
        self.assertGreater(nic["tx_bytes"], BYTES)
        with self.lab.spawn("n1", f"exec python3 -c '{TALKER}' {address}") as talker:
            wait_for("the talker talks", lambda: self.talked() > 3, 60)
            self.godwit("vm save web", timeout=120)
            self.assertEqual(self.taps(), [])
            self.godwit("vm start web", timeout=120)
            self.goes_on("saved and restored")
            self.lab.sh("n1", "pkill -9 -x godwitd")
            self.goes_on("without the service")
            self.start_godwitd()
            self.assertEqual([p["vm"] for p in self.ports("inet")], ["web"])
            self.goes_on("with a new service")
            self.assertIsNone(talker.poll())
        self.refused("switch remove inet", "VM web has an adapter")
        # The worker dies: its tap is gone with it, and the next one gets another.
        self.lab.sh("n1", "kill -9 $(pgrep -o godwit-vm)")
        self.wait_ready("web", 2)
        self.assertEqual(len(self.taps()), 1)
        self.godwit("vm stop --off web")
        self.assertEqual(self.taps(), [])
        # Another switch, the same adapter.
        self.godwit("vm set web --nic switch=other")
        self.assertEqual((self.nic("web")["mac"], self.nic("web")["switch"]), (mac, "other"))
        self.refused(f"vm create twin --kernel {self.files['bzimage']} --nic switch=other,mac={mac}", "VM web has the address")

    def proofs(self, guest, mac):
        log = guest.ask("sh dmesg", raw=True)
        self.assertIn("hv_vmbus: registering driver hv_netvsc", log)
        self.assertNotRegex(log, r"unable to add netvsc device|Call Trace|hv_netvsc .*(fail|error|unable)")
        self.assertIn(mac, guest.ask("sh cat /sys/class/net/eth0/address", raw=True))
        self.assertIn("hv_netvsc", guest.ask("sh readlink /sys/class/net/eth0/device/driver", raw=True))
        # A channel for each processor.
        self.assertEqual(guest.ask("sh ls -d /sys/class/net/eth0/queues/rx-*", raw=True).count("rx-"), 2)

    def lease(self, guest):
        """DHCP; returns the guest's address."""
        for line in DHCP:
            self.assertRegex(guest.ask(f"sh {line}"), "^ok ")
        found = re.search(r"inet (10\.77\.\d+\.\d+)/24", guest.ask("sh ip addr show eth0", raw=True))
        self.assertTrue(found)
        self.assertEqual(guest.ask("sh cat /sys/class/net/eth0/carrier", raw=True).split()[-1], "1")
        return found[1]

    def transfers(self, guest, address):
        """TCP out through NAT, and in from the node, with every byte compared."""
        self.lab.sh("n1", f"head -c {BYTES} /dev/urandom >/root/data; (cd /root; setsid ip netns exec outside "
                          "python3 -m http.server 7002 >/dev/null 2>&1 </dev/null &)")
        want = self.lab.sh("n1", "md5sum </root/data").split()[0]
        wait_for("the server listens", lambda: "7002" in self.lab.sh("n1", "ip netns exec outside ss -ltn"))
        self.assertRegex(guest.ask("sh wget -q -O /tmp/data http://192.0.2.2:7002/data"), "^ok ")
        self.assertIn(want, guest.ask("sh md5sum </tmp/data", raw=True))
        guest.ask("sh (nc -l -p 7003 </tmp/data >/dev/null 2>&1 &)")
        self.assertEqual(self.lab.sh("n1", f"python3 -c '{READER}' {address} 7003").strip(), want)
        self.assertRegex(guest.ask("sh ping -c 3 -W 5 192.0.2.2", raw=True), r"[1-3] packets received")

    def test_switches_come_back_with_the_node(self):
        self.switch("inet", "--type nat --subnet 10.9.0.0/24")
        self.switch("lan", "--type external --uplink guest --share")
        before = {name: self.godwit_json(f"switch show {name}") for name in ("inet", "lan")}
        self.assertIn("10.77.3.1/24", self.lab.sh("n1", f"ip addr show {before['lan']['bridge']}"))
        self.lab.do("kill", "n1")
        self.lab.do("start", "n1")
        self.start_godwitd()
        wait_for("the switches work, on a busy machine too", lambda: all(
            self.godwit_json(f"switch show {name}")["state"] == "ok" for name in before), 120)
        for name, was in before.items():
            now = self.godwit_json(f"switch show {name}")
            for status in (was, now):
                status.pop("dhcp", None)
            self.assertEqual((now["state"], now), ("ok", was))
        self.assertIn("10.77.3.1/24", self.lab.sh("n1", f"ip addr show {before['lan']['bridge']}"))
        self.assertIn("masquerade", self.lab.sh("n1", "nft list table inet godwit"))

    def test_vlans_and_bonds_of_debians_kernel(self):
        """The machine's own kernel may be without them."""
        test = gwlab_client.SOURCE / "tests/node/switch_test.py"
        build = pathlib.Path(self.lab.sh("n1", "readlink -f $(command -v godwitd)").strip()).parents[1]
        out = self.lab.exec("n1", f"GW_BUILD={build} python3 {test} {' '.join(ON_DEBIAN)} 2>&1",
                            timeout=300).stdout.decode()
        self.assertRegex(out, rf"Ran {len(ON_DEBIAN)} tests in [^\n]*\n\nOK\n")

    def test_two_vms_on_a_private_switch(self):
        self.switch("priv", "--type private")
        for name, address in (("left", "10.5.0.1/24"), ("right", "10.5.0.2/24")):
            self.boot(name, ["switch=priv,vlan=7", f"mac=02:00:00:00:00:0{len(name)}"], append=f"gw.ip={address}")
        for name in ("left", "right"):
            self.wait_ready(name)
        self.assertEqual({p["vm"]: p["vlan"] for p in self.ports("priv")}, {"left": 7, "right": 7})
        with self.console("left") as process:
            guest = vm_test.Console(self, process)
            self.assertRegex(guest.ask("sh ping -c 3 -W 5 10.5.0.2", raw=True), r"[1-3] packets received")
            # The other guest's echo port answers over TCP.
            self.assertIn("hello", guest.ask("sh (echo hello; sleep 2) | nc 10.5.0.2 7", raw=True))
            # An adapter in no switch is one without a cable.
            guest.ask("sh ip link set eth1 up")
            self.assertEqual(guest.ask("sh cat /sys/class/net/eth1/carrier", raw=True).split()[-1], "0")
        for name in ("left", "right"):
            self.godwit(f"vm stop --off {name}")
        self.assertEqual(self.ports("priv"), [])


if __name__ == "__main__":
    gwlab_client.main()

# SPDX-License-Identifier: Apache-2.0
"""The lab's networks: bridges in a network namespace of its own, and a tap per node and network.

Every lab uses the same addresses: nothing leaves its namespace.
"""
import pathlib

from gwlab.run import run

# Name -> number: the third byte of addresses 10.77.N.node, the fifth of 52:54:00:4c:N:node.
NETWORKS = {"cluster": 1, "storage": 2, "guest": 3}
MTU = {"cluster": 1500, "storage": 9000, "guest": 1500}
NODES_MAX = 16  # Taps have names of at most 15 bytes, addresses one byte; enough for a lab.


class Network:
    """The namespace of one lab."""

    def __init__(self, lab_name):
        self.namespace = f"gwlab-{lab_name}"
        self.path = pathlib.Path("/run/netns") / self.namespace

    def create(self, nodes):
        """Make the namespace, its bridges and taps; what an earlier try left is removed first."""
        self.remove()
        run("ip", "netns", "add", self.namespace)
        run("ip", "netns", "exec", self.namespace, "sysctl", "-q", "-w",
            "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        lines = ["link set lo up"]
        for net, number in NETWORKS.items():
            lines += [
                f"link add br-{net} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                f"link set br-{net} mtu {MTU[net]} up",
                f"address add 10.77.{number}.254/24 dev br-{net}",
            ]
            for node in nodes:
                lines += [f"tuntap add dev {node}-{net} mode tap vnet_hdr",
                          f"link set {node}-{net} mtu {MTU[net]} master br-{net} up"]
        self.batch(lines)

    def batch(self, lines):
        """Run many `ip` commands in the namespace."""
        run("ip", "-n", self.namespace, "-batch", "-", input_text="\n".join(lines) + "\n")

    def connect(self, node, net, connected):
        """Plug the tap of @node into the bridge of @net, or pull it out."""
        self.batch([f"link set {node}-{net} " + (f"master br-{net}" if connected else "nomaster")])

    def exists(self):
        """Is there such a namespace?"""
        return self.path.exists()

    def remove(self):
        """Remove the namespace and all that is in it."""
        if self.exists():
            run("ip", "netns", "delete", self.namespace)

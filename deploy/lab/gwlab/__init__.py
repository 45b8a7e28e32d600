# SPDX-License-Identifier: Apache-2.0
"""The lab: nodes, networks and disks of a datacenter on one machine (docs/lab.md).

    cli      the commands
    lab      one lab: its directory, its configuration, its nodes
    host     what this machine has: packages, memory, disk space, acceleration
    kernel   Debian's kernel, downloaded and unpacked once; initial RAM disks
    network  a network namespace with three bridges
    node     one QEMU process: start, power
    cable    networks and disks of a node, cut and healed
    guestkit guests to run inside of nodes (the program deploy/lab/guest)
    procs    the lab's processes, found and ended
    qmp      QEMU's control protocol
    channel  commands in a node over virtio-serial
"""

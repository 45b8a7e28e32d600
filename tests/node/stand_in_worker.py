#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for godwit-vm where a test is about networks: a worker whose guest is a network namespace.

godwitd starts it like a worker (--config-fd, --control-fd). Each adapter's tap is connected to an interface ethN,
with the adapter's address, in the namespace named like the VM. What arrives at one end leaves at the other.
"""
import ctypes
import fcntl
import json
import os
import select
import socket
import struct
import sys

TUNSETIFF, TUNSETVNETHDRSZ = 0x400454CA, 0x400454D8
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
SIOCSIFHWADDR, SIOCSIFFLAGS, SIOCGIFFLAGS, SIOCSIFMTU = 0x8924, 0x8914, 0x8913, 0x8922
IFF_UP = 1
ARPHRD_ETHER = 1
CLONE_NEWNET = 0x40000000
VNET_BYTES = 12
FRAME_MAX = 65536


def enter(namespace):
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as ns:
        if libc.setns(ns.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def interface(name, mac):
    """A tap in this namespace, up, without vnet headers."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        address = struct.pack("16sH6s16x", name.encode(), ARPHRD_ETHER, bytes.fromhex(mac.replace(":", "")))
        fcntl.ioctl(control, SIOCSIFHWADDR, address)
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), IFF_UP))
    return fd


def pump(source, sink, cut, head):
    """All frames that wait: their first cut bytes go, head comes."""
    while True:
        try:
            frame = os.read(source, FRAME_MAX)
        except BlockingIOError:
            return
        try:
            os.write(sink, head + frame[cut:])
        except (BlockingIOError, OSError):
            pass  # as a cable would: lost


def answer(client):
    """One request of the service; False: it is gone, and may come again."""
    message = client.recv(65536)
    if not message:
        return False
    request = json.loads(message)
    if request["cmd"] == "off":
        sys.exit(0)
    client.send(json.dumps({"id": request["id"], "result": {}}).encode())
    return True


def main():
    words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    config_fd = int(words["--config-fd"])
    config = json.loads(os.pread(config_fd, os.fstat(config_fd).st_size, 0))
    control = socket.socket(fileno=int(words["--control-fd"]))
    enter(config["vm"]["name"])
    poll = select.poll()
    pumps = {}
    for index, (nic, tap) in enumerate(zip(config["vm"]["nics"], config["fds"]["taps"])):
        if not tap["link"]:
            continue
        queues = tap["queues"]
        inside = interface(f"eth{index}", nic["mac"])
        for queue in queues:
            pumps[queue] = (queue, inside, VNET_BYTES, b"")
        pumps[inside] = (inside, queues[0], 0, bytes(VNET_BYTES))
    clients = {}
    for fd in [control.fileno(), *pumps]:
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd in pumps:
                pump(*pumps[fd])
            elif fd == control.fileno():
                client = control.accept()[0]
                clients[client.fileno()] = client
                poll.register(client, select.POLLIN)
            elif not answer(clients[fd]):
                poll.unregister(fd)
                clients.pop(fd).close()


if __name__ == "__main__":
    main()

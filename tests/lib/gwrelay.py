#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bad weather on a link: copies frames between ports in place of a bridge, loses some and delays the others.

    gwrelay.py LOSS JITTER_MS PORT...

Each frame is lost with the chance LOSS (0..1) and else delayed by 0..JITTER_MS, each by itself, so that they overtake
each other. What netem does, for kernels without it. Ends with the process that started it.
"""
import heapq
import random
import select
import socket
import sys
import time

SOL_PACKET, PACKET_VNET_HDR = 263, 15  # linux/if_packet.h
VNET_HDR_BYTES = 10  # in front of each frame: checksums that the sender left to its device
OUTGOING = 4
ALL = 3


def main(loss, jitter_s, names):
    ports = []
    for name in names:
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
        port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        port.bind((name, ALL))
        port.setblocking(False)
        ports.append(port)
    where, waiting, number = {}, [], 0
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, port, frame = heapq.heappop(waiting)
            try:
                port.send(frame)
            except OSError:
                pass  # a full queue or a port that is down loses frames, as wires do
        timeout = max(0.0, waiting[0][0] - now) if waiting else None
        for port in select.select(ports, [], [], timeout)[0]:
            frame, address = port.recvfrom(1 << 17)
            if address[2] == OUTGOING or len(frame) < VNET_HDR_BYTES + 14:
                continue
            to, source = (frame[VNET_HDR_BYTES + at:VNET_HDR_BYTES + at + 6] for at in (0, 6))
            where[source] = port
            for other in ([where[to]] if to in where else ports):
                if other is not port and random.random() >= loss:
                    number += 1
                    heapq.heappush(waiting, (time.monotonic() + random.random() * jitter_s, number, other, frame))


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]) / 1000, sys.argv[3:])

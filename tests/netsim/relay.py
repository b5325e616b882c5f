"""The seeded link of `simulation` in real time, between TUN devices and endpoints of ours.

kernel TCP -- TUN --+-- Direction -->--+-- TUN -- kernel TCP
                    +--<-- Direction --+   or an `Endpoint`: our TCP in this process
"""

from __future__ import annotations

import heapq
import os
import random
import select
import struct
import time
from collections.abc import Callable
from typing import Protocol

from tests.netsim.out import Packet
from tests.netsim.simulation import Direction, Host

VIRTIO = struct.Struct("<BBHHHH")
NEEDS_CHECKSUM = 1


class End(Protocol):
    """One side of a relay."""

    def fileno(self) -> int | None:
        """What becomes readable when `take` has something; None: nothing ever by itself."""

    def take(self) -> list[Packet]:
        """Packets that this end has sent."""

    def give(self, packet: Packet) -> None:
        """A packet for this end arrives."""

    def timer(self) -> float | None:
        """When `tick` wants to be called."""

    def tick(self, now: float) -> None:
        """The timer's time has come."""


class TunEnd:
    """A TUN device's descriptor."""

    def __init__(self, descriptor: int, offload: bool = False) -> None:
        self._descriptor = descriptor
        self._offload = offload
        self._buffer = bytearray(10 + 65535)

    def fileno(self) -> int | None:
        return self._descriptor

    def take(self) -> list[Packet]:
        packets = []
        for _ in range(32):
            try:
                n = os.readv(self._descriptor, [self._buffer])
            except BlockingIOError:
                break
            if self._offload:
                fields = VIRTIO.unpack_from(self._buffer)
                flags, gso, hdr_len, size, start, offset = fields
                if not flags & NEEDS_CHECKSUM:
                    start = offset = 0
                data = bytes(self._buffer[10:n])
                packets.append(Packet(data, gso, size, hdr_len, start, offset))
            else:
                packets.append(Packet(bytes(self._buffer[:n])))
        return packets

    def give(self, packet: Packet) -> None:
        pieces = [packet.data]
        if self._offload:
            flags = NEEDS_CHECKSUM if packet.csum_start else 0
            header = VIRTIO.pack(
                flags,
                packet.gso_type,
                packet.hdr_len,
                packet.gso_size,
                packet.csum_start,
                packet.csum_offset,
            )
            pieces.insert(0, header)
        os.writev(self._descriptor, pieces)

    def timer(self) -> float | None:
        return None

    def tick(self, now: float) -> None:
        pass


class HostEnd:
    """An endpoint of ours."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def fileno(self) -> int | None:
        return None

    def take(self) -> list[Packet]:
        return self.host.log.take()

    def give(self, packet: Packet) -> None:
        protocol = packet.data[9 if packet.data[0] >> 4 == 4 else 6]
        if protocol != 6:
            return  # The kernel's chatter: router solicitations, multicast reports.
        self.host.arrive(packet)

    def timer(self) -> float | None:
        return self.host.conn.get_timer()

    def tick(self, now: float) -> None:
        self.host.conn.handle_timer(now)
        self.host.conn.flush_ack(now)


def relay(
    a: End,
    b: End,
    ab: Direction,
    ba: Direction,
    seed: int,
    until: Callable[[], bool],
    timeout: float,
) -> None:
    """Carry packets between the ends until `until`; raises TimeoutError after `timeout` s."""
    rng = random.Random(seed)
    ends = (a, b)
    directions = (ab, ba)
    waiting: list[tuple[float, int, int, Packet]] = []
    serial = 0
    poll = select.poll()
    for end in ends:
        descriptor = end.fileno()
        if descriptor is not None:
            poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + timeout
    while not until():
        now = time.monotonic()
        if now > deadline:
            raise TimeoutError(f"no end after {timeout} s")
        while waiting and waiting[0][0] <= now:
            _, _, index, packet = heapq.heappop(waiting)
            ends[index].give(packet)
        due = now + 0.2
        for end in ends:
            timer = end.timer()
            if timer is not None and timer <= now:
                end.tick(now)
                timer = end.timer()
            if timer is not None:
                due = min(due, timer)
        taken = False
        for index, end in enumerate(ends):
            packets = end.take()
            now = time.monotonic()
            for packet in packets:
                taken = True
                for at in directions[index].arrivals(len(packet.data), now, rng):
                    serial += 1
                    heapq.heappush(waiting, (at, serial, 1 - index, packet))
        if waiting:
            due = min(due, waiting[0][0])
        if not taken:
            poll.poll(max(0.0, (due - time.monotonic()) * 1000))

"""One side of `parts.py`: says `ready`, then takes a burst for each line on standard input.

Run with the Python of the checkout that is measured.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

BURST = 1e-3
"""Seconds."""
LARGE, SMALL = 65000, 60
RECORDS = 3
"""Large ones that are received in one go."""
BATCH = 64
"""Small packets of a record."""


NOISE = random.Random(1).randbytes(1 << 17)


def received(stream: object, buffer: memoryview, size: int = 0, /) -> int:
    """For `nat_micro.NullStream`."""
    if not (buffer[0] or buffer[1]):
        buffer[:size] = NOISE[:size]
    return size


def nat(name: str) -> Callable[[], float]:
    from benchmarks import nat_micro

    # As it is here: older ones have no payload but zeros, whose checksum costs nothing.
    cast(Any, nat_micro.NullStream).recv_into = received
    offload, make = next((offload, make) for n, offload, make in nat_micro.CASES if n == name)
    case = make(nat_micro.World(offload))
    for _ in range(50):
        next(case)

    def burst() -> float:
        units = 0
        began = time.thread_time()
        while (took := time.thread_time() - began) < BURST:
            units += next(case)
        return took / units

    return burst


def tcp(name: str) -> Callable[[], float]:
    from benchmarks import tcp_micro

    run, count = next((run, count) for n, run, count in tcp_micro.CASES if n == name)
    # Its own clock also runs while others have the processor.
    cast(Any, tcp_micro).time = SimpleNamespace(perf_counter=time.thread_time)
    short = max(20, min(count, int(BURST / run(20))))
    return lambda: run(short)


def session(name: str) -> Callable[[], float]:
    from dataclasses import replace

    from tests.vshp.dialogue import LEASE, connected, drain
    from vshp.config import Suite

    both = connected(replace(LEASE, offload=True), Suite.AESGCM_SHA256)
    both.gateway.on_packet = lambda buf, start, end, offload: None
    writer = both.client.writer
    packet = bytearray(64 + LARGE)

    def fill_large() -> int:
        for _ in range(RECORDS):
            writer.send_packet(packet, 64, 64 + LARGE)
        return RECORDS

    def fill_small() -> int:
        for _ in range(BATCH):
            writer.reserve_packet(SMALL)
        writer.flush()
        return BATCH

    way, _, size = name.partition(" ")
    fill = fill_small if size == "small" else fill_large

    def burst() -> float:
        took, units = 0.0, 0
        while took < BURST:
            began = time.thread_time()
            count = fill()
            sealed = time.thread_time() - began
            data = drain(both.client)
            buffer = both.gateway.receive_buffer()
            buffer[: len(data)] = data
            began = time.thread_time()
            both.gateway.received(len(data), 0.0)
            opened = time.thread_time() - began
            took += sealed if way == "seals" else opened
            units += count
        return took / units

    return burst


def client(name: str) -> Callable[[], float]:
    """A client's link over UDP: from what one system call brought to a NIC that takes all."""
    import asyncio
    import os
    import socket
    from dataclasses import replace

    from client import datagram_link
    from client.model import TransportEndpoint
    from eventloop.poller import PolledLoop
    from tests.vshp.lossy import connected, split

    world = connected()
    session = cast(Any, world.client)
    lease = replace(session.lease, offload=False)
    own: bytes = lease.ipv4
    far = bytes((192, 0, 2, 1))
    count = 1 if name.startswith("1 ") else RUN

    def packet(number: int) -> bytes:
        if name.endswith("TCP"):
            size, protocol = 1348, 6
            ports = (80).to_bytes(2, "big") + (4000).to_bytes(2, "big")
            body = ports + (number * 1308).to_bytes(4, "big") + bytes(4) + b"\x50\x10\xff\xff"
        else:
            size, protocol = 1228, 17
            body = (53).to_bytes(2, "big") + (4000).to_bytes(2, "big") + (1208).to_bytes(2, "big")
        head = b"\x45\0" + size.to_bytes(2, "big") + number.to_bytes(2, "big") + b"\x40\0\x40"
        return (head + bytes((protocol, 0, 0)) + far + own + body + bytes(size))[:size]

    class Still(datagram_link.DatagramLink):
        def _begin(self) -> None: ...

        def _settle(self, ending: object) -> None: ...

    class Nic:
        name, vnet_header, offload_udp = "null", True, False
        fileno = staticmethod(lambda: os.open("/dev/null", os.O_WRONLY))
        set_offload = set_mtu = staticmethod(lambda *_: None)

    async def linked() -> Any:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        there = TransportEndpoint("udp", "127.0.0.1", 1)
        sessions = SimpleNamespace(datagram=lambda now, address: session)
        link = Still(cast(Any, None), sock, there, cast(Any, sessions), lambda: sock)
        # This checkout's, whatever tree is measured.
        sys.path.append(os.path.dirname(__file__))
        attached = import_module("attaching").attached

        attached(link, Nic(), lease)
        link._address = session.address
        return link

    with asyncio.Runner(loop_factory=PolledLoop) as runner:
        link = runner.run(linked())
    packets = [bytearray(64) + packet(number) for number in range(count)]
    assert world.gateway is not None
    writer = world.gateway.writer
    received: list[tuple[int, list[tuple[int, int, bytes]], int, None]] = []

    def receive(buffers: object, size: int) -> object:
        if not received:
            raise BlockingIOError
        return received.pop()

    link._sock = SimpleNamespace(recvmsg_into=receive)

    def burst() -> float:
        took, units = 0.0, 0
        while took < BURST:
            for each in packets:
                writer.send_packet(each, 64, len(each))
            writer.flush()
            datagrams = split(writer.output())
            data = b"".join(datagrams)
            link._buffer[: len(data)] = data
            joined = [(socket.IPPROTO_UDP, UDP_GRO, len(datagrams[0]).to_bytes(4, "little"))]
            received.append((len(data), joined if count > 1 else [], 0, None))
            began = time.thread_time()
            link._receive(world.now)
            took += time.thread_time() - began
            units += count
        return took / units

    return burst


UDP_GRO = 104
RUN = 40
"""Datagrams that one system call brings."""
CLIENT = ("1 datagram of UDP", "1 datagram of TCP", "datagrams of UDP", "datagrams of TCP")
SESSION = ("seals small", "seals 64 KiB", "opens small", "opens 64 KiB")
PARTS = {"nat": nat, "tcp": tcp, "session": session, "client": client}


def main() -> None:
    bursts: dict[str, Callable[[], float]] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        what = line.strip()
        if what not in bursts:
            part, _, name = what.partition(" ")
            bursts[what] = PARTS[part](name)
        print(bursts[what]() * 1e6, flush=True)


if __name__ == "__main__":
    main()

"""What the NAT and TCP cost in Python, without the kernel: microseconds for each kind of work.

    python -m benchmarks.nat_micro [--seconds 0.5]

Sockets are stand-ins that do nothing, packets are prepared beforehand, so the
figures are the packet path's own: what is left of a core at a given rate.
"""

from __future__ import annotations

import argparse
import random
import socket
import struct
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from gateway.nat.counters import Counters
from gateway.nat.policy import EgressPolicy
from gateway.nat.router import Nat, NatConfig, TunnelPeer
from netstack.addresses import Addresses
from netstack.checksum import add, finish, pseudo_header
from netstack.ip import PROTO_TCP, PROTO_UDP, pack_ip
from splice.ports import READABLE, WRITABLE, ReadyHandler

CLIENT = socket.inet_aton("10.9.0.2")
GATEWAY = socket.inet_aton("10.9.0.1")
HOST = socket.inet_aton("192.0.2.1")
NOISE = b"\x01" + random.Random(1).randbytes((1 << 17) - 1)
BATCH = 32
"""Packets from the tunnel between two `end_batch`."""


class NullStream:
    """A socket that takes everything and gives what is asked for."""

    device = None

    def __init__(self, handler: ReadyHandler) -> None:
        self.handler = handler
        self.left = 0

    def recv_into(self, buffer: Any, nbytes: int = 0, /) -> int:
        if not buffer[0]:
            # Once: a checksum over zeros would cost next to nothing.
            buffer[:nbytes] = NOISE[:nbytes]
        return nbytes

    def send(self, data: Any, /) -> int:
        return len(data)

    def send_urgent(self, data: Any, /) -> int:
        return len(data)

    def urgent_ahead(self) -> None:
        return None

    def connect_error(self) -> int:
        return 0

    def keep_alive(self, idle: int) -> None: ...

    def shutdown_write(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def local(self) -> None:
        return None


class NullDatagrams:
    """Likewise for UDP; `payload` is what it has received, each time it is asked."""

    device = None

    def __init__(self, handler: ReadyHandler) -> None:
        self.handler = handler
        self.joined = 0

    def address(self, host: bytes, port: int) -> tuple[bytes, int]:
        return (host, port)

    def host(self, address: tuple[bytes, int]) -> tuple[bytes, int]:
        return address

    def send(self, data: Any, address: Any) -> None: ...

    def send_segments(self, data: Any, size: int, address: Any) -> None: ...

    def send_with_ttl(self, data: Any, address: Any, ttl: int) -> None: ...

    def set_fragmentation(self, allowed: bool) -> None: ...

    def recv_into(self, buffer: Any) -> tuple[int, int, Any]:
        return 1200 * max(1, self.joined), 1200 if self.joined else 0, (HOST, 53000)

    def recv_error(self) -> None:
        return None

    def close(self) -> None: ...

    def local(self) -> None:
        return None


class NullOutward:
    """Opens the above, and remembers the last of each."""

    stream: NullStream
    datagrams: NullDatagrams

    def connect(self, version: int, host: bytes, port: int, handler: ReadyHandler) -> NullStream:
        self.stream = NullStream(handler)
        return self.stream

    def open_datagram(self, version: int, handler: ReadyHandler) -> NullDatagrams:
        self.datagrams = NullDatagrams(handler)
        return self.datagrams

    def open_echo(self, version: int, handler: ReadyHandler) -> Any:
        raise NotImplementedError


class NullDns:
    def query(
        self, wire: bytes, over_tcp: bool, client: str, reply: Callable[[bytes], None]
    ) -> None: ...


class NullOut:
    """A link that swallows packets; it remembers the last one."""

    def __init__(self, offload: bool) -> None:
        self.offload = self.offload_udp = offload
        self.mtu = 1500
        self.buffer = bytearray(1 << 17)
        self.space = 0
        self.packet_bytes = 0
        self.last = b""

    @property
    def waiting(self) -> bool:
        return True

    def room(self) -> int:
        return self.space

    def reserve_packet(self, length: int, *_: int) -> int:
        self.space -= length
        self.packet_bytes += length
        return 0

    def send_packet(self, buf: bytearray, start: int, end: int, *_: int) -> None:
        self.space -= end - start
        self.packet_bytes += end - start


class World:
    """A NAT with one client, and the packets that it sends."""

    def __init__(self, offload: bool) -> None:
        self.outward = NullOutward()
        self.out = NullOut(offload)
        self.offload = offload
        self.now = 0.0
        nat = Nat(NatConfig(), self.outward, NullDns(), EgressPolicy(), Counters())
        self.nat = nat
        self.peer: TunnelPeer = nat.add_peer(
            "bench", Addresses(CLIENT, bytes(16), GATEWAY, bytes(16)), 1500, 0.0
        )
        self.peer.set_out(self.out, lambda: None, 0.0)

    def put(self, packet: bytearray) -> None:
        self.peer.from_tunnel(packet, 10, len(packet), self.offload, self.now)

    def tcp(
        self, port: int, flags: int, seq: int, ack: int, payload: int = 0, options: bytes = b""
    ) -> bytearray:
        """A segment from the client behind its offload header."""
        header = 20 + len(options)
        packet = bytearray(10 + 20 + header + payload)
        pack_ip(packet, 10, header + payload, PROTO_TCP, CLIENT, HOST)
        struct.pack_into(
            "!HHIIHHHH", packet, 30, port, 80, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF,
            (header // 4) << 12 | flags, 0xFFFF, 0, 0,
        )  # fmt: skip
        packet[50 : 50 + len(options)] = options
        if self.offload:
            struct.pack_into("<BBHHHH", packet, 0, 1, 1, 20 + header, 1448, 20, 16)
        else:
            pseudo = pseudo_header(CLIENT, HOST, PROTO_TCP, header + payload)
            total = finish(add(packet[30:]) + pseudo)
            packet[46:48] = total.to_bytes(2, "big")
        return packet

    def udp(self, payload: int, gso: int = 0) -> bytearray:
        packet = bytearray(10 + 28 + payload)
        pack_ip(packet, 10, 8 + payload, PROTO_UDP, CLIENT, HOST)
        struct.pack_into("!HHHH", packet, 30, 4000, 53000, 8 + payload, 0)
        if self.offload:
            struct.pack_into("<BBHHHH", packet, 0, 1, 5 if gso else 0, 28, gso, 20, 6)
        else:
            pseudo = pseudo_header(CLIENT, HOST, PROTO_UDP, 8 + payload)
            packet[36:38] = finish(add(packet[30:]) + pseudo).to_bytes(2, "big")
        return packet

    def open(self, port: int) -> int:
        """Handshake; returns the server's next sequence number."""
        options = bytes((2, 4, 5, 0xB4, 1, 3, 3, 7))
        self.put(self.tcp(port, 2, 999, 0, options=options))
        self.outward.stream.handler.ready(WRITABLE, self.now)
        flow = next(reversed(self.peer.tcp.values()))
        server = int(flow.conn.snd.nxt)
        self.put(self.tcp(port, 16, 1000, server))
        self.peer.end_batch(self.now)
        return server


Case = Iterator[int]
"""Does a piece of work at each step and yields how many units it was."""


def acks(world: World) -> Case:
    server = world.open(1024)
    packet = world.tcp(1024, 16, 1000, server)
    while True:
        for _ in range(BATCH):
            world.put(packet)
        world.peer.end_batch(world.now)
        yield BATCH


def tcp_up(world: World, size: int, batch: int) -> Case:
    server = world.open(1024)
    seq = 1000
    packet = world.tcp(1024, 16, seq, server, size)
    while True:
        world.out.space = 1 << 30
        for _ in range(batch):
            packet[34:38] = (seq & 0xFFFFFFFF).to_bytes(4, "big")
            if not world.offload:
                packet[46:48] = b"\0\0"
                pseudo = pseudo_header(CLIENT, HOST, PROTO_TCP, len(packet) - 30)
                packet[46:48] = finish(add(packet[30:]) + pseudo).to_bytes(2, "big")
            world.put(packet)
            seq += size
        world.peer.end_batch(world.now)
        yield batch


def tcp_down(world: World) -> Case:
    server = world.open(1024)
    flow = world.peer.tcp[next(iter(world.peer.tcp))]
    flow.ready(READABLE, world.now)
    while True:
        world.out.space = 1 << 17
        before = flow.to_tunnel_bytes
        world.peer.pull(world.now)
        count = flow.to_tunnel_bytes - before
        server += count
        world.put(world.tcp(1024, 16, 1000, server))
        world.peer.end_batch(world.now)
        yield -(-count // 65536)


def udp_up(world: World) -> Case:
    packet = world.udp(1200)
    while True:
        for _ in range(BATCH):
            world.put(packet)
        world.peer.end_batch(world.now)
        yield BATCH


def udp_up_segments(world: World) -> Case:
    packet = world.udp(1200 * 40, 1200)
    while True:
        world.put(packet)
        world.peer.end_batch(world.now)
        yield 40


def udp_down(world: World, joined: int) -> Case:
    world.put(world.udp(1200))
    world.peer.end_batch(world.now)
    datagrams = world.outward.datagrams
    datagrams.joined = joined
    datagrams.handler.ready(READABLE, world.now)
    mapping = next(iter(world.peer.mappings.values()))
    while True:
        world.out.space = 1 << 17
        before = mapping.to_tunnel_bytes
        world.peer.pull(world.now)
        yield (mapping.to_tunnel_bytes - before) // 1200


def connections(world: World) -> Case:
    """Connect, 100 bytes each way, the client closes."""
    port = 1024
    while True:
        server = world.open(port)
        handler = world.outward.stream.handler
        world.put(world.tcp(port, 24, 1000, server, 100))
        world.peer.end_batch(world.now)
        flow = next(reversed(world.peer.tcp.values()))
        flow._recv_into = lambda buffer, nbytes=0: 100
        handler.ready(READABLE, world.now)
        world.out.space = 1 << 17
        world.peer.pull(world.now)
        world.put(world.tcp(port, 17, 1100, server + 100))
        world.peer.end_batch(world.now)
        flow._recv_into = lambda buffer, nbytes=0: 0
        handler.ready(READABLE | 0x2000, world.now)
        world.peer.pull(world.now)
        world.put(world.tcp(port, 16, 1101, server + 101))
        world.peer.end_batch(world.now)
        world.now += 0.0005
        timer = world.nat.get_timer()
        if timer is not None and timer <= world.now:
            world.nat.handle_timer(world.now)
        port = 1024 + (port - 1023) % 60000
        yield 1


CASES: tuple[tuple[str, bool, Callable[[World], Case]], ...] = (
    ("TCP: pure ACK of a running flow, offload", True, acks),
    ("TCP: pure ACK of a running flow, software", False, acks),
    ("TCP: 64 KiB segment up, offload", True, lambda w: tcp_up(w, 65000, 1)),
    ("TCP: 1448-byte segment up, software", False, lambda w: tcp_up(w, 1448, BATCH)),
    ("TCP: 64 KiB down with its ACK, offload", True, tcp_down),
    ("TCP: 64 KiB down with its ACK, software", False, tcp_down),
    ("UDP: 1200 bytes up, software", False, udp_up),
    ("UDP: 1200 bytes up, checksum offload", True, udp_up),
    ("UDP: 1200 bytes up, 40 in one packet", True, udp_up_segments),
    ("UDP: 1200 bytes down one by one, software", False, lambda w: udp_down(w, 0)),
    ("UDP: 1200 bytes down, 40 joined, software", False, lambda w: udp_down(w, 40)),
    ("UDP: 1200 bytes down, 40 joined, offload", True, lambda w: udp_down(w, 40)),
    ("TCP: a whole connection, 7 packets each way", True, connections),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each line")
    parser.add_argument("--only", default="", help="lines that contain this text")
    arguments = parser.parse_args()
    for name, offload, make in CASES:
        if arguments.only not in name:
            continue
        case = make(World(offload))
        for _ in range(50):
            next(case)
        units = 0
        start = perf_counter()
        end = start + arguments.seconds
        while (now := perf_counter()) < end:
            units += next(case)
        print(f"{(now - start) / units * 1e6:8.2f} us  {name}")


if __name__ == "__main__":
    main()

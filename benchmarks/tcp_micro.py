"""What the TCP engine itself costs per segment, without sockets, tunnel or kernel.

Run as `python -m benchmarks.tcp_micro`. Each row is the best of several rounds,
in ns per segment, and its ratio to a baseline measured in the same run: the
time that this Python takes to unpack one TCP header. The ratio is what compares
between machines.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from struct import Struct

from netstack.checksum import add, pseudo_header
from netstack.tcp.buffers import CAPACITY, SendBufferPool
from netstack.tcp.config import CloseReason, TcpConfig
from netstack.tcp.connection import TcpConnection
from netstack.tcp_segment import ACK, PSH, SYN, parse_tcp, tcp_sum_ok

HOST, CLIENT = bytes((192, 0, 2, 1)), bytes((10, 99, 0, 2))
STAMPS = Struct(">HHIIHHHHIII")
OPTIONS = 0x0101080A
ROUNDS = 5
NOISE = random.Random(1).randbytes(1 << 16)
"""Payload: a checksum over zeros would cost next to nothing."""


class Sink:
    """A tunnel that forgets what it is given, and a user that takes everything at once."""

    def __init__(self, offload: bool) -> None:
        self.offload = self.offload_udp = offload
        self.mtu = 1500
        self.buffer = bytearray(70_000)
        self.packets = 0
        self.packet_bytes = 0
        self.conn: TcpConnection | None = None

    @property
    def waiting(self) -> bool:
        return True

    def room(self) -> int:
        return 1 << 20

    def reserve_packet(
        self,
        length: int,
        gso_type: int = 0,
        gso_size: int = 0,
        hdr_len: int = 0,
        csum_start: int = 0,
        csum_offset: int = 0,
    ) -> int:
        self.packets += 1
        return 0

    def send_packet(
        self,
        buf: bytearray,
        start: int,
        end: int,
        gso_type: int = 0,
        gso_size: int = 0,
        hdr_len: int = 0,
        csum_start: int = 0,
        csum_offset: int = 0,
    ) -> None:
        self.packets += 1

    def deliver(self, data: memoryview) -> None:
        assert self.conn is not None
        self.conn.consumed(len(data), 1.0)

    def deliver_urgent(self, data: memoryview, end: int) -> None:
        self.deliver(data)

    def deliver_fin(self) -> None:
        pass

    def kept_alive(self, silence: float) -> None:
        pass

    def window_opened(self) -> None:
        pass

    def closed(self, reason: CloseReason) -> None:
        pass


def segment(flags: int, seq: int, ack: int, payload: bytes = b"", window: int = 60000) -> bytearray:
    """A client's segment with timestamps and a good checksum."""
    packet = bytearray(32) + payload
    STAMPS.pack_into(
        packet, 0, 40000, 443, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 0x8000 | flags, window, 0, 0,
        OPTIONS, 5, 5,
    )  # fmt: skip
    pseudo = pseudo_header(CLIENT, HOST, 6, len(packet))
    packet[16:18] = (-(pseudo + add(packet)) % 65535).to_bytes(2, "big")
    return packet


def established(offload: bool, reliable: bool) -> tuple[TcpConnection, Sink]:
    """A connection after its handshake, with scaled windows and timestamps."""
    sink = Sink(offload)
    config = TcpConfig(reliable=reliable, congestion="cubic")
    conn = TcpConnection(4, HOST, 443, CLIENT, 40000, sink, config, 7, sink)
    sink.conn = conn
    syn = parse_tcp(segment(SYN, 99, 0), 0, 32)
    syn.mss, syn.window_shift, syn.sack_permitted = 1460, 8, True
    conn.syn_arrived(syn, 1.0)
    conn.accept(1.0)
    conn.segment_arrived(parse_tcp(segment(ACK, 100, 8), 0, 32), 1.0)
    return conn, sink


def receive(size: int, verify: bool) -> Callable[[int], float]:
    """Data segments of `size` bytes, an ACK for every 32, or for 128 KiB."""

    def run(count: int) -> float:
        conn, _ = established(True, True)
        payload = NOISE[:size]
        packets = [segment(ACK | PSH, 100 + i * size, 8, payload) for i in range(count)]
        pseudo = pseudo_header(CLIENT, HOST, 6, 32 + size)
        batch = min(32, 131072 // size)
        begin = time.perf_counter()
        for i, packet in enumerate(packets):
            if not verify or tcp_sum_ok(packet, 0, 32 + size, pseudo):
                conn.predicted(packet, 0, 32 + size, 1.0)
            if i % batch == 0:
                conn.flush_ack(1.0)
        elapsed = time.perf_counter() - begin
        assert conn.rcv.nxt == 100 + count * size
        return elapsed / count

    return run


def send(size: int, offload: bool, reliable: bool = True) -> Callable[[int], float]:
    """Buffers of `size` bytes, each acknowledged; per packet emitted."""

    def run(count: int) -> float:
        conn, sink = established(offload, reliable)
        pool = SendBufferPool()
        buf = pool.take()
        buf.view[:] = NOISE[:CAPACITY]
        buf.release()
        acks = [segment(ACK, 100, 8 + (i + 1) * size) for i in range(count)]
        sent = 0
        sink.packets = 0
        begin = time.perf_counter()
        for packet in acks:
            n = conn.sendable()
            assert reliable or n >= size
            conn.send(pool.take(), size, 1.0)
            sent += size
            conn.predicted(packet, 0, 32, 1.0)
        elapsed = time.perf_counter() - begin
        assert conn.in_flight == 0
        return elapsed / sink.packets

    return run


def baseline(count: int) -> float:
    """One unpack of a header."""
    packet = segment(ACK, 1, 1)
    unpack = STAMPS.unpack_from
    begin = time.perf_counter()
    for _ in range(count):
        unpack(packet, 0)
    return (time.perf_counter() - begin) / count


CASES: tuple[tuple[str, Callable[[int], float], int], ...] = (
    ("receive 64 KiB, offload", receive(65_000, False), 300),
    ("receive 1448 B, checksum given", receive(1448, False), 3000),
    ("receive 1448 B, checksum verified", receive(1448, True), 3000),
    ("receive 1 B", receive(1, False), 3000),
    ("send 64 KiB, offload, with its ACK", send(CAPACITY, True), 2000),
    ("send 64 KiB in MSS packets, with its ACK", send(14480, False), 300),
    ("send 1448 B, offload, with its ACK", send(1448, True), 3000),
    ("send 1448 B in software, with its ACK", send(1448, False), 3000),
    ("the same on a lossy link", send(1448, False, False), 3000),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, prog="benchmarks.tcp_micro")
    arguments.parse_args()
    unit = min(baseline(100_000) for _ in range(ROUNDS))
    print(f"{'segment':44} {'ns':>8} {'x unpack':>9}")
    print(f"{'unpack one header (the unit)':44} {unit * 1e9:8.0f} {1:9.1f}")
    for name, run, count in CASES:
        best = min(run(count) for _ in range(ROUNDS))
        print(f"{name:44} {best * 1e9:8.0f} {best / unit:9.1f}")


if __name__ == "__main__":
    main()

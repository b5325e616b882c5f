"""What connections through the proxy cost that are open and say nothing."""

from __future__ import annotations

import asyncio
import gc
import socket
import tracemalloc
from dataclasses import replace
from struct import Struct

from client.outlet.port import Intake
from client.outlet.proxy.dialer import Dialer
from client.outlet.proxy.handles import Bound, Dialing
from client.outlet.proxy.outcome import Outcome
from client.reconnect import Ending
from eventloop.poller import Poller, running_poller
from netstack.heads import NEEDS_CSUM, OFFLOAD_HEADER, TCP4_CSUM
from netstack.ip import PROTO_TCP, pack_ip
from netstack.tcp_segment import ACK, SYN
from tests.client.outlet.proxy.link_log import LinkLog
from tests.fakes.waiting import settle
from tests.vshp.dialogue import LEASE

HELD = 200
ROOM = 256 * 1024
BYTES_EACH = 8 * 1024
HOST = bytes((192, 0, 2, 80))
_TCP = Struct("!HHIIHHHH")


class Answering:
    """A `Carrier` whose other end accepts every connection."""

    def __init__(self) -> None:
        self.poller: Poller = running_poller()
        self.writer = LinkLog(offload=True, room=ROOM)
        self.offload = True
        self.received_packets_bytes = 0
        self.intake: Intake | None = None

    def push(self) -> None:
        self.writer.left = ROOM
        for packet in self.writer.take():
            data = packet.data
            ours, theirs, seq, _, word, *_ = _TCP.unpack_from(data, 20)
            if word & SYN:
                answer = bytearray(OFFLOAD_HEADER + 40)
                answer[0] = NEEDS_CSUM
                answer[6:10] = (TCP4_CSUM >> 16).to_bytes(2, "little") + (16).to_bytes(2, "little")
                pack_ip(answer, OFFLOAD_HEADER, 20, PROTO_TCP, HOST, data[12:16])
                _TCP.pack_into(
                    answer, OFFLOAD_HEADER + 20, theirs, ours, 7, seq + 1 & 0xFFFFFFFF,
                    0x5000 | SYN | ACK, 65535, 0, 0,
                )  # fmt: skip
                asyncio.get_running_loop().call_soon(self._receive, answer)

    def _receive(self, packet: bytearray) -> None:
        assert self.intake is not None and self.intake.done is not None
        self.intake.packet(memoryview(packet), OFFLOAD_HEADER, len(packet), True)
        self.intake.done()
        self.push()

    def count(self, name: str) -> None: ...

    def wait_for_room(self) -> None: ...

    def end(self, ending: Ending) -> None: ...


async def test_a_connection_that_is_held_costs_little() -> None:
    dialer, link = Dialer(), Answering()
    link.intake = dialer.attach(link, replace(LEASE, offload=True))
    told: list[Outcome] = []

    def on_outcome(outcome: Outcome, bound: Bound | None) -> None:
        told.append(outcome)

    held: list[Dialing] = []
    programs: list[socket.socket] = []

    async def hold(count: int) -> None:
        for _ in range(count):
            program, accepted = socket.socketpair()
            accepted.setblocking(False)
            programs.append(program)
            held.append(dialer.connect(accepted, HOST, 80, on_outcome))
        await settle(lambda: len(told) == len(held))

    await hold(50)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await hold(HELD)
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - before) / HELD
    finally:
        tracemalloc.stop()
    assert set(told) == {Outcome.OPENED}
    assert all(dialing.state == "established" for dialing in held)
    assert each < BYTES_EACH, each
    dialer.close()
    for program in programs:
        program.close()
    assert not dialer.stack.tcp


async def test_a_link_whose_lease_becomes_another_ends_what_is_open() -> None:
    dialer, link = Dialer(), Answering()
    lease = replace(LEASE, offload=True)
    link.intake = dialer.attach(link, lease)
    told: list[Outcome] = []
    program, accepted = socket.socketpair()
    accepted.setblocking(False)
    with program:
        dialing = dialer.connect(accepted, HOST, 80, lambda outcome, bound: told.append(outcome))
        await settle(lambda: told)
        assert dialing.state == "established"
        link.intake = dialer.attach(link, replace(lease, mtu=1300))
        assert dialing.state == "established"
        link.intake = dialer.attach(link, replace(lease, ipv4=bytes((10, 77, 0, 9))))
        assert dialing.state == "closed"
        assert program.recv(1) == b""
    dialer.close()

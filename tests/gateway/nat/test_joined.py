"""Segments that are joined and vouched for give the NAT what they would one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrHopByHop
from scapy.packet import Packet, Raw

from gateway.nat.counters import FROM_TUNNEL
from gateway.vouching import vouched
from netstack.join import SegmentJoiner
from tests.gateway.nat.world import Client, World

ROOM = 64


class Feeder:
    """Takes packets as a link to a device does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.joiner = SegmentJoiner(self.emit)

    def emit(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        whole = offload or vouched(buf, start, end)
        self.world.peer.from_tunnel(buf, start, end, whole, self.world.now)

    def feed(self, packets: list[bytes]) -> None:
        view = memoryview(bytearray(ROOM + 65536))
        for packet in packets:
            end = ROOM + len(packet)
            view[ROOM:end] = packet
            self.joiner.take(view, ROOM, end, False)
        self.joiner.flush()
        self.world.peer.end_batch(self.world.now)


SEGMENTS = st.lists(
    st.tuples(
        st.integers(0, 1),  # The flow.
        st.sampled_from([0, 1, 700, 1000, 1000, 1000, 1000]),
        st.sampled_from(["A", "A", "A", "PA"]),
        st.sampled_from([0, 0, 0, 0, 0, 1000, -1000, -3]),  # A gap, or sent again.
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(SEGMENTS, st.sampled_from([4, 6]), st.integers(1, 12), st.booleans())
def test_a_joined_run_is_the_same_to_the_nat(
    pieces: list[tuple[int, int, str, int]], version: int, batch: int, closing: bool
) -> None:
    told = []
    for joined in (False, True):
        # The same numbers in both.
        world = World(random_bytes=lambda size: bytes(size))
        clients = [Client(world, version, sport=40000 + n).connect() for n in range(2)]
        feeder = Feeder(world)
        packets = []
        ends = [client.seq for client in clients]
        for flow, size, flags, skip in pieces:
            client = clients[flow]
            client.seq = max(1001, client.seq + skip)
            first = client.seq
            data = bytes((first + at) * 7 & 0xFF for at in range(size))
            packets.append(bytes(client.segment(flags, data)))
            client.seq += size
            ends[flow] = max(ends[flow], client.seq)
        if closing:
            for client, end in zip(clients, ends, strict=True):
                client.seq = end
                packets.append(bytes(client.segment("FA")))
        answers: list[dict[int, tuple[object, ...]]] = []
        for at in range(0, len(packets), batch):
            if joined:
                feeder.feed(packets[at : at + batch])
            else:
                for packet in packets[at : at + batch]:
                    world.put(packet, end=False)
                world.peer.end_batch(world.now)
            # The last word to each flow: of what came out of order, one by one are told more.
            answers.append({packet[TCP].dport: acknowledged(packet) for packet in world.got()})
        states = [flow.conn.state for flow in world.peer.tcp.values()]
        sent = [(bytes(s.sent), s.finished, s.closed) for s in world.outward.streams]
        drops = {n: c for n, c in world.counters.total().items() if n.endswith("dropped") and c}
        told.append((sent, states, drops, answers))
        world.balanced()
    assert told[0] == told[1]


def acknowledged(packet: Packet) -> tuple[object, ...]:
    """What the client learns of what has arrived."""
    tcp = packet[TCP]
    return tcp.ack, str(tcp.flags), dict(tcp.options).get("SAck")


def test_a_run_is_one_packet_to_the_nat() -> None:
    world = World()
    client = Client(world).connect()
    before = world.count(FROM_TUNNEL)
    packets = []
    for number in range(40):
        packets.append(bytes(client.segment("A", bytes([number]) * 1400)))
        client.seq += 1400
    Feeder(world).feed(packets)
    assert world.count(FROM_TUNNEL) == before + 1
    (stream,) = world.outward.streams
    assert stream.sent == b"".join(bytes([number]) * 1400 for number in range(40))


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_vouched_for_is_not_summed(version: int) -> None:
    """A bit that fell over in front of the AEAD is as one inside the device."""
    world = World()
    client = Client(world, version).connect()
    segment = client.segment("PA", b"body")
    segment[TCP].chksum = 1
    Feeder(world).feed([bytes(segment)])
    assert world.outward.streams[0].sent == b"body"
    udp = world.ip(version) / UDP(sport=4000, dport=7, chksum=1) / Raw(b"x")
    Feeder(world).feed([bytes(udp)])
    assert [bytes(datagram.data) for datagram in world.outward.datagrams[0].sent] == [b"x"]


@pytest.mark.parametrize(
    "packet",
    [
        IP(frag=0, flags="MF") / UDP(sport=1, dport=2) / Raw(b"12345678"),
        IP(frag=1) / Raw(b"12345678"),
        IP(options=[IPOption_NOP()] * 4) / UDP(sport=1, dport=2) / Raw(b"x"),
        IP() / ICMP(),
        IPv6() / IPv6ExtHdrHopByHop() / UDP(sport=1, dport=2),
        IPv6() / UDP(sport=1, dport=2, chksum=0),
        IPv6() / ICMPv6EchoRequest(),
    ],
    ids=["fragment", "later", "options", "icmp", "extension", "no sum", "icmp6"],
)
def test_what_needs_a_look_is_not_vouched_for(packet: Packet) -> None:
    buf = memoryview(bytearray(b"\xee" * ROOM + bytes(packet)))
    assert not vouched(buf, ROOM, len(buf))
    assert bytes(buf[:ROOM]) == b"\xee" * ROOM

"""Segments that are joined give the NAT what they would one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP
from scapy.packet import Packet

from gateway.nat.counters import FROM_TUNNEL
from netstack.join import SegmentJoiner
from tests.gateway.nat.world import Client, World

ROOM = 64


class Feeder:
    """Takes packets as a link to a device does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.joiner = SegmentJoiner(self.emit)

    def emit(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        self.world.peer.from_tunnel(buf, start, end, offload, self.world.now)

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
def test_what_a_flow_brings_is_not_summed(version: int) -> None:
    """A bit that fell over in front of the AEAD is as one inside the device. What begins one is."""
    world = World()
    client = Client(world, version).connect()
    for data, flags in ((b"body", "A"), (b"more", "A"), (b"end", "PAF")):
        segment = client.segment(flags, data)
        segment[TCP].chksum = 1
        client.seq += len(data)
        Feeder(world).feed([bytes(segment)])
    assert world.outward.streams[0].sent == b"bodymoreend"
    assert world.outward.streams[0].finished
    syn = Client(world, version, sport=40001).segment("S", b"")
    syn[TCP].chksum = 1
    Feeder(world).feed([bytes(syn)])
    assert world.count("tcp__bad_checksum__dropped") == 1
    world.balanced()

"""The sending half: super-segments and partial checksums leave as whole packets, in order."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet as Layer
from scapy.packet import Raw

from netstack import cut
from netstack.out import GSO_TCPV4, GSO_TCPV6, HEADROOM
from sealing.runs import MAX_DATAGRAM_QUEUE
from tests.vshp.dialogue import LEASE
from tests.vshp.lossy import World, connected
from vshp import datagram_writer

MSS = LEASE.mtu - 60
"""Of IPv6, so that it fits either family."""


class Large(NamedTuple):
    """A super-segment: bytes of payload, MSS, IP version, whether it is in a caller's buffer."""

    size: int
    mss: int
    version: int
    sent: bool


class Partial(NamedTuple):
    """A packet with a partial checksum."""

    size: int
    udp: bool
    sent: bool


PIECES = st.one_of(
    st.integers(20, 1400),
    st.builds(
        Large,
        st.sampled_from([MSS + 1, 3 * MSS, 20_000, 65_000]),
        st.sampled_from([MSS, MSS - 1, 536]),
        st.sampled_from([4, 6]),
        st.booleans(),
    ),
    st.builds(Partial, st.integers(0, 1000), st.booleans(), st.booleans()),
)


def opened() -> World:
    world = connected()
    assert world.gateway is not None
    assert not world.gateway.writer.offload
    world.gateway.writer.cut_with(cut)
    return world


def ip(version: int) -> Layer:
    if version == 4:
        return IP(src="198.51.100.1", dst="10.77.0.2", flags="DF", id=0)
    return IPv6(src="2001:db8::1", dst="fd77::2")


def segment(version: int, seq: int, flags: str, data: bytes) -> bytes:
    return bytes(ip(version) / TCP(sport=80, dport=9, seq=seq, ack=1, flags=flags) / Raw(data))


def put(world: World, piece: bytes, sent: bool, *fields: int) -> None:
    assert world.gateway is not None
    writer = world.gateway.writer
    if sent:
        buf = bytearray(HEADROOM) + bytearray(piece)
        writer.send_packet(buf, HEADROOM, len(buf), *fields)
        buf[:] = bytes(len(buf))
        return
    at = writer.reserve_packet(len(piece), *fields)
    writer.buffer[at : at + len(piece)] = piece


def without_sum(packet: bytes, offset: int) -> bytes:
    """An IPv4 packet with the sum over its pseudo-header alone, by hand."""
    words = [int.from_bytes(packet[at : at + 2], "big") for at in range(12, 20, 2)]
    total = sum(words) + packet[9] + len(packet) - 20
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    at = 20 + offset
    return packet[:at] + total.to_bytes(2, "big") + packet[at + 2 :]


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=7))
def test_the_device_gets_each_packet_whole_and_in_order(
    pieces: list[int | Large | Partial],
) -> None:
    world = opened()
    assert world.gateway is not None
    expected = []
    for number, piece in enumerate(pieces):
        if isinstance(piece, int):
            put(world, bytes([number]) * piece, number % 2 == 0)
            expected.append(bytes([number]) * piece)
        elif isinstance(piece, Partial):
            layer, offset = (UDP, 6) if piece.udp else (TCP, 16)
            good = bytes(ip(4) / layer(sport=80, dport=9) / Raw(bytes([number]) * piece.size))
            put(world, without_sum(good, offset), piece.sent, 0, 0, 0, 20, offset)
            expected.append(good)
        else:
            _, mss, version, sent = piece
            data = bytes((number + at) & 0xFF for at in range(piece.size))
            header, kind = (20, GSO_TCPV4) if version == 4 else (40, GSO_TCPV6)
            # Sealed at once, so that the queue's bound is not what is tested.
            world.gateway.writer.flush()
            world.pump()
            whole = segment(version, 1000, "PA", data)
            put(world, whole, sent, kind, mss, header + 20, header, 16)
            expected += [
                segment(version, 1000 + at, "PA" if at + mss >= len(data) else "A", part)
                for at in range(0, len(data), mss)
                for part in [data[at : at + mss]]
            ]
    world.gateway.writer.flush()
    world.run(0.1)
    assert world.at_client == expected
    assert world.gateway.writer.packet_bytes == sum(map(len, expected))


@pytest.mark.parametrize("sent", [False, True])
def test_pieces_that_exceed_the_path_are_dropped(sent: bool) -> None:
    world = opened()
    assert world.gateway is not None
    put(world, segment(4, 0, "A", bytes(5000)), sent, GSO_TCPV4, LEASE.mtu - 39, 40, 20, 16)
    put(world, segment(4, 7, "A", b"fits"), sent)
    world.gateway.writer.flush()
    world.run(0.1)
    assert world.at_client == [segment(4, 7, "A", b"fits")]
    assert world.gateway.counters["writer__packet_too_long__dropped"] == 1
    assert world.gateway.writer.packet_bytes == len(segment(4, 7, "A", b"fits"))


def test_the_key_changes_between_super_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagram_writer, "REKEY_AFTER_RECORDS", 100)
    world = opened()
    assert world.gateway is not None
    world.gateway.writer.rekey()
    large = segment(4, 0, "A", bytes(60_000))
    for _ in range(8):
        put(world, large, True, GSO_TCPV4, 1000, 40, 20, 16)
        world.run(0.1)
    assert len(world.at_client) == 8 * 60
    assert world.gateway.counters["record__rekey__sent"] == 1 + 4


def test_what_a_full_room_takes_is_bounded() -> None:
    world = opened()
    assert world.gateway is not None
    writer = world.gateway.writer
    large = segment(4, 0, "A", bytes(65_000))
    while writer.room() > 0:
        put(world, large, True, GSO_TCPV4, 536, 40, 20, 16)
    assert len(writer._runs.buffer) <= MAX_DATAGRAM_QUEUE
    assert "writer__queue_full__dropped" not in world.gateway.counters
    for _ in range(MAX_DATAGRAM_QUEUE // len(large)):
        put(world, large, True, GSO_TCPV4, 536, 40, 20, 16)
    assert world.gateway.counters["writer__queue_full__dropped"] > 0
    world.run(0.1)
    assert writer.packet_bytes == sum(map(len, world.at_client)) > 0
    assert writer.room() > 0


def test_what_leaves_in_one_go_is_half_of_what_a_usual_socket_holds() -> None:
    world = opened()
    assert world.gateway is not None
    writer = world.gateway.writer
    packets = 0
    while writer.room() > 0:
        put(world, bytes(LEASE.mtu), True)
        packets += 1
    assert 16 < packets < 45


def test_a_closed_session_seals_nothing() -> None:
    world = opened()
    assert world.gateway is not None
    writer = world.gateway.writer
    writer.shut()
    records = writer.records
    put(world, segment(4, 0, "A", bytes(5000)), True, GSO_TCPV4, MSS, 40, 20, 16)
    assert writer.records == records and writer.packet_bytes == 0
    assert world.gateway.counters["writer__session_closed__dropped"] == 1

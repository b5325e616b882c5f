"""The sending half: super-segments and partial checksums leave as whole, padded packets."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from netstack.out import GSO_TCPV4, HEADROOM
from sealing.runs import MAX_DATAGRAM_QUEUE
from tests.wireguard.pipe import Pair, packet
from wireguard.constants import DATA_OVERHEAD, MTU

MSS = MTU - 40


class Large(NamedTuple):
    """A super-segment, and whether it comes from a buffer of the caller's."""

    size: int
    sent: bool


def segment(seq: int, flags: str, data: bytes) -> bytes:
    tcp = TCP(sport=80, dport=9, seq=seq, ack=1, flags=flags)
    return bytes(IP(src="10.9.8.1", dst="10.9.8.9", flags="DF", id=0) / tcp / Raw(data))


def put(pair: Pair, piece: bytes, sent: bool, *fields: int) -> None:
    writer = pair.gateway.peer.writer
    if sent:
        buf = bytearray(HEADROOM) + bytearray(piece)
        writer.send_packet(buf, HEADROOM, len(buf), *fields)
        buf[:] = bytes(len(buf))
        return
    at = writer.reserve_packet(len(piece), *fields)
    writer.buffer[at : at + len(piece)] = piece


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.integers(0, 1380),
            st.builds(Large, st.sampled_from([MSS + 1, 3 * MSS, 20_000]), st.booleans()),
        ),
        max_size=6,
    )
)
def test_the_device_gets_each_packet_whole_and_in_order(pieces: list[int | Large]) -> None:
    pair = Pair()
    pair.connect()
    expected = []
    for number, piece in enumerate(pieces):
        if isinstance(piece, int):
            put(pair, packet(1, bytes([number]) * piece), number % 2 == 0)
            expected.append(packet(1, bytes([number]) * piece))
            continue
        data = bytes((number + at) & 0xFF for at in range(piece.size))
        put(pair, segment(1000, "PA", data), piece.sent, GSO_TCPV4, MSS, 40, 20, 16)
        expected += [
            segment(1000 + at, "PA" if at + MSS >= len(data) else "A", data[at : at + MSS])
            for at in range(0, len(data), MSS)
        ]
    assert pair.gateway.peer.writer.packet_bytes == sum(map(len, expected))
    pair.log.clear()
    pair.transmit(pair.gateway)
    pair.run(0.1)
    assert pair.client.packets == expected
    assert pair.gateway.peer.writer.packet_bytes == sum(map(len, expected))
    for datagram in pair.sent("gateway", 4):
        size = len(datagram) - DATA_OVERHEAD
        assert size == MTU or not size % 16


@pytest.mark.parametrize("layer", [TCP, UDP])
@pytest.mark.parametrize("sent", [False, True])
def test_a_partial_checksum_is_filled_in(layer: type[TCP | UDP], sent: bool) -> None:
    pair = Pair()
    pair.connect()
    whole = IP(src="10.9.8.1", dst="10.9.8.9") / layer(sport=80, dport=9) / Raw(b"odd")
    good = bytearray(bytes(whole))
    offset = 16 if layer is TCP else 6
    partial = bytearray(good)
    # Addresses, protocol, length, by hand.
    total = 2 * 0x0A09 + 0x0801 + 0x0809 + good[9] + len(good) - 20
    partial[20 + offset : 22 + offset] = total.to_bytes(2, "big")
    put(pair, bytes(partial), sent, 0, 0, 0, 20, offset)
    pair.transmit(pair.gateway)
    pair.run(0.1)
    assert pair.client.packets == [bytes(good)]


@pytest.mark.parametrize("sent", [False, True])
def test_pieces_that_exceed_the_mtu_are_dropped(sent: bool) -> None:
    pair = Pair()
    pair.connect()
    put(pair, segment(0, "A", bytes(5000)), sent, GSO_TCPV4, MSS + 1, 40, 20, 16)
    pair.transmit(pair.gateway)
    pair.run(0.1)
    assert pair.client.packets == []
    assert pair.gateway.device.counters["writer__packet_too_long__dropped"] == 1
    assert pair.gateway.peer.writer.packet_bytes == 0


@pytest.mark.parametrize("sent", [False, True])
def test_what_has_no_session_to_go_by_is_not_counted(sent: bool) -> None:
    """TCP goes on sending again to a device that has gone; some of it waits for it."""
    pair = Pair()
    pair.connect()
    writer = pair.gateway.peer.writer
    session, writer.pair = writer.pair, None
    small = packet(1, b"abc")
    for _ in range(300):
        put(pair, small, sent)
        put(pair, segment(0, "A", bytes(3000)), sent, GSO_TCPV4, MSS, 40, 20, 16)
    writer.flush()
    assert writer.packet_bytes == 0
    six = bytes(IPv6(src="fd00::1", dst="fd00::2") / UDP() / Raw(b"xyz"))
    put(pair, six, sent)
    assert writer.packet_bytes == len(six)
    writer.keepalive()
    # What was told does not go back, but what comes next makes up for it.
    assert writer.packet_bytes == len(six)
    writer.pair = session
    for times in range(1, 4):
        put(pair, small, sent)
        assert writer.packet_bytes == max(len(six), times * len(small))
    assert writer.packet_bytes > len(six)


def test_what_a_full_room_takes_is_bounded() -> None:
    pair = Pair()
    pair.connect()
    writer = pair.gateway.peer.writer
    large = segment(0, "A", bytes(65_000))
    while writer.room() > 0:
        put(pair, large, True, GSO_TCPV4, MSS, 40, 20, 16)
    assert len(writer._runs.buffer) <= MAX_DATAGRAM_QUEUE
    assert "writer__queue_full__dropped" not in pair.gateway.device.counters
    sealed = sum(len(run) for run, _ in pair.gateway.peer.take(pair.now))
    assert sealed > len(large)
    assert len(writer.buffer) <= len(large) + 16


def test_what_has_no_room_is_not_counted() -> None:
    pair = Pair()
    pair.connect()
    writer, counters = pair.gateway.peer.writer, pair.gateway.device.counters
    while counters.get("writer__queue_full__dropped", 0) < 100:
        put(pair, segment(0, "A", bytes(20_000)), True, GSO_TCPV4, MSS, 40, 20, 16)
        put(pair, packet(1, b"not padded"), False)
    writer.keepalive()
    pair.transmit(pair.gateway)
    pair.run(0.1)
    assert writer.packet_bytes == sum(map(len, pair.client.packets)) > 0

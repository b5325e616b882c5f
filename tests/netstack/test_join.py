"""Segments joined on arrival: what goes on is what came, however it is cut and mixed."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet as Layer
from scapy.packet import Raw

from netstack import checksum
from netstack.heads import OFFLOAD_HEADER
from netstack.join import MAX_JOINED, SegmentJoiner

ADDRESSES = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}
MSS = 1000
STAMPS = [("NOP", None), ("NOP", None), ("Timestamp", (7, 8))]


class Joined:
    """What a joiner gives, each packet with its virtio header or None."""

    def __init__(self) -> None:
        self.packets: list[tuple[tuple[int, ...] | None, bytes]] = []
        self.joiner = SegmentJoiner(self.emit)

    def emit(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        header = None
        if offload:
            header = struct.unpack_from("<BBHHHH", buf, start - OFFLOAD_HEADER)
        self.packets.append((header, bytes(buf[start:end])))

    def feed(self, packets: list[bytes]) -> list[tuple[tuple[int, ...] | None, bytes]]:
        for number, packet in enumerate(packets):
            # From a buffer that is used again at once, at places that change.
            buf = bytearray(b"\xee" * number + packet + b"\xee" * 5)
            self.joiner.take(memoryview(buf), number, number + len(packet), False)
            buf[:] = bytes(len(buf))
        self.joiner.flush()
        return self.packets

    def feed_rows(self, packets: list[bytes], gap: int) -> list[tuple[object, bytes]]:
        """The same, in rows of those that are of one size, with so many bytes between any two."""
        at = 0
        while at < len(packets):
            size, end = len(packets[at]), at + 1
            while end < len(packets) and len(packets[end]) == size:
                end += 1
            buf = bytearray(b"".join(b"\xee" * gap + packet for packet in packets[at:end]))
            self.joiner.take_row(memoryview(buf), gap, size, gap + size, end - at)
            buf[:] = bytes(len(buf))
            at = end
        self.joiner.flush()
        return list(self.packets)


def ip(version: int, **fields: Any) -> Layer:
    source, target = ADDRESSES[version]
    if version == 4:
        return IP(src=source, dst=target, flags="DF", id=0, **fields)
    return IPv6(src=source, dst=target, **fields)


def segment(
    seq: int, data: bytes, version: int = 4, flags: str = "A", sport: int = 80, **fields: Any
) -> bytes:
    fields = {"ack": 5, "window": 500, "options": STAMPS, **fields}
    tcp = TCP(sport=sport, dport=5000, seq=seq & 0xFFFFFFFF, flags=flags, **fields)
    return bytes(ip(version) / tcp / Raw(data))


def parsed(packet: bytes) -> Layer:
    return IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)


def cut(header: tuple[int, ...] | None, packet: bytes) -> list[bytes]:
    """As a kernel cuts what has a virtio header (TSO), by scapy: with all checksums."""
    if header is None:
        return [packet]
    flags, _type, length, mss, csum_start, csum_offset = header
    whole = parsed(packet)
    assert (flags, csum_offset) == (1, 16)
    assert csum_start + whole[TCP].dataofs * 4 == length
    pieces, data = [], bytes(whole[TCP].payload)
    for at in range(0, len(data), mss):
        piece = parsed(packet[:length] + data[at : at + mss])
        piece[TCP].seq = (whole[TCP].seq + at) & 0xFFFFFFFF
        if at + mss < len(data):
            piece[TCP].flags = str(piece[TCP].flags).replace("P", "")
        if piece.version == 4:
            del piece.len, piece.chksum
        else:
            del piece.plen
        del piece[TCP].chksum
        pieces.append(bytes(piece))
    return pieces


@pytest.mark.parametrize("version", [4, 6])
def test_a_run_becomes_one_packet(version: int) -> None:
    data = bytes(range(250)) * 14
    run = [
        segment(0xFFFFFE00 + at, data[at : at + MSS], version, "PA" if at == 3000 else "A")
        for at in range(0, 3500, MSS)
    ]
    ((header, packet),) = Joined().feed(run)
    size = 20 if version == 4 else 40
    assert header == (1, 1 if version == 4 else 4, size + 32, MSS, size, 16)
    whole = parsed(packet)
    assert bytes(whole[TCP].payload) == data
    assert str(whole[TCP].flags) == "PA"
    if version == 4:
        assert whole.len == len(packet) and checksum.valid(checksum.add(packet[:20]))
        pseudo = checksum.pseudo_header(packet[12:16], packet[16:20], 6, len(packet) - 20)
    else:
        assert whole.plen == len(packet) - 40
        pseudo = checksum.pseudo_header(packet[8:24], packet[24:40], 6, len(packet) - 40)
    assert whole[TCP].chksum == checksum.fold(pseudo)
    assert cut(header, packet) == run


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    "second",
    [
        {"seq": 2001},
        {"seq": 999},
        {"ack": 6},
        {"window": 501},
        {"sport": 81},
        {"options": [("NOP", None), ("NOP", None), ("Timestamp", (9, 8))]},
        {"options": []},
        {"flags": "FA"},
        {"flags": "UA"},
        {"flags": "EA"},
        {"data": bytes(MSS + 1)},
        {"data": b""},
    ],
    ids=str,
)
def test_what_differs_is_not_joined(version: int, second: dict[str, Any]) -> None:
    first = segment(1000, bytes(MSS), version)
    fields: dict[str, Any] = {"seq": 2000, "data": bytes(MSS), **second}
    other = segment(version=version, **fields)
    assert Joined().feed([first, other]) == [(None, first), (None, other)]


def test_nothing_follows_a_short_or_a_pushed_segment() -> None:
    short = [segment(0, bytes(MSS)), segment(1000, bytes(10)), segment(1010, bytes(MSS))]
    assert [len(p) for _, p in Joined().feed(short)] == [52 + 1010, 52 + 1000]
    pushed = [segment(0, bytes(MSS), flags="PA"), segment(1000, bytes(MSS))]
    assert Joined().feed(pushed) == [(None, p) for p in pushed]


def test_other_protocols_fragments_and_options_of_ip_pass_as_they_are() -> None:
    tcp = segment(0, bytes(MSS))
    fragment = bytearray(tcp)
    fragment[6] = 0x20
    options = b"\x46" + tcp[1:20] + b"\x01\x01\x01\x00" + tcp[20:]
    padded = tcp + b"\0\0"
    udp = bytes(ip(4) / UDP(sport=1, dport=2) / Raw(bytes(300)))
    packets = [tcp, udp, bytes(fragment), options, padded, b"\x45" * 20, b"\x60" * 80]
    assert Joined().feed(packets) == [(None, p) for p in packets]


def test_a_joined_packet_is_bounded() -> None:
    run = [segment(n * 1400, bytes(1400)) for n in range(100)]
    out = Joined().feed(run)
    assert all(len(packet) <= MAX_JOINED for _, packet in out)
    assert [piece for each in out for piece in cut(*each)] == run
    assert len(out) == 3


PIECES = st.lists(
    st.tuples(
        st.integers(0, 2),  # The flow.
        st.sampled_from([1, 500, MSS, MSS, MSS, MSS]),
        st.sampled_from(["A", "A", "A", "A", "PA", "FA"]),
        st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1]),  # A gap, or an overlap.
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(PIECES, st.sampled_from([4, 6]))
def test_cut_up_again_it_is_what_came(
    pieces: list[tuple[int, int, str, int]], version: int
) -> None:
    packets = segments(pieces, version)
    out = Joined().feed(packets)
    assert [piece for each in out for piece in cut(*each)] == packets


def segments(
    pieces: list[tuple[int, int, str, int]], version: int, **fields: object
) -> list[bytes]:
    """Of three flows, mixed."""
    at = [0, 1 << 31, 0xFFFFFF00]
    packets = []
    for flow, size, flags, skip in pieces:
        at[flow] += skip
        data = bytes((at[flow] + n) & 0xFF for n in range(size))
        packets.append(segment(at[flow], data, version, flags, sport=80 + flow, **fields))
        at[flow] += size
    return packets


CHANGES = st.sampled_from(
    [
        {},
        {},
        {},
        {"ack": 6},
        {"window": 501},
        {"options": []},
        {"options": [("NOP", None), ("NOP", None), ("Timestamp", (9, 8))]},
        {"options": [("SAck", (1, 2))]},
        {"urgptr": 3},
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(PIECES, CHANGES), max_size=4), st.sampled_from([4, 6]), st.data())
def test_a_row_is_joined_as_one_by_one(
    parts: list[tuple[list[tuple[int, int, str, int]], dict[str, object]]],
    version: int,
    data: st.DataObject,
) -> None:
    packets = []
    for pieces, fields in parts:
        packets += segments(pieces, version, **fields)
    for _ in range(data.draw(st.integers(0, 3)) if packets else 0):
        # A header that is another one in any byte.
        number = data.draw(st.integers(0, len(packets) - 1))
        at = data.draw(st.integers(0, 59 if version == 4 else 79))
        packet = bytearray(packets[number])
        if at < len(packet):
            packet[at] ^= 1 << data.draw(st.integers(0, 7))
        packets[number] = bytes(packet)
    gap = data.draw(st.sampled_from([0, 3, 64]))
    assert Joined().feed_rows(packets, gap) == Joined().feed(packets)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("options", [STAMPS, []], ids=["stamps", "bare"])
def test_a_row_longer_than_a_packet(version: int, options: list[object]) -> None:
    run = [
        segment(0xFFFFF000 + n * 1400, bytes([n]) * 1400, version, options=options)
        for n in range(100)
    ]
    assert Joined().feed_rows(run, 64) == Joined().feed(run)


@given(st.lists(st.binary(min_size=20, max_size=90), max_size=20))
def test_junk_passes_as_it_is(packets: list[bytes]) -> None:
    out = Joined().feed(packets)
    assert [packet for header, packet in out if header is None] == packets

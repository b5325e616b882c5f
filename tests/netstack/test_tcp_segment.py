"""The segment parser: against scapy, at every truncation, and with junk."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from netstack.checksum import pseudo_header
from netstack.tcp.errors import MalformedSegment
from netstack.tcp_segment import ACK, SYN, TcpSegment, parse_tcp

SOURCE, DESTINATION = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
WORD = st.integers(0, 0xFFFF_FFFF)
HALF_WORD = st.integers(0, 0xFFFF)


def pseudo(length: int) -> int:
    return pseudo_header(SOURCE, DESTINATION, 6, length)


def by_scapy(payload: bytes = b"", **fields: Any) -> bytes:
    """A segment that scapy builds."""
    return bytes(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(**fields) / payload)[20:]


@settings(deadline=None, max_examples=150)
@given(
    ports=st.tuples(HALF_WORD, HALF_WORD),
    seq=WORD,
    ack=WORD,
    window=HALF_WORD,
    flags=st.integers(0, 0xFF),
    stamps=st.none() | st.tuples(WORD, WORD),
    blocks=st.lists(st.tuples(WORD, WORD), max_size=3),
    payload=st.binary(max_size=40),
)
def test_what_scapy_builds(
    ports: tuple[int, int],
    seq: int,
    ack: int,
    window: int,
    flags: int,
    stamps: tuple[int, int] | None,
    blocks: list[tuple[int, int]],
    payload: bytes,
) -> None:
    options: list[tuple[str, object]] = []
    if stamps is not None:
        options += [("NOP", None), ("NOP", None), ("Timestamp", stamps)]
    if blocks:
        edges = tuple(edge for block in blocks for edge in block)
        options += [("NOP", None), ("NOP", None), ("SAck", edges)]
    data = by_scapy(
        payload, sport=ports[0], dport=ports[1], seq=seq, ack=ack, window=window, flags=flags,
        options=options,
    )  # fmt: skip
    seg = parse_tcp(b"before" + data, 6, 6 + len(data), pseudo(len(data)))
    assert (seg.source_port, seg.destination_port) == ports
    assert (seg.seq, seg.ack, seg.window, seg.flags) == (seq, ack, window, flags)
    assert seg.has_timestamps is (stamps is not None)
    if stamps is not None:
        assert (seg.ts_value, seg.ts_echo) == stamps
    assert list(seg.sack) == blocks
    assert bytes(memoryview(seg.buf)[seg.start : seg.end]) == payload
    assert seg.span == len(payload) + bool(flags & 1) + bool(flags & 2)


def test_syn_options() -> None:
    options = [
        ("MSS", 1234), ("SAckOK", b""), ("Timestamp", (7, 0)), ("NOP", None), ("WScale", 14),
    ]  # fmt: skip
    seg = parse_tcp(data := by_scapy(flags="S", options=options), 0, len(data))
    assert (seg.mss, seg.window_shift, seg.sack_permitted) == (1234, 14, True)
    assert (seg.has_timestamps, seg.ts_value) == (True, 7)


def syn_fields(options: bytes, flags: int) -> tuple[object, ...] | str:
    """What a segment's options say, or why they are refused."""
    head = pack(">HHIIHHHH", 1, 2, 3, 4, (20 + len(options)) << 10 | flags, 5, 0, 0)
    try:
        seg = parse_tcp(head + options, 0, 20 + len(options))
    except MalformedSegment as error:
        return error.reason
    stamps = (seg.ts_value, seg.ts_echo) if seg.has_timestamps else None
    return seg.mss, seg.window_shift, seg.sack_permitted, stamps, seg.sack


@settings(deadline=None, max_examples=400)
@given(
    values=st.tuples(HALF_WORD, WORD, WORD, st.integers(0, 255)),
    flips=st.lists(st.tuples(st.integers(0, 19), st.integers(1, 255)), max_size=2),
    flags=st.sampled_from((SYN, SYN | ACK, ACK)),
)
def test_linuxs_own_layout_says_what_the_walk_finds(
    values: tuple[int, int, int, int], flips: list[tuple[int, int]], flags: int
) -> None:
    """Behind four NOPs it is another layout, which is walked."""
    mss, value, echo, shift = values
    options = bytearray(
        pack(">HHHHIIHBB", 0x0204, mss, 0x0402, 0x080A, value, echo, 0x0103, 3, shift)
    )
    for at, flip in flips:
        options[at] ^= flip
    assert syn_fields(bytes(options), flags) == syn_fields(bytes(4 * (1,)) + options, flags)


def test_a_reused_object_keeps_nothing() -> None:
    seg = TcpSegment()
    blocks = [("NOP", None), ("NOP", None), ("SAck", (1, 2))]
    full = by_scapy(flags="S", options=[("MSS", 99), ("WScale", 3), ("SAckOK", b"")])
    parse_tcp(full, 0, len(full), None, seg)
    sacking = by_scapy(flags="A", options=[*blocks, ("NOP", None), ("NOP", None),
                                           ("Timestamp", (1, 2))])  # fmt: skip
    parse_tcp(sacking, 0, len(sacking), None, seg)
    bare = by_scapy(flags="S")
    parse_tcp(bare, 0, len(bare), None, seg)
    assert (seg.mss, seg.window_shift, seg.sack_permitted) == (0, -1, False)
    assert (seg.sack, seg.has_timestamps) == ((), False)


def test_every_truncation_is_refused_or_shortens_the_payload() -> None:
    data = by_scapy(b"payload", flags="PA", options=[("Timestamp", (1, 2))])
    for end in range(len(data)):
        if end < len(data) - 7:
            with pytest.raises(MalformedSegment):
                parse_tcp(data, 0, end)
        else:
            seg = parse_tcp(data, 0, end)
            assert bytes(seg.buf[seg.start : seg.end]) == b"payload"[: end - len(data) + 7]
        with pytest.raises(MalformedSegment):
            parse_tcp(data, 0, end, pseudo(end))


def test_every_flipped_bit_breaks_the_checksum() -> None:
    data = bytearray(by_scapy(b"odd", flags="PA"))
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedSegment, match="bad checksum"):
            parse_tcp(data, 0, len(data), pseudo(len(data)))
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (b"\x08\x00\x00\x00", ACK),
        (b"\x08\x01\x00\x00", ACK),
        (b"\x08\x05\x00\x00\x00\x00\x00\x00", ACK),
        (b"\x01\x01\x08\x0a", ACK),
        (b"\x05\x0b" + bytes(10), ACK),
        (b"\x05\x02\x00\x00", ACK),
        (b"\x01\x01\x01\xfe", ACK),
        (b"\x02\x03\x00\x00", SYN),
        (b"\x03\x04\x00\x00", SYN),
        (b"\x04\x03\x00\x00", SYN),
    ],
)
def test_broken_options(options: bytes, flags: int) -> None:
    offset = (20 + len(options)) << 10
    data = pack(">HHIIHHHH", 1, 2, 3, 4, offset | flags, 5, 0, 0) + options
    with pytest.raises(MalformedSegment) as caught:
        parse_tcp(data, 0, len(data))
    assert caught.value.reason == "bad_option"


def test_unknown_options_are_skipped() -> None:
    options = b"\x22\x04\xab\xcd" + b"\xfd\x03\x01" + b"\x01" + b"\x00\xff\xff\xff"
    data = pack(">HHIIHHHH", 1, 2, 3, 4, (20 + len(options)) << 10 | ACK, 5, 0, 0) + options
    assert parse_tcp(data, 0, len(data)).flags == ACK


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=80), st.integers(0, 15))
def test_junk(junk: bytes, offset: int) -> None:
    """Nothing but MalformedSegment comes out, and what is parsed lies within the bytes."""
    data = bytearray(junk)
    if len(data) > 12:
        data[12] = offset << 4
    try:
        seg = parse_tcp(data, 0, len(data))
    except MalformedSegment:
        return
    assert 20 <= seg.start <= seg.end == len(data)


def test_ipv6_pseudo_header() -> None:
    packet = bytes(IPv6(src="fd00::1", dst="fd00::2") / TCP(flags="S") / b"abc")
    residue = pseudo_header(packet[8:24], packet[24:40], 6, len(packet) - 40)
    assert parse_tcp(packet, 40, len(packet), residue).flags == SYN

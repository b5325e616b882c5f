"""Super-segments cut into packets: each is what scapy makes of its part."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet as Layer
from scapy.packet import Raw

from netstack.cut import complete, cut

STAMPS = [("NOP", None), ("NOP", None), ("Timestamp", (7, 0xFFFFFFFF))]


def ip(version: int) -> Layer:
    if version == 4:
        return IP(src="192.0.2.1", dst="10.9.8.2", flags="DF", id=0, ttl=63)
    return IPv6(src="2001:db8::1", dst="fd00::2", fl=7)


def segment(version: int, seq: int, flags: str, options: list[object], data: bytes) -> bytes:
    tcp = TCP(
        sport=443, dport=50000, seq=seq & 0xFFFFFFFF, ack=0xFFFF0001, flags=flags, window=65535,
        options=options,
    )  # fmt: skip
    return bytes(ip(version) / tcp / Raw(data))


@settings(max_examples=150, deadline=None)
@given(
    version=st.sampled_from([4, 6]),
    seq=st.sampled_from([0, 5, 0x7FFFFFFF, 0xFFFFFF00, 0xFFFFFFFF]),
    flags=st.sampled_from(["A", "PA", "FPA", "UA"]),
    options=st.sampled_from([[], STAMPS]),
    data=st.one_of(
        st.binary(min_size=1, max_size=5000),
        st.integers(1, 65000).map(lambda size: b"\xff" * size),
        st.integers(1, 9000).map(bytes),
    ),
    mss=st.sampled_from([536, 999, 1348, 1368, 1440]),
)
def test_each_packet_is_scapys(
    version: int, seq: int, flags: str, options: list[object], data: bytes, mss: int
) -> None:
    whole = bytearray(segment(version, seq, flags, options, data))
    size = 20 if version == 4 else 40
    # The field holds a partial checksum, whatever it is, and lengths are the whole's.
    whole[size + 16 : size + 18] = b"\xab\xcd"
    before = bytes(whole)
    header = len(whole) - len(data)
    into = memoryview(bytearray(b"\xee" * (header + mss)))
    lengths = []

    def framed(length: int) -> memoryview:
        lengths.append(length)
        return into[:length]

    packets = [bytes(packet) for packet in cut(memoryview(whole), mss, header, size, into, framed)]
    assert lengths == list(dict.fromkeys(map(len, packets)))
    inner = flags.replace("P", "").replace("F", "")
    parts = [(at, data[at : at + mss]) for at in range(0, len(data), mss)]
    assert packets == [
        segment(version, seq + at, flags if at + mss >= len(data) else inner, options, part)
        for at, part in parts
    ]
    assert bytes(whole) == before


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("layer", [TCP, UDP])
@given(data=st.binary(max_size=100))
def test_a_partial_checksum_is_made_whole(version: int, layer: type[Layer], data: bytes) -> None:
    good = bytes(ip(version) / layer(sport=1, dport=2) / Raw(data))
    size, offset = (20 if version == 4 else 40), (16 if layer is TCP else 6)
    _completed(good, size, offset)


def test_a_sum_of_zero_is_not_taken_for_none() -> None:
    # Two bytes that are what the others sum up to make a sum of zero.
    others = bytes(ip(4) / UDP(sport=1, dport=2) / Raw(bytes(2)))
    good = bytes(ip(4) / UDP(sport=1, dport=2) / Raw(others[26:28]))
    assert good[26:28] == b"\xff\xff"
    _completed(good, 20, 6)


def _completed(good: bytes, size: int, offset: int) -> None:
    """Take the checksum out, leave the pseudo-header's sum as TSO wants it, and complete it."""
    addresses = good[12:20] if size == 20 else good[8:40]
    protocol = good[9] if size == 20 else good[6]
    words = [int.from_bytes(addresses[at : at + 2], "big") for at in range(0, len(addresses), 2)]
    total = sum(words) + protocol + len(good) - size
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    packet = bytearray(good)
    packet[size + offset : size + offset + 2] = total.to_bytes(2, "big")
    complete(memoryview(packet), size, offset)
    assert bytes(packet) == good

"""A whole packet from its fragments: what it is, and what the pieces together may not say."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.packet import Packet, Raw

from netstack.fragments import Reassembler, cut
from netstack.ip import IpPacket, PacketError, parse_ip
from netstack.reassembly import reassemble

V4 = ("192.0.2.1", "198.51.100.2")
V6 = ("2001:db8::1", "2001:db8::2")
DATA = bytes(range(256)) * 20


def fragments(version: int, payload: bytes, proto: int = 17, room: int = 1400) -> list[Packet]:
    """A payload of that protocol, in pieces."""
    pieces: list[Packet] = []
    head: Packet
    for offset, length, more in cut(len(payload), room):
        data = Raw(payload[offset : offset + length])
        if version == 4:
            head = IP(
                src=V4[0], dst=V4[1], id=77, proto=proto, ttl=9, frag=offset // 8, flags="MF" * more
            )
        else:
            head = IPv6(src=V6[0], dst=V6[1], hlim=9) / IPv6ExtHdrFragment(
                id=77, nh=proto, offset=offset // 8, m=int(more)
            )
        pieces.append(head / data)
    return pieces


def take(held: Reassembler, packets: Iterable[Packet]) -> list[tuple[IpPacket, bytearray] | None]:
    """What each of them completes."""
    results = []
    for packet in packets:
        # Neither what is before nor what is behind the packet may matter.
        raw = bytes(packet)
        buf = b"\x45" * 7 + raw + b"\xff" * 9
        results.append(reassemble(held, parse_ip(buf, 7, 7 + len(raw)), buf, b"", 0.0))
    return results


def refusal(held: Reassembler, packets: Iterable[Packet]) -> str:
    with pytest.raises(PacketError) as caught:
        take(held, packets)
    return caught.value.name


@pytest.mark.parametrize("version", [4, 6])
def test_the_last_piece_that_was_missing_gives_the_packet(version: int) -> None:
    held = Reassembler(1 << 20)
    payload = bytes(UDP(sport=5000, dport=7, chksum=1, len=8 + len(DATA)) / Raw(DATA))
    first, *others = fragments(version, payload)
    results = take(held, [*others, first])
    assert results[:-1] == [None] * len(others)
    assert results[-1] is not None
    ip, packet = results[-1]
    assert (ip.version, ip.proto, ip.ttl, ip.fragmented) == (version, 17, 9, False)
    assert bytes(packet[ip.payload : ip.end]) == payload and ip.end == len(packet)
    told = (IP if version == 4 else IPv6)(bytes(packet))
    assert (told.src, told.dst) == (V4 if version == 4 else V6)
    assert (held.held, len(held)) == (0, 0)


@pytest.mark.parametrize("version", [4, 6])
def test_pieces_of_two_senders_are_of_two_packets(version: int) -> None:
    held = Reassembler(1 << 20)
    mine, others = fragments(version, DATA[:2000]), fragments(version, DATA[1000:3000])
    for packet in others:
        packet.src = "192.0.2.9" if version == 4 else "2001:db8::9"
    for ours, theirs in zip(take(held, mine[:1]), take(held, others[:1]), strict=True):
        assert ours is theirs is None
    (whole,) = take(held, mine[1:])
    assert whole is not None and bytes(whole[1]).endswith(DATA[:2000])
    assert len(held) == 1


@pytest.mark.parametrize("version", [4, 6])
def test_pieces_that_overlap_give_nothing(version: int) -> None:
    held = Reassembler(1 << 20)
    first, second, *rest = fragments(version, DATA)
    take(held, [first])
    if version == 4:
        second.frag -= 1
    else:
        second[IPv6ExtHdrFragment].offset -= 1
    assert refusal(held, [second]) == "fragment_overlap"
    for packet in rest:
        assert refusal(held, [packet]) == "fragment_overlap"


@pytest.mark.parametrize(("length", "fits"), [(65515, True), (65516, False)])
def test_more_than_a_packet_holds_is_refused(length: int, fits: bool) -> None:
    """IPv4's length has its header in it."""
    held = Reassembler(1 << 20)
    pieces = fragments(4, bytes(length), room=65000)
    assert len(pieces) == 2
    if fits:
        assert take(held, pieces)[-1] is not None
    else:
        assert refusal(held, pieces) == "fragment_overflow"


@pytest.mark.parametrize(
    ("header", "proto", "name"),
    [
        (IPv6ExtHdrFragment(nh=17, offset=0, m=1), 44, "fragment_nested"),
        (IPv6ExtHdrRouting(nh=17, type=0, segleft=1, addresses=["::1"]), 43, "routing_header"),
    ],
)
def test_what_only_the_pieces_together_say_is_judged(header: Packet, proto: int, name: str) -> None:
    """Another protocol in a later piece makes a header of what the first one calls data."""
    held = Reassembler(1 << 20)
    first, second = fragments(6, bytes(header) + bytes(1600))
    second[IPv6ExtHdrFragment].nh = proto
    assert refusal(held, [first, second]) == name
    assert (held.held, len(held)) == (0, 0)

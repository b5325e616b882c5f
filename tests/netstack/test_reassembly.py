"""A whole packet from its fragments: what it is, and what the pieces together may not say."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from scapy.layers.inet import IP, UDP, IPOption
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    defragment6,
)
from scapy.packet import Packet, Raw

from netstack.fragments import Reassembler, cut
from netstack.ip import IpPacket, PacketError, parse_ip
from netstack.reassembly import reassemble
from netstack.udp import parse_udp, sum_ok
from tests.netstack.fragment_cases import (
    CASES,
    CE,
    ECT_0,
    NOT_ECT,
    TOS,
    Case,
    Heard,
    Say,
    marked,
    pieces,
)

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


@pytest.mark.parametrize(
    ("version", "front", "length", "fits"),
    [
        (4, b"", 65515, True),
        (4, b"", 65516, False),
        # IPv4's length has its header in it, IPv6's the extension headers.
        (4, b"\x01\x01\x01\x01", 65511, True),
        (4, b"\x01\x01\x01\x01", 65512, False),
        (6, b"", 65535, True),
        (6, b"", 65536, False),
        (6, bytes(8), 65527, True),
        (6, bytes(8), 65528, False),
    ],
)
def test_more_than_a_packet_holds_is_refused(
    version: int, front: bytes, length: int, fits: bool
) -> None:
    held = Reassembler(1 << 20)
    first, last = fragments(version, bytes(length), proto=99, room=65000)
    if front and version == 4:
        first.options = [IPOption(front)]
    elif front:
        first = first.copy()
        rest = first.payload
        first.remove_payload()
        first = first / IPv6ExtHdrDestOpt() / rest
    if fits:
        whole = take(held, [first, last])[-1]
        assert whole is not None and len(whole[1]) == 65535 + (0 if version == 4 else 40)
    else:
        assert refusal(held, [first, last]) == "fragment_overflow"


@pytest.mark.parametrize("case", CASES, ids=[f"IPv{case.version}: {case.name}" for case in CASES])
def test_a_receiver_hears_what_the_kernels_would(case: Case) -> None:
    """`test_reassembly_kernel.py` has the kernel agree."""
    held = Reassembler(1 << 20)
    heard: list[Heard] = []
    for raw in case.packets:
        try:
            whole = reassemble(held, parse_ip(raw, 0, len(raw)), raw, b"", 0.0)
        except PacketError:
            continue
        if whole is None:
            continue
        ip, packet = whole
        tos = packet[1] if ip.version == 4 else (packet[0] << 8 | packet[1]) >> 4 & 0xFF
        assert ip.proto == 17
        datagram = parse_udp(packet, ip.payload, ip.end)
        assert sum_ok(packet, ip.payload, datagram.end, ip.src, ip.dst)
        heard.append(Heard(bytes(packet[datagram.payload : datagram.end]), ip.ttl, tos))
    assert heard == ([] if case.heard is None else [case.heard])


@pytest.mark.parametrize("version", [4, 6])
def test_congestion_that_the_sender_would_not_hear_of_drops_the_packet(version: int) -> None:
    held = Reassembler(1 << 20)
    says = marked(NOT_ECT, ECT_0, CE)
    *before, last = pieces(version, 1, says)
    for raw in before:
        assert reassemble(held, parse_ip(raw, 0, len(raw)), raw, b"", 0.0) is None
    with pytest.raises(PacketError) as caught:
        reassemble(held, parse_ip(last, 0, len(last)), last, b"", 0.0)
    assert caught.value.name == "fragment_ecn"
    assert (held.held, len(held)) == (0, 0)


@pytest.mark.parametrize("version", [4, 6])
def test_a_mixture_without_congestion_keeps_the_first_ones_mark(version: int) -> None:
    """RFC 3168 leaves it open; Linux drops it."""
    held = Reassembler(1 << 20)
    first, last = pieces(version, 1, marked(ECT_0, NOT_ECT))
    assert reassemble(held, parse_ip(last, 0, len(last)), last, b"", 0.0) is None
    whole = reassemble(held, parse_ip(first, 0, len(first)), first, b"", 0.0)
    assert whole is not None
    told: Packet = (IP if version == 4 else IPv6)(bytes(whole[1]))
    assert (told.tos if version == 4 else told.tc) == TOS | ECT_0


@pytest.mark.parametrize(
    ("header", "proto", "name"),
    [
        (IPv6ExtHdrFragment(nh=17, offset=0, m=1), 44, "fragment_nested"),
        (IPv6ExtHdrFragment(nh=17, offset=0, m=0), 44, "fragment_nested"),
        (IPv6ExtHdrHopByHop(nh=17), 0, "hop_by_hop_misplaced"),
        (IPv6ExtHdrRouting(nh=17, type=0, segleft=1, addresses=["::1"]), 43, "routing_header"),
        (IPv6ExtHdrDestOpt(nh=17, len=200), 60, "extension_truncated"),
    ],
)
def test_the_headers_in_a_first_piece_are_judged_at_once(
    header: Packet, proto: int, name: str
) -> None:
    held = Reassembler(1 << 20)
    first, second = fragments(6, bytes(header) + bytes(1600), proto)
    assert refusal(held, [first]) == name
    # What a later piece says is not looked at, be it ever so wrong.
    assert take(held, [second]) == [None]


def test_the_whole_is_quoted_as_it_would_have_come_in_one_piece() -> None:
    """Scapy's reassembly agrees in every byte."""
    held = Reassembler(1 << 20)
    front = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()
    packets = pieces(6, 7, [Say(front=front), Say(proto=6)], IPv6ExtHdrDestOpt())
    results = [reassemble(held, parse_ip(raw, 0, len(raw)), raw, b"", 0.0) for raw in packets]
    assert results[0] is None and results[1] is not None
    ip, packet = results[1]
    joined: Packet = defragment6([IPv6(raw) for raw in packets])
    joined.plen = None
    assert bytes(packet) == bytes(joined)
    assert (packet[ip.proto_offset], ip.payload) == (17, 40 + 8 + 8 + 8)

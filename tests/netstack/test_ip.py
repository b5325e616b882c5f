"""IP, UDP and ICMP formats: against scapy, cut short everywhere, and under junk."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Packet, Raw

from netstack import icmp
from netstack.checksum import add
from netstack.ip import (
    MAX_EXTENSION_HEADERS,
    PROTO_UDP,
    IpPacket,
    PacketError,
    is_unicast,
    pack_ip,
    parse_ip,
)
from netstack.pretty import pretty
from netstack.udp import UdpPath, parse_udp, sum_ok

V4 = ("192.0.2.1", "198.51.100.2")
V6 = ("2001:db8::1", "2001:db8::2")


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def ip(version: int, **fields: Any) -> Packet:
    if version == 4:
        return IP(src=V4[0], dst=V4[1], **fields)
    return IPv6(src=V6[0], dst=V6[1], **fields)


def parse(packet: Packet | bytes) -> IpPacket:
    raw = bytes(packet)
    # Neither what is before nor what is behind the packet may matter.
    return parse_ip(bytearray(b"\x45" * 7 + raw + b"\xff" * 9), 7, 7 + len(raw))


def refusal(packet: Packet | bytes) -> str:
    with pytest.raises(PacketError) as caught:
        parse(packet)
    return caught.value.name


@pytest.mark.parametrize("version", [4, 6])
def test_plain_headers(version: int) -> None:
    parsed = parse(ip(version) / UDP(sport=1, dport=2) / Raw(b"xyz"))
    assert (parsed.version, parsed.proto) == (version, PROTO_UDP)
    ends = V4 if version == 4 else V6
    assert (parsed.src, parsed.dst) == (packed(ends[0]), packed(ends[1]))
    assert parsed.end - parsed.payload == 11
    assert parsed.ttl == 64
    assert not parsed.fragmented
    assert parsed.df is (version == 6)


def test_ipv4_fields() -> None:
    parsed = parse(ip(4, flags="DF", ttl=3, options=[]) / Raw(b""))
    assert (parsed.df, parsed.ttl, parsed.payload - parsed.start) == (True, 3, 20)
    parsed = parse(ip(4, flags="MF", frag=10, id=0xABCD) / Raw(bytes(16)))
    assert parsed.fragmented
    assert (parsed.fragment_offset, parsed.more_fragments, parsed.fragment_id) == (80, True, 0xABCD)


def test_ipv4_padding_behind_the_packet_is_not_payload() -> None:
    raw = bytes(ip(4) / UDP(sport=1, dport=2) / Raw(b"x"))
    parsed = parse_ip(raw + bytes(20), 0, len(raw) + 20)
    assert parsed.end == len(raw)


@pytest.mark.parametrize(
    ("packet", "name"),
    [
        (b"", "truncated"),
        (b"\x45" + bytes(18), "truncated"),
        (b"\x60" + bytes(38), "truncated"),
        (b"\x55" + bytes(40), "version"),
        (ip(4, ihl=4) / Raw(bytes(40)), "header_length"),
        (ip(4, len=19) / Raw(bytes(40)), "header_length"),
        (ip(4, len=100) / Raw(b"x"), "total_length"),
        (ip(6, plen=100) / Raw(b"x"), "total_length"),
        (ip(4, chksum=0x1234), "header_checksum"),
        (ip(4, flags="MF") / Raw(bytes(7)), "fragment_size"),
        (ip(4, flags="MF"), "fragment_size"),
        (ip(4, frag=8190) / Raw(bytes(100)), "fragment_overflow"),
        (ip(6) / IPv6ExtHdrFragment(m=1) / Raw(bytes(7)), "fragment_size"),
        (ip(6) / IPv6ExtHdrFragment(offset=8191) / Raw(bytes(100)), "fragment_overflow"),
        (ip(6, nh=60), "extension_truncated"),
        (ip(6, nh=60) / Raw(bytes((17, 5)) + bytes(6)), "extension_truncated"),
        (ip(6, nh=60) / Raw(bytes((0, 0)) + bytes(6) + bytes(16)), "hop_by_hop_misplaced"),
        (ip(6) / IPv6ExtHdrRouting(segleft=1, addresses=["::1"]) / UDP(), "routing_header"),
    ],
)
def test_refused(packet: Packet | bytes, name: str) -> None:
    assert refusal(packet) == name


def test_extension_headers_are_walked_within_bounds() -> None:
    parsed = parse(ip(6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP() / Raw(b"x"))
    assert (parsed.proto, parsed.end - parsed.payload) == (PROTO_UDP, 9)
    assert parsed.payload - parsed.start == 40 + 16
    chain = ip(6)
    for _ in range(MAX_EXTENSION_HEADERS):
        chain = chain / IPv6ExtHdrDestOpt()
    assert parse(chain / UDP()).proto == PROTO_UDP
    assert refusal(chain / IPv6ExtHdrDestOpt() / UDP()) == "extension_headers"


def test_a_later_ipv6_fragment_is_not_read_as_headers() -> None:
    parsed = parse(ip(6) / IPv6ExtHdrFragment(nh=60, offset=4, m=1, id=9) / Raw(b"\xff" * 16))
    assert (parsed.proto, parsed.fragment_offset, parsed.fragment_id) == (60, 32, 9)
    assert parsed.end - parsed.payload == 16


def test_a_first_ipv6_fragment_ends_its_headers_at_the_fragment_header() -> None:
    """What follows it is cut from the whole, and counts in what is at which offset."""
    first = ip(6) / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(m=1) / IPv6ExtHdrDestOpt()
    parsed = parse(first / UDP() / Raw(bytes(8)))
    assert (parsed.proto, parsed.end - parsed.payload) == (60, 8 + 8 + 8)
    assert (parsed.proto_offset, parsed.fragment_header_named) == (48, 40)
    # One that is no part of anything (RFC 6946) is a header among others.
    whole = ip(6) / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment() / IPv6ExtHdrDestOpt()
    parsed = parse(whole / UDP() / Raw(bytes(8)))
    assert (parsed.proto, parsed.end - parsed.payload, parsed.fragmented) == (17, 16, False)


def test_an_ipv6_sender_is_shown_the_offset_that_is_too_much() -> None:
    packet = ip(6) / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(offset=8191) / Raw(bytes(100))
    with pytest.raises(PacketError) as caught:
        parse(packet)
    assert (caught.value.name, caught.value.pointer) == ("fragment_overflow", 48 + 2)


def test_options_of_ipv4() -> None:
    def options(data: bytes) -> bytes:
        packet = ip(4, ihl=5 + len(data) // 4, len=20 + len(data))
        raw = bytearray(bytes(packet) + data)
        raw[10:12] = b"\0\0"
        total = sum(int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        raw[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
        return bytes(raw)

    assert parse(options(b"\x01\x01\x01\x00")).payload == 7 + 24
    assert refusal(options(b"\x07\x01\x00\x00")) == "options"
    assert refusal(options(b"\x07\x09\x00\x00")) == "options"
    assert refusal(options(b"\x01\x01\x01\x07")) == "options"
    assert refusal(options(b"\x83\x03\x04\x00")) == "source_route"
    assert refusal(options(b"\x89\x03\x04\x00")) == "source_route"


@pytest.mark.parametrize("version", [4, 6])
def test_every_truncation_is_refused_or_seen(version: int) -> None:
    raw = bytes(ip(version) / UDP(sport=1, dport=2) / Raw(b"payload"))
    for size in range(len(raw)):
        with pytest.raises(PacketError):
            parse(raw[:size])


@pytest.mark.parametrize("version", [4, 6])
def test_packed_headers_are_scapys(version: int) -> None:
    ends = V4 if version == 4 else V6
    raw = bytes(ip(version) / UDP(sport=1, dport=2) / Raw(b"abc"))
    header = 20 if version == 4 else 40
    buf = bytearray(b"\xaa" * len(raw))
    length = pack_ip(buf, 0, len(raw) - header, 17, packed(ends[0]), packed(ends[1]), df=False)
    assert length == header
    if version == 4:
        # Scapy numbers its packets from 1, we do not number what is not fragmented.
        want = IP(raw)
        want.id = 0
        del want.chksum
        raw = bytes(want)
    assert bytes(buf[:header]) == raw[:header]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("payload", [b"", b"x", b"even", bytes(range(256)) * 5, b"\xff" * 1000])
def test_udp_packed_and_parsed(version: int, payload: bytes) -> None:
    ends = [packed(end) for end in (V4 if version == 4 else V6)]
    path = UdpPath(ends[0], 7, ends[1], 4000)
    buf = bytearray(path.header + len(payload))
    buf[path.header :] = payload
    path.pack_whole(buf, 0, len(payload))
    seen = (IP if version == 4 else IPv6)(bytes(buf))
    assert bytes(seen[UDP].payload) == payload
    again = seen.copy()
    del again[UDP].chksum, again[UDP].len
    if version == 4:
        del again.chksum, again.len
    assert bytes(again) == bytes(buf)
    parsed = parse(bytes(buf))
    start = path.header - 8
    datagram = parse_udp(buf, start, len(buf))
    assert (datagram.src_port, datagram.dst_port) == (7, 4000)
    assert buf[datagram.payload : datagram.end] == payload
    assert sum_ok(buf, start, len(buf), parsed.src, parsed.dst)
    buf[start + 1] ^= 1
    assert not sum_ok(buf, start, len(buf), parsed.src, parsed.dst)


def test_a_udp_sum_of_zero_is_sent_as_all_ones() -> None:
    path = UdpPath(packed(V4[0]), 7, packed(V4[1]), 4000)
    buf = bytearray(path.header + 2)
    path.pack_whole(buf, 0, 2)
    # Add what makes the sum come out as zero.
    buf[28:30] = buf[26:28]
    path.pack_whole(buf, 0, 2)
    assert buf[26:28] == b"\xff\xff"


@pytest.mark.parametrize("version", [4, 6])
@given(
    payloads=st.lists(
        st.one_of(st.binary(max_size=3), st.binary(min_size=1197, max_size=1200)), max_size=8
    ),
    ports=st.tuples(st.integers(1, 65535), st.integers(1, 65535)),
)
@settings(max_examples=60, deadline=None)
def test_a_path_packs_any_lengths_in_turn(
    version: int, payloads: list[bytes], ports: tuple[int, int]
) -> None:
    """Each packet is scapy's, whatever the path packed before; and so is the partial checksum,
    once who takes offloaded packets has summed from the UDP header on."""
    source, destination = V4 if version == 4 else V6
    path = UdpPath(packed(source), ports[0], packed(destination), ports[1])
    assert path.version == version
    for payload in payloads:
        head = IP(src=source, dst=destination, flags="DF", id=0) if version == 4 else IPv6(
            src=source, dst=destination
        )  # fmt: skip
        want = bytes(head / UDP(sport=ports[0], dport=ports[1]) / Raw(payload))
        whole = bytearray(b"\xaa" * 5 + bytes(path.header) + payload + b"\xaa" * 5)
        path.pack_whole(whole, 5, len(payload))
        assert whole == b"\xaa" * 5 + want + b"\xaa" * 5
        partial = bytearray(bytes(path.header) + payload)
        path.pack(partial, 0, len(payload))
        udp = path.header - 8
        summed = -add(partial[udp:]) % 65535 or 0xFFFF
        partial[udp + 6 : udp + 8] = summed.to_bytes(2, "big")
        assert partial == want


@pytest.mark.parametrize("version", [4, 6])
def test_icmp_packets_are_scapys(version: int) -> None:
    ends = [packed(end) for end in (V4 if version == 4 else V6)]
    request = bytes(icmp.echo_packet(ends[0], ends[1], False, 5, 6, b"data"))
    reply = bytes(icmp.echo_packet(ends[0], ends[1], True, 5, 6, b"data"))
    error = bytes(icmp.error_packet(ends[0], ends[1], 3 if version == 4 else 1, 1, 0, bytes(2000)))
    assert len(error) == (576 if version == 4 else 1280)
    for raw in (request, reply, error):
        seen = (IP if version == 4 else IPv6)(raw)
        layer = seen.getlayer(1)
        assert layer is not None
        if version == 4:
            del seen.chksum, layer.chksum
        else:
            del layer.cksum
        assert bytes(seen) == raw
        start = 20 if version == 4 else 40
        assert icmp.message_sum_ok(version, bytearray(raw), start, len(raw), *ends)
    assert icmp.parse_echo(request, 20 if version == 4 else 40, len(request)).ident == 5
    with pytest.raises(PacketError):
        icmp.parse_echo(request, 0, 7)


@given(st.binary(max_size=120))
@settings(deadline=None, max_examples=300)
def test_junk_is_parsed_within_its_bounds_or_refused(junk: bytes) -> None:
    for first in (junk, b"\x45" + junk, b"\x60" + junk):
        try:
            parsed = parse_ip(first, 0, len(first))
        except PacketError:
            continue
        assert 0 < parsed.payload <= parsed.end <= len(first)
    assert isinstance(pretty(junk), str)
    assert isinstance(pretty(b"\x60\0\0\0\0\x08\x3a\x40" + bytes(32) + junk[:8]), str)


@pytest.mark.parametrize(
    ("packet", "line"),
    [
        (
            ip(4) / TCP(sport=1, dport=80, flags="SA", seq=5, ack=6, window=100),
            "IP 192.0.2.1.1 > 198.51.100.2.80: Flags [S.], seq 5, ack 6, win 100, length 0",
        ),
        (
            ip(6) / TCP(sport=1, dport=80, flags="P", seq=5, window=1) / Raw(b"abc"),
            "IP6 2001:db8::1.1 > 2001:db8::2.80: Flags [P], seq 5:8, win 1, length 3",
        ),
        (
            ip(4) / UDP(sport=9, dport=53) / Raw(b"abc"),
            "IP 192.0.2.1.9 > 198.51.100.2.53: UDP, length 3",
        ),
        (
            ip(4) / ICMP(id=3, seq=4) / Raw(b"abcd"),
            "IP 192.0.2.1 > 198.51.100.2: ICMP echo request, id 3, seq 4, length 12",
        ),
        (
            ip(6) / ICMPv6EchoRequest(id=3, seq=4),
            "IP6 2001:db8::1 > 2001:db8::2: ICMP6 echo request, id 3, seq 4, length 8",
        ),
        (
            ip(6) / ICMPv6DestUnreach(code=4) / ip(6) / UDP(sport=1, dport=2),
            "IP6 2001:db8::1 > 2001:db8::2: ICMP6 unreachable, code 4, about "
            "[IP6 2001:db8::1.1 > 2001:db8::2.2: UDP, length 0]",
        ),
        (
            ip(4, flags="MF", frag=2, id=7) / Raw(bytes(8)),
            "IP 192.0.2.1 > 198.51.100.2: frag 0x7:8@16+ proto 0",
        ),
        (ip(4, proto=132) / Raw(b"xx"), "IP 192.0.2.1 > 198.51.100.2: proto 132, length 2"),
        (b"\x45", "? 1 bytes: truncated"),
        (ip(4, proto=17) / Raw(b"xx"), "IP 192.0.2.1 > 198.51.100.2: proto 17: truncated"),
    ],
)
def test_pretty(packet: Packet | bytes, line: str) -> None:
    assert pretty(bytes(packet)) == line


def test_unicast() -> None:
    for text, expected in {
        "192.0.2.1": True,
        "127.0.0.1": True,
        "0.0.0.0": False,
        "224.0.0.1": False,
        "255.255.255.255": False,
        "2001:db8::1": True,
        "::": False,
        "ff02::1": False,
    }.items():
        assert is_unicast(packed(text)) is expected

"""IPv4 (RFC 791) and IPv6 (RFC 8200) headers: check, parse, judge; and pack.

`parse_ip` is the one door for packets from strangers. It reads nothing that
lies outside of the buffer, never trusts a length field over the buffer's own
end, follows a bounded chain of IPv6 extension headers, and raises
`PacketError`, whose `name` is a counter's middle part. What it returns are
offsets into the caller's buffer: nothing is copied but the addresses.
"""

from __future__ import annotations

from struct import Struct

PROTO_HOP_BY_HOP = 0
PROTO_ICMP = 1
PROTO_TCP = 6
PROTO_UDP = 17
PROTO_ROUTING = 43
PROTO_FRAGMENT = 44
PROTO_ESP = 50
PROTO_AH = 51
PROTO_ICMP6 = 58
PROTO_NONE = 59
PROTO_DEST_OPTIONS = 60
PROTO_MOBILITY = 135

IPV4_HEADER = 20
IPV6_HEADER = 40
IPV6_MIN_MTU = 1280
IPV4_MIN_MTU = 576
"""What every IPv4 host can reassemble; path MTUs below it (down to 68) are legal and rare."""

DEFAULT_TTL = 64

MAX_EXTENSION_HEADERS = 8
"""Length of an IPv6 header chain; RFC 8504 5.3 lets a host bound it, real packets have 0 to 2."""
MAX_EXTENSION_BYTES = 1024
"""Likewise in bytes, all headers together."""

_V4 = Struct("!BBHHHBBH4s4s")
_V4_WORDS = Struct("!10H")
_V6 = Struct("!IHBB16s16s")
_FRAGMENT = Struct("!BxHI")

_DF = 0x4000
_MF = 0x2000
_OFFSET = 0x1FFF

_SOURCE_ROUTES = (131, 137)
"""Loose and strict source route, which RFC 7126 4.3 and 4.4 say to drop."""


class PacketError(ValueError):
    """A packet that must not be processed. `name` says why, in a counter's words."""

    def __init__(self, name: str, pointer: int | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.pointer = pointer
        """Offset of the offending octet, where an ICMPv6 Parameter Problem is due."""


class IpPacket:
    """A checked IP header: where things are in the buffer, and what routing needs."""

    __slots__ = (
        "df",
        "dst",
        "end",
        "fragment_header_named",
        "fragment_id",
        "fragment_offset",
        "more_fragments",
        "payload",
        "proto",
        "proto_offset",
        "src",
        "start",
        "ttl",
        "version",
    )

    version: int
    start: int
    """Where the IP header begins."""
    payload: int
    """Where the transport header (or the fragment's piece) begins."""
    end: int
    """Where the packet ends by its own length field; the buffer may be longer."""
    proto: int
    """What `payload` begins with; of a later piece, what its sender says that the whole does."""
    proto_offset: int
    """Offset from `start` of the octet that names `proto`."""
    src: bytes
    dst: bytes
    ttl: int
    df: bool
    """IPv4's Don't Fragment; always True for IPv6."""
    fragment_header_named: int
    """Offset from `start` of the octet that names the Fragment header; of IPv6 fragments alone."""
    fragment_id: int
    fragment_offset: int
    """In octets."""
    more_fragments: bool

    @property
    def fragmented(self) -> bool:
        return self.more_fragments or self.fragment_offset != 0


def parse_ip(buf: bytearray | memoryview | bytes, start: int, end: int) -> IpPacket:
    """Parse the packet `buf[start:end]`; PacketError if it is not a sound one."""
    if end - start < 1:
        raise PacketError("truncated")
    version = buf[start] >> 4
    if version == 4:
        return _parse_v4(buf, start, end)
    if version == 6:
        return _parse_v6(buf, start, end)
    raise PacketError("version")


def _parse_v4(buf: bytearray | memoryview | bytes, start: int, end: int) -> IpPacket:
    if end - start < IPV4_HEADER:
        raise PacketError("truncated")
    first, _, total, ident, frag, ttl, proto, _, src, dst = _V4.unpack_from(buf, start)
    header = (first & 0x0F) * 4
    if header < IPV4_HEADER or header > total:
        raise PacketError("header_length")
    if total > end - start:
        raise PacketError("total_length")
    if header == IPV4_HEADER:
        if sum(_V4_WORDS.unpack_from(buf, start)) % 0xFFFF:
            raise PacketError("header_checksum")
    else:
        if sum(Struct(f"!{header // 2}H").unpack_from(buf, start)) % 0xFFFF:
            raise PacketError("header_checksum")
        _check_options(buf, start + IPV4_HEADER, start + header)
    packet = IpPacket()
    packet.version = 4
    packet.start = start
    packet.payload = start + header
    packet.end = start + total
    packet.proto = proto
    packet.proto_offset = 9
    packet.src = src
    packet.dst = dst
    packet.ttl = ttl
    packet.df = bool(frag & _DF)
    packet.fragment_id = ident
    packet.fragment_offset = (frag & _OFFSET) * 8
    packet.more_fragments = bool(frag & _MF)
    if packet.more_fragments or packet.fragment_offset:
        _check_fragment(packet)
    return packet


def _check_options(buf: bytearray | memoryview | bytes, at: int, end: int) -> None:
    while at < end:
        kind = buf[at]
        if kind == 0:
            return
        if kind == 1:
            at += 1
            continue
        if at + 1 >= end or buf[at + 1] < 2 or at + buf[at + 1] > end:
            raise PacketError("options")
        if kind in _SOURCE_ROUTES:
            raise PacketError("source_route")
        at += buf[at + 1]


def _parse_v6(buf: bytearray | memoryview | bytes, start: int, end: int) -> IpPacket:
    if end - start < IPV6_HEADER:
        raise PacketError("truncated")
    _, length, proto, ttl, src, dst = _V6.unpack_from(buf, start)
    if length > end - start - IPV6_HEADER:
        raise PacketError("total_length")
    packet = IpPacket()
    packet.version = 6
    packet.start = start
    packet.end = start + IPV6_HEADER + length
    packet.src = src
    packet.dst = dst
    packet.ttl = ttl
    packet.df = True
    packet.fragment_id = 0
    packet.fragment_offset = 0
    packet.more_fragments = False
    packet.proto_offset = 6
    packet.proto = proto
    packet.payload = start + IPV6_HEADER
    if proto in _EXTENSIONS:
        _walk_extensions(buf, packet)
    return packet


_EXTENSIONS = frozenset({PROTO_HOP_BY_HOP, PROTO_ROUTING, PROTO_FRAGMENT, PROTO_DEST_OPTIONS})


def _walk_extensions(buf: bytearray | memoryview | bytes, packet: IpPacket) -> None:
    """Move `packet.payload` and `.proto` past the extension headers (RFC 8200 4).

    Those of a fragment stop behind its Fragment header. What follows in a first one is of the
    whole packet, and it has to be there (RFC 7112): it is judged here, and again in the whole.
    """
    first = at = packet.payload
    proto, named = packet.proto, packet.proto_offset
    for count in range(MAX_EXTENSION_HEADERS + 1):
        if proto not in _EXTENSIONS:
            break
        if count == MAX_EXTENSION_HEADERS or at - first > MAX_EXTENSION_BYTES:
            raise PacketError("extension_headers")
        if packet.end - at < 8:
            raise PacketError("extension_truncated")
        if proto == PROTO_HOP_BY_HOP and count:
            # Allowed right after the IPv6 header only (RFC 8200 4.1).
            raise PacketError("hop_by_hop_misplaced", named)
        if proto == PROTO_FRAGMENT:
            if packet.fragmented:
                raise PacketError("fragment_nested")
            following, word, ident = _FRAGMENT.unpack_from(buf, at)
            packet.fragment_id = ident
            packet.fragment_offset = word & 0xFFF8
            packet.more_fragments = bool(word & 1)
            packet.df = False
            if packet.fragmented:
                packet.fragment_header_named = named
                packet.proto, packet.proto_offset = following, at - packet.start
                packet.payload = at + 8
                _check_fragment(packet)
            if packet.fragment_offset:
                # What follows is the middle of something, not a header.
                return
            size = 8
        elif proto == PROTO_ROUTING and buf[at + 3]:
            # Segments left for a type that we do not process (RFC 8200 4.4, RFC 5095).
            raise PacketError("routing_header", at + 2 - packet.start)
        else:
            size = (buf[at + 1] + 1) * 8
        named = at - packet.start
        proto = buf[at]
        at += size
        if at > packet.end:
            raise PacketError("extension_truncated")
    if not packet.fragmented:
        packet.proto, packet.proto_offset, packet.payload = proto, named, at


def _check_fragment(packet: IpPacket) -> None:
    size = packet.end - packet.payload
    if packet.more_fragments and (size == 0 or size % 8):
        raise PacketError("fragment_size", 4 if packet.version == 6 else None)
    if packet.fragment_offset + size > 65535 - (IPV4_HEADER if packet.version == 4 else 0):
        # Of IPv6 the field in the Fragment header is shown to its sender (RFC 8200 4.5).
        pointer = packet.proto_offset + 2 if packet.version == 6 else None
        raise PacketError("fragment_overflow", pointer)


def pack_ipv4(
    buf: bytearray | memoryview,
    at: int,
    total: int,
    proto: int,
    src: bytes,
    dst: bytes,
    ttl: int = DEFAULT_TTL,
    ident: int = 0,
    frag: int = _DF,
) -> None:
    """Write a 20-byte header with its checksum; `frag` is the flags and offset word."""
    _V4.pack_into(buf, at, 0x45, 0, total, ident, frag, ttl, proto, 0, src, dst)
    total_sum = sum(_V4_WORDS.unpack_from(buf, at))
    total_sum = (total_sum & 0xFFFF) + (total_sum >> 16)
    total_sum = ~((total_sum & 0xFFFF) + (total_sum >> 16)) & 0xFFFF
    buf[at + 10] = total_sum >> 8
    buf[at + 11] = total_sum & 0xFF


def pack_ipv6(
    buf: bytearray | memoryview,
    at: int,
    payload_length: int,
    proto: int,
    src: bytes,
    dst: bytes,
    ttl: int = DEFAULT_TTL,
) -> None:
    """Write a 40-byte header: no traffic class, no flow label."""
    _V6.pack_into(buf, at, 0x60000000, payload_length, proto, ttl, src, dst)


def pack_ip(
    buf: bytearray | memoryview,
    at: int,
    payload_length: int,
    proto: int,
    src: bytes,
    dst: bytes,
    ttl: int = DEFAULT_TTL,
    df: bool = True,
) -> int:
    """Write the header of the addresses' family; returns its length."""
    if len(src) == 4:
        pack_ipv4(buf, at, IPV4_HEADER + payload_length, proto, src, dst, ttl, 0, _DF if df else 0)
        return IPV4_HEADER
    pack_ipv6(buf, at, payload_length, proto, src, dst, ttl)
    return IPV6_HEADER


def is_unicast(address: bytes) -> bool:
    """Whether an ICMP error may be sent about a packet to `address` (RFC 1122 3.2.2)."""
    if len(address) == 4:
        return 0 < address[0] < 224
    return address[0] != 0xFF and address != bytes(16)

"""UDP (RFC 768) over both IP families: check and parse; and pack, cheaply and often."""

from __future__ import annotations

from struct import Struct

from netstack.checksum import add, finish, pseudo_header, valid
from netstack.ip import DEFAULT_TTL, IPV4_HEADER, IPV6_HEADER, PROTO_UDP, PacketError

UDP_HEADER = 8
CSUM_OFFSET = 6
"""Of the checksum field in the UDP header, as an offload header wants it."""
MAX_PAYLOAD_V4 = 65535 - IPV4_HEADER - UDP_HEADER
MAX_PAYLOAD_V6 = 65535 - UDP_HEADER

_HEADER = Struct("!HHHH")
_WORDS_V4 = Struct("!10H")


class UdpDatagram:
    """A checked UDP header; the payload is `buf[payload:end]` of the buffer it was parsed in."""

    __slots__ = ("checksum", "dst_port", "end", "payload", "src_port")

    src_port: int
    dst_port: int
    checksum: int
    payload: int
    end: int


def parse_udp(buf: bytearray | memoryview | bytes, start: int, end: int) -> UdpDatagram:
    """Parse the datagram `buf[start:end]`; PacketError when its length field is unsound."""
    if end - start < UDP_HEADER:
        raise PacketError("truncated")
    datagram = UdpDatagram()
    datagram.src_port, datagram.dst_port, length, datagram.checksum = _HEADER.unpack_from(
        buf, start
    )
    if length < UDP_HEADER or length > end - start:
        raise PacketError("length")
    if datagram.dst_port == 0:
        raise PacketError("port_zero")
    datagram.payload = start + UDP_HEADER
    datagram.end = start + length
    return datagram


def sum_ok(buf: bytearray | memoryview, start: int, end: int, src: bytes, dst: bytes) -> bool:
    """Whether the checksum of the datagram `buf[start:end]` is right (IPv4: right or absent)."""
    if buf[start + 6] == 0 and buf[start + 7] == 0:
        return len(src) == 4
    return valid(add(buf[start:end]) + pseudo_header(src, dst, PROTO_UDP, end - start))


class UdpPath:
    """Packs the IP and UDP headers of one (source, destination), from a prepared template."""

    __slots__ = ("_ip_sum", "_pseudo", "_template", "header", "version")

    def __init__(
        self, src: bytes, src_port: int, dst: bytes, dst_port: int, ttl: int = DEFAULT_TTL
    ) -> None:
        self.version = 4 if len(src) == 4 else 6
        self._pseudo = pseudo_header(src, dst, PROTO_UDP, 0)
        if self.version == 4:
            self.header = IPV4_HEADER + UDP_HEADER
            head = bytes((0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, PROTO_UDP, 0, 0)) + src + dst
            self._ip_sum = sum(_WORDS_V4.unpack(head))
        else:
            self.header = IPV6_HEADER + UDP_HEADER
            head = bytes((0x60, 0, 0, 0, 0, 0, PROTO_UDP, ttl)) + src + dst
            self._ip_sum = 0
        self._template = head + _HEADER.pack(src_port, dst_port, 0, 0)

    def pack(self, buf: bytearray, at: int, length: int) -> None:
        """Write both headers at `at` for `length` bytes of payload.

        The UDP checksum is left partial: the sum over the pseudo-header, as
        NEEDS_CSUM wants it; `complete` makes it a whole one.
        """
        udp_length = length + UDP_HEADER
        udp = at + self.header - UDP_HEADER
        buf[at : at + self.header] = self._template
        partial = (self._pseudo + udp_length) % 65535
        # UDP length and checksum are next to each other: one store for both.
        buf[udp + 4 : udp + 8] = (udp_length << 16 | partial).to_bytes(4, "big")
        if self.version == 4:
            total = udp_length + IPV4_HEADER
            buf[at + 2] = total >> 8
            buf[at + 3] = total & 0xFF
            check = -(self._ip_sum + total) % 65535
            buf[at + 10] = check >> 8
            buf[at + 11] = check & 0xFF
        else:
            buf[at + 4] = udp_length >> 8
            buf[at + 5] = udp_length & 0xFF

    def complete(self, buf: bytearray, at: int, end: int) -> None:
        """Fill in the UDP checksum of the packet `buf[at:end]` that `pack` has begun."""
        udp = at + self.header - UDP_HEADER
        # The field holds the pseudo-header's sum, so that it is part of the sum already.
        value = finish(add(memoryview(buf)[udp:end])) or 0xFFFF
        buf[udp + 6] = value >> 8
        buf[udp + 7] = value & 0xFF

"""UDP (RFC 768) over both IP families: check and parse; and pack, cheaply and often."""

from __future__ import annotations

from struct import Struct

from netstack.checksum import add, pseudo_header, valid
from netstack.ip import DEFAULT_TTL, IPV4_HEADER, IPV6_HEADER, PROTO_UDP, PacketError

UDP_HEADER = 8
CSUM_OFFSET = 6
"""Of the checksum field in the UDP header, as an offload header wants it."""
MAX_PAYLOAD_V4 = 65535 - IPV4_HEADER - UDP_HEADER
MAX_PAYLOAD_V6 = 65535 - UDP_HEADER

_HEADER = Struct("!HHHH")
_PORTS = Struct("!HH")
_WORD = Struct("!H")
_HEAD_V4 = Struct("!HHIBBH12sHH")
_HEAD_V6 = Struct("!IHBB36sHH")
_DONT_FRAGMENT = 0x4000
"""With no identification before it: none is needed where nothing is cut (RFC 6864, 4.1)."""


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
    """Packs the IP and UDP headers of one (source, destination).

    Those of the last length are kept ready: most datagrams of a path are as long as the one
    before them.
    """

    __slots__ = (
        "_ends",
        "_head",
        "_ip_sum",
        "_length",
        "_partial",
        "_ports",
        "_pseudo",
        "_ttl",
        "header",
    )

    def __init__(
        self, src: bytes, src_port: int, dst: bytes, dst_port: int, ttl: int = DEFAULT_TTL
    ) -> None:
        self._ends = src + dst + _PORTS.pack(src_port, dst_port)
        self._ports = src_port + dst_port
        self._ttl = ttl
        self._pseudo = pseudo_header(src, dst, PROTO_UDP, 0)
        if len(src) == 4:
            self.header = IPV4_HEADER + UDP_HEADER
            head = _HEAD_V4.pack(0x4500, 0, _DONT_FRAGMENT, ttl, PROTO_UDP, 0, self._ends, 0, 0)
            self._ip_sum = add(head[:IPV4_HEADER])
        else:
            self.header = IPV6_HEADER + UDP_HEADER
            self._ip_sum = 0
        self._length = -1
        self._head = b""
        self._partial = 0
        """The sum over the pseudo-header and the UDP header."""

    @property
    def version(self) -> int:
        return 4 if self.header == IPV4_HEADER + UDP_HEADER else 6

    def pack(self, buf: bytearray, at: int, length: int) -> None:
        """Write both headers at `at` for `length` bytes of payload.

        The UDP checksum is left partial: the sum over the pseudo-header, as
        NEEDS_CSUM wants it.
        """
        if length != self._length:
            self._prepare(length)
        buf[at : at + self.header] = self._head

    def pack_whole(self, buf: bytearray, at: int, length: int) -> None:
        """Write both headers at `at` before the `length` bytes of payload that lie behind them,
        whose checksum they get.
        """
        if length != self._length:
            self._prepare(length)
        payload = at + self.header
        buf[at:payload] = self._head
        total = add(memoryview(buf)[payload : payload + length]) + self._partial
        _WORD.pack_into(buf, payload - 2, -total % 65535 or 0xFFFF)

    def _prepare(self, length: int) -> None:
        udp_length = length + UDP_HEADER
        pseudo = (self._pseudo + udp_length) % 65535
        if self.header == IPV4_HEADER + UDP_HEADER:
            total = udp_length + IPV4_HEADER
            check = -(self._ip_sum + total) % 65535
            self._head = _HEAD_V4.pack(
                0x4500, total, _DONT_FRAGMENT, self._ttl, PROTO_UDP, check, self._ends,
                udp_length, pseudo,
            )  # fmt: skip
        else:
            self._head = _HEAD_V6.pack(
                0x6000_0000, udp_length, PROTO_UDP, self._ttl, self._ends, udp_length, pseudo
            )
        self._partial = pseudo + udp_length + self._ports
        self._length = length

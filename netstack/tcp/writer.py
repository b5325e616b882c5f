"""How segments are written: both headers at once, the checksum from integers.

The fields that change from packet to packet are integers anyway, so the
checksum is computed from them (see `checksum`) and both headers go into the
packet by one `pack_into`. What a connection never changes (addresses, ports,
their sum) is computed once.

Four ways out:
- `control`: no payload. SYN, ACK, FIN, RST, probes.
- `whole`: payload that lies in a buffer with room in front. The headers are
  packed there and one packet of up to 64 KiB leaves without its payload having
  been touched; the receiver's kernel cuts it (TSO) and fills in the checksum.
- `cut`: payload from anywhere, copied into the tunnel's batch; with offload as
  one packet, without as packets of one MSS with complete checksums.
- `urgent`: as `cut`, while the peer is to be told of an urgent byte; a segment a packet.
"""

from __future__ import annotations

from struct import Struct

from netstack import checksum
from netstack.out import GSO_NONE, GSO_TCPV4, GSO_TCPV6, PacketOut
from netstack.tcp.constants import MASK, TIMESTAMPS_LENGTH
from netstack.tcp_segment import HEADER, NOP_NOP_TIMESTAMPS, PSH, URG

_V4 = Struct(">III8sIIIII").pack_into
_V4_STAMPED = Struct(">III8sIIIIIIII").pack_into
_V6 = Struct(">II32sIIIII").pack_into
_V6_STAMPED = Struct(">II32sIIIIIIII").pack_into

_IPV4_HEADER = 20
_IPV6_HEADER = 40
_PROTOCOL = 6
_PUSHED = PSH << 16
_CHECKSUM_OFFSET = 16
"""Of the checksum field in the TCP header."""
_POINTER_OFFSET = 18
"""Of the urgent pointer."""
MAX_POINTER = 0xFFFF
"""Bytes ahead that an urgent pointer can point."""
_DONT_FRAGMENT = 0x4000
"""With identification 0: an atomic datagram (RFC 6864) never needs another."""
_V6_FIRST_WORD = 0x6000_0000


class SegmentWriter:
    """Writes the segments of one connection to `out`; drops them while that is None."""

    __slots__ = (
        "_addresses",
        "_gso_type",
        "_ip_residue",
        "_ports",
        "_pseudo",
        "_stamp_offset",
        "_ttl_word",
        "header",
        "ip_header",
        "out",
        "stamped",
    )

    def __init__(
        self,
        version: int,
        local: bytes,
        local_port: int,
        remote: bytes,
        remote_port: int,
        ttl: int,
        stamp_offset: int,
    ) -> None:
        self.out: PacketOut | None = None
        self.stamped = False
        """Every segment carries timestamps; see `use_timestamps`."""
        self._addresses = local + remote
        self._ports = local_port << 16 | remote_port
        addresses = checksum.add(self._addresses)
        self._pseudo = addresses + _PROTOCOL
        self._stamp_offset = stamp_offset
        if version == 4:
            self.ip_header = _IPV4_HEADER
            self._gso_type = GSO_TCPV4
            self._ttl_word = ttl << 24 | _PROTOCOL << 16
            self._ip_residue = 0x4500 + _DONT_FRAGMENT + (self._ttl_word >> 16) + addresses
        else:
            self.ip_header = _IPV6_HEADER
            self._gso_type = GSO_TCPV6
            self._ttl_word = _PROTOCOL << 8 | ttl
            self._ip_residue = 0
        self.header = self.ip_header + HEADER
        """Bytes of both headers of a data segment."""

    def use_timestamps(self, stamped: bool) -> None:
        """Whether segments carry RFC 7323 timestamps: offered at first, then as agreed."""
        self.stamped = stamped
        self.header = self.ip_header + HEADER + (TIMESTAMPS_LENGTH if stamped else 0)

    def stamp(self, now: float) -> int:
        """This connection's timestamp clock: milliseconds from an offset of its own."""
        return (int(now * 1000) + self._stamp_offset) & MASK

    def control(
        self,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        now: float,
        echo: int = 0,
        options: bytes = b"",
    ) -> None:
        """Emit a segment without payload; `options`, multiple of 4 bytes, follow the usual ones."""
        out = self.out
        if out is None:
            return
        length = self.header + len(options)
        at = out.reserve_packet(length)
        extra = len(options)
        residue = checksum.add(options) if extra else 0
        buffer = out.buffer
        word = flags << 16 | window
        self._headers(buffer, at, length, seq, ack, word, residue, self.stamp(now), echo, extra)
        if extra:
            buffer[at + self.header : at + length] = options

    def whole(
        self,
        data: bytearray,
        start: int,
        end: int,
        mss: int,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        now: float,
        echo: int,
    ) -> None:
        """Emit `data[start:end]` as one packet in place; needs `out.offload` and headroom."""
        out = self.out
        if out is None:
            return
        header = self.header
        begin = start - header
        self._headers(
            data,
            begin,
            end - begin,
            seq,
            ack,
            flags << 16 | window,
            None,
            self.stamp(now),
            echo,
        )
        if end - start > mss:
            out.send_packet(
                data, begin, end, self._gso_type, mss, header, self.ip_header, _CHECKSUM_OFFSET
            )
        else:
            out.send_packet(data, begin, end, GSO_NONE, 0, header, self.ip_header, _CHECKSUM_OFFSET)

    def cut(
        self,
        data: bytearray,
        start: int,
        end: int,
        mss: int,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        now: float,
        echo: int,
    ) -> None:
        """Emit a copy of `data[start:end]`, in as many packets as the link asks for."""
        out = self.out
        if out is None:
            return
        header = self.header
        word = flags << 16 | window
        stamp = self.stamp(now)
        if out.offload:
            length = header + end - start
            if end - start > mss:
                at = out.reserve_packet(
                    length, self._gso_type, mss, header, self.ip_header, _CHECKSUM_OFFSET
                )
            else:
                at = out.reserve_packet(
                    length, GSO_NONE, 0, header, self.ip_header, _CHECKSUM_OFFSET
                )
            buffer = out.buffer
            self._headers(buffer, at, length, seq, ack, word, None, stamp, echo)
            buffer[at + header : at + length] = memoryview(data)[start:end]
            return
        reserve, headers, residue = out.reserve_packet, self._headers, checksum.add
        view = memoryview(data)
        # Only the last is pushed: a receiver that joins pieces would let each go at once.
        last, word = word, word & ~_PUSHED
        while start < end:
            stop = start + mss
            if stop >= end:
                stop, word = end, last
            piece = view[start:stop]
            length = header + stop - start
            at = reserve(length)
            buffer = out.buffer
            headers(buffer, at, length, seq, ack, word, residue(piece), stamp, echo)
            buffer[at + header : at + length] = piece
            seq += mss
            start = stop

    def urgent(
        self,
        data: bytes | bytearray,
        start: int,
        end: int,
        mss: int,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        now: float,
        echo: int,
        up: int,
    ) -> None:
        """Emit a copy of `data[start:end]`, at least a header, with pointers to `up`.

        Each packet is one segment: the pointer counts from its own number, and who cuts a larger
        one would repeat it.
        """
        out = self.out
        if out is None:
            return
        header = self.header
        stamp = self.stamp(now)
        while True:
            stop = min(start + mss, end)
            piece = data[start:stop]
            ahead = up - seq
            pointer = ahead if 0 < ahead <= MAX_POINTER else 0
            word = (flags | URG if pointer else flags) << 16 | window
            length = header + len(piece)
            if out.offload and piece:
                at = out.reserve_packet(
                    length, GSO_NONE, 0, header, self.ip_header, _CHECKSUM_OFFSET
                )
                residue = None
            else:
                at = out.reserve_packet(length)
                residue = checksum.add(piece) + pointer
            buffer = out.buffer
            self._headers(buffer, at, length, seq, ack, word, residue, stamp, echo)
            field = at + self.ip_header + _POINTER_OFFSET
            buffer[field : field + 2] = pointer.to_bytes(2, "big")
            buffer[at + header : at + length] = piece
            seq += stop - start
            start = stop
            if start >= end:
                return

    def _headers(
        self,
        buffer: bytearray,
        at: int,
        length: int,
        seq: int,
        ack: int,
        word: int,
        payload: int | None,
        stamp: int,
        echo: int,
        extra: int = 0,
    ) -> None:
        """Pack both headers of a packet of `length` bytes at `buffer[at]`.

        `word` is flags and window; `payload` the residue of what follows, or None for a partial
        checksum; `extra` the length of further options, part of what follows.
        """
        seq &= MASK
        ack &= MASK
        ip_header = self.ip_header
        word |= (self.header - ip_header + extra) << 26
        size = length - ip_header
        ports = self._ports
        if payload is None:
            field = (self._pseudo + size) % 65535 << 16
        elif self.stamped:
            field = (
                -(
                    self._pseudo + size + ports + seq + ack + word + NOP_NOP_TIMESTAMPS
                    + stamp + echo + payload
                ) % 65535 << 16
            )  # fmt: skip
        else:
            field = -(self._pseudo + size + ports + seq + ack + word + payload) % 65535 << 16
        if ip_header == _IPV4_HEADER:
            first = 0x4500_0000 | length
            third = self._ttl_word | -(self._ip_residue + length) % 65535
            if self.stamped:
                _V4_STAMPED(
                    buffer, at, first, _DONT_FRAGMENT, third, self._addresses, ports,
                    seq, ack, word, field, NOP_NOP_TIMESTAMPS, stamp, echo,
                )  # fmt: skip
            else:
                _V4(
                    buffer, at, first, _DONT_FRAGMENT, third, self._addresses, ports,
                    seq, ack, word, field,
                )  # fmt: skip
        else:
            second = size << 16 | self._ttl_word
            if self.stamped:
                _V6_STAMPED(
                    buffer, at, _V6_FIRST_WORD, second, self._addresses, ports,
                    seq, ack, word, field, NOP_NOP_TIMESTAMPS, stamp, echo,
                )  # fmt: skip
            else:
                _V6(
                    buffer, at, _V6_FIRST_WORD, second, self._addresses, ports,
                    seq, ack, word, field,
                )  # fmt: skip

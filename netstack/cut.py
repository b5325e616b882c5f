"""Cuts a TCP super-segment into the packets that it stands for, with all checksums: pure.

What a network card with segmentation offload does, for links whose datagrams each carry one
packet of the MTU. The headers are summed once; a packet then costs one sum over its payload and
one `pack_into`. All but the last are without PSH and FIN, so that a receiver may join them.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from netstack import checksum
from netstack.tcp_segment import FIN, PSH

_TCP = 6
_SEQUENCE, _CHECKSUM = 4, 16
_CHECKSUM_OF_UDP = 6
_LAST_ONLY = PSH | FIN
_tcp_fields = Struct("!IIHHH")
"""Sequence and acknowledgement number, offset and flags, window, checksum."""
_pack_fields = _tcp_fields.pack_into
_u16 = Struct("!H").pack_into


def cut(
    whole: memoryview, mss: int, header: int, ip_header: int, into: memoryview
) -> Iterator[memoryview]:
    """Packets of up to `mss` bytes of payload, one after the other in `into`.

    `whole` begins with IP and TCP headers of `header` bytes, `ip_header` of them IP's, without
    extension headers or options of IP. Each packet is good until the next one is asked for.
    """
    into[:header] = whole[:header]
    end = len(whole)
    seq, ack, flags, window, _ = _tcp_fields.unpack_from(whole, ip_header + _SEQUENCE)
    v4 = ip_header == 20
    size_at, size_less = (2, 0) if v4 else (4, ip_header)
    field = ip_header + _SEQUENCE
    # Sums of all that is the same in each packet: what differs counts as zero.
    _pack_fields(into, field, 0, ack, 0, window, 0)
    fixed = checksum.add(into[12 if v4 else 8 : header]) + _TCP - ip_header
    ip_fixed = 0
    if v4:
        _u16(into, 2, 0)
        _u16(into, 10, 0)
        ip_fixed = checksum.add(into[:20])
    inner = flags & ~_LAST_ONLY
    length = 0
    for at in range(header, end, mss):
        stop = at + mss
        if stop >= end:
            stop, inner = end, flags
        if header + stop - at != length:
            length = header + stop - at
            _u16(into, size_at, length - size_less)
            if v4:
                _u16(into, 10, checksum.finish(ip_fixed + length))
        piece = whole[at:stop]
        total = fixed + length + seq + inner + checksum.add(piece)
        _pack_fields(into, field, seq, ack, inner, window, checksum.finish(total))
        into[header:length] = piece
        seq = seq + mss & 0xFFFFFFFF
        yield into[:length]


def complete(packet: memoryview, start: int, offset: int) -> None:
    """Make a partial checksum whole: over all from `start` on, the field `offset` bytes behind."""
    value = checksum.finish(checksum.add(packet[start:]))
    if not value and offset == _CHECKSUM_OF_UDP:
        value = 0xFFFF  # 0 would say that there is none (RFC 768).
    _u16(packet, start + offset, value)

"""Cuts a TCP super-segment into the packets that it stands for, with all checksums: pure.

What a network card with segmentation offload does, for links whose datagrams each carry one
packet of the MTU. The headers are summed once; a packet then costs one sum over its payload and
one `pack_into`. All but the last are without PSH and FIN, so that a receiver may join them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    whole: memoryview,
    mss: int,
    header: int,
    ip_header: int,
    into: memoryview,
    framed: Callable[[int], memoryview],
) -> Iterator[memoryview]:
    """Packets of up to `mss` bytes of payload, one after the other in `into`.

    `whole` begins with IP and TCP headers of `header` bytes, `ip_header` of them IP's, without
    extension headers or options of IP. What is yielded is what `framed`, called with each length
    that packets have (two at most), says is to be sent of `into` and what is around it. It is
    good until the next one is asked for.
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
    # `checksum.add` in place, for a size that is known: the call would cost as much again as
    # what is left of the loop beside the sum.
    (half, of_half), (quarter, of_quarter), (eighth, of_eighth) = checksum.halvings(mss)
    residue, pack_fields, odd = int.from_bytes, _pack_fields, (mss & 1) << 3
    length, size = 0, mss
    for at in range(header, end, mss):
        stop = at + mss
        if stop >= end:
            stop, inner = end, flags
            size = end - at
            odd = (size & 1) << 3
        if header + size != length:
            length = header + size
            _u16(into, size_at, length - size_less)
            if v4:
                _u16(into, 10, checksum.finish(ip_fixed + length))
            payload, frame, same = into[header:length], framed(length), fixed + length
        piece = whole[at:stop]
        total = residue(piece, "big")
        total = (total >> half) + (total & of_half)
        total = (total >> quarter) + (total & of_quarter)
        total = (total >> eighth) + (total & of_eighth)
        total = same + seq + inner + (total % 65535 << odd)
        pack_fields(into, field, seq, ack, inner, window, -total % 65535)
        payload[:] = piece
        seq = seq + mss & 0xFFFFFFFF
        yield frame


def complete(packet: memoryview, start: int, offset: int) -> None:
    """Make a partial checksum whole: over all from `start` on, the field `offset` bytes behind."""
    value = checksum.finish(checksum.add(packet[start:]))
    if not value and offset == _CHECKSUM_OF_UDP:
        value = 0xFFFF  # 0 would say that there is none (RFC 768).
    _u16(packet, start + offset, value)

"""Joins TCP segments that follow each other into one packet of up to 64 KiB: pure.

What arrives datagram by datagram is handed on in large pieces, as a network card with receive
offload does: the packet carries a virtio header that says how it could be cut again, and a
partial checksum. The segments' own checksums are neither verified nor needed, so this is for
packets that came out of an AEAD.

A segment is joined to those before it if both headers agree in all that is not length, sequence
number, PSH, identification or checksum (what Linux's GRO asks, too), it is the next in order, and
all before it were full. Any other packet first lets go what was joined, so the order of packets
never changes. `flush` after each batch: nothing waits for a later one.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from netstack import checksum
from netstack.heads import NEEDS_CSUM, OFFLOAD_HEADER
from netstack.out import GSO_TCPV4, GSO_TCPV6
from netstack.tcp_segment import ACK, PSH

MAX_JOINED = 65535

_CSUM_OFFSET = 16
_TCP = 6
_V4 = Struct("!HHxxHHxx12sIIIxxxx").unpack_from
_V6 = Struct("!IHH36sIIIxxxx").unpack_from
_PUSHED = PSH << 16
_PLAIN = ACK << 16
_FLAGS = 0x1FF << 16
_OFFSET_SHIFT = 28
_HEADS = {
    (20, 40): Struct("!I2xI2x12sIQ4x0s").unpack_from,
    (20, 52): Struct("!I2xI2x12sIQ4x12s").unpack_from,
    (40, 60): Struct("!II36sIQ4x0s").unpack_from,
    (40, 72): Struct("!II36sIQ4x12s").unpack_from,
}
"""By the length of IP's and of both headers, for segments without options and with timestamps (RFC
7323, appendix A): all that has to agree, and in the middle of it the sequence number."""
_virtio = Struct("<BBHHHH").pack_into
_u16 = Struct("!H").pack_into

Emit = Callable[[memoryview, int, int, bool], None]
"""Takes a packet `buf[start:end]`, and whether a virtio header lies in front of it."""


class SegmentJoiner:
    """Packets in by `take`, packets out by `emit`, in the same order."""

    __slots__ = (
        "_count",
        "_end",
        "_head_of",
        "_header",
        "_ip_header",
        "_last_word",
        "_mss",
        "_next",
        "_same",
        "_view",
        "emit",
    )

    def __init__(self, emit: Emit) -> None:
        self.emit = emit
        self._view = memoryview(bytearray(OFFLOAD_HEADER + MAX_JOINED))
        self._count = 0
        """Segments that wait in the buffer."""
        self._end = 0
        self._mss = self._next = self._header = self._ip_header = self._last_word = 0
        self._same: tuple[object, ...] = ()
        """What the headers of the next one must have, too."""
        self._head_of: Callable[[memoryview, int], tuple[object, ...]] | None = None
        """Of `_HEADS`, what fits the packet in the buffer."""

    def take(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        """Take the next packet `buf[start:end]`. See `Emit`."""
        size = end - start
        first = buf[start]
        if offload or size < 61:
            first = 0
        if first == 0x45:
            kind, total, fragment, ttl, key, seq, ack, word = _V4(buf, start)
            ip_header = 20
            fits = total == size and ttl & 0xFF == _TCP and not fragment & 0x3FFF
            same = kind << 32 | fragment << 16 | ttl
        elif first >> 4 == 6:
            kind, total, ttl, key, seq, ack, word = _V6(buf, start)
            ip_header = 40
            fits = total == size - 40 and ttl >> 8 == _TCP
            same = kind << 16 | ttl
        else:
            fits = False
        if not fits or word & _FLAGS & ~_PUSHED != _PLAIN:
            if self._count:
                self.flush()
            self.emit(buf, start, end, offload)
            return
        header = ip_header + (word >> _OFFSET_SHIFT << 2)
        payload = size - header
        view = self._view
        if self._count:
            at = self._end
            stop = at + payload
            if (
                seq == self._next
                and 0 < payload <= self._mss
                and stop <= OFFLOAD_HEADER + MAX_JOINED
                and self._same
                == (
                    key,
                    ack,
                    word & ~_PUSHED,
                    same,
                    bytes(buf[start + ip_header + 20 : start + header]),
                )
            ):
                view[at:stop] = buf[start + header : end]
                self._end = stop
                self._count += 1
                self._next = (seq + payload) & 0xFFFFFFFF
                self._last_word = word
                if payload < self._mss or word & _PUSHED:
                    self.flush()
                return
            self.flush()
        if payload <= 0 or word & _PUSHED or header < ip_header + 20:
            self.emit(buf, start, end, False)
            return
        self._same = (
            key, ack, word & ~_PUSHED, same, bytes(buf[start + ip_header + 20 : start + header])
        )  # fmt: skip
        self._end = OFFLOAD_HEADER + size
        view[OFFLOAD_HEADER : self._end] = buf[start:end]
        self._count = 1
        self._mss, self._header, self._ip_header = payload, header, ip_header
        self._next = (seq + payload) & 0xFFFFFFFF
        self._last_word = word
        self._head_of = _HEADS.get((ip_header, header))

    def take_row(self, buf: memoryview, start: int, size: int, stride: int, count: int) -> None:
        """Take `count` packets of `size` bytes, the first at `start`, each `stride` behind the one
        before: what `take` does with each of them, in one loop."""
        end = start + count * stride
        while start < end:
            if self._count and size == self._header + self._mss:
                start += self._follow(buf, start, size, stride, end)
                if start == end:
                    return
            self.take(buf, start, start + size, False)
            start += stride

    def _follow(self, buf: memoryview, start: int, size: int, stride: int, end: int) -> int:
        """Take those at the beginning of the row that continue what waits in full; how many bytes
        of the row that was."""
        head_of, mss, at, view = self._head_of, self._mss, self._end, self._view
        end = min(end, start + (OFFLOAD_HEADER + MAX_JOINED - at) // mss * stride)
        if head_of is None or end <= start:
            return 0
        size_and_kind, rest, key, _, ack, options = head_of(view, OFFLOAD_HEADER)
        payload = start + self._header
        place, seq = start, self._next
        while place < end and head_of(buf, place) == (size_and_kind, rest, key, seq, ack, options):
            seq = (seq + mss) & 0xFFFFFFFF
            place += stride
        if place > start:
            pieces = [buf[p : p + mss] for p in range(payload, place + self._header, stride)]
            self._end = stop = at + len(pieces) * mss
            view[at:stop] = b"".join(pieces)
            self._count += len(pieces)
            self._next = seq
        return place - start

    def flush(self) -> None:
        """Let go what waits."""
        count, self._count = self._count, 0
        if not count:
            return
        view, end, ip_header = self._view, self._end, self._ip_header
        at = OFFLOAD_HEADER
        if count == 1:
            self.emit(view, at, end, False)
            return
        size = end - at
        if ip_header == 20:
            gso = GSO_TCPV4
            _u16(view, at + 2, size)
            _u16(view, at + 10, 0)
            _u16(view, at + 10, checksum.finish(checksum.add(view[at : at + 20])))
            addresses = view[at + 12 : at + 20]
        else:
            gso = GSO_TCPV6
            _u16(view, at + 4, size - 40)
            addresses = view[at + 8 : at + 40]
        _u16(view, at + ip_header + 12, self._last_word >> 16)
        pseudo = checksum.add(addresses) + _TCP + size - ip_header
        _u16(view, at + ip_header + _CSUM_OFFSET, checksum.fold(pseudo))
        _virtio(view, 0, NEEDS_CSUM, gso, self._header, self._mss, ip_header, _CSUM_OFFSET)
        self.emit(view, at, end, True)

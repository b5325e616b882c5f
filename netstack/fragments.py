"""Reassembly of IP fragments (RFC 791, RFC 8200 4.5) and cutting into them.

A `Reassembler` holds the unfinished datagrams of one peer. It is bounded in
bytes (what is held, plus a charge for each piece, so that tiny fragments cost
what they cost us), in datagrams and in time. When a bound is reached the
oldest datagram is given up. Overlap means that the sender is broken or
cunning: the whole datagram is discarded (RFC 5722) and later pieces of it
too, until it would have timed out; an exact repetition of a piece is a
duplicate of the network's making and is ignored.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable
from typing import NamedTuple

TIMEOUT = 30.0
"""Seconds to wait for the rest; RFC 8200 says 60, Linux uses 30 for IPv4 and 60 for IPv6."""
MAX_DATAGRAMS = 64
"""Unfinished datagrams of one peer."""
MAX_PIECES = 1024
"""Fragments of one datagram; 65,535 bytes in IPv4's least MTU of 68 are 1,366, in 576 are 119."""
PIECE_CHARGE = 160
"""Bytes that a held piece costs besides its data."""


class Piece(NamedTuple):
    """A fragment, taken apart."""

    offset: int
    """In octets."""
    more: bool
    data: bytes
    ecn: int
    """Its ECN codepoint (RFC 3168 5): 0 to 3."""
    head: bytes = b""
    """Of a first fragment: the headers that the whole packet will have."""
    quote: bytes = b""
    """Of a first fragment: its beginning as a packet, for a Time Exceeded message."""


class Whole(NamedTuple):
    """What the pieces of a datagram say together."""

    head: bytes
    """Of the first one, in place and not in time."""
    payload: bytes
    codepoints: int
    """Bit n: a piece came with ECN codepoint n."""


class _Datagram:
    __slots__ = (
        "broken",
        "codepoints",
        "data",
        "deadline",
        "head",
        "offsets",
        "quote",
        "size",
        "total",
    )

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.offsets: list[int] = []
        self.data: list[bytes] = []
        self.size = 0
        self.total = -1
        self.head = b""
        self.quote = b""
        self.codepoints = 0
        self.broken = False


class Reassembler:
    """Unfinished datagrams, by key. Insertion order is age order."""

    __slots__ = ("_datagrams", "_max_bytes", "evicted", "held")

    def __init__(self, max_bytes: int) -> None:
        self._datagrams: dict[Hashable, _Datagram] = {}
        self._max_bytes = max_bytes
        self.held = 0
        """Bytes charged now; never above `max_bytes` after a call."""
        self.evicted = 0
        """Datagrams given up for want of room, ever."""

    def __len__(self) -> int:
        return len(self._datagrams)

    def add(self, key: Hashable, piece: Piece, now: float) -> Whole | None:
        """Take a piece; returns the whole when it was the last one missing.

        Raises `OverlapError` when the datagram is, or was already, discarded for an overlap.
        """
        offset, more, data, ecn, head, quote = piece
        datagram = self._datagrams.get(key)
        if datagram is None:
            if len(self._datagrams) >= MAX_DATAGRAMS:
                self._evict_oldest()
            datagram = self._datagrams[key] = _Datagram(now + TIMEOUT)
        if datagram.broken:
            raise OverlapError
        end = offset + len(data)
        index = bisect_left(datagram.offsets, offset)
        if index < len(datagram.offsets) and datagram.offsets[index] == offset:
            if datagram.data[index] == data and (more or end == datagram.total):
                return None
            self._break(datagram)
            raise OverlapError
        if self._overlaps(datagram, index, offset, end, more):
            self._break(datagram)
            raise OverlapError
        datagram.offsets.insert(index, offset)
        datagram.data.insert(index, data)
        datagram.size += len(data)
        datagram.codepoints |= 1 << ecn
        self.held += len(data) + PIECE_CHARGE
        if not more:
            datagram.total = end
        if offset == 0:
            datagram.head, datagram.quote = head, quote
            self.held += len(head) + len(quote)
        if datagram.size == datagram.total:
            self._drop(key)
            return Whole(datagram.head, b"".join(datagram.data), datagram.codepoints)
        while self.held > self._max_bytes:
            self._evict_oldest()
        return None

    def expire(self, now: float) -> list[bytes]:
        """Give up what has waited too long; returns the quotes of those that have a first piece."""
        quotes = []
        for key, datagram in list(self._datagrams.items()):
            if datagram.deadline > now:
                break
            if datagram.quote:
                quotes.append(datagram.quote)
            self._drop(key)
        return quotes

    def get_timer(self) -> float | None:
        for datagram in self._datagrams.values():
            return datagram.deadline
        return None

    def clear(self) -> None:
        self._datagrams.clear()
        self.held = 0

    @staticmethod
    def _overlaps(datagram: _Datagram, index: int, offset: int, end: int, more: bool) -> bool:
        """Whether a piece that would stand at `index` contradicts those that are there."""
        offsets, data = datagram.offsets, datagram.data
        if index < len(offsets) and (end > offsets[index] or not more):
            return True
        if index and offsets[index - 1] + len(data[index - 1]) > offset:
            return True
        if datagram.total >= 0 and (end > datagram.total or not more):
            return True
        return len(offsets) >= MAX_PIECES

    def _break(self, datagram: _Datagram) -> None:
        self._uncharge(datagram)
        datagram.broken = True
        datagram.offsets.clear()
        datagram.data.clear()
        datagram.size = 0
        datagram.head = datagram.quote = b""

    def _drop(self, key: Hashable) -> None:
        self._uncharge(self._datagrams.pop(key))

    def _uncharge(self, datagram: _Datagram) -> None:
        pieces = datagram.size + PIECE_CHARGE * len(datagram.offsets)
        self.held -= pieces + len(datagram.head) + len(datagram.quote)

    def _evict_oldest(self) -> None:
        self._drop(next(iter(self._datagrams)))
        self.evicted += 1


class OverlapError(ValueError):
    """The datagram of this fragment is discarded for overlapping pieces (RFC 5722)."""


def cut(length: int, room: int) -> list[tuple[int, int, bool]]:
    """How to cut a payload into fragments of at most `room` bytes: (offset, length, more)."""
    step = room & ~7
    if step <= 0:
        raise ValueError("no room for a fragment")
    return [
        (offset, min(step, length - offset), offset + step < length)
        for offset in range(0, max(length, 1), step)
    ]

"""The Internet checksum (RFC 1071) by big-integer arithmetic.

A one's complement sum of 16-bit words is the plain sum modulo 65535, because
2^16 = 1 (mod 65535). So a run of bytes read as one big-endian integer is
already congruent to the sum of its words, and so is a 32-bit or 64-bit header
field. Python's integers do the whole run in few C loops, the longer ones folded upon
themselves first: about 2 us for 1,448 bytes, where a sum over unpacked words
takes 8 us or more.

The sums here are therefore *residues*: integers to be added in any order and
reduced once, by `finish` (the complement, for a checksum field) or `fold` (the
sum itself, for a partial checksum as in virtio's NEEDS_CSUM). The two zeros of
one's complement arithmetic, 0x0000 and 0xffff, are one residue. A sum over a
pseudo-header is never the true zero, so the residue 0 means 0xffff and its
complement is 0x0000; UDP, for which 0x0000 means "none", writes
`finish(total) or 0xffff` (RFC 768).
"""

from __future__ import annotations

from functools import lru_cache

_LARGE = 4096
"""Bytes from which halving by shifts is faster than dividing everything by 65535."""

_HALVINGS = tuple((width, (1 << width) - 1) for width in (1 << 18, 1 << 17, 1 << 16, 1 << 15))
"""Widths in bits, multiples of 16, at which a large integer is folded upon itself."""

_SMALL = 512
"""Bytes from which the same is faster for a packet of usual size, by the three widths below."""
_HALF, _QUARTER, _EIGHTH = 6144, 3072, 1536
_OF_HALF, _OF_QUARTER, _OF_EIGHTH = (1 << _HALF) - 1, (1 << _QUARTER) - 1, (1 << _EIGHTH) - 1

Halving = tuple[int, int]
"""A width in bits at which an integer is folded upon itself, and the mask of that width."""


def add(data: bytes | bytearray | memoryview) -> int:
    """The residue of `data`; an odd last byte counts as if a zero byte followed."""
    total = int.from_bytes(data, "big")
    size = len(data)
    if size > _LARGE:
        for width, mask in _HALVINGS:
            if size << 3 > width:
                total = (total >> width) + (total & mask)
    if size > _SMALL:
        total = (total >> _HALF) + (total & _OF_HALF)
        total = (total >> _QUARTER) + (total & _OF_QUARTER)
        total = (total >> _EIGHTH) + (total & _OF_EIGHTH)
    total %= 65535
    return total << 8 if size & 1 else total


@lru_cache(maxsize=64)
def halvings(size: int) -> tuple[Halving, Halving, Halving]:
    """At a half, a quarter and an eighth of `size` bytes, for who sums many runs of that size.

    Whole digits of Python's integers (30 bits) and whole words (16 bits), as far as those are
    wider; the residue stays what it is at any multiple of 16.
    """
    half, quarter, eighth = (-(-size * 8 // (parts * 240)) * 240 for parts in (2, 4, 8))
    return (
        (half, (1 << half) - 1),
        (quarter, (1 << quarter) - 1),
        (eighth, (1 << eighth) - 1),
    )


def fold(total: int) -> int:
    """The 16-bit one's complement sum of a residue, not complemented."""
    return total % 65535


def finish(total: int) -> int:
    """The checksum field that makes data of this residue sum to zero."""
    return -total % 65535


def valid(total: int) -> bool:
    """Whether data whose sum, the checksum field included, is `total` is intact."""
    return total % 65535 == 0


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """The residue of the pseudo-header of IPv4 (RFC 9293, 3.1) or IPv6 (RFC 8200, 8.1).

    `length` is that of the transport header and its payload. One function does for both
    families: they differ in the position of the fields, to which the sum is blind.
    """
    return (
        int.from_bytes(source, "big") + int.from_bytes(destination, "big") + protocol + length
    ) % 65535

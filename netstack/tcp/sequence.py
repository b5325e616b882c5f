"""Sequence numbers: 32 bits on the wire, unbounded within.

A connection counts its sequence numbers in plain integers that never wrap; the
low 32 bits are what the wire carries. A number that arrives is unwrapped once,
to the integer nearest to one that is already known (RFC 9293, 3.4: no two live
numbers are half the space apart). Everything behind that compares, subtracts
and sorts without a thought of wrapping.
"""

from __future__ import annotations

from netstack.tcp.constants import HALF, MASK


def unwrap(wire: int, reference: int) -> int:
    """The integer congruent to `wire` that is nearest to `reference`."""
    return reference + ((wire - reference + HALF) & MASK) - HALF

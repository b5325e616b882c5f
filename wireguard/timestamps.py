"""TAI64N: when an initiation was made, and the rule that it must be later than all before.

8 bytes of seconds (2^62 + 10 at the Unix epoch, the ten leap seconds of 1970), 4 bytes
of nanoseconds, big-endian: the order of the bytes is the order in time.
"""

from __future__ import annotations

import struct

from wireguard.constants import TIMESTAMP_GRAIN, TIMESTAMP_SIZE

_TAI64N = struct.Struct(">QI")
_EPOCH = 2**62 + 10
NEVER = bytes(TIMESTAMP_SIZE)
"""Earlier than every timestamp."""


def tai64n(seconds: float) -> bytes:
    """The timestamp of a Unix time, rounded down to `TIMESTAMP_GRAIN`."""
    whole = int(seconds)
    nanoseconds = int((seconds - whole) * 1e9)
    return _TAI64N.pack(_EPOCH + whole, nanoseconds // TIMESTAMP_GRAIN * TIMESTAMP_GRAIN)


def seconds_of(stamp: bytes) -> float:
    """The Unix time of a timestamp; whatever 12 bytes say, for people."""
    seconds, nanoseconds = _TAI64N.unpack(stamp)
    return float(seconds - _EPOCH + nanoseconds / 1e9)


def later(stamp: bytes, than: bytes) -> bytes:
    """`stamp`, or the earliest timestamp of ours that is after `than`."""
    if stamp > than:
        return stamp
    seconds, nanoseconds = _TAI64N.unpack(than)
    nanoseconds = (nanoseconds // TIMESTAMP_GRAIN + 1) * TIMESTAMP_GRAIN
    if nanoseconds >= 10**9:
        seconds, nanoseconds = seconds + 1, 0
    return _TAI64N.pack(seconds, nanoseconds)

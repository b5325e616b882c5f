"""Control frames over datagrams: in order, once, until acknowledged.

A control frame travels inside RELIABLE with a sequence number; ACK names the
next number expected. There are few of them, so one timer resends all that is
unacknowledged, doubling its wait. What comes out of order is dropped and comes
again.
"""

from __future__ import annotations

import struct
from collections import deque

from vshp.constants import CONTROL_RETRY, MAX_CONTROL_QUEUE, MAX_CONTROL_RETRY
from vshp.errors import FrameTruncated

_SEQUENCE = struct.Struct("<I")
_MASK = 0xFFFFFFFF
_HALF = 0x80000000


def encode_ack(expected: int) -> bytes:
    return _SEQUENCE.pack(expected)


def decode_ack(body: bytes) -> int:
    if len(body) != _SEQUENCE.size:
        raise FrameTruncated("ack_size")
    (expected,) = _SEQUENCE.unpack(body)
    return int(expected)


class ControlSender:
    """What has been sent and not acknowledged."""

    __slots__ = ("_frames", "_next", "_retry", "deadline")

    def __init__(self) -> None:
        self._frames: deque[tuple[int, bytes]] = deque()
        self._next = 0
        self._retry = CONTROL_RETRY
        self.deadline: float | None = None
        """When to send all of it again."""

    def push(self, frame: bytes) -> bytes | None:
        """The RELIABLE body for a whole frame, None when too many wait already."""
        if len(self._frames) >= MAX_CONTROL_QUEUE:
            return None
        body = _SEQUENCE.pack(self._next) + frame
        self._frames.append((self._next, body))
        self._next = (self._next + 1) & _MASK
        return body

    def arm(self, now: float, rtt: float) -> None:
        """Frames have just left; `rtt` is the smoothed round trip, 0 when unknown."""
        if self._frames and self.deadline is None:
            self._retry = max(CONTROL_RETRY, 2 * rtt)
            self.deadline = now + self._retry

    def acknowledged(self, expected: int, now: float) -> None:
        """The peer has everything before `expected`. What it cannot mean is ignored."""
        progress = False
        while self._frames and (expected - self._frames[0][0] - 1) & _MASK < _HALF:
            if (self._next - expected) & _MASK > _HALF:
                return
            self._frames.popleft()
            progress = True
        if not self._frames:
            self.deadline = None
        elif progress:
            self._retry = CONTROL_RETRY
            self.deadline = now + self._retry

    def expired(self, now: float) -> list[bytes]:
        """The RELIABLE bodies to send again."""
        self._retry = min(2 * self._retry, MAX_CONTROL_RETRY)
        self.deadline = now + self._retry if self._frames else None
        return [body for _, body in self._frames]


class ControlReceiver:
    """What may be taken next."""

    __slots__ = ("expected",)

    def __init__(self) -> None:
        self.expected = 0

    def take(self, body: bytes) -> bytes | None:
        """The frame inside a RELIABLE body when it is the next one, else None."""
        if len(body) < _SEQUENCE.size:
            raise FrameTruncated("reliable_truncated")
        (number,) = _SEQUENCE.unpack_from(body)
        if number != self.expected:
            return None
        self.expected = (self.expected + 1) & _MASK
        return body[_SEQUENCE.size :]

"""Send buffers: payload with room in front for every header, kept until acknowledged.

The bytes of a socket are received straight into a `SendBuffer`. The connection
packs its headers before them and hands the whole to the tunnel, so that bulk
payload is never copied between the socket and the sealing of the record.

    | HEADROOM | up to 60 + 60 of IP and TCP headers | payload ... |
                                                     ^ PAYLOAD

Whoever calls `TcpConnection.send` gives the buffer away; the connection
releases it to its pool, at once if it holds little (the bytes are then kept in
a copy of their size), else when they are acknowledged.
"""

from __future__ import annotations

from netstack.out import HEADROOM

PAYLOAD = HEADROOM + 60 + 60
"""Offset of the payload in a SendBuffer's data."""

CAPACITY = 65535 - 60 - 60
"""Most payload in one buffer: what one IP packet holds under the longest headers."""

MAX_FREE = 64
"""Free buffers a pool keeps (4 MiB)."""


class SendBuffer:
    """One piece of payload to be sent."""

    __slots__ = ("_pool", "data", "view")

    data: bytearray
    """Headroom, header room and payload."""
    view: memoryview
    """The payload part, to be received into: `sock.recv_into(buf.view, limit)`."""

    def __init__(self, pool: SendBufferPool | None = None) -> None:
        self.data = bytearray(PAYLOAD + CAPACITY)
        self.view = memoryview(self.data)[PAYLOAD:]
        self._pool = pool

    def release(self) -> None:
        """Give the buffer back. Its owner must not touch it afterwards."""
        if self._pool is not None:
            self._pool.give_back(self)


class SendBufferPool:
    """A bounded free list of send buffers, shared by all connections of a gateway."""

    __slots__ = ("_free", "_max_free", "taken")

    taken: int
    """Buffers that are out now: in flight, or in their taker's hands."""

    def __init__(self, max_free: int = MAX_FREE) -> None:
        self._free: list[SendBuffer] = []
        self._max_free = max_free
        self.taken = 0

    def take(self) -> SendBuffer:
        """A buffer whose content is anything."""
        self.taken += 1
        return self._free.pop() if self._free else SendBuffer(self)

    def give_back(self, buf: SendBuffer) -> None:
        """Called by `SendBuffer.release`."""
        self.taken -= 1
        if len(self._free) < self._max_free:
            self._free.append(buf)

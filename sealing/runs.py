"""Sealed datagrams that wait to be sent, as runs for UDP_SEGMENT.

They lie one behind the other in one buffer, so that neighbours of equal size
leave in one system call. What was handed out by `take` stays where it is until
the next datagram is placed.
"""

from __future__ import annotations

MAX_DATAGRAM_QUEUE = 256 * 1024
"""Hard bound of sealed datagrams that wait to be sent, in bytes."""
MAX_GSO_SEGMENTS = 64
MAX_GSO_BYTES = 65507
"""Of one send with UDP_SEGMENT: what older kernels take, and what fits a UDP length."""


class SealedRuns:
    """The queue: `place` makes room in `view` for a datagram, `take` hands out all there are."""

    __slots__ = ("_end", "_sizes", "_taken", "buffer", "view")

    def __init__(self, size: int) -> None:
        """`size` bytes of buffer to begin with; it grows up to `MAX_DATAGRAM_QUEUE`."""
        self.buffer = bytearray(size)
        self.view = memoryview(self.buffer)
        self._end = 0
        self._sizes: list[int] = []
        self._taken = False

    @property
    def queued(self) -> int:
        """Bytes that wait and were not taken yet."""
        return 0 if self._taken else self._end

    def place(self, size: int) -> int:
        """Queue a datagram of `size` bytes; they are written to `view` at the offset returned.

        -1 when the queue is full.
        """
        if self._taken:
            self._taken = False
            self._end = 0
        end = self._end
        need = end + size
        if need > len(self.buffer):
            if need > MAX_DATAGRAM_QUEUE:
                return -1
            # Another buffer, not a resized one: views of the old may still be out.
            buffer = bytearray(min(max(need, 2 * len(self.buffer)), MAX_DATAGRAM_QUEUE))
            buffer[:end] = self.view[:end]
            self.buffer, self.view = buffer, memoryview(buffer)
        self._end = need
        self._sizes.append(size)
        return end

    def take(self) -> list[tuple[memoryview, int]]:
        """What is to be sent: (run of datagrams, size of each but the last) pairs.

        A run longer than its size is sent with UDP_SEGMENT, or cut up where the
        kernel lacks it. The views are good until the next `place`.
        """
        sizes, self._sizes = self._sizes, []
        self._taken = True
        runs: list[tuple[memoryview, int]] = []
        start = at = segment = count = 0
        ended = True
        for size in sizes:
            if (
                ended
                or size > segment
                or count == MAX_GSO_SEGMENTS
                or at + size - start > MAX_GSO_BYTES
            ):
                if at > start:
                    runs.append((self.view[start:at], segment))
                start, segment, count = at, size, 0
            at += size
            count += 1
            ended = size < segment
        if at > start:
            runs.append((self.view[start:at], segment))
        return runs

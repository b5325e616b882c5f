"""Sealed datagrams that wait to be sent, as runs for UDP_SEGMENT.

They lie one behind the other in one buffer, so that neighbours of equal size
leave in one system call. What was handed out by `take` stays where it is until
the next datagram is placed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from sealing.records import TAG_SIZE, NonceMaker, Transform

MAX_DATAGRAM_QUEUE = 256 * 1024
"""Hard bound of sealed datagrams that wait to be sent, in bytes."""
MAX_GSO_SEGMENTS = 64
MAX_GSO_BYTES = 65507
"""Of one send with UDP_SEGMENT: what older kernels take, and what fits a UDP length."""


HEADER_SIZE = 16
"""Of a sealed datagram: a word that says what it is, the receiver's index, the counter."""
_OVERHEAD = HEADER_SIZE + TAG_SIZE
_pack_header = struct.Struct("<IIQ").pack_into


class SealingKey:
    """What datagrams are sealed under, and the counter that no two of them share."""

    __slots__ = ("bound", "counter", "encrypt_into", "index", "nonce", "word")

    def __init__(
        self, word: int, index: int, encrypt_into: Transform, nonce: NonceMaker, bound: bool
    ) -> None:
        """`bound`: the header is associated data of the AEAD."""
        self.word = word
        self.index = index
        self.encrypt_into = encrypt_into
        self.nonce = nonce
        self.bound = bound
        self.counter = 0
        """Of the next datagram."""


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

    def seal(self, key: SealingKey, plaintexts: Iterable[memoryview]) -> Sequence[bytes]:
        """Queue a datagram for each; copies of those that had no room, and were dropped."""
        if self._taken:
            self._taken = False
            self._end = 0
        end, view, room = self._end, self.view, len(self.buffer)
        word, index, counter, bound = key.word, key.index, key.counter, key.bound
        encrypt, nonce, sized = key.encrypt_into, key.nonce, self._sizes.append
        dropped: list[bytes] | None = None
        try:
            for plain in plaintexts:
                size = len(plain) + _OVERHEAD
                at = end
                if at + size > room:
                    at = self.place(size)
                    if at < 0:
                        dropped = [] if dropped is None else dropped
                        dropped.append(bytes(plain))
                        continue
                    view, room = self.view, len(self.buffer)
                    end = self._end
                else:
                    end = at + size
                    self._end = end
                    sized(size)
                this, counter = counter, counter + 1
                body = at + HEADER_SIZE
                _pack_header(view, at, word, index, this)
                ad = view[at:body] if bound else None
                encrypt(nonce(0, this), plain, ad, view[body:end])
        finally:
            # Counted before it was used, so that no error can have a counter used again.
            key.counter = counter
        return () if dropped is None else dropped

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

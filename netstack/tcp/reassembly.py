"""Segments that arrived ahead of a hole, held until the hole is filled.

What is held lies inside the advertised window, so its bytes are bounded by
that; the number of blocks is bounded by a constant. A block grows in place
when its continuation arrives, which is how a burst after a lost segment comes.

The queue also knows what to tell the sender: the block that changed last comes
first, then the others by how recently they changed (RFC 2018, 4).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from netstack.tcp.constants import MAX_REASSEMBLY_BLOCKS


class Reassembly:
    """Out-of-order payload by unwrapped sequence number: disjoint blocks that do not touch."""

    __slots__ = ("_data", "_recent", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._data: list[bytearray] = []
        self._recent: list[int] = []
        """Starts of the blocks, the one that changed last at the end."""

    def __len__(self) -> int:
        return len(self._starts)

    def insert(self, seq: int, payload: memoryview) -> bool:
        """Hold `payload`, which starts at `seq`; False if there are too many blocks for it."""
        starts, data = self._starts, self._data
        end = seq + len(payload)
        index = bisect_right(starts, seq) - 1
        if index >= 0 and starts[index] + len(data[index]) >= seq:
            block = data[index]
            block += payload[starts[index] + len(block) - seq :]
        else:
            if len(starts) >= MAX_REASSEMBLY_BLOCKS:
                return False
            index += 1
            starts.insert(index, seq)
            data.insert(index, bytearray(payload))
            block = data[index]
        self._swallow_followers(index, block, end)
        start = starts[index]
        if start in self._recent:
            self._recent.remove(start)
        self._recent.append(start)
        return True

    def _swallow_followers(self, index: int, block: bytearray, end: int) -> None:
        """Join the blocks after `index` that `block`, now reaching at least to `end`, touches."""
        starts, data = self._starts, self._data
        after = index + 1
        last = bisect_right(starts, end, after)
        if last == after:
            return
        for follower in range(after, last):
            reached = starts[index] + len(block)
            overlap = reached - starts[follower]
            if overlap < len(data[follower]):
                block += memoryview(data[follower])[overlap:]
            self._recent.remove(starts[follower])
        del starts[after:last]
        del data[after:last]

    def take(self, nxt: int) -> memoryview | None:
        """Remove and return what continues the stream at `nxt`; blocks wholly before it go too."""
        while self._starts and self._starts[0] <= nxt:
            start = self._starts.pop(0)
            block = self._data.pop(0)
            self._recent.remove(start)
            if start + len(block) > nxt:
                return memoryview(block)[nxt - start :]
        return None

    def recent_blocks(self, count: int) -> list[tuple[int, int]]:
        """At most `count` blocks (start, end), the one that changed last first."""
        blocks = []
        for start in reversed(self._recent[-count:] if count else []):
            block = self._data[bisect_left(self._starts, start)]
            blocks.append((start, start + len(block)))
        return blocks

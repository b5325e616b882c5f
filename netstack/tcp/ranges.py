"""A set of sequence numbers as sorted, disjoint, half-open ranges.

The scoreboard of RFC 6675 is one of these. Numbers are unwrapped (see
`sequence`), so they compare as plain integers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class RangeSet:
    """Sorted disjoint ranges [start, end). Touching ranges are one."""

    __slots__ = ("ends", "starts", "total")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.total = 0
        """Numbers in the set."""

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.ends, strict=True)

    def add(self, start: int, end: int) -> int:
        """Add [start, end); returns how many numbers are new."""
        low = bisect_left(self.ends, start)
        high = bisect_right(self.starts, end)
        absorbed = 0
        if low < high:
            absorbed = sum(self.ends[low:high]) - sum(self.starts[low:high])
            start = min(start, self.starts[low])
            end = max(end, self.ends[high - 1])
        self.starts[low:high] = [start]
        self.ends[low:high] = [end]
        new = end - start - absorbed
        self.total += new
        return new

    def discard_below(self, bound: int) -> None:
        """Remove every number less than `bound`."""
        whole = bisect_right(self.ends, bound)
        if whole:
            self.total -= sum(self.ends[:whole]) - sum(self.starts[:whole])
            del self.starts[:whole]
            del self.ends[:whole]
        if self.starts and self.starts[0] < bound:
            self.total -= bound - self.starts[0]
            self.starts[0] = bound

    def covered(self, low: int, high: int) -> int:
        """How many numbers of [low, high) are in the set."""
        count = 0
        for index in range(bisect_right(self.ends, low), len(self.starts)):
            start = self.starts[index]
            if start >= high:
                break
            count += min(self.ends[index], high) - max(start, low)
        return count

    def gap(self, position: int) -> tuple[int, int | None]:
        """The first run of missing numbers at or after `position`; None as its end: to infinity."""
        index = bisect_right(self.starts, position) - 1
        if index >= 0 and self.ends[index] > position:
            position = self.ends[index]
        index += 1
        return position, self.starts[index] if index < len(self.starts) else None

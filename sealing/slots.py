"""Places side by side for what is opened of a run of datagrams, before any of it is looked into."""

from __future__ import annotations

HEADROOM = 64
"""Bytes free in front of each place, for the headers of whoever passes its contents on."""
MAX_ROW = 64
"""Places of a row: as many datagrams as the kernel joins."""
_RUN = 65536
"""Bytes of the longest run that one receive brings."""
_MAX_SIZES = 16
"""Sizes for which the views are kept."""


class Slots:
    """A buffer that a run of datagrams fits in, whatever their size."""

    __slots__ = ("_by_size", "view")

    def __init__(self) -> None:
        self.view = memoryview(bytearray(MAX_ROW * HEADROOM + _RUN))
        self._by_size: dict[int, list[memoryview]] = {}

    def of(self, size: int) -> list[memoryview]:
        """Up to `MAX_ROW` views of `size` bytes, the first `HEADROOM` bytes from the beginning of
        `view`, each `size + HEADROOM` behind the one before."""
        slots = self._by_size.get(size)
        if slots is None:
            if len(self._by_size) >= _MAX_SIZES:
                self._by_size.clear()
            view, stride = self.view, HEADROOM + size
            end = stride * min(MAX_ROW, len(view) // stride)
            slots = [view[at : at + size] for at in range(HEADROOM, end, stride)]
            self._by_size[size] = slots
        return slots

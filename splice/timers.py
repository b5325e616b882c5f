"""One heap for everything that has a deadline.

Deadlines mostly move later, which costs nothing here: an entry stays where it
is, and when it fires its owner is asked anew. Only an earlier deadline makes
another entry; what is stale is skipped, and thrown out when it becomes the
greater part.
"""

from __future__ import annotations

import heapq
from typing import Protocol

NEVER = float("inf")

HEAP_SLACK = 256
"""Stale entries that are tolerated, besides as many as there are good ones."""
RETRY = 0.001
"""A deadline that has passed and was not moved is looked at again after so many seconds."""


class Timed(Protocol):
    """What may be in the heap."""

    timer: float
    """Its earliest entry, NEVER when there is none. Written by the heap, and by its owner to say
    that it wants no more calls (NEVER)."""

    def due(self) -> float:
        """When `handle_timer` is to be called, or NEVER."""

    def handle_timer(self, now: float) -> None: ...


class Timers:
    """The deadlines, and the time of the call that is going on."""

    __slots__ = ("_armed", "_bound", "_heap", "now")

    def __init__(self) -> None:
        self.now = 0.0
        """The time of the call that is going on, for callbacks that are not told."""
        self._heap: list[tuple[float, int, Timed]] = []
        self._bound = HEAP_SLACK
        self._armed = 0

    def arm(self, owner: Timed, when: float) -> None:
        """Have `owner.handle_timer` called at `when`, which is earlier than what it has now."""
        if when == NEVER:
            return
        owner.timer = when
        self._armed += 1
        heapq.heappush(self._heap, (when, self._armed, owner))
        if len(self._heap) > self._bound:
            # In place, as `handle_timer` may be at work on it.
            self._heap[:] = [entry for entry in self._heap if entry[2].timer == entry[0]]
            heapq.heapify(self._heap)
            self._bound = HEAP_SLACK + 2 * len(self._heap)

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called next; it may have moved earlier by any call."""
        heap = self._heap
        while heap:
            when, _, owner = heap[0]
            if owner.timer == when:
                return when
            heapq.heappop(heap)
        return None

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self.now = now
        heap = self._heap
        while heap and heap[0][0] <= now:
            when, _, owner = heapq.heappop(heap)
            if owner.timer != when:
                continue
            owner.timer = NEVER
            owner.handle_timer(now)
            due = owner.due()
            if due < owner.timer:
                self.arm(owner, max(due, now + RETRY))

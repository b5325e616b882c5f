"""What is due when: one heap for everything in the gateway that waits by name.

Theory of operation. A key has one moment at most, which may be put earlier or later at any time,
or be taken back. The heap is not searched for that: an entry that does not say what holds of
its key any more is skipped when its turn comes, and such entries are thrown out together when they
are the greater part.

An entry has its owner's key, not the owner: a link that has closed in a flood of strangers is
freed at once, however far the moment is that it had waited for. Flows, of which one device's
deadline moves with each packet, have a heap of their own that asks them anew instead
(`splice/timers.py`).
"""

from __future__ import annotations

import heapq

from eventloop.poller import NEVER

Key = int | str
"""Whose moment it is: a link's `id`, or a room's name."""

SLACK = 64
"""Stale entries that are tolerated, besides twice as many as there are good ones."""

_Entry = tuple[float, int, Key]


class Agenda:
    """Moments by key. Pure: times are whatever the caller's clock says."""

    __slots__ = ("_bound", "_entries", "_first", "_heap", "_number")

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry] = {}
        """What holds of each key that has a moment."""
        self._heap: list[_Entry] = []
        self._bound = SLACK
        self._number = 0
        """Of the newest entry: of two at the same moment the older comes first."""
        self._first: float | None = NEVER
        """The earliest moment of any key; None: to be looked up."""

    def set(self, key: Key, when: float | None) -> None:
        """The key's moment is this now; None or NEVER: it has none."""
        self._first = None
        if when is None or when == NEVER:
            self._entries.pop(key, None)
            return
        self._number += 1
        entry = self._entries[key] = when, self._number, key
        heapq.heappush(self._heap, entry)
        if len(self._heap) > self._bound:
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)
            self._bound = SLACK + 3 * len(self._heap)

    def by(self, key: Key, when: float | None) -> None:
        """Let the key come at this moment at the latest.

        For deadlines that mostly move later: the earlier entry stays, and whoever it calls finds
        that it is too early, and asks again.
        """
        if when is not None:
            entry = self._entries.get(key)
            if entry is None or when < entry[0]:
                self.set(key, when)

    def deadline(self) -> float:
        """The earliest moment of any key, or NEVER."""
        first = self._first
        if first is None:
            heap, entries = self._heap, self._entries
            while heap and entries.get(heap[0][2]) is not heap[0]:
                heapq.heappop(heap)
            first = self._first = heap[0][0] if heap else NEVER
        return first

    def due(self, now: float) -> list[Key]:
        """The keys whose moment has come, the earliest first. They have none any more."""
        found: list[Key] = []
        while self.deadline() <= now:
            key = heapq.heappop(self._heap)[2]
            del self._entries[key]
            self._first = None
            found.append(key)
        return found

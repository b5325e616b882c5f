"""What is to be written, and what could not be written yet.

Theory of operation. Whoever changes something has changed it in memory, and it is in
force; then it hands the ledger a *write*: a key (the row, the file), words for people, and
a function that makes the place on disk agree with memory. The ledger tries at once. A
write that fails waits under its key, so that the newest word about a thing takes the place
of an older one, and what waits is bounded by the things there are, and by `MAX_WAITING`.

A *place* (a database, a file) that failed rests: writes that come in meanwhile wait
without a try, but for one a `FIRST_PAUSE`, and it is tried again by `retry` after a pause
that doubles up to `LAST_PAUSE`. So a place that makes us wait for its refusal (a lock) costs
a tenth of the time at most. Places do not wait for each other.

Nothing here raises for a place that cannot be written. What waits is told: in the log, by
`unwritten`, by `on_change`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

from eventloop.clock import SYSTEM, Clock

_log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LAST_PAUSE = 60.0
"""Seconds that a place rests after it failed, the first time and at most."""
MAX_WAITING = 4096
"""Writes kept; beyond that the oldest that may be missed goes."""
MAX_NAMED = 4
"""Things that a sentence names; of the others it gives the number."""

Key = tuple[Hashable, ...]


class Unwritable(Exception):
    """A place cannot be written now: why (the end of a sentence), and what to do about it."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.why = why
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Unwritten:
    """A place that cannot be written, and what waits for it."""

    place: Path
    why: str
    fix: str
    since: float
    """Unix time of the first failure."""
    waiting: tuple[str, ...]
    """What is in force and not stored, in words: what matters first, the newest first."""

    @property
    def sentence(self) -> str:
        """What is wrong, and what it means."""
        named = ", ".join(self.waiting[:MAX_NAMED])
        more = len(self.waiting) - MAX_NAMED
        if more > 0:
            named += f" and {more} more"
        return f"In force, but not stored yet: {named}. {self.place} cannot be written: {self.why}."


@dataclass(slots=True)
class _Write:
    what: str
    place: Path
    work: Callable[[], None]
    lesser: bool


@dataclass(slots=True)
class _Resting:
    """A place that failed. Times are the ledger's clock's `now`, but for `since` (Unix time)."""

    why: str
    fix: str
    since: float
    pause: float
    tried: float

    @property
    def due(self) -> float:
        return self.tried + self.pause


class Ledger:
    """The one way of everything that a service writes down while it runs."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self.on_change: Callable[[], None] = lambda: None
        """Called when something begins to wait, or waits no more."""
        self._clock = clock
        self._waiting: dict[Key, _Write] = {}
        self._resting: dict[Path, _Resting] = {}
        self.missed = 0
        """Writes given up because too many waited."""

    def put(
        self, key: Key, what: str, place: Path, work: Callable[[], None], lesser: bool = False
    ) -> bool:
        """Have `work` done now or as soon as it can be; True when it is done.

        `work` raises `Unwritable`; it may be called again, and later than another write that
        came in afterwards. `lesser`: may be missed when too much waits.
        """
        before = list(self._waiting)
        self._waiting.pop(key, None)
        self._waiting[key] = _Write(what, place, work, lesser)
        resting = self._resting.get(place)
        if resting is None or self._clock.now() - resting.tried >= FIRST_PAUSE:
            self._work_off({place})
        self._bound()
        self._tell(before)
        return key not in self._waiting

    def due(self) -> float | None:
        """When `retry` is to be called next, by the clock; None while nothing waits."""
        return min((resting.due for resting in self._resting.values()), default=None)

    def retry(self) -> None:
        """Try the places whose rest is over."""
        before, now = list(self._waiting), self._clock.now()
        self._work_off({place for place, resting in self._resting.items() if resting.due <= now})
        self._tell(before)

    def flush(self) -> bool:
        """Try all that waits, whatever the pauses; True when nothing waits any more."""
        before = list(self._waiting)
        self._work_off({write.place for write in self._waiting.values()})
        self._tell(before)
        return not self._waiting

    def waits(self, key: Key) -> bool:
        """Whether the newest word about the key is not on disk."""
        return key in self._waiting

    @property
    def unwritten(self) -> list[Unwritten]:
        """The places that cannot be written, each with what waits for it."""
        found = []
        for place, resting in self._resting.items():
            writes = [write for write in reversed(self._waiting.values()) if write.place == place]
            writes.sort(key=lambda write: write.lesser)
            words = tuple(write.what for write in writes)
            found.append(Unwritten(place, resting.why, resting.fix, resting.since, words))
        return found

    def _work_off(self, places: set[Path]) -> None:
        """Try what waits for these places, the oldest first; a place that fails is left."""
        for key, write in list(self._waiting.items()):
            if write.place not in places:
                continue
            try:
                write.work()
            except Unwritable as failure:
                places = places - {write.place}
                # What this one failed of may be its own: let another try first next time.
                self._waiting[key] = self._waiting.pop(key)
                self._rest(write, failure)
            except Exception:
                # Our own mistake: it must not keep the others from being written.
                _log.exception("%s was not written", write.what)
                del self._waiting[key]
            else:
                del self._waiting[key]
        kept = {write.place for write in self._waiting.values()}
        for place in [place for place in self._resting if place not in kept]:
            del self._resting[place]
            _log.info("%s: all that waited is written now", place)

    def _tell(self, before: list[Key]) -> None:
        if set(before) != set(self._waiting):
            self.on_change()

    def _rest(self, write: _Write, failure: Unwritable) -> None:
        now = self._clock.now()
        resting = self._resting.get(write.place)
        if resting is None or resting.why != failure.why:
            _log.warning(
                "%s cannot be written: %s (%s). In force all the same, and kept in memory: %s",
                write.place, failure.why, failure.fix, write.what,
            )  # fmt: skip
        if resting is None:
            self._resting[write.place] = _Resting(
                failure.why, failure.fix, self._clock.wall(), FIRST_PAUSE, now
            )
            return
        if now >= resting.due:
            resting.pause = min(2 * resting.pause, LAST_PAUSE)
        resting.why, resting.fix, resting.tried = failure.why, failure.fix, now

    def _bound(self) -> None:
        while len(self._waiting) > MAX_WAITING:
            victim = next((k for k, w in self._waiting.items() if w.lesser), None)
            victim = next(iter(self._waiting)) if victim is None else victim
            del self._waiting[victim]
            self.missed += 1

"""The books: what each device has sent and got, exactly, by hour and by day.

Theory of operation. A byte is counted once, where it enters or leaves a tunnel
(`TunnelPeer`): IP packets whole, with their headers. A running tunnel's two figures are a
*meter*; the books remember how far they have read it. `collect` reads all meters and adds what
is new to three places of each device at once: its sum, the hour and the day that it is now.
Every figure that is asked for is what was collected, and what the meter has counted
since. So nothing is lost or counted twice by a device that comes back, goes on by
another link or key, or ends: `close` collects a last time.

Rows that have changed go to the store in one write, at intervals (`save`). They are absolute
figures, so a write that has to be repeated adds nothing. A process that is killed loses what
was counted since the last write, and no more.

Hours are those of Unix time, days those of the calendar here when the bytes were collected.
Both are bounded by number: what was written the longest ago goes when a device has more than
`HOURS` or `DAYS` of them, and stays in the sum. Age is not asked for, so a clock that is set back
or far ahead, even for a moment, makes no row go: bytes then count in the hour that it shows.
The sum knows no clock.

Since when something was used can be asked for any second (`used`). Rows cannot tell that
exactly, so the sum at the first time that a beginning is asked for is kept, as a
*mark*; from then on what was used is a difference of two sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, tzinfo
from enum import StrEnum
from typing import Protocol

HOURS = 48
"""Hours kept of a device: the newest in which it had traffic."""
DAYS = 400
"""Days kept of a device, likewise."""
MAX_MARKS = 4
"""Beginnings that may be asked for of a device at a time; the earliest is forgotten first."""

HOUR_SECONDS = 3600
MIDNIGHT = time()

Pair = tuple[int, int]
"""Bytes of IP packets: from the device (up), and to it (down)."""

_NOTHING: Pair = (0, 0)


class BookSpan(StrEnum):
    """What a row is about; it says what its `at` is."""

    TOTAL = "total"
    """All that was ever counted; 0."""
    HOUR = "hour"
    """Of Unix time; hours since 1970."""
    DAY = "day"
    """Of the calendar here; the proleptic Gregorian ordinal (`date.toordinal`)."""
    MARK = "mark"
    """The sum when what was used since then was asked for first; Unix seconds."""


BOUNDS = {BookSpan.HOUR: HOURS, BookSpan.DAY: DAYS, BookSpan.MARK: MAX_MARKS}
"""Rows of a device at most."""


@dataclass(frozen=True, slots=True)
class BookRow:
    """A row as the store keeps it; `used` is None where it is to go."""

    public_key: bytes
    span: BookSpan
    at: int
    used: Pair | None


class Meter(Protocol):
    """Two figures that only grow: bytes of IP packets of one tunnel."""

    @property
    def from_tunnel_bytes(self) -> int: ...

    @property
    def to_tunnel_bytes(self) -> int: ...


class BookStore(Protocol):
    """Where rows are kept (part of `gateway.model.GatewayStore`)."""

    def books(self, everything: Callable[[], Iterable[BookRow]]) -> Iterable[BookRow]:
        """All rows, as they were written last. `everything` tells those that there are, at any time
        later: for a store that has to begin anew."""

    def write_books(self, rows: list[BookRow]) -> None:
        """Insert, replace or delete these, in one write."""


@dataclass(slots=True)
class Account:
    """What one device has used, as far as it was collected."""

    total: Pair = _NOTHING
    hours: dict[int, Pair] = field(default_factory=dict)
    days: dict[int, Pair] = field(default_factory=dict)
    marks: dict[int, Pair] = field(default_factory=dict)

    def rows(self, public_key: bytes) -> Iterator[BookRow]:
        yield BookRow(public_key, BookSpan.TOTAL, 0, self.total)
        for span, table in self.tables():
            for at, used in table.items():
                yield BookRow(public_key, span, at, used)

    def tables(self) -> tuple[tuple[BookSpan, dict[int, Pair]], ...]:
        return ((BookSpan.HOUR, self.hours), (BookSpan.DAY, self.days), (BookSpan.MARK, self.marks))

    def table(self, span: BookSpan) -> dict[int, Pair]:
        return {BookSpan.HOUR: self.hours, BookSpan.DAY: self.days, BookSpan.MARK: self.marks}[span]


@dataclass(slots=True)
class _Open:
    """A meter, and how far it was read."""

    meter: Meter
    read: Pair


class Books:
    """All devices' accounts. Pure: time comes as `unix` (seconds since 1970)."""

    def __init__(self, store: BookStore, zone: tzinfo | None = None) -> None:
        """`zone` is the calendar's; without it the system's is asked for each time."""
        self._store = store
        self._zone = zone
        self._accounts: dict[bytes, Account] = {}
        self._accounts = _restored(store.books(self.rows))
        self._meters: dict[bytes, _Open] = {}
        self._changed: dict[tuple[bytes, BookSpan, int], None] = {}
        """Rows that the store does not have as they are."""
        for key, account in self._accounts.items():
            self._bound(key, account)

    # --- what runs ---------------------------------------------------------------------------

    def open(self, public_key: bytes, meter: Meter) -> None:
        """The device's tunnel runs; all that its meter has counted and will count is the device's.

        It has no other one at the time.
        """
        assert public_key not in self._meters
        self._meters[public_key] = _Open(meter, _NOTHING)

    def close(self, public_key: bytes, unix: float) -> None:
        """Its tunnel has ended, and its meter counts no more."""
        self._read(public_key, unix)
        del self._meters[public_key]

    def collect(self, unix: float) -> None:
        """Put what all meters have counted into the hour and day that it is."""
        for key in self._meters:
            self._read(key, unix)

    @property
    def unsaved(self) -> bool:
        """Whether the store does not have all that was collected."""
        return bool(self._changed)

    def save(self) -> None:
        """Give the store what has changed: one write for all devices."""
        if self._changed:
            rows = [
                BookRow(key, span, at, self._used(key, span, at)) for key, span, at in self._changed
            ]
            self._changed.clear()
            self._store.write_books(rows)

    def succeed(self, old: bytes, new: bytes, unix: float) -> None:
        """A device has another key: what the old one has used is the new one's, marks included."""
        if old in self._meters:
            self._read(old, unix)
            self._meters[new] = self._meters.pop(old)
        before = self._accounts.pop(old, None)
        if before is None:
            return
        for row in before.rows(old):
            self._changed[row.public_key, row.span, row.at] = None
        account = self._account(new)
        account.total = _add(account.total, before.total)
        for span, table in account.tables():
            for at, used in before.table(span).items():
                # A mark of the new key's own was a sum without what comes now.
                table[at] = used if span is BookSpan.MARK else _add(table.get(at, _NOTHING), used)
        for row in account.rows(new):
            self._changed[row.public_key, row.span, row.at] = None
        self._bound(new, account)

    # --- what was used -----------------------------------------------------------------------

    def total(self, public_key: bytes) -> Pair:
        """In all, ever."""
        account = self._accounts.get(public_key)
        return _add(_NOTHING if account is None else account.total, self._unread(public_key))

    def used(self, public_key: bytes, since: int, unix: float) -> Pair:
        """Between the Unix seconds `since` and now (`unix`); all there ever was if `since` is 0.

        Exact from when it was first asked on, if `since` was not long ago then. What was used of a
        period that had begun is told by the hours, or by the days where it began before them, the
        one in which it began by its share. Ask with one `since` for a whole period: a device
        has `MAX_MARKS` of them.
        """
        total = self.total(public_key)
        if since <= 0:
            return total
        account = self._account(public_key)
        mark = account.marks.get(since)
        if mark is None:
            if since > unix:
                return _NOTHING
            recent = _add(self._estimate(account, since, unix), self._unread(public_key))
            mark = _less(total, recent)
            self._put(public_key, account, BookSpan.MARK, since, mark)
        return _less(total, mark)

    def begin(self, public_key: bytes, since: int) -> None:
        """A period begins at `since`, and that is now: nothing was used in it yet. Nothing happens
        if it was asked for before."""
        account = self._account(public_key)
        if since > 0 and since not in account.marks:
            self._put(public_key, account, BookSpan.MARK, since, self.total(public_key))

    def today(self, public_key: bytes, unix: float) -> Pair:
        """On this day of the calendar here."""
        account = self._accounts.get(public_key)
        used = _NOTHING if account is None else account.days.get(self.day_of(unix), _NOTHING)
        return _add(used, self._unread(public_key))

    def history(self, public_key: bytes, span: BookSpan) -> dict[int, Pair]:
        """The rows of a span by their `at`, the earliest first, as far as they were collected."""
        account = self._accounts.get(public_key)
        return {} if account is None else dict(sorted(account.table(span).items()))

    def rows(self) -> Iterator[BookRow]:
        """Everything, as the store should have it."""
        for key, account in self._accounts.items():
            yield from account.rows(key)

    def day_of(self, unix: float) -> int:
        """The day that it is here then."""
        return datetime.fromtimestamp(unix, self._zone).toordinal()

    def begins(self, day: int) -> float:
        """The Unix time at which a day begins here."""
        return datetime.combine(date.fromordinal(day), MIDNIGHT, self._zone).timestamp()

    # --- inside ------------------------------------------------------------------------------

    def _unread(self, public_key: bytes) -> Pair:
        """What the device's meter has counted since it was read."""
        running = self._meters.get(public_key)
        if running is None:
            return _NOTHING
        meter, (up, down) = running.meter, running.read
        return meter.from_tunnel_bytes - up, meter.to_tunnel_bytes - down

    def _read(self, public_key: bytes, unix: float) -> None:
        fresh = self._unread(public_key)
        if fresh == _NOTHING:
            return
        running = self._meters[public_key]
        running.read = _add(running.read, fresh)
        account = self._account(public_key)
        account.total = _add(account.total, fresh)
        self._changed[public_key, BookSpan.TOTAL, 0] = None
        hour, day = int(unix // HOUR_SECONDS), self.day_of(unix)
        for span, at, table in (
            (BookSpan.HOUR, hour, account.hours),
            (BookSpan.DAY, day, account.days),
        ):
            self._put(public_key, account, span, at, _add(table.pop(at, _NOTHING), fresh))

    def _put(self, key: bytes, account: Account, span: BookSpan, at: int, used: Pair) -> None:
        """Have a row as the last of its table, which keeps its bound."""
        account.table(span)[at] = used
        self._changed[key, span, at] = None
        self._bound(key, account)

    def _bound(self, key: bytes, account: Account) -> None:
        """Let go of the rows that were written the longest ago."""
        for span, table in account.tables():
            while len(table) > BOUNDS[span]:
                at = next(iter(table))
                del table[at]
                self._changed[key, span, at] = None

    def _estimate(self, account: Account, since: int, unix: float) -> Pair:
        """What was used from then on, as far as rows can tell."""
        if account.hours and since >= min(account.hours) * HOUR_SECONDS:
            rows = [(float(at * HOUR_SECONDS), float((at + 1) * HOUR_SECONDS), used)
                    for at, used in account.hours.items()]  # fmt: skip
        else:
            rows = [(self.begins(at), self.begins(at + 1), used)
                    for at, used in account.days.items()]  # fmt: skip
        found = _NOTHING
        for start, end, (up, down) in rows:
            if start <= unix < end:
                end = unix
            if start >= since:
                found = _add(found, (up, down))
            elif end > since:
                share = (end - since) / (end - start)
                found = _add(found, (round(up * share), round(down * share)))
        return found

    def _account(self, public_key: bytes) -> Account:
        account = self._accounts.get(public_key)
        if account is None:
            account = self._accounts[public_key] = Account()
        return account

    def _used(self, key: bytes, span: BookSpan, at: int) -> Pair | None:
        account = self._accounts.get(key)
        if account is None:
            return None
        return account.total if span is BookSpan.TOTAL else account.table(span).get(at)


def _restored(rows: Iterable[BookRow]) -> dict[bytes, Account]:
    accounts: dict[bytes, Account] = {}
    for row in sorted(rows, key=lambda row: row.at):
        if row.used is None:
            continue
        account = accounts.setdefault(row.public_key, Account())
        if row.span is BookSpan.TOTAL:
            account.total = row.used
        else:
            account.table(row.span)[row.at] = row.used
    return accounts


def _add(one: Pair, other: Pair) -> Pair:
    return one[0] + other[0], one[1] + other[1]


def _less(one: Pair, other: Pair) -> Pair:
    return one[0] - other[0], one[1] - other[1]

"""The books: what a device has used, whatever happens to its tunnel, the process and the clock."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

import pytest

from gateway.books import BOUNDS, DAYS, HOURS, MAX_MARKS, BookRow, Books, BookSpan
from gateway.model import MemoryStore

ONE, OTHER = b"1" * 32, b"2" * 32
HERE = timezone(timedelta(hours=5, minutes=30))
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=HERE).timestamp()
HOUR = 3600


@dataclass
class Count:
    """A tunnel's two figures."""

    from_tunnel_bytes: int = 0
    to_tunnel_bytes: int = 0

    def add(self, up: int, down: int) -> None:
        self.from_tunnel_bytes += up
        self.to_tunnel_bytes += down


class Counted(MemoryStore):
    """A store that counts how often it is written to."""

    writes = 0

    def write_books(self, rows: list[BookRow]) -> None:
        Counted.writes += 1
        super().write_books(rows)


def test_bytes_that_nobody_has_collected_yet_count_as_used() -> None:
    books, meter = Books(MemoryStore(), HERE), Count(3, 4)
    books.open(ONE, meter)
    assert books.total(ONE) == books.today(ONE, NOON) == books.used(ONE, 0, NOON) == (3, 4)
    assert books.history(ONE, BookSpan.DAY) == {} and not books.unsaved
    meter.add(10, 20)
    books.collect(NOON)
    meter.add(100, 200)
    assert books.total(ONE) == books.today(ONE, NOON) == (113, 224)
    books.close(ONE, NOON)
    assert books.total(ONE) == books.today(ONE, NOON) == (113, 224)
    assert books.total(OTHER) == books.today(OTHER, NOON) == books.used(OTHER, 5, NOON) == (0, 0)


def test_each_byte_is_in_one_hour_and_in_one_day_of_the_calendar_here() -> None:
    books, meter = Books(MemoryStore(), HERE), Count()
    books.open(ONE, meter)
    midnight = datetime(2026, 3, 2, tzinfo=HERE).timestamp()
    for seconds in (-1.0, 0.0, 1799.0, 1801.0):
        meter.add(1, 10)
        books.collect(midnight + seconds)
    day = date(2026, 3, 2).toordinal()
    assert books.history(ONE, BookSpan.DAY) == {day - 1: (1, 10), day: (3, 30)}
    assert books.begins(day) == midnight and books.day_of(midnight) == day
    hour = int(midnight) // HOUR  # which began half an hour before: 05:30
    assert books.history(ONE, BookSpan.HOUR) == {hour: (3, 30), hour + 1: (1, 10)}
    assert books.today(ONE, midnight - 5) == (1, 10)


@pytest.fixture
def berlin() -> Iterator[None]:
    """The system's own calendar, by rule: no table of zones has to be installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def test_a_day_of_25_hours_is_one_day(berlin: None) -> None:
    books, meter = Books(MemoryStore()), Count()
    books.open(ONE, meter)
    day = date(2026, 10, 25).toordinal()
    start = books.begins(day)
    assert books.begins(day + 1) - start == 25 * HOUR
    for hour in range(25):
        meter.add(1, 0)
        books.collect(start + hour * HOUR)
    meter.add(1, 0)
    books.collect(start + 25 * HOUR)
    assert books.history(ONE, BookSpan.DAY) == {day: (25, 0), day + 1: (1, 0)}
    assert len(books.history(ONE, BookSpan.HOUR)) == 26


def test_rows_are_bounded_and_what_goes_stays_in_the_sum() -> None:
    store = MemoryStore()
    books, meter = Books(store, HERE), Count()
    books.open(ONE, meter)
    for day in range(DAYS + 20):
        meter.add(1, 2)
        books.collect(NOON + day * 24 * HOUR)
        books.used(ONE, int(NOON) + day, NOON + day * 24 * HOUR)
    books.save()
    days = books.history(ONE, BookSpan.DAY)
    assert len(days) == DAYS and min(days) == books.day_of(NOON) + 20
    assert len(books.history(ONE, BookSpan.HOUR)) == HOURS
    assert len(books.history(ONE, BookSpan.MARK)) == MAX_MARKS
    assert books.total(ONE) == (DAYS + 20, 2 * (DAYS + 20))
    assert len(store.books(list)) == 1 + HOURS + DAYS + MAX_MARKS
    assert sorted(books.rows(), key=repr) == sorted(store.books(list), key=repr)


def test_a_clock_that_goes_anywhere_loses_and_doubles_nothing() -> None:
    """Among them 1970, where a machine without a battery begins, and a year far ahead."""
    store = MemoryStore()
    books, meter = Books(store, HERE), Count()
    books.open(ONE, meter)
    for week in range(5):
        meter.add(7, 70)
        books.collect(NOON + week * 7 * 24 * HOUR)
    asked = books.used(ONE, int(NOON) + HOUR, NOON + 29 * 24 * HOUR)
    assert asked == (28, 280)
    for clock in (NOON - 2 * HOUR, 0.0, NOON + 20 * 365 * 24 * HOUR, NOON):
        for _ in range(3):
            meter.add(1, 10)
            books.collect(clock)
            clock += HOUR
    assert books.total(ONE) == (35 + 12, 350 + 120)
    for span in (BookSpan.HOUR, BookSpan.DAY):
        rows = books.history(ONE, span).values()
        assert (sum(up for up, _ in rows), sum(down for _, down in rows)) == (47, 470), span
    assert books.used(ONE, int(NOON) + HOUR, 60.0) == (28 + 12, 280 + 120), "and a mark stands"
    assert books.used(ONE, int(NOON) + 2 * HOUR, 60.0) == (0, 0), "this has not begun"
    today = books.history(ONE, BookSpan.DAY)[books.day_of(NOON)]
    assert today == (7 + 3 + 3, 70 + 30 + 30)
    books.save()
    again = Books(store, HERE)
    assert again.total(ONE) == (47, 470)


def test_a_real_hour_is_kept_though_many_of_a_wrong_clock_are_later() -> None:
    books, meter = Books(MemoryStore(), HERE), Count()
    books.open(ONE, meter)
    for hour in [*range(10_000, 10_000 + HOURS), *range(HOURS)]:
        meter.add(1, 0)
        books.collect(NOON + hour * HOUR)
        assert int(NOON // HOUR) + hour in books.history(ONE, BookSpan.HOUR)
    assert max(books.history(ONE, BookSpan.HOUR)) == int(NOON // HOUR) + HOURS - 1


def test_what_was_used_since_a_minute_is_exact_from_the_first_question_on() -> None:
    store = MemoryStore()
    books, meter = Books(store, HERE), Count()
    books.open(ONE, meter)
    meter.add(5_000, 6_000)
    books.collect(NOON - HOUR)
    begin = int(NOON) + 17 * 60
    meter.add(100, 100)
    assert books.used(ONE, begin, begin - 1.0) == (0, 0), "it has not begun"
    assert books.used(ONE, begin, begin + 0.0) == (100, 100), "not collected before: counted since"
    for minute in range(90):
        meter.add(1, 2)
        if minute % 7 == 0:
            books.collect(begin + minute * 60.0)
        assert books.used(ONE, begin, begin + minute * 60.0) == (101 + minute, 102 + 2 * minute)
    books.collect(begin + 90 * 60.0)
    books.save()
    again = Books(store, HERE)
    assert again.used(ONE, begin, begin + 91 * 60.0) == (190, 280), "also after a restart"


def test_a_question_about_a_period_that_began_earlier_is_answered_by_hours_then_by_days() -> None:
    def asked(since: float, now: float) -> tuple[int, int]:
        books, meter = Books(MemoryStore(), HERE), Count()
        books.open(ONE, meter)
        for hour in range(-24 * 9, 1):
            meter.add(24, 2400)
            books.collect(NOON + hour * HOUR + HOUR // 2)
        return books.used(ONE, int(since), now)

    # `NOON` here is half past an hour of Unix time, so each hour's bytes came at its start.
    now = NOON + HOUR // 2 + 1
    assert asked(NOON - HOUR // 2, now) == (48, 4800)
    assert asked(NOON - 10.5 * HOUR, now) == (24 * 12, 2400 * 12)
    assert asked(NOON - 10 * HOUR, now) == (24 * 11 + 12, 2400 * 11 + 1200)
    day = datetime(2026, 2, 25, tzinfo=HERE).timestamp()
    whole = 4 * 24 + 13  # from the 25th to now
    assert asked(day, now) == (whole * 24, whole * 2400)
    assert asked(day - 12 * HOUR, now) == ((whole + 12) * 24, (whole + 12) * 2400)
    assert asked(1, now)[0] == 24 * (24 * 9 + 1)


def test_another_key_has_what_the_old_one_had() -> None:
    store = MemoryStore()
    books, meter = Books(store, HERE), Count()
    books.open(ONE, meter)
    meter.add(10, 20)
    books.collect(NOON)
    since = int(NOON) + 60
    assert books.used(ONE, since, NOON + 60) == (0, 0)
    meter.add(1, 2)
    books.save()
    books.succeed(ONE, OTHER, NOON + 61)
    meter.add(100, 200)
    for kept in (books, None):
        if kept is None:
            books.collect(NOON + 62)
            books.save()
            kept = Books(store, HERE)
        assert kept.total(ONE) == (0, 0) and kept.history(ONE, BookSpan.DAY) == {}
        assert kept.total(OTHER) == kept.today(OTHER, NOON) == (111, 222)
        assert kept.used(OTHER, since, NOON + 70) == (101, 202)
    books.close(OTHER, NOON + 63)
    books.succeed(ONE, OTHER, NOON)
    assert books.total(OTHER) == (111, 222), "nobody's books are nobody's"
    books.open(ONE, Count(5, 6))
    books.close(ONE, NOON)
    books.succeed(OTHER, ONE, NOON)
    assert books.total(ONE) == (116, 228), "what the new one had is not lost either"


def test_all_devices_are_written_at_once_and_only_when_something_was_used() -> None:
    store = Counted()
    Counted.writes = 0
    books = Books(store, HERE)
    meters = [Count() for _ in range(50)]
    for number, meter in enumerate(meters):
        books.open(bytes([number]) * 32, meter)
    for _ in range(3):
        books.collect(NOON)
        books.save()
    assert Counted.writes == 0 and not books.unsaved
    for meter in meters:
        meter.add(1, 1)
    books.collect(NOON)
    assert books.unsaved
    books.save()
    assert Counted.writes == 1 and not books.unsaved


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_the_sums_are_equal(seed: int) -> None:
    """Meters of 6 devices open, run, end, change keys; the process is killed; the clock jumps."""
    moments = random.Random(seed)
    store, clock = MemoryStore(), NOON
    books = Books(store, HERE)
    keys = [bytes([n]) * 32 for n in range(6)]
    running: dict[bytes, Count] = {}
    counted = written = (0, 0)
    for step in range(400):
        clock += moments.choice((1, 30, 30, 30, 4000, -5000, 90_000))
        key = moments.choice(keys)
        what = moments.choice(("count", "count", "count", "end", "collect", "save", "key", "kill"))
        if what == "count":
            if key not in running:
                running[key] = Count()
                books.open(key, running[key])
            up, down = moments.randrange(1 << 20), moments.randrange(1 << 30)
            running[key].add(up, down)
            counted = counted[0] + up, counted[1] + down
        elif what == "end" and key in running:
            books.close(key, clock)
            del running[key]
        elif what == "collect":
            books.collect(clock)
        elif what == "save":
            books.collect(clock)
            books.save()
            written = counted
        elif what == "key":
            new = bytes([64 + step % 64]) * 16 + step.to_bytes(16, "big")
            books.collect(clock)
            books.succeed(key, new, clock)
            books.save()
            written = counted
            keys[keys.index(key)] = new
            if key in running:
                running[new] = running.pop(key)
        elif what == "kill" and moments.random() < 0.3:
            # What was written last is all that there is: the rest had at most an interval.
            books = Books(store, HERE)
            running.clear()
            counted = written
        for span in (BookSpan.HOUR, BookSpan.DAY):
            for one in keys:
                rows = books.history(one, span)
                assert len(rows) <= BOUNDS[span]
        sums = [books.total(one) for one in keys]
        assert (sum(up for up, _ in sums), sum(down for _, down in sums)) == counted, (step, what)
    books.collect(clock)
    for one in keys:
        days = books.history(one, BookSpan.DAY).values()
        assert (sum(up for up, _ in days), sum(down for _, down in days)) == books.total(one)

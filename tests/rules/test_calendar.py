"""Hours and beginnings of periods, on the days on which clocks are set and around them."""

from __future__ import annotations

from datetime import date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.calendar import moment, next_beginning, next_change, period_began, within
from rules.value import Period, Quota, Span

BERLIN = ZoneInfo("Europe/Berlin")
"""In 2026 on 29 March 02:00 becomes 03:00, on 25 October 03:00 becomes 02:00."""
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
"""Half an hour of summer."""
SAMOA = ZoneInfo("Pacific/Apia")
"""Had no 30 December in 2011."""
CAIRO = ZoneInfo("Africa/Cairo")
"""Summer begins at midnight: a day without its 00:00."""
ZONES = [BERLIN, LORD_HOWE, SAMOA, CAIRO, ZoneInfo("America/New_York"), ZoneInfo("UTC")]


def at(text: str, zone: tzinfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def told(seconds: float | None, zone: tzinfo = BERLIN) -> str:
    assert seconds is not None
    return datetime.fromtimestamp(seconds, zone).strftime("%Y-%m-%d %H:%M%z")


# --- moments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "minute", "zone", "shown"),
    [
        ("2026-03-28", 150, BERLIN, "2026-03-28 02:30+0100"),
        ("2026-03-29", 119, BERLIN, "2026-03-29 01:59+0100"),
        ("2026-03-29", 120, BERLIN, "2026-03-29 03:00+0200"),
        ("2026-03-29", 150, BERLIN, "2026-03-29 03:00+0200"),
        ("2026-03-29", 180, BERLIN, "2026-03-29 03:00+0200"),
        ("2026-10-25", 150, BERLIN, "2026-10-25 02:30+0200"),
        ("2026-10-25", 180, BERLIN, "2026-10-25 03:00+0100"),
        ("2026-10-24", 1440, BERLIN, "2026-10-25 00:00+0200"),
        ("2026-10-04", 135, LORD_HOWE, "2026-10-04 02:30+1100"),
        ("2026-04-24", 0, CAIRO, "2026-04-24 01:00+0300"),
        ("2011-12-30", 0, SAMOA, "2011-12-31 00:00+1400"),
        ("2011-12-30", 720, SAMOA, "2011-12-31 00:00+1400"),
    ],
)
def test_a_local_time_is_one_moment(day: str, minute: int, zone: tzinfo, shown: str) -> None:
    assert told(moment(date.fromisoformat(day), minute, zone), zone) == shown


@given(
    st.dates(date(2024, 1, 1), date(2029, 1, 1)),
    st.sampled_from(ZONES),
    st.lists(st.integers(0, 1440), min_size=2, max_size=6),
)
def test_a_day_has_its_times_in_order(day: date, zone: tzinfo, minutes: list[int]) -> None:
    moments = [moment(day, minute, zone) for minute in sorted(minutes)]
    assert moments == sorted(moments)
    assert moment(day, 1440, zone) == moment(day + timedelta(days=1), 0, zone)


# --- quotas ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quota", "now", "began", "ends"),
    [
        (Quota(1, period=Period.DAY), "2026-11-27 03:00", "2026-11-27 00:00+0100",
         "2026-11-28 00:00+0100"),
        (Quota(1, period=Period.DAY), "2026-11-27 00:00", "2026-11-27 00:00+0100",
         "2026-11-28 00:00+0100"),
        (Quota(1, period=Period.DAY, begins=240), "2026-11-27 03:00", "2026-11-26 04:00+0100",
         "2026-11-27 04:00+0100"),
        # The day on which 02:30 is left out, and the one on which it comes twice.
        (Quota(1, period=Period.DAY, begins=150), "2026-03-29 01:00", "2026-03-28 02:30+0100",
         "2026-03-29 03:00+0200"),
        (Quota(1, period=Period.DAY, begins=150), "2026-10-25 02:00", "2026-10-24 02:30+0200",
         "2026-10-25 02:30+0200"),
        (Quota(1, period=Period.WEEK, weekday=0), "2026-11-27 03:00", "2026-11-23 00:00+0100",
         "2026-11-30 00:00+0100"),
        (Quota(1, period=Period.WEEK, weekday=4, begins=240), "2026-11-27 03:59",
         "2026-11-20 04:00+0100", "2026-11-27 04:00+0100"),
        (Quota(1, period=Period.MONTH, day=31), "2026-02-10 12:00", "2026-01-31 00:00+0100",
         "2026-02-28 00:00+0100"),
        (Quota(1, period=Period.MONTH, day=15), "2026-12-20 12:00", "2026-12-15 00:00+0100",
         "2027-01-15 00:00+0100"),
    ],
)  # fmt: skip
def test_a_period_begins_and_ends(quota: Quota, now: str, began: str, ends: str) -> None:
    assert told(period_began(quota, at(now), BERLIN)) == began
    assert told(next_beginning(quota, at(now), BERLIN)) == ends


def test_in_the_hour_that_comes_twice_a_period_begins_once() -> None:
    quota = Quota(1, period=Period.DAY, begins=150)
    second = at("2026-10-25 02:40", fold=1)
    assert told(next_beginning(quota, second, BERLIN)) == "2026-10-26 02:30+0100"
    assert told(next_beginning(quota, at("2026-10-25 02:10", fold=1), BERLIN)) == (
        "2026-10-26 02:30+0100"
    )


def test_what_is_given_in_all_never_begins_again() -> None:
    quota = Quota(1, period=Period.TOTAL)
    assert next_beginning(quota, at("2026-11-27 03:00"), BERLIN) is None
    assert period_began(quota, at("2026-11-27 03:00"), BERLIN) is None


@st.composite
def quotas(draw: st.DrawFn) -> Quota:
    period = draw(st.sampled_from([Period.DAY, Period.WEEK, Period.MONTH]))
    weekday = draw(st.integers(0, 6)) if period is Period.WEEK else 0
    day = draw(st.integers(1, 31)) if period is Period.MONTH else 1
    return Quota(1, period=period, begins=draw(st.integers(0, 1439)), weekday=weekday, day=day)


MOMENTS = st.integers(int(at("2024-01-01 00:00")), int(at("2029-01-01 00:00")))


@given(quotas(), MOMENTS, st.sampled_from(ZONES))
def test_periods_follow_each_other(quota: Quota, now: int, zone: tzinfo) -> None:
    ends = next_beginning(quota, now, zone)
    began = period_began(quota, now, zone)
    assert began is not None and ends is not None and began <= now < ends
    longest = {Period.DAY: 1, Period.WEEK: 7, Period.MONTH: 31}[quota.period]
    assert ends - began <= (longest + 1) * 86400
    assert next_beginning(quota, ends - 1, zone) == ends
    assert period_began(quota, ends, zone) == ends
    assert period_began(quota, ends - 1, zone) == began


# --- hours -----------------------------------------------------------------------------------

WORK = (Span((0, 1, 2, 3, 4), 16 * 60, 20 * 60),)
NIGHT = (Span((4, 5), 22 * 60, 2 * 60),)
WHOLE = (Span((0, 1, 2, 3, 4, 5, 6), 0, 1440),)


@pytest.mark.parametrize(
    ("hours", "now", "inside", "changes"),
    [
        (WORK, "2026-11-27 15:59", False, "2026-11-27 16:00+0100"),
        (WORK, "2026-11-27 16:00", True, "2026-11-27 20:00+0100"),
        (WORK, "2026-11-27 20:00", False, "2026-11-30 16:00+0100"),
        (NIGHT, "2026-11-28 01:59", True, "2026-11-28 02:00+0100"),
        (NIGHT, "2026-11-28 02:00", False, "2026-11-28 22:00+0100"),
        (NIGHT, "2026-11-29 01:00", True, "2026-11-29 02:00+0100"),
        (NIGHT, "2026-11-30 01:00", False, "2026-12-04 22:00+0100"),
        # Two that touch are one.
        ((Span((4,), 0, 1440), Span((5,), 0, 60)), "2026-11-27 12:00", True,
         "2026-11-28 01:00+0100"),
        # Until 02:30 of the night in which that is left out, and of the one in which it is twice.
        ((Span((6,), 0, 150),), "2026-03-29 01:30", True, "2026-03-29 03:00+0200"),
        ((Span((6,), 0, 150),), "2026-10-25 02:29", True, "2026-10-25 02:30+0200"),
        # All of it in the hour that is left out: no time at all, and the next is a week later.
        ((Span((6,), 125, 150),), "2026-03-29 01:00", False, "2026-04-05 02:05+0200"),
    ],
)  # fmt: skip
def test_hours_begin_and_end(hours: tuple[Span, ...], now: str, inside: bool, changes: str) -> None:
    assert within(hours, at(now), BERLIN) is inside
    assert told(next_change(hours, at(now), BERLIN)) == changes


def test_in_the_hour_that_comes_twice_nothing_opens_again() -> None:
    hours = (Span((6,), 0, 150),)
    assert not within(hours, at("2026-10-25 02:29", fold=1), BERLIN)
    assert told(next_change(hours, at("2026-10-25 02:29", fold=1), BERLIN)) == (
        "2026-11-01 00:00+0100"
    )


def test_no_hours_and_all_hours_never_change() -> None:
    now = at("2026-11-27 12:00")
    for hours in ((), WHOLE):
        assert within(hours, now, BERLIN)
        assert next_change(hours, now, BERLIN) is None


@st.composite
def spans(draw: st.DrawFn) -> Span:
    days = tuple(sorted(draw(st.sets(st.integers(0, 6), min_size=1))))
    begins = draw(st.integers(0, 1439))
    ends = draw(st.integers(1, 1440).filter(lambda end: end != begins))
    return Span(days, begins, ends)


@given(st.lists(spans(), min_size=1, max_size=4), MOMENTS, st.sampled_from(ZONES))
def test_hours_change_where_they_say(found: list[Span], now: int, zone: tzinfo) -> None:
    hours = tuple(found)
    inside = within(hours, now, zone)
    changes = next_change(hours, now, zone)
    end = changes if changes is not None else now + 7 * 86400
    for step in range(20):
        assert within(hours, now + (end - now) * step / 20, zone) is inside
    if changes is not None:
        assert changes > now
        assert within(hours, changes, zone) is not inside

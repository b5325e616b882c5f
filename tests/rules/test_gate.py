"""What closes a gate, which of several reasons is told, and when it opens again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.calendar import next_beginning, period_began
from rules.gate import OPEN, State, Term, Verdict, judge, predicate, renewed, told
from rules.value import NO_RULES, Direction, Period, Quota, Rules, Span

ZONE = ZoneInfo("Europe/Berlin")
HOURS = (Span((0, 1, 2, 3, 4), 16 * 60, 20 * 60),)
DAILY = Quota(1_000_000, period=Period.DAY)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()


FRIDAY = "2026-11-27 "
MIDNIGHT = at("2026-11-28 00:00")
UNUSED = (0, 0)
SPENT = (400_000, 600_000)


def judged(rules: Rules, used: tuple[int, int], now: float) -> Verdict:
    ends = None if rules.quota is None else next_beginning(rules.quota, now, ZONE)
    return judge(rules, used, ends, now, ZONE)


@pytest.mark.parametrize(
    ("rules", "used", "clock", "verdict"),
    [
        (NO_RULES, UNUSED, "12:00", OPEN),
        (Rules(paused=True), UNUSED, "12:00", Verdict(State.PAUSED)),
        (Rules(until=at(FRIDAY + "18:00")), UNUSED, "17:59",
         Verdict(State.OPEN, None, at(FRIDAY + "18:00"))),
        (Rules(until=at(FRIDAY + "18:00")), UNUSED, "18:00", Verdict(State.ENDED)),
        (Rules(hours=HOURS), UNUSED, "15:00",
         Verdict(State.OUTSIDE_HOURS, at(FRIDAY + "16:00"), at(FRIDAY + "16:00"))),
        (Rules(hours=HOURS), UNUSED, "16:00", Verdict(State.OPEN, None, at(FRIDAY + "20:00"))),
        (Rules(quota=DAILY), (399_999, 600_000), "12:00",
         Verdict(State.OPEN, None, MIDNIGHT, 1)),
        (Rules(quota=DAILY), SPENT, "12:00",
         Verdict(State.QUOTA_SPENT, MIDNIGHT, MIDNIGHT, 0)),
        (Rules(quota=replace(DAILY, direction=Direction.DOWN)), SPENT, "12:00",
         Verdict(State.OPEN, None, MIDNIGHT, 400_000)),
        (Rules(quota=replace(DAILY, direction=Direction.UP)), SPENT, "12:00",
         Verdict(State.OPEN, None, MIDNIGHT, 600_000)),
        (Rules(quota=replace(DAILY, period=Period.TOTAL)), SPENT, "12:00",
         Verdict(State.QUOTA_SPENT, None, None, 0)),
        # More was used than there is: a quota that was made smaller.
        (Rules(quota=replace(DAILY, bytes=10)), SPENT, "12:00",
         Verdict(State.QUOTA_SPENT, MIDNIGHT, MIDNIGHT, 0)),
        # Several at once.
        (Rules(paused=True, until=at(FRIDAY + "11:00")), UNUSED, "12:00", Verdict(State.ENDED)),
        (Rules(paused=True, hours=HOURS, quota=DAILY), SPENT, "12:00",
         Verdict(State.PAUSED, None, at(FRIDAY + "16:00"), 0)),
        # It has a quota again at midnight, and hours on Monday.
        (Rules(hours=HOURS, quota=DAILY), SPENT, "12:00",
         Verdict(State.OUTSIDE_HOURS, at("2026-11-30 16:00"), at(FRIDAY + "16:00"), 0)),
        (Rules(hours=HOURS, quota=DAILY), SPENT, "17:00",
         Verdict(State.QUOTA_SPENT, at("2026-11-30 16:00"), at(FRIDAY + "20:00"), 0)),
        # No hours any more before the end.
        (Rules(hours=HOURS, until=at("2026-11-29 00:00")), UNUSED, "21:00",
         Verdict(State.OUTSIDE_HOURS, None, at("2026-11-29 00:00"))),
    ],
)  # fmt: skip
def test_a_gate_is_judged(
    rules: Rules, used: tuple[int, int], clock: str, verdict: Verdict
) -> None:
    assert judged(rules, used, at(FRIDAY + clock)) == verdict


@pytest.mark.parametrize(
    ("rules", "used", "words"),
    [
        (Rules(paused=True), UNUSED, "is paused by the owner"),
        (Rules(until=at(FRIDAY + "11:30")), UNUSED,
         "may not use the tunnel any more: its time has ended today at 11:30"),
        (Rules(hours=HOURS), UNUSED,
         "is outside its hours; they begin again today at 16:00"),
        (Rules(hours=HOURS, until=at(FRIDAY + "15:00")), UNUSED,
         "is outside its hours; no more of them come before its end"),
        (Rules(quota=replace(DAILY, bytes=10**9)), (0, 10**9),
         "has used its quota of 1GB a day; it begins again tomorrow at 00:00"),
        (Rules(quota=Quota(10, Direction.DOWN, Period.TOTAL)), (0, 10),
         "has used its quota of 10B down; it does not begin again by itself"),
        (NO_RULES, UNUSED, "may use the tunnel again"),
    ],
)  # fmt: skip
def test_it_is_said_why_and_until_when(rules: Rules, used: tuple[int, int], words: str) -> None:
    now = at(FRIDAY + "12:00")
    assert predicate(judged(rules, used, now), rules, now, ZONE) == words


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("2026-11-27 16:00", "today at 16:00"),
        ("2026-11-28 00:00", "tomorrow at 00:00"),
        ("2026-11-26 09:05", "yesterday at 09:05"),
        ("2026-12-03 08:00", "on Thursday at 08:00"),
        ("2026-12-04 08:00", "on 4 December at 08:00"),
        ("2027-01-31 08:00", "on 31 January 2027 at 08:00"),
    ],
)
def test_a_moment_is_told_as_people_say_it(moment: str, words: str) -> None:
    assert told(at(moment), at(FRIDAY + "12:00"), ZONE) == words


# --- the quota's period, on a clock that is set ------------------------------------------------


def test_a_term_that_is_over_gives_way_to_the_next() -> None:
    first = renewed(None, DAILY, at(FRIDAY + "12:00"), ZONE)
    assert first == Term(at(FRIDAY + "00:00"), MIDNIGHT)
    assert renewed(first, DAILY, MIDNIGHT - 1, ZONE) == first
    assert renewed(first, DAILY, MIDNIGHT, ZONE) == Term(MIDNIGHT, at("2026-11-29 00:00"))


def test_a_clock_set_back_gives_nothing_and_makes_nobody_wait_longer() -> None:
    ahead = Term(at("2030-01-01 00:00"), at("2030-01-02 00:00"))
    back = renewed(ahead, DAILY, at(FRIDAY + "12:00"), ZONE)
    assert back == Term(ahead.since, MIDNIGHT)
    assert renewed(back, DAILY, MIDNIGHT, ZONE).since == MIDNIGHT


def test_what_is_given_in_all_has_one_term() -> None:
    total = Quota(1000, period=Period.TOTAL)
    term = renewed(None, total, at(FRIDAY + "12:00"), ZONE)
    assert term == Term(0, None)
    assert renewed(term, total, at("2036-11-27 12:00"), ZONE) == term


@given(
    st.lists(st.integers(0, 20 * 86400), min_size=2, max_size=30),
    st.sampled_from([Period.DAY, Period.WEEK, Period.MONTH]),
)
def test_only_a_clock_that_goes_forth_renews(steps: list[int], period: Period) -> None:
    quota = Quota(1, period=period)
    start = at("2026-03-20 12:00")
    before = start + steps[0]
    term = renewed(None, quota, before, ZONE)
    for step in steps[1:]:
        now = start + step
        ended = term.ends
        after = renewed(term, quota, now, ZONE)
        assert ended is not None and after.ends is not None
        if now >= ended:
            assert after.since == period_began(quota, now, ZONE)
        else:
            assert after.since == term.since
        assert now < after.ends
        if now <= before:
            assert after.since == term.since
        term, before = after, now

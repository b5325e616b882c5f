"""When hours begin and end and when a quota begins again, on a wall clock that people move.

Pure. Rules are written in local time, and a local time is not a moment: when summer begins an
hour of the wall's does not exist, when it ends an hour comes twice. Here each local time is one
moment of Unix time. The one that comes twice is its first; the one that does not exist is the
moment at which the clock jumps over it. So a day has each of its times once and in order,
nothing opens twice, and what lies wholly in the hour that is left out takes no time at all.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, tzinfo

from rules.value import MINUTES_A_DAY, Period, Quota, Span

AHEAD = 9
"""Days in which every day of the week comes, with one to spare on either side."""
_DAY = timedelta(days=1)


def local_day(at: float, zone: tzinfo) -> date:
    """The day on the wall."""
    return datetime.fromtimestamp(at, zone).date()


def moment(day: date, minute: int, zone: tzinfo) -> float:
    """Unix time of a day's minute, 0 to 1,440, as told on the wall."""
    wall = datetime.combine(day, time()) + timedelta(minutes=minute)
    before = wall.replace(tzinfo=zone).timestamp()
    if datetime.fromtimestamp(before, zone).replace(tzinfo=None) == wall:
        return before
    # Left out: `before` is told by the clock as it was before it jumped, `after` as afterwards,
    # and the jump lies between the two.
    after = wall.replace(tzinfo=zone, fold=1).timestamp()
    low, high = int(min(before, after)), int(max(before, after))
    offset = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return float(high)


# --- hours -----------------------------------------------------------------------------------


def within(hours: tuple[Span, ...], at: float, zone: tzinfo) -> bool:
    """Whether a moment is in one of the spans; no hours at all are all hours."""
    if not hours:
        return True
    return any(begin <= at < end for begin, end in _spans(hours, local_day(at, zone), 2, zone))


def next_change(hours: tuple[Span, ...], at: float, zone: tzinfo) -> float | None:
    """When `within` is another than at this moment; None: it will not be."""
    if not hours:
        return None
    day = local_day(at, zone)
    end = at
    for begin, stop in sorted(_spans(hours, day, AHEAD, zone)):
        if stop <= at:
            continue
        if begin > end:
            return begin if end == at else end
        end = max(end, stop)
    return None if end == at or end >= moment(day + 8 * _DAY, 0, zone) else end


def _spans(
    hours: tuple[Span, ...], day: date, days: int, zone: tzinfo
) -> Iterator[tuple[float, float]]:
    """The spans that begin on the day before `day` and on so many days after that one."""
    for step in range(-1, days):
        begins_on = day + step * _DAY
        for span in hours:
            if begins_on.weekday() not in span.days:
                continue
            begin = moment(begins_on, span.begins, zone)
            late = MINUTES_A_DAY if span.ends <= span.begins else 0
            ends_on = begins_on + _DAY if late else begins_on
            end = moment(ends_on, span.ends, zone)
            if begin < end:
                yield begin, end


# --- quotas ----------------------------------------------------------------------------------


def period_began(quota: Quota, at: float, zone: tzinfo) -> float | None:
    """When the period began in which a moment lies; None where there is but one."""
    return max((begin for begin in _beginnings(quota, at, zone) if begin <= at), default=None)


def next_beginning(quota: Quota, at: float, zone: tzinfo) -> float | None:
    """When the period after that one begins; None: never."""
    return min((begin for begin in _beginnings(quota, at, zone) if begin > at), default=None)


def _beginnings(quota: Quota, at: float, zone: tzinfo) -> Iterator[float]:
    """Beginnings around a moment: at least one before it and one after it."""
    day = local_day(at, zone)
    match quota.period:
        case Period.DAY:
            days = [day + step * _DAY for step in range(-2, 4)]
        case Period.WEEK:
            days = [day + step * _DAY for step in range(-AHEAD, AHEAD + 1)]
            days = [other for other in days if other.weekday() == quota.weekday]
        case Period.MONTH:
            days = [_in_month(day, step, quota.day) for step in range(-2, 3)]
        case Period.TOTAL:
            days = []
    for other in days:
        yield moment(other, quota.begins, zone)


def _in_month(day: date, step: int, number: int) -> date:
    """The day of a number in the month so many after this one; its last where it has fewer."""
    year, month = divmod(day.year * 12 + day.month - 1 + step, 12)
    return date(year, month + 1, min(number, monthrange(year, month + 1)[1]))

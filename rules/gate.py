"""May a device use the tunnel now, and if not: why, until when, and in which words.

Theory of operation. Pure. The gate of a device is open or closed for one reason; `judge` says
which, from the rules, from what was used of the quota, and from the time. It keeps nothing: a
gate that was closed for a reason is open as soon as no reason is left. Of several reasons the
one that lasts longest by its nature is told; when the gate opens again is told for all of them.

What was used is counted since the beginning of a `Term`, and `renewed` says which term runs: one
that is over gives way to the next. Wall clocks are set, so a term is over when the clock has
come to where its end was seen last, and for no other reason. Setting the clock back takes that
end nearer and gives nothing; setting it forth past the end begins a term, as the end's own
coming would: no clock of this machine can tell the two apart. `until` and hours follow the wall
clock either way, being about what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum

from rules.calendar import local_day, next_beginning, next_change, period_began, within
from rules.spelling import spell_size
from rules.value import Direction, Period, Quota, Rules


class State(StrEnum):
    """Of a gate."""

    OPEN = "open"
    PAUSED = "paused"
    ENDED = "ended"
    OUTSIDE_HOURS = "outside_hours"
    QUOTA_SPENT = "quota_spent"


@dataclass(frozen=True, slots=True)
class Term:
    """The period of a quota that runs."""

    since: float
    """Unix time from which bytes count; 0: all that ever were."""
    ends: float | None = None
    """Unix time at which it ends, as seen last; None: never."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds at a moment."""

    state: State
    opens: float | None = None
    """Unix time at which a closed gate opens by itself; None: it does not."""
    changes: float | None = None
    """Unix time at which it is to be judged again, whatever is used; None: never."""
    left: int | None = None
    """Bytes left of the quota; None without one."""

    @property
    def open(self) -> bool:
        return self.state is State.OPEN


OPEN = Verdict(State.OPEN)
"""Of a device without rules."""


def renewed(term: Term | None, quota: Quota, now: float, zone: tzinfo) -> Term:
    """The term of a quota that runs at `now`, Unix time; before it was `term`, or None did."""
    ends = next_beginning(quota, now, zone)
    if term is None or (term.ends is not None and term.ends <= now):
        return Term(period_began(quota, now, zone) or 0, ends)
    if term.ends is not None and ends is not None and ends < term.ends:
        return replace(term, ends=ends)
    return term


def counted(quota: Quota, up: int, down: int) -> int:
    """Of these bytes those that count toward it."""
    match quota.direction:
        case Direction.UP:
            return up
        case Direction.DOWN:
            return down
        case Direction.BOTH:
            return up + down


def quota_left(quota: Quota, used: tuple[int, int]) -> int:
    """Bytes that are left of it after these from and to the device."""
    return max(0, quota.bytes - counted(quota, *used))


def judge(
    rules: Rules, used: tuple[int, int], ends: float | None, now: float, zone: tzinfo
) -> Verdict:
    """What holds at `now`, Unix time.

    `used` are the bytes from and to the device in the term that runs, and `ends` is its end.
    """
    quota = rules.quota
    left = None if quota is None else quota_left(quota, used)
    ended = rules.until is not None and now >= rules.until
    match (ended, rules.paused, within(rules.hours, now, zone), left == 0):
        case (True, _, _, _):
            state = State.ENDED
        case (_, True, _, _):
            state = State.PAUSED
        case (_, _, False, _):
            state = State.OUTSIDE_HOURS
        case (_, _, _, True):
            state = State.QUOTA_SPENT
        case _:
            state = State.OPEN
    changes = [next_change(rules.hours, now, zone), ends if quota is not None else None]
    if rules.until is not None and not ended:
        changes.append(rules.until)
    opens = None
    if state in (State.OUTSIDE_HOURS, State.QUOTA_SPENT):
        opens = _opens(rules, ends if left == 0 else now, now, zone)
    coming = (at for at in changes if at is not None)
    return Verdict(state, opens, min(coming, default=None), left)


def _opens(rules: Rules, renewal: float | None, now: float, zone: tzinfo) -> float | None:
    """The first moment that is within the hours, has a quota, and comes before the end."""
    if renewal is None:
        return None
    at: float | None = max(now, renewal)
    if at is not None and not within(rules.hours, at, zone):
        at = next_change(rules.hours, at, zone)
    if at is None or (rules.until is not None and at >= rules.until):
        return None
    return at


# --- words -----------------------------------------------------------------------------------


def predicate(verdict: Verdict, rules: Rules, now: float, zone: tzinfo) -> str:
    """Why a gate is as it is, as what is said of its device: `is paused by the owner`."""
    opens = "" if verdict.opens is None else told(verdict.opens, now, zone)
    match verdict.state:
        case State.OPEN:
            return "may use the tunnel again"
        case State.PAUSED:
            return "is paused by the owner"
        case State.ENDED:
            ended = "" if rules.until is None else f" {told(rules.until, now, zone)}"
            return f"may not use the tunnel any more: its time has ended{ended}"
        case State.OUTSIDE_HOURS:
            return "is outside its hours; " + (
                f"they begin again {opens}" if opens else "no more of them come before its end"
            )
        case State.QUOTA_SPENT:
            quota = rules.quota
            size = "" if quota is None else f" of {_size(quota)}"
            return f"has used its quota{size}; " + (
                f"it begins again {opens}" if opens else "it does not begin again by itself"
            )


def told(at: float, now: float, zone: tzinfo) -> str:
    """A moment as people say it: `today at 16:00`, `on Friday at 08:00`, `on 3 May at 00:00`."""
    moment = datetime.fromtimestamp(at, zone)
    today = local_day(now, zone)
    day = moment.date()
    clock = f"at {moment:%H:%M}"
    if day == today:
        return f"today {clock}"
    if day == today + timedelta(days=1):
        return f"tomorrow {clock}"
    if day == today - timedelta(days=1):
        return f"yesterday {clock}"
    if today < day < today + timedelta(days=7):
        return f"on {_DAYS[day.weekday()]} {clock}"
    year = "" if day.year == today.year else f" {day.year}"
    return f"on {day.day} {_MONTHS[day.month - 1]}{year} {clock}"


def _size(quota: Quota) -> str:
    way = {Direction.UP: " up", Direction.DOWN: " down", Direction.BOTH: ""}[quota.direction]
    period = "" if quota.period is Period.TOTAL else f" a {quota.period}"
    return f"{spell_size(quota.bytes)}{way}{period}"


_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

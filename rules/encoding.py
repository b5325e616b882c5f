"""Rules as JSON: how they are kept, sent, and written in templates.

An object has only what is set: `quota`, `hours` and `destinations` as people write them
(`rules/spelling.py`), limits as bits per second, `until` as Unix time. The same object is a
change: what it names is set, `null` takes it away, and what it does not name stays. A change may
have everything as text (`"limit_down": "20mbit"`), and a length from now as `for`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeGuard

from rules.judging import judge
from rules.spelling import (
    RuleRefused,
    checked_rate,
    read_destination,
    read_length,
    read_moment,
    read_quota,
    read_rate,
    read_span,
    spell_destination,
    spell_quota,
    spell_span,
)
from rules.value import MAX_DESTINATIONS, MAX_SPANS, NO_RULES, Rules

FIELDS = tuple(NO_RULES.__dataclass_fields__)
"""The names of what rules may say, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When rules are given."""

    unix: float
    """Seconds."""
    local_of: Callable[[float], datetime]
    """What the gateway's wall shows at a Unix time, naive."""
    unix_of: Callable[[datetime], float]
    """The other way round; of a time that is never shown, as when clocks are set forward, any."""

    @property
    def local(self) -> datetime:
        return self.local_of(self.unix)


def to_json(rules: Rules) -> dict[str, Any]:
    """An object that `from_json` takes for exactly these rules; `{}` for `NO_RULES`."""
    value: dict[str, Any] = {
        "quota": None if rules.quota is None else spell_quota(rules.quota),
        "limit_up": rules.limit_up,
        "limit_down": rules.limit_down,
        "until": rules.until,
        "hours": [spell_span(span) for span in rules.hours],
        "paused": rules.paused,
        "destinations": [spell_destination(entry) for entry in rules.destinations],
        "max_flows": rules.max_flows,
    }
    return {name: value[name] for name in FIELDS if value[name] not in (None, [], False)}


def from_json(value: object) -> Rules:
    """Rules as they were kept: each field in order, and not judged by today's clock.

    Raises `RuleRefused`.
    """
    return _changed(NO_RULES, value, None)


def changed(rules: Rules, change: object, moment: Moment) -> Rules:
    """The rules with a change made, judged as a whole. Raises `RuleRefused`."""
    new = _changed(rules, change, moment)
    judge(new, moment.unix, moment.local, before=rules)
    return new


def named_in(change: Mapping[str, Any]) -> frozenset[str]:
    """The fields that a change sets; what it only takes away is not among them."""
    given = {name for name, value in change.items() if value not in (None, [], "", False)}
    return frozenset("until" if name == "for" else name for name in given)


def _changed(rules: Rules, change: object, moment: Moment | None) -> Rules:
    if not isinstance(change, Mapping):
        raise RuleRefused("rules_unreadable", "Rules are an object with a field for each.")
    known = {*FIELDS, "for"} if moment is not None else {*FIELDS}
    for name in change:
        if name not in known:
            raise RuleRefused(
                "rule_unknown",
                f"There is no rule {str(name)[:40]!r}: there is {', '.join(FIELDS)}.",
            )
    if change.get("for") is not None and change.get("until") is not None:
        raise RuleRefused("two_ends", "An end is a time or a length, not both.")
    new = {name: _READERS[name](change[name], moment) for name in FIELDS if name in change}
    if moment is not None and change.get("for") is not None:
        new["until"] = moment.unix + read_length(_text(change["for"]))
    return replace(rules, **new)


def _quota(value: object, _moment: Moment | None) -> Any:
    return None if value in (None, "") else read_quota(_text(value))


def _limit(value: object, _moment: Moment | None) -> int | None:
    if value in (None, ""):
        return None
    return checked_rate(value) if _is_int(value) else read_rate(_text(value))


def _until(value: object, moment: Moment | None) -> float | None:
    if value in (None, ""):
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or abs(value) > 1e12:
            raise RuleRefused("time_unreadable", f"{value} is no time.")
        return float(value)
    if moment is None:
        raise RuleRefused("time_unreadable", "An end that is kept is a number: Unix time.")
    local = read_moment(_text(value), moment.local)
    try:
        unix = moment.unix_of(local)
        shown = moment.local_of(unix)
    except (OverflowError, OSError, ValueError):
        raise RuleRefused("end_too_far", f"{local:%Y-%m-%d} is too far away.") from None
    if shown != local:
        raise RuleRefused(
            "time_skipped", f"There is no {local:%H:%M} on that day: clocks are set forward."
        )
    return unix


def _hours(value: object, _moment: Moment | None) -> Any:
    texts = [piece for text in _texts(value, MAX_SPANS, "hours") for piece in text.split(";")]
    return tuple(read_span(text) for text in texts if text.strip())


def _destinations(value: object, _moment: Moment | None) -> Any:
    return tuple(map(read_destination, _texts(value, MAX_DESTINATIONS, "destinations")))


def _paused(value: object, _moment: Moment | None) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise RuleRefused("rules_unreadable", "Paused is true or false.")


def _flows(value: object, _moment: Moment | None) -> int | None:
    if value in (None, ""):
        return None
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 10:
        return int(value)
    if not _is_int(value):
        raise RuleRefused("rules_unreadable", "A bound on flows is a whole number.")
    return value


_READERS: dict[str, Callable[[object, Moment | None], Any]] = {
    "quota": _quota,
    "limit_up": _limit,
    "limit_down": _limit,
    "until": _until,
    "hours": _hours,
    "paused": _paused,
    "destinations": _destinations,
    "max_flows": _flows,
}


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise RuleRefused("rules_unreadable", f"{repr(value)[:60]} is no text.")


def _texts(value: object, bound: int, what: str) -> list[str]:
    """A list's texts, or a text's lines."""
    if value is None:
        return []
    found = value.splitlines() if isinstance(value, str) else value
    if not isinstance(found, list | tuple):
        raise RuleRefused("rules_unreadable", f"{repr(value)[:60]} is no list of texts.")
    if len(found) > bound:
        raise RuleRefused(
            f"too_many_{what}", f"{len(found)} {what} are too many: {bound} is the most."
        )
    return [_text(text) for text in found]


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)

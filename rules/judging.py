"""Whether rules make sense together, and now: judged when they are given.

What would never change anything is refused as much as what would let nothing through, since
neither is what somebody meant: a rule that is taken does something.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from rules.sets import targets
from rules.spelling import DAYS, MAX_LENGTH, RuleRefused, spell_destination, spell_minute
from rules.value import (
    ALL_NAMES,
    MAX_DESTINATIONS,
    MAX_FLOWS,
    MAX_SPANS,
    MINUTES_A_DAY,
    NO_RULES,
    Destination,
    Protocol,
    Rules,
    Span,
    Target,
    Verdict,
)

MINUTES_A_WEEK = 7 * MINUTES_A_DAY
_CARRIERS = {
    Protocol.ANY: frozenset({Protocol.TCP, Protocol.UDP, Protocol.ICMP}),
    Protocol.TCP: frozenset({Protocol.TCP}),
    Protocol.UDP: frozenset({Protocol.UDP}),
    Protocol.ICMP: frozenset({Protocol.ICMP}),
}
_PORTED = {protocol: found - {Protocol.ICMP} for protocol, found in _CARRIERS.items()}
"""The same beside ports, which pings have none of."""
_Ranges = tuple[tuple[int, int], ...]
_ALL_PORTS: _Ranges = ((0, 65535),)


def judge(rules: Rules, now: float, local: datetime, before: Rules = NO_RULES) -> None:
    """Raises `RuleRefused` for the first thing that is wrong. `now` is Unix time, `local` the
    same on the gateway's wall, naive. An end that was there before may have passed."""
    ends = rules.until if rules.until != before.until else None
    _judge_end(ends, now)
    open_minutes = judge_lasting(rules)
    if rules.until is not None and rules.hours and (ends or rules.hours != before.hours):
        _judge_both(rules.until - now, open_minutes, local)


def judge_lasting(rules: Rules) -> bytearray:
    """Raises `RuleRefused` for what is wrong at any time. A byte for each minute of the week: 1
    where the hours have it."""
    open_minutes = _judge_hours(rules.hours)
    if rules.max_flows is not None:
        _judge_flows(rules.max_flows)
    _judge_destinations(rules.destinations)
    return open_minutes


def minutes_of(span: Span) -> Iterator[tuple[int, int]]:
    """The minutes of a week, 0 for Monday's midnight, that a span is for: from and up to."""
    length = (span.ends - span.begins) % MINUTES_A_DAY or MINUTES_A_DAY
    for day in span.days:
        begin = day * MINUTES_A_DAY + span.begins
        end = begin + length
        yield begin, min(end, MINUTES_A_WEEK)
        if end > MINUTES_A_WEEK:
            yield 0, end - MINUTES_A_WEEK


def _judge_end(until: float | None, now: float) -> None:
    if until is None:
        return
    if until <= now:
        raise RuleRefused(
            "end_in_past", "That end is in the past: to shut a device out, revoke it."
        )
    if until - now > MAX_LENGTH + 86400:
        raise RuleRefused("end_too_far", "That end is more than ten years away: leave it out.")


def _judge_hours(hours: tuple[Span, ...]) -> bytearray:
    """A byte for each minute of the week: 1 where it is open."""
    if len(hours) > MAX_SPANS:
        raise RuleRefused(
            "too_many_hours", f"{len(hours)} hours are too many: {MAX_SPANS} is the most."
        )
    taken = bytearray(MINUTES_A_WEEK)
    for span in hours:
        for begin, end in minutes_of(span):
            other = taken.find(1, begin, end)
            if other >= 0:
                day, minute = divmod(other, MINUTES_A_DAY)
                raise RuleRefused(
                    "hours_overlap",
                    f"Two of the hours both have {DAYS[day]} {spell_minute(minute)}: "
                    "let each time be in one.",
                )
            taken[begin:end] = b"\x01" * (end - begin)
    if hours and 0 not in taken:
        raise RuleRefused("hours_never_apply", "Those hours are all of the week: leave them out.")
    return taken


def _judge_both(left: float, open_minutes: bytearray, local: datetime) -> None:
    """Hours of which none comes before the end."""
    here = local.weekday() * MINUTES_A_DAY + local.hour * 60 + local.minute
    # An hour more: clocks may be set for summer before the end.
    reach = min(MINUTES_A_WEEK, int(left // 60) + 61)
    if 1 not in (open_minutes[here:] + open_minutes[:here])[:reach]:
        raise RuleRefused(
            "hours_after_end", "None of those hours comes before the end: the device had no time."
        )


def _judge_flows(count: int) -> None:
    if count < 1:
        raise RuleRefused("flows_refused_always", "Without a flow nothing works: pause it instead.")
    if count > MAX_FLOWS:
        raise RuleRefused(
            "flows_never_apply", f"No device has more than {MAX_FLOWS} flows: leave the bound out."
        )


def _judge_destinations(entries: tuple[Destination, ...]) -> None:
    if len(entries) > MAX_DESTINATIONS:
        raise RuleRefused(
            "too_many_destinations",
            f"{len(entries)} destinations are too many: {MAX_DESTINATIONS} is the most.",
        )
    if not entries:
        return
    seen = _Seen()
    for number, entry in enumerate(entries, start=1):
        if not all(seen.covers(target) for target in targets(entry)):
            seen.add(entry)
            continue
        earlier = seen.decides(targets(entry)[0])
        same = "says the same" if earlier.verdict is entry.verdict else "says otherwise"
        raise RuleRefused(
            "destination_never_applies",
            f"{spell_destination(entry)!r} (entry {number}) never applies: "
            f"{spell_destination(earlier)!r} comes before it and {same}.",
        )
    for named in (True, False):
        kind = [entry for entry in entries if any(bool(t.name) is named for t in targets(entry))]
        if kind and kind[-1].verdict is Verdict.ALLOW:
            behind = "deny name *" if named else "deny all"
            raise RuleRefused(
                "destination_never_applies",
                f"{spell_destination(kind[-1])!r} changes nothing, since what no entry fits is "
                f"allowed: put what is denied behind it, such as {behind}.",
            )
        if not named and kind and kind[0] == Destination(Verdict.DENY):
            raise RuleRefused(
                "destinations_refuse_always",
                "That denies every address, whatever its name: pause the device instead.",
            )


class _Key(NamedTuple):
    """Of the networks of one version and length."""

    version: int
    length: int


class _Alike:
    """Entries for the same addresses: which of them has all protocols and ports of a target?

    Most have one port, and are found by it; the others are looked through.
    """

    __slots__ = ("_others", "_ported")

    def __init__(self) -> None:
        self._ported: dict[tuple[Protocol, int], Destination] = {}
        self._others: list[tuple[frozenset[Protocol], _Ranges, Destination]] = []

    def add(self, target: Target, entry: Destination) -> None:
        port = _only_port(target)
        if port is not None:
            self._ported.setdefault((target.protocol, port), entry)
        else:
            self._others.append((_carriers(target), target.ports or _ALL_PORTS, entry))

    def find(self, target: Target) -> Destination | None:
        port = _only_port(target)
        if port is not None:
            for protocol in {target.protocol, Protocol.ANY}:
                if (protocol, port) in self._ported:
                    return self._ported[protocol, port]
        carriers, ports = _carriers(target), target.ports or _ALL_PORTS
        for theirs, ranges, entry in self._others:
            if carriers <= theirs and _within(ports, ranges):
                return entry
        return None


class _Seen:
    """The entries so far: is a target within one of them?"""

    def __init__(self) -> None:
        self._everywhere = _Alike()
        self._networks: dict[_Key, dict[int, _Alike]] = {}
        self._names: dict[str, Destination] = {}

    def add(self, entry: Destination) -> None:
        for target in targets(entry):
            if target.name:
                self._names.setdefault(target.name, entry)
            elif target.network is None:
                self._everywhere.add(target, entry)
            else:
                network = target.network
                alike = self._networks.setdefault(_Key(network.version, network.prefixlen), {})
                alike.setdefault(int(network.network_address), _Alike()).add(target, entry)

    def covers(self, target: Target) -> bool:
        return self._find(target) is not None

    def decides(self, target: Target) -> Destination:
        """The earlier entry that has all of a target that is covered."""
        found = self._find(target)
        if found is None:
            raise LookupError(target)
        return found

    def _find(self, target: Target) -> Destination | None:
        if target.name:
            labels = target.name.split(".")
            above = [".".join(labels[step:]) for step in range(len(labels))] + [ALL_NAMES]
            return next((self._names[name] for name in above if name in self._names), None)
        found = self._everywhere.find(target)
        network = target.network
        if found is not None or network is None:
            return found
        first = int(network.network_address)
        for (version, length), alike in self._networks.items():
            if version == network.version and length <= network.prefixlen:
                rest = network.max_prefixlen - length
                there = alike.get(first >> rest << rest)
                if there is not None and (found := there.find(target)) is not None:
                    return found
        return None


def _only_port(target: Target) -> int | None:
    ports = target.ports
    return ports[0][0] if len(ports) == 1 and ports[0][0] == ports[0][1] else None


def _within(inner: _Ranges, outer: _Ranges) -> bool:
    for begin, end in inner:
        for low, high in outer:
            if low <= begin and end <= high:
                break
        else:
            return False
    return True


def _carriers(target: Target) -> frozenset[Protocol]:
    return (_PORTED if target.ports else _CARRIERS)[target.protocol]

"""What of the past stands in a banner in every section: events whose state is not well again.

Pure. The service tells what has happened; a rule for each kind says how grave it is, which
section shows the cause, which later events end it, and after how long it begins to be shown (a
link that is back within seconds is nobody's business) and goes away by itself. The gravest is
shown, the newest of equals first, with a count of the others. A person may hide the one that
is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control import schema

MOMENT = 3.0
"""Seconds that a link may be lost before it is shown."""
NOTED = 120.0
"""Seconds for which something is shown that has no end of its own."""
GOOD_NEWS = 15.0
"""Seconds for which it is shown that all is well again."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How a kind of event is shown."""

    rank: int
    """The lower the graver."""
    what: str
    """A few words; `{}` is the device, or the gateway."""
    section: str
    """Where the cause can be seen."""
    so: str = ""
    """What follows from it, where there is room."""
    ended_by: frozenset[str] = frozenset()
    """Kinds of later events; of the same device, if it is about one."""
    after: float = 0.0
    until: float = float("inf")
    """Seconds from the event, between which it is shown."""
    good: bool = False
    said: bool = False
    """The event's own text says more: it is shown in the place of `what` where there is room."""


_BACK = frozenset({"connected", "resumed", "moved"})
_END = frozenset({"disconnected", "failed"})

RULES: dict[str, dict[str, Rule]] = {
    "gateway": {
        "alarm": Rule(0, "ALARM", "overview", "sharing was stopped", frozenset({"sharing_on"})),
        "vpn_lost": Rule(1, "VPN lost", "doctor", "nothing is forwarded",
                         frozenset({"vpn_up", "sharing_off"})),
        "given_up": Rule(2, "{} is gone", "log", "its connections are closed",
                         _BACK | {"revoked"}, until=3600.0),
        "link_lost": Rule(3, "{} lost its link", "peers", "it is waited for",
                          _BACK | {"disconnected", "given_up", "revoked"}, after=MOMENT),
        "gate_closed": Rule(5, "{} shut out", "peers", said=True, ended_by=frozenset(
            {"gate_opened", "revoked", "disconnected", "given_up"})),
        "refused": Rule(4, "{} turned away", "log", until=NOTED),
        "strangers": Rule(4, "Strangers turned away", "log", until=NOTED),
        "vpn_up": Rule(9, "VPN is back", "overview", "", frozenset({"vpn_lost"}),
                       until=GOOD_NEWS, good=True),
    },
    "client": {
        "failed": Rule(0, "Not connected", "doctor", "it is not tried again",
                       _BACK | {"disconnected", "asked", "code_shown"}),
        "vpn_lost": Rule(1, "Gateway's VPN lost", "tunnel", "nothing is forwarded",
                         _BACK | _END | {"vpn_up", "sharing_off", "link_lost"}),
        "gate_closed": Rule(4, "Shut out", "tunnel", said=True,
                            ended_by=_END | {"gate_opened"}),
        "held": Rule(2, "Traffic is held", "links", "no link",
                     _BACK | _END | {"opened"}, after=MOMENT),
        "link_lost": Rule(3, "Link lost", "links", "it is tried again", _BACK | _END,
                          after=MOMENT),
        "vpn_up": Rule(9, "Gateway's VPN is back", "tunnel", "", _END | {"vpn_lost"},
                       until=GOOD_NEWS, good=True),
    },
}  # fmt: skip
"""By the role of the service and the kind of the event."""


@dataclass(frozen=True, slots=True)
class Banner:
    """One that stands."""

    rule: Rule
    event: schema.Event


class Banners:
    """The banners of one service. `now` is monotonic seconds, `wall` Unix time."""

    def __init__(self, role: str) -> None:
        self._rules = RULES[role]
        self._page = schema.EventPage([], 0, 0)
        self._happened: dict[int, float] = {}
        """When each event was, by our own clock: the service's may be another machine's."""
        self._hidden: set[int] = set()
        self._asked = False

    def put(self, page: schema.EventPage, now: float, wall: float) -> None:
        """Take the latest events."""
        if page.newest < self._page.newest:
            # A service that counts anew.
            self._happened, self._hidden, self._asked = {}, set(), False
        known, self._happened = self._happened, {}
        for event in page.events:
            late = 0.0 if self._asked else max(0.0, wall - event.at)
            self._happened[event.seq] = known.get(event.seq, now - late)
        self._hidden &= self._happened.keys()
        self._page, self._asked = page, True

    def standing(self, now: float, well: frozenset[str] = frozenset()) -> list[Banner]:
        """Those to be shown, the gravest first. `well`: kinds whose state is well again."""
        events = [event for event in self._page.events if event.seq > self._page.began]
        found: list[Banner] = []
        for place, event in enumerate(events):
            rule = self._rules.get(event.kind)
            if rule is None or event.seq in self._hidden or event.kind in well:
                continue
            if not rule.after <= now - self._happened[event.seq] < rule.until:
                continue
            if rule.good and not _was_bad(event, events[:place]):
                continue
            if not any(_ends(later, event, rule) for later in events[place + 1 :]):
                found.append(Banner(rule, event))
        found.sort(key=lambda banner: (banner.rule.rank, -banner.event.seq))
        return found

    def hide(self, banner: Banner) -> None:
        """A person has seen it."""
        self._hidden.add(banner.event.seq)


def _ends(later: schema.Event, event: schema.Event, rule: Rule) -> bool:
    """The same again takes its place, too."""
    if later.kind not in rule.ended_by and later.kind != event.kind:
        return False
    return not event.device or later.device == event.device


def _was_bad(event: schema.Event, before: Sequence[schema.Event]) -> bool:
    """Whether it is the end of something: a service's first VPN is no news."""
    return any(earlier.kind == "vpn_lost" for earlier in before)

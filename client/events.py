"""What happens to this device's tunnel, as events: connected, lost, back, held, refused.

Theory of operation. The client says what has happened; here it becomes one event, whose text
is the line in the log. What the gateway calls itself is cleaned and bounded, and how often it,
or a link with a loose contact, can bring something about is bounded, too: what one bucket for
all of it does not take is counted and told with the next event. Only changes are told: a
gateway that says the same again, or a guard that is still what it was, is no event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum

from client.guard import GuardState
from sealing.buckets import TokenBucket
from sealing.happenings import Event
from vshp.labels import clean_label

_log = logging.getLogger(__name__)

EVENTS_PER_SECOND = 0.5
EVENT_BURST = 60
"""Events that the gateway and the link can bring about."""
MAX_NAME = 40
"""Characters of the gateway's name."""
MAX_REASON = 240
"""Characters of why something ended."""


class EventKind(StrEnum):
    """What can happen; see `control/events.py` for what each means to people."""

    ASKED = "asked"
    CODE_SHOWN = "code_shown"
    CONNECTED = "connected"
    RESUMED = "resumed"
    MOVED = "moved"
    LINK_LOST = "link_lost"
    DISCONNECTED = "disconnected"
    FAILED = "failed"
    GATE_CLOSED = "gate_closed"
    GATE_OPENED = "gate_opened"
    SHARING_ON = "sharing_on"
    SHARING_OFF = "sharing_off"
    VPN_UP = "vpn_up"
    VPN_LOST = "vpn_lost"
    HELD = "held"
    OPENED = "opened"


class Events:
    """What happened. `now` is monotonic seconds, `gateway` its name or where it was looked for."""

    def __init__(self, on_event: Callable[[Event], None] | None = None) -> None:
        """`on_event`: told each event, at once; without it an event is a line in the log."""
        self._on_event = on_event or _to_log
        self._bucket = TokenBucket(EVENTS_PER_SECOND, EVENT_BURST, 0.0)
        self._left_out = 0
        self._moves = False
        self._guard = GuardState.OFF

    def asked(self, gateway: str, code: str | None, now: float) -> None:
        """The gateway's owner is being asked."""
        digits = f", who sees the digits {code}" if code else ""
        self._tell(EventKind.ASKED, gateway, f"the owner of {{}} is asked{digits}", now)

    def shown(self, gateway: str, code: str, now: float) -> None:
        """This device's user is to compare the digits."""
        self._tell(EventKind.CODE_SHOWN, gateway, f"compare the digits {code} with {{}}'s", now)

    def connected(self, gateway: str, by: str, resumed: bool, now: float) -> None:
        """A link carries packets."""
        moved, self._moves = self._moves, False
        if moved:
            self._tell(EventKind.MOVED, gateway, f"moved to another link with {{}}, {by}", now)
        elif resumed:
            self._tell(EventKind.RESUMED, gateway, f"resumed with {{}}, by {by}", now)
        else:
            self._tell(EventKind.CONNECTED, gateway, f"connected to {{}}, by {by}", now)

    def moves(self) -> None:
        """The link that comes next is a better one, found while the other was there."""
        self._moves = True

    def lost(self, gateway: str, why: str, now: float) -> None:
        """The link broke; it is tried again."""
        self._tell(EventKind.LINK_LOST, gateway, "the link with {} is lost", now, why)

    def disconnected(self, gateway: str, now: float) -> None:
        """By this device's user."""
        self._tell(EventKind.DISCONNECTED, gateway, "disconnected from {}", now)

    def failed(self, gateway: str, why: str, now: float) -> None:
        """It is not tried again."""
        self._moves = False
        self._tell(EventKind.FAILED, gateway, "not connected to {}", now, why)

    def sharing(self, gateway: str, before: str | None, after: str | None, now: float) -> None:
        """The gateway speaks of itself: `on`, `off` or `unavailable` (it has no VPN)."""
        if after == "unavailable":
            self._tell(EventKind.VPN_LOST, gateway, "{} has no VPN: nothing is forwarded", now)
        elif after == "off":
            self._tell(EventKind.SHARING_OFF, gateway, "{} does not share", now)
        elif before == "unavailable":
            self._tell(EventKind.VPN_UP, gateway, "the VPN of {} is back", now)
        elif before == "off":
            self._tell(EventKind.SHARING_ON, gateway, "{} shares again", now)

    def gate(self, gateway: str, before: str, after: str, now: float) -> None:
        """Why the gateway's owner does not let this device use the tunnel; empty: he does."""
        if after and after != before:
            text = "{} lets nothing of this device through"
            self._tell(EventKind.GATE_CLOSED, gateway, text, now, after)
        elif before and not after:
            self._tell(EventKind.GATE_OPENED, gateway, "{} lets this device through again", now)

    def guard(self, state: GuardState, now: float) -> None:
        """What the block does at this moment."""
        before, self._guard = self._guard, state
        if state is before:
            return
        if state is GuardState.HOLDING:
            self._tell(EventKind.HELD, "", "without a link: all traffic is held", now)
        elif before is GuardState.HOLDING:
            text = "traffic is not held any more"
            self._tell(EventKind.OPENED, "", text, now)

    def _tell(self, kind: EventKind, gateway: str, text: str, now: float, why: str = "") -> None:
        if not self._bucket.take(now):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        name = clean_label(gateway, MAX_NAME)
        text = text.replace("{}", name or "the gateway")
        if why:
            text += f": {clean_label(why, MAX_REASON)}"
        if left_out:
            text += f" ({left_out} events like this were left out before)"
        self._on_event(Event(kind, text, "", name))


def _to_log(event: Event) -> None:
    _log.info("%s", event.text)

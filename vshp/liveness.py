"""Whether the link still lives: asks when traffic goes out and nothing comes back.

Theory of operation. The packet path keeps two counters anyway (records sealed,
records opened), and remembers how many were sealed when it last opened some.
While something was sealed after that, other than a mere answer to a PING, the
session ticks twice a second, and no more often however packets and answers
alternate: silence of `SILENCE_BEFORE_PING` since the first
unanswered record asks with a PING, and repeats it every second; silence of
`SILENCE_BEFORE_DEAD` means a dead link. When all is answered the ticking stops
and only the keep-alive remains: a client pings after a whole interval without
traffic, a gateway merely gives up after several. So an idle phone is woken once
per interval, and a cut cable is noticed within seconds while anyone uses it.
"""

from __future__ import annotations

from vshp.constants import (
    IDLE_PERIODS_BEFORE_DEAD,
    LIVENESS_TICK,
    SILENCE_BEFORE_DEAD,
    SILENCE_BEFORE_PING,
)

_PING_AGAIN = 1.0
_MIN_PINGS_BEFORE_DEAD = 2
_MAX_PINGS = 16
"""PINGs on their way whose times are remembered."""


class RttEstimator:
    """Round-trip time, smoothed as RFC 6298 section 2 does it."""

    __slots__ = ("smoothed", "variation")

    def __init__(self) -> None:
        self.smoothed = 0.0
        self.variation = 0.0

    def sample(self, rtt: float) -> None:
        if self.smoothed == 0.0:
            self.smoothed, self.variation = rtt, rtt / 2
        else:
            self.variation += (abs(self.smoothed - rtt) - self.variation) / 4
            self.smoothed += (rtt - self.smoothed) / 8


class Liveness:
    """The timer of one session."""

    __slots__ = (
        "_asked",
        "_checked",
        "_initiates",
        "_interval",
        "_last_active",
        "_last_heard",
        "_last_ping",
        "_number",
        "_pings",
        "_received_seen",
        "_unanswered_since",
        "next_tick",
        "rtt",
    )

    def __init__(self, now: float, interval: float, initiates: bool) -> None:
        """`initiates`: whether this side keeps an idle link alive (the client does)."""
        self.rtt = RttEstimator()
        self._interval = interval
        self._initiates = initiates
        self._last_active = now
        self._last_heard = now
        self._last_ping = now - _PING_AGAIN
        self._checked = now - LIVENESS_TICK
        self._asked = 0
        self.next_tick: float | None = None
        """When it ticks, while it does: `timer` says the same then."""
        self._unanswered_since: float | None = None
        self._received_seen = 0
        self._number = 0
        self._pings: dict[int, float] = {}

    def timer(self, unanswered: bool) -> float:
        """When `check` wants to be called; `unanswered` starts the ticking."""
        if self.next_tick is not None:
            return self.next_tick
        if unanswered:
            # The time of sending is not known here: due at once, `check` sets the clock. A tick
            # after the last one at the earliest: under load all is answered and something is not
            # once in each batch of packets.
            return self._checked + LIVENESS_TICK
        if self._initiates:
            return self._last_active + self._interval
        return self._last_heard + IDLE_PERIODS_BEFORE_DEAD * self._interval

    def check(self, now: float, unanswered: bool, received: int) -> tuple[bool, float]:
        """(whether to ping now, seconds of deadly silence or 0).

        `unanswered`: a record that expects something back left after the last one that came;
        `received`: records that came so far.
        """
        self._checked = now
        if received != self._received_seen:
            self._received_seen = received
            self._last_heard = self._last_active = now
            self._unanswered_since = None
            self._asked = 0
        if not unanswered:
            self._unanswered_since = None
        elif self._unanswered_since is None:
            self._unanswered_since = self._last_active = now
        since = self._unanswered_since
        if since is None:
            self.next_tick = None
            if self._initiates:
                return now >= self._last_active + self._interval, 0.0
            silent = now - self._last_heard
            return False, silent if silent >= IDLE_PERIODS_BEFORE_DEAD * self._interval else 0.0
        self.next_tick = now + LIVENESS_TICK
        silent = now - since
        if silent >= SILENCE_BEFORE_DEAD and self._asked >= _MIN_PINGS_BEFORE_DEAD:
            return False, silent
        due = silent >= SILENCE_BEFORE_PING and now - self._last_ping >= _PING_AGAIN
        return due, 0.0

    def pinged(self, now: float) -> int:
        """A PING leaves; its number."""
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._last_ping = now
        self._asked += 1
        self._pings[self._number] = now
        if len(self._pings) > _MAX_PINGS:
            del self._pings[next(iter(self._pings))]
        return self._number

    def ponged(self, number: int, now: float) -> float | None:
        """The PONG to that PING came: its round-trip time, None when we never asked."""
        at = self._pings.pop(number, None)
        if at is None:
            return None
        self.rtt.sample(now - at)
        return now - at

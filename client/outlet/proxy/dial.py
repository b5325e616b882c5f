"""From a name or an address to an open connection: happy eyeballs (RFC 8305), pure.

Theory of operation. Of a name both families' addresses are asked for at once. IPv6's are tried as
soon as they are there; IPv4's wait RESOLUTION_DELAY for them first (section 3). Addresses are taken
from the two families in turn, IPv6 first (section 4), one every ATTEMPT_DELAY, or at once when the
one before has failed (section 5). The first that opens is the result, and the others are given up.
When all have failed, the result is the most telling failure: what a host has said itself goes
before what a router has said about the way to it, and that before silence.

A link that is away is waited for: connections pause with it. Only when it has been away for
AWAY_AFTER, or there is no lease, the result is AWAY.

The result is told once, and never from within `begin`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from client.outlet.proxy.outcome import Outcome
from splice.timers import NEVER

if TYPE_CHECKING:
    from client.outlet.proxy.outgoing import Outgoing
    from client.outlet.proxy.resolver import Half, Resolver
    from client.outlet.proxy.stack import Stack

RESOLUTION_DELAY = 0.05
"""Seconds that IPv4's addresses wait for IPv6's (RFC 8305, section 8)."""
ATTEMPT_DELAY = 0.25
"""Seconds between the beginnings of two attempts (RFC 8305, section 8)."""
AWAY_AFTER = 10.0
"""Seconds without a link after which who waits for a connection is told so."""
LOOK = 1.0
"""Seconds between two looks at whether there is a link."""
PATIENCE = 90.0
"""Seconds for the whole."""
MAX_ATTEMPTS = 8
"""Addresses that are tried of one name."""

_TELLING = (
    Outcome.REFUSED,
    Outcome.PROHIBITED,
    Outcome.HOST_UNREACHABLE,
    Outcome.NET_UNREACHABLE,
    Outcome.TIMED_OUT,
    Outcome.NAMES_FAILED,
    Outcome.NO_SUCH_NAME,
    Outcome.BUSY,
    Outcome.AWAY,
)
"""Failures, the most telling one first."""
_RANK = {outcome: rank for rank, outcome in enumerate(_TELLING)}

OnDialled = Callable[[Outcome, "Outgoing | None", float], None]


class Dial:
    """One wish for a connection."""

    __slots__ = (
        "_asked",
        "_away_since",
        "_deadline",
        "_failure",
        "_flows",
        "_last",
        "_look_at",
        "_next_at",
        "_on_dialled",
        "_queues",
        "_tried",
        "_v4_at",
        "port",
        "stack",
        "timer",
    )

    def __init__(self, stack: Stack, port: int, on_dialled: OnDialled) -> None:
        self.stack = stack
        self.port = port
        self.timer = NEVER
        self._on_dialled: OnDialled | None = on_dialled
        self._asked: list[Half] = []
        self._queues: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        """Addresses that were not tried yet, of IPv6 and of IPv4."""
        self._last = 4
        """The family of the last attempt."""
        self._v4_at = -1.0
        """Until when IPv4's addresses wait; below 0: they do not."""
        self._flows: list[Outgoing] = []
        """Attempts under way."""
        self._tried = 0
        self._failure: Outcome | None = None
        self._next_at = NEVER
        """When the next attempt begins if nothing happens before."""
        self._deadline = NEVER
        self._away_since = NEVER
        self._look_at = NEVER
        """When it is looked whether there is a link."""

    def begin(self, host: bytes | None, name: bytes, resolver: Resolver | None, now: float) -> None:
        """Dial the address `host` or else the `name` (as on the wire)."""
        self._deadline = now + PATIENCE
        self._next_at = now
        self._look_at = now + LOOK
        if self.stack.out is None:
            self._away_since = now
        if host is not None:
            self._queues[len(host) == 4].append(host)
            # Its SYN goes out with what this turn sends. What fails here at once is told later.
            if not self._begin_next(now):
                self._next_at = now
        elif resolver is not None and self.stack.leased:
            for version in (6, 4):
                half = resolver.ask(name, version, self._resolved, now)
                if half is None:
                    self._note(Outcome.BUSY)
                else:
                    self._asked.append(half)
        self._arm()

    def cancel(self, now: float) -> None:
        """Nobody wants it any more. Safe to call twice."""
        self._on_dialled = None
        self._clear(now)

    # --- time ----------------------------------------------------------------------------------

    def due(self) -> float:
        if self._on_dialled is None:
            return NEVER
        due = min(self._deadline, self._next_at)
        if self._v4_at >= 0 and not self._flows:
            due = min(due, self._v4_at)
        return min(due, self._look_at)

    def handle_timer(self, now: float) -> None:
        if self._on_dialled is None:
            return
        stack = self.stack
        if not stack.leased:
            self._over(Outcome.AWAY, None, now)
            return
        if now >= self._look_at:
            self._look_at = now + LOOK
        if stack.out is not None:
            self._away_since = NEVER
        elif self._away_since == NEVER:
            self._away_since = now
        elif now >= self._away_since + AWAY_AFTER:
            self._over(Outcome.AWAY, None, now)
            return
        if now >= self._deadline:
            self._note(Outcome.TIMED_OUT)
            self._over(self._failure or Outcome.TIMED_OUT, None, now)
            return
        waited = 0 <= self._v4_at <= now
        if waited:
            self._v4_at = -1.0
        if now >= self._next_at or (waited and not self._flows):
            self._attempt(now)

    # --- what happens --------------------------------------------------------------------------

    def _resolved(self, version: int, outcome: Outcome, found: list[bytes]) -> None:
        now = self.stack.timers.now
        self._asked = [half for half in self._asked if half.version != version]
        if outcome is not Outcome.OPENED:
            self._note(outcome)
        self._queues[version == 4].extend(found)
        if version == 6:
            self._v4_at = -1.0
        elif found and self._asked:
            self._v4_at = now + RESOLUTION_DELAY
        if not self._flows or self._next_at == NEVER:
            self._attempt(now)
        self._arm()

    def _attempt(self, now: float) -> None:
        """Try the next address, if there is one that may be tried; without any it is over."""
        if self._on_dialled is None:
            return
        if self._begin_next(now):
            self._arm()
        elif not self._flows and not self._asked and self._v4_at < 0:
            self._over(self._failure or Outcome.NO_SUCH_NAME, None, now)

    def _begin_next(self, now: float) -> bool:
        """Send the SYN to the next address that may be tried; False if there is none."""
        self._next_at = NEVER
        while (host := self._next()) is not None:
            self._tried += 1
            if not self.stack.addresses.own(4 if len(host) == 4 else 6):
                self._note(Outcome.NET_UNREACHABLE)
                continue
            flow = self.stack.connect(host, self.port, self._result, now)
            if flow is None:
                self._note(Outcome.BUSY)
                continue
            self._flows.append(flow)
            self._next_at = now + ATTEMPT_DELAY
            return True
        return False

    def _next(self) -> bytes | None:
        if self._tried >= MAX_ATTEMPTS:
            return None
        six, four = self._queues
        may4 = four and (self._v4_at < 0 or self._flows)
        if six and (self._last == 4 or not may4):
            self._last = 6
            return six.popleft()
        if may4:
            self._last = 4
            return four.popleft()
        return None

    def _result(self, flow: Outgoing, outcome: Outcome, now: float) -> None:
        if flow in self._flows:
            self._flows.remove(flow)
        if outcome is Outcome.OPENED:
            self._over(outcome, flow, now)
            return
        if not self.stack.leased:
            self._over(Outcome.AWAY, None, now)
            return
        self._note(outcome)
        self._attempt(now)

    def _note(self, outcome: Outcome) -> None:
        best = self._failure
        if best is None or _RANK[outcome] < _RANK[best]:
            self._failure = outcome

    def _over(self, outcome: Outcome, flow: Outgoing | None, now: float) -> None:
        told, self._on_dialled = self._on_dialled, None
        # A program waits for it, the other attempts do not.
        if told is not None:
            told(outcome, flow, now)
        elif flow is not None:
            flow.abandon(now)
        self._clear(now)

    def _clear(self, now: float) -> None:
        self.timer = NEVER
        asked, self._asked = self._asked, []
        for half in asked:
            half.cancel()
        flows, self._flows = self._flows, []
        for flow in flows:
            flow.abandon(now)

    def _arm(self) -> None:
        due = self.due()
        if due < self.timer:
            self.stack.timers.arm(self, due)

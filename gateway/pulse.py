"""The gateway's pulse: when links are pumped and when timers fire.

Work comes in batches: the poller's, a timer's, a call of the control API. While
one runs, links that got something to send are only marked; when it ends, each
is pumped once and the poller's alarm is set to the earliest deadline anybody
names. With nothing to do there is no alarm at all, so an idle gateway sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from eventloop.poller import NEVER, Poller
from gateway.link import Link

ROUNDS = 8
"""Rounds of pumping before the loop (the control socket, signals) has its turn."""


class Pulse:
    """Marks, pumps, and one alarm (eventloop.poller.BatchOwner)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
        deadline: Callable[[], float],
        due: Callable[[float], None],
    ) -> None:
        """`deadline` names the next moment at which `due(now)` wants to be called, or NEVER."""
        self._loop = loop
        self._poller = poller
        self._deadline = deadline
        self._due = due
        self._dirty: list[Link] = []
        self._soon = False
        self._settling = False
        self._stopped = False
        self.alarm_at = NEVER
        poller.attach(self)

    def mark(self, link: Link) -> None:
        """This link has something to send: pump it when the batch is over, or soon."""
        if not link.marked:
            link.marked = True
            self._dirty.append(link)
        self.settle_soon()

    def settle_soon(self) -> None:
        """Settle after this turn of the loop, unless the poller's batch or a settling under way
        will do it anyway."""
        if not (self._soon or self._settling or self._poller.in_batch or self._stopped):
            self._soon = True
            self._loop.call_soon(self._settle_now)

    def after_batch(self, now: float) -> None:
        """Pump what was marked, set the timer.

        Links that used up their turn go on, but after each round the sockets are looked at,
        so that a small answer overtakes a bulk flow; and after `ROUNDS` the loop has its turn.
        """
        self._settling = True
        for _ in range(ROUNDS):
            dirty, self._dirty = self._dirty, []
            for link in dirty:
                if link.marked:
                    link.marked = False
                    link.pump(now)
            if not self._dirty or self._stopped:
                break
            now = self._poller.look()
        self._settling = False
        if self._dirty and not self._soon and not self._stopped:
            self._soon = True
            self._loop.call_soon(self._settle_now)
        self.alarm_at = NEVER if self._stopped else self._deadline()

    def alarm(self, now: float) -> None:
        """The earliest deadline has come; what it brings is pumped after it."""
        self._due(now)

    def stop(self) -> None:
        self._stopped = True
        self.alarm_at = NEVER
        self._poller.detach(self)

    def _settle_now(self) -> None:
        self._soon = False
        if not self._stopped:
            self.after_batch(self._loop.time())

"""The gateway's pulse: when links are pumped and when timers fire.

Work comes in batches: the poller's, a timer's, a call of the control API. While
one runs, links that got something to send are only marked; when it ends, each
is pumped once and one loop timer is set to the earliest deadline anybody names.
With nothing to do there is no timer at all, so an idle gateway sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.link import Link
from gateway.poller import Poller

ROUNDS = 8
"""Rounds of pumping before the loop (the control socket, signals) has its turn."""


class Pulse:
    """Marks, pumps, and one timer."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
        deadline: Callable[[], float | None],
        due: Callable[[float], None],
    ) -> None:
        """`deadline` names the next moment at which `due(now)` wants to be called."""
        self._loop = loop
        self._poller = poller
        self._deadline = deadline
        self._due = due
        self._dirty: list[Link] = []
        self._soon = False
        self._settling = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._stopped = False
        poller.after_batch = self.settle

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

    def settle(self, now: float) -> None:
        """Pump what was marked, set the timer.

        Links that used up their turn go on, but after each round the sockets are looked at,
        so that a small answer overtakes a bulk flow; and after `ROUNDS` the loop has its turn.
        """
        self._settling = True
        for _ in range(ROUNDS):
            dirty, self._dirty = self._dirty, []
            for link in dirty:
                link.marked = False
                link.pump(now)
            if not self._dirty or self._stopped:
                break
            now = self._poller.look()
        self._settling = False
        if self._dirty and not self._soon and not self._stopped:
            self._soon = True
            self._loop.call_soon(self._settle_now)
        self._arm()

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _settle_now(self) -> None:
        self._soon = False
        if not self._stopped:
            self.settle(self._loop.time())

    def _arm(self) -> None:
        at = None if self._stopped else self._deadline()
        timer = self._timer
        if timer is not None:
            # One that fires early finds nothing due and is set anew: cheaper than moving it
            # with every packet.
            if at is not None and self._timer_at <= at:
                return
            timer.cancel()
            self._timer = None
        if at is not None:
            self._timer_at = at
            self._timer = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._due(now)
        self.settle(now)

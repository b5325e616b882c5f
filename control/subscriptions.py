"""Subscriptions: the latest state of some topics, when it changed, at most so often.

Nothing is queued. A topic is read when its turn has come and its reader takes
output; what equals the snapshot sent last is not sent again. Turns come at the
multiples of `interval` on the loop's clock, so that subscribers of one topic
share one reading, and at once on news from the service when the last turn is
an interval ago. While the reader is slow no turn comes at all; when it has
caught up it gets the state of that moment.

What a turn finds goes out in one piece, so that a console wakes and draws once;
a topic that takes its time holds the others back no longer than `GATHER`.

Nobody subscribed, no timer: an idle service sleeps.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from control.methods import Method
from control.readings import Readings
from eventloop.tasks import create_task

LEAST_GAP = 0.9
"""Of an interval, between two turns: timers come a little late, never early."""
GATHER = 0.05
"""Seconds for which snapshots wait for the others of their turn."""
MAX_GATHERED = 1 << 16
"""Bytes of snapshots above which they go out at once."""


@dataclass(slots=True)
class _Topic:
    method: Method
    params: Any
    revision: int = 0
    sent: bytes = b""


class Subscription:
    """One subscription of one connection."""

    def __init__(
        self,
        number: int,
        readings: Readings,
        topics: list[tuple[Method, Any]],
        interval: float,
        send: Callable[[bytes], None],
        writable: Callable[[], bool],
    ) -> None:
        self.number = number
        self._readings = readings
        self._topics = [_Topic(method, params) for method, params in topics]
        self._interval = interval
        self._send = send
        self._writable = writable
        self._loop = asyncio.get_running_loop()
        self._last_turn = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._turn: asyncio.Task[None] | None = None
        self._gathered: list[bytes] = []
        self._gathering: asyncio.TimerHandle | None = None
        self._stopped = False

    def start(self) -> None:
        """The first turn, which sends everything."""
        self._take_turn()

    def stop(self) -> None:
        """For good."""
        self._stopped = True
        self._cancel_timer()
        self._gathered.clear()
        self._let_go()
        if self._turn is not None:
            self._turn.cancel()

    def changed(self) -> None:
        """The service has news: bring the next turn forward as far as the interval allows."""
        due = self._last_turn + self._interval
        if self._timer is not None and self._loop.time() >= due:
            self._take_turn()

    def resume(self) -> None:
        """The reader caught up."""
        if self._timer is None and self._turn is None:
            self._schedule(max(self._last_turn + self._interval, self._loop.time()))

    def _schedule(self, when: float) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_at(when, self._take_turn)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take_turn(self) -> None:
        self._cancel_timer()
        if self._writable():  # otherwise not before `resume`
            self._last_turn = self._loop.time()
            self._turn = create_task(self._send_news(), f"snapshots {self.number}")

    async def _send_news(self) -> None:
        """A turn."""
        for topic in self._topics:
            data = await self._readings.read(topic.method, topic.params)
            if not self._writable():
                break
            if data is not None and data != topic.sent:
                self._gather(topic, data)
        self._let_go()
        self._turn = None
        if self._writable() and not self._stopped:
            self._schedule(self._next_turn())

    def _next_turn(self) -> float:
        """The first multiple of the interval that is not too close to the last turn."""
        earliest = self._last_turn + self._interval * LEAST_GAP
        return math.ceil(earliest / self._interval) * self._interval

    def _gather(self, topic: _Topic, data: bytes) -> None:
        topic.sent = data
        topic.revision += 1
        # Spliced by hand: the data was encoded for the comparison already.
        self._gathered.append(
            b'{"jsonrpc":"2.0","method":"snapshot","params":{"subscription":%d,"topic":"%s",'
            b'"revision":%d,"data":%s}}\n'
            % (self.number, topic.method.name.encode(), topic.revision, data[:-1])
        )
        if sum(map(len, self._gathered)) > MAX_GATHERED:
            self._let_go()
        elif self._gathering is None:
            self._gathering = self._loop.call_later(GATHER, self._let_go)

    def _let_go(self) -> None:
        """Send what has been gathered."""
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._gathered:
            self._send(b"".join(self._gathered))
            self._gathered.clear()

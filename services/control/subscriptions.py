"""Subscriptions: the latest state of some topics, when it changed, at most so often.

Nothing is queued. A topic is read when its turn has come and its reader takes
output; what equals the snapshot sent last is not sent again. Turns come every
`interval` seconds, and at once on news from the service when the last turn is
an interval ago. While the reader is slow no turn comes at all; when it has
caught up it gets the state of that moment.

Nobody subscribed, no timer: an idle service sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.control.codec import encode_line
from services.control.errors import ControlError
from services.control.methods import Method
from services.control.registry import Registry


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
        registry: Registry,
        topics: list[tuple[Method, Any]],
        interval: float,
        send: Callable[[bytes], None],
        writable: Callable[[], bool],
    ) -> None:
        self.number = number
        self._registry = registry
        self._topics = [_Topic(method, params) for method, params in topics]
        self._interval = interval
        self._send = send
        self._writable = writable
        self._loop = asyncio.get_running_loop()
        self._last_turn = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The first turn, which sends everything."""
        self._take_turn()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def changed(self) -> None:
        """The service has news: bring the next turn forward as far as the interval allows."""
        due = self._last_turn + self._interval
        if self._timer is not None and self._loop.time() >= due:
            self._take_turn()

    def resume(self) -> None:
        """The reader caught up."""
        if self._timer is None:
            self._schedule(max(self._last_turn + self._interval, self._loop.time()))

    def _schedule(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._take_turn)

    def _take_turn(self) -> None:
        if not self._writable():
            self.stop()  # until `resume`
            return
        self._last_turn = self._loop.time()
        for topic in self._topics:
            self._send_if_changed(topic)
        self._schedule(self._last_turn + self._interval)

    def _send_if_changed(self, topic: _Topic) -> None:
        name = topic.method.name
        try:
            data = encode_line(self._registry.read(topic.method, topic.params))
        except ControlError:
            return  # there is no state to show (the peer of a flow filter is gone, say)
        except Exception as exc:
            self._registry.internal_error(name, exc)
            return
        if data == topic.sent:
            return
        topic.sent = data
        topic.revision += 1
        # Spliced by hand: the data was encoded for the comparison already.
        self._send(
            b'{"jsonrpc":"2.0","method":"snapshot","params":{"subscription":%d,"topic":"%s",'
            b'"revision":%d,"data":%s}}\n' % (self.number, name.encode(), topic.revision, data[:-1])
        )

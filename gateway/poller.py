"""Readiness of the outward sockets: an epoll of our own inside the loop's.

The loop watches one descriptor, this epoll's. A flow's socket is registered
once, edge-triggered, for everything, and only forgotten, as a closed
descriptor leaves an epoll by itself: it costs one `epoll_ctl` in its life, and
an event costs one dictionary look-up and one call, no `Handle` of the loop.
Links and listeners, which are few, may use masks without EPOLLET and `modify`.

Edge-triggered events are hints that may be stale: a handler called early in a
batch may close a descriptor whose event is still in the batch, and a new
socket may get its number. So `register` marks the number as fresh for the
rest of the batch, in which events of that number are the old socket's.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable
from time import monotonic

from gateway.nat.ports import ReadyHandler

MAX_EVENTS = 256
"""Events in a batch; after it the loop gets its turn, and comes back at once if there are more."""

EVERYTHING = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

_log = logging.getLogger(__name__)


class Poller:
    """An epoll with handlers, run by the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """With a loop, `run` is called by it; without, by whoever watches `fileno`."""
        self._epoll = select.epoll()
        self._handlers: dict[int, ReadyHandler] = {}
        self._fresh: set[int] = set()
        self.in_batch = False
        """Whether events are being handled right now."""
        self.after_batch: Callable[[float], None] | None = None
        """Called with the time after each batch of events."""
        self._loop = loop
        if loop is not None:
            loop.add_reader(self._epoll.fileno(), self.run)

    def close(self) -> None:
        """Stop watching. The sockets are their owners' to close."""
        if self._epoll.closed:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._loop = None
        self._handlers.clear()
        self._epoll.close()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def __len__(self) -> int:
        return len(self._handlers)

    def register(self, fd: int, handler: ReadyHandler, mask: int = EVERYTHING) -> None:
        """Report events of `fd` to `handler`, the present state first."""
        self._epoll.register(fd, mask)
        self._handlers[fd] = handler
        if self.in_batch:
            self._fresh.add(fd)

    def modify(self, fd: int, mask: int) -> None:
        """Report other events of `fd` from now on."""
        self._epoll.modify(fd, mask)

    def forget(self, fd: int) -> None:
        """`fd` is about to be closed: no more events."""
        self._handlers.pop(fd, None)

    def unregister(self, fd: int) -> None:
        """No more events of `fd`, which stays open."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def run(self) -> None:
        """Handle one batch of events, without waiting, and what comes after it."""
        events = self._epoll.poll(0, MAX_EVENTS)
        if not events:
            return
        now = monotonic()
        self._handle(events, now)
        if self.after_batch is not None:
            self.after_batch(now)

    def look(self) -> float:
        """Handle what has happened since, for one who is in `after_batch`; the time now."""
        now = monotonic()
        if not self._epoll.closed:
            events = self._epoll.poll(0, MAX_EVENTS)
            if events:
                self._handle(events, now)
        return now

    def _handle(self, events: list[tuple[int, int]], now: float) -> None:
        handlers = self._handlers
        fresh = self._fresh
        self.in_batch = True
        try:
            for fd, mask in events:
                handler = handlers.get(fd)
                if handler is None or fd in fresh:
                    continue
                try:
                    handler.ready(mask, now)
                except Exception:
                    # One flow's fault must not cost the events of the others.
                    _log.exception("a flow failed on a socket event")
        finally:
            self.in_batch = False
            fresh.clear()

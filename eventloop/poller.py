"""One epoll for the packet path and the loop: an asyncio selector with a fast lane.

Theory of operation. asyncio asks its selector what is ready, wraps each answer
in a `Handle`, queues it, and runs it in its own turn; beside a second epoll for
the flows that was most of what a small packet cost. So the selector is ours.
Descriptors of the packet path (`watch`) are answered inside `select`, by one
dictionary look-up and one call. Everything else (`register`, the selector's
own interface: the control socket, subprocesses, name resolution) lives in a
selector of its own, which is one descriptor here and costs the packet path
nothing while it is quiet.

A flow's socket is watched once, edge-triggered, for everything, and only
forgotten, as a closed descriptor leaves an epoll by itself: one `epoll_ctl` in
its life. Links and listeners, which are few, use masks without EPOLLET and
`change`.

The loop is given a turn only when it has asked for one, by `call_soon`, a timer
or a descriptor of its own: `PolledLoop` notes that, and `select` goes on
waiting otherwise.

After each batch of events every attached `BatchOwner` is called once, and when
its alarm is due. An alarm is a number that `select` looks at: setting it costs
an assignment, no timer object and no heap.

Edge-triggered events are hints that may be stale: a handler called early in a
batch may close a descriptor whose event is still in the batch, and a new
socket may get its number. So `watch` marks the number as fresh for the rest of
the batch, in which events of that number are the old socket's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import select
import selectors
from collections.abc import Callable, Mapping
from contextvars import Context
from time import monotonic
from typing import Any, Protocol, TypeVarTuple

MAX_EVENTS = 256
"""Events in a batch; after it the loop gets its turn, and comes back at once if there are more."""

EVERYTHING = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

NEVER = math.inf

_log = logging.getLogger(__name__)

_Ts = TypeVarTuple("_Ts")


class Handler(Protocol):
    """Takes the events of one descriptor."""

    def ready(self, mask: int, now: float) -> None:
        """`mask` holds select.EPOLL* bits; `now` is monotonic, in seconds."""


class BatchOwner(Protocol):
    """Has something to do after batches of events, and at moments of its own choice."""

    alarm_at: float
    """When `alarm` is to be called, monotonic; NEVER for not at all. Set at will."""

    def alarm(self, now: float) -> None:
        """`alarm_at` has come; it is NEVER again."""

    def after_batch(self, now: float) -> None:
        """Events were handled."""


class Poller(selectors.BaseSelector):
    """The selector of a `PolledLoop`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._fresh: set[int] = set()
        self._owners: tuple[BatchOwner, ...] = ()
        self._others = selectors.EpollSelector()
        self._others_fd = self._others.fileno()
        self._now = 0.0
        """What whoever is called next is told: never earlier than anybody before."""
        self._epoll.register(self._others_fd, select.EPOLLIN)
        self.in_batch = False
        """Whether events are being handled right now; `after_batch` follows."""
        self.loop_asks = False
        """The loop has got something to do since `select` began."""

    # --- the packet path ---------------------------------------------------------------------

    def attach(self, owner: BatchOwner) -> None:
        self._owners = (*self._owners, owner)

    def detach(self, owner: BatchOwner) -> None:
        """Call it no more; safe to call twice."""
        self._owners = tuple(other for other in self._owners if other is not owner)

    def watch(self, fd: int, handler: Handler, mask: int = EVERYTHING) -> None:
        """Report events of `fd` to `handler`, the present state first."""
        self._epoll.register(fd, mask)
        self._handlers[fd] = handler
        if self.in_batch:
            self._fresh.add(fd)

    def watch_instead(self, fd: int, handler: Handler, mask: int = EVERYTHING) -> None:
        """As `watch`, of a descriptor that may be watched: its handler until now hears no more."""
        if fd not in self._handlers:
            self.watch(fd, handler, mask)
            return
        # This reports the present state as well (epoll_ctl(2): the edge is armed anew).
        self._epoll.modify(fd, mask)
        self._handlers[fd] = handler

    def change(self, fd: int, mask: int) -> None:
        """Report other events of `fd` from now on."""
        self._epoll.modify(fd, mask)

    def forget(self, fd: int) -> None:
        """`fd` is about to be closed: no more events."""
        self._handlers.pop(fd, None)

    def unwatch(self, fd: int) -> None:
        """No more events of `fd`, which stays open. Safe to call twice."""
        if self._handlers.pop(fd, None) is not None:
            # A descriptor that was closed first has left by itself.
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def watched(self) -> int:
        """How many descriptors are watched."""
        return len(self._handlers)

    def clock(self) -> float:
        """The time now, for a handler that takes many things in one event.

        Who is called after it, in this batch or behind it, is told no earlier one: connections
        write the time into their segments, and peers drop what seems older (RFC 7323, 5.3).
        """
        self._now = now = monotonic()
        return now

    def look(self) -> float:
        """Handle what has happened since, for one who is in `after_batch`; the time now."""
        self._now = monotonic()
        if not self._epoll.closed:
            events = self._epoll.poll(0, MAX_EVENTS)
            if events:
                self._handle(events)
        return self._now

    def _handle(self, events: list[tuple[int, int]]) -> bool:
        """Call the handlers; whether anything else is ready as well."""
        handlers = self._handlers
        fresh = self._fresh
        others = False
        self.in_batch = True
        try:
            for fd, mask in events:
                handler = handlers.get(fd)
                if handler is None or fd in fresh:
                    if fd == self._others_fd:
                        others = True
                    continue
                try:
                    handler.ready(mask, self._now)
                except Exception:
                    # One's fault must not cost the events of the others.
                    _log.exception("a handler failed on an event")
        finally:
            self.in_batch = False
            if fresh:
                fresh.clear()
        return others

    # --- the loop's selector -----------------------------------------------------------------

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait, handle what is watched, and return to the loop what is the loop's (BaseSelector).

        Returns early, with nothing, when a handler has given the loop something to do.
        """
        poll = self._epoll.poll
        until = NEVER if timeout is None else monotonic() + timeout
        self.loop_asks = False
        while True:
            at = until
            for owner in self._owners:
                if owner.alarm_at < at:
                    at = owner.alarm_at
            wait = -1.0
            if at != NEVER:
                # By the time now, not when the batch began: what became due while it was handled
                # is not waited for. Rounded up to epoll's milliseconds, as asyncio's own: never
                # early.
                wait = max(0.0, math.ceil((at - monotonic()) * 1e3) * 1e-3)
            events = poll(wait, MAX_EVENTS)
            self._now = now = monotonic()
            others = self._handle(events) if events else False
            self._settle(bool(events))
            if others:
                return self._others.select(0)
            if self.loop_asks or now >= until:
                return []

    def _settle(self, handled: bool) -> None:
        """Alarms that are due, and what owners do after a batch."""
        for owner in self._owners:
            try:
                due = owner.alarm_at <= self._now
                if due:
                    owner.alarm_at = NEVER
                    self.in_batch = True
                    try:
                        owner.alarm(self._now)
                    finally:
                        self.in_batch = False
                        # The batch is over: what it opened is as good as any other from now on.
                        self._fresh.clear()
                if due or handled:
                    owner.after_batch(self._now)
            except Exception:
                # As a callback of the loop's that fails: told, and the loop goes on.
                _log.exception("the work after a batch of events failed")

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._others.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._others.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._others.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._others.get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._others.get_key(fileobj)

    def close(self) -> None:
        """Stop watching. The descriptors are their owners' to close."""
        self._handlers.clear()
        self._owners = ()
        self._others.close()
        self._epoll.close()


class PolledLoop(asyncio.SelectorEventLoop):
    """An event loop over a `Poller`; also a `loop_factory` for `asyncio.Runner`."""

    def __init__(self) -> None:
        self.poller = Poller()
        super().__init__(self.poller)

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self.poller.loop_asks = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*_Ts], object], *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:  # fmt: skip
        # `call_later` ends here as well. `select` waits until the timer that it was told of.
        self.poller.loop_asks = True
        return super().call_at(when, callback, *args, context=context)

    def stop(self) -> None:
        self.poller.loop_asks = True
        super().stop()


def running_poller() -> Poller:
    """The running loop's. Raises RuntimeError when the loop is no `PolledLoop`."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, PolledLoop):
        raise RuntimeError("this runs on a PolledLoop: asyncio.Runner(loop_factory=PolledLoop)")
    return loop.poller

"""The line to the service: one worker that watches and reconnects, and the calls.

`Link.run` connects, says live, watches the topics that `want` named last and
posts each snapshot to its listener. When the wanted topics change (another
section, another filter) the old subscription ends and a new one begins on the
same connection. When the connection ends it says lost and tries again, a
little less often each time. Nothing here touches a widget: news leaves through
the `Listener`, calls come in through `call`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from control.client import ClientControl, GatewayControl, Snapshot
from control.errors import ControlError, ServiceUnavailable
from control.methods import Hello, Permission
from eventloop.tasks import create_task

FIRST_RETRY = 0.5
LAST_RETRY = 5.0
"""Seconds between attempts to reach a service that is gone: doubled from first to last."""

Topics = Mapping[str, Mapping[str, Any]]
"""Wanted topics, each with the parameters of its method."""


class Control(Protocol):
    """What the console needs of a control client; `control.client` has it."""

    hello: Hello

    async def call(self, method: str, /, **params: Any) -> Any: ...

    def watch(
        self,
        topics: Iterable[str],
        interval: float = ...,
        params: Mapping[str, Mapping[str, Any]] | None = ...,
    ) -> AsyncGenerator[Snapshot, None]: ...

    async def close(self) -> None: ...


Connect = Callable[[], Awaitable[Control]]


class Listener(Protocol):
    """Where the link's news goes. Called in the event loop; must not block."""

    def link_live(self, hello: Hello) -> None: ...

    def link_lost(self, message: str, hint: str) -> None: ...

    def link_news(self, snapshot: Snapshot) -> None: ...


def connector(path: str, role: str, read_only: bool = False) -> Connect:
    """How to reach the service of `role` on the socket at `path`."""
    control = GatewayControl if role == "gateway" else ClientControl

    async def connect() -> Control:
        reached = await control.connect(path, client="console", read_only=read_only)
        if reached.hello.role != role:
            await reached.close()
            raise ServiceUnavailable(
                f"A {reached.hello.role} service answers there.", f"This is the {role}'s console."
            )
        return reached

    return connect


class Link:
    """The one connection of the console."""

    def __init__(self, connect: Connect, listener: Listener, interval: float) -> None:
        self._connect = connect
        self._listener = listener
        self._interval = interval
        self._control: Control | None = None
        self._topics: Topics = {}
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()

    def want(self, topics: Topics) -> None:
        """Watch these topics from now on."""
        if topics != self._topics:
            self._topics = topics
            self._changed.set()

    def set_interval(self, interval: float) -> None:
        """Have snapshots come at another interval, seconds, from now on."""
        if interval != self._interval:
            self._interval = interval
            self._changed.set()

    def retry(self) -> None:
        """Do not wait for the next attempt."""
        self._hurry.set()

    async def call(self, method: str, **params: Any) -> Any:
        """Call a method. Raises `ControlError`; `ServiceUnavailable` when there is no line."""
        if self._control is None:
            raise ServiceUnavailable("The service is not there.", "It is being reached for.")
        return await self._control.call(method, **params)

    async def call_apart(self, method: str, **params: Any) -> Any:
        """The same on a connection of its own, for what takes the service seconds.

        A connection answers one request after the other: on the console's own, every key
        would wait behind this one.
        """
        control = await self._connect()
        try:
            return await control.call(method, **params)
        finally:
            await control.close()

    async def run(self) -> None:
        """Connect, watch, reconnect; until cancelled."""
        pause = FIRST_RETRY
        while True:
            try:
                control = await self._connect()
                try:
                    self._control = control
                    pause = FIRST_RETRY
                    self._listener.link_live(control.hello)
                    await self._follow(control)
                finally:
                    self._control = None
                    await control.close()
            except ControlError as error:
                self._listener.link_lost(error.message, error.hint or "")
            self._hurry.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), pause)
            pause = min(pause * 2, LAST_RETRY)

    async def _follow(self, control: Control) -> None:
        """Watch the wanted topics, anew whenever they change; ends by `ControlError`."""
        while True:
            self._changed.clear()
            watching = create_task(self._watch(control, self._topics), "console watch")
            changed = create_task(self._changed.wait(), "console topics")
            try:
                await asyncio.wait({watching, changed}, return_when=asyncio.FIRST_COMPLETED)
                if watching.done() and (error := watching.result()) is not None:
                    raise error
            finally:
                changed.cancel()
                watching.cancel()
                await asyncio.gather(watching, changed, return_exceptions=True)

    async def _watch(self, control: Control, topics: Topics) -> ControlError | None:
        """Pass snapshots on until the subscription fails; what it failed with."""
        if not topics:
            await asyncio.Event().wait()
        params = {topic: values for topic, values in topics.items() if values}
        snapshots = control.watch(list(topics), self._interval, params)
        try:
            async for snapshot in snapshots:
                self._listener.link_news(snapshot)
        except ControlError as error:
            return error
        finally:
            close = getattr(snapshots, "aclose", None)
            if close is not None:
                await close()
        return None


def is_read_only(hello: Hello) -> bool:
    """Whether the service lets this connection change nothing."""
    return hello.permission != Permission.WRITE

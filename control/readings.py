"""The state of topics as encoded lines: looked at once for everybody who asks at the same time.

Ten consoles on one section ask the same. The first of them starts a reading;
those who come while it is in the making, or shortly after, get the same bytes.
News from the service, and every call that changes something, makes the next
one who asks look again.

A reading is a task of its own, so that packets pass between two topics, and
within a topic whose handler is a coroutine that gives way.

What is kept is bounded by who may ask: a reading that is over is forgotten by
the next one that begins, and one under way has a subscription that waits.
"""

from __future__ import annotations

import asyncio
from typing import Any

from control.codec import encode_line
from control.errors import ControlError
from control.methods import Method
from control.registry import Registry
from eventloop.tasks import create_task

SHARED = 0.05
"""Seconds for which a finished reading is the answer, if there was no news: turns of the same
interval come together, but not in the same instant."""

_Key = tuple[str, Any]


class Readings:
    """Reads the topics of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._under_way: dict[_Key, asyncio.Task[bytes | None]] = {}
        self._done: dict[_Key, tuple[float, bytes | None]] = {}

    def changed(self) -> None:
        """What was read may not be true any more."""
        self._under_way.clear()
        self._done.clear()

    async def read(self, method: Method, params: Any) -> bytes | None:
        """The topic's state as JSON that ends in LF; None when there is none to show.

        `params` is the method's record, as the registry checked it.
        """
        key = (method.name, params)
        task = self._under_way.get(key)
        if task is None:
            now = asyncio.get_running_loop().time()
            found = self._done.get(key)
            if found is not None and now - found[0] <= SHARED:
                return found[1]
            self._done = {
                key: (at, data) for key, (at, data) in self._done.items() if now - at <= SHARED
            }
            task = create_task(self._look(key, method, params), f"reading {method.name}")
            self._under_way[key] = task
        # Shielded: one who leaves must not take the reading from the others.
        return await asyncio.shield(task)

    async def _look(self, key: _Key, method: Method, params: Any) -> bytes | None:
        data: bytes | None = None
        try:
            data = encode_line(await self._registry.read(method, params))
        except ControlError:
            pass  # there is no state to show (the peer of a flow filter is gone, say)
        except Exception as exc:
            self._registry.internal_error(method.name, exc)
        if self._under_way.get(key) is asyncio.current_task():
            del self._under_way[key]
            self._done[key] = (asyncio.get_running_loop().time(), data)
        return data

"""The only place where tasks begin.

The loop keeps weak references to tasks only, so a task that nobody holds can
vanish in mid-air, and the failure of one that nobody awaits is not heard of.
`create_task` holds it, names it, and logs how it failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)
_running: set[asyncio.Task[Any]] = set()


def create_task(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start `work` on the running loop, under `name`, and log its failure if it fails."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_finished)
    return task


async def cancel(task: asyncio.Task[Any] | None) -> None:
    """Cancel and wait for the end; None and finished tasks are no error."""
    if task is None or task is asyncio.current_task():
        return
    task.cancel()
    await asyncio.wait([task])


def _finished(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task %s failed", task.get_name(), exc_info=error)

"""Android's wake lock while sharing, by Termux's own programs.

Without it Android stops the CPU some time after the screen went dark, and with
it everybody's connections. `want` only notes what is wanted; one task makes it
so, one program at a time, each with a time limit.
"""

from __future__ import annotations

import asyncio
import logging
import shutil

from control.paths import is_termux
from control.programs import run
from eventloop.tasks import create_task

_log = logging.getLogger(__name__)

LOCK, UNLOCK = "termux-wake-lock", "termux-wake-unlock"


class WakeLock:
    """Held while it is wanted and enabled. Elsewhere than in Termux it does nothing."""

    def __init__(self, present: bool | None = None) -> None:
        """`present`: whether this system has such locks; None: find out."""
        self._present = is_termux() if present is None else present
        self._enabled = True
        self._wanted = False
        self._held = False
        self._problem: str | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """`none` (no phone), `held`, `free`, or why it cannot be held."""
        if not self._present:
            return "none"
        return self._problem or ("held" if self._held else "free")

    def enable(self, enabled: bool) -> None:
        """The owner's setting."""
        self._enabled = enabled
        self._follow()

    def want(self, wanted: bool) -> None:
        """Whether there is something to stay awake for."""
        self._wanted = wanted
        self._follow()

    async def stop(self) -> None:
        """Let go of it."""
        self._wanted = False
        self._follow()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _goal(self) -> bool:
        return self._wanted and self._enabled

    def _follow(self) -> None:
        if self._present and self._task is None and self._goal() is not self._held:
            self._task = create_task(self._work(), "wake lock")

    async def _work(self) -> None:
        try:
            while (goal := self._goal()) is not self._held:
                program = LOCK if goal else UNLOCK
                if shutil.which(program) is None:
                    self._problem = f"{program} is missing"
                    return
                try:
                    await run(program)
                except (OSError, TimeoutError) as exc:
                    self._problem = str(exc) or f"{program} does not answer"
                    _log.warning("wake lock: %s", self._problem)
                    return
                self._held, self._problem = goal, None
        finally:
            self._task = None

"""Checks, how they are registered, and how they are run.

A check looks at one thing, changes nothing, and answers with an `Outcome`:
what was found and, unless all is well, the one thing to do. All checks of a
list run at the same time, each with a time limit; one that fails or hangs is an
outcome, too, so the doctor always answers within `TIMEOUT`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from control.schema import Finding
from eventloop.tasks import create_task

_log = logging.getLogger(__name__)

TIMEOUT = 5.0
"""Seconds a check may take."""


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"
    """Something smaller works, or may stop working."""
    BROKEN = "broken"
    SKIPPED = "skipped"
    """Cannot be told, or makes no sense now."""


@dataclass(frozen=True, slots=True)
class Outcome:
    status: Status
    found: str
    advice: str | None = None


def ok(found: str) -> Outcome:
    return Outcome(Status.OK, found)


def warn(found: str, advice: str) -> Outcome:
    return Outcome(Status.WARN, found, advice)


def broken(found: str, advice: str) -> Outcome:
    return Outcome(Status.BROKEN, found, advice)


def skipped(found: str) -> Outcome:
    return Outcome(Status.SKIPPED, found)


C = TypeVar("C")
Look = Callable[[C], Outcome | Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Check(Generic[C]):
    id: str
    title: str
    side: str
    """`gateway`, `client` or `both`."""
    look: Look[C]


class Checks(Generic[C]):
    """A list of checks that look at a `C`."""

    def __init__(self, side: str) -> None:
        self.side = side
        self.all: dict[str, Check[C]] = {}

    def check(self, id: str, title: str) -> Callable[[Look[C]], Look[C]]:
        """Register the function that is decorated."""

        def register(look: Look[C]) -> Look[C]:
            self.all[id] = Check(id, title, self.side, look)
            return look

        return register

    async def run(self, subject: C) -> list[Finding]:
        """Run all of them; the findings in the order in which the checks stand."""
        return list(await asyncio.gather(*(_run(c, subject) for c in self.all.values())))

    async def run_one(self, id: str, subject: C) -> Finding:
        return await _run(self.all[id], subject)


async def _run(check: Check[C], subject: C) -> Finding:
    try:
        outcome = await asyncio.wait_for(
            create_task(_look(check, subject), f"doctor {check.id}"), TIMEOUT
        )
    except TimeoutError:
        outcome = skipped(f"There was no answer within {TIMEOUT:g} s.")
    return Finding(check.id, check.title, check.side, outcome.status, outcome.found, outcome.advice)


async def _look(check: Check[C], subject: C) -> Outcome:
    try:
        outcome = check.look(subject)
        return await outcome if inspect.isawaitable(outcome) else outcome
    except Exception as exc:
        _log.warning("the check %s failed", check.id, exc_info=exc)
        return skipped(f"The check itself failed ({type(exc).__name__}: {exc}).")

"""That the console is waited for, not the clock."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from textual import _time

from tests.fakes.services import FakeControl
from tests.fakes.waiting import settle
from tests.tui import rest
from tests.tui.conftest import OpenConsole

TURNS = 40
BUSY = 0.021
"""Seconds that others have the processor in each turn: more than any pause of Textual's pilot."""


def others_have_it() -> None:
    time.sleep(BUSY)


async def test_what_a_key_sets_off_is_over_however_long_each_turn_takes(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = FakeControl.call

    async def slow(control: FakeControl, method: str, /, **params: Any) -> Any:
        for _ in range(TURNS):
            others_have_it()
            await asyncio.sleep(0)
        return await call(control, method, **params)

    async with console() as c:
        monkeypatch.setattr(FakeControl, "call", slow)
        await c.press("7")
        assert "✗ 1 broken  ● 1 ok" in c.text


async def test_one_that_never_rests_has_failed(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    async with console() as c:
        monkeypatch.setattr(rest, "DEADLINE", 0.1)
        spinning = asyncio.create_task(spin())
        with pytest.raises(AssertionError, match="does not come to rest"):
            await c.settle()
        spinning.cancel()
        await c.settle()


@pytest.mark.parametrize("own", ["app", "section"])
async def test_a_timer_that_begins_late_goes_off_late_rather_than_never(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    clock = _time.get_time
    late = 0.0

    def elsewhere() -> float:
        """Others have the processor for a second from one look of this timer to its next."""
        nonlocal late
        task = asyncio.current_task()
        if task is not None and task.get_name() == "late":
            late += 1.0
            return clock() + late
        return clock()

    went_off: list[str] = []
    async with console() as c:
        monkeypatch.setattr(_time, "get_time", elsewhere)
        pump = c.app if own == "app" else c.app.screen
        pump.set_timer(0.01, lambda: went_off.append(own), name="late")
        await settle(lambda: went_off)

"""That the console is waited for, not the clock."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.fakes.services import FakeControl
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

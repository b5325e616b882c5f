"""A pause is as long as it was asked for, unless there is news, before or during it."""

from __future__ import annotations

import asyncio

import pytest

from client.nudge import BREATH, Nudge


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited for unconditionally; over at once."""
    asked: list[float] = []
    sleep = asyncio.sleep

    async def hasty(seconds: float) -> None:
        asked.append(seconds)
        await sleep(0)

    monkeypatch.setattr("client.nudge.asyncio.sleep", hasty)
    return asked


async def ended(pause: asyncio.Task[None]) -> bool:
    done, _ = await asyncio.wait([pause], timeout=5)
    return bool(done)


async def test_news_ends_a_pause(slept: list[float]) -> None:
    nudge = Nudge()
    pause = asyncio.ensure_future(nudge.pause(3600))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not pause.done()
    nudge.tell()
    assert await ended(pause)
    [breath] = [seconds for seconds in slept if seconds]
    assert 0 < breath <= BREATH, "news comes in bursts"


async def test_a_pause_without_news_has_one_timer(slept: list[float]) -> None:
    await Nudge().pause(BREATH + 0.01)
    assert not any(slept)


async def test_news_of_a_round_counts_for_the_pause_after_it(slept: list[float]) -> None:
    nudge = Nudge()
    nudge.tell()
    assert await ended(asyncio.ensure_future(nudge.pause(3600)))


async def test_news_counts_once(slept: list[float]) -> None:
    nudge = Nudge()
    nudge.tell()
    await nudge.pause(3600)
    pause = asyncio.ensure_future(nudge.pause(3600))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not pause.done()
    nudge.tell()
    assert await ended(pause)


async def test_no_pause_is_none(slept: list[float]) -> None:
    await Nudge().pause(0)
    assert slept == [0]

"""When a better way to the gateway is looked for, and which ways are tried."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from client.model import EndpointKind, TransportEndpoint
from client.plan import Plan
from client.round import Round
from client.search import FIRST, MOST, Search
from tests.fakes.waiting import settle

CABLE = TransportEndpoint("tcp", "192.168.42.129", 47800, EndpointKind.USB)
STREAM = TransportEndpoint("tcp", "192.168.1.2", 47800)
DATAGRAM = TransportEndpoint("udp", "192.168.1.2", 47800)
OTHER = TransportEndpoint("udp", "192.168.1.9", 47800)
SETTLING = 10
"""The time-out that the tests themselves wait with."""


class Running:
    """The round, as far as a search knows it: a link over UDP."""

    def __init__(self) -> None:
        self.granted = True
        self.link: Any = SimpleNamespace(endpoint=DATAGRAM)
        self.tried: list[tuple[TransportEndpoint, ...]] = []

    def improve(self, endpoints: tuple[TransportEndpoint, ...]) -> None:
        self.tried.append(endpoints)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of a search, which are over at once."""
    asked: list[float] = []
    timeout = asyncio.timeout

    def hasty(seconds: float) -> asyncio.Timeout:
        if seconds == SETTLING:
            return timeout(seconds)
        asked.append(seconds)
        return timeout(0)

    monkeypatch.setattr("asyncio.timeout", hasty)
    monkeypatch.setattr("client.search.SETTLE", 0)
    return asked


async def searching(
    round_: Running, until: Callable[[], object], hurry_after: Callable[[], object] | None = None
) -> list[bool]:
    """Search until that holds; of each look for ways whether there was no news before it."""
    asked: list[bool] = []

    async def ways(_: Plan, quiet: bool) -> tuple[TransportEndpoint, ...]:
        asked.append(quiet)
        return CABLE, STREAM, DATAGRAM, OTHER

    search = Search(ways)
    plan = Plan(None, "phone", (DATAGRAM,), "udp")
    task = asyncio.ensure_future(search.run(plan, cast(Round, round_)))
    try:
        if hurry_after is not None:
            await settle(hurry_after)
            search.hurry()
        await settle(until)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return asked


async def test_ever_more_seldom_without_news(pauses: list[float]) -> None:
    quiet = await searching(Running(), lambda: len(pauses) >= 7)
    assert all(quiet), "the host is as it was"
    assert pauses[:7] == [FIRST, 30, 60, 120, 240, MOST, MOST]


async def test_news_begins_the_pauses_anew(pauses: list[float]) -> None:
    quiet = await searching(
        Running(), lambda: FIRST in pauses[6:], hurry_after=lambda: len(pauses) >= 7
    )
    assert quiet.count(False) == 1
    again = pauses.index(FIRST, 6)
    assert set(pauses[6:again]) == {MOST}


async def test_only_what_is_better_than_the_way_in_use_is_tried(pauses: list[float]) -> None:
    running = Running()
    await searching(running, lambda: len(running.tried) >= 2)
    assert set(running.tried) == {(CABLE, STREAM)}


@pytest.mark.parametrize("missing", ["link", "granted"])
async def test_nothing_is_asked_before_a_lease(pauses: list[float], missing: str) -> None:
    running = Running()
    setattr(running, missing, None)
    assert await searching(running, lambda: len(pauses) >= 5) == []
    assert running.tried == []

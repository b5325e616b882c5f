"""When the gateway's announcement is repeated: while somebody looks for it, and else never."""

from __future__ import annotations

import asyncio

import pytest

from reach import mdns
from services.announcing import CALLED, OFTEN, PATIENT, SELDOM, Announcing, Sought, next_repetition
from tests.fakes.waiting import settle

HERE = ("phone", 47800, ("192.0.2.7",))


@pytest.mark.parametrize("seconds", [0.0, PATIENT, CALLED, 10 * CALLED])
def test_nobody_looks_nothing_is_repeated(seconds: float) -> None:
    assert next_repetition(Sought.NOT, seconds) is None


@pytest.mark.parametrize("seconds", [0.0, PATIENT, CALLED, 10 * CALLED])
def test_while_a_code_is_shown_it_is_repeated(seconds: float) -> None:
    assert next_repetition(Sought.PAIRING, seconds) == OFTEN


def test_a_device_that_stays_away_is_called_ever_more_seldom_and_at_last_not() -> None:
    pauses, now = [], 0.0
    while (pause := next_repetition(Sought.AWAY, now)) is not None:
        pauses.append(pause)
        now += pause
    assert pauses == [OFTEN] * int(PATIENT / OFTEN) + [SELDOM] * int((CALLED - PATIENT) / SELDOM)


class Told:
    """An announcer that says nothing, and counts."""

    def __init__(self, name: str, fingerprint: str, port: int) -> None:
        self.said: list[str] = []
        told.append(self)

    async def start(self, addresses: tuple[str, ...]) -> None:
        self.said.append("start")

    def repeat(self) -> None:
        self.said.append("repeat")

    async def stop(self) -> None:
        self.said.append("stop")


told: list[Told] = []


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    told.clear()
    monkeypatch.setattr(mdns, "load", lambda: None)
    monkeypatch.setattr("services.announcing.Announcer", Told)
    monkeypatch.setattr("services.announcing.OFTEN", 0.01)


@pytest.mark.usefixtures("hasty")
async def test_it_is_repeated_as_long_as_it_is_sought() -> None:
    sought = Sought.NOT
    announcing = Announcing("01:23", lambda: sought)
    announcing.want(HERE)
    await settle(lambda: told and told[0].said == ["start"])
    sought = Sought.AWAY
    announcing.want(HERE)
    await settle(lambda: told[0].said.count("repeat") >= 3)
    sought = Sought.NOT
    await asyncio.sleep(0.05)
    before = len(told[0].said)
    await asyncio.sleep(0.05)
    assert len(told[0].said) == before, "nobody looks any more"
    sought = Sought.PAIRING
    announcing.want(HERE)
    await settle(lambda: told[0].said.count("repeat") > before)
    await announcing.stop()
    assert told[0].said[-1] == "stop" and len(told) == 1


@pytest.mark.usefixtures("hasty")
async def test_an_address_that_is_not_ready_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    start, failures = Told.start, [mdns.DiscoveryUnavailable("not yet") for _ in range(2)]

    async def fails(announcer: Told, addresses: tuple[str, ...]) -> None:
        if failures:
            raise failures.pop()
        await start(announcer, addresses)

    monkeypatch.setattr(Told, "start", fails)
    announcing = Announcing("01:23", lambda: Sought.NOT)
    announcing.want(HERE)
    await settle(lambda: told and told[-1].said == ["start"])
    assert len(told) == 3
    await announcing.stop()


@pytest.mark.usefixtures("hasty")
async def test_without_the_library_it_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def load() -> None:
        nonlocal asked
        asked += 1
        raise mdns.DiscoveryUnavailable("no zeroconf", lacks="zeroconf")

    monkeypatch.setattr(mdns, "load", load)
    announcing = Announcing("01:23", lambda: Sought.PAIRING)
    announcing.want(HERE)
    await settle(lambda: asked)
    announcing.want(("phone", 47801, ("192.0.2.7",)))
    await announcing.stop()
    assert asked == 1 and told == []


@pytest.mark.usefixtures("hasty")
async def test_what_is_not_announced_is_not_repeated() -> None:
    announcing = Announcing("01:23", lambda: Sought.PAIRING)
    announcing.enable(False)
    announcing.want(HERE)
    await asyncio.sleep(0.05)
    assert told == []
    announcing.enable(True)
    announcing.want(HERE)
    await settle(lambda: told and "repeat" in told[0].said)
    announcing.want(None)
    await settle(lambda: told[0].said[-1] == "stop")
    await announcing.stop()

"""Who asks at the same time is answered from one look."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest

from control.errors import Code, ControlError
from control.methods import CLIENT, GATEWAY, FlowsParams, Method, NoParams
from control.readings import SHARED, Readings
from control.subscriptions import MAX_GATHERED, Subscription
from tests.fakes.services import PretendGateway
from tests.fakes.waiting import settle

STATUS, FLOWS = GATEWAY["status"], GATEWAY["flows"]


class Counted(PretendGateway):
    """It counts how often somebody looks; `gate` holds a look at the flows up."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def handlers(self) -> dict[str, Any]:
        handlers = super().handlers()
        status, flows = handlers["status"], handlers["flows"]

        def counted_status(params: Any) -> Any:
            self.looks.append("status")
            return status(params)

        async def counted_flows(params: Any) -> Any:
            self.looks.append("flows")
            await self.gate.wait()
            return flows(params)

        return handlers | {"status": counted_status, "flows": counted_flows}


@pytest.fixture
async def service() -> Counted:
    return Counted()


@pytest.fixture
async def readings(service: Counted) -> Readings:
    return Readings(service.registry())


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is good until there is news, however slow the machine is just now."""
    monkeypatch.setattr("control.readings.SHARED", 60.0)


@pytest.mark.usefixtures("kept")
async def test_one_look_for_all_at_once(service: Counted, readings: Readings) -> None:
    service.gate.clear()
    page = FlowsParams(limit=3)
    asking = [asyncio.ensure_future(readings.read(FLOWS, FlowsParams(limit=3))) for _ in range(9)]
    await settle(lambda: service.looks != [])
    asking[0].cancel()  # one who leaves takes nothing from the others
    service.gate.set()
    answers = await asyncio.gather(*asking[1:])
    assert service.looks == ["flows"]
    assert answers[0] is not None and all(answer is answers[0] for answer in answers)
    assert await readings.read(FLOWS, page) is answers[0]
    assert await readings.read(FLOWS, FlowsParams(limit=4)) != answers[0]
    assert service.looks == ["flows", "flows"]


async def test_news_and_time_make_it_look_again(service: Counted, readings: Readings) -> None:
    first = await readings.read(STATUS, NoParams())
    readings.changed()
    await readings.read(STATUS, NoParams())
    assert len(service.looks) == 2
    await asyncio.sleep(SHARED * 1.2)  # longer on a busy machine, which is as good
    assert await readings.read(STATUS, NoParams()) == first
    assert len(service.looks) == 3


@pytest.mark.usefixtures("kept")
async def test_news_during_a_look(service: Counted, readings: Readings) -> None:
    service.gate.clear()
    early = asyncio.ensure_future(readings.read(FLOWS, FlowsParams()))
    await settle(lambda: service.looks == ["flows"])
    readings.changed()
    service.flows = service.flows[:1]
    late = asyncio.ensure_future(readings.read(FLOWS, FlowsParams()))
    # The second does not take what may be old.
    await settle(lambda: service.looks == ["flows", "flows"])
    service.gate.set()
    await asyncio.gather(early, late)
    assert await readings.read(FLOWS, FlowsParams()) == late.result()


async def test_no_state_and_failures(
    service: Counted,
    readings: Readings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> Any:
        raise ControlError(Code.NOT_FOUND, "gone")

    monkeypatch.setattr(service, "status_now", refuse)
    assert await readings.read(STATUS, NoParams()) is None
    assert caplog.records == []
    monkeypatch.setattr(service, "status_now", lambda: 1 / 0)
    readings.changed()
    assert await readings.read(STATUS, NoParams()) is None
    assert "status failed" in caplog.text


@pytest.mark.parametrize("method", [m for m in (GATEWAY | CLIENT).values() if m.topic],
                         ids=lambda method: method.name)  # fmt: skip
def test_what_topics_are_asked_with_can_be_a_key(method: Any) -> None:
    given = method.params()
    assert hash(given) == hash(method.params(**{f.name: getattr(given, f.name)
                                                for f in fields(given)}))  # fmt: skip


async def between_turns(interval: float) -> None:
    """Wait for a moment far from the next turns and the last ones."""
    now = asyncio.get_running_loop().time()
    await asyncio.sleep((1.5 - now / interval % 1) * interval)


async def test_subscribers_of_one_interval_share_their_turns(
    service: Counted, readings: Readings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, bytes]] = []
    subscriptions = []
    interval = 0.4
    for number in range(5):
        subscriptions.append(Subscription(
            number, readings, [(STATUS, NoParams())], interval,
            partial(lambda of, line: sent.append((of, line)), number), lambda: True,
        ))  # fmt: skip
        subscriptions[-1].start()
        await asyncio.sleep(0.03)  # they come when they come
    for _ in range(2):
        await between_turns(interval)  # a common turn is over
    service.looks.clear()
    sent.clear()
    monkeypatch.setattr(service, "status_now", lambda: service.status)
    for turn in range(3):
        service.status = replace(service.status, uptime=1e6 + turn)
        await between_turns(interval)
    for subscription in subscriptions:
        subscription.stop()
    assert len(sent) == 15, "everybody got every turn"
    assert len(service.looks) == 3, "of one look each"
    await between_turns(interval)
    assert len(sent) == 15


def members(data: bytes) -> list[str]:
    """The topics of some snapshots."""
    return [json.loads(line)["params"]["topic"] for line in data.splitlines()]


async def test_what_a_turn_finds_is_sent_in_one_piece(
    readings: Readings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long a busy machine takes for the second.
    monkeypatch.setattr("control.subscriptions.GATHER", 60.0)
    sent: list[bytes] = []
    topics: list[tuple[Method, Any]] = [(STATUS, NoParams()), (FLOWS, FlowsParams())]
    subscription = Subscription(1, readings, topics, 60, sent.append, lambda: True)
    subscription.start()
    await settle(lambda: sent != [])
    subscription.stop()
    assert [members(data) for data in sent] == [["status", "flows"]]


async def test_a_slow_topic_holds_the_others_back_for_a_moment_only(
    service: Counted, readings: Readings
) -> None:
    sent: list[bytes] = []
    topics: list[tuple[Method, Any]] = [(STATUS, NoParams()), (FLOWS, FlowsParams())]
    subscription = Subscription(1, readings, topics, 60, sent.append, lambda: True)
    service.gate.clear()  # flows are long in coming
    subscription.start()
    await settle(lambda: sent != [])
    assert [members(data) for data in sent] == [["status"]]
    service.gate.set()
    await settle(lambda: len(sent) == 2)
    assert [members(data) for data in sent] == [["status"], ["flows"]]
    subscription.stop()


async def test_nothing_is_sent_for_a_subscription_that_was_stopped(
    service: Counted, readings: Readings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.subscriptions.GATHER", 1.0)
    sent: list[bytes] = []
    topics: list[tuple[Method, Any]] = [(STATUS, NoParams()), (FLOWS, FlowsParams())]
    subscription = Subscription(1, readings, topics, 60, sent.append, lambda: True)
    service.gate.clear()
    subscription.start()
    await settle(lambda: service.looks == ["status", "flows"])
    subscription.stop()
    await asyncio.sleep(1.2)
    assert sent == []


async def test_much_is_sent_at_once(service: Counted, readings: Readings) -> None:
    sent: list[bytes] = []
    service.flows = service.flows * (2 * MAX_GATHERED // len(repr(service.flows)) + 1)
    topics: list[tuple[Method, Any]] = [
        (FLOWS, FlowsParams(limit=2000)), (STATUS, NoParams()),
    ]  # fmt: skip
    subscription = Subscription(1, readings, topics, 60, sent.append, lambda: True)
    subscription.start()
    await settle(lambda: len(sent) == 2)
    subscription.stop()
    assert [members(data) for data in sent] == [["flows"], ["status"]]

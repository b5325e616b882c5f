"""What happens to the tunnel is told, once, in bounded and clean words."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from pathlib import Path

import pytest

from client.client import Client
from client.events import EVENT_BURST, MAX_NAME, MAX_REASON, EventKind, Events
from client.guard import GuardState
from client.model import ClientConfig, ClientState, MemoryStore
from client.outlet.nic.outlet import NicOutlet
from sealing.happenings import Event
from tests.client.fakes import MemoryHost
from tests.client.gateway_double import GatewayDouble
from vshp.config import CloseReason


def told() -> tuple[Events, list[Event]]:
    events: list[Event] = []
    return Events(events.append), events


def test_only_changes_are_told() -> None:
    events, seen = told()
    for state in (GuardState.OFF, GuardState.ARMED, GuardState.HOLDING, GuardState.HOLDING,
                  GuardState.ARMED, GuardState.OFF):  # fmt: skip
        events.guard(state, 100.0)
    said = [None, "on", "unavailable", "on", "off", "on", None, "unavailable", "off"]
    for before, after in itertools.pairwise(said):
        events.sharing("Pixel", before, after, 100.0)
    assert [event.kind for event in seen] == [
        "held", "opened", "vpn_lost", "vpn_up", "sharing_off", "sharing_on", "vpn_lost",
        "sharing_off",
    ]  # fmt: skip
    assert seen[2].text == "Pixel has no VPN: nothing is forwarded" and seen[2].label == "Pixel"


def test_a_gate_is_told_when_it_changes_and_when_its_reason_does() -> None:
    events, seen = told()
    for before, after in itertools.pairwise(["", "", "Paused.", "Paused.", "Over.", "", ""]):
        events.gate("Pixel", before, after, 100.0)
    assert [(event.kind, event.text) for event in seen] == [
        ("gate_closed", "Pixel lets nothing of this device through: Paused."),
        ("gate_closed", "Pixel lets nothing of this device through: Over."),
        ("gate_opened", "Pixel lets this device through again"),
    ]


def test_a_gateway_that_changes_its_mind_all_the_time_is_bounded() -> None:
    events, seen = told()
    for _ in range(500):
        events.sharing("Pixel", "on", "unavailable", 100.0)
        events.sharing("Pixel", "unavailable", "on", 100.0)
    assert len(seen) == EVENT_BURST
    events.lost("Pixel", "The link broke.", 110.0)
    assert seen[-1].text == (
        "the link with Pixel is lost: The link broke. "
        f"({1000 - EVENT_BURST} events like this were left out before)"
    )


@pytest.mark.parametrize("name", ["\x1b[2Jevil", "\u202eevil", "a\nb", "{}" * 90, "x" * 500, ""])
def test_what_the_gateway_calls_itself_is_cleaned_and_bounded(name: str) -> None:
    events, seen = told()
    events.failed(name, f"{name}! " * 9, 100.0)
    (event,) = seen
    assert event.text.isprintable() and len(event.label) <= MAX_NAME
    assert len(event.text) <= MAX_NAME + MAX_REASON + 40


def test_who_moved_has_not_resumed() -> None:
    events, seen = told()
    events.connected("Pixel", "udp:192.0.2.1:47800", False, 1.0)
    events.moves()
    events.connected("Pixel", "tcp:192.0.2.1:47800", True, 2.0)
    events.connected("Pixel", "tcp:192.0.2.1:47800", True, 3.0)
    assert [event.kind for event in seen] == ["connected", "moved", "resumed"]


async def test_a_day_of_a_client(tmp_path: Path) -> None:
    seen: list[Event] = []
    config = ClientConfig(tmp_path)
    client = Client(MemoryStore(), config, NicOutlet(MemoryHost(), config), seen.append)

    async def until(kind: EventKind, count: int = 1) -> None:
        async with asyncio.timeout(10):
            while Counter(event.kind for event in seen)[kind] < count:
                await asyncio.sleep(0.005)

    async with GatewayDouble() as gateway:
        await client.start()
        await client.connect(gateway.uri())
        await client.wait(5)
        await until(EventKind.CONNECTED)
        gateway.guests[-1].status(vpn_up=False)
        await until(EventKind.VPN_LOST)
        gateway.guests[-1].status(vpn_up=True)
        await until(EventKind.VPN_UP)
        gateway.guests[-1].cut()
        await until(EventKind.LINK_LOST)
        await gateway.heard(2)
        await until(EventKind.RESUMED)
        await client.disconnect()
        await client.disconnect()
        await client.connect(gateway.uri())
        await client.wait(5)
        await until(EventKind.CONNECTED, 2)
        gateway.guests[-1].session.close(CloseReason.REVOKED, asyncio.get_running_loop().time())
        gateway.guests[-1].flush()
        await until(EventKind.FAILED)
        assert client.status().state is ClientState.FAILED
        await client.stop()
    assert Counter(event.kind for event in seen) >= Counter(
        {"connected": 2, "vpn_lost": 1, "vpn_up": 1, "link_lost": 1, "resumed": 1,
         "disconnected": 1, "failed": 1}
    )  # fmt: skip
    assert all(event.label == "phone" for event in seen if event.kind == "link_lost")

"""Methods of both services, the same by the fake in this process and by a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from control import schema
from control.client import ClientControl, GatewayControl
from control.server import ControlServer
from tests.fakes.services import Pretend, PretendClient, PretendGateway
from tui.link import Control

WAYS = ("in process", "socket")


@asynccontextmanager
async def reached(way: str, service: Pretend, path: Path) -> AsyncIterator[Control]:
    """The console's control client, over the fake or over a socket."""
    if way == "in process":
        control = await service.connect()
        yield control
        await control.close()
        return
    server = ControlServer(path, service.registry())
    await server.start()
    service.on_change.append(server.changed)
    kind = ClientControl if service.role == "client" else GatewayControl
    async with await kind.connect(str(path)) as client:
        yield client
    server.close_door()
    server.hang_up()


@pytest.mark.parametrize("way", WAYS)
async def test_endpoints_history_and_the_kill_switch(way: str, tmp_path: Path) -> None:
    service = PretendClient()
    async with reached(way, service, tmp_path / "c.sock") as control:
        assert await control.call("endpoints") == service.endpoints
        assert await control.call("history") == service.links
        page = await control.call("flows", sort="rate", descending=True, limit=5)
        assert (page.total, len(page.flows)) == (30, 5)
        assert page.flows[0] in service.flows
        only = await control.call("flows", peer="firefox", filter="tcp")
        assert {(flow.label, flow.protocol) for flow in only.flows} == {("firefox", "tcp")}
        status = await control.call("status")
        assert status.kill_switch == service.status.kill_switch
        seen = {}
        snapshots = control.watch(
            ["endpoints", "history", "flows"], 0.1, {"flows": {"limit": 1, "sort": "age"}}
        )
        async for snapshot in snapshots:
            seen[snapshot.topic] = snapshot.data
            if len(seen) == 3:
                break
        await snapshots.aclose()
        first = min(service.flows, key=lambda flow: flow.age)
        assert seen.pop("flows") == schema.Flows(30, [first])
        assert seen == {"endpoints": service.endpoints, "history": service.links}


@pytest.mark.parametrize("way", WAYS)
async def test_a_page_of_the_log(way: str, tmp_path: Path) -> None:
    service = PretendClient()
    async with reached(way, service, tmp_path / "c.sock") as control:
        page = await control.call("log", limit=2, level="info", filter="lease")
        assert [line.seq for line in page.lines] == [4, 7]
        assert (page.left_out, page.oldest, page.newest) == (0, 1, 7)
        page = await control.call("log", limit=1, after=4)
        assert ([line.seq for line in page.lines], page.left_out) == ([7], 2)


@pytest.mark.parametrize("way", WAYS)
async def test_what_happened(way: str, tmp_path: Path) -> None:
    service = PretendGateway()
    async with reached(way, service, tmp_path / "g.sock") as control:
        assert await control.call("events") == schema.EventPage([], 0, 0)
        snapshots = control.watch(["events"], 0.1)
        assert (await anext(snapshots)).data.events == []
        service.happen("vpn_lost", "the VPN is lost: there is none")
        (event,) = (await anext(snapshots)).data.events
        assert (event.seq, event.kind, event.level) == (1, "vpn_lost", "warning")
        service.happen("vpn_up", "the VPN is there: tun0")
        page = await control.call("events", after=1, limit=5)
        assert [each.kind for each in page.events] == ["vpn_up"] and page.newest == 2
        await snapshots.aclose()


@pytest.mark.parametrize("way", WAYS)
async def test_an_offer_and_who_has_used_it(way: str, tmp_path: Path) -> None:
    service = PretendGateway()
    async with reached(way, service, tmp_path / "g.sock") as control:
        offer = await control.call("pair")
        snapshots = control.watch(["offers"], 0.1)
        first = (await anext(snapshots)).data
        assert [(each.id, each.state, each.used_by) for each in first] == [(offer.id, "open", None)]
        service.use_offer("Tablet")
        (used,) = (await anext(snapshots)).data
        assert (used.id, used.state, used.used_by) == (offer.id, "used", "Tablet")
        await snapshots.aclose()

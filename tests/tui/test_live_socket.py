"""The same console on the real control protocol: a server, a socket, a client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from control import schema
from control.server import ControlServer
from tests.fakes.services import Pretend, PretendClient, PretendGateway, make_flows, request
from tui.app import ConsoleApp
from tui.link import connector
from tui.widgets.table import RowTable

PATIENCE = 30.0
"""Seconds until what must come has come."""


async def until(pilot: Pilot[int], text: str, *, there: bool = True) -> None:
    """Wait until a text is on the screen, or is gone."""
    deadline = time.monotonic() + PATIENCE
    while True:
        app = pilot.app
        shown = "\n".join(strip.text for strip in app.screen._compositor.render_strips(app.size))
        if (text in shown) is there:
            return
        if time.monotonic() > deadline:
            break
        await pilot.pause(0.02)
    raise AssertionError(f"{text!r} {'did not come' if there else 'stayed'}:\n{shown}")


@asynccontextmanager
async def served(service: Pretend, path: Path) -> AsyncIterator[ControlServer]:
    server = ControlServer(path, service.registry())
    await server.start()
    service.on_change.append(server.changed)
    try:
        yield server
    finally:
        service.on_change.remove(server.changed)
        server.close_door()
        server.hang_up()


async def test_approve_revoke_and_close_over_the_socket(
    tmp_path: Path, gateway: PretendGateway
) -> None:
    path = tmp_path / "g.sock"
    app = ConsoleApp({"gateway": connector(str(path), "gateway")}, interval=0.1)
    async with served(gateway, path), app.run_test(size=(80, 24)) as pilot:
        await until(pilot, "Work laptop")
        gateway.waiting.append(request())
        gateway.changed()
        await until(pilot, "483 920")
        await pilot.pause(0.6)
        await pilot.press("a")
        await until(pilot, "3 connected of 4 paired")
        await pilot.press("3")
        await until(pilot, "Old phone")
        await pilot.press("x", "y")
        await until(pilot, "✗ revoked")
        await pilot.press("4")
        await until(pilot, "40 flows")
        await pilot.press("x", "y")
        await until(pilot, "39 flows")


async def test_the_service_goes_and_comes_back(tmp_path: Path, gateway: PretendGateway) -> None:
    path = tmp_path / "g.sock"
    app = ConsoleApp({"gateway": connector(str(path), "gateway")}, interval=0.1)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, "retrying")
        async with served(gateway, path):
            await until(pilot, "Work laptop")
            await until(pilot, "retrying", there=False)
        await until(pilot, "retrying")
        await until(pilot, "Work laptop")


async def test_no_key_waits_for_the_doctor(
    tmp_path: Path, gateway: PretendGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "g.sock"
    done = asyncio.Event()
    known = gateway.handlers()

    async def slow(_: object) -> list[schema.Finding]:
        await done.wait()
        return gateway.findings

    monkeypatch.setattr(gateway, "handlers", lambda: known | {"doctor": slow})
    gateway.leases = []
    app = ConsoleApp({"gateway": connector(str(path), "gateway")}, interval=0.1)
    async with served(gateway, path), app.run_test(size=(80, 24)) as pilot:
        await until(pilot, "sharing")
        await pilot.press("7")
        await until(pilot, "Examining…")
        await pilot.press("s")
        await until(pilot, "s Share ")
        assert gateway.status.sharing == "off"
        await pilot.press("8")
        await until(pilot, "[gateway]")
        await pilot.press("7")
        await until(pilot, "Examining…")
        done.set()
        await until(pilot, "1 broken")


async def test_thousands_of_flows(tmp_path: Path, gateway: PretendGateway) -> None:
    gateway.flows = make_flows(5_000)
    path = tmp_path / "g.sock"
    app = ConsoleApp({"gateway": connector(str(path), "gateway")}, interval=0.1, section="flows")
    async with served(gateway, path), app.run_test(size=(80, 24)) as pilot:
        await until(pilot, "50 of 5,000 flows")
        for shown in ("100", "200", "400", "800", "1,600", "2,000"):
            await pilot.press("end")
            await until(pilot, f"{shown} of 5,000 flows")
        await pilot.press("end")
        assert len(app.screen.query_one("#flows", RowTable).rows) == 2_000
        await pilot.press("slash", *"icmp", "enter")
        await until(pilot, "50 of 625 flows")


async def test_a_read_only_connection(tmp_path: Path, gateway: PretendGateway) -> None:
    path = tmp_path / "g.sock"
    app = ConsoleApp({"gateway": connector(str(path), "gateway", read_only=True)}, interval=0.1)
    async with served(gateway, path), app.run_test(size=(80, 24)) as pilot:
        await until(pilot, "Work laptop")
        await until(pilot, "s Unshare", there=False)


async def test_the_client_service(tmp_path: Path, client: PretendClient) -> None:
    path = tmp_path / "c.sock"
    app = ConsoleApp({"client": connector(str(path), "client")}, "client", interval=0.1)
    async with served(client, path), app.run_test(size=(80, 24)) as pilot:
        await until(pilot, "vshp0")
        await pilot.press("c")
        await until(pilot, "Disconnect from")
        await pilot.press("y")
        await until(pilot, "○ idle")


@pytest.mark.parametrize("role", ["gateway", "client"])
async def test_a_service_of_the_other_kind_is_refused_with_words(
    tmp_path: Path, gateway: PretendGateway, client: PretendClient, role: str
) -> None:
    path = tmp_path / "x.sock"
    service = client if role == "gateway" else gateway
    app = ConsoleApp({role: connector(str(path), role)}, role, interval=0.1)
    async with served(service, path), app.run_test(size=(80, 24)) as pilot:
        await until(pilot, f"A {service.role} service answers there.")

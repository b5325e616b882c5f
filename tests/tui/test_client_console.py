"""The client's console: state, code, connect, forget, and changing the service."""

from __future__ import annotations

from dataclasses import replace

from tests.fakes.services import IDLE_CLIENT, URI
from tests.tui.conftest import Console, OpenConsole


def called(c: Console, method: str) -> list[dict[str, object]]:
    return [params for name, params in c.client.calls if name == method]


async def test_connected(console: OpenConsole) -> None:
    async with console("client") as c:
        for words in ("connected", "Pixel 8", "192.168.43.1:47800", "vshp0", "10.77.0.2/24",
                      "4.1 MB/s", "3 ms", "1 reconnect"):  # fmt: skip
            assert words in c.text


async def test_waiting_shows_the_code(console: OpenConsole) -> None:
    async with console("client", size=(45, 24)) as c:
        c.client.status = replace(IDLE_CLIENT, state="waiting", code="123456")
        c.client.changed()
        await c.settle()
        assert "waiting for approval" in c.text
        assert "123 456" in c.text


async def test_failure_shows_its_reason(console: OpenConsole) -> None:
    async with console("client") as c:
        c.client.status = replace(
            IDLE_CLIENT, state="failed", reason="The pairing code has expired: make a new one."
        )
        c.client.changed()
        await c.settle()
        assert "The pairing code has expired" in c.text
        assert "c Connect" in c.text


async def test_disconnect_and_connect_to_the_last(console: OpenConsole) -> None:
    async with console("client") as c:
        await c.press("c")
        assert called(c, "disconnect") == [{}]
        assert "idle" in c.text
        await c.press("c")
        assert called(c, "connect") == [{}]
        assert "connecting" in c.text


async def test_connect_to_a_known_gateway(console: OpenConsole) -> None:
    async with console("client", section="connect") as c:
        await c.press("down", "enter")
        assert called(c, "connect") == [{"gateway": "SHA256:01ee 77d2 19b0 c4aa"}]


async def test_connect_by_uri(console: OpenConsole) -> None:
    async with console("client", section="connect") as c:
        await c.press("u")
        await c.press(*URI.lower().upper()[:12])
        await c.press("enter")
        assert called(c, "connect") == [{"uri": URI[:12]}]


async def test_forget_asks_by_name(console: OpenConsole) -> None:
    async with console("client", section="connect") as c:
        await c.press("x")
        assert "Forget “Pixel 8”?" in c.text
        await c.press("y")
        assert called(c, "forget") == [{"id": "SHA256:9f2c 41d7 aa03 5be8"}]
        assert "Pixel 8 is forgotten." in c.told


async def test_gateway_actions_are_not_there(console: OpenConsole) -> None:
    async with console("client") as c:
        await c.press("a", "d", "s", "p")
        assert c.client.calls == []
        assert c.app.section == "tunnel"


async def test_switch_between_the_services(console: OpenConsole) -> None:
    async with console("gateway", both=True) as c:
        await c.press("w")
        assert c.app.role == "client"
        assert "vshp0" in c.text
        await c.press("w")
        assert c.app.role == "gateway"
        assert "Devices" in c.text


async def test_without_a_second_service_there_is_no_switch(console: OpenConsole) -> None:
    async with console("gateway") as c:
        await c.press("w")
        assert c.app.role == "gateway"

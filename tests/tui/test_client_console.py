"""The client's console: state, code, connect, forget, and changing the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from control import schema
from reach.cable import LACKS, Phone, PhoneState, advice
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


@pytest.mark.parametrize(
    ("key", "call", "state"),
    [("a", ("confirm", {"code": "123456"}), "waiting"), ("d", ("refuse", {}), "failed")],
)
@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
@pytest.mark.parametrize("section", ["tunnel", "log"])
async def test_the_digits_are_answered_with_a_key_in_every_section(
    console: OpenConsole,
    key: str,
    call: tuple[str, dict[str, object]],
    state: str,
    size: tuple[int, int],
    section: str,
) -> None:
    async with console("client", size=size, section=section) as c:
        await c.press(key)
        assert called(c, call[0]) == [], "without digits the key means nothing"
        c.client.status = replace(IDLE_CLIENT, state="asked", code="123456")
        c.client.changed()
        await c.settle()
        assert "compare the digits" in c.text or section == "log"
        if section == "tunnel":
            assert "123 456" in c.text and "a: the same" in c.text
        await c.press(key)
        assert call in c.client.calls
        assert c.client.status.state == state


async def test_connect_by_address(console: OpenConsole) -> None:
    async with console("client", section="connect") as c:
        await c.press("u")
        named = {".": "full_stop", ":": "colon"}
        await c.press(*(named.get(key, key) for key in "10.1.0.1:47800"))
        await c.press("enter")
        assert called(c, "connect") == [{"gateway": "10.1.0.1:47800"}]


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_a_first_run_names_what_can_be_done(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console("client", size=size) as c:
        c.client.status = IDLE_CLIENT
        c.client.changed()
        await c.settle()
        text = " ".join(c.text.replace("│", " ").split())
        assert "Press c to connect to Pixel 8, which you used last." in text
        c.client.gateways = []
        c.client.changed()
        await c.settle()
        text = " ".join(c.text.replace("│", " ").split())
        assert "used last" not in text
        assert "No gateway is known yet: press 2, then n to look for one nearby" in text
        await c.press("2")
        text = " ".join(c.text.split())
        assert "No gateway is known. Press n to look for one nearby; or u, then paste the " \
            "pairing URI that the gateway shows, or type its address or name." in text  # fmt: skip


NEAR = schema.NearbyGateway(
    "router", "10.1.0.1:47800", "", "ab:cd", "hotspot", known=False, advice=""
)
HEARD = schema.NearbyGateway(
    "announced", "10.1.0.9:47800", "[b]Kitchen[/b]\x1b[31m", "12:34", "lan", False, ""
)
BARRED = schema.NearbyGateway("cable", "usb:X1", "Pixel", "", "usb", False, "Unlock the phone.")


@pytest.mark.parametrize("size", [(45, 24), (80, 24)])
async def test_what_is_near_is_looked_for_and_chosen(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console("client", size=size, section="connect") as c:
        c.client.nearby = schema.Nearby([NEAR, HEARD, BARRED], "")
        await c.press("n")
        await until(c, lambda: "Connect to" in c.text)
        assert "the hotspot" in c.text, c.text
        assert "[b]Kitchen[/b]" in c.text and "\x1b" not in c.text
        assert "Unlock the phone." in c.told and "usb:X1" not in c.text
        assert called(c, "connect") == []
        await c.press("down", "enter")
        await until(c, lambda: called(c, "connect") != [])
        assert called(c, "connect") == [{"gateway": "10.1.0.9:47800"}]


async def until(c: Console, condition: Callable[[], bool]) -> None:
    """Until a worker of the console is so far."""
    async with asyncio.timeout(20):
        while not condition():
            await c.settle()


async def test_where_nothing_is_near_the_console_says_what_helps(console: OpenConsole) -> None:
    async with console("client", section="connect") as c:
        c.client.nearby = schema.Nearby([], "mDNS needs the package zeroconf.")
        await c.press("n")
        await until(c, lambda: any("Nothing was found." in t and "zeroconf" in t for t in c.told))
        assert called(c, "connect") == []


async def test_failure_shows_its_reason(console: OpenConsole) -> None:
    async with console("client") as c:
        c.client.status = replace(
            IDLE_CLIENT, state="failed", reason="The pairing code has expired: make a new one."
        )
        c.client.changed()
        await c.settle()
        assert "The pairing code has expired" in c.text
        assert "c Connect" in c.text


PHONES = (
    Phone("R58M123", PhoneState.NOT_ALLOWED),
    Phone("R58M123", PhoneState.HELD, "", "adb (pid 4711)"),
    Phone("R58M123", PhoneState.NO_RIGHT),
    Phone("R58M123", PhoneState.DEBUGGING_OFF),
    Phone("R58M123", PhoneState.OFFLINE),
    Phone("R58M123", PhoneState.UNSUPPORTED),
)


async def test_what_keeps_a_phone_on_usb_from_being_used_is_shown_whole(
    console: OpenConsole,
) -> None:
    """The rule to write, who holds the phone, what to press: to the last word, on a phone too."""
    sentences = [*(advice(phone) for phone in PHONES), LACKS["phone_absent"]]
    async with console("client", size=(45, 40)) as c:
        for sentence in sentences:
            c.client.status = replace(IDLE_CLIENT, state="failed", reason=sentence)
            c.client.changed()
            await c.settle()
            shown = "".join(c.text.replace("│", " ").replace("┃", " ").split())
            assert "".join(sentence.split()) in shown, c.text


async def test_disconnect_after_a_question_and_connect_to_the_last(console: OpenConsole) -> None:
    async with console("client") as c:
        await c.press("c")
        assert "Disconnect from “Pixel 8”?" in c.text
        await c.press("n")
        assert called(c, "disconnect") == []
        await c.press("c", "y")
        assert called(c, "disconnect") == [{}]
        assert "idle" in c.text
        await c.press("c")
        assert called(c, "connect") == [{}]
        assert "connecting" in c.text


async def test_an_attempt_is_given_up_without_a_question(console: OpenConsole) -> None:
    """It cuts nobody off."""
    async with console("client") as c:
        c.client.status = replace(IDLE_CLIENT, state="connecting")
        c.client.changed()
        await c.settle()
        await c.press("c")
        assert called(c, "disconnect") == [{}]


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
        c.client.calls.clear()
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

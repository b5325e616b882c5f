"""A device that waits: announced everywhere, answered with one key, never by mistake."""

from __future__ import annotations

from functools import partial

import pytest

from tests.fakes.services import request
from tests.tui.conftest import OpenConsole

SECTIONS = ["overview", "pair", "peers", "flows", "log"]


@pytest.mark.parametrize("section", SECTIONS)
async def test_a_request_is_announced_and_approved_in_every_section(
    console: OpenConsole, section: str
) -> None:
    async with console(section=section) as c:
        c.gateway.waiting.append(request())
        c.gateway.changed("requests")
        await c.settle()
        assert "Living-room TV" in c.text
        assert "483 920" in c.text
        await c.advance(1.0)
        await c.press("a")
        assert ("approve", {"id": "r1"}) in c.gateway.calls
        assert c.gateway.waiting == []
        assert "Living-room TV is approved." in c.told


async def test_deny(console: OpenConsole) -> None:
    async with console() as c:
        c.gateway.waiting.append(request())
        c.gateway.changed("requests")
        await c.settle()
        await c.press("d")
        assert ("deny", {"id": "r1"}) in c.gateway.calls
        assert "Living-room TV is denied." in c.told


@pytest.mark.parametrize(
    ("section", "size"),
    [
        *((section, (80, 24)) for section in (*SECTIONS, "settings")),
        ("peers", (45, 24)),
        ("peers", (120, 40)),
    ],
)
async def test_a_denial_is_taken_back(
    console: OpenConsole, section: str, size: tuple[int, int]
) -> None:
    """Also where the key has a meaning of the section's own."""
    async with console(section=section, size=size) as c:
        c.gateway.waiting += [request(), request("r2", "App", None, "wireguard")]
        c.gateway.changed("requests")
        await c.settle()
        await c.press("d")
        assert "Living-room TV" in c.text and "u takes it back (20s)" in c.text
        assert "Living-room TV is denied." in c.told and ("TV is denied." in c.text or size[0] < 80)
        await c.press("u")
        assert c.gateway.calls[-1] == ("undeny", {"id": "r1"})
        assert "Living-room TV may ask again." in c.told and c.gateway.denied == []
        assert "takes it back" not in c.text
        # The config of a WireGuard app cannot be had back.
        await c.press("d")
        assert c.gateway.denied[-1].id == "r2"
        assert "takes it back" not in c.text


async def test_what_can_be_taken_back_can_be_for_a_while_only(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        c.gateway.leases = []
        c.gateway.changed()
        await c.settle()
        await c.press("s")
        assert "Sharing is off.  u takes it back (20s)" in c.text and "u Undo" in c.text
        await c.press("slash", "u")
        assert c.gateway.status.sharing == "off", "a letter that is typed is no key"
        await c.press("escape")
        await c.advance(15.0)
        assert "u takes it back (5s)" in c.text
        await c.press("u")
        assert c.gateway.status.sharing == "on"
        await c.press("s")
        await c.advance(20.0)
        assert "takes it back" not in c.text and "u Undo" not in c.text
        await c.press("u")
        assert c.gateway.status.sharing == "off"


async def test_a_denial_that_was_refused_offers_nothing(console: OpenConsole) -> None:
    async with console() as c:
        c.gateway.waiting.append(request())
        c.gateway.changed("requests")
        await c.settle()
        c.gateway.waiting.clear()
        await c.press("d")
        assert "takes it back" not in c.text


async def test_a_request_that_came_this_instant_is_not_approved(console: OpenConsole) -> None:
    """The key may have been meant for what was on the screen before."""
    async with console() as c:
        c.gateway.waiting.append(request())
        c.gateway.changed("requests")
        await c.settle()
        await c.press("a")
        assert [call for call in c.gateway.calls if call[0] == "approve"] == []
        await c.advance(0.6)
        await c.press("a")
        assert ("approve", {"id": "r1"}) in c.gateway.calls


async def test_the_next_request_must_be_shown_before_it_can_be_approved(
    console: OpenConsole,
) -> None:
    async with console() as c:
        c.gateway.waiting += [request(), request("r2", "Stranger", "111222")]
        c.gateway.changed("requests")
        await c.settle()
        await c.advance(5.0)
        await c.press("a", "a")
        approved = [call[1]["id"] for call in c.gateway.calls if call[0] == "approve"]
        assert approved == ["r1"]
        assert "Stranger" in c.text


async def test_the_cursor_in_the_list_chooses_whom_the_keys_mean(console: OpenConsole) -> None:
    async with console(section="pair") as c:
        c.gateway.waiting += [request(), request("r2", "Tablet 2", "111222")]
        c.gateway.changed("requests")
        await c.settle()
        await c.press("down")
        assert "Tablet 2 (linux) wants to join" in c.text
        await c.advance(1.0)
        await c.press("a")
        assert ("approve", {"id": "r2"}) in c.gateway.calls


async def test_a_new_request_does_not_push_out_the_one_that_is_shown(
    console: OpenConsole,
) -> None:
    async with console() as c:
        c.gateway.waiting.append(request())
        c.gateway.changed("requests")
        await c.settle()
        c.gateway.waiting.insert(0, request("r0", "Pushy", "000000"))
        c.gateway.changed("requests")
        await c.settle()
        assert "Living-room TV" in c.text
        assert "+1" in c.text
        await c.advance(1.0)
        await c.press("a")
        assert ("approve", {"id": "r1"}) in c.gateway.calls


async def test_the_bell_rings_once_for_a_device_and_can_be_silenced(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bell, rung in ((True, 1), (False, 0)):
        async with console(bell=bell) as c:
            rings: list[bool] = []
            monkeypatch.setattr(c.app, "bell", partial(rings.append, True))
            c.gateway.waiting = [request()]
            c.gateway.changed("requests")
            await c.settle()
            c.gateway.changed("requests")
            await c.settle()
            assert len(rings) == rung


async def test_the_countdown_moves_without_news(console: OpenConsole) -> None:
    async with console() as c:
        c.gateway.waiting.append(request())
        c.gateway.changed("requests")
        await c.settle()
        assert "1:57" in c.text
        await c.advance(30.0)
        assert "1:27" in c.text


async def test_letters_typed_into_a_field_approve_nobody(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        c.gateway.waiting.append(request())
        c.gateway.changed("requests")
        await c.settle()
        await c.advance(1.0)
        await c.press("slash", "a", "d")
        assert [call for call in c.gateway.calls if call[0] in ("approve", "deny")] == []


async def test_a_refusal_of_the_service_is_told(console: OpenConsole) -> None:
    async with console() as c:
        c.gateway.waiting.append(request())
        c.gateway.changed("requests")
        await c.settle()
        await c.advance(1.0)
        c.gateway.waiting.clear()
        await c.press("a")
        assert any("No request r1 is waiting" in message for message in c.told)

"""What a device may do: a template while approving, and a device's rules, by the console."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from control.errors import Code, ControlError
from tests.fakes.services import WALL, PretendGateway, request
from tests.tui.conftest import OpenConsole
from tui.screens.dialog import Choices
from tui.screens.edit import ChoiceScreen, EditScreen
from tui.screens.peers import PeersScreen
from tui.screens.rules import change_of

SIZES = [(45, 24), (80, 24), (120, 40)]


@pytest.mark.parametrize("size", SIZES)
async def test_a_device_is_approved_with_a_template(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(section="flows", size=size) as c:
        c.gateway.waiting.append(request())
        c.gateway.changed("requests")
        await c.settle()
        await c.press("A")
        assert not isinstance(c.app.screen, ChoiceScreen), "it has not been seen for long enough"
        await c.advance(1.0)
        assert ("A with rules" in c.text) == (size[0] >= 80)
        await c.press("A")
        assert "guest" in c.text and "2GB/day" in c.text and "Living-room TV" in c.text
        await c.press("escape")
        assert c.gateway.waiting != []
        await c.press("A", "j", "enter")
        assert ("approve", {"id": "r1", "template": "guest"}) in c.gateway.calls
        assert c.gateway.waiting == [] and c.gateway.peers[-1].rules.startswith("2GB/day; until")
        assert "Living-room TV is approved with the rules guest." in c.told


@pytest.mark.parametrize("size", SIZES)
async def test_each_template_has_a_line(console: OpenConsole, size: tuple[int, int]) -> None:
    line = "2GB/day; up 5mbit; down 20mbit; for 1d; deny tcp 25; deny udp 53; deny local"
    async with console(section="peers", size=size) as c:
        c.gateway.templates = [replace(each, line=line) for each in c.gateway.templates]
        await c.press("l")
        options = c.app.screen.query_one(Choices)
        assert options.option_count == 2 + len(c.gateway.templates) == options.region.height
        (shown,) = (text for text in c.text.splitlines() if " guest " in text)
        assert "2GB/day; up" in shown and "…" in shown


async def test_where_no_template_can_be_used_that_is_said(console: OpenConsole) -> None:
    async with console() as c:
        why = "Quotas are not carried out by this gateway, so it takes none."
        c.gateway.templates = [replace(each, reason=why) for each in c.gateway.templates]
        c.gateway.waiting.append(request())
        c.gateway.changed("requests")
        await c.settle()
        await c.advance(1.0)
        await c.press("A")
        assert any(why in text for text in c.told) and c.gateway.waiting != []
        c.gateway.errors["templates"] = ControlError(Code.FAILED, "The list is away.")
        await c.press("A")
        assert "The list is away." in c.told


@pytest.mark.parametrize("size", SIZES)
async def test_a_device_is_paused_limited_and_freed(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(section="peers", size=size) as c:
        row = cast(PeersScreen, c.app.screen).current
        assert row is not None
        id = row.peer.id
        await c.press("l")
        assert "Pause" in c.text and "Write one" in c.text and "No rules" not in c.text
        await c.press("enter")
        assert c.gateway.calls[-1] == ("set_rules", {"id": id, "change": {"paused": True}})
        assert c.gateway.rules[id].paused and "Rules" in c.text and "paused" in c.text
        await c.press("l", "enter")
        assert not c.gateway.rules[id].paused
        await c.press("l", "j", "enter")
        assert isinstance(c.app.screen, EditScreen)
        await c.press(*"quota 0GB", "enter")
        assert isinstance(c.app.screen, EditScreen) and "nothing" in c.text
        await c.press("backspace", "backspace", "backspace", *"1GB/day", "enter")
        assert not isinstance(c.app.screen, EditScreen)
        assert c.gateway.rules[id].quota is not None and "1GB/day" in c.text
        await c.press("l", "end", "enter")
        assert c.gateway.calls[-1] == ("set_rules", {"id": id, "clear": True})
        assert all(peer.rules == "" for peer in c.gateway.peers)


async def test_a_device_is_given_a_template(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        row = cast(PeersScreen, c.app.screen).current
        assert row is not None
        id = row.peer.id
        await c.press("l", "j", "j", "j", "enter")
        assert c.gateway.calls[-1] == ("set_rules", {"id": id, "template": "guest"})
        assert c.gateway.rules[id].until == WALL + 86400


async def test_who_may_only_look_is_asked_nothing(
    console: OpenConsole, gateway: PretendGateway
) -> None:
    gateway.read_only = True
    gateway.waiting.append(request())
    async with console(section="peers") as c:
        await c.advance(1.0)
        await c.press("A")
        await c.press("l")
        assert not isinstance(c.app.screen, ChoiceScreen)


def test_a_typed_rule_is_a_change() -> None:
    there = ["deny udp"]
    assert change_of("quota 1GB/day", there) == {"quota": "1GB/day"}
    assert change_of("Down  20mbit", there) == {"limit_down": "20mbit"}
    assert change_of("hours mon-fri 07:00-21:00", there) == {"hours": "mon-fri 07:00-21:00"}
    assert change_of("for none", there) == {"until": None}
    assert change_of("flows none", there) == {"max_flows": None}
    assert change_of("deny tcp 25", there) == {"destinations": ["deny tcp 25", "deny udp"]}
    assert change_of("allow none", there) == {"destinations": []}
    for wrong in ("", "quota", "speed 1mbit", "1GB"):
        assert change_of(wrong, there) is None

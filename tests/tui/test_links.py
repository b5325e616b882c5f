"""The client's links: endpoints raced, past links, the kill switch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control import schema
from tests.fakes.services import IDLE_CLIENT, LINKS, WALL
from tests.tui.conftest import OpenConsole
from tui.screens.links import LinksScreen, took

HOSTILE = "\x1b[31mevil\u202e[bold]" + "A" * 10_000


async def test_outcomes_and_links_are_shown(console: OpenConsole) -> None:
    async with console("client", size=(120, 40), section="links") as c:
        for words in ("6 endpoints", "4 links", "1 broken", "● in use", "slower", "▲ timed out",
                      "✗ refused", "✗ unreachable", "not needed", "hotspot", "10.0 s",
                      "device offline", "resumed", "41.0s", "Cabin router",
                      "The connection to the gateway broke."):  # fmt: skip
            assert words in c.text, words


@pytest.mark.parametrize("width", [45, 80, 120])
async def test_every_width_shows_endpoint_outcome_and_end(console: OpenConsole, width: int) -> None:
    async with console("client", size=(width, 24), section="links") as c:
        for words in ("192.168.43.1", "● in use", "✗ refused", "Ended"):
            assert words in c.text


async def test_enter_shows_the_whole_link(console: OpenConsole) -> None:
    async with console("client", section="links") as c:
        await c.press("down", "down", "enter")
        assert "Link 2" in c.text
        assert "41.0 s without a link, 3 attempts that failed" in c.text
        await c.press("escape")
        assert "Link 2" not in c.text


async def test_l_goes_to_the_endpoints_and_enter_shows_one(console: OpenConsole) -> None:
    async with console("client", section="links") as c:
        screen = c.app.screen
        assert isinstance(screen, LinksScreen)
        await c.press("l")
        assert screen.focused is screen.endpoints
        await c.press("down", "down", "down", "enter")
        assert "no answer within 10 s" in c.text and "10.64.0.9:47800" in c.text
        await c.press("escape", "l")
        assert screen.focused is screen.history


async def test_what_the_section_shows_is_watched(console: OpenConsole) -> None:
    async with console("client", section="links") as c:
        assert set(c.client.asked[-1]) == {"status", "events", "endpoints", "history"}


async def test_news_moves_both_lists(console: OpenConsole) -> None:
    async with console("client", section="links") as c:
        c.client.links = [replace(LINKS[0], id=5, began_at=WALL), *LINKS]
        c.client.endpoints = [replace(c.client.endpoints[0], outcome="won", in_use=True)]
        c.client.changed()
        await c.settle()
        assert "1 endpoint  5 links" in c.text


async def test_nothing_yet(console: OpenConsole) -> None:
    async with console("client", section="links") as c:
        c.client.endpoints, c.client.links = [], []
        c.client.changed()
        await c.settle()
        assert "No endpoint was tried yet. Press 2 to connect." in c.text
        assert "There was no link yet. Press 2 to connect." in c.text
        await c.press("enter")
        assert isinstance(c.app.screen, LinksScreen), "nothing to show"


async def test_a_hostile_reason_stays_in_its_cell(console: OpenConsole) -> None:
    async with console("client", size=(80, 24), section="links") as c:
        before = c.text.splitlines()
        c.client.endpoints[0] = replace(c.client.endpoints[0], reason=HOSTILE)
        c.client.links[1] = replace(c.client.links[1], sentence=HOSTILE, gateway=HOSTILE)
        c.client.changed()
        await c.settle()
        after = c.text.splitlines()
        assert "\x1b" not in c.text and "\u202e" not in c.text
        changed = [number for number, pair in enumerate(zip(before, after, strict=True))
                   if pair[0] != pair[1]]  # fmt: skip
        assert len(changed) == 2
        assert all(len(line) == 80 for line in after)


async def test_the_kill_switch_in_words(console: OpenConsole) -> None:
    async with console("client", size=(120, 40)) as c:
        assert "● armed  for 12m11s" in c.text
        assert "ip -4 rule pref 32765 not fwmark 51830 table 51830" in c.text
        c.client.status = replace(
            c.client.status,
            state="reconnecting",
            kill_switch=replace(
                c.client.status.kill_switch, state="holding", since_at=WALL - 5, strict=True
            ),
        )
        c.client.changed()
        await c.settle()
        assert "▲ holding: nothing leaves  for 5s" in c.text
        assert "routes and firewall" in c.text
        refused = replace(
            c.client.status.kill_switch,
            opened_by="vpnshare disconnect", open_on_failure=True, beside=["eth0 192.0.2.0/24"],
        )  # fmt: skip
        c.client.status = replace(c.client.status, state="failed", kill_switch=refused)
        c.client.changed()
        await c.settle()
        assert "opens on failure" in c.text
        assert "vpnshare disconnect" in c.text
        assert "1: eth0 192.0.2.0/24" in c.text
        c.client.status = replace(
            c.client.status, outlet="proxy", interface=None, proxy="127.0.0.1:1080",
            kill_switch=schema.KillSwitch(),
        )  # fmt: skip
        c.client.changed()
        await c.settle()
        assert "127.0.0.1:1080" in c.text
        assert "Does not apply." in c.text and "nothing is in force" not in c.text
        c.client.status = replace(IDLE_CLIENT, kill_switch=schema.KillSwitch())
        c.client.changed()
        await c.settle()
        assert "○ off  nothing is in force" in c.text


def test_the_time_an_attempt_took() -> None:
    assert (took(None), took(0.0061), took(1.234)) == ("", "6 ms", "1.2 s")

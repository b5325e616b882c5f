"""Pairing: the code on the screen can be scanned, is fresh, and goes when it is spent."""

from __future__ import annotations

import base64
import random
from dataclasses import replace
from pathlib import Path

import pytest

from control import schema
from control.errors import Code, ControlError
from control.pictures import BORDER
from tests.fakes.services import URI, peer, request
from tests.tui.conftest import OpenConsole
from tests.tui.pictures import read_qr, to_png
from tui.widgets.qr import QrCode, cells, matrix

_ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ$%*+-./:"
LONGEST = "VSHP:" + "".join(random.Random(6).choices(_ALPHANUMERIC, k=190))
"""A URI that needs version 6, the largest that fits a phone."""


@pytest.mark.parametrize(
    ("size", "theme", "uri"),
    [
        ((45, 24), "dark", LONGEST),
        ((45, 24), "light", URI),
        ((80, 24), "light", LONGEST),
        ((120, 40), "mono", URI),
    ],
)
async def test_a_camera_reads_the_uri_off_the_screen(
    console: OpenConsole, tmp_path: Path, size: tuple[int, int], theme: str, uri: str
) -> None:
    async with console(section="peers", size=size, theme=theme) as c:
        c.gateway.uri = uri
        await c.press("p")
        picture = tmp_path / "screen.png"
        to_png(c.app.export_screenshot(), picture)
        assert read_qr(picture) == uri


async def test_a_camera_reads_it_without_colour(
    console: OpenConsole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with console(section="pair", size=(45, 24)) as c:
        assert c.app.no_color
        picture = tmp_path / "screen.png"
        to_png(c.app.export_screenshot(), picture)
        assert read_qr(picture) == URI


def test_the_code_has_a_light_border() -> None:
    rows = matrix(URI)
    edge = [*rows[:BORDER], *rows[-BORDER:]]
    assert not any(any(row) for row in edge)
    assert not any(any(row[:BORDER]) or any(row[-BORDER:]) for row in rows)


def test_the_longest_uri_fits_a_phone() -> None:
    assert cells(LONGEST) == (45, 23)


async def test_the_largest_code_has_the_screen_but_one_line(console: OpenConsole) -> None:
    async with console(section="peers", size=(45, 24)) as c:
        c.gateway.uri = LONGEST
        await c.press("p")
        assert c.app.screen.query_one(QrCode).size == (45, 23)
        lines = c.text.splitlines()
        assert len(lines) == 24
        assert lines[-1].startswith(" 2:00  y copy")


async def test_a_request_takes_the_place_of_a_code_that_fills_the_screen(
    console: OpenConsole,
) -> None:
    async with console(section="peers", size=(45, 24)) as c:
        c.gateway.uri = LONGEST
        await c.press("p")
        c.gateway.waiting.append(request())
        c.gateway.changed("requests")
        await c.settle()
        assert "483 920" in c.text
        assert c.app.screen.query_one(QrCode).size.width == 0
        await c.advance(1.0)
        await c.press("a")
        assert c.app.screen.query_one(QrCode).size == (45, 23)


async def test_a_terminal_too_small_for_the_code_shows_the_text(console: OpenConsole) -> None:
    async with console(section="pair", size=(40, 15)) as c:
        assert c.app.screen.query_one(QrCode).size.width == 0
        assert "vpnshare join" in c.text


@pytest.mark.parametrize(("size", "said"), [((45, 24), "no network"), ((120, 40), "hotspot")])
async def test_a_gateway_on_no_network_says_so_beside_the_code(
    console: OpenConsole, size: tuple[int, int], said: str
) -> None:
    async with console(section="peers", size=size) as c:
        c.gateway.pair_note = "This device is on no network: turn on its hotspot."
        c.gateway.uri = LONGEST
        await c.press("p")
        assert said in c.text


async def test_the_offer_is_renewed_when_it_runs_out(console: OpenConsole) -> None:
    async with console(section="pair") as c:
        assert c.gateway.offers == 1
        assert "2:00" in c.text
        await c.advance(60.0)
        assert "1:00" in c.text
        assert c.gateway.offers == 1
        await c.advance(60.5)
        assert c.gateway.offers == 2
        assert "2:00" in c.text


async def test_no_offer_is_made_while_the_section_is_not_on_the_screen(
    console: OpenConsole,
) -> None:
    async with console(section="pair") as c:
        await c.press("1")
        await c.advance(500.0)
        assert c.gateway.offers == 1
        await c.press("2")
        assert c.gateway.offers == 2


async def test_a_spent_code_is_not_shown_but_who_has_used_it(console: OpenConsole) -> None:
    async with console(section="pair") as c:
        assert set(c.gateway.asked[-1]) == {"status", "requests", "events", "offers"}
        c.gateway.waiting.append(request(label="Tablet 2", code=None, via="qr"))
        c.gateway.changed("requests")
        await c.settle()
        assert c.app.screen.query_one(QrCode).size.width > 0, "perhaps it came by another code"
        c.gateway.use_offer("Tablet 2")
        await c.settle()
        assert "used by Tablet 2" in c.text
        assert c.app.screen.query_one(QrCode).size.width == 0
        await c.advance(300.0)
        assert c.gateway.offers == 1
        await c.press("n")
        assert c.gateway.offers == 2
        assert "used by" not in c.text


async def test_anothers_code_that_is_used_changes_nothing_here(console: OpenConsole) -> None:
    async with console(section="pair") as c:
        c.gateway.offer_states.insert(0, schema.OfferState("other", "open", 0.0))
        c.gateway.use_offer("Tablet 2")
        c.gateway.peers.append(peer("p9", "New", "linux", connected=True))
        c.gateway.changed()
        await c.settle()
        assert "used by" not in c.text
        assert c.app.screen.query_one(QrCode).size == cells(URI)


async def test_a_hostile_label_of_who_used_it(console: OpenConsole) -> None:
    async with console(section="pair") as c:
        c.gateway.use_offer("\x1b[2J\u202e" + "A" * 10_000)
        await c.settle()
        assert "used by AAAA" in c.text or "used by [2JAAA" in c.text
        assert "\x1b" not in c.text and "\u202e" not in c.text
        c.gateway.use_offer("\u200b")
        await c.press("n")
        c.gateway.use_offer("\u200b")
        await c.settle()
        assert "used by a device without a name" in c.text


async def test_copy_by_osc_52(console: OpenConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    async with console(section="pair") as c:
        written: list[str] = []
        monkeypatch.setattr(c.app._driver, "write", written.append)
        await c.press("y")
        wanted = base64.b64encode(URI.encode()).decode()
        assert f"\x1b]52;c;{wanted}\a" in written


async def test_text_and_code_change_places_on_a_phone(console: OpenConsole) -> None:
    async with console(section="pair", size=(45, 24)) as c:
        assert URI[:20] not in c.text
        await c.press("space")
        assert URI[:20] in c.text
        assert "SHA256:9f2c 41d7" in c.text
        await c.press("space")
        assert URI[:20] not in c.text


async def test_a_refused_offer_says_why(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        c.gateway.errors["pair"] = ControlError(Code.FAILED, "No address to offer.", "Give one.")
        await c.press("p")
        assert "No address to offer. Give one." in c.text
        await c.press("n")
        assert c.gateway.offers == 1
        assert "renews by itself" in c.text


async def test_the_console_can_open_with_the_code(console: OpenConsole) -> None:
    async with console(section="pair", size=(45, 24)) as c:
        assert c.app.screen.query_one(QrCode).size == cells(URI)


async def test_no_vpn_does_not_hinder_pairing(console: OpenConsole) -> None:
    async with console(section="pair") as c:
        c.gateway.status = replace(c.gateway.status, sharing="unavailable")
        c.gateway.changed()
        await c.settle()
        assert c.app.screen.query_one(QrCode).size == cells(URI)

"""Without colour nothing has one but a QR code, and what is chosen is in reverse video."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.style import Style
from textual.geometry import Region

from tests.fakes.services import request
from tests.tui.conftest import Console, OpenConsole
from tui.app import ConsoleApp
from tui.screens.sections import SCREENS
from tui.widgets.qr import QrCode
from tui.widgets.table import RowTable

WAYS = ("NO_COLOR", "mono")


def options(way: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    if way == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
        return {}
    return {"theme": way}


def styles(c: Console) -> Iterator[tuple[int, int, str, Style]]:
    """Every cell of the screen: column, row, character, style."""
    strips = c.app.screen._compositor.render_strips(c.app.size)
    for y, strip in enumerate(strips):
        x = 0
        for segment in strip:
            for character in segment.text:
                yield x, y, character, segment.style or Style.null()
                x += 1


def coloured(c: Console) -> list[tuple[int, int, str]]:
    """The cells with a colour that no code needs."""
    codes = [code.region for code in c.app.screen.query(QrCode)]
    return [
        (x, y, character)
        for x, y, character, style in styles(c)
        if (style.color is not None or style.bgcolor is not None)
        and not any(code.contains(x, y) for code in codes)
    ]


def reversed_in(c: Console, region: Region) -> set[bool]:
    return {bool(style.reverse) for x, y, _, style in styles(c) if region.contains(x, y)}


@pytest.mark.parametrize(("role", "section"), list(SCREENS))
@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_no_section_has_a_colour(
    console: OpenConsole,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    section: str,
    size: tuple[int, int],
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with console(role, section=section, size=size) as c:
        c.gateway.waiting = [request()]
        c.gateway.changed("requests")
        await c.settle()
        assert coloured(c) == []


@pytest.mark.parametrize("theme", ["dark", "light", "high-contrast", "mono"])
async def test_the_row_under_the_cursor_is_reversed_and_no_other(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch, theme: str
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with console(section="peers", theme=theme) as c:
        await c.press("down")
        table = c.app.screen.query_one(RowTable)
        x, y, width, height = table.region
        assert reversed_in(c, Region(x, y + 2, width, 1)) == {True}
        assert reversed_in(c, Region(x, y, width, 2)) == {False}
        assert reversed_in(c, Region(x, y + 3, width, height - 3)) == {False}


@pytest.mark.parametrize("way", WAYS)
async def test_questions_lists_and_messages_have_none(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    async with console(section="peers", messages=True, **options(way, monkeypatch)) as c:
        for keys in (("x",), ("question_mark",), ("t",), ("colon",), ("slash", "w"), ("y",)):
            await c.press(*keys)
            assert coloured(c) == [], keys
            await c.press("escape")


async def test_the_choice_in_a_question_is_seen(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with console(section="peers") as c:
        await c.press("x")
        no, yes = (c.app.screen.query_one(name) for name in ("#no", "#yes"))

        def word(of: Region) -> bool:
            """Whether the button's text is in reverse video."""
            return {
                bool(style.reverse)
                for x, y, character, style in styles(c)
                if of.contains(x, y) and character.isalpha()
            } == {True}

        assert (word(no.region), word(yes.region)) == (True, False)
        await c.press("right")
        assert (word(no.region), word(yes.region)) == (False, True)


async def test_colours_come_and_go_with_the_theme(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        assert coloured(c) != []
        c.app.keep_theme("mono")
        await c.settle()
        assert coloured(c) == []
        c.app.keep_theme("dark")
        await c.settle()
        assert coloured(c) != []


async def test_the_mouse_still_finds_what_it_points_at(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with console(section="flows") as c:
        assert isinstance(c.app, ConsoleApp)
        found = {
            action
            for *_, style in styles(c)
            if (action := style.meta.get("@mouse.down")) is not None
        }
        assert "grab" in found  # the scroll bar

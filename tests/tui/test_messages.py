"""Messages do not stand on what keys mean, nor on a code."""

from __future__ import annotations

import pytest
from textual.notifications import SeverityLevel
from textual.widgets._toast import Toast

from tests.tui.conftest import Console, OpenConsole
from tui.messages import needed
from tui.widgets.bars import KeyBar, TopBar
from tui.widgets.qr import QrCode
from tui.widgets.table import RowTable

SIZES = [(45, 24), (80, 24), (120, 40)]
LONG = (
    "The service does not know this setting. It is of another version: restart it with the "
    "command that started it, or look into the log for the reason. " * 2
).strip()


async def tell(
    c: Console, text: str = "It is done.", severity: SeverityLevel = "information"
) -> None:
    c.app.tell(text, severity)
    await c.settle()


def toasts(c: Console) -> list[Toast]:
    return list(c.app.screen.query(Toast))


def covered(c: Console) -> int:
    """Cells in use that are under a message: of codes, and of the row under the cursor."""
    used = [code.region for code in c.app.screen.query(QrCode)]
    used += [table.cursor_region for table in c.app.screen.query(RowTable) if table.has_focus]
    return sum(toast.region.intersection(region).area for toast in toasts(c) for region in used)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("section", "text"),
    [("settings", "It is done.")]
    + [(section, LONG) for section in ("peers", "flows", "settings", "doctor", "log")],
    ids=lambda value: value if len(value) < 10 else "long" if value == LONG else "short",
)
async def test_the_row_under_the_cursor_is_seen_wherever_it_is(
    console: OpenConsole, size: tuple[int, int], section: str, text: str
) -> None:
    async with console(section=section, size=size, messages=True) as c:
        table = c.app.screen.query_one(RowTable)
        await tell(c, text, "error")
        for key in ("home", "down", "down", "pagedown", "end", "up", "pageup"):
            await c.press(key)
            (toast,) = toasts(c)
            assert toast.region.area and c.app.screen.region.contains_region(toast.region)
            assert covered(c) == 0, (key, toast.region, table.cursor_region)
            for bar in (TopBar, KeyBar):
                assert not toast.region.overlaps(c.app.screen.query_one(bar).region)


@pytest.mark.parametrize("size", SIZES)
async def test_it_takes_no_more_lines_than_its_words(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(section="settings", size=size, messages=True) as c:
        await tell(c)
        assert [toast.region.height for toast in toasts(c)] == [1]
        await tell(c, LONG, "warning")
        heights = [toast.region.height for toast in toasts(c)]
        assert sum(heights) == needed(c.told, size[0], c.app.console).height
        assert covered(c) == 0
        text = " ".join(c.text.split())
        assert "It is done." in text


async def test_a_message_of_a_question_stands_beside_the_cursor_of_the_list(
    console: OpenConsole,
) -> None:
    async with console(section="settings", messages=True) as c:
        await c.press("end")
        await c.press("e", "escape")
        await tell(c)
        assert covered(c) == 0
        c.app.open_section("peers")
        await c.settle()
        assert len(toasts(c)) == 1 and covered(c) == 0


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_code_stays_readable(console: OpenConsole, size: tuple[int, int]) -> None:
    async with console(section="pair", size=size, messages=True) as c:
        assert c.app.screen.query_one(QrCode).region.area
        await c.press("y")
        assert len(toasts(c)) == 1 and covered(c) == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("key", ["l", "?", "ctrl+backslash"])
async def test_it_is_there_once_whatever_stands_in_front(
    console: OpenConsole, size: tuple[int, int], key: str
) -> None:
    async with console(section="peers", size=size, messages=True) as c:
        section = c.app.screen
        await tell(c)
        await c.press(key)
        assert c.app.screen is not section
        for each in (*SIZES, size):
            await c.pilot.resize_terminal(*each)
            await c.settle()
            assert c.text.count("It is done.") == 1, each
        await tell(c, "And this.")
        assert (c.text.count("It is done."), c.text.count("And this.")) == (1, 1)
        await c.press("escape")
        assert c.app.screen is section and covered(c) == 0
        assert (c.text.count("It is done."), c.text.count("And this.")) == (1, 1)


async def test_a_dialog_that_opens_takes_the_messages_at_once(console: OpenConsole) -> None:
    async with console(section="peers", messages=True) as c:
        await tell(c)
        await c.press("x")
        (toast,) = toasts(c)
        dialog = c.app.screen.query_one(".dialog")
        assert not toast.region.overlaps(dialog.region) and toast.region.area

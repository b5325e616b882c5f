"""Dialogs: the first answer counts, there may be no room, and what nobody foresaw is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from textual.widgets import Button

from tests.tui.conftest import OpenConsole
from tui.screens.dialog import Choices, Palette
from tui.screens.modals import ConfirmScreen, HelpScreen, ThemeScreen

FAILING = """
import sys
from cli.running import open_console
from tui.app import ConsoleApp
def fail(self):
    raise KeyError("no such luck")
ConsoleApp.action_help_open = fail
sys.exit(open_console(["gateway"]))
"""


async def test_the_first_answer_counts(console: OpenConsole) -> None:
    answers: list[bool | None] = []
    async with console() as c:
        await c.press("4")
        section = c.app.screen
        c.app.push_screen(ConfirmScreen("Sure?", "It cannot be undone.", "Do it"), answers.append)
        await c.settle()
        dialog = c.app.screen
        assert isinstance(dialog, ConfirmScreen)
        # A key and a click in one packet: the second comes before the first has its effect.
        dialog.action_answer(True)
        dialog._pressed(Button.Pressed(dialog.query_one("#no", Button)))
        await c.settle()
        assert answers == [True]
        assert c.app.screen is section
        assert c.app.is_running


@pytest.mark.parametrize("key", ["?", "t", "p", "ctrl+backslash"])
async def test_every_screen_knows_how_much_room_there_is(console: OpenConsole, key: str) -> None:
    """Those that stand in front, too: on a phone, lines and cells are for what they say."""
    async with console(size=(45, 24)) as c:
        await c.press(key)
        for size, room in (
            ((45, 24), {"-narrow", "-short"}),
            ((80, 24), {"-normal", "-short"}),
            ((120, 40), {"-wide", "-tall"}),
            ((45, 24), {"-narrow", "-short"}),
        ):
            if c.app.size != size:
                await c.pilot.resize_terminal(*size)
                await c.settle()
            known = {"-narrow", "-normal", "-wide", "-short", "-tall"}
            assert c.app.screen.classes & known == room
            for dialog in c.app.screen.query(".dialog"):
                assert dialog.styles.padding == ((0, 1, 0, 1) if size[0] < 72 else (1, 2, 1, 2))


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_q_leaves_a_dialog_and_not_the_console(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(size=size) as c:
        section = c.app.screen
        for key, opened in (("t", ThemeScreen), ("?", HelpScreen)):
            await c.press(key)
            assert isinstance(c.app.screen, opened)
            await c.press("q")
            assert c.app.screen is section and c.app.is_running


async def test_a_choice_and_its_cancelling_in_one_packet(console: OpenConsole) -> None:
    async with console() as c:
        before = c.app.theme
        await c.press("t")
        dialog = c.app.screen
        assert isinstance(dialog, ThemeScreen)
        await c.press("down")
        dialog.query_one(Choices).action_cursor_down()
        dialog.query_one(Choices).action_select()
        dialog.action_cancel()
        await c.settle()
        assert not isinstance(c.app.screen, ThemeScreen)
        assert c.app.theme == before and c.app.is_running


@pytest.mark.parametrize("key", ["pagedown", "pageup"])
@pytest.mark.parametrize("opening", ["ctrl+backslash", "t"])
async def test_a_list_without_room_can_be_left(
    console: OpenConsole, opening: str, key: str
) -> None:
    async with console(size=(20, 3)) as c:
        await c.press(opening)
        assert isinstance(c.app.screen, Palette | ThemeScreen)
        await c.press("down", key, key, "escape")
        assert not isinstance(c.app.screen, Palette | ThemeScreen)
        assert c.app.is_running


def test_what_nobody_foresaw_is_a_sentence_and_a_file(tmp_path: Path) -> None:
    near, far = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", FAILING], stdin=far, stdout=far, stderr=far,
        start_new_session=True, cwd=Path(__file__).parents[2],
        env=os.environ | {"TERM": "xterm-256color", "VPNSHARE_HOME": str(tmp_path / "new")},
    )  # fmt: skip
    os.close(far)
    seen = b""
    pressed = False
    try:
        while data := os.read(near, 65536):
            seen += data
            if not pressed and b"Overview" in seen:
                os.write(near, b"?")
                pressed = True
    except OSError:
        pass  # the end of a terminal that nobody has open
    os.close(near)
    assert process.wait(20) == 1
    said = seen[seen.rindex(b"\x1b[?1049l") :].decode()
    assert "The console failed unexpectedly (KeyError)." in said
    assert "console.crash.log" in said
    assert "Traceback" not in said and "no such luck" not in said
    kept = (tmp_path / "new" / "console.crash.log").read_text()
    assert "Traceback" in kept and "KeyError: 'no such luck'" in kept

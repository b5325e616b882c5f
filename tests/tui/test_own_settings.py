"""An open console follows its settings when somebody else changes them."""

from __future__ import annotations

from pathlib import Path

from services.config import find
from services.console_settings import ConsoleSettings
from services.settings import write
from tests.tui.conftest import OpenConsole

THEME = Path(__file__).parents[2] / "themes" / "mono.toml"


async def test_theme_keys_bell_symbols_and_interval(console: OpenConsole, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    async with console(changes=ConsoleSettings(path).look) as c:
        write(path, find("console.theme"), "light")
        write(path, find("console.ascii"), True)
        assert c.app.theme == "dark"
        await c.advance(1)
        assert c.app.theme == "light"
        assert "● sharing" not in c.text and "* sharing" in c.text
        path.write_text(
            '[console]\nbell = false\nrefresh = 5.0\n[console.keys]\n"help.open" = "h"\n'
        )
        await c.advance(1)
        assert c.app.theme == "dark", "back to the default"
        assert (c.app.settings.bell, c.app.link._interval) == (False, 5.0)
        await c.press("h")
        assert type(c.app.screen).__name__ == "HelpScreen"
        assert c.told == []


async def test_keys_that_clash_are_told_once(console: OpenConsole, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    async with console(changes=ConsoleSettings(path).look) as c:
        path.write_text('[console.keys]\n"help.open" = "t"\n')
        await c.advance(1)
        await c.advance(1)
        assert c.told == ["The key t clashes: theme.pick, help.open."]


async def test_a_theme_that_came_meanwhile(console: OpenConsole, tmp_path: Path) -> None:
    path, themes = tmp_path / "config.toml", tmp_path / "themes"
    themes.mkdir()
    async with console(changes=ConsoleSettings(path).look, themes_dir=themes) as c:
        write(path, find("console.theme"), "night")
        await c.advance(1)
        assert c.app.theme == "dark"
        assert c.told == ["There is no theme 'night'."]
        text = THEME.read_text().replace('name = "mono"', 'name = "night"')
        (themes / "night.toml").write_text(text)
        write(path, find("console.theme"), None)
        await c.advance(1)
        write(path, find("console.theme"), "night")
        await c.advance(1)
        assert c.app.theme == "night"


async def test_a_mistake_in_the_file(console: OpenConsole, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    async with console(changes=ConsoleSettings(path).look) as c:
        path.write_text("[console]\nascii = maybe\n")
        await c.advance(1)
        await c.advance(1)
        assert len(c.told) == 1 and "line 2" in c.told[0]
        assert "● sharing" in c.text

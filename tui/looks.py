"""How the console looks: the themes that there are, and lines without colours or symbols.

Themes are files, and new ones may come while the console is open: they are read anew when
somebody wants to choose one. Lines go through filters last, whoever drew them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from textual.app import App
from textual.filter import LineFilter, Monochrome

from tui import formats, themes
from tui.colourless import Colourless
from tui.plain import AsciiFilter
from tui.screens.modals import ThemeScreen


class Looks:
    """Of one app. `directory`: the user's own themes; `ascii`: no symbols beyond ASCII."""

    def __init__(self, app: App[Any], directory: Path | None, ascii: bool) -> None:
        self._app = app
        self._directory = directory
        self.themes: dict[str, themes.ThemeFile] = {}
        self.glyphs = formats.UNICODE
        self.use_ascii(ascii)
        self._ascii = AsciiFilter()
        self._colourless: dict[str, Colourless] = {}
        """By theme."""

    # Themes

    def start(self, wanted: str) -> list[str]:
        """Begin with a theme, or the default; what is wrong with it and with some files."""
        problems = self._read()
        if wanted not in self.themes:
            problems.append(_no_theme(wanted))
            wanted = themes.DEFAULT_THEME
        self._app.theme = wanted
        return problems

    def use(self, name: str) -> str | None:
        """Switch to a theme, which may be new; why not, if there is none of that name."""
        if name not in self.themes:
            self._read()
        if name not in self.themes:
            return _no_theme(name)
        self._app.theme = name
        return None

    def chooser(self) -> ThemeScreen:
        """All themes to choose from, each tried on as the cursor comes to it."""
        self._read()
        preview = partial(setattr, self._app, "theme")
        return ThemeScreen(list(self.themes.values()), self._app.theme, preview)

    def _read(self) -> list[str]:
        """Take the themes from their files; what is wrong with some."""
        self.themes, problems = themes.load(self._directory)
        self._colourless.clear()
        for theme in self.themes.values():
            self._app.register_theme(theme.to_theme())
        return problems

    # Lines

    def use_ascii(self, ascii: bool) -> None:
        self.glyphs = formats.ASCII if ascii else formats.UNICODE

    @property
    def colourless(self) -> bool:
        """Whether all is drawn in the terminal's own two colours."""
        theme = self.themes.get(self._app.theme)
        return self._app.no_color or (theme is not None and theme.two_colors)

    def filters(self, given: Iterable[LineFilter]) -> list[LineFilter]:
        """What finished lines go through: Textual's filters and ours."""
        filters = [each for each in given if not isinstance(each, Monochrome)]
        if self.colourless:
            theme = self._app.theme
            if theme not in self._colourless:
                self._colourless[theme] = Colourless(self._app.get_css_variables())
            filters.append(self._colourless[theme])
        if self.glyphs is formats.ASCII:
            filters.append(self._ascii)
        return filters


def _no_theme(name: str) -> str:
    return f"There is no theme {formats.clean(name, 32)!r}."

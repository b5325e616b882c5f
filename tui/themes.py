"""Colour themes as data files: read, check, turn into Textual themes.

A theme is a TOML file: `name`, `title`, `dark`, a table `[colors]` with every
colour of `COLORS`, and optionally `[variables]` that override single derived
colours out of `VARIABLES`. With `two_colors = true` it is drawn in the terminal's
own ink and ground (`tui.colourless`). The check is strict, because a misspelt key that is
silently ignored costs its author an evening. A bad file is a `ThemeError` with
a sentence that names the file and the key; the console goes on without it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from textual.color import Color, ColorParseError
from textual.theme import Theme

COLORS = (
    "primary",
    "secondary",
    "accent",
    "foreground",
    "background",
    "surface",
    "panel",
    "success",
    "warning",
    "error",
)
"""Every theme states all of these; nothing is guessed from the others."""

VARIABLES: dict[str, str] = {
    "row-cursor": "background of the row under the cursor in a focused table",
    "row-cursor-text": "text on that row",
    "tab-active": "background of the current section's tab",
    "tab-active-text": "text on that tab",
    "banner": "background of the line that announces a waiting device",
    "banner-text": "text on that line",
    "key": "the letters of keys in the footer and in help",
    "quiet": "secondary text: units, labels, ages",
    "download": "the rate line toward the devices",
    "upload": "the rate line from the devices",
}
"""Colours of the console's own parts; a theme that leaves one out gets a default."""

DEFAULT_THEME = "dark"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_MAX_FILE = 64 * 1024


class ThemeError(Exception):
    """A theme file is unusable; the text says which and why."""


@dataclass(frozen=True, slots=True)
class ThemeFile:
    """A checked theme file."""

    name: str
    title: str
    dark: bool
    colors: dict[str, str]
    variables: dict[str, str] = field(default_factory=dict)
    two_colors: bool = False
    """Its colours only say what is in reverse video; what is seen are the terminal's own two."""

    def to_theme(self) -> Theme:
        """As Textual wants it, with the console's own variables filled in."""
        colors = self.colors
        own = {
            "row-cursor": colors["primary"],
            "row-cursor-text": Color.parse(colors["primary"]).get_contrast_text(1.0).hex,
            "tab-active": colors["primary"],
            "tab-active-text": Color.parse(colors["primary"]).get_contrast_text(1.0).hex,
            "banner": colors["warning"],
            "banner-text": Color.parse(colors["warning"]).get_contrast_text(1.0).hex,
            "key": colors["accent"],
            "quiet": Color.parse(colors["background"])
            .blend(Color.parse(colors["foreground"]), 0.62)
            .hex,
            "download": colors["success"],
            "upload": colors["secondary"],
        }
        own.update(self.variables)
        # Textual's own widgets (inputs, lists, scroll bars) follow the same cursor colours.
        own.update(
            {
                "block-cursor-background": own["row-cursor"],
                "block-cursor-foreground": own["row-cursor-text"],
                "block-cursor-text-style": "bold",
                "border": colors["primary"],
                "border-blurred": colors["panel"],
                "scrollbar": colors["panel"],
                "scrollbar-hover": colors["secondary"],
                "scrollbar-active": colors["primary"],
                "scrollbar-background": colors["background"],
                "scrollbar-background-hover": colors["background"],
                "scrollbar-background-active": colors["background"],
                "scrollbar-corner-color": colors["background"],
            }
        )
        return Theme(
            name=self.name,
            dark=self.dark,
            primary=colors["primary"],
            secondary=colors["secondary"],
            accent=colors["accent"],
            foreground=colors["foreground"],
            background=colors["background"],
            surface=colors["surface"],
            panel=colors["panel"],
            success=colors["success"],
            warning=colors["warning"],
            error=colors["error"],
            variables=own,
        )


def variable_defaults() -> dict[str, str]:
    """The console's variables for themes that are not ours, so that its style sheet parses."""
    return {
        "row-cursor": "#444444",
        "row-cursor-text": "#ffffff",
        "tab-active": "#444444",
        "tab-active-text": "#ffffff",
        "banner": "#ffff00",
        "banner-text": "#000000",
        "key": "#ffffff",
        "quiet": "#a0a0a0",
        "download": "#ffffff",
        "upload": "#c0c0c0",
    }


def parse(text: str, source: str) -> ThemeFile:
    """Check one theme file.

    Args:
        text: the file's content.
        source: what to call it in errors.

    Raises:
        ThemeError: the first thing that is wrong, as a sentence.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ThemeError(f"{source}: not valid TOML: {error}") from None
    unknown = set(table) - {"name", "title", "dark", "two_colors", "colors", "variables"}
    if unknown:
        raise ThemeError(f"{source}: unknown key {sorted(unknown)[0]!r}")
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ThemeError(f"{source}: name must be 1 to 32 lower-case letters, digits or hyphens")
    title = table.get("title", name)
    if not isinstance(title, str) or not title.isprintable() or not 0 < len(title) <= 32:
        raise ThemeError(f"{source}: title must be 1 to 32 printable characters")
    dark = table.get("dark")
    if not isinstance(dark, bool):
        raise ThemeError(f"{source}: dark must be true or false")
    two_colors = table.get("two_colors", False)
    if not isinstance(two_colors, bool):
        raise ThemeError(f"{source}: two_colors must be true or false")
    colors = _colors(table.get("colors"), source, "colors", COLORS)
    missing = [key for key in COLORS if key not in colors]
    if missing:
        raise ThemeError(f"{source}: colors.{missing[0]} is missing")
    variables = _colors(table.get("variables", {}), source, "variables", VARIABLES)
    return ThemeFile(name, title, dark, colors, variables, two_colors)


def _colors(table: object, source: str, section: str, known: Iterable[str]) -> dict[str, str]:
    if not isinstance(table, dict):
        raise ThemeError(f"{source}: [{section}] must be a table of colours")
    checked: dict[str, str] = {}
    allowed = set(known)
    for key, value in table.items():
        if key not in allowed:
            raise ThemeError(f"{source}: unknown key {section}.{key}")
        try:
            if not isinstance(value, str):
                raise ValueError
            checked[key] = Color.parse(value).hex
        except (ColorParseError, ValueError):
            raise ThemeError(
                f'{source}: {section}.{key} must be a colour such as "#1e90ff"'
            ) from None
    return checked


def load(user_dir: Path | None = None) -> tuple[dict[str, ThemeFile], list[str]]:
    """Read the shipped themes and then the user's, whose names win.

    Returns:
        The themes by name, in the order to offer them, and a sentence for each
        file that could not be used.
    """
    found: dict[str, ThemeFile] = {}
    problems: list[str] = []
    shipped = sorted(
        (entry for entry in files("themes").iterdir() if entry.name.endswith(".toml")),
        key=lambda entry: (entry.name != f"{DEFAULT_THEME}.toml", entry.name),
    )
    for entry in shipped:
        theme = parse(entry.read_text(encoding="utf-8"), entry.name)
        found[theme.name] = theme
    if user_dir is None:
        return found, problems
    try:
        paths = sorted(user_dir.glob("*.toml"))
    except OSError as error:
        return found, [f"{user_dir}: {error.strerror or error}"]
    for path in paths:
        try:
            if path.stat().st_size > _MAX_FILE:
                raise ThemeError(f"{path.name}: larger than {_MAX_FILE // 1024} KiB")
            theme = parse(path.read_text(encoding="utf-8"), path.name)
        except ThemeError as error:
            problems.append(str(error))
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{path.name}: {error}")
        else:
            found[theme.name] = theme
    return found, problems

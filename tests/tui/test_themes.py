"""Themes are data: a checked schema, the user's own, and a fallback that says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.color import Color as RichColor
from rich.color import ColorSystem
from textual.color import Color

from tests.tui.conftest import Console, OpenConsole
from tui import themes

GOOD = Path(themes.__file__).parent.parent / "themes" / "dark.toml"


def variant(**changes: str) -> str:
    text = GOOD.read_text()
    for old, new in changes.items():
        text = text.replace(old.replace("__", " "), new)
    return text


def test_the_shipped_themes() -> None:
    found, problems = themes.load()
    assert list(found) == ["dark", "high-contrast", "light", "mono"]
    assert problems == []


@pytest.mark.parametrize("name", ["dark", "light", "high-contrast", "mono"])
def test_text_can_be_read(name: str) -> None:
    """WCAG 2.2 contrast: 4.5 for text, 7 in the high-contrast theme."""
    theme = themes.load()[0][name].to_theme()
    least = 7.0 if name == "high-contrast" else 4.5
    pairs = [
        (theme.foreground, theme.background),
        (theme.success, theme.background),
        (theme.warning, theme.background),
        (theme.error, theme.background),
        (theme.variables["quiet"], theme.background),
        (theme.variables["key"], theme.surface),
        (theme.variables["row-cursor-text"], theme.variables["row-cursor"]),
        (theme.variables["tab-active-text"], theme.variables["tab-active"]),
        (theme.variables["banner-text"], theme.variables["banner"]),
    ]
    for text, ground in pairs:
        assert text is not None
        assert ground is not None
        assert contrast(text, ground) >= least, (text, ground)


XTERM = (
    "#000000", "#cd0000", "#00cd00", "#cdcd00", "#0000ee", "#cd00cd", "#00cdcd", "#e5e5e5",
    "#7f7f7f", "#ff0000", "#00ff00", "#ffff00", "#5c5cff", "#ff00ff", "#00ffff", "#ffffff",
)  # fmt: skip
"""What xterm makes of the sixteen colours."""


@pytest.mark.parametrize("name", ["dark", "light", "high-contrast", "mono"])
def test_text_can_be_read_in_sixteen_colours(name: str) -> None:
    theme = themes.load()[0][name].to_theme()
    colours = theme.to_color_system().generate()
    colours |= {name: value for name, value in theme.variables.items() if value.startswith("#")}

    def drawn(value: str) -> str:
        number = RichColor.parse(value[:7].lower()).downgrade(ColorSystem.STANDARD).number
        assert number is not None
        return XTERM[number]

    grounds = {"background": ("foreground", "quiet", "download", "upload", "text-success",
                              "text-warning", "text-error", "text-accent"),
               "surface": ("foreground", "quiet", "key"),
               "tab-active": ("tab-active-text",),
               "row-cursor": ("row-cursor-text",),
               "banner": ("banner-text",)}  # fmt: skip
    for ground, texts in grounds.items():
        for text in texts:
            shown = drawn(colours[text]), drawn(colours[ground])
            assert contrast(*shown) >= 2.5, (text, ground, shown)


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(part / 255) for part in Color.parse(colour).rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_mono_has_no_hue() -> None:
    theme = themes.load()[0]["mono"]
    for value in (*theme.colors.values(), *theme.variables.values()):
        red, green, blue = Color.parse(value).rgb
        assert red == green == blue


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = ", "not valid TOML"),
        (variant(**{'"dark"': '"Dark!"'}), "name must be"),
        (variant(title="titel"), "unknown key 'titel'"),
        (variant(primary="primery"), "unknown key colors.primery"),
        (variant(panel="# panel"), "colors.panel is missing"),
        (variant(**{'"#5ca9ff"': '"blueish"'}), "must be a colour"),
        (variant(**{"dark__=__true": 'dark = "yes"'}), "dark must be true or false"),
        (variant(**{"dark__=__true": "dark = true\ntwo_colors = 2"}), "two_colors must be true"),
        (variant(quiet="loud"), "unknown key variables.loud"),
        ('name = "x"\ndark = true\ncolors = 3', "[colors] must be a table"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(text: str, complaint: str) -> None:
    with pytest.raises(themes.ThemeError, match=r"mine\.toml: ") as caught:
        themes.parse(text, "mine.toml")
    assert complaint in str(caught.value)


async def test_users_themes_are_offered_and_a_bad_one_is_told(
    console: OpenConsole, tmp_path: Path
) -> None:
    (tmp_path / "sea.toml").write_text(
        GOOD.read_text().replace('"dark"', '"sea"').replace('"Dark"', '"Sea"')
    )
    (tmp_path / "bad.toml").write_text("name = 5")
    async with console(themes_dir=tmp_path, theme="sea") as c:
        assert c.app.theme == "sea"
        assert any(message.startswith("bad.toml: name must be") for message in c.told)
        await c.press("t")
        assert "Sea" in c.text


async def test_an_unknown_theme_falls_back(console: OpenConsole) -> None:
    async with console(theme="nope") as c:
        assert c.app.theme == "dark"
        assert "There is no theme 'nope'." in c.told


async def test_lines_that_are_on_the_screen_take_the_new_colours(console: OpenConsole) -> None:
    async with console() as c:
        found = themes.load()[0]
        ground = {name: theme.colors["background"].lower() for name, theme in found.items()}
        before = c.app.export_screenshot().lower()
        assert ground["dark"] in before
        await c.press("t", "down", "down", "enter")
        after = c.app.export_screenshot().lower()
        assert ground["light"] in after
        assert ground["dark"] not in after


@pytest.mark.parametrize("section", ["overview", "peers"])
async def test_a_theme_that_differs_in_one_tone_is_seen_at_once(
    console: OpenConsole, tmp_path: Path, section: str
) -> None:
    """The widgets' own colours are the same: it is the app's that change."""
    (tmp_path / "other.toml").write_text(
        GOOD.read_text().replace('"dark"', '"other"', 1).replace('"#8a98b0"', '"#123456"')
    )

    def colours(c: Console) -> set[str]:
        strips = c.app.screen._compositor.render_strips(c.app.size)
        styles = [segment.style for strip in strips for segment in strip]
        return {style.color.name for style in styles if style is not None and style.color}

    async with console(section=section, themes_dir=tmp_path) as c:
        assert "#8a98b0" in colours(c)
        assert c.app.looks.use("other") is None
        await c.settle()
        assert "#8a98b0" not in colours(c) and "#123456" in colours(c)

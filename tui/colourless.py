"""Without colour: everything in the terminal's own two colours, by NO_COLOR or by a theme.

It works on finished lines, whoever drew them. What stands on a ground of the theme's that
something chosen has (the row under the cursor, the section's tab, a banner) is in reverse
video; all else is the terminal's ink on the terminal's ground. Greys go with the colours: a
ground that is dark grey here is a black bar on somebody's white terminal. Bold and underlined
text stays so. A QR code is not drawn by this: black and white are what it is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

CALM = ("background", "surface", "panel")
CHOSEN = ("row-cursor", "tab-active", "banner", "error", "foreground")
"""The theme's grounds: what only lies there, and what is to be seen. A cursor in typed text
stands on the foreground, the button that does harm on `error`."""

Grounds = tuple[tuple[ColorTriplet, ...], tuple[ColorTriplet, ...]]


class Colourless(LineFilter):
    """Takes the colours of a theme away; `colors` has the theme's by name."""

    def __init__(self, colors: Mapping[str, str]) -> None:
        super().__init__()
        self._grounds: Grounds = (_triplets(colors, CALM), _triplets(colors, CHOSEN))

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        grounds = self._grounds
        return [
            Segment(text, None if style is None else _without(style, grounds), control)
            for text, style, control in segments
        ]


def _triplets(colors: Mapping[str, str], names: tuple[str, ...]) -> tuple[ColorTriplet, ...]:
    return tuple(ColorTriplet(*Color.parse(colors[name]).rgb) for name in names)


@lru_cache(maxsize=2048)
def _without(style: Style, grounds: Grounds) -> Style:
    """The style without its colours, in reverse video where its ground is one of the chosen."""
    ground = style.bgcolor
    plain = style.without_color
    if ground is not None and not ground.is_default:
        # The nearest: widgets tint and blend the theme's colours.
        here = ground.get_truecolor()
        calm, chosen = (min(_distance(here, each) for each in kind) for kind in grounds)
        plain += Style(reverse=bool(style.reverse) is not (chosen < calm))
    meta = style.meta
    return plain + Style(meta=meta) if meta else plain


def _distance(one: ColorTriplet, other: ColorTriplet) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))

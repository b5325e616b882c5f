"""A QR code in half blocks: two modules to a cell's height, one to its width.

Where the console draws with ASCII only it is drawn in spaces, two cells a module.

Every cell states black and white itself, whatever the theme is, because
readers want dark modules on a light ground with a light border of at least
two modules. Where nothing else has a colour (`NO_COLOR`) these stay: black and
white are what the code is made of, not decoration.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.filter import LineFilter
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from control import pictures
from tui.colourless import Colourless

_DARK, _LIGHT = "#000000", "#ffffff"
_CELLS = {
    # A cell of one colour is a space: some fonts leave a hairline around half blocks.
    (upper, lower): Segment(
        " " if upper == lower else "▀",
        Style(color=_DARK if upper else _LIGHT, bgcolor=_DARK if lower else _LIGHT),
    )
    for upper in (False, True)
    for lower in (False, True)
}

Matrix = tuple[tuple[bool, ...], ...]


@lru_cache(maxsize=4)
def matrix(text: str) -> Matrix:
    """The modules of the smallest code for `text`, border included; True is dark."""
    return tuple(map(tuple, pictures.matrix(text)))


def cells(text: str, ascii: bool = False) -> Size:
    """The size of the code on the screen."""
    modules = len(matrix(text))
    return Size(2 * modules, modules) if ascii else Size(modules, (modules + 1) // 2)


class QrCode(Widget):
    """Shows one text as a QR code, or a sentence where there is no room for it."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "QrCode { width: auto; height: auto; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.text = ""
        self.ascii = False

    def show(self, text: str, ascii: bool = False) -> None:
        """Show another text; empty shows nothing."""
        if (text, ascii) != (self.text, self.ascii):
            self.text, self.ascii = text, ascii
            self.refresh(layout=True)

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [each for each in super().get_line_filters() if not isinstance(each, Colourless)]

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return cells(self.text, self.ascii).width if self.text else 0

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return cells(self.text, self.ascii).height if self.text else 0

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if not self.text:
            return Strip.blank(width, self.rich_style)
        rows = matrix(self.text)
        if self.ascii and y < len(rows):
            doubled = [_CELLS[module, module] for module in rows[y] for _ in range(2)]
            return Strip(doubled).simplify().adjust_cell_length(width, self.rich_style)
        if 2 * y >= len(rows):
            return Strip.blank(width, self.rich_style)
        upper = rows[2 * y]
        # An odd number of modules leaves half a line: light, as part of the border.
        lower = rows[2 * y + 1] if 2 * y + 1 < len(rows) else (False,) * len(upper)
        segments = [_CELLS[pair] for pair in zip(upper, lower, strict=True)]
        return Strip(segments, len(upper)).simplify().adjust_cell_length(width, self.rich_style)

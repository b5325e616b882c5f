"""A widget that draws lines of styled text and repaints only those that changed.

Textual repaints a whole widget when it is refreshed. Over SSH that is what
costs: a card with six lines of which one number changed would be sent whole,
every second. A `Painted` widget builds its lines, compares them with those on
the screen and marks single rows dirty. Colours come from component classes
("tones") that the style sheet maps to the theme; code never names a colour.
The app has them, for all its widgets: Textual works out each component class
of each widget whenever the widget's style is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

Tone = Literal["ok", "warn", "bad", "quiet", "strong", "accent", "key", "down", "up", "plain"]

TONES: frozenset[str] = frozenset(f"tone--{name}" for name in (
    "ok", "warn", "bad", "quiet", "strong", "accent", "key", "down", "up",
))  # fmt: skip

TONE_CSS = """
    & > .tone--ok { color: $text-success; }
    & > .tone--warn { color: $text-warning; }
    & > .tone--bad { color: $text-error; text-style: bold; }
    & > .tone--quiet { color: $quiet; }
    & > .tone--strong { text-style: bold; }
    & > .tone--accent { color: $text-accent; }
    & > .tone--key { color: $key; text-style: bold; }
    & > .tone--down { color: $download; }
    & > .tone--up { color: $upload; }
"""
"""Of the app."""


def tone_style(widget: Widget, tone: Tone) -> Style:
    """The theme's style for a tone, without a background of its own."""
    if tone == "plain":
        return Style.null()
    return widget.app.get_component_styles(f"tone--{tone}").partial_rich_style


class Painted(Widget):
    """Base of the cards, bars and panels. Subclasses implement `lines`."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "Painted { height: auto; width: 1fr; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._shown: list[Text] = []
        self._shown_width = -1
        self._tones: dict[Tone, Style] = {}
        self._base = Style.null()
        """Of the lines that are being rendered."""

    def lines(self, width: int) -> list[Text]:
        """What to draw in `width` cells, top to bottom."""
        raise NotImplementedError

    def tone(self, tone: Tone) -> Style:
        found = self._tones.get(tone)
        if found is None:  # Textual forgets them with every repaint
            found = self._tones[tone] = tone_style(self, tone)
        return found

    def span(self, text: str, tone: Tone = "plain") -> tuple[str, Style]:
        """A piece for `Text.assemble`."""
        return text, self.tone(tone)

    def redraw(self) -> None:
        """Build the lines anew and repaint those that differ."""
        if not self.is_mounted or self.size.width == 0:
            self._shown_width = -1
            return
        width = self.size.width
        before, self._shown = self._shown, self.lines(width)
        if len(before) != len(self._shown) or width != self._shown_width:
            self._shown_width = width
            self.refresh(layout=True)
            return
        changed = [
            Region(start, y, end - start, 1)
            for y, (old, new) in enumerate(zip(before, self._shown, strict=True))
            for start, end in changed_cells(old, new, width)
        ]
        if changed:
            self.refresh(*changed)

    def notify_style_update(self) -> None:
        """The theme changed: styles inside the lines are stale."""
        self._shown_width = -1
        before, self._tones = self._tones, {}
        super().notify_style_update()
        if any(tone_style(self, tone) != style for tone, style in before.items()):
            self.refresh()

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return container.width

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._current(width))

    def render_lines(self, crop: Region) -> list[Strip]:
        self._base = self.rich_style  # asks every ancestor: once for all lines
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        lines = self._current(width)
        base = self._base
        if y >= len(lines):
            return Strip.blank(width, base)
        return text_strip(lines[y], width, base, self)

    def _current(self, width: int) -> list[Text]:
        if width != self._shown_width:
            self._shown = self.lines(width)
            self._shown_width = width
        return self._shown


SMALL_GAP = 4
"""Equal cells between two changed ones that cost less to send than to jump over."""


def changed_cells(old: Text, new: Text, width: int) -> list[tuple[int, int]]:
    """The runs of cells in which two lines differ, as start and end.

    Beyond the end of a text its line is blank. Cells that differ in their style alone
    count, too; where characters and cells are not the same it is the whole line.
    """
    if (old.style, old.spans) == (new.style, new.spans) and len(old) == len(new):
        return changed_runs(old.plain, new.plain, width)
    longest = max(len(old), len(new))
    if longest > width or any(cell_len(line.plain) != len(line) for line in (old, new)):
        return [(0, width)]
    return _runs(_cells(old, longest), _cells(new, longest))


def _cells(line: Text, length: int) -> list[tuple[str, str | Style, list[str | Style]]]:
    """Each cell's character and styles, with blanks up to that length."""
    cells: list[tuple[str, str | Style, list[str | Style]]] = [
        (character, line.style, []) for character in line.plain
    ]
    for start, end, style in line.spans:
        for _, _, styles in cells[start:end]:
            styles.append(style)
    return cells + [(" ", "", [])] * (length - len(cells))


def changed_runs(before: str, after: str, width: int) -> list[tuple[int, int]]:
    """The same of two texts in one style."""
    if before == after:
        return []
    if len(before) != len(after):
        return [(0, width)]
    if cell_len(after) != len(after) or cell_len(before) != len(before):
        return [(0, width)]
    return _runs(before[:width], after[:width])


def _runs(before: Sequence[object], after: Sequence[object]) -> list[tuple[int, int]]:
    """The runs in which two sequences of one length differ."""
    runs: list[tuple[int, int]] = []
    for x, (one, other) in enumerate(zip(before, after, strict=True)):
        if one == other:
            continue
        if runs and x - runs[-1][1] < SMALL_GAP:
            runs[-1] = (runs[-1][0], x + 1)
        else:
            runs.append((x, x + 1))
    return runs


def text_strip(text: Text, width: int, base: Style, widget: Widget) -> Strip:
    """One line of text as a strip of exactly `width` cells on `base`."""
    text = text.copy()
    text.end = ""
    text.truncate(width, overflow="ellipsis")
    # `Text.render` leaves the text's own style out when it has no spans.
    base += text.style if isinstance(text.style, Style) else Style.null()
    segments = [
        Segment(segment.text, base + segment.style if segment.style else base)
        for segment in text.render(widget.app.console)
        if segment.text
    ]
    return Strip(segments).extend_cell_length(width, base).simplify()

"""Fewer bytes on the line: how a screen's updates become terminal sequences.

Textual 8.2.8 writes an update from the left edge of the widget that changed,
and states every segment's style in full with a reset after it. On a slow SSH
link that is most of the traffic: one age that moved costs its whole row.
`SlimCompositor` makes the same updates, but writes only the cells inside the
dirty spans, of a style only what differs from the one before, and cells of one
style together where that is shorter. It keeps nothing between updates, so a
terminal that lost bytes recovers as it would with Textual's own.

This builds on two of Textual's private classes; the package pins the version
it was written for, and a test compares both encodings cell by cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, Compositor, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

_NULL = Style.null()

Codes = tuple[str, str, str]
"""SGR parameters of a style: attributes, foreground, background."""
Piece = tuple[Codes, int, int, str, int]
"""Text of one style, with the column and row of its first cell, and the column in which the
whole began that it may be a part of."""

_Runs = list[tuple[int, int]]
"""Runs of cells in a line, as first and end."""

_PLAIN: Codes = ("", "39", "49")


@lru_cache(maxsize=2048)
def _codes(style: Style, system: ColorSystem) -> Codes:
    attributes = Style(
        bold=style.bold,
        dim=style.dim,
        italic=style.italic,
        underline=style.underline,
        blink=style.blink,
        reverse=style.reverse,
        strike=style.strike,
        underline2=style.underline2,
        overline=style.overline,
    )
    ground = style.bgcolor
    ink = style.color
    return (
        attributes._make_ansi_codes(system),
        "39" if ink is None else ";".join(ink.downgrade(system).get_ansi_codes()),
        "49" if ground is None else ";".join(ground.downgrade(system).get_ansi_codes(False)),
    )


class Pen:
    """Writes text in styles, remembering which one the terminal is in, and where it stands."""

    def __init__(self, system: ColorSystem) -> None:
        self._system = system
        self._now = _PLAIN
        self._at: tuple[int, int] | None = None
        """Where the terminal's cursor is for certain."""
        self.parts: list[str] = []

    def move(self, x: int, y: int) -> None:
        """Go to a cell, by the shortest way."""
        if self._at == (x, y):
            return
        ways = [f"\x1b[{y + 1};{x + 1}H"]
        if self._at is not None:
            right, down = x - self._at[0], y - self._at[1]
            across = _steps(right, "C") if right >= 0 else _back(-right)
            ways.append((_below(down) if down >= 0 else _above(-down)) + across)
        self.parts.append(min(ways, key=len))
        self._at = (x, y)

    def write(self, segments: Iterable[Segment], edge: int) -> None:
        """Write from here on, in a line that ends before column `edge`."""
        for text, style, control in segments:
            if not control and text:
                self.put(text, _codes(style or _NULL, self._system), edge)

    def put(self, text: str, codes: Codes, edge: int) -> None:
        """The same for text of one style."""
        self._become(codes)
        self.parts.append(text)
        if self._at is not None:
            x = self._at[0] + len(text)
            # Terminals disagree about the width of some characters, and about what is
            # beside the last column: there the place is not certain any more.
            self._at = (x, self._at[1]) if text.isascii() and x < edge else None

    def finish(self) -> str:
        """Everything, with the terminal left in its plain style."""
        self._become(_PLAIN)
        return "".join(self.parts)

    def _become(self, wanted: Codes) -> None:
        if wanted == self._now:
            return
        if wanted == _PLAIN:
            self._now = wanted
            self.parts.append("\x1b[m")
            return
        attributes, ink, ground = wanted
        change: list[str] = []
        if attributes != self._now[0]:
            if self._now[0]:
                # Attributes are switched off by a reset only; the colours go with them.
                change.append("0")
                self._now = _PLAIN
            if attributes:
                change.append(attributes)
        if ink != self._now[1]:
            change.append(ink)
        if ground != self._now[2]:
            change.append(ground)
        self._now = wanted
        self.parts.append(f"\x1b[{';'.join(change)}m")


def _steps(count: int, letter: str) -> str:
    return "" if count == 0 else f"\x1b[{letter}" if count == 1 else f"\x1b[{count}{letter}"


def _below(count: int) -> str:
    """Index (VT100): a line down in two bytes; it would scroll below the last line only."""
    return "\x1bD" if count == 1 else _steps(count, "B")


def _above(count: int) -> str:
    """Reverse index (ECMA-48 8.3.104): likewise."""
    return "\x1bM" if count == 1 else _steps(count, "A")


def _back(count: int) -> str:
    return min("\b" * count, _steps(count, "D"), key=len)


class SlimChopsUpdate(ChopsUpdate):
    """Some spans of the screen."""

    def render_segments(self, console: Console) -> str:
        system = console._color_system or ColorSystem.TRUECOLOR
        pieces = list(self._pieces(system))
        width = max((ends[-1] for ends in self.chop_ends if ends), default=0)
        ways = (pieces, _upright(pieces))
        return min((_written(way, system, width) for way in ways), key=len)

    def _pieces(self, system: ColorSystem) -> Iterator[Piece]:
        """What is to be written, top to bottom, left to right."""
        for y, first, last in self.spans:
            for end, (start, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                left, right = max(start, first), min(end, last)
                if strip is None or right <= left:
                    continue
                x = start
                for segment in strip:
                    text, style, control = segment
                    if control or not text:
                        continue
                    width = len(text) if text.isascii() else cell_len(text)
                    began, after = x, x + width
                    if after > left:
                        if x < left:
                            segment = segment.split_cells(left - x)[1]
                            x = left
                        if after > right:
                            segment = segment.split_cells(right - x)[0]
                        yield _codes(style or _NULL, system), x, y, segment.text, began
                    x = after
                    if x >= right:
                        break


def _upright(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces style by style and column by column, each from the end that is nearer.

    Rows beside each other change their columns alike: then it is less to write a column's
    cells one below the other than to state each row's colours again.
    """
    columns: dict[tuple[Codes, int], list[Piece]] = {}
    for piece in pieces:
        columns.setdefault((piece[0], piece[4]), []).append(piece)
    made: list[Piece] = []
    y = 0
    for _, column in sorted(columns.items(), key=_by_style):
        if abs(column[-1][2] - y) < abs(column[0][2] - y):
            column.reverse()
        made += column
        y = column[-1][2]
    return made


def _by_style(column: tuple[tuple[Codes, int], list[Piece]]) -> tuple[str, str, str, int]:
    """Styles beside each other that have most in common: what changes costs bytes."""
    ((attributes, ink, ground), x), _ = column
    return attributes, ground, ink, x


def _written(pieces: Iterable[Piece], system: ColorSystem, width: int) -> str:
    pen = Pen(system)
    for codes, x, y, text, _ in pieces:
        pen.move(x, y)
        pen.put(text, codes, width)
    return pen.finish()


class SlimLayoutUpdate(LayoutUpdate):
    """The whole screen."""

    def render_segments(self, console: Console) -> str:
        pen = Pen(console._color_system or ColorSystem.TRUECOLOR)
        for y, line in enumerate(self.strips, self.region.y):
            pen.move(self.region.x, y)
            for strip in line:
                pen.write(strip, self.region.right)
        return pen.finish()


class SlimCompositor(Compositor):
    """Textual's compositor with updates that cost less to make and to send.

    Of a partial update it has only those lines rendered that have dirty cells,
    by the widgets that these cells are of; Textual has every line of every
    widget inside the dirty regions' union.
    """

    def __init__(self) -> None:
        super().__init__()
        self._spans: dict[int, _Runs] | None = None
        """Of the partial update in the making: by line, the dirty runs of cells, as far as
        nothing has been rendered for them."""

    def render_full_update(self, simplify: bool = False) -> LayoutUpdate:
        update = super().render_full_update(simplify)
        return SlimLayoutUpdate(update.strips, update.region)

    def render_partial_update(self) -> ChopsUpdate | None:
        spans: dict[int, _Runs] = {}
        for y, start, end in self._regions_to_spans(self._dirty_regions):
            spans.setdefault(y, []).append((start, end))
        self._spans = spans
        try:
            update = super().render_partial_update()
        finally:
            self._spans = None
        if update is None:
            return None
        return SlimChopsUpdate(update.chops, update.spans, update.chop_ends)

    def _get_renders(
        self, crop: Region | None = None
    ) -> Iterable[tuple[Region, Region, list[Strip]]]:
        if self._spans is None:
            yield from super()._get_renders(crop)
            return
        for widget, (region, clip) in self.visible_widgets.items():  # front to back
            if not self._spans:
                break
            shown = region.intersection(clip)
            for top, bottom in _take_rows(self._spans, shown):
                rows = Region(shown.x, top, shown.width, bottom - top)
                yield rows, rows, widget.render_lines(rows.translate(-region.offset))


def _take_rows(spans: dict[int, _Runs], shown: Region) -> list[tuple[int, int]]:
    """The runs of lines, as first and end, in which `shown` has dirty cells.

    These cells are taken out of `spans`: what is behind need not be rendered.
    """
    left, right = shown.column_span
    taken: list[tuple[int, int]] = []
    for y in [y for y in spans if shown.y <= y < shown.bottom]:  # top to bottom
        runs = spans[y]
        if not any(start < right and left < end for start, end in runs):
            continue
        rest = [
            part
            for start, end in runs
            for part in ((start, min(end, left)), (max(start, right), end))
            if part[0] < part[1]
        ]
        if rest:
            spans[y] = rest
        else:
            del spans[y]
        if taken and taken[-1][1] == y:
            taken[-1] = taken[-1][0], y + 1
        else:
            taken.append((y, y + 1))
    return taken

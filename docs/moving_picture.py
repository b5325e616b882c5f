"""A recording as one SVG that moves by itself wherever pictures are shown.

A README on the web may hold pictures and no player. An SVG may move by CSS
alone, so every frame of the recording stands in a long strip, side by side,
and the strip jumps from frame to frame behind a window. Rows are drawn once
and used wherever they come again; most frames differ from the one before in a
few of them. Nothing is loaded from anywhere, no script runs.

What fills its cell in a terminal (blocks, lines) is drawn as shapes, because
viewers' fonts leave gaps; each run of words is put where it belongs and set to
its width. Who asks for less motion (`prefers-reduced-motion`) sees one still.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from rich.cells import cell_len

from docs.cast import Frame, Row

CELL, LINE, BASE, FONT = 8.4, 17, 13, 14
"""Pixels: width and height of a cell, where text stands in it, size of the letters."""
THIN = 1.2
"""Pixels: breadth of a line."""
PAD, CAPTION = 10, 34
"""Pixels around the screen, and of the line below it."""
LAST = 3.0
"""Seconds for which the last frame stays."""
FRONT, BACK = "e0e0e0", "121212"
"""What a program gets that names no colour."""
FONTS = "ui-monospace,Menlo,Consolas,DejaVu Sans Mono,monospace"

_NAMED = {
    "black": "000000", "red": "cd3131", "green": "0dbc79", "brown": "e5e510", "blue": "2472c8",
    "magenta": "bc3fbc", "cyan": "11a8cd", "white": "e5e5e5",
}  # fmt: skip
_EIGHTHS = "▁▂▃▄▅▆▇█"
_LINES = {
    # Which halves of the cell have a line: left, right, top, bottom.
    "─": "lr", "│": "tb", "┌": "rb", "╭": "rb", "┐": "lb", "╮": "lb", "└": "rt", "╰": "rt",
    "┘": "lt", "╯": "lt", "├": "rtb", "┤": "ltb", "┬": "lrb", "┴": "lrt", "┼": "lrtb",
}  # fmt: skip
_SHAPES = frozenset("▀▌▐" + _EIGHTHS + "".join(_LINES))


class MovingPicture:
    """Collects rows and colours while frames are drawn."""

    def __init__(self, width: int, height: int) -> None:
        self._screen = width * CELL, height * LINE
        self._rows: dict[Row, str] = {}
        self._drawn: list[str] = []
        self._classes: dict[str, str] = {}

    def of(self, frames: Sequence[Frame], title: str) -> str:
        """The picture that plays all frames, without end."""
        length = frames[-1].at - frames[0].at + LAST
        width, height = self._whole()
        strip = [self._frame(frame, number * width) for number, frame in enumerate(frames)]
        moments = [100 * (frame.at - frames[0].at) / length for frame in frames]
        steps = "".join(
            f"{moment:.3f}%{{transform:translateX({-number * width:g}px)}}"
            for number, moment in enumerate(moments)
        )
        play = (
            f"@keyframes p{{{steps}100%{{transform:translateX({-(len(frames) - 1) * width:g}px)}}}}"
            f"@keyframes b{{from{{transform:scaleX(0)}}}}"
            f".s{{animation:p {length:.2f}s steps(1,end) infinite}}"
            f".t{{animation:b {length:.2f}s linear infinite}}"
            "@media(prefers-reduced-motion:reduce){.s,.t{animation:none}}"
        )
        bar = f'<rect class="t" y="{height - 3:g}" width="{width:g}" height="3" fill="#4c9be8"/>'
        return self._document(title, play, f'<g class="s">{"".join(strip)}</g>{bar}')

    def still(self, frame: Frame, title: str) -> str:
        """One frame, which does not move."""
        return self._document(title, "", self._frame(frame, 0))

    def _whole(self) -> tuple[float, float]:
        return self._screen[0] + 2 * PAD, self._screen[1] + 2 * PAD + CAPTION

    def _document(self, title: str, style: str, body: str) -> str:
        width, height = self._whole()
        colours = "".join(f".{name}{{fill:#{colour}}}" for colour, name in self._classes.items())
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}"><title>{html.escape(title)}</title>'
            f"<style>text{{font:{FONT}px {FONTS};white-space:pre}}.B{{font-weight:bold}}"
            f"rect,.k{{shape-rendering:crispEdges}}{colours}{style}</style>"
            f'<clipPath id="w"><rect width="{width:g}" height="{height:g}" rx="8"/></clipPath>'
            f"<defs>{''.join(self._drawn)}</defs>"
            f'<g clip-path="url(#w)"><rect width="{width:g}" height="{height:g}" fill="#{BACK}"/>'
            f"{body}</g></svg>\n"
        )

    def _frame(self, frame: Frame, left: float) -> str:
        uses = "".join(
            f'<use href="#{self._row(row)}" y="{number * LINE}"/>'
            for number, row in enumerate(frame.rows)
        )
        # The margin is of the colour that the program's screen has at its edge; a mark may
        # stand in the top one, not among the keys.
        edge = _hex(frame.rows[-1][0].back, BACK)
        width, height = self._whole()
        middle = left + width / 2
        return (
            f'<rect class="{self._class(edge)}" x="{left:g}" width="{width:g}" '
            f'height="{height - CAPTION:g}"/>'
            f'<g transform="translate({left + PAD:g} {PAD})">{uses}</g>'
            f'<text x="{middle:g}" y="{height - CAPTION / 2 + 4:g}" text-anchor="middle" '
            f'class="{self._class(FRONT)}">{html.escape(frame.caption)}</text>'
        )

    def _row(self, row: Row) -> str:
        """The id of a row, drawn when it comes for the first time."""
        if row not in self._rows:
            self._rows[row] = f"r{len(self._rows)}"
            self._drawn.append(f'<g id="{self._rows[row]}">{self._draw(row)}</g>')
        return self._rows[row]

    def _draw(self, row: Row) -> str:
        made: list[str] = []
        shapes: dict[str, list[str]] = {}
        x = 0
        backs: list[tuple[str, int, int]] = []
        texts: list[str] = []
        for run in row:
            cells = cell_len(run.text)
            back = _hex(run.back, BACK)
            if backs and backs[-1][0] == back:
                backs[-1] = back, backs[-1][1], x + cells
            else:
                backs.append((back, x, x + cells))
            front = self._class(_hex(run.front, FRONT))
            for piece in re.finditer(_PIECES, run.text):
                at = x + cell_len(run.text[: piece.start()])
                if piece[0][0] in _SHAPES:
                    # Blocks have sharp edges, so that they join; thin lines would vanish by them.
                    classes = front if piece[0][0] in _LINES else f"{front} k"
                    shapes.setdefault(classes, []).extend(_shape(piece[0], at))
                else:
                    texts.append(_text(piece[0], at, front + " B" * run.bold))
            x += cells
        for back, start, end in backs:
            left, width = start * CELL, (end - start) * CELL
            made.append(
                f'<rect class="{self._class(back)}" x="{left:g}" width="{width:g}" '
                f'height="{LINE}"/>'
            )
        for classes, parts in shapes.items():
            made.append(f'<path class="{classes}" d="{"".join(parts)}"/>')
        return "".join(made + texts)

    def _class(self, colour: str) -> str:
        return self._classes.setdefault(colour, f"c{len(self._classes)}")


_ALL_SHAPES = "".join(sorted(_SHAPES))
_PIECES = re.compile(rf"([{_ALL_SHAPES}])\1*|[^\s{_ALL_SHAPES}]+(?: [^\s{_ALL_SHAPES}]+)*")


def _text(text: str, x: int, classes: str) -> str:
    return (
        f'<text x="{x * CELL:g}" y="{BASE}" textLength="{cell_len(text) * CELL:g}" '
        f'class="{classes}">{html.escape(text, quote=False)}</text>'
    )


def _shape(text: str, x: int) -> list[str]:
    """Equal blocks or lines side by side, as closed pieces of a path."""
    character, left, width = text[0], x * CELL, len(text) * CELL
    if character in _EIGHTHS:
        high = LINE * (_EIGHTHS.index(character) + 1) / 8
        return [_box(left, LINE - high, width, high)]
    if character == "▀":
        return [_box(left, 0, width, LINE / 2)]
    if character in "▌▐":
        shift = CELL / 2 if character == "▐" else 0
        return [_box(left + n * CELL + shift, 0, CELL / 2, LINE) for n in range(len(text))]
    ways = _LINES[character]
    if ways == "lr":
        return [_box(left, LINE // 2, width, THIN)]
    made = []
    for n in range(len(text)):
        middle = left + n * CELL + CELL / 2
        if "l" in ways:
            made.append(_box(middle - CELL / 2, LINE // 2, CELL / 2, THIN))
        if "r" in ways:
            made.append(_box(middle, LINE // 2, CELL / 2, THIN))
        top = 0 if "t" in ways else LINE // 2
        made.append(_box(middle, top, THIN, (LINE if "b" in ways else LINE // 2 + THIN) - top))
    return made


def _box(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:g} {y:g}h{width:g}v{height:g}h{-width:g}z"


def _hex(colour: str, default: str) -> str:
    """Six digits for what pyte calls a colour."""
    if colour == "default":
        return default
    return _NAMED.get(colour.removeprefix("bright"), colour)

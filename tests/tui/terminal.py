"""A terminal small enough to be sure of: moves, styles, text; cells are (character, style)."""

from __future__ import annotations

import functools
import re

from rich.cells import cell_len

Pen = tuple[frozenset[int], str, str]
PLAIN: Pen = (frozenset(), "39", "49")
Cell = tuple[str, Pen]

_TOKEN = re.compile(
    r"\x1b\[(?P<args>[0-9;]*)(?P<kind>[A-Za-z])|(?P<text>[^\x1b\n\b]+)|"
    r"\x1b(?P<index>[DM])|(?P<move>[\n\b])|(?P<other>\x1b)"
)


class Terminal:
    """Interprets what the console writes."""

    def __init__(self, width: int, height: int) -> None:
        self.cells: dict[tuple[int, int], Cell] = {
            (x, y): (" ", PLAIN) for x in range(width) for y in range(height)
        }
        self.touched: set[tuple[int, int]] = set()
        self.pen = PLAIN
        self._x = self._y = 0
        self._height = height

    def feed(self, data: str) -> None:
        for token in _TOKEN.finditer(data):
            kind = token["kind"]
            if text := token["text"]:
                self._put(text)
            elif token["other"]:
                raise AssertionError(f"unknown sequence at {token.start()}")
            elif kind == "H":
                y, x = (int(part) for part in token["args"].split(";"))
                self._x, self._y = x - 1, y - 1
            elif kind == "m":
                self.pen = _styled(self.pen, token["args"])
            elif kind in ("A", "B"):
                self._y += int(token["args"] or 1) * (1 if kind == "B" else -1)
            elif kind in ("C", "D"):
                self._x += int(token["args"] or 1) * (1 if kind == "C" else -1)
            elif kind:
                raise AssertionError(f"unknown sequence {token[0]!r}")
            elif token["move"] == "\b":
                self._x -= 1
            elif index := token["index"]:
                self._y += 1 if index == "D" else -1
                assert 0 <= self._y < self._height, "it would scroll"

    def _put(self, text: str) -> None:
        x, y, pen, cells, touched = self._x, self._y, self.pen, self.cells, self.touched
        for character in text:
            width = 1 if " " <= character <= "~" else cell_len(character)
            for offset in range(width):
                place = x + offset, y
                cells[place] = (character if offset == 0 else "", pen)
                touched.add(place)
            x += width
        self._x = x


@functools.cache
def _styled(pen: Pen, args: str) -> Pen:
    """The pen after a Select Graphic Rendition (ECMA-48 8.3.117)."""
    attributes, ink, ground = pen
    parts = args.split(";") if args else ["0"]
    while parts:
        part = parts.pop(0)
        if part in ("", "0"):
            attributes, ink, ground = PLAIN
        elif part in ("38", "48"):
            count = 4 if parts[0] == "2" else 2
            colour = ";".join([part, *(parts.pop(0) for _ in range(count))])
            ink, ground = (colour, ground) if part == "38" else (ink, colour)
        elif int(part) < 10:
            attributes |= {int(part)}
        elif part[0] == "4" or part[:2] == "10":
            ground = part
        else:
            ink = part
    return attributes, ink, ground

"""A terminal small enough to be sure of: moves, styles, text; cells are (character, style)."""

from __future__ import annotations

import re

from rich.cells import cell_len

Pen = tuple[frozenset[int], str, str]
PLAIN: Pen = (frozenset(), "39", "49")
Cell = tuple[str, Pen]

_TOKEN = re.compile(r"\x1b\[(?P<args>[0-9;]*)(?P<kind>[A-Za-z])|(?P<text>[^\x1b])|(?P<other>\x1b)")


class Terminal:
    """Interprets what the console writes."""

    def __init__(self, width: int, height: int) -> None:
        self.cells: dict[tuple[int, int], Cell] = {
            (x, y): (" ", PLAIN) for x in range(width) for y in range(height)
        }
        self.touched: set[tuple[int, int]] = set()
        self.pen = PLAIN
        self._x = self._y = 0

    def feed(self, data: str) -> None:
        for token in _TOKEN.finditer(data):
            if token["other"]:
                raise AssertionError(f"unknown sequence at {token.start()}")
            if token["kind"] == "H":
                y, x = (int(part) for part in token["args"].split(";"))
                self._x, self._y = x - 1, y - 1
            elif token["kind"] == "m":
                self._style(token["args"])
            elif token["kind"] == "B":
                self._y += int(token["args"] or 1)
            elif token["kind"] == "C":
                self._x += int(token["args"] or 1)
            elif token["kind"]:
                raise AssertionError(f"unknown sequence {token[0]!r}")
            elif token["text"] == "\n":
                continue
            elif token["text"] == "\b":
                self._x -= 1
            else:
                self._put(token["text"])

    def _put(self, character: str) -> None:
        width = cell_len(character)
        if width == 0:
            return
        for offset in range(width):
            place = self._x + offset, self._y
            self.cells[place] = (character if offset == 0 else "", self.pen)
            self.touched.add(place)
        self._x += width

    def _style(self, args: str) -> None:
        attributes, ink, ground = self.pen
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
        self.pen = (attributes, ink, ground)

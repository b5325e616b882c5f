"""A QR code in half blocks, two modules a character; or in spaces, two a module.

Black on white is said explicitly, so that the code scans on any terminal's
colours; a border of two modules is enough of a quiet zone on a screen. Where
there is no colour the blocks are drawn for a dark terminal. Spaces are for encodings
that have no blocks: on a terminal's colours they are as good, but take twice the room;
without colour letters stand for the light modules.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from control.encoding import can_show
from control.output import coloured
from control.pictures import matrix

_BLACK_ON_WHITE = "\x1b[38;5;16;48;5;231m"
_WHITE_GROUND = "\x1b[48;5;231m"
_BLACK_GROUND = "\x1b[48;5;16m"
_RESET = "\x1b[0m"
_DARK = {(1, 1): "█", (1, 0): "▀", (0, 1): "▄", (0, 0): " "}


def screen(text: str) -> tuple[list[str], int]:
    """The lines to print on this terminal, none where they do not fit; the columns they need."""
    draw, width = half_blocks, 1
    if not can_show("█▀▄", sys.stdout.encoding):
        draw, width = spaces, 2
    modules = matrix(text)
    need = width * len(modules)
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else need
    return (draw(modules, coloured(sys.stdout)) if need <= room else []), need


def half_blocks(modules: Sequence[Sequence[bool]], colour: bool) -> list[str]:
    """The lines to print."""
    height, width = len(modules), len(modules[0])
    lines = []
    for y in range(0, height, 2):
        lower = modules[y + 1] if y + 1 < height else [False] * width
        pairs = zip(modules[y], lower, strict=True)
        if colour:
            lines.append(_BLACK_ON_WHITE + "".join(_DARK[a, b] for a, b in pairs) + _RESET)
        else:
            # A printed block is light there, so light modules are the ones to print.
            lines.append("".join(_DARK[not a, not b] for a, b in pairs))
    return lines


def spaces(modules: Sequence[Sequence[bool]], colour: bool) -> list[str]:
    """The lines to print where there are no half blocks: a module is two characters."""
    dark, light = (_BLACK_GROUND + "  ", _WHITE_GROUND + "  ") if colour else ("  ", "##")
    end = _RESET if colour else ""
    return ["".join(dark if module else light for module in row) + end for row in modules]

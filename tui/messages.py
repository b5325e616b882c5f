"""Where messages stand: not on what keys mean now, and not on a code that is being scanned.

A message lies over the section for some seconds. It stands at the right below the head,
where a list has its titles; or above the keys, while the cursor is up there. In front of a
section that a dialog covers it is the dialog's, and stands where that hides the least.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from textual.geometry import Region, Size
from textual.screen import Screen
from textual.widgets._toast import ToastRack

from tui.widgets.bars import KeyBar, Notices, TopBar
from tui.widgets.qr import QrCode
from tui.widgets.table import RowTable

EDGES = 3
"""Cells beside a message's text: a line and two gaps."""


def place(stack: Sequence[Screen[object]], messages: Sequence[str], console: Console) -> None:
    """Put the messages of the screen in front, the last of the stack, where they hide nothing that
    is in use. The screens behind it show none: they have the same ones, and other places."""
    *behind, screen = stack
    for each in behind:
        for rack in each.query(ToastRack):
            rack.display = False  # until Textual shows it, when the screen is in front again
    size = needed(messages, screen.size.width, console)
    bars = (*screen.query(TopBar), *screen.query(Notices))
    head = max((bar.region.bottom for bar in bars), default=0)
    keys = max((bar.region.height for bar in screen.query(KeyBar)), default=0)
    x = screen.size.width - size.width
    below_head = Region(x, head, *size)
    above_keys = Region(x, screen.size.height - keys - size.height, *size)
    used = in_use(screen)
    best = min((below_head, above_keys), key=lambda place: _hidden(place, used))
    for rack in screen.query(ToastRack):
        rack.styles.dock = "top" if best is below_head else "bottom"
        rack.styles.margin = (head, 0, 0, 0) if best is below_head else (0, 0, keys, 0)


def needed(messages: Sequence[str], width: int, console: Console) -> Size:
    """The cells that these messages take on a screen of that width."""
    room = max(1, width - EDGES)
    height = sum(len(Text(message).wrap(console, room)) for message in messages)
    longest = max((cell_len(message) for message in messages), default=0)
    return Size(min(width, longest + EDGES), height)


def in_use(screen: Screen[object]) -> list[Region]:
    """What is looked at: codes, the row under the cursor, the line that is typed in."""
    regions = [code.region for code in screen.query(QrCode)]
    focused = screen.focused
    if isinstance(focused, RowTable):
        regions.append(focused.cursor_region)
    elif focused is not None:
        regions.append(focused.region)
    return regions


def _hidden(place: Region, used: Sequence[Region]) -> int:
    return sum(place.intersection(region).area for region in used)

"""How values become text: cleaning, shortening, sizes, rates, ages, sparklines.

Pure functions; every string that came from another device passes through
`clean` before anything else sees it. Widths are terminal cells, not
characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells, set_cell_size

MAX_LABEL_CELLS = 48
"""No label from another device takes more of a line than this, however long it is."""

MAX_COMBINING = 2
"""Combining marks kept on one character, so that stacked accents stay in their row."""

_SCAN_LIMIT = 4_096
"""Characters of a hostile string that are looked at; the rest cannot be visible anyway."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The symbols that stand beside a state's word, so that colour is never alone."""

    ok: str = "●"
    warn: str = "▲"
    bad: str = "✗"
    off: str = "○"
    info: str = "◆"
    down: str = "↓"
    up: str = "↑"
    cursor: str = "▌"
    closed: str = "▸"
    opened: str = "▾"
    ascending: str = "▲"
    descending: str = "▼"
    dot: str = "·"
    ellipsis: str = "…"
    bars: str = " ▁▂▃▄▅▆▇█"


UNICODE = Glyphs()
ASCII = Glyphs(
    ok="*",
    warn="!",
    bad="x",
    off="o",
    info="i",
    down="v",
    up="^",
    cursor=">",
    closed="+",
    opened="-",
    ascending="^",
    descending="v",
    dot="-",
    ellipsis="~",
    bars=" .:-=+*%#",
)


def clean(text: object, limit: int = MAX_LABEL_CELLS) -> str:
    """Make a stranger's string safe to show in at most `limit` cells of one line.

    Control characters, escape sequences' introducers, bidirectional overrides,
    zero-width and private characters are dropped, white space is folded to
    single spaces, stacked combining marks are thinned out.
    """
    plain = str(text)[:_SCAN_LIMIT]
    if plain.isascii() and plain.isprintable():  # most of them, and a fifth of the time
        return shorten(" ".join(plain.split()), limit)
    kept: list[str] = []
    combining = 0
    space = False
    for character in plain:
        category = unicodedata.category(character)
        if category[0] == "Z" or character in "\t\r\n":
            space = True
            continue
        if category[0] == "C" or "\ufe00" <= character <= "\ufe0f":
            continue
        if category[0] == "M":
            combining += 1
            if combining > MAX_COMBINING or not kept:
                continue
        else:
            combining = 0
        if space and kept:
            kept.append(" ")
        space = False
        kept.append(character)
        if len(kept) > limit * (MAX_COMBINING + 1):
            break
    return shorten("".join(kept), limit)


def shorten(text: str, width: int, ellipsis: str = "…") -> str:
    """Cut `text` at its end to `width` cells, with an ellipsis where it was cut."""
    if cell_len(text) <= width:
        return text
    if width <= 1:
        return ellipsis[:width]
    return chop_cells(text, width - 1)[0].rstrip() + ellipsis


def shorten_middle(text: str, width: int, ellipsis: str = "…") -> str:
    """Cut `text` in its middle: both ends of an address tell more than its middle."""
    if cell_len(text) <= width:
        return text
    if width <= 3:
        return shorten(text, width, ellipsis)
    tail = (width - 1) // 2
    head = width - 1 - tail
    return text[:head] + ellipsis + text[len(text) - tail :]


def listed(items: Sequence[str], width: int) -> str:
    """As many of them as fit, whole, and how many more there are: `10.0.0.1, 10.0.0.2 +3`."""
    for shown in range(len(items), 0, -1):
        more = len(items) - shown
        text = ", ".join(items[:shown]) + (f" +{more}" if more else "")
        if cell_len(text) <= width or shown == 1:
            return shorten(text, width)
    return ""


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Pad or crop to exactly `width` cells."""
    if text.isascii():
        if len(text) > width:
            # May be less than asked for: no blank stands before the ellipsis.
            text = shorten(text, width)
        return text.rjust(width) if right else text.ljust(width)
    if cell_len(text) > width:
        text = shorten(text, width)
    if right:
        return " " * (width - cell_len(text)) + text
    return set_cell_size(text, width)


_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: float) -> str:
    """Bytes for people, in at most seven cells: `0 B`, `812 B`, `1.2 MB`, `34 GB`."""
    value = float(max(count, 0))
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            if unit == "B" or value >= 99.95:
                return f"{value:.0f} {unit}"
            return f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("the last unit always returns")


def rate(bytes_per_second: float) -> str:
    """A rate for people: `1.2 MB/s`, and a quiet dash when nothing moves."""
    if bytes_per_second < 1:
        return "-"
    return f"{size(bytes_per_second)}/s"


def duration(seconds: float) -> str:
    """A span in its two largest units at most: `4s`, `3m12s`, `2h05m`, `6d`."""
    whole = int(max(seconds, 0))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d"


def age(seconds: float) -> str:
    """A span in its largest unit, for tables: it changes rarely, which costs little."""
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(max(seconds, 0))}s"


def ago(seconds: float) -> str:
    """How long since, in one unit: `now`, `12s ago`, `3m ago`."""
    if seconds < 5:
        return "now"
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit} ago"
    return "now"


def countdown(seconds: float) -> str:
    """Minutes and seconds left: `1:43`; `0:00` when it is over."""
    whole = int(max(seconds, 0) + 0.5)
    return f"{whole // 60}:{whole % 60:02d}"


def code(digits: str) -> str:
    """A pairing code in two groups, as people read it aloud: `123 456`; a key as it is."""
    digits = clean(digits, 14)
    return f"{digits[:3]} {digits[3:]}" if len(digits) == 6 else digits


def transport(name: str) -> str:
    """A transport's name in four cells."""
    return "wg" if name == "wireguard" else clean(name, 4)


def count(number: int, singular: str, plural: str | None = None) -> str:
    """`1 device`, `3 devices`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def chart(
    values: Sequence[float], width: int, rows: int = 1, bars: str = UNICODE.bars
) -> list[str]:
    """The latest `width` values as columns of block characters, scaled to their peak.

    Returns `rows` lines, the top one first. The lowest line always shows a
    foot, so that "nothing moves" and "no data" differ.
    """
    if width <= 0:
        return [""] * rows
    shown = list(values)[-width:]
    peak = max(shown, default=0.0) or 1.0
    top = len(bars) - 1
    heights = [max(1, min(top * rows, round(value / peak * top * rows))) for value in shown]
    lines = []
    for row in range(rows - 1, -1, -1):
        line = "".join(bars[max(0, min(top, height - row * top))] for height in heights)
        lines.append(line.rjust(width))
    return lines

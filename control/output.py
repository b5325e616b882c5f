"""What the command prints: tables that fit the terminal, JSON, colour where it is wanted.

Colour goes to terminals only, and not under NO_COLOR (no-color.org). A table
drops its least important columns until it fits; on a phone that leaves two or
three, which is why the first column is always the one that other commands take.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from control import calling
from control.codec import to_json
from control.encoding import can_show

PIPE_WIDTH = 160
"""Columns assumed where there is no terminal."""
_GAP = "  "
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def print_json(value: Any) -> None:
    """A record or plain JSON values, as JSON."""
    # Where the encoding has no place for all of Unicode, escapes keep the text whole.
    escaped = not can_show("●\U0001f4a1", sys.stdout.encoding)
    json.dump(to_json(value), sys.stdout, indent=2, ensure_ascii=escaped, allow_nan=False)
    sys.stdout.write("\n")


def coloured(stream: TextIO) -> bool:
    """Whether colour is wanted on this stream."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def paint(text: str, *styles: str, stream: TextIO | None = None) -> str:
    """`text` in the given styles, where the stream takes colour."""
    if not styles or not coloured(stream or sys.stdout):
        return text
    return f"\x1b[{';'.join(_CODES[s] for s in styles)}m{text}\x1b[0m"


def complain(message: str, hint: str | None = None) -> None:
    """An error, and what to do about it, on standard error."""
    head = paint("vpnshare:", "red", stream=sys.stderr)
    sys.stderr.write(f"{head} {printable(calling.pasted(message))}\n")
    if hint:
        sys.stderr.write(f"  {printable(calling.pasted(hint))}\n")


def tell(text: str, *styles: str, stream: TextIO | None = None) -> None:
    """A sentence of ours that names commands, as the person here types them, in these styles."""
    stream = stream or sys.stdout
    stream.write(paint(calling.pasted(text), *styles, stream=stream) + "\n")
    stream.flush()


def last_words(lines: Sequence[str]) -> tuple[str, str | None] | None:
    """The last of what `complain` has written among these lines: the message and the hint."""
    for number in range(len(lines) - 1, -1, -1):
        message = lines[number].removeprefix("vpnshare: ")
        if message != lines[number]:
            after = lines[number + 1] if number + 1 < len(lines) else ""
            return message.strip(), after.strip() if after.startswith("  ") else None
    return None


def printable(text: str) -> str:
    """`text` without what could steer the terminal."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c.isprintable() and unicodedata.category(c) != "Cf" else "\ufffd" for c in text
    )


def standard_output() -> int | None:
    """Its descriptor; None where it has none."""
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError):
        return None


def pause(seconds: float, reader: int | None) -> None:
    """Wait. Raises `BrokenPipeError` as soon as nobody reads at the descriptor `reader`."""
    if reader is None:
        time.sleep(seconds)
        return
    poll = select.poll()
    poll.register(reader, 0)  # POLLERR and POLLHUP are told without being asked for (poll(2))
    if poll.poll(seconds * 1000):
        raise BrokenPipeError


def _has_width() -> bool:
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def terminal_width() -> int:
    if _has_width():
        return shutil.get_terminal_size().columns
    return PIPE_WIDTH


def width_of(text: str) -> int:
    """Terminal cells of a text (East Asian wide characters take two)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def fit(text: str, width: int) -> str:
    """`text` cut to `width` cells, the cut marked."""
    if width_of(text) <= width:
        return text
    cut = ""
    for character in text:
        if width_of(cut + character) > width - 1:
            break
        cut += character
    return cut + "…"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `rank` 0 always stays, higher ones go first when it is narrow."""

    title: str
    rank: int = 0
    right: bool = False
    shrink: bool = False
    """May be cut to what is left, down to 8 cells."""


_LEAST = 8


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]], empty: str) -> None:
    """Rows of texts under their titles, or the sentence `empty`."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if not cells:
        tell(empty)
        return
    widths = [
        max(width_of(c.title), *(width_of(row[n]) for row in cells)) for n, c in enumerate(columns)
    ]
    shown = _choose(columns, widths, terminal_width())
    header = [columns[n].title for n in shown]
    print(paint(_line(columns, shown, widths, header).rstrip(), "dim"))
    for row in cells:
        print(_line(columns, shown, widths, [row[n] for n in shown]).rstrip())


def _choose(columns: Sequence[Column], widths: list[int], total: int) -> list[int]:
    """The columns that fit; shrinks those that may be shrunk, in place."""
    shown = list(range(len(columns)))
    while True:
        needed = sum(widths[n] for n in shown) + len(_GAP) * (len(shown) - 1)
        slack = sum(max(0, widths[n] - _LEAST) for n in shown if columns[n].shrink)
        if needed <= total or needed - slack <= total:
            break
        worst = max(shown, key=lambda n: (columns[n].rank, n))
        if columns[worst].rank == 0:
            break
        shown.remove(worst)
    excess = needed - total
    for n in sorted(shown, key=lambda n: -widths[n]):
        if excess > 0 and columns[n].shrink:
            less = min(excess, max(0, widths[n] - _LEAST))
            widths[n] -= less
            excess -= less
    return shown


def _line(
    columns: Sequence[Column], shown: list[int], widths: list[int], texts: Sequence[str]
) -> str:
    parts = []
    for n, text in zip(shown, texts, strict=True):
        text = fit(text, widths[n])
        space = " " * (widths[n] - width_of(text))
        parts.append(space + text if columns[n].right else text + space)
    return _GAP.join(parts)


def print_facts(facts: Iterable[tuple[str, str | None]]) -> None:
    """Lines of `name  value`; a value of None leaves its line out.

    On a terminal a value that is too wide goes on below itself; elsewhere it stays one line.
    """
    present = [(name, printable(value)) for name, value in facts if value is not None]
    width = max((len(name) for name, _ in present), default=0)
    begin = width + len(_GAP)
    room = max(_LEAST, terminal_width() - begin) if _has_width() else None
    for name, value in present:
        first, *rest = [value] if room is None else folded(value, room)
        print(f"{paint(name.ljust(width), 'dim')}{_GAP}{first}")
        for line in rest:
            print(" " * begin + line)


def folded(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells, broken between words; a longer word stays whole."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and width_of(lines[-1]) + 1 + width_of(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def size(count: float) -> str:
    """Bytes for people: `1.2 GB`."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} PB"


def rate(bytes_per_second: float) -> str:
    """Bytes a second, as bits for people: `8.0 Mbit/s`."""
    bits = bytes_per_second * 8
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if bits < 1000:
            return f"{bits:.0f} {unit}" if unit == "bit/s" or bits >= 100 else f"{bits:.1f} {unit}"
        bits /= 1000
    return f"{bits:.1f} Gbit/s"


def digits(code: str) -> str:
    """A pairing code in two groups, as people read it aloud: `123 456`; a key as it is."""
    return f"{code[:3]} {code[3:]}" if len(code) == 6 else printable(code)


def duration(seconds: float) -> str:
    """Seconds for people: `45 s`, `3 min`, `2 h 5 min`, `4 d 1 h`."""
    whole = int(max(0.0, seconds))
    if whole < 100:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 100:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"

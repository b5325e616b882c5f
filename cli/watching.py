"""`--watch`: a command that looks, again and again, on one screen.

On a terminal it has a screen of its own (the alternate one of xterm's), so that what stood
there is there again at the end, with the last look below it. Elsewhere each look is printed
that differs from the one before. A service that goes away is told in its place; the next one
is looked at.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator

from control.errors import ControlError
from control.output import fit, paint, pause, printable, standard_output

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The alternate screen, no cursor, no wrapping (DECSET, ctlseqs of xterm)."""
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"


class _Page(io.StringIO):
    """What a command prints, as it would print it to standard output."""

    def isatty(self) -> bool:
        return sys.__stdout__ is not None and sys.__stdout__.isatty()


def again(command: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run it every `args.watch` seconds, until Ctrl-C. Raises `ControlError` at the first look."""
    text = _look(command, args)
    reader = standard_output()
    with _screen() as draw:
        while True:
            draw(text)
            pause(args.watch, reader)
            try:
                text = _look(command, args)
            except ControlError as error:
                error = error.pasted()
                said = [error.message, *([error.hint] if error.hint else [])]
                text = "".join(f"{printable(line)}\n" for line in said)


def _look(command: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> str:
    page = _Page()
    with contextlib.redirect_stdout(page):
        command(args)
    return page.getvalue()


@contextlib.contextmanager
def _screen() -> Iterator[Callable[[str], None]]:
    """How a look is shown: here, until the end."""
    out, shown, drawn = sys.stdout, "", ""

    def print_news(text: str) -> None:
        nonlocal shown
        if text != shown:
            out.write(f"\n{text}" if shown else text)
            out.flush()
            shown = text

    def draw(text: str) -> None:
        nonlocal shown, drawn
        shown = text
        news = _drawn(text, *shutil.get_terminal_size())
        if news != drawn:
            out.write(news)
            out.flush()
            drawn = news

    if not out.isatty() or os.environ.get("TERM") == "dumb":
        yield print_news
        return
    # Also who is told to end leaves the terminal as it was.
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    out.write(_ENTER)
    try:
        yield draw
    finally:
        out.write(_LEAVE + shown)
        out.flush()
        signal.signal(signal.SIGTERM, before)


def _drawn(text: str, columns: int, rows: int) -> str:
    """A look as the whole screen: what does not fit is counted."""
    lines = text.splitlines()
    if len(lines) > rows - 1:
        left = len(lines) - (rows - 2)
        lines = [*lines[: rows - 2], paint(f"… {left} more lines", "dim")]
    foot = paint(fit("Ctrl-C ends it.", columns), "dim")
    return "\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + f"{foot}\x1b[J"

"""Text for a terminal or a pipe whose encoding may not have all of our characters.

In a locale without UTF-8 (ISO-8859-1, say) a symbol becomes the nearest one in
ASCII, of the same width, and any other character that has no place becomes `?`:
a command never fails by what it has to say.
"""

from __future__ import annotations

import codecs
import io
import os
import sys

REPLACING = "vpnshare.replacing"
"""The name of our error handler, as `str.encode` takes it (see `codecs.register_error`)."""

_NEAREST = {
    **dict.fromkeys("●◆", "*"),
    **dict.fromkeys("○", "o"),
    **dict.fromkeys("▲↑", "^"),
    **dict.fromkeys("▼↓▾", "v"),
    **dict.fromkeys("✗×", "x"),
    **dict.fromkeys("▸▌→", ">"),
    **dict.fromkeys("…", "~"),
    **dict.fromkeys("·–—─━▔▁", "-"),
    **dict.fromkeys("│┃┆▎▏▕▐", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╯╰┏┓┗┛", "+"),
    **dict.fromkeys("▂▃▄▅▆▇█▀▆", "#"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("‘’", "'"),
}


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_NEAREST.get(character, "?") for character in lost), error.end


codecs.register_error(REPLACING, _replace)


def prepare() -> None:
    """Make the standard streams take, and give, any text; one that is closed swallows it."""
    # What was closed would be None: every print with `file=sys.stderr` would fail.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=REPLACING)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")


def can_show(text: str, encoding: str | None) -> bool:
    """Whether an encoding (None: not known) has all characters of `text`."""
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True

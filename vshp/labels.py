"""Cleaning of words that strangers chose, before anybody sees them.

A label may reach a terminal, a log line, a notification or a markup-aware
widget; so what could move the cursor, reverse the reading direction, hide
itself or open a markup tag is taken out, whatever room the text goes to.
"""

from __future__ import annotations

import unicodedata

from vshp.constants import MAX_LABEL

_MARKUP = str.maketrans({"[": "(", "]": ")", "<": "(", ">": ")", "`": "'", "\\": "/"})
_INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols by category, but drawn as nothing."""
_MAX_MARKS = 2
"""Combining marks kept on one character; more pile up over neighbouring lines."""


def clean_label(text: str, limit: int = MAX_LABEL) -> str:
    """`text` as one harmless line of at most `limit` characters; may be empty.

    Control, format (bidi, zero-width), surrogate, private-use and unassigned
    characters go; every kind of blank becomes one space; brackets that open
    markup become round ones.
    """
    kept: list[str] = []
    marks = 0
    # Compatibility forms may grow; what is cut here is far longer than the limit.
    for char in unicodedata.normalize("NFC", text[: 4 * limit]):
        category = unicodedata.category(char)
        if category[0] == "Z" or char in "\t\r\n":
            char = " "
        elif category[0] == "C" or char in _INVISIBLE:
            continue
        if category[0] == "M":
            marks += 1
            if marks > _MAX_MARKS or not kept:
                continue
        else:
            marks = 0
        kept.append(char)
    return " ".join("".join(kept).translate(_MARKUP).split())[:limit].rstrip()


def clip_utf8(text: str, limit: int) -> bytes:
    """`text` as at most `limit` bytes of UTF-8, cut between characters."""
    return text.encode("utf-8", "ignore")[:limit].decode("utf-8", "ignore").encode()

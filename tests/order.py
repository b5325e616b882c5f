"""In which order several workers take the files with tests.

Each worker takes the next file when it is done with one, so what comes last decides how long
one of them works alone: the long files come first, the many short ones last. Of the long ones
those with namespaces mostly wait, and those with the console reckon: they take turns, so that
neither are all processors idle nor do all workers want one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import PurePath

WAIT = ("tests", "netns")
RECKON = ("tests", "tui")
ALONE = "alone"
"""The mark of tests that weigh the machine; they run by themselves, after all others."""


def may_weigh(text: str) -> bool:
    """Whether a file with tests, of which this is the text, may hold some that are marked so."""
    return f"mark.{ALONE}" in text


def spread(files: Sequence[PurePath]) -> list[PurePath]:
    """The files, whose paths begin at the repository's root, as workers are to take them."""
    waiting = [file for file in files if file.parts[:2] == WAIT]
    reckoning = [file for file in files if file.parts[:2] == RECKON]
    others = [file for file in files if file.parts[:2] not in (WAIT, RECKON)]
    turns: Iterable[tuple[PurePath | None, ...]] = zip_longest(waiting, reckoning)
    return [file for turn in turns for file in turn if file is not None] + others

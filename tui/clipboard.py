"""What is copied, and how it is cleaned and told. Pure: the app has the terminal copy it."""

from __future__ import annotations

from dataclasses import dataclass

from tui import formats

MAX_COPIED = 4096
"""Characters that are copied at once: a terminal takes no endless escape sequences."""
COPIED_SHOWN = 48
"""Cells of a copied text that are shown."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Something to copy, and what it is: `the key`."""

    what: str
    text: str
    secret: bool = False
    """Nobody else need read it on the screen again."""

    @property
    def lines(self) -> list[str]:
        """Line by line cleaned: what a stranger wrote is pasted into somebody's shell."""
        lines = self.text[:MAX_COPIED].splitlines()
        return [formats.clean(line, MAX_COPIED) for line in lines]

    @property
    def told(self) -> str:
        """That it is copied, in a sentence."""
        shown = "" if self.secret else f": {formats.shorten(' '.join(self.lines), COPIED_SHOWN)}"
        return f"Copied {self.what}, if the terminal allows it{shown}"

"""A painted part of one screen, which is given to it: it shows what that screen holds."""

from __future__ import annotations

from typing import Generic, TypeVar

from tui.console import InConsole
from tui.widgets.painted import Painted

Shown = TypeVar("Shown")


class Part(InConsole, Painted, Generic[Shown]):
    """Subclasses name the screen's class and implement `lines`."""

    def __init__(self, shows: Shown, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.shows = shows

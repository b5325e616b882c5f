"""What all dialogs have in common: the first answer counts, and lists that one can move in."""

from __future__ import annotations

import contextlib
from typing import ClassVar, Literal, TypeVar

from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.screen import ModalScreen
from textual.widgets import OptionList

from tui.timers import SureTimers

Answer = TypeVar("Answer")


class Dialog(ModalScreen[Answer]):
    """A question or a text in front of a section."""

    def leave(self, answer: Answer) -> None:
        """Close with this answer, unless there was one.

        A second one may be on its way already: two keys in one packet, a key and a click.
        """
        if self.is_active:
            self.dismiss(answer)


def _unless_without_room() -> contextlib.AbstractContextManager[None]:
    """For moves by a page: Textual 8.2.8 knows no lines of a list that has no row to show them."""
    return contextlib.suppress(KeyError, IndexError)


class Choices(OptionList):
    """A list to choose from, also with `j` and `k`, also where there is no room for it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", show=False),
        Binding("k", "cursor_up", "Up", show=False),
    ]

    def _move_page(self, direction: Literal[-1, 1]) -> None:
        with _unless_without_room():
            super()._move_page(direction)


class Palette(SureTimers, CommandPalette):
    """The command palette, also where there is no room for its list."""

    def _action_command_list(self, action: str) -> None:
        with _unless_without_room():
            super()._action_command_list(action)

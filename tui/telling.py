"""Calls of the service's methods, and what the console tells: how they went, what is copied.

A message stands beside what is in use and goes by itself. Nothing that it says is read as
markup: names come from strangers.
"""

from __future__ import annotations

from typing import Any

from textual import on
from textual.app import App
from textual.notifications import SeverityLevel
from textual.screen import Screen

from control import schema
from control.errors import ControlError
from tui import formats, messages
from tui.clipboard import Copied
from tui.link import Link
from tui.widgets.table import RowTable

MAX_TOLD = 240
"""Characters of a message."""
SHOWN_SECONDS: dict[SeverityLevel, float] = {"information": 6.0, "warning": 10.0, "error": 10.0}


class Telling(App[int]):
    """The part of the app that calls and tells."""

    link: Link

    def tell(self, text: str, severity: SeverityLevel = "information") -> None:
        """A sentence beside what is in use, for a few seconds. Never read as markup."""
        self.notify(
            formats.clean(text, MAX_TOLD),
            severity=severity,
            markup=False,
            timeout=SHOWN_SECONDS[severity],
        )
        self.call_later(self.place_messages)  # behind the message itself

    def place_messages(self) -> None:
        """Keep the messages off what is in use."""
        told = [each.message for each in self._notifications]
        if told and self.screen_stack:
            messages.place(self.screen_stack, told, self.console)

    def screen_changed(self, screen: Screen[Any]) -> None:
        """Another screen is in front."""
        screen.call_after_refresh(self.place_messages)

    @on(RowTable.Highlighted)
    def _cursor_moved(self) -> None:
        self.place_messages()

    def start(self, method: str, done: str, **params: Any) -> None:
        """Call a method of the service and tell how it went."""
        self.run_worker(self.carry_out(method, done, **params), group="calls")

    async def carry_out(self, method: str, done: str, **params: Any) -> bool:
        """The same, for those who wait for it. Whether it succeeded."""
        try:
            answer = await self.link.call(method, **params)
        except ControlError as error:
            self.tell(" ".join(filter(None, (error.message, error.hint))), "error")
            return False
        self.tell(done)
        self.tell_unwritten(getattr(answer, "unwritten", []))
        return True

    def tell_unwritten(self, unwritten: list[schema.Unwritten]) -> None:
        """A change is in force and was not stored."""
        for each in unwritten:
            self.tell(f"{each.found} {each.advice}", "warning")

    def copy(self, copied: Copied) -> None:
        """Have the terminal put a text on its clipboard (OSC 52), and say what it is."""
        self.copy_to_clipboard("\n".join(copied.lines))
        self.tell(copied.told)

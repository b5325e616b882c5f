"""Dialogs that change one value: a line of text that is checked before they close, a choice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static
from textual.widgets.option_list import Option

from tui.formats import UNICODE, Glyphs, fit
from tui.screens.dialog import Choices, Dialog

Submit = Callable[[str], Awaitable[str | None]]
"""Carry the value out; the sentence against it, or None when it was taken."""


class EditScreen(Dialog[bool]):
    """Asks for a line of text and stays, with the reason, until it is taken or given up."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(
        self,
        title: str,
        help: str,
        value: str,
        bounds: str,
        submit: Submit,
        secret: bool = False,
    ) -> None:
        """`secret`: what is typed is not shown, and nothing typed changes nothing."""
        super().__init__()
        self.heading = title
        self.help = help
        self.value = value
        self.bounds = bounds
        self.submit = submit
        self.secret = secret

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Text(self.heading), classes="question", markup=False)
            yield Static(Text(f"{self.help} ({self.bounds})"), classes="quiet", markup=False)
            # Selected on focus, letters typed ahead of the dialog would be lost.
            yield Input(self.value, compact=True, select_on_focus=False, password=self.secret)
            problem = Static("", id="problem", markup=False)
            problem.display = False
            yield problem
            yield Static(Text("enter: set   esc: cancel"), classes="quiet", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def action_cancel(self) -> None:
        self.leave(False)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if self.secret and not text:
            self.leave(False)
            return
        self.run_worker(self._try(text), group="submit", exclusive=True)

    async def _try(self, text: str) -> None:
        said = await self.submit(text)
        if said is None:
            self.leave(True)
            return
        problem = self.query_one("#problem", Static)
        problem.update(Text(f"✗ {said}"))
        problem.display = True


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the things to choose from."""

    value: str
    label: str
    """How it is called here."""
    note: str = ""


OTHER = Choice("", "another…")
"""Chosen by who wants to write it."""


class ChoiceScreen(Dialog[Choice | None]):
    """One of a few things, the present one marked; or another, where any may be."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "cancel", "Cancel"),
    ]

    def __init__(
        self,
        title: str,
        choices: Sequence[Choice],
        current: str,
        other: bool = False,
        verb: str = "set",
    ) -> None:
        """`verb`: what is done to the one that is chosen."""
        super().__init__()
        self.verb = verb
        self.heading = title
        self.choices = [*choices, OTHER] if other else list(choices)
        values = [choice.value for choice in choices]
        self.at = values.index(current) if current in values else None
        """Where the present value stands; None: nowhere."""

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Text(self.heading), classes="question", markup=False)
            yield Choices(*map(self._option, range(len(self.choices))), compact=True)
            yield Static(Text(f"enter: {self.verb}   esc: cancel"), classes="quiet", markup=False)

    def on_mount(self) -> None:
        options = self.query_one(Choices)
        options.highlighted = self.at or 0
        options.focus()

    def _option(self, position: int) -> Option:
        choice = self.choices[position]
        glyphs: Glyphs = getattr(self.app, "glyphs", UNICODE)
        wide = max(cell_len(each.label) for each in self.choices)
        mark = glyphs.ok if position == self.at else " "
        return Option(Text(f"{mark} {fit(choice.label, wide)}  {choice.note}".rstrip()))

    @on(Choices.OptionSelected)
    def _chosen(self, event: Choices.OptionSelected) -> None:
        self.leave(self.choices[event.option_index])

    def action_cancel(self) -> None:
        self.leave(None)

"""Questions and lists in front of a section: confirm, prompt, help, theme, text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button, Input, Static
from textual.widgets.option_list import Option

from tui import actions
from tui.screens.dialog import Choices, Dialog
from tui.themes import ThemeFile


class ConfirmScreen(Dialog[bool]):
    """Asks before something that cannot be taken back, and names what it will hit."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
        Binding("left,right", "other", "Other button", show=False),
    ]

    def __init__(self, question: str, explanation: str, verb: str) -> None:
        super().__init__()
        self.question = question
        self.explanation = explanation
        self.verb = verb

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Text(self.question), classes="question", markup=False)
            yield Static(Text(self.explanation), classes="quiet", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("No (n)", id="no", compact=True)
                yield Button(f"{self.verb} (y)", id="yes", variant="error", compact=True)

    def on_mount(self) -> None:
        self.query_one("#no", Button).focus()

    def action_answer(self, answer: bool) -> None:
        self.leave(answer)

    def action_other(self) -> None:
        self.focus_next()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.leave(event.button.id == "yes")


class PromptScreen(Dialog[str | None]):
    """Asks for one line of text."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, question: str, value: str = "", placeholder: str = "") -> None:
        super().__init__()
        self.question = question
        self.value = value
        self.placeholder = placeholder

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Text(self.question), classes="question", markup=False)
            yield Input(self.value, placeholder=self.placeholder, compact=True)
            yield Static(Text("enter: ok   esc: cancel"), classes="quiet", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def action_cancel(self) -> None:
        self.leave(None)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.leave(event.value.strip() or None)


class TextScreen(Dialog[None]):
    """Shows a text that was too long for its row."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "close", "Close")]

    def __init__(self, title: str, text: RenderableType) -> None:
        super().__init__()
        self.heading = title
        self.text = text

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog wide"):
            yield Static(Text(self.heading), classes="question", markup=False)
            yield Static(self.text, markup=False)

    def on_click(self, event: events.Click) -> None:
        if event.widget is self:
            self.leave(None)

    def action_close(self) -> None:
        self.leave(None)


class HelpScreen(TextScreen):
    """All keys, from the registry; those of the present section first."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "close", "Close")]

    def __init__(self, role: str, section: str, keymap: dict[str, str]) -> None:
        super().__init__("Keys", _help(role, section, keymap))


def _help(role: str, section: str, keymap: dict[str, str]) -> Group:
    known = actions.sections(role)
    places = [(found.title, found.id) for found in known if found.id == section]
    if any(found.id == section and actions.LISTS in found.scopes for found in known):
        places.append(("Every list", actions.LISTS))
    places.append(("Everywhere", actions.EVERYWHERE))
    places += [(found.title, found.id) for found in known if found.id != section]
    parts: list[RenderableType] = []

    def group(title: str, rows: list[tuple[str, str]]) -> None:
        table = Table.grid(Column(width=8), Column(ratio=1), padding=(0, 1, 0, 0), expand=True)
        for keys, meaning in rows:
            table.add_row(Text(f" {keys}", "bold"), Text(meaning))
        parts.extend((Text(title, "bold underline"), table, Text()))

    for title, scope in places:
        rows = [
            (
                actions.display_keys(keymap.get(action.id, action.key)),
                action.title + (" (asks first)" if action.danger else ""),
            )
            for action in actions.for_role(role)
            if action.scope == scope
        ]
        if rows:
            group(title, rows)
    numbers = [(str(number), found.title) for number, found in enumerate(known, start=1)]
    group("Moving", [*numbers, ("j k", "Down and up, as the arrows; page, home and end keys")])
    return Group(*parts)


class ThemeScreen(Dialog[str | None]):
    """A list of themes; each is tried on as the cursor comes to it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "cancel", "Cancel"),
    ]

    def __init__(
        self, themes: Sequence[ThemeFile], current: str, preview: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.themes = themes
        self.before = current
        self.preview = preview

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Text("Theme"), classes="question", markup=False)
            yield Choices(
                *(Option(Text(theme.title), id=theme.name) for theme in self.themes),
                compact=True,
            )
            yield Static(Text("enter: keep   esc: as before"), classes="quiet", markup=False)

    def on_mount(self) -> None:
        names = [theme.name for theme in self.themes]
        options = self.query_one(Choices)
        options.highlighted = names.index(self.before) if self.before in names else 0
        options.focus()

    @on(Choices.OptionHighlighted)
    def _try(self, event: Choices.OptionHighlighted) -> None:
        # News of the cursor may come after the answer, which it must not undo.
        if event.option.id and self.is_active:
            self.preview(event.option.id)

    @on(Choices.OptionSelected)
    def _keep(self, event: Choices.OptionSelected) -> None:
        self.leave(event.option.id)

    def action_cancel(self) -> None:
        self.preview(self.before)
        self.leave(None)

"""Sections with a list: the same keys filter, sort and clear each of them.

`/` opens a line for words; only rows that contain all of them are shown, as
they are typed. `o`, `i` and clicks on titles choose the order. The tables do
it themselves where they have all rows. A section whose service filters or
sorts for it (flows, the log) overrides `choose` or `order_list`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.timer import Timer
from textual.widgets import Input

from tui import actions, formats
from tui.screens.section import SectionScreen
from tui.widgets.filter import FilterInput
from tui.widgets.painted import Painted
from tui.widgets.part import Part
from tui.widgets.table import RowTable

TYPING_PAUSE = 0.3
"""Seconds after the last letter of a filter until the service is asked."""


class ListScreen(SectionScreen):
    """A section with one list, or several that are filtered together."""

    BINDINGS = actions.bindings(actions.LISTS)
    FILTER_HINT: ClassVar[str] = "words"
    """What the filter is looked for in."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = ""
        self._typing: Timer | None = None
        self._last: RowTable[Any] | None = None
        self._wanted_words: str | None = None
        self._wanted_row: str | None = None
        """What another section asked this one to show, until it can."""

    def foot(self) -> ComposeResult:
        line = FilterInput(placeholder=self.FILTER_HINT, compact=True, id="filter",
                           select_on_focus=False)  # fmt: skip
        line.display = False
        yield line

    @property
    def tables(self) -> list[RowTable[Any]]:
        return list(self.query(RowTable))

    @property
    def in_hand(self) -> RowTable[Any]:
        """The table that keys mean: the one that has the focus or had it last, or the first."""
        if isinstance(self.focused, RowTable):
            self._last = self.focused
        return self._last or self.tables[0]

    def heads(self) -> None:
        """Redraw what tells of the filter and the order."""
        for painted in self.query(Painted):
            painted.redraw()
        self.refresh_bindings()

    # What a section may do otherwise

    def choose(self, settled: bool) -> None:
        """Show only what contains the filter's words; `settled` once the typing has paused."""
        for table in self.tables:
            table.set_words(self.filter)

    def order_list(self, table: RowTable[Any], key: str | None) -> None:
        """Sort by that column, or by the next one."""
        if key is None:
            table.next_order()
        else:
            table.order_by(key)

    def clear_more(self) -> bool:
        """Take back something that comes before the filter; whether there was something."""
        return False

    def clear_order(self) -> None:
        for table in self.tables:
            table.set_order(None)

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "list_reverse":
            tables = self.tables
            return True if tables and self.in_hand.order is not None else None
        return super().check_action(action, parameters)

    def may(self, action: actions.Action) -> bool | None:
        return True if action.scope == actions.LISTS else self.may_here(action)

    def may_here(self, action: actions.Action) -> bool | None:
        """Whether one of the section's own actions makes sense now; None greys it."""
        return True

    def action_list_sort(self) -> None:
        self.order_list(self.in_hand, None)
        self.heads()

    def action_list_reverse(self) -> None:
        order = self.in_hand.order
        if order is not None:
            self.order_list(self.in_hand, order.key)
            self.heads()

    @on(RowTable.TitlePressed)
    def _title_pressed(self, event: RowTable.TitlePressed) -> None:
        if event.table in self.tables:
            self.order_list(event.table, event.key)
            self.heads()

    def action_list_clear(self) -> None:
        if self.clear_more():
            return
        if self.filter:
            self.query_one(FilterInput).value = ""
            self._filter(settled=True)
            return
        self.clear_order()
        self.heads()

    def action_list_filter(self) -> None:
        self._last = self.in_hand  # the focus comes back to it
        line = self.query_one(FilterInput)
        line.display = True
        line.value = self.filter
        line.focus()

    @on(Input.Changed, "#filter")
    def _typed(self) -> None:
        self._filter(settled=False)

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        table = self.in_hand
        self._filter(settled=True)
        self.query_one(FilterInput).display = False
        table.focus()

    def _filter(self, settled: bool) -> None:
        if self._typing is not None:
            self._typing.stop()
            self._typing = None
        self.filter = " ".join(self.query_one(FilterInput).value.split())
        self.choose(settled)
        self.heads()
        if not settled:
            self._typing = self.set_timer(TYPING_PAUSE, self._paused)

    def look_for(self, words: str, row_id: str | None = None) -> None:
        """Filter by these words, as if they had been typed, and go to that row.

        The section may be a new one, which has neither a filter nor rows yet.
        """
        self._wanted_words, self._wanted_row = words, row_id
        self._find_wanted()

    def news(self, topics: Collection[str] | None) -> None:
        super().news(topics)
        self._find_wanted()

    def _find_wanted(self) -> None:
        if not self.is_mounted:
            return
        if self._wanted_words is not None:
            with self.prevent(Input.Changed):
                self.query_one(FilterInput).value = self._wanted_words
            self._wanted_words = None
            self._filter(settled=True)
        if self._wanted_row is not None and self.in_hand.given is not None:
            self.in_hand.move_to(self._wanted_row)
            self._wanted_row = None

    def _paused(self) -> None:
        self._typing = None
        self.choose(True)
        self.heads()


def filter_words(card: Painted, words: str) -> Text:
    """By which words a list is filtered, for a section's first line; nothing without words."""
    return Text(f"  /{formats.clean(words, 24)}", card.tone("accent")) if words else Text()


def filtered(card: Painted, screen: ListScreen) -> Text:
    """The same with how many rows are left."""
    text = Text()
    if not screen.filter:
        return text
    table = screen.in_hand
    if table.local and table.given is not None:
        headings = 0
        if table.heading is not None:
            headings = sum(table.heading(row) is not None for row in table.given)
            shown = sum(table.heading(row) is None for row in table.rows)
        else:
            shown = len(table.rows)
        text.append(f"  {shown:,} of {len(table.given) - headings:,}", card.tone("quiet"))
    return text.append_text(filter_words(card, screen.filter))


class FilterLine(Part[ListScreen]):
    """The filter of a section that has no first line of its own; there while there is one."""

    DEFAULT_CSS = "FilterLine { height: 1; }"

    def on_mount(self) -> None:
        self.display = False

    def lines(self, width: int) -> list[Text]:
        return [filtered(self, self.shows)]

    def redraw(self) -> None:
        self.display = bool(self.shows.filter)
        super().redraw()

"""A table that draws its own lines: thousands of rows, one repaint per changed row.

Rows are records; a `Column` says how to turn one into a cell. The cursor is
kept by row id, so it stays on its thing when the order changes or rows come
and go. On `show` only the visible rows are turned into cells, compared with
what is on the screen, and repainted where they differ; a table of 5,000 rows
costs as much as one of forty. Columns carry a tier and leave when the table
is narrow. The first line of the viewport is the heading and does not scroll; a
click on a column's title asks for the order by it. Rows are filtered and sorted
here, unless the service does it (`local=False`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, ClassVar, Generic

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.formats import UNICODE, Glyphs, fit
from tui.widgets.columns import (
    NORMAL_WIDTH,
    WIDE_WIDTH,
    Cell,
    Column,
    Order,
    R,
    arranged,
    next_order,
    order_by,
)
from tui.widgets.painted import Tone, changed_runs, tone_style

ASKING = "Asking…"
"""Stands where rows will be, until the service has told them."""
NOTHING_FOUND = "Nothing contains these words."


@dataclass(frozen=True, slots=True)
class _Line:
    """What one line shows; compared to know whether it must be painted again."""

    kind: str
    """`row`, `group` (a heading over the whole width), or `blank`."""
    cells: tuple[Cell, ...]
    cursor: bool = False


def _changes(before: Cell, after: Cell, width: int, right: bool) -> list[tuple[int, int]]:
    """The runs in which a cell of the table, `width` wide, differs, as start and end."""
    if before == after:
        return []
    if before[1] != after[1]:
        return [(0, width)]
    return changed_runs(
        fit(before[0], width, right=right), fit(after[0], width, right=right), width
    )


class RowTable(ScrollView, Generic[R], can_focus=True):
    """The table. Give it columns and an id function, then `show` rows."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--head",
        "table--cursor",
        "table--cursor-blurred",
        "table--group",
    }
    ALLOW_SELECT = False
    DEFAULT_CSS = """RowTable { height: 1fr; overflow-x: hidden;
    scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0;
    & > .table--head { color: $quiet; text-style: bold; }
    & > .table--cursor { background: $row-cursor; color: $row-cursor-text; text-style: bold; }
    & > .table--cursor-blurred { background: $panel; }
    & > .table--group { color: $text-accent; text-style: bold; }
    }"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "cursor(-1)", "Up", show=False, id="table.up"),
        Binding("down,j", "cursor(1)", "Down", show=False, id="table.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="table.page-up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="table.page-down"),
        Binding("home", "edge(-1)", "First", show=False, id="table.first"),
        Binding("end,G", "edge(1)", "Last", show=False, id="table.last"),
        Binding("enter", "select", "Details", show=False, id="table.select"),
    ]

    class Highlighted(Message):
        """The cursor came to another row (or to none)."""

        def __init__(self, table: RowTable[Any], row_id: Hashable | None) -> None:
            super().__init__()
            self.table = table
            self.row_id = row_id

        @property
        def control(self) -> RowTable[Any]:
            return self.table

    class Selected(Highlighted):
        """Enter, or a click on the row that has the cursor."""

    class TitlePressed(Message):
        """A click on a column's title."""

        def __init__(self, table: RowTable[Any], key: str) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> RowTable[Any]:
            return self.table

    class ReachedEnd(Message):
        """The cursor stands on the last row and was asked to go on."""

        def __init__(self, table: RowTable[Any]) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> RowTable[Any]:
            return self.table

    def __init__(
        self,
        columns: Sequence[Column[R]],
        row_id: Callable[[R], Hashable],
        *,
        empty: str = "Nothing here yet.",
        heading: Callable[[R], Cell | None] | None = None,
        text_of: Callable[[R], str] | None = None,
        faded: Callable[[R], bool] | None = None,
        local: bool = True,
        cursor: bool = True,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.columns = columns
        self.row_id = row_id
        self.empty = empty
        self.heading = heading
        self.text_of = text_of or self._texts
        """What a filter's words are looked for in."""
        self.faded = faded
        """Whether a row is of the past."""
        self.local = local
        """Filtered and sorted here."""
        self.has_cursor = cursor
        self.rows: Sequence[R] = ()
        self.given: Sequence[R] | None = None
        """All rows, as they came; None: not told yet."""
        self.words = ""
        self.order: Order | None = None
        self.cursor_id: Hashable | None = None
        self.follow = False
        """Keep the cursor's row in view when it moves in the order."""
        self.tail = False
        """Stay at the last row as rows arrive."""
        self._index: dict[Hashable, int] = {}
        self._at = 0
        self._painted: dict[int, _Line] = {}
        self._made: dict[int, tuple[R, _Line]] = {}
        """By position, rows with their lines that have been made but not painted."""
        self._base = Style.null()
        """Of the lines that are being rendered."""
        self._inks: dict[tuple[Tone, str], Style] = {}
        """Styles of cells on that base, by tone and the class of the cursor that stands there."""
        self._widths: list[tuple[Column[R], int]] = []

    @property
    def _glyphs(self) -> Glyphs:
        glyphs: Glyphs = getattr(self.app, "glyphs", UNICODE)
        return glyphs

    # Data

    def say_empty(self, why: str) -> None:
        """Why there are no rows, should there be none, and what brings some."""
        if why != self.empty:
            self.empty = why
            if not self.rows:
                self.refresh()

    def show(self, rows: Sequence[R] | None) -> None:
        """Replace the rows; the cursor stays on its row, or near it if that is gone.

        None: the service has not told them yet.
        """
        self.given = rows
        rows = rows or ()
        if self.local:
            rows = arranged(rows, self.columns, self.order, self.words, self.text_of, self.heading)
        grown = len(rows) != len(self.rows)
        self.rows = rows
        self._index = {self.row_id(row): position for position, row in enumerate(rows)}
        before = self._at, self.cursor_id
        if self.cursor_id in self._index:
            self._at = self._index[self.cursor_id]
        else:
            self._at = max(0, min(self._at, len(rows) - 1))
            self.cursor_id = self.row_id(rows[self._at]) if rows else None
        if self.tail and rows:
            self._at = len(rows) - 1
            self.cursor_id = self.row_id(rows[-1])
        if grown:
            self.virtual_size = Size(self.size.width, len(rows) + 1)
        if any(column.whole for column in self.columns):
            widths, self._widths = self._widths, []
            if widths and self._layout() != widths:
                self.refresh()
        if self.tail:
            # Forced: the scroll bar that allows it appears only with the next layout.
            top = max(0, len(rows) + 1 - self.size.height)
            self.scroll_to(y=top, animate=False, force=True)
        elif self.follow:
            self._reveal()
        if (self._at, self.cursor_id) != before and self.cursor_id != before[1]:
            self.post_message(self.Highlighted(self, self.cursor_id))
        self._repaint()

    def _texts(self, row: R) -> str:
        return " ".join(column.cell(row)[0] for column in self.columns)

    def set_words(self, words: str) -> None:
        """Show only rows that contain all of these words."""
        if words != self.words:
            self.words = words
            self.show(self.given)

    def set_order(self, order: Order | None) -> None:
        """Sort by a column, and mark it; None: as the rows come."""
        if order != self.order:
            self.order = order
            self.refresh(Region(0, 0, self.size.width, 1))
            self.show(self.given)

    def next_order(self) -> None:
        """Sort by the next of the columns that are on the screen."""
        self.set_order(next_order([column for column, _ in self._layout()], self.order))

    def order_by(self, key: str) -> None:
        """Sort by that column; the other way round where it is so already."""
        self.set_order(order_by(self.columns, self.order, key))

    @property
    def current(self) -> R | None:
        """The row under the cursor."""
        return self.rows[self._at] if self.rows and self._at < len(self.rows) else None

    @property
    def cursor_region(self) -> Region:
        """Where on the screen the row under the cursor is; empty where it is not seen."""
        y = self._at - self.scroll_offset.y + 1
        if not self.has_cursor or not self.rows or not 1 <= y < self.size.height:
            return Region()
        return Region(self.region.x, self.region.y + y, self.region.width, 1)

    def move_to(self, row_id: Hashable) -> None:
        """Put the cursor on a row, if it is there."""
        if row_id in self._index:
            self._go(self._index[row_id])

    # Keys and mouse

    def action_cursor(self, step: int) -> None:
        if not self.has_cursor:
            self.tail = False
            self.scroll_to(y=self.scroll_offset.y + step, animate=False)
            return
        if step > 0 and self._at + step >= len(self.rows):
            self.post_message(self.ReachedEnd(self))
        self._go(self._at + step)

    def action_page(self, step: int) -> None:
        height = max(1, self.size.height - 2)
        self.action_cursor(step * height)

    def action_edge(self, step: int) -> None:
        if not self.has_cursor:
            self.tail = step > 0
            self.scroll_to(y=0 if step < 0 else len(self.rows), animate=False)
            return
        if step > 0:
            self.post_message(self.ReachedEnd(self))
        self._go(0 if step < 0 else len(self.rows) - 1)

    def action_select(self) -> None:
        if self.current is not None:
            self.post_message(self.Selected(self, self.cursor_id))

    def on_click(self, event: events.Click) -> None:
        position = event.y - self.content_offset.y
        if position == 0:
            self._press_title(event.x - self.content_offset.x)
        if position < 1 or not self.has_cursor:
            return
        row = position - 1 + self.scroll_offset.y
        if row < len(self.rows):
            again = row == self._at
            self._go(row)
            if again:
                self.action_select()

    def _press_title(self, at: int) -> None:
        x = 1
        for column, width in self._layout():
            # The gap after a title belongs to it: fingers are wide.
            if x <= at <= x + width and column.title:
                self.post_message(self.TitlePressed(self, column.key))
                return
            x += width + 1

    def _go(self, position: int) -> None:
        if not self.rows:
            return
        position = max(0, min(position, len(self.rows) - 1))
        if position == self._at and self.cursor_id is not None:
            return
        old, self._at = self._at, position
        self.cursor_id = self.row_id(self.rows[position])
        self.tail = self.tail and position == len(self.rows) - 1
        self._reveal()
        self._refresh_row(old)
        self._refresh_row(position)
        self.post_message(self.Highlighted(self, self.cursor_id))

    def _reveal(self) -> None:
        page = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self._at < top:
            self.scroll_to(y=self._at, animate=False, force=True)
        elif self._at >= top + page:
            self.scroll_to(y=self._at - page + 1, animate=False, force=True)

    # Drawing

    def on_mount(self) -> None:
        self.virtual_size = Size(self.size.width, len(self.rows) + 1)

    def on_resize(self) -> None:
        self._widths = []
        # Rows may come before the next repaint; they have other columns than these.
        self._painted.clear()
        self._made.clear()
        self.virtual_size = Size(self.size.width, len(self.rows) + 1)
        self.refresh()

    def watch_has_focus(self, _: bool) -> None:
        super().watch_has_focus(_)
        self._refresh_row(self._at)

    def _refresh_row(self, position: int) -> None:
        y = position - self.scroll_offset.y + 1
        if 1 <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def _repaint(self) -> None:
        """Mark the visible rows dirty whose cells are not what is on the screen."""
        top = self.scroll_offset.y
        layout = self._layout()
        changed: list[Region] = []
        self._made.clear()
        for y in range(1, self.size.height):
            position = top + y - 1
            old, new = self._painted.get(y), self._line(position)
            if old == new:
                continue
            if position < len(self.rows):
                self._made[position] = self.rows[position], new
            if old is None or (old.kind, old.cursor) != (new.kind, new.cursor) or old.kind != "row":
                changed.append(Region(0, y, self.size.width, 1))
                continue
            # Single digits: over SSH a whole row for one age that moved is a waste.
            x = 1
            for (column, width), before, after in zip(layout, old.cells, new.cells, strict=True):
                if before != after:
                    for start, end in _changes(before, after, width, column.right):
                        changed.append(Region(x + start, y, end - start, 1))
                x += width + 1
        if changed:
            self.refresh(*changed)

    def _why_empty(self) -> list[str]:
        """Why there are no rows, in as many lines as it takes; none where there are rows."""
        if self.rows:
            return []
        why = self.empty
        if self.given is None:
            why = ASKING
        elif self.given and self.local:
            why = NOTHING_FOUND
        return wrap(why, max(1, self.size.width - 1))

    def _line(self, position: int) -> _Line:
        if position >= len(self.rows):
            why = self._why_empty()
            return _Line("blank", ((why[position] if position < len(why) else "", "quiet"),))
        row = self.rows[position]
        cursor = self.has_cursor and position == self._at
        made = self._made.pop(position, None)
        if made is not None and made[0] is row and made[1].cursor == cursor:
            return made[1]
        heading = self.heading(row) if self.heading else None
        if heading is not None:
            return _Line("group", (heading,), cursor)
        cells = tuple(column.cell(row) for column, _ in self._layout())
        if self.faded is not None and self.faded(row):
            cells = tuple((text, "quiet") for text, _ in cells)
        return _Line("row", cells, cursor)

    def _lacks(self, column: Column[R]) -> int:
        """Cells that the column's longest cell has more than the column."""
        rows = (row for row in self.rows if self.heading is None or self.heading(row) is None)
        longest = max((cell_len(column.cell(row)[0]) for row in rows), default=0)
        return max(0, longest - column.width)

    def _layout(self) -> list[tuple[Column[R], int]]:
        if not self._widths:
            width = self.size.width
            tier = (width >= NORMAL_WIDTH) + (width >= WIDE_WIDTH)
            chosen = [column for column in self.columns if column.tier <= tier]
            spare = width - 2 - sum(column.width for column in chosen) - (len(chosen) - 1)
            shares = sum(column.flex for column in chosen) or 1
            spare = max(0, spare)
            more: dict[str, int] = {}
            for column in chosen:
                if column.whole:
                    more[column.key] = min(spare, self._lacks(column))
                    spare -= more[column.key]
            self._widths = [
                (column, column.width + more.get(column.key, 0) + spare * column.flex // shares)
                for column in chosen
            ]
        return self._widths

    def notify_style_update(self) -> None:
        """The theme or the focus changed."""
        before, self._inks = self._inks, {}
        super().notify_style_update()
        plain = ((tone, ink) for (tone, there), ink in before.items() if not there)
        if any(self._base + tone_style(self, tone) != ink for tone, ink in plain):
            self.refresh()

    def render_lines(self, crop: Region) -> list[Strip]:
        base = self.rich_style  # asks every ancestor: once for all lines
        if base != self._base:
            self._base = base
            self._inks.clear()
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        base = self._base
        if y == 0:
            return self._head(width, base)
        line = self._line(self.scroll_offset.y + y - 1)
        self._painted[y] = line
        return self._strip(line, width)

    def _head(self, width: int, base: Style) -> Strip:
        style = base + self.get_component_rich_style("table--head", partial=True)
        parts = []
        for column, cells in self._layout():
            title = column.title
            if self.order is not None and column.key == self.order.key:
                glyphs = self._glyphs
                mark = glyphs.descending if self.order.descending else glyphs.ascending
                title = title[: cells - 1] + mark
            parts.append(fit(title, cells, right=column.right))
        return Strip([Segment(fit(" " + " ".join(parts), width), style)], width)

    def _strip(self, line: _Line, width: int) -> Strip:
        there = ""
        if line.cursor:
            there = "table--cursor" if self.has_focus else "table--cursor-blurred"
        plain = self._ink("plain", there)
        gutter = Segment(self._glyphs.cursor if line.cursor else " ", plain)
        if line.kind != "row":
            text, tone = line.cells[0]
            if line.kind == "group":
                style = self._base + self.get_component_rich_style("table--group", partial=True)
                if there:
                    style += self.get_component_rich_style(there, partial=True)
            else:
                style = self._ink(tone, there)
            return Strip([gutter, Segment(fit(text, width - 1), style)], width)
        # Made in one piece: each step of Textual's from strip to strip costs eight objects.
        segments: list[Segment] = []
        text, style, used = gutter.text, plain, 1
        for (column, cells), (content, tone) in zip(self._layout(), line.cells, strict=True):
            ink = self._ink(tone, there)
            if ink != style:
                segments.append(Segment(text, style))
                text, style = "", ink
            # The gap belongs to the cell before it: one change of style less to send.
            text += fit(content, cells, right=column.right) + " "
            used += cells + 1
        segments.append(Segment(text, style))
        if used > width:
            return Strip(segments, used).crop(0, width)
        if used < width:
            segments.append(Segment(" " * (width - used), plain))
        return Strip(segments, width)

    def _ink(self, tone: Tone, there: str) -> Style:
        """A cell's style, under a cursor of that class if one is there."""
        found = self._inks.get((tone, there))
        if found is None:
            found = self._base + tone_style(self, tone)
            if there:
                found += self.get_component_rich_style(there, partial=True)
            self._inks[tone, there] = found
        return found

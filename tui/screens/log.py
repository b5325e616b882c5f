"""The service's log: levels, a filter, and staying at the newest line.

The service sends the newest lines of the level that contain the filter's words,
each with its number, so a line is never shown twice. What came in between two
looks and did not fit is counted, and the count stays on the screen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult

from control import schema
from tui import actions, formats
from tui.clipboard import Copied
from tui.screens.listing import ListScreen, filter_words
from tui.screens.modals import TextScreen
from tui.widgets.columns import Cell, Column
from tui.widgets.painted import Tone
from tui.widgets.part import Part
from tui.widgets.table import NOTHING_FOUND, RowTable

LINES = 300
"""Lines that are asked for; the filter searches in all that the service keeps."""
LEVELS = ("info", "warning", "error", "debug")
"""What `l` goes through; the first is the one to begin with."""

_TONES: dict[str, Tone] = {
    "debug": "quiet",
    "info": "plain",
    "warning": "warn",
    "error": "bad",
    "critical": "bad",
}
_MARKS = {"debug": "  ", "info": "● ", "warning": "▲ ", "error": "✗ ", "critical": "✗ "}


@dataclass(frozen=True, slots=True)
class LogRow:
    """A line with an id of its own: lines may be equal."""

    id: int
    line: schema.LogLine


def rows(lines: list[schema.LogLine]) -> list[LogRow]:
    """The lines, oldest first."""
    return [LogRow(line.seq, line) for line in sorted(lines, key=lambda found: found.seq)]


def _words(row: LogRow) -> str:
    """What a filter looks in, as the service does."""
    return f"{row.line.level} {row.line.logger} {row.line.message}"


def unseen(page: schema.LogPage, last: int) -> int:
    """Lines that came after the number `last` and are not in the page; at most so many.

    Exact where every line is asked for. With a level or a filter, lines that were not
    wanted may be among those that the service does not keep any more.
    """
    if not last:
        return 0
    gone = max(0, page.oldest - last - 1)
    if not page.left_out or not page.lines:
        return gone
    between = page.lines[0].seq - max(last, page.oldest - 1) - 1
    return gone + max(0, min(page.left_out, between))


def _clock(at: float, utc: bool = False) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(at) if utc else time.localtime(at))


def _level(row: LogRow) -> Cell:
    level = formats.clean(row.line.level, 8).lower()
    return f"{_MARKS.get(level, '')}{level[:7]}", _TONES.get(level, "plain")


def _severity(row: LogRow) -> int:
    level = row.line.level.lower()
    return _SEVERITIES.index(level) if level in _SEVERITIES else 0


_SEVERITIES = tuple(_MARKS)

COLUMNS = (
    Column[LogRow]("at", "Time", 8, lambda row: (_clock(row.line.at), "quiet"),
                   by=lambda row: row.id),
    Column[LogRow]("level", "Level", 9, _level, by=_severity, greatest_first=True),
    Column[LogRow]("logger", "From", 18, lambda row: (
        formats.clean(row.line.logger, 40), "quiet"), tier=1),
    Column[LogRow]("message", "Message", 10, lambda row: (
        formats.clean(row.line.message, 400), _TONES.get(row.line.level.lower(), "plain")), flex=1),
)  # fmt: skip


class LogHead(Part["LogScreen"]):
    """Level, filter, follow."""

    def lines(self, width: int) -> list[Text]:
        screen = self.shows
        if not screen.store.has("log"):
            return [Text()]
        text = Text.assemble(
            " ",
            self.span(f"{screen.level} and above", "strong"),
            self.span(f"  {formats.count(len(screen.table.rows), 'line')}", "quiet"),
        )
        older = screen.store.log.left_out
        if older:
            text.append(f", {older:,} older", self.tone("quiet"))
        if screen.dropped:
            glyphs = self.console_app.glyphs
            text.append(f"  {glyphs.warn} {screen.dropped:,} dropped", self.tone("warn"))
        text.append_text(filter_words(self, screen.filter))
        if screen.device:
            name = formats.clean(screen.label, 24) or screen.device
            text.append(f"  of {name}", self.tone("accent"))
        if screen.table.tail:
            glyphs = self.console_app.glyphs
            text.append(f"  {glyphs.ok} following", self.tone("ok"))
        return [text]


class LogScreen(ListScreen):
    """The section."""

    SECTION: ClassVar[str] = "log"
    BINDINGS = actions.bindings("log")
    FILTER_HINT: ClassVar[str] = "words in level, source, message"

    def __init__(self) -> None:
        super().__init__()
        self.level = LEVELS[0]
        self.device = self.label = ""
        """Id and name of the only device whose lines are shown; empty: all."""
        self.dropped = 0
        """Lines that came while the section was open, too many to be shown."""
        self._last_seq = 0
        self._sought = ""
        """The words that the service was asked for."""

    def topics(self) -> dict[str, dict[str, Any]]:
        params: dict[str, Any] = {"limit": LINES, "level": self.level}
        if self._sought:
            params["filter"] = self._sought
        if self.device:
            params["device"] = self.device
        return {"log": params}

    def body(self) -> ComposeResult:
        yield LogHead(self, id="log-head")
        yield RowTable[LogRow](COLUMNS, lambda row: row.id, id="log",
                               text_of=_words)  # fmt: skip

    def on_mount(self) -> None:
        self.table.tail = True
        self.table.focus()

    @property
    def table(self) -> RowTable[LogRow]:
        return self.query_one("#log", RowTable)

    def update(self, topic: str | None) -> None:
        if topic in (None, "log"):
            page = self.store.log
            if topic == "log":
                # A service that was started anew counts from the beginning.
                if page.newest < self._last_seq:
                    self._last_seq = 0
                self.dropped += unseen(page, self._last_seq)
                self._last_seq = page.newest
            self.table.say_empty(self._why_none())
            self.table.show(rows(page.lines) if self.store.has("log") else None)
            self.query_one(LogHead).redraw()

    def _why_none(self) -> str:
        """Why there are no lines, and what brings some."""
        if self._sought:
            return f"{NOTHING_FOUND} Press esc to see all."
        if self.device:
            return f"No lines about {formats.clean(self.label, 32)}. Press m to see all."
        if self.level != LEVELS[0]:
            return f"No lines of level {self.level} or above. Press l for another level."
        return "No lines yet: they come as the service works."

    def _ask_anew(self) -> None:
        """What follows is another kind of lines: nothing of it was dropped yet."""
        self._last_seq = self.dropped = 0
        self.rewatch()
        self.query_one(LogHead).redraw()

    def on_screen_suspend(self) -> None:
        """What comes while another section is open is not missed."""
        self._last_seq = 0

    @on(RowTable.Highlighted, "#log")
    def _moved(self) -> None:
        self.query_one(LogHead).redraw()

    @on(RowTable.Selected, "#log")
    def action_log_line(self) -> None:
        row = self.table.current
        if row is None:
            return
        line = row.line
        text = Text()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.at))
        text.append(f"{stamp}  {formats.clean(line.level, 8)}\n")
        text.append(f"{formats.clean(line.logger, 80)}\n\n")
        text.append(formats.clean(line.message, 4000))
        self.app.push_screen(TextScreen("Log line", text))

    def action_log_level(self) -> None:
        self.level = LEVELS[(LEVELS.index(self.level) + 1) % len(LEVELS)]
        self._ask_anew()

    def action_log_follow(self) -> None:
        self.table.tail = not self.table.tail
        if self.table.tail:
            self.table.set_order(None)  # the newest is the last in no other order
        self.update(None)

    def action_log_device(self) -> None:
        """A line knows whom it is about by the id: others may bear the same name."""
        row = self.table.current
        if self.device:
            self.device = self.label = ""
        elif row is not None and row.line.device:
            self.device, self.label = row.line.device, row.line.label
        else:
            self.console_app.tell("This line is about no device.")
            return
        self._ask_anew()

    def clear_more(self) -> bool:
        if not self.device:
            return False
        self.device = self.label = ""
        self._ask_anew()
        return not self.filter

    def choose(self, settled: bool) -> None:
        """Search in what is there at once, in what the service keeps after a pause."""
        super().choose(settled)
        if settled and self.filter != self._sought:
            self._sought = self.filter
            self._ask_anew()

    def order_list(self, table: RowTable[Any], key: str | None) -> None:
        super().order_list(table, key)
        if table.order is not None:
            table.tail = False

    def copied(self) -> Copied | None:
        row = self.table.current
        if row is None:
            return None
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.line.at))
        return Copied("the line", f"{stamp} {row.line.level} {row.line.logger} {row.line.message}")

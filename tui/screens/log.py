"""The service's log: levels, a filter, and staying at the newest line.

The service sends the newest lines of the level that contain the filter's words,
each with its number, so a line is never shown twice. What came in between two
looks and did not fit is counted, and the count stays on the screen.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.timer import Timer
from textual.widgets import Input

from services.control import schema
from tui import actions, formats
from tui.screens.modals import TextScreen
from tui.screens.section import SectionScreen
from tui.widgets.filter import FilterInput
from tui.widgets.painted import Painted, Tone
from tui.widgets.table import Cell, Column, RowTable

if TYPE_CHECKING:
    from tui.app import ConsoleApp

LINES = 300
"""Lines that are asked for; the filter searches in all that the service keeps."""
TYPING_PAUSE = 0.3
"""Seconds after the last letter of a filter until the service is asked."""

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


def rows(lines: list[schema.LogLine], words: str) -> list[LogRow]:
    """The lines that contain all words, oldest first."""
    wanted = words.casefold().split()
    made: list[LogRow] = []
    for line in sorted(lines, key=lambda found: found.seq):
        text = f"{line.level} {line.logger} {line.message}".casefold()
        if all(word in text for word in wanted):
            made.append(LogRow(line.seq, line))
    return made


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


COLUMNS = (
    Column[LogRow]("at", "Time", 8, lambda row: (_clock(row.line.at), "quiet")),
    Column[LogRow]("level", "Level", 9, _level),
    Column[LogRow]("logger", "From", 18, lambda row: (
        formats.clean(row.line.logger, 40), "quiet"), tier=1),
    Column[LogRow]("message", "Message", 10, lambda row: (
        formats.clean(row.line.message, 400), _TONES.get(row.line.level.lower(), "plain")), flex=1),
)  # fmt: skip


class LogHead(Painted):
    """Level, filter, follow."""

    def lines(self, width: int) -> list[Text]:
        screen = cast("LogScreen", self.screen)
        text = Text.assemble(
            " ",
            self.span(f"{screen.level} and above", "strong"),
            self.span(f"  {formats.count(len(screen.table.rows), 'line')}", "quiet"),
        )
        older = screen.store.log.left_out
        if older:
            text.append(f", {older:,} older", self.tone("quiet"))
        if screen.dropped:
            glyphs = cast("ConsoleApp", self.app).glyphs
            text.append(f"  {glyphs.warn} {screen.dropped:,} dropped", self.tone("warn"))
        if screen.filter:
            text.append(f"  /{formats.clean(screen.filter, 24)}", self.tone("accent"))
        if screen.device:
            name = formats.clean(screen.label, 24) or screen.device
            text.append(f"  of {name}", self.tone("accent"))
        if screen.table.tail:
            glyphs = cast("ConsoleApp", self.app).glyphs
            text.append(f"  {glyphs.ok} following", self.tone("ok"))
        return [text]


class LogScreen(SectionScreen):
    """The section."""

    SECTION: ClassVar[str] = "log"
    BINDINGS = actions.bindings("log")

    def __init__(self) -> None:
        super().__init__()
        self.level = LEVELS[0]
        self.filter = ""
        self.device = self.label = ""
        """Id and name of the only device whose lines are shown; empty: all."""
        self.dropped = 0
        """Lines that came while the section was open, too many to be shown."""
        self._last = 0
        self._typing: Timer | None = None

    def topics(self) -> dict[str, dict[str, Any]]:
        params: dict[str, Any] = {"limit": LINES, "level": self.level}
        if self.filter:
            params["filter"] = self.filter
        if self.device:
            params["device"] = self.device
        return {"log": params}

    def body(self) -> ComposeResult:
        yield LogHead(id="log-head")
        yield RowTable[LogRow](COLUMNS, lambda row: row.id, empty="No lines.", id="log")
        line = FilterInput(placeholder="words in level, source, message", compact=True,
                           id="filter", select_on_focus=False)  # fmt: skip
        line.display = False
        yield line

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
                if page.newest < self._last:
                    self._last = 0
                self.dropped += unseen(page, self._last)
                self._last = page.newest
            self.table.show(rows(page.lines, self.filter))
            self.query_one(LogHead).redraw()

    def _ask_anew(self) -> None:
        """What follows is another kind of lines: nothing of it was dropped yet."""
        self._last = self.dropped = 0
        self.rewatch()
        self.query_one(LogHead).redraw()

    def on_screen_suspend(self) -> None:
        """What comes while another section is open is not missed."""
        self._last = 0

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

    def action_log_filter(self) -> None:
        line = self.query_one(FilterInput)
        line.display = True
        line.focus()

    def action_log_clear(self) -> None:
        self.filter = self.device = self.label = ""
        self.query_one(FilterInput).value = ""
        self._ask_anew()

    @on(Input.Changed, "#filter")
    def _typed(self, event: Input.Changed) -> None:
        """Search in what is there at once, in what the service keeps after a pause."""
        words = " ".join(event.value.split())
        if words == self.filter:
            return
        self.filter = words
        self.update(None)
        if self._typing is not None:
            self._typing.stop()
        self._typing = self.set_timer(TYPING_PAUSE, self._ask_anew)

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        if self._typing is not None:
            self._typing.stop()
        self._ask_anew()
        self.query_one(FilterInput).display = False
        self.table.focus()

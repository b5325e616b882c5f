"""The service's log: levels, a filter, and staying at the newest line."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
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
"""Lines that are asked for; older ones are in the service's own log."""

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

    id: tuple[float, int]
    line: schema.LogLine


def rows(lines: list[schema.LogLine], words: str) -> list[LogRow]:
    """The lines that contain all words, oldest first."""
    wanted = words.lower().split()
    made: list[LogRow] = []
    same = 0
    last = -1.0
    for line in sorted(lines, key=lambda found: found.at):
        same = same + 1 if line.at == last else 0
        last = line.at
        text = f"{line.level} {line.logger} {line.message}".lower()
        if all(word in text for word in wanted):
            made.append(LogRow((line.at, same), line))
    return made


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
        if screen.filter:
            text.append(f"  /{formats.clean(screen.filter, 24)}", self.tone("accent"))
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

    def topics(self) -> dict[str, dict[str, Any]]:
        return {"logs": {"limit": LINES, "level": self.level}}

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
        if topic in (None, "logs"):
            self.table.show(rows(self.store.logs, self.filter))
            self.query_one(LogHead).redraw()

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
        self.rewatch()
        self.query_one(LogHead).redraw()

    def action_log_follow(self) -> None:
        self.table.tail = not self.table.tail
        self.update("logs")

    def action_log_filter(self) -> None:
        line = self.query_one(FilterInput)
        line.display = True
        line.focus()

    def action_log_clear(self) -> None:
        self.query_one(FilterInput).value = ""

    @on(Input.Changed, "#filter")
    def _typed(self, event: Input.Changed) -> None:
        self.filter = " ".join(event.value.split())
        self.update("logs")

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        self.query_one(FilterInput).display = False
        self.table.focus()

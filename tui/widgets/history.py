"""What went through lately as two charts: rates now, scale, peak, and an axis of minutes.

All that is remembered is shown, whatever the width: a column stands for as many samples as
it takes, and is as high as the greatest of them. Which samples share a column goes by their
numbers, so that what was drawn stays as it is: a new sample changes the last column, and
only a new column moves the others, which is what costs over a slow link. Each line has one
style for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from tui import formats
from tui.store import RATE_HISTORY
from tui.widgets.painted import Painted, Tone

LABEL = 13
"""Cells before a chart: an arrow and a rate."""
MARK = 8
"""Cells at least from one mark of the axis to the next."""
MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class History:
    """Rates toward the devices and from them (of a client: down and up), the oldest first."""

    down: Sequence[float]
    up: Sequence[float]
    interval: float
    """Seconds of one sample."""
    newest: int
    """The number of the newest sample."""

    def lines(
        self,
        card: Painted,
        glyphs: formats.Glyphs,
        now: tuple[float, float],
        width: int,
        rows: int,
    ) -> list[Text]:
        """Both charts, `rows` lines each. The upper lines tell the scale, where there are three:
        the top of a chart is the peak of what it shows."""
        made: list[Text] = []
        directions: tuple[tuple[str, float, Sequence[float], Tone], ...] = (
            (glyphs.down, now[0], self.down, "down"), (glyphs.up, now[1], self.up, "up"),
        )  # fmt: skip
        room = max(0, width - LABEL)
        for glyph, rate, values, tone in directions:
            labels = [""] * (rows - 1) + [f"{glyph} {formats.rate(rate)}"]
            if rows >= 3:
                labels[0], labels[1] = "peak", f"  {formats.rate(max(values, default=0.0))}"
            style = card.tone(tone)
            bars = formats.chart(self._columns(values, room), room, rows, glyphs.bars)
            made += [
                Text.assemble((f"{label:<{LABEL}}", style), (line, style))
                for label, line in zip(labels, bars, strict=True)
            ]
        return made

    def peaks(self, glyphs: formats.Glyphs) -> str:
        """The greatest rates of both directions."""
        down, up = max(self.down, default=0.0), max(self.up, default=0.0)
        return f"{glyphs.down} {formats.rate(down)}  {glyphs.up} {formats.rate(up)}"

    def axis(self, card: Painted, width: int) -> Text:
        """The line below the charts: which column is how many minutes ago."""
        room = max(0, width - LABEL)
        return Text.assemble(
            " " * LABEL, card.span(marks(room, self.interval * samples_a_column(room)), "quiet")
        )

    def _columns(self, values: Sequence[float], room: int) -> list[float]:
        """The greatest of each column's samples; the last column may not have all of its own."""
        step = samples_a_column(room)
        columns: dict[int, float] = {}
        for number, value in enumerate(values, self.newest - len(values) + 1):
            column = number // step
            columns[column] = max(columns.get(column, 0.0), value)
        return list(columns.values())


def samples_a_column(room: int) -> int:
    """How many samples share a column, so that all that is remembered has room."""
    return -(-RATE_HISTORY // max(room, 1))


def marks(room: int, seconds: float) -> str:
    """`-2m      -1m      now` below columns of so many seconds: each mark begins at its column,
    `now` ends at the last one."""
    if room < MARK:
        return " " * room
    line = "now".rjust(room)
    step = 1
    while step * MINUTE / seconds < MARK:
        step += 1
    minutes = step
    while (column := room - round(minutes * MINUTE / seconds)) >= 0:
        mark = f"-{minutes}m"
        line = line[:column] + mark + line[column + len(mark) :]
        minutes += step
    return line

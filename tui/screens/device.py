"""A device's page: what it may do, what it has used by hour and by day, where it is.

It is kept up to date by the section behind it: with the device's row and the books of its hours
as they come, and with those of its days every `DAYS_EVERY` seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from control import schema
from tui import formats
from tui.screens.dialog import Dialog
from tui.screens.peer_rows import PeerRow
from tui.widgets.painted import Painted, Tone

HOURS = 48
DAYS = 30
DAYS_EVERY = 10.0
_HOUR = 3600
_NAME = 8
_CHART_ROWS = 3
_MAX_REFUSALS = 5
"""Kinds of what it was refused that are named."""


class DevicePage(Painted):
    """The page's lines, for whatever width there is."""

    def __init__(
        self, row: PeerRow, hours: schema.Usage, days: schema.Usage, glyphs: formats.Glyphs
    ) -> None:
        super().__init__()
        self._row = row
        self._glyphs = glyphs
        self._used = {"hour": hours, "day": days}
        self._refused: Sequence[schema.Refusal] = ()

    def show(self, row: PeerRow) -> None:
        """How the device is now."""
        self._row = row
        self.redraw()

    def show_used(self, used: schema.Usage) -> None:
        """What its books say of its hours or days now; another device's are none of its."""
        if used.by in self._used and all(
            each.peer_id == self._row.peer.id for each in used.rows
        ):  # fmt: skip
            self._used[used.by] = used
            self.redraw()

    def show_refused(self, refused: Sequence[schema.Refusal]) -> None:
        """What it was refused since its session began, the largest first."""
        self._refused = refused
        self.redraw()

    def lines(self, width: int) -> list[Text]:
        row, peer, lease = self._row, self._row.peer, self._row.lease
        made = [
            *self._fact("Rules", formats.clean(peer.rules, 400) or "none: it may do everything",
                        width, "plain" if peer.rules else "quiet"),
            *self._allowed(width),
            *self._fact("Today", self._both(peer.to_tunnel_today, peer.from_tunnel_today), width),
            *self._fact("In all", self._both(peer.to_tunnel_bytes, peer.from_tunnel_bytes), width),
            *self._fact("Seen", "now" if peer.connected else
                        formats.ago(row.wall - peer.last_seen_at), width),
            *self._fact("Link", self._link(), width, "plain" if lease else "quiet"),
            *self._fact("Flows", formats.count(lease.flows, "flow") if lease else "none", width),
        ]  # fmt: skip
        if self._refused:
            made += self._fact("Refused", f"{self._in_all():,}, see below", width)
        hours = by_hour(self._used["hour"].rows, row.wall)
        days = by_day(self._used["day"])
        days[-1] = (peer.to_tunnel_today, peer.from_tunnel_today)  # its books are asked less often
        made += self._chart("48 hours", hours, width, ("-48h", "-24h", "now"))
        made += self._chart("30 days", days, width, ("-30d", "-15d", "today"))
        return [*made, *self._refusals(width), Text()]

    def _fact(self, name: str, value: str, width: int, tone: Tone = "plain") -> list[Text]:
        """A fact, on as many lines as it needs."""
        folded = Text(value).wrap(self.app.console, max(10, width - _NAME))
        return [
            Text.assemble(
                self.span(f"{'' if number else name:<{_NAME}}", "quiet"),
                self.span(line.plain.rstrip(), tone),
            )
            for number, line in enumerate(folded)
        ]

    def _allowed(self, width: int) -> list[Text]:
        """What its rules leave it now."""
        peer = self._row.peer
        made: list[Text] = []
        if peer.quota_left is not None:
            made += self._fact("Quota", f"{formats.size(peer.quota_left)} left", width)
        if peer.shut_out:
            made += self._fact("Access", formats.clean(peer.shut_out, 200), width, "warn")
        return made

    def _refusals(self, width: int) -> list[Text]:
        """What was refused or dropped, by the words of the counters' help, the most first."""
        if not self._refused:
            return []
        shown = self._refused[:_MAX_REFUSALS]
        counts = [f"{each.count:,}" for each in shown]
        told = [_told(each) for each in shown]
        if more := len(self._refused) - len(shown):
            counts.append("")
            told.append(f"and {formats.count(more, 'more kind')}")
        wide = max(map(len, counts))
        made = [
            Text(),
            Text.assemble(
                self.span(f"{'Refused':<10}", "strong"),
                self.span(f"{self._in_all():,} in this session"),
            ),
        ]
        for count, text in zip(counts, told, strict=True):
            folded = Text(text).wrap(self.app.console, max(10, width - wide - 2))
            made += [
                Text.assemble(
                    self.span(f"{'' if number else count:>{wide}}  "),
                    self.span(line.plain.rstrip(), "quiet"),
                )
                for number, line in enumerate(folded)
            ]
        return made

    def _in_all(self) -> int:
        return sum(each.count for each in self._refused)

    def _both(self, down: int, up: int) -> str:
        glyphs = self._glyphs
        return f"{glyphs.down} {formats.size(down)}  {glyphs.up} {formats.size(up)}"

    def _link(self) -> str:
        lease = self._row.lease
        if lease is None:
            return "none"
        if not lease.connected:
            return "lost; its session waits for it"
        words = (self._row.transport, self._row.rtt, formats.clean(lease.endpoint or "", 60))
        return "  ".join(filter(None, words))

    def _chart(
        self, title: str, used: Sequence[tuple[int, int]], width: int, marks: tuple[str, str, str]
    ) -> list[Text]:
        """What was used, both ways together: a column or more for each hour or day."""
        down, up = sum(each for each, _ in used), sum(each for _, each in used)
        values = [float(sum(each)) for each in used]
        wide = width // len(values)
        if wide:
            columns = [value for value in values for _ in range(wide)]
        else:
            # Two share a column, the latest two the last.
            columns = [sum(values[at : at + 2]) for at in range(0, len(values), 2)]
        room = min(width, len(columns))
        bars = formats.chart(columns, room, _CHART_ROWS, self._glyphs.bars)
        first, middle, last = marks
        # Each mark begins at its column, and the last one ends with the last.
        axis = f"{f'{first:<{room // 2}}{middle}':<{max(0, room - len(last))}}{last}"
        style = self.tone("down")
        return [
            Text(),
            Text.assemble(self.span(f"{title:<10}", "strong"), self.span(self._both(down, up))),
            *(Text(line, style) for line in bars),
            Text.assemble(self.span(axis, "quiet")),
        ]


class DeviceScreen(Dialog[bool]):
    """The page in front of the section; its answer is whether to go on to the device's flows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "close", "Close"),
        Binding("f", "flows", "Its flows"),
    ]

    def __init__(
        self, row: PeerRow, hours: schema.Usage, days: schema.Usage, glyphs: formats.Glyphs
    ) -> None:
        super().__init__()
        self.peer = row.peer.id
        self._heading = Static(Text(_heading(row)), classes="question", markup=False)
        self.page = DevicePage(row, hours, days, glyphs)

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog wide"):
            yield self._heading
            yield self.page
            yield Static(Text("f: its flows   esc: close"), classes="quiet", markup=False)

    def show(self, row: PeerRow) -> None:
        """How the device is now, and what it is called."""
        self._heading.update(Text(_heading(row)))
        self.page.show(row)

    def on_click(self, event: events.Click) -> None:
        if event.widget is self:
            self.leave(False)

    def action_close(self) -> None:
        self.leave(False)

    def action_flows(self) -> None:
        self.leave(True)


def _told(refusal: schema.Refusal) -> str:
    """The sentence, with the reason for which it has "by why"."""
    what = refusal.what.replace("__", ", ").replace("_", " ")
    text = f"{refusal.help.removesuffix('.')}: {what}." if what else refusal.help
    return formats.clean(text, 200)


def _heading(row: PeerRow) -> str:
    return formats.clean(row.peer.label) or "(no name)"


def by_hour(rows: Sequence[schema.UsageRow], wall: float) -> list[tuple[int, int]]:
    """Bytes down and up in each of the last 48 hours, this one last. `wall`: Unix time."""
    this = wall // _HOUR
    return _slots({int(this - row.begins_at // _HOUR): row for row in rows}, HOURS)


def by_day(used: schema.Usage) -> list[tuple[int, int]]:
    """Bytes down and up on each of the last 30 days, the gateway's today last."""
    if not used.today:
        return [(0, 0)] * DAYS
    today = date.fromisoformat(used.today)
    return _slots({(today - date.fromisoformat(row.period)).days: row for row in used.rows}, DAYS)


def _slots(rows: Mapping[int, schema.UsageRow], count: int) -> list[tuple[int, int]]:
    """By how long ago; what the service's clock calls later than now is not shown."""
    found = [rows.get(ago) for ago in range(count - 1, -1, -1)]
    return [(row.to_tunnel_bytes, row.from_tunnel_bytes) if row else (0, 0) for row in found]

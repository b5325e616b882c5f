"""Links: the gateway's endpoints and who won the race, and the links of the past.

Two lists, one above the other. The endpoints stand in the order in which they
are tried, so the first that can be had is the one in use; the past links have
the newest on top. `enter` shows all that is known of a row.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult

from control import schema
from tui import actions, formats
from tui.clipboard import Copied
from tui.console import Console
from tui.screens.listing import ListScreen, filtered
from tui.screens.modals import TextScreen
from tui.widgets.columns import NORMAL_WIDTH, Cell, Column
from tui.widgets.painted import Tone
from tui.widgets.part import Part
from tui.widgets.table import RowTable
from tui.widgets.tunnel_cards import without_transport

LEAST_ENDPOINT_ROWS = 2
_OUTCOMES: dict[str, tuple[str, str, Tone]] = {
    "won": ("info", "won", "accent"),
    "slower": ("off", "slower", "quiet"),
    "refused": ("bad", "refused", "bad"),
    "timed_out": ("warn", "timed out", "warn"),
    "unreachable": ("bad", "unreachable", "quiet"),
    "untried": ("off", "not needed", "quiet"),
}
"""An outcome's symbol, words and tone."""


def took(seconds: float | None) -> str:
    """How long an attempt took: `6 ms`, `1.2 s`; empty when there was none."""
    if seconds is None:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def outcome(endpoint: schema.Endpoint) -> str:
    """The outcome in words."""
    if endpoint.in_use:
        return "in use"
    return _OUTCOMES.get(endpoint.outcome, ("", formats.clean(endpoint.outcome, 12), ""))[1]


def _address(text: str) -> str:
    return formats.clean(without_transport(text), 80)


def _endpoint_columns(screen: LinksScreen) -> tuple[Column[schema.Endpoint], ...]:
    def state(row: schema.Endpoint) -> Cell:
        glyphs = screen.console_app.glyphs
        if row.in_use:
            return f"{glyphs.ok} in use", "ok"
        glyph, words, tone = _OUTCOMES.get(row.outcome, ("info", outcome(row), "plain"))
        return f"{getattr(glyphs, glyph)} {words}", tone

    def address(row: schema.Endpoint) -> Cell:
        text = _address(row.endpoint)
        if screen.size.width < NORMAL_WIDTH:
            text = text.rpartition(":")[0] or text
        shown = formats.shorten_middle(text, screen.address_width)
        return shown, "strong" if row.in_use else "plain"

    return (
        Column("transport", "By", 4, lambda row: (formats.clean(row.transport, 4), "quiet")),
        Column("address", "Endpoint", 14, address, flex=2),
        Column("kind", "Kind", 7, lambda row: (formats.clean(row.kind, 7), "quiet"), tier=1),
        Column("outcome", "Outcome", 13, state),
        Column("took", "Took", 6, lambda row: (took(row.took), "plain"), right=True,
               by=lambda row: row.took),
        Column("reason", "Why", 10, lambda row: (
            formats.clean(row.reason or "", 80), "quiet"), flex=1, tier=1),
        Column("at", "When", 8, lambda row: (
            "" if row.at is None else formats.ago(screen.console_app.wall - row.at), "quiet"),
            right=True, tier=2, by=lambda row: row.at, greatest_first=True),
    )  # fmt: skip


def _link_columns(screen: LinksScreen) -> tuple[Column[schema.LinkRecord], ...]:
    def ended(row: schema.LinkRecord) -> Cell:
        if row.ended is None:
            return f"{screen.console_app.glyphs.ok} in use", "ok"
        tone: Tone = "quiet" if row.ended in _WANTED else "warn"
        words = row.ended.replace("_", " ")
        if screen.size.width >= NORMAL_WIDTH:
            words = row.sentence or words
        return formats.clean(words, 120), tone

    return (
        Column("began", "Began", 8, lambda row: (_stamp(row, screen.console_app.wall), "quiet"),
               by=lambda row: row.began_at, greatest_first=True),
        Column("transport", "By", 4, lambda row: (formats.clean(row.transport, 4), "plain")),
        Column("endpoint", "Endpoint", 22, lambda row: (
            formats.shorten_middle(_address(row.endpoint), 22), "plain"), tier=2),
        Column("seconds", "For", 6, lambda row: (formats.duration(row.seconds), "plain"),
               right=True, by=lambda row: row.seconds, greatest_first=True),
        Column("away", "Away", 6, lambda row: (
            "" if row.away is None else formats.duration(row.away)
            if row.away >= 60 else f"{row.away:.1f}s", "plain"), right=True,
               by=lambda row: row.away, greatest_first=True),
        Column("session", "Session", 7, lambda row: (
            "resumed" if row.resumed else "new", "ok" if row.resumed else "quiet"), tier=1),
        Column("bytes", "Bytes", 7, lambda row: (
            formats.size(row.from_tunnel_bytes + row.to_tunnel_bytes), "plain"), right=True, tier=1,
            by=lambda row: row.from_tunnel_bytes + row.to_tunnel_bytes, greatest_first=True),
        Column("gateway", "Gateway", 14, lambda row: (formats.clean(row.gateway, 32), "plain"),
               tier=2),
        Column("ended", "Ended", 10, ended, flex=1),
    )  # fmt: skip


def _endpoint_words(row: schema.Endpoint) -> str:
    """What a filter looks in; likewise the other."""
    return f"{row.endpoint} {row.kind} {outcome(row)} {row.reason or ''}"


def _link_words(row: schema.LinkRecord) -> str:
    ended = "in use" if row.ended is None else f"{row.ended.replace('_', ' ')} {row.sentence or ''}"
    return f"{row.endpoint} {row.kind} {row.gateway} {ended} {'resumed' if row.resumed else 'new'}"


_WANTED = frozenset({"moved", "closed_here"})
"""Ends that nobody needs to look into."""


def _stamp(row: schema.LinkRecord, wall: float) -> str:
    """The time of day; for older links the date."""
    form = "%H:%M:%S" if wall - row.began_at < 86_400 else "%d %b"
    return time.strftime(form, time.localtime(row.began_at))


class LinksHead(Part["LinksScreen"]):
    """How many endpoints and links there are."""

    def lines(self, width: int) -> list[Text]:
        screen = self.shows
        if not (screen.store.has("endpoints") and screen.store.has("history")):
            return [Text()]
        endpoints, links = screen.store.endpoints, screen.store.history
        breaks = sum(row.ended not in (None, *_WANTED) for row in links)
        text = Text.assemble(
            " ",
            self.span(formats.count(len(endpoints), "endpoint"), "strong"),
            self.span(f"  {formats.count(len(links), 'link')}", "strong"),
        )
        if breaks:
            text.append(f"  {breaks} broken", self.tone("warn"))
        text.append_text(filtered(self, screen))
        return [text]


class LinksScreen(ListScreen):
    """The section."""

    SECTION: ClassVar[str] = "links"
    BINDINGS = actions.bindings("links")
    FILTER_HINT: ClassVar[str] = "words in address, outcome, reason, gateway"

    def topics(self) -> dict[str, dict[str, Any]]:
        return {"endpoints": {}, "history": {}}

    def body(self) -> ComposeResult:
        yield LinksHead(self)
        yield RowTable[schema.Endpoint](
            _endpoint_columns(self), lambda row: row.endpoint, id="endpoints",
            empty="No endpoint was tried yet. Press 2 to connect.", text_of=_endpoint_words,
        )  # fmt: skip
        yield RowTable[schema.LinkRecord](
            _link_columns(self), lambda row: row.id, id="history",
            empty="There was no link yet. Press 2 to connect.", text_of=_link_words,
        )  # fmt: skip

    def on_mount(self) -> None:
        self.history.focus()

    @property
    def endpoints(self) -> RowTable[schema.Endpoint]:
        return self.query_one("#endpoints", RowTable)

    @property
    def history(self) -> RowTable[schema.LinkRecord]:
        return self.query_one("#history", RowTable)

    @property
    def address_width(self) -> int:
        """Cells for the endpoints' addresses; on a phone without their ports."""
        return max(14, self.size.width - 29) if self.size.width < NORMAL_WIDTH else 40

    def on_resize(self, event: events.Resize) -> None:
        self.update(None)

    def update(self, topic: str | None) -> None:
        if topic in (None, "endpoints"):
            rows = self.store.endpoints
            table = self.endpoints
            # The border is part of the height.
            height = max(LEAST_ENDPOINT_ROWS, len(rows)) + 2
            if table.styles.height is None or table.styles.height.value != height:
                table.styles.height = height
            table.show(rows if self.store.has("endpoints") else None)
        if topic in (None, "history"):
            self.history.show(self.store.history if self.store.has("history") else None)
        self.query_one(LinksHead).redraw()

    def may_here(self, action: actions.Action) -> bool | None:
        if action.id == "links.details":
            table = self.focused
            return True if isinstance(table, RowTable) and table.current is not None else None
        return True

    def copied(self) -> Copied | None:
        row = self.in_hand.current
        return None if row is None else Copied("the address", without_transport(row.endpoint))

    def action_links_other(self) -> None:
        (self.endpoints if self.focused is self.history else self.history).focus()

    @on(RowTable.Selected)
    def action_links_details(self) -> None:
        table = self.focused
        row = table.current if isinstance(table, RowTable) else None
        if isinstance(row, schema.Endpoint):
            self.app.push_screen(TextScreen("Endpoint", endpoint_text(row, self.console_app)))
        elif isinstance(row, schema.LinkRecord):
            self.app.push_screen(TextScreen(f"Link {row.id}", link_text(row)))


def _facts(facts: list[tuple[str, str]]) -> Text:
    return Text("\n".join(f"{name:<10}{value}" for name, value in facts if value))


def endpoint_text(row: schema.Endpoint, app: Console) -> Text:
    """All that is known of an endpoint."""
    return _facts([
        ("Address", _address(row.endpoint)),
        ("By", f"{formats.clean(row.transport, 4)}, {formats.clean(row.kind, 8)}"),
        ("Last try", outcome(row)),
        ("Why", formats.clean(row.reason or "", 200)),
        ("Took", took(row.took)),
        ("When", "" if row.at is None else formats.ago(app.wall - row.at)),
    ])  # fmt: skip


def session(row: schema.LinkRecord) -> str:
    """Whether a link went on with what was, and with how much of it."""
    if not row.resumed:
        return "new"
    if row.flows is None:
        return "resumed"
    return f"resumed, {formats.count(row.flows, 'connection')} kept"


def link_text(row: schema.LinkRecord) -> Text:
    """All that is known of a link."""
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.began_at))
    tries = f", {formats.count(row.attempts, 'attempt')} that failed" if row.attempts else ""
    return _facts([
        ("Gateway", formats.clean(row.gateway, 48)),
        ("Address", _address(row.endpoint)),
        ("By", f"{formats.clean(row.transport, 4)}, {formats.clean(row.kind, 8)}"),
        ("Began", began),
        ("Before", "" if row.away is None else f"{row.away:.1f} s without a link{tries}"),
        ("Session", session(row)),
        ("Carried", f"{formats.size(row.from_tunnel_bytes)} down, "
                    f"{formats.size(row.to_tunnel_bytes)} up in {formats.duration(row.seconds)}"),
        ("Ended", formats.clean(row.sentence or row.ended or "it is in use", 200)),
    ])  # fmt: skip

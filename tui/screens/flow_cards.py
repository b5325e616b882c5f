"""Beside the table of flows: one flow in full, and the line that says what the table shows."""

from __future__ import annotations

from typing import Protocol

from rich.text import Text

from control import schema, words
from tui import formats
from tui.console import InConsole
from tui.screens.flow_rows import Grouping, Sort
from tui.screens.listing import filter_words
from tui.store import Store
from tui.widgets.painted import Painted, Tone
from tui.widgets.part import Part


class FlowDetails(InConsole, Painted):
    """One flow with everything that is known of it; it stays after the flow has ended."""

    _flow: schema.Flow | None = None
    _ended = False

    def show(self, flow: schema.Flow | None, ended: bool) -> None:
        """This flow, and whether it has ended; None: no longer any."""
        self._flow, self._ended = flow, ended
        self.redraw()

    def lines(self, width: int) -> list[Text]:
        return [] if self._flow is None else self.facts(self._flow, self._ended, width)

    def facts(self, flow: schema.Flow, ended: bool, width: int) -> list[Text]:
        """A flow in full."""
        glyphs = self.console_app.glyphs
        state = f"{glyphs.off} ended" if ended else formats.clean(flow.state, 24)
        down, up = flow.to_tunnel_bytes, flow.from_tunnel_bytes
        rows: list[tuple[str, str, Tone]] = [
            ("Flow", f"{what(flow)}  #{flow.id}  {state}",
             "quiet" if ended else "strong"),
            ("Device", formats.clean(flow.label), "plain"),
            ("From", formats.clean(flow.source, 80), "plain"),
            ("To", formats.clean(words.destination(flow), 280), "plain"),
            ("Leaves by", f"{formats.clean(flow.device or 'not bound', 15)}  "
                          f"{formats.clean(flow.local or '', 60)}",
             "ok" if flow.device else "bad"),
            ("Down", f"{formats.size(down)}  {formats.rate(flow.to_tunnel_rate)}", "down"),
            ("Up", f"{formats.size(up)}  {formats.rate(flow.from_tunnel_rate)}", "up"),
            ("Age", f"{formats.duration(flow.age)}, idle {formats.duration(flow.idle)}", "plain"),
        ]  # fmt: skip
        if flow.name:
            rows.insert(4, ("Address", formats.clean(flow.destination, 80), "plain"))
        return [fact(self, name, value, tone, width) for name, value, tone in rows]


SERVICES = {
    22: "ssh", 25: "smtp", 53: "domain", 80: "http", 110: "pop3", 123: "ntp", 143: "imap",
    443: "https", 445: "microsoft-ds", 465: "submissions", 587: "submission", 853: "domain-s",
    993: "imaps", 995: "pop3s", 1883: "mqtt", 3389: "ms-wbt-server", 3478: "stun",
    5222: "xmpp-client", 5353: "mdns", 8080: "http-alt", 8883: "secure-mqtt",
}  # fmt: skip
"""Services by their ports, as IANA's registry calls them: a phone has no /etc/services."""


def what(flow: schema.Flow) -> str:
    """The protocol, and the service that its port is for if that is a known one."""
    protocol = formats.clean(flow.protocol, 5)
    port = flow.destination.rpartition(":")[2]
    known = SERVICES.get(int(port)) if port.isdecimal() and flow.protocol != "icmp" else None
    return f"{protocol} {known}" if known else protocol


def fact(card: Painted, name: str, value: str, tone: Tone, width: int) -> Text:
    """A line of a flow's details."""
    shown = formats.shorten_middle(value, max(6, width - 10))
    return Text.assemble(card.span(f"{name:<10}", "quiet"), card.span(shown, tone))


class Look(Protocol):
    """Which flows a section shows, and how."""

    sort: Sort
    descending: bool
    peer: str | None
    peer_label: str
    filter: str
    group: Grouping | None
    following: bool
    held: bool

    @property
    def store(self) -> Store: ...


class FlowsLine(Part[Look]):
    """What is being shown: how many of how many, order, filter, modes."""

    def lines(self, width: int) -> list[Text]:
        screen = self.shows
        if not screen.store.has("flows"):
            return [Text()]
        glyphs = self.console_app.glyphs
        page = screen.store.flows
        shown = len(page.flows)
        text = Text(" ")
        if shown < page.total:
            text.append(f"{shown:,} of {formats.count(page.total, 'flow')}", self.tone("strong"))
        else:
            text.append(formats.count(page.total, "flow"), self.tone("strong"))
        name = screen.sort.name
        arrow = glyphs.descending if screen.descending else glyphs.ascending
        text.append(f"  by {name} {arrow}", self.tone("quiet"))
        if screen.held:
            text.append("  held", self.tone("accent"))
        if screen.peer is not None:
            text.append(f"  only {screen.peer_label}", self.tone("accent"))
        text.append_text(filter_words(self, screen.filter))
        if screen.group is not None:
            text.append(f"  grouped by {screen.group.name}", self.tone("accent"))
        if screen.following:
            text.append("  following", self.tone("accent"))
        return [text]

"""Beside the table of flows: one flow in full, and the line that says what the table shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.text import Text

from services.control import schema
from tui import formats
from tui.screens.flow_rows import SORTS
from tui.widgets.painted import Painted, Tone

if TYPE_CHECKING:
    from tui.app import ConsoleApp
    from tui.screens.flows import FlowsScreen


class FlowDetails(Painted):
    """One flow with everything that is known of it; it stays after the flow has ended."""

    def lines(self, width: int) -> list[Text]:
        screen = cast("FlowsScreen", self.screen)
        if screen.chosen is None:
            return []
        return flow_lines(self, screen.chosen, screen.chosen_ended,
                          cast("ConsoleApp", self.app), width)  # fmt: skip


def flow_lines(
    card: Painted, flow: schema.Flow, ended: bool, app: ConsoleApp, width: int
) -> list[Text]:
    """A flow in full."""
    glyphs = app.glyphs

    def fact(name: str, value: str, tone: Tone = "plain") -> Text:
        shown = formats.shorten_middle(value, max(6, width - 10))
        return Text.assemble(
            card.span(f"{name:<10}", "quiet"),
            card.span(shown, tone),
        )

    state = f"{glyphs.off} ended" if ended else formats.clean(flow.state, 24)
    return [
        fact("Flow", f"{formats.clean(flow.protocol, 5)}  #{flow.id}  {state}",
             "quiet" if ended else "strong"),
        fact("Device", formats.clean(flow.label)),
        fact("From", formats.clean(flow.source, 80)),
        fact("To", formats.clean(flow.destination, 80)),
        fact("Leaves by", f"{formats.clean(flow.device or 'not bound', 15)}  "
                          f"{formats.clean(flow.local or '', 60)}",
             "ok" if flow.device else "bad"),
        fact("Down", f"{formats.size(flow.to_tunnel_bytes)}  {formats.rate(flow.to_tunnel_rate)}",
             "down"),
        fact("Up", f"{formats.size(flow.from_tunnel_bytes)}  {formats.rate(flow.from_tunnel_rate)}",
             "up"),
        fact("Age", f"{formats.duration(flow.age)}, idle {formats.duration(flow.idle)}"),
    ]  # fmt: skip


class FlowsLine(Painted):
    """What is being shown: how many of how many, order, filter, modes."""

    def lines(self, width: int) -> list[Text]:
        screen = cast("FlowsScreen", self.screen)
        glyphs = cast("ConsoleApp", self.app).glyphs
        page = screen.store.flows
        shown = len(page.flows)
        text = Text(" ")
        if shown < page.total:
            text.append(f"{shown:,} of {formats.count(page.total, 'flow')}", self.tone("strong"))
        else:
            text.append(formats.count(page.total, "flow"), self.tone("strong"))
        name = SORTS[screen.sort].name
        arrow = glyphs.descending if screen.descending else glyphs.ascending
        text.append(f"  by {name} {arrow}", self.tone("quiet"))
        if screen.peer is not None:
            text.append(f"  only {screen.peer_label}", self.tone("accent"))
        if screen.filter:
            text.append(f"  /{formats.clean(screen.filter, 24)}", self.tone("accent"))
        if screen.group:
            text.append("  grouped", self.tone("accent"))
        if screen.following:
            text.append("  following", self.tone("accent"))
        return [text]

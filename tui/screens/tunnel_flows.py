"""The client's flows: which programs of this device use the tunnel, and how well it serves them.

The same table as the gateway's, seen from the other end: a program in the
place of the device, and what comes from the tunnel is the download.
"""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text

from control import schema
from tui import formats
from tui.screens.flow_cards import FlowDetails, fact, what
from tui.screens.flow_rows import (
    BY_ADDRESS,
    BY_PROGRAM,
    BY_TITLE,
    SORTS,
    Grouping,
    Row,
    Sort,
    down_cell,
    flow_of,
    rate_cell,
    state_cell,
)
from tui.screens.flows import FlowsScreen
from tui.widgets.columns import Cell, Column
from tui.widgets.painted import Tone


def _bytes(row: Row) -> Cell:
    flow = flow_of(row)
    if not flow.counted:
        return "-", "quiet"
    return formats.size(flow.to_tunnel_bytes + flow.from_tunnel_bytes), "plain"


def _rtt(row: Row) -> Cell:
    rtt = flow_of(row).rtt_ms
    return ("" if rtt is None else f"{rtt:.0f} ms"), "quiet"


COLUMNS = (
    Column[Row]("protocol", "Prot", 4, lambda r: (formats.clean(flow_of(r).protocol, 4), "quiet")),
    Column[Row]("label", "Program", 12, lambda r: (formats.clean(flow_of(r).label), "plain"),
                flex=1, tier=1),
    Column[Row]("source", "From", 21, lambda r: (
        formats.shorten_middle(formats.clean(flow_of(r).source, 60), 21), "quiet"), tier=2),
    Column[Row]("destination", "To", 14, lambda r: (
        formats.clean(flow_of(r).destination, 60), "strong"), flex=3),
    Column[Row]("state", "State", 11, state_cell, tier=2),
    Column[Row]("down", "Down", 9, lambda r: down_cell(flow_of(r), flow_of(r).from_tunnel_rate),
                right=True),
    Column[Row]("up", "Up", 9, lambda r: rate_cell(flow_of(r).to_tunnel_rate, "up"), right=True),
    Column[Row]("bytes", "Bytes", 7, _bytes, right=True, tier=1),
    Column[Row]("rtt", "Trip", 6, _rtt, right=True, tier=2),
    Column[Row]("age", "Seen", 4, lambda r: (formats.age(flow_of(r).age), "quiet"),
                right=True, tier=1),
)  # fmt: skip


class TunnelFlowDetails(FlowDetails):
    """One of this device's connections in full."""

    def facts(self, flow: schema.Flow, ended: bool, width: int) -> list[Text]:
        glyphs = self.console_app.glyphs
        state = f"{glyphs.off} ended" if ended else formats.clean(flow.state, 24)
        process = formats.clean(flow.label) + (f"  pid {flow.pid}" if flow.pid is not None else "")
        rows: list[tuple[str, str, Tone]] = [
            ("Flow", f"{what(flow)}  #{flow.id}  {state}",
             "quiet" if ended else "strong"),
            ("Program", process, "plain"),
            ("From", formats.clean(flow.source, 80), "plain"),
            ("To", formats.clean(flow.destination, 80), "plain"),
            ("Leaves by", formats.clean(flow.device or "?", 15), "ok"),
        ]  # fmt: skip
        if flow.counted:
            down, up = flow.from_tunnel_bytes, flow.to_tunnel_bytes
            rows += [
                ("Down", f"{formats.size(down)}  {formats.rate(flow.from_tunnel_rate)}", "down"),
                ("Up", f"{formats.size(up)}  {formats.rate(flow.to_tunnel_rate)}", "up"),
            ]
        else:
            rows.append(("Bytes", "not counted by the kernel", "quiet"))
        if flow.rtt_ms is not None:
            again = formats.count(flow.retransmits or 0, "retransmission")
            rows.append(("Quality", f"{flow.rtt_ms:.1f} ms, {again}", "plain"))
        seen = f"for {formats.duration(flow.age)}"
        if flow.counted:
            seen += f", idle {formats.duration(flow.idle)}"
        rows.append(("Seen", seen, "plain"))
        return [fact(self, name, value, tone, width) for name, value, tone in rows]


class TunnelFlowsScreen(FlowsScreen):
    """The section."""

    COLUMNS = COLUMNS
    ORDERS: ClassVar[tuple[Sort, ...]] = tuple(
        Sort(order.key, {"label": "program", "age": "seen"}.get(order.key, order.name),
             order.descending, order.moves)
        for order in SORTS
    )  # fmt: skip
    BY_TITLE: ClassVar[dict[str, Sort]] = BY_TITLE | {order.key: order for order in ORDERS} | {
        "down": Sort("from_tunnel_rate", "down", True, moves=True),
        "up": Sort("to_tunnel_rate", "up", True, moves=True),
    }  # fmt: skip
    MARKED: ClassVar[dict[str, str]] = {
        "rate": "down", "from_tunnel_rate": "down", "to_tunnel_rate": "up",
    }  # fmt: skip
    DETAILS = TunnelFlowDetails
    GROUPINGS: ClassVar[tuple[Grouping, ...]] = (BY_PROGRAM, BY_ADDRESS)
    FILTER_HINT = "words in program, address, state"
    DOWN = "from_tunnel_rate"
    UP = "to_tunnel_rate"

    def why_idle(self) -> str:
        status = self.store.client
        if status is None:
            return "No flows."
        if status.state == "connected":
            return "No flows: nothing on this device uses the network now."
        if status.state in ("idle", "failed"):
            return "No flows: not connected. Press 2 to connect."
        return "No flows: not connected yet. Press 1 to see how it stands."

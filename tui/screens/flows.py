"""Flows: who talks to whom, how much, by which device. Sorted and filtered in the service.

The console asks for a page: the first `limit` flows of an order, out of those
that match. It asks for a longer page only when the cursor is moved past the
end of the present one, so that a gateway with thousands of flows costs the
link no more than one with forty.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.timer import Timer
from textual.widgets import Input

from services.control import schema
from services.control.methods import MAX_FLOWS
from tui import actions, formats
from tui.screens.modals import ConfirmScreen
from tui.screens.section import SectionScreen
from tui.widgets.painted import Painted, Tone
from tui.widgets.table import Cell, Column, RowTable

if TYPE_CHECKING:
    from tui.app import ConsoleApp

FIRST_LIMIT = 200
TYPING_PAUSE = 0.3
"""Seconds after the last letter of a filter until the service is asked."""

SORTS: tuple[tuple[str, str, bool], ...] = (
    ("rate", "rate", True),
    ("bytes", "bytes", True),
    ("age", "age", False),
    ("idle", "idle", False),
    ("label", "device", False),
    ("destination", "destination", False),
    ("state", "state", False),
)
"""What `o` goes through: the service's key, its name, whether it begins descending."""


@dataclass(frozen=True, slots=True)
class Group:
    """The heading of one device's flows."""

    peer_id: str
    label: str
    flows: int
    down: float
    up: float
    open: bool


Row = schema.Flow | Group


def row_id(row: Row) -> Hashable:
    return ("group", row.peer_id) if isinstance(row, Group) else row.id


def grouped(flows: list[schema.Flow], closed: set[str]) -> list[Row]:
    """The flows under a heading for each device, in the order of their first flows."""
    groups: dict[str, list[schema.Flow]] = {}
    for flow in flows:
        groups.setdefault(flow.peer_id, []).append(flow)
    made: list[Row] = []
    for peer_id, members in groups.items():
        down = sum(flow.to_tunnel_rate for flow in members)
        up = sum(flow.from_tunnel_rate for flow in members)
        is_open = peer_id not in closed
        made.append(Group(peer_id, members[0].label, len(members), down, up, is_open))
        if is_open:
            made += members
    return made


def _flow(row: Row) -> schema.Flow:
    assert isinstance(row, schema.Flow)  # headings never come to a column
    return row


_STATE_TONES: dict[str, Tone] = {
    "established": "ok",
    "connecting": "accent",
    "refused": "bad",
    "closing": "quiet",
}


def _state(row: Row) -> Cell:
    state = formats.clean(_flow(row).state, 12)
    return state, _STATE_TONES.get(state, "quiet")


def _rate(value: float, tone: Tone) -> Cell:
    return formats.rate(value), tone if value >= 1 else "quiet"


COLUMNS = (
    Column[Row]("protocol", "Prot", 4, lambda r: (formats.clean(_flow(r).protocol, 4), "quiet")),
    Column[Row]("label", "Device", 12, lambda r: (formats.clean(_flow(r).label), "plain"),
                flex=1, tier=1),
    Column[Row]("source", "From", 21, lambda r: (
        formats.shorten_middle(formats.clean(_flow(r).source, 60), 21), "quiet"), tier=2),
    Column[Row]("destination", "To", 14, lambda r: (
        formats.clean(_flow(r).destination, 60), "strong"), flex=3),
    Column[Row]("state", "State", 11, _state, tier=2),
    Column[Row]("down", "Down", 9, lambda r: _rate(_flow(r).to_tunnel_rate, "down"), right=True),
    Column[Row]("up", "Up", 9, lambda r: _rate(_flow(r).from_tunnel_rate, "up"), right=True),
    Column[Row]("bytes", "Bytes", 7, lambda r: (formats.size(
        _flow(r).to_tunnel_bytes + _flow(r).from_tunnel_bytes), "plain"), right=True, tier=1),
    Column[Row]("age", "Age", 4, lambda r: (formats.age(_flow(r).age), "quiet"),
                right=True, tier=1),
    Column[Row]("device", "By", 8, lambda r: (
        formats.clean(_flow(r).device or "?", 15), "quiet"), tier=2),
)  # fmt: skip

# Which heading carries the mark of an order that has no column of its own.
_MARKED = {"rate": "down"}


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
        _, name, _ = SORTS[screen.sort]
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


class FilterInput(Input):
    """The filter's line; escape leaves it."""

    def on_key(self, event: events.Key) -> None:
        if event.key in ("escape", "down"):
            event.stop()
            event.prevent_default()
            if event.key == "escape":
                self.value = ""
            self.post_message(self.Submitted(self, self.value))


class FlowsScreen(SectionScreen):
    """The section."""

    SECTION: ClassVar[str] = "flows"
    BINDINGS = actions.bindings("flows")

    def __init__(self) -> None:
        super().__init__()
        self.sort = 0
        self.descending = SORTS[0][2]
        self.filter = ""
        self.peer: str | None = None
        self.peer_label = ""
        self.group = False
        self.following = False
        self.closed: set[str] = set()
        self.limit = FIRST_LIMIT
        self.chosen: schema.Flow | None = None
        """The flow whose details are shown."""
        self.chosen_ended = False
        self._typing: Timer | None = None

    def topics(self) -> dict[str, dict[str, Any]]:
        params: dict[str, Any] = {
            "sort": SORTS[self.sort][0],
            "descending": self.descending,
            "limit": self.limit,
        }
        if self.filter:
            params["filter"] = self.filter
        if self.peer is not None:
            params["peer"] = self.peer
        return {"flows": params}

    def body(self) -> ComposeResult:
        yield FlowsLine(id="flows-line")
        with Container(classes="list-and-details"):
            yield RowTable[Row](
                COLUMNS, row_id, heading=self._heading, empty="No flows.", id="flows"
            )
            yield FlowDetails(classes="details")
        filter_input = FilterInput(placeholder="words in device, address, state", compact=True,
                                   id="filter", select_on_focus=False)  # fmt: skip
        filter_input.display = False
        yield filter_input

    def on_mount(self) -> None:
        self.query_one(FlowDetails).display = False
        self._mark_order()
        self.table.focus()

    @property
    def table(self) -> RowTable[Row]:
        return self.query_one("#flows", RowTable)

    @property
    def current_flow(self) -> schema.Flow | None:
        row = self.table.current
        return row if isinstance(row, schema.Flow) else None

    def _heading(self, row: Row) -> Cell | None:
        if not isinstance(row, Group):
            return None
        glyphs = self.console_app.glyphs
        mark = glyphs.opened if row.open else glyphs.closed
        label = formats.clean(row.label, 24)
        return (
            f"{mark} {label}  {formats.count(row.flows, 'flow')}  {glyphs.down} "
            f"{formats.rate(row.down)}  {glyphs.up} {formats.rate(row.up)}",
            "accent",
        )

    # News

    def update(self, topic: str | None) -> None:
        if topic in (None, "flows"):
            flows = self.store.flows.flows
            self.table.show(grouped(flows, self.closed) if self.group else flows)
            self._follow_chosen(flows)
            self.query_one(FlowsLine).redraw()

    def _follow_chosen(self, flows: list[schema.Flow]) -> None:
        if self.chosen is None:
            return
        for flow in flows:
            if flow.id == self.chosen.id:
                self.chosen, self.chosen_ended = flow, False
                break
        else:
            # Out of the page is not ended: only a whole page can say so.
            self.chosen_ended = len(flows) >= self.store.flows.total and not self.filter
        self.query_one(FlowDetails).redraw()

    def _ask_anew(self) -> None:
        self._mark_order()
        self.rewatch()
        self.query_one(FlowsLine).redraw()
        self.refresh_bindings()

    def _mark_order(self) -> None:
        key = SORTS[self.sort][0]
        self.table.set_order(_MARKED.get(key, key), self.descending)

    @on(RowTable.Highlighted, "#flows")
    def _moved(self) -> None:
        if self.chosen is not None and (flow := self.current_flow) is not None:
            self.chosen, self.chosen_ended = flow, False
            self.query_one(FlowDetails).redraw()
        self.refresh_bindings()

    @on(RowTable.Selected, "#flows")
    def _entered(self) -> None:
        self.action_flow_details()

    @on(RowTable.ReachedEnd, "#flows")
    def _wants_more(self) -> None:
        page = self.store.flows
        if len(page.flows) < page.total and self.limit < MAX_FLOWS:
            self.limit = min(self.limit * 2, MAX_FLOWS)
            self.rewatch()

    # Actions

    def may(self, action: actions.Action) -> bool | None:
        if action.id in ("flow.close", "flow.peer"):
            return True if self.current_flow is not None else None
        return True

    def show_peer(self, peer: str | None, label: str) -> None:
        """Only one device's flows; None: all."""
        self.peer, self.peer_label = peer, label
        self.limit = FIRST_LIMIT
        if self.is_mounted:
            self._ask_anew()

    def action_flow_sort(self) -> None:
        self.sort = (self.sort + 1) % len(SORTS)
        self.descending = SORTS[self.sort][2]
        self._ask_anew()

    def action_flow_reverse(self) -> None:
        self.descending = not self.descending
        self._ask_anew()

    def action_flow_group(self) -> None:
        self.group = not self.group
        self.update("flows")

    def action_flow_follow(self) -> None:
        self.following = self.table.follow = not self.following
        self.query_one(FlowsLine).redraw()

    def action_flow_peer(self) -> None:
        if self.peer is not None:
            self.show_peer(None, "")
        elif (flow := self.current_flow) is not None:
            self.show_peer(flow.peer_id, formats.clean(flow.label, 24))

    def action_flow_clear(self) -> None:
        if self.chosen is not None:
            self._choose(None)
            return
        self.filter = ""
        self.query_one(FilterInput).value = ""
        self.show_peer(None, "")

    def action_flow_details(self) -> None:
        row = self.table.current
        if isinstance(row, Group):
            self.closed ^= {row.peer_id}
            self.update("flows")
        elif row is not None:
            self._choose(None if self.chosen is not None else row)

    def _choose(self, flow: schema.Flow | None) -> None:
        self.chosen, self.chosen_ended = flow, False
        details = self.query_one(FlowDetails)
        details.display = flow is not None
        details.redraw()

    def action_flow_close(self) -> None:
        if (flow := self.current_flow) is not None:
            self.run_worker(self._close(flow), group="ask", exclusive=True)

    async def _close(self, flow: schema.Flow) -> None:
        name = f"{formats.clean(flow.protocol, 5)} to {formats.clean(flow.destination, 60)}"
        sure = await self.app.push_screen_wait(ConfirmScreen(
            f"Close {name}?",
            f"“{formats.clean(flow.label)}” will see its connection reset.",
            "Close",
        ))  # fmt: skip
        if sure:
            await self.console_app.carry_out("close_flow", f"{name} is closed.", id=flow.id)

    # Filter

    def action_flow_filter(self) -> None:
        line = self.query_one(FilterInput)
        line.display = True
        line.value = self.filter
        line.focus()

    @on(Input.Changed, "#filter")
    def _typed(self) -> None:
        if self._typing is not None:
            self._typing.stop()
        self._typing = self.set_timer(TYPING_PAUSE, self._apply_filter)

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        if self._typing is not None:
            self._typing.stop()
        self._apply_filter()
        self.query_one(FilterInput).display = False
        self.table.focus()

    def _apply_filter(self) -> None:
        self._typing = None
        words = " ".join(self.query_one(FilterInput).value.split())
        if words != self.filter:
            self.filter = words
            self.limit = FIRST_LIMIT
            self._ask_anew()

"""Flows: who talks to whom, how much, by which device. Sorted and filtered in the service.

The console asks for a page: the first `limit` flows of an order, out of those
that match. It asks for a longer page only when the cursor is moved past the
end of the present one, so that a gateway with thousands of flows costs the
link no more than one with forty. In an order that follows moving numbers, rows
keep their places for some seconds: eyes and cursor can follow them, and a row
that has not moved costs a slow link only its changed digits. What ends meanwhile
fades where it stands; a newcomer that belongs on the screen has the order made
anew. While rows stand otherwise than their numbers say, the first line says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Container

from control import schema, words
from control.methods import MAX_FLOWS
from tui import actions, formats
from tui.clipboard import Copied
from tui.screens.flow_cards import FlowDetails, FlowsLine
from tui.screens.flow_rows import (
    BY_NAME,
    BY_OWNER,
    BY_TITLE,
    COLUMNS,
    ENDED,
    MARKED,
    SORTS,
    Group,
    Grouping,
    Row,
    Sort,
    ended,
    grouped,
    in_place,
    row_id,
)
from tui.screens.listing import ListScreen
from tui.screens.modals import ConfirmScreen
from tui.widgets.columns import Cell, Column, Order
from tui.widgets.table import NOTHING_FOUND, RowTable

FIRST_LIMIT = 50
"""Flows that are asked for at first: a page costs both services and the link by its length."""
WIDE_LIMIT = 200
"""The same while one flow is looked after, or devices are compared."""
MARGIN = 10
"""Flows that are asked for beyond those on the screen."""
ORDER_SECONDS = 3.0
"""How long rows keep their places while their numbers move."""
OVERDUE = 1.5
"""Intervals of news after which none is under way."""
ASKING_SECONDS = 1.5
"""After a question, how long a page may come that still answers the one before."""


class FlowsScreen(ListScreen):
    """The section."""

    SECTION: ClassVar[str] = "flows"
    BINDINGS = actions.bindings("flows")
    COLUMNS: ClassVar[tuple[Column[Row], ...]] = COLUMNS
    ORDERS: ClassVar[tuple[Sort, ...]] = SORTS
    BY_TITLE: ClassVar[dict[str, Sort]] = BY_TITLE
    MARKED: ClassVar[dict[str, str]] = MARKED
    DETAILS: ClassVar[type[FlowDetails]] = FlowDetails
    FILTER_HINT: ClassVar[str] = "words in device, name, address, state"
    GROUPINGS: ClassVar[tuple[Grouping, ...]] = (BY_OWNER, BY_NAME)
    """What `g` goes through, before it shows them without groups again."""
    DOWN: ClassVar[str] = "to_tunnel_rate"
    """The rate that a group's heading sums up as its download; likewise the other."""
    UP: ClassVar[str] = "from_tunnel_rate"

    def __init__(self) -> None:
        super().__init__()
        self.sort = self.ORDERS[0]
        self.descending = self.sort.descending
        self.peer: str | None = None
        self.peer_label = ""
        self.group: Grouping | None = None
        self.following = False
        self.closed: set[str] = set()
        self.limit = FIRST_LIMIT
        self.chosen: schema.Flow | None = None
        """The flow whose details are shown."""
        self.chosen_ended = False
        self._sought = ""
        """The filter's words that the service was asked for."""
        self._places: list[schema.Flow] = []
        """The rows as they stand."""
        self.gone: frozenset[int] = frozenset()
        """The ids of those among them that are not told any more."""
        self.held = False
        """Whether they stand in another order than the service's."""
        self._ordered = self._asked = self._told = float("-inf")
        """When they were put in order, when another order was asked for, and when news came."""

    def topics(self) -> dict[str, dict[str, Any]]:
        params: dict[str, Any] = {
            "sort": self.sort.key,
            "descending": self.descending,
            "limit": self._page(),
        }
        if self._sought:
            params["filter"] = self._sought
        if self.peer is not None:
            params["peer"] = self.peer
        return {"flows": params}

    def _page(self) -> int:
        """How many flows to ask for."""
        closely = self.group is not None or self.following or self.chosen is not None
        shown = self.table.size.height + MARGIN if self.is_mounted else 0
        return min(max(self.limit, shown, WIDE_LIMIT if closely else 0), MAX_FLOWS)

    def body(self) -> ComposeResult:
        yield FlowsLine(self, id="flows-line")
        with Container(classes="list-and-details"):
            yield RowTable[Row](
                self.COLUMNS, row_id, heading=self._heading, local=False,
                faded=self._faded, id="flows",
            )  # fmt: skip
            yield self.DETAILS(classes="details")

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

    @property
    def _live_flow(self) -> schema.Flow | None:
        """The flow under the cursor, unless it is gone."""
        flow = self.current_flow
        return None if flow is None or flow.id in self.gone else flow

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

    def _faded(self, row: Row) -> bool:
        return not isinstance(row, Group) and row.id in self.gone

    # News

    def update(self, topic: str | None) -> None:
        if topic in (None, "status", "flows"):
            self.table.say_empty(self._why_none())
        if topic in (None, "flows"):
            self._told = self.console_app.now
            page = self.store.flows.flows
            flows = self._in_place(page)
            shown: Sequence[Row] = flows
            if self.group is not None:
                shown = grouped(flows, self.group, self.closed, self.DOWN, self.UP, self.gone)
            self.table.show(shown if self.store.has("flows") else None)
            self._follow_chosen(page)
            self.query_one(FlowsLine).redraw()

    def _why_none(self) -> str:
        """Why there are no flows, and what brings some."""
        if self.filter:
            return f"{NOTHING_FOUND} Press esc to see all."
        if self.peer is not None:
            return f"No flows of {formats.clean(self.peer_label, 32)}. Press esc to see all."
        return self.why_idle()

    def why_idle(self) -> str:
        """Why nobody has flows."""
        status = self.store.gateway
        if status is None:
            return "No flows."
        if status.sharing == "off":
            return "No flows: sharing is off. Press s to start it."
        if status.sharing != "on":
            return "No flows: sharing waits for the VPN. Press 7 to see what is missing."
        if status.peers == 0:
            return "No flows: no device is paired. Press p to pair one."
        if status.connected == 0:
            return "No flows: no device is connected. Connect one, or press p to pair another."
        return "No flows: the devices that are connected ask for nothing now."

    def tick(self) -> None:
        # Where no news comes, nothing else ends the wait. Where it does, rows move with
        # it: moved by themselves they would be sent twice, with old numbers and with new.
        now = self.console_app.now
        overdue = now >= self._told + OVERDUE * self.console_app.interval
        if self.held and overdue and now >= self._ordered + ORDER_SECONDS:
            self.update("flows")

    def _in_place(self, flows: list[schema.Flow]) -> list[schema.Flow]:
        """The page in the order to show it in."""
        now = self.console_app.now
        if not self.sort.moves or now < self._asked + ASKING_SECONDS:
            self._ordered = float("-inf")
        elif now < self._ordered + ORDER_SECONDS and self._can_hold(flows):
            return self._held(flows)
        else:
            self._ordered = now
        self._places, self.gone, self.held = flows, frozenset(), False
        return flows

    @property
    def _bottom(self) -> int:
        """How many rows there are down to the last one on the screen."""
        return self.table.scroll_offset.y + self.table.size.height

    def _can_hold(self, flows: list[schema.Flow]) -> bool:
        """Whether the rows can stay: none that has no place yet belongs on the screen, and not
        most of those that are seen are gone.
        """
        there = {flow.id for flow in flows}
        seen = self._places[: self._bottom]
        known = {flow.id for flow in self._places}
        gone = sum(flow.id not in there for flow in seen)
        return known.issuperset(flow.id for flow in flows[: self._bottom]) and 2 * gone < len(seen)

    def _held(self, flows: list[schema.Flow]) -> list[schema.Flow]:
        """The rows where they stand, those that are gone as well if they can be seen."""
        there = {flow.id for flow in flows}
        past = [
            ended(flow, self._whole)
            for flow in self._places[: self._bottom]
            if flow.id not in there
        ]
        self.gone = frozenset(flow.id for flow in past)
        self._places = in_place([flow.id for flow in self._places], [*flows, *past])
        self.held = bool(past) or self._places != flows
        return self._places

    @property
    def _whole(self) -> bool:
        """Whether the page has every flow: one that is not in it has ended then."""
        page = self.store.flows
        return len(page.flows) >= page.total and not self.filter

    def on_resize(self) -> None:
        self.rewatch()

    def _follow_chosen(self, flows: list[schema.Flow]) -> None:
        if self.chosen is None:
            return
        for flow in flows:
            if flow.id == self.chosen.id:
                self.chosen, self.chosen_ended = flow, False
                break
        else:
            # Out of the page is not ended: only a whole page can say so.
            self.chosen_ended = self._whole
        self._show_chosen()

    def _ask_anew(self) -> None:
        self._asked = self.console_app.now
        self._mark_order()
        self.rewatch()
        self.query_one(FlowsLine).redraw()
        self.refresh_bindings()

    def _mark_order(self) -> None:
        key = self.sort.key
        self.table.set_order(Order(self.MARKED.get(key, key), self.descending))

    @on(RowTable.Highlighted, "#flows")
    def _moved(self) -> None:
        if self.chosen is not None and (flow := self.current_flow) is not None:
            self.chosen, self.chosen_ended = flow, flow.state == ENDED
            self._show_chosen()
        self.follow_keys()

    @on(RowTable.Selected, "#flows")
    def _entered(self) -> None:
        self.action_flow_details()

    @on(RowTable.ReachedEnd, "#flows")
    def _wants_more(self) -> None:
        page = self.store.flows
        if len(page.flows) < page.total and self.limit < MAX_FLOWS:
            self.limit = min(self._page() * 2, MAX_FLOWS)
            self.rewatch()

    # Actions

    def may_here(self, action: actions.Action) -> bool | None:
        if action.id == "flow.close":
            return True if self._live_flow is not None else None
        if action.id == "flow.peer":
            return True if self.current_flow is not None else None
        return True

    def show_peer(self, peer: str | None, label: str) -> None:
        """Only one device's flows (on the client: one program's); None: all."""
        self.peer, self.peer_label = peer, label
        self.limit = FIRST_LIMIT
        if self.is_mounted:
            self._ask_anew()

    def order_list(self, table: RowTable[Any], key: str | None) -> None:
        """Have the service sort. The marked column is the order itself, whatever its name."""
        chosen = self.BY_TITLE.get(key) if key is not None else self._next_order()
        if chosen is None:
            return
        same = chosen == self.sort
        self.descending = not self.descending if same else chosen.descending
        self.sort = chosen
        self._ask_anew()

    def _next_order(self) -> Sort:
        position = self.ORDERS.index(self.sort) + 1 if self.sort in self.ORDERS else 0
        return self.ORDERS[position % len(self.ORDERS)]

    def action_list_reverse(self) -> None:
        self.descending = not self.descending
        self._ask_anew()

    def clear_order(self) -> None:
        self.sort = self.ORDERS[0]
        self.descending = self.sort.descending
        self._ask_anew()

    def clear_more(self) -> bool:
        if self.chosen is not None:
            self._choose(None)
            return True
        if self.peer is not None:
            self.show_peer(None, "")
            return not self.filter
        return False

    def choose(self, settled: bool) -> None:
        """Have the service filter, once the typing has paused."""
        if settled and self.filter != self._sought:
            self._sought = self.filter
            self.limit = FIRST_LIMIT
            self._ask_anew()

    def copied(self) -> Copied | None:
        flow = self.current_flow
        return None if flow is None else Copied("the destination", words.destination(flow))

    def action_flow_group(self) -> None:
        rest = self.GROUPINGS if self.group is None else self._groupings_after(self.group)
        self.group = next(iter(rest), None)
        self.closed.clear()
        self.rewatch()
        self.update("flows")

    def _groupings_after(self, group: Grouping) -> tuple[Grouping, ...]:
        return self.GROUPINGS[self.GROUPINGS.index(group) + 1 :]

    def action_flow_follow(self) -> None:
        self.following = self.table.follow = not self.following
        self.rewatch()
        self.query_one(FlowsLine).redraw()

    def action_flow_peer(self) -> None:
        if self.peer is not None:
            self.show_peer(None, "")
        elif (flow := self.current_flow) is not None:
            self.show_peer(flow.peer_id, formats.clean(flow.label, 24))

    def action_flow_details(self) -> None:
        row = self.table.current
        if isinstance(row, Group):
            self.closed ^= {row.key}
            self.update("flows")
        elif row is not None:
            self._choose(None if self.chosen is not None else row)

    def _choose(self, flow: schema.Flow | None) -> None:
        self.chosen, self.chosen_ended = flow, flow is not None and flow.state == ENDED
        self.rewatch()
        self.query_one(FlowDetails).display = flow is not None
        self._show_chosen()

    def _show_chosen(self) -> None:
        self.query_one(FlowDetails).show(self.chosen, self.chosen_ended)

    def action_flow_close(self) -> None:
        if (flow := self._live_flow) is not None:
            self.run_worker(self._close(flow), group="ask", exclusive=True)

    async def _close(self, flow: schema.Flow) -> None:
        name = f"{formats.clean(flow.protocol, 5)} to {formats.clean(words.destination(flow), 60)}"
        sure = await self.app.push_screen_wait(ConfirmScreen(
            f"Close {name}?",
            f"“{formats.clean(flow.label)}” will see its connection reset.",
            "Close",
        ))  # fmt: skip
        if sure:
            await self.console_app.carry_out("close_flow", f"{name} is closed.", id=flow.id)

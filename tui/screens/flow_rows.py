"""Flows as rows: their columns and orders, groups, and rows that keep their places."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace

from control import schema, words
from tui import formats
from tui.widgets.columns import Cell, Column
from tui.widgets.painted import Tone


@dataclass(frozen=True, slots=True)
class Sort:
    """An order of the flows."""

    key: str
    """The service's name for it."""
    name: str
    descending: bool
    """How it begins."""
    moves: bool = False
    """Whether it changes all the time, because its numbers do."""


SORTS = (
    Sort("rate", "rate", True, moves=True),
    Sort("bytes", "bytes", True, moves=True),
    Sort("age", "age", False),
    Sort("idle", "idle", False, moves=True),
    Sort("label", "device", False),
    Sort("destination", "destination", False),
    Sort("state", "state", False),
)
"""What `o` goes through."""

BY_TITLE = {
    "protocol": Sort("protocol", "protocol", False),
    "source": Sort("source", "source", False),
    "down": Sort("to_tunnel_rate", "down", True, moves=True),
    "up": Sort("from_tunnel_rate", "up", True, moves=True),
} | {sort.key: sort for sort in SORTS}
"""What a click on a column's title asks for, by the column's key."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """What flows can have in common, so that they stand under one heading."""

    name: str
    key: Callable[[schema.Flow], str]
    label: Callable[[schema.Flow], str]


def _host(flow: schema.Flow) -> str:
    """Where a flow goes, whatever the port: the name if it is known, else the address."""
    if flow.name or flow.destination == "*" or flow.protocol == "icmp":
        return flow.name or flow.destination
    return flow.destination.rpartition(":")[0].strip("[]")


BY_OWNER = Grouping("device", lambda flow: flow.peer_id, lambda flow: flow.label)
BY_PROGRAM = Grouping("program", BY_OWNER.key, BY_OWNER.label)
BY_NAME = Grouping("name", _host, _host)
BY_ADDRESS = Grouping("address", _host, _host)


@dataclass(frozen=True, slots=True)
class Group:
    """The heading of flows that have something in common."""

    key: str
    label: str
    flows: int
    down: float
    up: float
    open: bool


Row = schema.Flow | Group

ENDED = "ended"
"""The state of a flow that is over and stands in its place still."""


def row_id(row: Row) -> Hashable:
    return ("group", row.key) if isinstance(row, Group) else row.id


def grouped(
    flows: list[schema.Flow],
    by: Grouping,
    closed: set[str],
    down_of: str = "to_tunnel_rate",
    up_of: str = "from_tunnel_rate",
    gone: Collection[int] = (),
) -> list[Row]:
    """The flows under a heading for each device, program or name, in the order of their first
    flows. `down_of` and `up_of` name the rates toward whoever looks, and away;
    flows whose ids are in `gone` are shown, and not counted.
    """
    groups: dict[str, list[schema.Flow]] = {}
    for flow in flows:
        groups.setdefault(by.key(flow), []).append(flow)
    made: list[Row] = []
    for key, members in groups.items():
        down = sum(getattr(flow, down_of) for flow in members)
        up = sum(getattr(flow, up_of) for flow in members)
        is_open = key not in closed
        count = sum(flow.id not in gone for flow in members)
        made.append(Group(key, by.label(members[0]), count, down, up, is_open))
        if is_open:
            made += members
    return made


def in_place(places: Sequence[int], flows: Sequence[schema.Flow]) -> list[schema.Flow]:
    """The flows such that those in `places` (ids, top to bottom) stay where they are.

    New flows take the places of flows that are gone, the rest of them come last.
    """
    known = {flow.id: flow for flow in flows}
    standing = set(places)
    new = iter([flow for flow in flows if flow.id not in standing])
    made: list[schema.Flow] = []
    for id in places:
        flow = known.get(id) or next(new, None)
        if flow is not None:
            made.append(flow)
    return [*made, *new]


def ended(flow: schema.Flow, certain: bool) -> schema.Flow:
    """A flow that is not told any more, as its row shows it: nothing moves. Whether it has
    ended is `certain`, or it may have fallen out of the page.
    """
    state = ENDED if certain else flow.state
    return replace(flow, state=state, to_tunnel_rate=0.0, from_tunnel_rate=0.0)


def flow_of(row: Row) -> schema.Flow:
    """The flow of a row with columns."""
    assert isinstance(row, schema.Flow)  # headings never come to a column
    return row


_STATE_TONES: dict[str, Tone] = {
    "established": "ok",
    "connecting": "accent",
    "refused": "bad",
    "closing": "quiet",
}


def state_cell(row: Row) -> Cell:
    state = formats.clean(flow_of(row).state, 12)
    return state, _STATE_TONES.get(state, "quiet")


def rate_cell(value: float, tone: Tone) -> Cell:
    return formats.rate(value), tone if value >= 1 else "quiet"


def down_cell(flow: schema.Flow, value: float) -> Cell:
    """The rate toward whoever looks; of what has ended the word, for no tone may say it alone."""
    return (ENDED, "quiet") if flow.state == ENDED else rate_cell(value, "down")


COLUMNS = (
    Column[Row]("protocol", "Prot", 4, lambda r: (formats.clean(flow_of(r).protocol, 4), "quiet")),
    Column[Row]("label", "Device", 12, lambda r: (formats.clean(flow_of(r).label), "plain"),
                flex=1, tier=1),
    Column[Row]("source", "From", 21, lambda r: (
        formats.shorten_middle(formats.clean(flow_of(r).source, 60), 21), "quiet"), tier=2),
    Column[Row]("destination", "To", 14, lambda r: (
        formats.clean(words.destination(flow_of(r)), 120), "strong"), flex=3),
    Column[Row]("state", "State", 11, state_cell, tier=2),
    Column[Row]("down", "Down", 9, lambda r: down_cell(flow_of(r), flow_of(r).to_tunnel_rate),
                right=True),
    Column[Row]("up", "Up", 9, lambda r: rate_cell(flow_of(r).from_tunnel_rate, "up"), right=True),
    Column[Row]("bytes", "Bytes", 7, lambda r: (formats.size(
        flow_of(r).to_tunnel_bytes + flow_of(r).from_tunnel_bytes), "plain"), right=True, tier=1),
    Column[Row]("age", "Age", 4, lambda r: (formats.age(flow_of(r).age), "quiet"),
                right=True, tier=1),
    Column[Row]("device", "By", 8, lambda r: (
        formats.clean(flow_of(r).device or "?", 15), "quiet"), tier=2),
)  # fmt: skip

MARKED = {"rate": "down", "to_tunnel_rate": "down", "from_tunnel_rate": "up"}
"""Which heading carries the mark of an order that has no column of its own."""

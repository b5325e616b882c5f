"""Every list is filtered, sorted and copied from by the same keys and clicks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from control import schema
from tests.fakes.services import QUESTIONS, WALL, PretendClient, PretendGateway, lease, peer
from tests.fakes.waiting import settle
from tests.tui.conftest import Console, OpenConsole
from tui import actions
from tui.clipboard import MAX_COPIED
from tui.screens.listing import ListScreen
from tui.screens.sections import SCREENS
from tui.watching import Watching
from tui.widgets.columns import Column, Order, arranged, next_order, order_by
from tui.widgets.table import RowTable

LISTED = [
    (section.roles, section.id) for section in actions.SECTIONS if actions.LISTS in section.scopes
]


@dataclass(frozen=True)
class Thing:
    name: str
    size: int | None


COLUMNS = (
    Column[Thing]("name", "Name", 8, lambda thing: (thing.name, "plain")),
    Column[Thing]("size", "Size", 8, lambda thing: (str(thing.size), "plain"),
                  by=lambda thing: thing.size, greatest_first=True),
)  # fmt: skip
THINGS = [Thing("# fruit", None), Thing("pear", 9), Thing("Apple", 10), Thing("fig", None)]


def names(order: Order | None, words: str = "", headings: bool = False) -> list[str]:
    found = arranged(
        THINGS, COLUMNS, order, words, lambda thing: thing.name,
        (lambda thing: thing.name.startswith("#") or None) if headings else None,
    )  # fmt: skip
    return [thing.name for thing in found]


def test_rows_are_sorted_by_their_values_and_those_without_one_come_last() -> None:
    assert names(Order("size", True)) == ["Apple", "pear", "# fruit", "fig"]
    assert names(Order("size", False)) == ["pear", "Apple", "# fruit", "fig"]
    assert names(Order("name", False)) == ["# fruit", "Apple", "fig", "pear"], "case is nothing"
    assert names(Order("gone", False)) == [thing.name for thing in THINGS]


def test_a_filter_keeps_rows_with_all_words_and_the_heading_above_them() -> None:
    assert names(None, "P A", headings=True) == ["# fruit", "pear", "Apple"]
    assert names(None, "nothing", headings=True) == []
    assert names(Order("name", False), "p", headings=True) == ["Apple", "pear"]


def test_the_next_order_goes_round_and_the_same_column_turns() -> None:
    first = next_order(COLUMNS, None)
    assert first == Order("name", False)
    second = next_order(COLUMNS, first)
    assert second == Order("size", True)
    assert next_order(COLUMNS, second) is None
    assert order_by(COLUMNS, second, "size") == Order("size", False)
    assert order_by(COLUMNS, second, "name") == Order("name", False)
    assert order_by(COLUMNS, second, "gone") == second


@pytest.fixture
def full(gateway: PretendGateway, client: PretendClient) -> None:
    """Something in every list."""
    gateway.dns = replace(gateway.dns, recent_limit=9, recent=list(QUESTIONS))
    client.findings = [*client.findings, replace(client.findings[0], id="own", title="Own")]


def shown(c: Console) -> list[object]:
    screen = c.app.screen
    assert isinstance(screen, ListScreen)
    return [screen.in_hand.row_id(row) for row in screen.in_hand.rows]


EVERY_LIST = [
    (role, section.id)
    for role in ("gateway", "client")
    for section in actions.sections(role)
    if actions.LISTS in section.scopes
]


def test_every_section_with_a_list_has_its_keys() -> None:
    for (_, name), screen in SCREENS.items():
        listed = any(id == name for _, id in LISTED)
        assert issubclass(screen, ListScreen) is listed, name


AT_WIDTHS = [
    (role, section, size)
    for role, section in EVERY_LIST
    for size in ((45, 24), (80, 24), (120, 40))
]


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(("role", "section", "size"), AT_WIDTHS)
async def test_the_same_keys_filter_and_sort(
    console: OpenConsole, role: str, section: str, size: tuple[int, int]
) -> None:
    async with console(role, section=section, size=size) as c:
        screen = c.app.screen
        assert isinstance(screen, ListScreen)
        before = shown(c)
        assert before
        table = screen.in_hand
        await c.press("slash", *"zzqq")
        await settle(lambda: screen._typing is None)  # the pause after which a service is asked
        await c.press("enter")
        assert shown(c) == []
        assert ("/zzqq" if size[0] > 45 else "/zz") in c.text
        assert screen.in_hand is table, "the focus is where it was"
        await c.press("escape")
        assert shown(c) == before
        first = table.order
        await c.press("o")
        assert table.order is not None
        assert table.order != first
        turned = not table.order.descending
        await c.press("i")
        assert table.order is not None
        assert table.order.descending is turned
        await c.press("escape")
        assert table.order == first


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(("role", "section", "size"), AT_WIDTHS)
async def test_a_click_on_a_title_sorts_and_again_reverses(
    console: OpenConsole, role: str, section: str, size: tuple[int, int]
) -> None:
    async with console(role, section=section, size=size) as c:
        screen = c.app.screen
        assert isinstance(screen, ListScreen)
        table = screen.in_hand
        titles = {
            "flows": "To",
            "log": "Message",
            "doctor": "Check",
            "settings": "Setting",
            "links": "By",
            "connect": "Gateway",
        }
        title = titles.get(section, table.columns[1].title)
        top = c.text.splitlines()[table.region.y]
        at = top.index(f" {title} ", table.region.x) + 1 - table.region.x
        await c.pilot.click(table, offset=(at, 0))
        await c.settle()
        first = table.order
        assert first is not None
        assert f"{title}{'▼' if first.descending else '▲'}" in c.text
        await c.pilot.click(table, offset=(at, 0))
        await c.settle()
        assert table.order == Order(first.key, not first.descending)
        assert f"{title}{'▲' if first.descending else '▼'}" in c.text


async def test_devices_in_the_order_of_a_column(console: OpenConsole) -> None:
    async with console(section="peers", size=(120, 40)) as c:
        c.gateway.peers = [
            replace(peer(f"d{n}", label, "linux", connected=True), from_tunnel_today=0,
                    to_tunnel_today=today)
            for n, (label, today) in enumerate((("Bee", 9_000), ("ant", 80_000), ("cat", 700)))
        ]  # fmt: skip
        c.gateway.leases = [
            lease(f"l{n}", f"d{n}", "", number) for n, number in ((0, 9), (1, 100), (2, 20))
        ]
        c.gateway.changed()
        await c.settle()
        assert shown(c) == ["d1", "d0", "d2"]
        table = c.app.screen.query_one("#peers", RowTable)
        await c.press("o", "o", "o", "o", "o")
        assert table.order == Order("today", True)
        assert shown(c) == ["d1", "d0", "d2"]
        await c.press("i")
        assert shown(c) == ["d2", "d0", "d1"]
        table.order_by("ipv4")
        assert shown(c) == ["d0", "d2", "d1"], "by their numbers, not their letters"
        c.gateway.peers[0] = replace(c.gateway.peers[0], label="Zoe", to_tunnel_today=1)
        c.gateway.changed("peers")
        await c.settle()
        assert shown(c) == ["d0", "d2", "d1"], "news keep the order"


async def test_a_device_is_found_by_what_its_row_does_not_show(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        await c.press("slash", *"p4 52c0", "enter")
        assert shown(c) == ["p4"]
        assert "1 of 3  /p4 52c0" in c.text


async def test_a_filter_survives_another_section(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        await c.press("slash", *"tablet", "enter", "4", "3")
        assert shown(c) == ["p3"]
        assert "/tablet" in c.text


COPIED = {
    ("gateway", "overview"): "192.168.43.1:47800",
    ("gateway", "pair"): "VSHP:0A1B",
    ("gateway", "peers"): "10.77.0.3",
    ("gateway", "flows"): "151.101.1.140:443",
    ("gateway", "dns"): "example.org",
    ("gateway", "log"): "2025-07-30",
    ("gateway", "doctor"): "DNS\n✗ broken",
    ("gateway", "settings"): "gateway.name",
    ("client", "tunnel"): "10.77.0.2",
    ("client", "connect"): "192.168.43.1:47800",
    ("client", "links"): "192.168.43.1:47800",
    ("client", "flows"): "151.101.1.140:443",
    ("client", "log"): "2025-07-30",
    ("client", "doctor"): "DNS\n✗ broken",
    ("client", "settings"): "client.",
}


def test_every_section_is_copied_from() -> None:
    assert set(COPIED) == set(SCREENS)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("role", "section", "size"),
    [(role, section, size) for role, section in COPIED for size in ((45, 24), (80, 24), (120, 40))],
)
async def test_y_copies_what_is_under_the_cursor(
    console: OpenConsole, role: str, section: str, size: tuple[int, int]
) -> None:
    async with console(role, section=section, size=size) as c:
        await c.press("y")
        assert c.app.clipboard.startswith(COPIED[role, section])
        assert c.told[-1].startswith("Copied the ") or "this device's address" in c.told[-1]
        secret = section == "pair"
        assert (c.app.clipboard.split()[0][:40] in c.told[-1]) is not secret


async def test_what_is_copied_is_cleaned_and_bounded(console: OpenConsole) -> None:
    async with console(section="log") as c:
        hostile = "\x1b]52;c;ZXZpbA==\x07 rm\u202e -rf\n" + "x" * 10_000
        c.gateway.logs = [schema.LogLine(WALL, "info", "gateway", hostile)]
        c.gateway.changed("log")
        await c.settle()
        await c.press("y")
        assert "\x1b" not in c.app.clipboard
        assert "\u202e" not in c.app.clipboard
        assert MAX_COPIED - 200 < len(c.app.clipboard) <= MAX_COPIED


async def test_nothing_to_copy(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        c.gateway.flows = []
        c.gateway.changed("flows")
        await c.settle()
        await c.press("y")
        assert c.app.clipboard == ""
        assert c.told == []


SILENT = [("gateway", name) for name in ("peers", "flows", "dns", "log", "settings")] + [
    ("client", name) for name in ("connect", "links", "flows", "log", "settings")
]


@pytest.mark.parametrize(("role", "section"), SILENT)
async def test_nothing_is_claimed_before_the_service_has_told_it(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch, role: str, section: str
) -> None:
    monkeypatch.setattr(Watching, "on_news", lambda *_: None)
    async with console(role, section=section) as c:
        assert "Asking…" in c.text
        body = c.text.splitlines()[1:-1]
        told = [line.strip() for line in body if "No " in line or " 0 " in line]
        assert told == [], "an empty list would be a lie"

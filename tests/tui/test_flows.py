"""The Flows section: order, filter, places, details, groups, pages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.services import make_flows
from tests.tui.conftest import Console, OpenConsole
from tui.screens.flow_rows import in_place
from tui.screens.flows import ORDER_SECONDS, WIDE_LIMIT, FlowsScreen
from tui.widgets.table import RowTable


def called(c: Console, method: str) -> list[dict[str, object]]:
    return [params for name, params in c.gateway.calls if name == method]


async def test_sort_and_order_are_the_services_work(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        assert c.gateway.asked[-1]["flows"] == {"sort": "rate", "descending": True, "limit": 50}
        await c.press("o")
        assert c.gateway.asked[-1]["flows"]["sort"] == "bytes"
        await c.press("i")
        assert c.gateway.asked[-1]["flows"]["descending"] is False
        await c.press("o")
        assert c.gateway.asked[-1]["flows"] == {"sort": "age", "descending": False, "limit": 50}


async def test_filter(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        await c.press("slash", *"udp 53", "enter")
        assert c.gateway.asked[-1]["flows"]["filter"] == "udp 53"
        assert "5 flows" in c.text
        await c.press("escape")
        assert "filter" not in c.gateway.asked[-1]["flows"]
        assert "40 flows" in c.text


async def test_escape_in_the_filter_clears_it(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        await c.press("slash", *"udp", "escape")
        assert "40 flows" in c.text
        assert isinstance(c.app.focused, RowTable)


async def test_cursor_stays_on_its_flow_when_the_order_changes(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        await c.press("down", "down")
        table = c.app.screen.query_one("#flows", RowTable)
        chosen = table.cursor_id
        await c.advance(ORDER_SECONDS)
        c.gateway.flows = [
            replace(flow, to_tunnel_rate=9e9) if flow.id == 40 else flow for flow in c.gateway.flows
        ]
        c.gateway.changed("flows")
        await c.settle()
        assert table.cursor_id == chosen
        assert table.current is not None
        assert table.rows[3] is table.current


async def test_follow_keeps_the_flow_in_view(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        await c.press("f")
        assert "following" in c.text
        table = c.app.screen.query_one("#flows", RowTable)
        first = table.current
        assert first is not None
        await c.advance(ORDER_SECONDS)
        c.gateway.flows = [
            replace(flow, to_tunnel_rate=0.0, from_tunnel_rate=0.0) if flow.id == first.id else flow
            for flow in c.gateway.flows
        ]
        c.gateway.flows.sort(key=lambda flow: flow.id == first.id)
        c.gateway.changed("flows")
        await c.settle()
        assert table.current is not None
        assert table.current.id == first.id
        assert table.scroll_offset.y > 0


async def test_group_by_device_and_fold(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        await c.press("g", "home")
        assert "▾ Work laptop  20 flows" in c.text
        await c.press("enter")
        assert "▸ Work laptop  20 flows" in c.text
        assert "▾ Tablet  20 flows" in c.text
        assert "grouped by device" in c.text
        await c.press("g", "g")
        assert "Work laptop  20 flows" not in c.text
        assert "grouped" not in c.text


async def test_group_by_name_and_where_there_is_none_by_address(console: OpenConsole) -> None:
    flows = make_flows(6)
    ends = ("1.2.3.4:443", "1.2.3.5:80", "[2001:db8::1]:443", "[2001:db8::1]:853", "9.9.9.9", "*")
    names = ("www.shop.test", "www.shop.test", "", "", "", "")
    async with console(section="flows", size=(100, 40)) as c:
        c.gateway.flows = [
            replace(
                flow, destination=end, name=name, protocol="icmp" if end == "9.9.9.9" else "udp"
            )
            for flow, end, name in zip(flows, ends, names, strict=True)
        ]
        c.gateway.changed("flows")
        await c.settle()
        await c.press("g", "g")
        assert "grouped by name" in c.text
        for heading in (
            "www.shop.test  2 flows",
            "2001:db8::1  2 flows",
            "9.9.9.9  1 flow",
            "*  1 flow",
        ):
            assert f"▾ {heading}  " in c.text, c.text


async def test_details_follow_the_flow_and_outlive_it(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        await c.press("enter")
        assert "#1  established" in c.text
        c.gateway.flows[0] = replace(c.gateway.flows[0], to_tunnel_bytes=777_000_000_000)
        c.gateway.changed("flows")
        await c.settle()
        assert "777 GB" in c.text
        await c.press("enter")
        assert "#1  established" not in c.text


async def test_close_asks_by_name(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        await c.press("x")
        assert "Close tcp to 151.101.1.140:443?" in c.text
        assert "Work laptop" in c.text
        await c.press("n")
        assert called(c, "close_flow") == []
        await c.press("x", "y")
        assert called(c, "close_flow") == [{"id": 1}]
        assert "39 flows" in c.text


async def test_only_this_device(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        await c.press("m")
        assert c.gateway.asked[-1]["flows"]["peer"] == "p2"
        await c.press("m")
        assert "peer" not in c.gateway.asked[-1]["flows"]


async def test_more_flows_are_asked_for_at_the_end_of_the_page(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        c.gateway.flows = make_flows(1_000)
        c.gateway.changed("flows")
        await c.settle()
        assert "50 of 1,000 flows" in c.text
        await c.press("end", "down")
        assert c.gateway.asked[-1]["flows"]["limit"] == 100
        assert "100 of 1,000 flows" in c.text


@pytest.mark.parametrize("key", ["g", "f", "enter"])
async def test_who_looks_closely_gets_a_longer_page(console: OpenConsole, key: str) -> None:
    async with console(section="flows") as c:
        await c.press(key)
        assert c.gateway.asked[-1]["flows"]["limit"] == WIDE_LIMIT
        await c.press(*(key * 2 if key == "g" else [key]))
        assert c.gateway.asked[-1]["flows"]["limit"] == 50


async def test_a_tall_terminal_gets_a_page_that_fills_it(console: OpenConsole) -> None:
    async with console(section="flows", size=(80, 90)) as c:
        assert c.gateway.asked[-1]["flows"]["limit"] > 90


def test_rows_stay_and_newcomers_take_free_places() -> None:
    flows = {flow.id: flow for flow in make_flows(9)}

    def placed(places: list[int], page: list[int]) -> list[int]:
        return [flow.id for flow in in_place(places, [flows[id] for id in page])]

    assert placed([], [3, 1, 2]) == [3, 1, 2]
    assert placed([1, 2, 3], [3, 1, 2]) == [1, 2, 3]
    assert placed([1, 2, 3, 4], [9, 4, 3, 1, 8]) == [1, 9, 3, 4, 8]
    assert placed([1, 2, 3, 4], [4, 1]) == [1, 4]


async def test_rows_keep_their_places_for_a_while(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        table = c.app.screen.query_one("#flows", RowTable)
        first = table.rows[0].id
        c.gateway.flows = [
            replace(flow, to_tunnel_rate=9e9) if flow.id == 40 else flow for flow in c.gateway.flows
        ]
        c.gateway.changed("flows")
        await c.settle()
        assert table.rows[0].id == first
        assert any(row.id == 40 and row.to_tunnel_rate == 9e9 for row in table.rows)
        await c.advance(ORDER_SECONDS)
        c.gateway.changed("flows")
        await c.settle()
        assert table.rows[0].id == 40


async def test_where_news_comes_rows_move_with_it_and_not_by_the_clock(
    console: OpenConsole,
) -> None:
    async with console(section="flows") as c:
        table = c.app.screen.query_one("#flows", RowTable)
        before = [row.id for row in table.rows]
        c.gateway.flows = [
            replace(flow, to_tunnel_rate=9e9) if flow.id == 40 else flow for flow in c.gateway.flows
        ]
        for _ in range(3):
            await c.advance(ORDER_SECONDS / 3)
            assert [row.id for row in table.rows] == before
            c.gateway.changed("flows")
            await c.settle()
        assert table.rows[0].id == 40


async def test_a_flow_that_comes_has_the_order_made_anew(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        table = c.app.screen.query_one("#flows", RowTable)
        swapped = [
            replace(flow, to_tunnel_rate=9e6 if flow.id == 4 else flow.to_tunnel_rate)
            for flow in c.gateway.flows
        ]
        past = table.rows[2].id
        c.gateway.flows = [flow for flow in swapped if flow.id != past]
        newcomer = replace(swapped[0], id=1_000, to_tunnel_rate=9e8)
        c.gateway.flows = [*c.gateway.flows, newcomer]
        c.gateway.changed("flows")
        await c.settle()
        assert [row.id for row in table.rows[:2]] == [1_000, 4]
        assert past not in [row.id for row in table.rows]


async def end_and_speed_up(c: Console, ended: int, first: int) -> None:
    """One flow is over, and another is the fastest."""
    c.gateway.flows = [
        replace(flow, to_tunnel_rate=9e6) if flow.id == first else flow
        for flow in c.gateway.flows
        if flow.id != ended
    ]
    c.gateway.changed("flows")
    await c.settle()


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_a_flow_that_ends_fades_in_its_place_until_the_order_is_made_anew(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(section="flows", size=size) as c:
        table = c.app.screen.query_one("#flows", RowTable)
        before = [row.id for row in table.rows]
        past = table.rows[2]
        assert past.id != 4
        await end_and_speed_up(c, past.id, 4)
        assert [row.id for row in table.rows] == before
        assert "39 flows  by rate ▼  held" in c.text
        (line,) = [text for text in c.text.splitlines() if "ended" in text]
        assert past.destination[:8] in line
        assert [table._line(at).cells[0][1] for at in range(4)] == ["quiet"] * 4
        tones = [{tone for _, tone in table._line(at).cells} for at in range(4)]
        assert [tone == {"quiet"} for tone in tones] == [False, False, True, False]
        await c.advance(ORDER_SECONDS)
        assert table.rows[0].id == 4, "without any news, too"
        assert past.id not in [row.id for row in table.rows]
        assert "held" not in c.text and "ended" not in c.text


async def test_a_flow_that_has_ended_is_neither_closed_nor_counted(console: OpenConsole) -> None:
    async with console(section="flows", size=(120, 40)) as c:
        table = c.app.screen.query_one("#flows", RowTable)
        past = table.rows[0]
        await end_and_speed_up(c, past.id, 4)
        assert table.current is not None and table.current.id == past.id
        await c.press("x")
        assert isinstance(c.app.screen, FlowsScreen)
        await c.press("enter")
        assert f"#{past.id}  ○ ended" in c.text
        await c.press("escape", "g")
        count = 20 - 1
        assert f"{past.label}  {count} flows" in c.text


async def test_out_of_the_page_is_not_said_to_be_ended(console: OpenConsole) -> None:
    async with console(section="flows", size=(120, 40)) as c:
        c.gateway.flows = make_flows(1_000)
        c.gateway.changed("flows")
        await c.settle()
        await c.advance(ORDER_SECONDS)
        c.gateway.changed("flows")
        await c.settle()
        table = c.app.screen.query_one("#flows", RowTable)
        past = table.rows[1]
        slow = replace(past, to_tunnel_rate=0.0, from_tunnel_rate=0.0)
        c.gateway.flows = [slow if flow.id == past.id else flow for flow in c.gateway.flows]
        c.gateway.changed("flows")
        await c.settle()
        assert table.rows[1].id == past.id
        assert "held" in c.text and "ended" not in c.text
        assert {tone for _, tone in table._line(1).cells} == {"quiet"}


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_a_flow_goes_to_a_name_where_that_is_known(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(section="flows", size=size) as c:
        first = c.gateway.flows[0]
        assert first.destination == "151.101.1.140:443"
        c.gateway.flows = [replace(first, name="cdn.\x1b[2Jtest")]
        c.gateway.changed("flows")
        await c.settle()
        (line,) = [line for line in c.text.splitlines() if "cdn." in line]
        assert "cdn.[2Jtest:443" in line and "151.101" not in line
        await c.press("enter")
        assert "tcp https  #1  established" in c.text
        assert "Address   151.101.1.140:443" in c.text
        await c.press("y")
        assert c.app.clipboard == "cdn.[2Jtest:443"


async def test_an_order_asked_for_comes_at_once(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        await c.press("i")
        table = c.app.screen.query_one("#flows", RowTable)
        rates = [row.to_tunnel_rate + row.from_tunnel_rate for row in table.rows]
        assert rates == sorted(rates)


async def test_no_flows(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        c.gateway.flows = []
        c.gateway.changed("flows")
        await c.settle()
        assert "No flows: the devices that are connected ask for nothing now." in c.text
        await c.press("x", "enter", "m", "down", "end")
        assert isinstance(c.app.screen, FlowsScreen)


@pytest.mark.parametrize(
    ("sharing", "gone", "words"),
    [
        ("on", ("peers", "leases"), "no device is paired. Press p to pair one."),
        ("on", ("leases",), "no device is connected. Connect one, or press p to pair another."),
        ("off", (), "sharing is off. Press s to start it."),
        ("unavailable", (), "sharing waits for the VPN. Press 7 to see what is missing."),
    ],
)
@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_no_flows_and_what_brings_some(
    console: OpenConsole, sharing: str, gone: tuple[str, ...], words: str, size: tuple[int, int]
) -> None:
    async with console(section="flows", size=size) as c:
        c.gateway.flows = []
        c.gateway.changed("flows")
        await c.settle()
        # The news of the status alone says it anew.
        c.gateway.status = replace(c.gateway.status, sharing=sharing)
        for name in gone:
            setattr(c.gateway, name, [])
        c.gateway.changed("status")
        await c.settle()
        assert words in " ".join(c.text.split())


async def test_no_flows_of_a_filter_or_a_device(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        await c.press("slash", *"nowhere", "enter")
        assert "Nothing contains these words. Press esc to see all." in c.text
        await c.press("escape")
        assert isinstance(c.app.screen, FlowsScreen)
        c.app.screen.show_peer("p9", "Old phone")
        await c.settle()
        assert "No flows of Old phone. Press esc to see all." in c.text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("idle", "not connected. Press 2 to connect."),
        ("failed", "not connected. Press 2 to connect."),
        ("reconnecting", "not connected yet. Press 1"),
        ("connected", "nothing on this device uses the network now."),
    ],
)
async def test_a_device_without_flows(console: OpenConsole, state: str, words: str) -> None:
    async with console("client", section="flows") as c:
        c.client.flows = []
        c.client.status = replace(c.client.status, state=state)
        c.client.changed()
        await c.settle()
        assert f"No flows: {words}" in c.text

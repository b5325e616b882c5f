"""A device's page: which hour and day each row of the books is drawn in, and how one gets there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from textual.widgets import Static

from control.errors import Code, ControlError
from control.schema import Usage, UsageRow
from tests.fakes.services import WALL, peer
from tests.tui.conftest import OpenConsole
from tui.screens.device import DAYS, DAYS_EVERY, HOURS, DevicePage, DeviceScreen, by_day, by_hour
from tui.screens.flows import FlowsScreen
from tui.screens.peers import PeersScreen


def used(begins: float, down: int, period: str = "") -> UsageRow:
    return UsageRow("p1", "tablet", period, begins, 1, down)


def test_each_hour_has_its_column() -> None:
    this = WALL // 3600 * 3600
    rows = [used(this - 3600 * ago, ago + 10) for ago in (48, 47, 3, 0)]
    rows.append(used(this + 7200, 99))
    slots = by_hour(rows, WALL)
    assert len(slots) == HOURS and slots[0] == (57, 1) and slots[-1] == (10, 1)
    assert slots[-4] == (13, 1) and sum(down for down, _ in slots) == 80


def test_each_day_has_its_column_whatever_the_clocks_do() -> None:
    rows = [used(0.0, 5, "2026-03-31"), used(0.0, 6, "2026-03-02"), used(0.0, 7, "2026-03-01"),
            used(0.0, 8, "2026-04-01"), used(0.0, 9, "2026-03-29")]  # fmt: skip
    slots = by_day(Usage("day", 0.0, rows, 0, 0, today="2026-03-31"))
    assert len(slots) == DAYS and slots[0] == (6, 1) and slots[-1] == (5, 1)
    assert slots[-3] == (9, 1) and sum(down for down, _ in slots) == 20


async def test_its_days_are_the_gateways_wherever_the_console_is(console: OpenConsole) -> None:
    """There it is tomorrow already, or yesterday still."""
    async with console(section="peers") as c:
        c.gateway.counted = {}
        await c.press("enter")
        assert isinstance(c.app.screen, DeviceScreen)
        page, id = c.app.screen.query_one(DevicePage), c.app.screen.peer
        for today in ("2031-03-01", "2031-02-27"):
            row = UsageRow(id, "tablet", today, 0.0, 1, 2)
            page.show_used(Usage("day", 0.0, [row], 1, 2, today=today))
            title, *bars = [line.plain for line in page.lines(60)][-6:-2]
            assert title.startswith("30 days")
            assert [bar.rstrip()[-1:] for bar in bars] == ["█"] * 3
            assert not any("█" in bar[:58] for bar in bars)


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_enter_shows_it_and_f_goes_on_to_the_flows(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(section="peers", size=size) as c:
        await c.press("enter")
        assert isinstance(c.app.screen, DeviceScreen)
        page = c.app.screen.query_one(DevicePage)
        lines = [line.plain for line in page.lines(page.size.width)]
        assert all(len(line) <= page.size.width for line in lines), lines
        text = "\n".join(lines)
        for part in ("Rules", "Today", "In all", "Link", "Flows", "48 hours", "30 days", "now"):
            assert part in text
        await c.press("escape")
        assert isinstance(c.app.screen, PeersScreen)
        await c.press("enter", "f")
        assert isinstance(c.app.screen, FlowsScreen)


async def test_what_its_rules_leave_it_stands_there(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        spent = {"quota_left": 0, "shut_out": "has used its quota\x1b[2J"}
        await c.press("enter")
        for told, shown in (
            ({"quota_left": 3_000_000}, ["Quota   3.0 MB left"]),
            (spent, ["Quota   0 B left", "Access  has used its quota"]),
            ({}, []),
            # Also while it is away.
            ({"quota_left": 2_000_000, "connected": False}, ["Quota   2.0 MB left"]),
        ):
            now: dict[str, Any] = {"quota_left": None, "shut_out": "", **told}
            c.gateway.peers = [replace(each, **now) for each in c.gateway.peers]
            if "connected" in told:
                c.gateway.leases = []
            c.gateway.changed("peers", "leases")
            await c.settle()
            assert isinstance(c.app.screen, DeviceScreen)
            lines = [line.plain for line in c.app.screen.query_one(DevicePage).lines(60)]
            found = [line for line in lines if line.startswith(("Quota", "Access"))]
            assert [line.replace("[2J", "").rstrip() for line in found] == shown
            assert not any("\x1b" in line for line in lines)


async def test_it_lives_while_it_is_open(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        assert "usage" not in c.gateway.asked[-1]
        await c.press("enter")
        assert isinstance(c.app.screen, DeviceScreen)
        page, id = c.app.screen.query_one(DevicePage), c.app.screen.peer
        assert c.gateway.asked[-1]["usage"] == {"peer": id, "by": "hour"}

        def shown() -> str:
            return "\n".join(page.render_line(y).text for y in range(page.size.height))

        assert "now" in shown() and "20 flows" in shown() and "930 MB" in shown()
        # What it has used, where it is, what it may do and what it is called.
        c.gateway.peers = [
            replace(each, label="Kid", to_tunnel_today=7_000_000_000_000, rules="2GB/day")
            for each in c.gateway.peers
        ]
        c.gateway.leases = [replace(each, flows=77) for each in c.gateway.leases]
        c.gateway.used_since = 5_000_000_000_000
        c.gateway.changed("peers", "leases", "usage")
        await c.settle()
        text = shown()
        assert "Today   ↓ 7.0 TB" in text and "77 flows" in text and "2GB/day" in text
        assert "48 hours  ↓ 5.0 TB" in text and "30 days   ↓ 7.0 TB" in text
        assert "Kid" in str(c.app.screen.query_one(".question", Static).render())
        # Its days are asked for no more often than they have to be.
        by_days = ("usage", {"peer": id, "by": "day", "limit": DAYS})
        assert c.gateway.calls.count(by_days) == 1
        await c.advance(DAYS_EVERY)
        c.gateway.used_since += 1_000_000_000_000
        c.gateway.changed("usage")
        await c.settle()
        assert "48 hours  ↓ 6.0 TB" in shown() and c.gateway.calls.count(by_days) == 2
        # It goes, and time passes.
        c.gateway.peers = [replace(each, connected=False) for each in c.gateway.peers]
        c.gateway.leases = []
        c.gateway.changed("peers", "leases")
        await c.settle()
        assert "Flows   none" in shown() and "Link    none" in shown()
        await c.press("escape")
        assert "usage" not in c.gateway.asked[-1]


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_what_it_was_refused_stands_there(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(section="peers", size=size) as c:
        c.gateway.counted = {
            "tunnel__packets": 9, "dns__too_many__dropped": 12, "tcp__no_flow__rst_sent": 3,
            "writer__queue_full__dropped": 40_000, "ip__no_room__dropped": 1,
            "udp__from_network__refused_rules": 2, "udp__no_room__dropped": 1,
        }  # fmt: skip
        await c.press("enter")
        assert isinstance(c.app.screen, DeviceScreen)
        page = c.app.screen.query_one(DevicePage)

        def shown() -> list[str]:
            lines = [line.plain for line in page.lines(page.size.width)]
            assert all(len(line) <= page.size.width for line in lines), lines
            *_, begin = (at for at, line in enumerate(lines) if line.startswith("Refused"))
            assert lines[-1] == "", "the keys stand apart"
            return [line.rstrip() for line in lines[begin:-1]]

        title, *told = shown()
        assert title == "Refused   40,019 in this session"
        assert {len(line) - len(line.lstrip()) for line in told} == {0, 4, 5, 8}, "in a column"
        assert told[-1] == "        and 1 more kind"
        assert " ".join(" ".join(told).split()) == (
            "40,000 Packets for a device that were dropped before they were sent, by why: "
            "queue full. 12 Questions dropped, for the device had many open. 3 TCP segments of "
            "devices that were answered with a reset, by why: no flow. 2 Datagrams from the "
            "network that were kept from a device, by why: refused rules. 1 IP packets of "
            "devices that were dropped, by why: no room. and 1 more kind"
        )
        assert "Refused 40,019, see below" in [line.plain.rstrip() for line in page.lines(60)]
        # It is asked anew with the days, and may have a session without any.
        c.gateway.counted = {"dns__too_many__dropped": 13}
        await c.advance(DAYS_EVERY)
        c.gateway.changed("usage")
        await c.settle()
        title, *told = shown()
        assert title.startswith("Refused   13 in")
        assert " ".join(" ".join(told).split()).startswith("13 Questions dropped, for the")
        c.gateway.counted = {"tunnel__packets": 10}
        await c.advance(DAYS_EVERY)
        c.gateway.changed("usage")
        await c.settle()
        assert not any(line.plain.startswith("Refused") for line in page.lines(60))


async def test_a_gateway_that_does_not_tell_what_was_refused(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        c.gateway.errors["counters"] = ControlError(Code.METHOD_NOT_FOUND, "No such method.")
        await c.press("enter")
        assert isinstance(c.app.screen, DeviceScreen)
        lines = [line.plain for line in c.app.screen.query_one(DevicePage).lines(60)]
        assert not any(line.startswith("Refused") for line in lines)


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_the_list_says_who_is_shut_out(console: OpenConsole, size: tuple[int, int]) -> None:
    async with console(section="peers", size=size) as c:
        one, two, three = c.gateway.peers
        c.gateway.peers = [
            replace(one, gate="quota_spent", rules="1GB/day", shut_out="has used its quota",
                    quota_left=0),
            replace(two, rules="2GB/day", quota_left=1_500_000_000),
            replace(three, gate="paused", rules="paused", shut_out="is paused by the owner"),
        ]  # fmt: skip
        c.gateway.changed("peers")
        await c.settle()
        lines = {line[1:5]: line for line in c.text.splitlines()[1:6]}
        assert "▲ used up" in lines["Work"] and "● here" in lines["Tabl"]
        assert "▲ paused" in lines["Old "]
        assert ("2GB/day" in lines["Tabl"]) is (size[0] > 45)
        assert "1.5 GB left" in c.text, "the details of the tablet, which is the first"


async def test_what_a_device_calls_itself_and_a_gateway_that_cannot_tell(
    console: OpenConsole,
) -> None:
    async with console(section="peers") as c:
        c.gateway.peers = [
            replace(peer("p9", "a\x1b[31m\n[b]b", "linux", connected=False), rules="paused")
        ]
        c.gateway.leases = []
        c.gateway.changed("peers", "leases")
        await c.settle()
        await c.press("enter")
        assert isinstance(c.app.screen, DeviceScreen)
        page = c.app.screen.query_one(DevicePage)
        text = "\n".join(line.plain for line in page.lines(40))
        heading = str(c.app.screen.query_one(".question", Static).render())
        assert "paused" in text and "\x1b" not in text + heading
        await c.press("escape")
        refusal = ControlError(Code.METHOD_NOT_FOUND, "This gateway keeps no books.")
        c.gateway.errors["usage"] = refusal
        await c.press("enter")
        assert isinstance(c.app.screen, PeersScreen)

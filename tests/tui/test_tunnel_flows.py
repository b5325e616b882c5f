"""The client's flows: programs, directions, what the gateway's section can do and this cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes.services import own_flows
from tests.tui.conftest import Console, OpenConsole
from tui.screens.tunnel_flows import TunnelFlowsScreen


def screen(c: Console) -> TunnelFlowsScreen:
    found = c.app.screen
    assert isinstance(found, TunnelFlowsScreen)
    return found


async def test_programs_and_what_they_move(console: OpenConsole) -> None:
    async with console("client", size=(120, 40), section="flows") as c:
        for words in ("30 flows", "by rate", "Program", "firefox", "apt-get", "Trip", "10.77.0.2:",
                      "Seen"):  # fmt: skip
            assert words in c.text, words
        first = c.client.flows[0]
        line = next(line for line in c.text.splitlines() if "4.0 MB/s" in line)
        assert first.from_tunnel_rate == 4_000_000
        assert line.index("4.0 MB/s") < line.index("200 kB/s"), "what comes is the download"


@pytest.mark.parametrize("width", [45, 80])
async def test_narrow(console: OpenConsole, width: int) -> None:
    async with console("client", size=(width, 24), section="flows") as c:
        assert "30 flows" in c.text and "4.0 MB/s" in c.text
        assert ("firefox" in c.text) is (width == 80)


async def test_only_what_is_shown_is_asked_for(console: OpenConsole) -> None:
    async with console("client", section="flows") as c:
        assert set(c.client.asked[-1]) == {"status", "events", "flows"}
        await c.press("1")
        assert set(c.client.asked[-1]) == {"status", "events", "gateways"}


async def test_details_with_quality(console: OpenConsole) -> None:
    async with console("client", size=(120, 40), section="flows") as c:
        await c.press("enter")
        for words in ("Program   ssh  pid 2001", "Leaves by vshp0", "25.0 ms, 1 retransmission"):
            assert words in c.text, words
        c.client.flows = [flow for flow in c.client.flows if not flow.counted]
        c.client.changed()
        await c.settle()
        await c.press("escape", "enter")
        assert "not counted by the kernel" in c.text


async def test_sort_filter_group_and_one_program(console: OpenConsole) -> None:
    async with console("client", section="flows") as c:
        for _ in range(4):
            await c.press("o")
        assert c.client.asked[-1]["flows"]["sort"] == "label"
        assert "by program" in c.text
        await c.press("i")
        assert c.client.asked[-1]["flows"]["descending"] is True
        await c.press("slash", *"udp", "enter")
        assert c.client.asked[-1]["flows"]["filter"] == "udp"
        await c.press("escape")
        assert "filter" not in c.client.asked[-1]["flows"]
        await c.press("g")
        assert "▾ firefox  " in c.text and "grouped by program" in c.text
        await c.press("g")
        assert "grouped by address" in c.text
        await c.press("g")
        await c.press("home", "m")
        assert c.client.asked[-1]["flows"]["peer"] == screen(c).peer
        assert f"only {screen(c).peer_label}" in c.text
        await c.press("m", "f")
        assert "following" in c.text


async def test_a_group_sums_up_what_comes_as_download(console: OpenConsole) -> None:
    async with console("client", size=(120, 40), section="flows") as c:
        c.client.flows = own_flows(1)
        c.client.changed()
        await c.settle()
        await c.press("g")
        assert "↓ 4.0 MB/s  ↑ 200 kB/s" in c.text


async def test_flows_cannot_be_closed_here(console: OpenConsole) -> None:
    async with console("client", section="flows") as c:
        c.client.calls.clear()
        await c.press("x")
        assert c.client.calls == []
        assert "x Close" not in c.text
        assert isinstance(c.app.screen, TunnelFlowsScreen)


async def test_a_hostile_program_name_stays_in_its_cell(console: OpenConsole) -> None:
    async with console("client", section="flows") as c:
        hostile = "\x1b[31m\u202e[bold]evil" + "A" * 10_000
        first = c.client.flows[0]
        c.client.flows[0] = replace(first, label=hostile)
        before = c.text.splitlines()
        c.client.changed()
        await c.settle()
        after = c.text.splitlines()
        changed = [n for n, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        assert len(changed) == 1 and "\u202e" not in c.text and len(after[changed[0]]) == 80

"""The history of traffic in the console: full when it opens, with scale, peak and axis."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from control.errors import Code, ControlError
from control.traffic import SAMPLES
from tests.fakes.services import PretendGateway
from tests.tui.conftest import Console, OpenConsole
from tui import formats
from tui.screens.peers import PeersScreen
from tui.widgets.history import MARK, History, marks, samples_a_column

BARS = formats.UNICODE.bars[1:]


def chart_line(console: Console, mark: str, bars: str = BARS) -> str:
    """The part of a line of the screen from the arrow `mark` on, the first with a chart."""
    for line in console.text.splitlines():
        at = line.find(f"{mark} ")
        if at >= 0 and any(bar in line[at:] for bar in bars):
            return line[at:]
    raise AssertionError(f"no chart after {mark}:\n{console.text}")


@pytest.mark.parametrize("role", ["gateway", "client"])
@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_the_first_section_begins_with_what_the_service_remembers(
    console: OpenConsole, role: str, size: tuple[int, int]
) -> None:
    async with console(role, size=size) as opened:
        store = opened.app.store
        assert len(store.down) == len(store.up) == SAMPLES
        service = opened.gateway if role == "gateway" else opened.client
        assert ("traffic", {}) in service.calls
        if role == "gateway":
            moved = [(toward, back) for back, toward in opened.gateway.traffic[None]]
        else:
            moved = opened.client.traffic
        assert list(store.down) == [down / 2 for down, _ in moved]
        assert list(store.up) == [up / 2 for _, up in moved]
        line = chart_line(opened, "↓")
        columns = [cell for cell in line if cell in BARS]
        assert len(columns) >= size[0] // 2, "as wide as the card"
        if size[0] > 45:
            assert "peak" in opened.text and "-8m" in opened.text and " now" in opened.text


async def test_it_goes_on_with_what_is_seen(console: OpenConsole) -> None:
    async with console() as opened:
        store = opened.app.store
        await opened.advance(1.0)
        before = list(store.down)
        await opened.advance(1.0)
        assert list(store.down) == [*before[1:], opened.gateway.status.to_tunnel_rate]


async def test_a_service_that_began_anew_begins_the_history_anew(console: OpenConsole) -> None:
    async with console() as opened:
        opened.gateway.stop()
        await opened.settle()
        opened.gateway.traffic = {None: [(2, 4), (6, 8)]}
        opened.gateway.up = True
        opened.app.link.retry()
        await opened.settle()
        assert (list(opened.app.store.up), list(opened.app.store.down)) == ([1, 3], [2, 4])


async def test_a_service_of_an_older_version_has_no_history(
    console: OpenConsole, gateway: PretendGateway
) -> None:
    gateway.errors["traffic"] = ControlError(Code.METHOD_NOT_FOUND, "There is no such method.")
    async with console(section="peers") as opened:
        assert not opened.app.store.remembers
        assert len(opened.app.store.down) == 1, "what the console has seen itself"
        assert all("traffic" not in topics for topics in gateway.asked), "it would end the watch"
        assert "Rates" in opened.text and "Peak" not in opened.text


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_details_show_the_history_of_the_device_under_the_cursor(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(section="peers", size=size) as opened:
        screen = opened.app.screen
        assert isinstance(screen, PeersScreen) and screen.current is not None
        assert screen.current.peer is not None and screen.current.peer.id == "p3"
        assert opened.gateway.asked[-1]["traffic"]["peer"] == "p3"
        tablet = chart_line(opened, "↓")
        assert "Peak" in opened.text and "now" in opened.text
        peak = max(down / 2 for _, down in opened.gateway.traffic["p3"])
        assert formats.rate(peak) in opened.text
        await opened.press("down")
        assert opened.gateway.asked[-1]["traffic"]["peer"] == "p2"
        assert chart_line(opened, "↓") != tablet
        await opened.press("down")
        assert "Peak" not in opened.text, "it never moved a byte"


async def test_a_device_that_left_keeps_its_history(
    console: OpenConsole, gateway: PretendGateway
) -> None:
    gateway.peers = [replace(peer, connected=False) for peer in gateway.peers]
    gateway.leases = []
    gateway.traffic["p4"] = gateway.traffic["p3"]
    async with console(section="peers", size=(120, 40)) as opened:
        assert "○ away" in opened.text
        assert chart_line(opened, "↓").startswith("↓ -"), "nothing moves now"
        assert "Peak" in opened.text


async def test_with_ascii_the_charts_are_ascii(console: OpenConsole) -> None:
    async with console(section="peers", ascii=True) as opened:
        assert chart_line(opened, "v", "=+*%#")
        assert opened.text.isascii()


async def test_the_charts_of_a_wide_screen_tell_their_scale(console: OpenConsole) -> None:
    async with console(size=(120, 40)) as opened:
        lines = opened.text.splitlines()
        (first, second) = (at for at, line in enumerate(lines) if "│ peak" in line)
        assert formats.rate(max(opened.app.store.down)) in lines[first + 1]
        assert formats.rate(max(opened.app.store.up)) in lines[second + 1]
        assert second - first == 5, "five lines each"


def test_all_that_is_remembered_has_room_and_what_was_drawn_stays() -> None:
    values = [float(number * 37 % 101) for number in range(SAMPLES + 40)]
    for room in (30, 33, 61, 65, 101, 150, 300, 400):
        step = samples_a_column(room)
        assert SAMPLES <= room * step < SAMPLES + room
        before: dict[int, float] = {}
        for newest in range(SAMPLES, SAMPLES + 40):
            history = History(values[newest - SAMPLES + 1 : newest + 1], [], 2.0, newest)
            columns = history._columns(history.down, room)
            last = newest // step
            assert columns[-1] == max(values[last * step : newest + 1])
            numbered = dict(zip(range(last - len(columns) + 1, last + 1), columns, strict=True))
            # The first column loses samples to time, the last one gains them.
            whole = dict(list(numbered.items())[1:-1])
            assert len(whole) >= SAMPLES // step - 2
            assert all(whole[number] == before[number] for number in whole.keys() & before.keys())
            before = whole


@pytest.mark.parametrize("seconds", [0.5, 2.0, 20.0])
@pytest.mark.parametrize("room", [0, 5, MARK, 30, 33, 65, 101])
def test_marks_stand_at_their_columns(room: int, seconds: float) -> None:
    line = marks(room, seconds)
    assert len(line) == room
    if room < MARK:
        assert not line.strip()
        return
    assert line.endswith("now")
    for word in line.split()[:-1]:
        minutes = int(word.removeprefix("-").removesuffix("m"))
        assert line.index(word) == room - round(minutes * 60 / seconds)
    starts = [line.index(word) for word in line.split()]
    assert all(after - before >= MARK - 3 for before, after in pairwise(starts))
    if room >= 60 / seconds + MARK:
        assert len(starts) > 1

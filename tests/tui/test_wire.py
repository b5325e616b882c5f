"""What goes over the line: the same cells as Textual's own updates, in fewer bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.color import ColorSystem
from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget

from tests.fakes.services import make_flows, request
from tests.tui.conftest import Console, OpenConsole
from tests.tui.terminal import PLAIN, Terminal
from tui.widgets.bars import KeyBar
from tui.widgets.painted import changed_cells
from tui.widgets.table import RowTable
from tui.wire import Pen, SlimChopsUpdate, SlimCompositor


def whole(c: Console) -> tuple[LayoutUpdate, LayoutUpdate]:
    """The screen as a slim update and as Textual's."""
    compositor = c.app.screen._compositor
    assert isinstance(compositor, SlimCompositor)
    slim = compositor.render_full_update()
    return slim, LayoutUpdate(slim.strips, slim.region)


@pytest.mark.parametrize("system", list(ColorSystem)[:4])
@pytest.mark.parametrize("section", ["overview", "pair", "flows"])
async def test_a_whole_screen_is_the_same_and_smaller(
    console: OpenConsole, section: str, system: ColorSystem
) -> None:
    async with console(section=section) as c:
        c.gateway.waiting = [request(label="漢字 Ünïcode", code=None)]
        c.gateway.changed()
        await c.settle()
        c.app.console._color_system = system
        for line in c.app.screen._compositor.render_full_update().strips:
            for strip in line:
                for _, style, _ in strip:
                    if style is not None:
                        style._ansi = None  # Rich remembers codes of one colour system only
        slim, plain = whole(c)
        drawn = [Terminal(80, 24), Terminal(80, 24)]
        slim_data, plain_data = (u.render_segments(c.app.console) for u in (slim, plain))
        drawn[0].feed(slim_data)
        drawn[1].feed(plain_data)
        assert drawn[0].cells == drawn[1].cells
        assert drawn[0].pen == PLAIN
        assert len(slim_data) < len(plain_data) * 0.9


def part(rng: random.Random) -> Region:
    """Some of a screen of 80 by 24, never all of it."""
    x, y = rng.randrange(1, 80), rng.randrange(24)
    return Region(x, y, rng.randint(1, 80 - x), rng.randint(1, 24 - y))


@pytest.mark.parametrize("section", ["overview", "pair", "flows"])
async def test_parts_of_the_screen_touch_only_themselves(
    console: OpenConsole, section: str
) -> None:
    async with console(section=section) as c:
        c.gateway.waiting = [request(label="漢字 Ünïcode", code=None)]
        c.gateway.changed()
        await c.settle()
        compositor = c.app.screen._compositor
        complete = Terminal(80, 24)
        complete.feed(compositor.render_full_update().render_segments(c.app.console))
        rng = random.Random(8)
        for _ in range(60):
            parts = [part(rng) for _ in range(rng.randint(1, 4))]
            compositor._dirty_regions.update(parts)
            update = compositor.render_partial_update()
            assert isinstance(update, ChopsUpdate)
            terminal = Terminal(80, 24)
            terminal.feed(update.render_segments(c.app.console))
            wanted = {
                place for place in complete.cells if any(part.contains(*place) for part in parts)
            }
            assert terminal.touched == wanted
            # Half a wide character cannot be drawn: a space stands for it.
            halves = {
                (x, y)
                for x, y in wanted
                for near in (x - 1, x + 1)
                if (near, y) not in wanted and _joined(complete, min(x, near), y)
            }
            assert all(terminal.cells[place] == complete.cells[place] for place in wanted - halves)


def _joined(terminal: Terminal, x: int, y: int) -> bool:
    """Whether a cell and the next hold one wide character."""
    return terminal.cells.get((x, y), (" ",))[0] != "" == terminal.cells.get((x + 1, y), (" ",))[0]


async def test_only_lines_with_dirty_cells_are_rendered(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[tuple[str, Region]] = []
    async with console(section="flows") as c:
        compositor = c.app.screen._compositor
        for widget in compositor.visible_widgets:

            def watch(crop: Region, widget: Widget = widget) -> list[Strip]:
                rendered.append((type(widget).__name__, crop))
                return type(widget).render_lines(widget, crop)

            monkeypatch.setattr(widget, "render_lines", watch)
        table = c.app.screen.query_one(RowTable)
        for y in (4, 5, 9):
            compositor._dirty_regions.add(Region(10, table.region.y + y, 6, 1))
        assert compositor.render_partial_update() is not None
        width = table.region.width
    # The screen and the boxes behind the table are not asked for what it covers.
    assert rendered == [
        ("RowTable", Region(0, 4, width, 2)), ("RowTable", Region(0, 9, width, 1)),
    ]  # fmt: skip


def follow(
    c: Console, monkeypatch: pytest.MonkeyPatch, told: Callable[[CompositorUpdate], None]
) -> None:
    """Have every update of the screen in front told before it is displayed."""
    display = c.app._display

    def watch(screen: Screen[Any], update: RenderableType | None) -> None:
        if isinstance(update, CompositorUpdate) and screen is c.app.screen:
            told(update)
        display(screen, update)

    monkeypatch.setattr(c.app, "_display", watch)


async def test_a_moved_rate_repaints_its_own_cells_only(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with console(section="flows") as c:
        await c.settle()
        compositor = c.app.screen._compositor
        sent: list[set[tuple[int, int]]] = []

        def watch(update: CompositorUpdate) -> None:
            if isinstance(update, ChopsUpdate):
                terminal = Terminal(80, 24)
                terminal.feed(update.render_segments(c.app.console))
                sent.append(terminal.touched)

        follow(c, monkeypatch, watch)
        flows = make_flows(40)
        flows[0] = type(flows[0])(
            **{
                name: getattr(flows[0], name)
                for name in flows[0].__dataclass_fields__
                if name != "to_tunnel_rate"
            },
            to_tunnel_rate=flows[0].to_tunnel_rate * 2,
        )
        c.gateway.flows = flows
        c.gateway.changed("flows")
        await c.settle()
        touched = set().union(*sent)
        assert {y for _, y in touched} == {3}
        assert len(touched) <= 10
        assert compositor is c.app.screen._compositor


UPDATES = 21
BUDGET = 740
"""Bytes of an update of moving flows at 80x24, by the mean: docs/performance.md has what that is
in a second. Where they keep their places it is 650, where they are put in order 1,000."""


async def test_flows_that_all_move_cost_few_bytes(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with console(section="flows") as c:
        c.app.console._color_system = ColorSystem.TRUECOLOR
        sent: list[int] = []
        follow(c, monkeypatch, lambda each: sent.append(len(each.render_segments(c.app.console))))
        held = 0
        for step in range(3 + UPDATES):
            if step == 3:
                sent.clear()
                held = 0
            c.gateway.flows = make_flows(500, step + 1)
            # As it is at work: the clock ticks between two pieces of news.
            await c.advance(0.5)
            c.clock.now += 0.5
            c.gateway.changed("flows")
            await c.settle()
            held += "held" in c.text
        assert UPDATES // 2 < held < UPDATES, "some have other places, some keep theirs"
        assert sum(sent) / UPDATES <= BUDGET
        assert len(sent) == UPDATES, "one update for each piece of news"


async def test_the_keys_at_the_foot_are_drawn_anew_when_other_ones_work(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    lines = KeyBar.lines

    def watch(bar: KeyBar, width: int) -> list[Text]:
        made = lines(bar, width)
        drawn.append(made[0].plain)
        return made

    async with console(section="flows", size=(120, 24)) as c:
        monkeypatch.setattr(KeyBar, "lines", watch)
        await c.press("j", "j", "k")
        assert drawn == []
        c.gateway.flows = []
        c.gateway.changed("flows")
        await c.settle()
        assert len(drawn) == 1
        c.gateway.flows = make_flows(3)
        c.gateway.changed("flows")
        await c.settle()
        assert len(drawn) == 2


@pytest.mark.parametrize(
    ("old", "new", "runs"),
    [
        ("abc", "abc", []),
        ("abc", "abX", [(2, 3)]),
        ("abc", "abc  held", [(5, 9)]),
        ("abc  held", "abc", [(5, 9)]),
        ("abc[b]def[/b]", "[b]abc[/b][b]def[/b]", [(0, 3)]),
        ("abc [b]wide[/b]", "abc [b]wide[/b] 漢", [(0, 20)]),
        ("0123456789", "0123456789abcdefghijX", [(0, 20)]),
    ],
)
def test_of_a_line_the_cells_are_painted_that_differ(
    old: str, new: str, runs: list[tuple[int, int]]
) -> None:
    assert changed_cells(Text.from_markup(old), Text.from_markup(new), 20) == runs


KEYS = [*"12345678jkofgxv/sp?r", "escape", "escape", "enter", "down", "pagedown", "end", "home",
        "tab", "t", "ctrl+backslash"]  # fmt: skip


@pytest.mark.parametrize(("size", "seed"), [((45, 24), 1), ((80, 24), 2), ((120, 40), 3)])
async def test_what_was_written_bit_by_bit_is_the_screen(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], seed: int
) -> None:
    """Some hundred updates, whatever they were, leave what a whole screen would have."""
    rng = random.Random(seed)
    terminal = Terminal(*size)
    async with console(size=size, theme="dark") as c:
        kinds: set[str] = set()

        def watch(update: CompositorUpdate) -> None:
            terminal.feed(update.render_segments(c.app.console))
            kinds.add(type(update).__name__)

        follow(c, monkeypatch, watch)
        c.app.screen.refresh()
        flows = make_flows(60)
        for step in range(120):
            if rng.random() < 0.5:
                rng.shuffle(flows)
                c.gateway.flows = [
                    replace(flow, to_tunnel_rate=rng.random() * 1e6, age=flow.age + step)
                    for flow in flows[: rng.choice((3, 30, 60))]
                ]
                c.gateway.waiting = [request(label="漢字 Ünïcode", code="123456")][: step // 4 % 2]
                c.gateway.changed("flows", "requests")
                c.clock.now += 1
            else:
                await c.pilot.press(rng.choice(KEYS))
            c.clock.now += 1
            c.app.second()
            await c.pilot.pause()
            if step % 6 == 0:
                await c.settle()
                complete = Terminal(*size)
                for widget in c.app.screen._compositor.visible_widgets:
                    widget._styles_cache.clear()  # and with it every line made before
                    if isinstance(widget, RowTable):
                        widget._inks.clear()
                whole = c.app.screen._compositor.render_full_update()
                complete.feed(whole.render_segments(c.app.console))
                assert terminal.cells == complete.cells, f"after step {step}"
    assert kinds >= {"SlimChopsUpdate", "SlimLayoutUpdate"}


def test_a_column_is_written_downward_when_that_is_shorter() -> None:
    styles = [Style(color=f"#10203{n}", bgcolor="#000000") for n in range(3)]
    rows = 10
    strips = [Strip([Segment(f"{y}.{n}", style) for n, style in enumerate(styles)])
              for y in range(rows)]  # fmt: skip
    update = SlimChopsUpdate(
        [{0: strip} for strip in strips],
        [(y, x, x + 3) for y in range(rows) for x in (0, 3, 6)],
        [[9] for _ in range(rows)],
    )
    console = RichConsole(color_system="truecolor")
    data = update.render_segments(console)
    assert all(data.count(f"38;2;16;32;{48 + n}") == 1 for n in range(3))
    terminal = Terminal(9, rows)
    terminal.feed(data)
    drawn = ["".join(terminal.cells[x, y][0] for x in range(9)) for y in range(rows)]
    assert drawn == [f"{y}.0{y}.1{y}.2" for y in range(rows)]


def test_columns_are_written_down_and_up_again() -> None:
    styles = [Style(color=f"#10203{n}", bgcolor="#000000") for n in range(3)]
    rows = 10
    strips = [Strip([Segment(f"{y}.{n}", style) for n, style in enumerate(styles)])
              for y in range(rows)]  # fmt: skip
    update = SlimChopsUpdate(
        [{0: strip} for strip in strips],
        [(y, x, x + 3) for y in range(rows) for x in (0, 3, 6)],
        [[10] for _ in range(rows)],
    )
    data = update.render_segments(RichConsole(color_system="truecolor"))
    # Nine lines down, from there nine up, and down again, two bytes each.
    assert [data.count(f"\x1b{index}") for index in "DM"] == [18, 9]
    assert data.count("H") == 1
    terminal = Terminal(10, rows)
    terminal.feed(data)
    drawn = ["".join(terminal.cells[x, y][0] for x in range(9)) for y in range(rows)]
    assert drawn == [f"{y}.0{y}.1{y}.2" for y in range(rows)]


@pytest.mark.parametrize(
    ("codes", "written"),
    [
        (("", "31", "41"), "\x1b[31;41m"),
        (("1", "31", "41"), "\x1b[1;31;41m"),
        (("1", "39", "41"), "\x1b[1;41m"),
        (("", "39", "49"), ""),
    ],
)
def test_of_a_style_what_differs_is_written(codes: tuple[str, str, str], written: str) -> None:
    pen = Pen(ColorSystem.TRUECOLOR)
    pen.put("x", codes, 80)
    assert "".join(pen.parts) == f"{written}x"
    assert pen.finish() == (f"{written}x\x1b[m" if written else "x")


def test_attributes_are_switched_on_without_stating_the_colours_again() -> None:
    pen = Pen(ColorSystem.TRUECOLOR)
    for codes in (("", "31", "41"), ("1", "31", "41"), ("", "31", "41")):
        pen.put("x", codes, 80)
    assert pen.finish() == "\x1b[31;41mx\x1b[1mx\x1b[0;31;41mx\x1b[m"


@pytest.mark.parametrize(("text", "sure"), [("abc", True), ("a\u0308bc", False), ("漢", False)])
def test_after_text_of_doubtful_width_the_place_is_stated_in_full(text: str, sure: bool) -> None:
    pen = Pen(ColorSystem.TRUECOLOR)
    pen.move(4, 2)
    pen.put(text, ("", "39", "49"), 80)
    pen.move(9, 2)
    assert (pen.parts[-1] == "\x1b[3;10H") is not sure


def test_at_the_right_edge_the_place_is_stated_in_full() -> None:
    pen = Pen(ColorSystem.TRUECOLOR)
    pen.move(77, 2)
    pen.put("abc", ("", "39", "49"), 80)
    pen.move(78, 3)
    assert pen.parts[-1] == "\x1b[4;79H"

"""Values as text, and what strangers' strings may do to the screen: nothing."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.fakes.services import lease, make_flows, peer, request
from tests.tui.conftest import OpenConsole
from tui import formats

HOSTILE = {
    "escapes": "\x1b[2J\x1b[31mred\x1b]0;title\x07\x9b31m",
    "markup": "[bold red]x[/] [@click=app.quit]y[/]",
    "unbalanced": "[/][/red][",
    "bidi": "\u202eevil\u2066\u2069\u200f",
    "long": "A" * 10_000,
    "zalgo": "Z" + "\u0300" * 500 + "z",
    "wide": "漢字" * 200,
    "lines": "one\r\ntwo\u2028three\x0bfour\tfive",
    "zero width": "\u200b\u200c\u200d\ufeff\u00ad",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 30,
    "empty": "",
}


@given(st.text(max_size=200), st.integers(1, 60))
@settings(deadline=None, max_examples=200)
def test_clean_leaves_one_printable_line_that_fits(text: str, limit: int) -> None:
    cleaned = formats.clean(text, limit)
    assert cell_len(cleaned) <= limit
    assert not any(unicodedata.category(c)[0] == "C" for c in cleaned)
    assert not any(unicodedata.category(c) in ("Zl", "Zp") for c in cleaned)
    assert formats.clean(cleaned, limit) == cleaned


@given(st.text(max_size=80), st.integers(0, 40), st.booleans())
@example("a blank where it is cut", 9, False)
@example("a blank where it is cut", 9, True)
@settings(deadline=None, max_examples=200)
def test_fit_is_exact(text: str, width: int, right: bool) -> None:
    assert cell_len(formats.fit(formats.clean(text), width, right=right)) == width


@pytest.mark.parametrize("section", ["overview", "pair", "peers", "flows"])
async def test_a_hostile_label_changes_nothing_but_its_own_cell(
    console: OpenConsole, section: str
) -> None:
    """Lines that do not name the device are the same, whatever it calls itself."""
    async with console(section=section, size=(120, 40)) as c:

        async def use(text: str) -> list[str]:
            c.gateway.waiting = [request(label=text, platform=text)]
            c.gateway.peers = [peer("p2", text, text, connected=True)]
            c.gateway.leases = [lease("l2", "p2", text, 2)]
            c.gateway.flows = make_flows(1)
            c.gateway.flows[0] = replace(c.gateway.flows[0], label=text, state=text)
            c.gateway.changed()
            await c.settle()
            return c.text.splitlines()

        before = await use("plain")
        for name, label in HOSTILE.items():
            after = await use(label)
            assert len(after) == len(before), name
            assert all(cell_len(line) == 120 for line in after), name
            assert not any(unicodedata.category(x)[0] == "C" for line in after for x in line), name
            for old, new in zip(before, after, strict=True):
                assert "plain" in old or old == new, name


async def test_hostile_names_in_questions_messages_and_palette(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        for name, label in HOSTILE.items():
            c.gateway.calls.clear()
            c.gateway.peers = [peer("p2", label, "linux", connected=True)]
            c.gateway.changed()
            await c.settle()
            await c.press("x")
            assert "Its lease ends" in c.text, name
            assert all(cell_len(line) == 80 for line in c.text.splitlines()), name
            await c.press("y")
            assert ("revoke", {"id": "p2"}) in c.gateway.calls, name
        await c.press("colon", *"flows of")
        assert all(cell_len(line) == 80 for line in c.text.splitlines())


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (99_949, "99.9 kB"), (99_960, "100 kB"),
     (1_930_000_000, "1.9 GB"), (-5, "0 B"), (10**19, "10000 PB")],
)  # fmt: skip
def test_size(count: int, text: str) -> None:
    assert formats.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m00s"), (3_599, "59m59s"), (7_500, "2h05m"), (90_000, "1d")],
)
def test_duration(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


def test_code_in_two_groups() -> None:
    assert formats.code("123456") == "123 456"
    assert formats.code("12") == "12"


def test_chart_scales_to_its_peak() -> None:
    assert formats.chart([0, 4, 8], 5) == ["  ▁▄█"]
    assert formats.chart([0, 8, 16], 3, rows=2) == ["  █", "▁██"]
    assert formats.chart([0, 0], 4) == ["  ▁▁"]
    assert formats.chart([], 4) == ["    "]
    assert formats.chart([1], 0) == [""]


def test_shorten_middle_keeps_both_ends() -> None:
    assert formats.shorten_middle("[2606:4700::6810:84e5]:443", 15) == "[2606:4…e5]:443"


def test_lists_are_shown_whole_as_far_as_they_fit() -> None:
    addresses = ["10.0.0.1", "10.0.0.2", "fd00::1"]
    assert formats.listed(addresses, 27) == "10.0.0.1, 10.0.0.2, fd00::1"
    assert formats.listed(addresses, 26) == "10.0.0.1, 10.0.0.2 +1"
    assert formats.listed(addresses, 20) == "10.0.0.1 +2"
    assert formats.listed(addresses, 8) == "10.0.0.…"
    assert formats.listed([], 8) == ""

"""What has happened stands in every section until it is well again, or was hidden."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control import schema
from control.events import KINDS, of_role
from control.schema import Event, EventPage
from tests.fakes.services import PretendGateway
from tests.tui.conftest import Console, OpenConsole
from tui.actions import sections
from tui.banners import GOOD_NEWS, MOMENT, NOTED, RULES, Banners

NO_VPN = schema.Vpn("absent", reason="No VPN is up.")


def event(seq: int, kind: str, device: str = "", at: float = 0.0) -> Event:
    return Event(seq, at, at, kind, KINDS[kind].level, kind, device, device.upper())


def standing(banners: Banners, now: float) -> list[str]:
    return [f"{b.event.kind} {b.event.device}".strip() for b in banners.standing(now)]


def shown(*events: Event, role: str = "gateway", now: float = 100.0) -> list[str]:
    """What stands when all of it has just happened, and a moment has passed."""
    banners = Banners(role)
    banners.put(EventPage([], 0, 0), now, 0.0)
    banners.put(EventPage(list(events), events[-1].seq, 0), now, 0.0)
    return standing(banners, now + MOMENT)


@pytest.mark.parametrize("role", ["gateway", "client"])
def test_every_rule_is_of_a_kind_that_there_is(role: str) -> None:
    kinds = of_role(role)
    for kind, rule in RULES[role].items():
        assert kind in kinds and rule.ended_by <= kinds.keys()
        assert rule.section in [section.id for section in sections(role)]
        assert rule.ended_by or rule.until < float("inf")
    graver = [kind for kind in kinds if kinds[kind].level != "info"]
    assert set(graver) <= set(RULES[role]), "what is grave has a banner"


def test_the_gravest_first_and_the_newest_of_equals() -> None:
    assert shown(
        event(1, "refused", "r1"), event(2, "link_lost", "a"), event(3, "alarm"),
        event(4, "vpn_lost"), event(5, "link_lost", "b"),
    ) == ["alarm", "vpn_lost", "link_lost b", "link_lost a", "refused r1"]  # fmt: skip


def test_a_gate_stands_until_it_opens_or_its_device_has_gone() -> None:
    assert shown(event(1, "gate_closed", "a"), event(2, "gate_opened", "b")) == ["gate_closed a"]
    for end in ("gate_opened", "revoked", "disconnected", "given_up"):
        left = shown(event(1, "gate_closed", "a"), event(2, end, "a"))
        assert "gate_closed a" not in left
    assert shown(event(1, "gate_closed"), event(2, "gate_opened"), role="client") == []


def test_what_is_well_again_is_gone() -> None:
    assert shown(event(1, "vpn_lost"), event(2, "vpn_up")) == ["vpn_up"]
    assert shown(event(1, "vpn_up")) == [], "the first VPN is no news"
    assert shown(event(1, "link_lost", "a"), event(2, "resumed", "b")) == ["link_lost a"]
    assert shown(event(1, "link_lost", "a"), event(2, "resumed", "a")) == []
    assert shown(event(1, "link_lost", "a"), event(2, "given_up", "a")) == ["given_up a"]
    assert shown(event(1, "given_up", "a"), event(2, "connected", "a")) == []
    assert shown(event(1, "alarm"), event(2, "sharing_on")) == []
    assert shown(event(1, "vpn_lost"), event(2, "vpn_up"), event(3, "vpn_lost")) == ["vpn_lost"]
    lost, held = event(1, "link_lost"), event(2, "held")
    assert shown(lost, held, role="client") == ["held", "link_lost"]
    assert shown(lost, held, event(3, "resumed"), role="client") == []
    assert shown(lost, event(2, "failed"), role="client") == ["failed"]


def test_a_link_that_is_back_in_a_moment_is_nobodys_business() -> None:
    banners = Banners("gateway")
    banners.put(EventPage([], 0, 0), 100.0, 0.0)
    banners.put(EventPage([event(1, "link_lost", "a")], 1, 0), 100.0, 0.0)
    assert standing(banners, 100.0) == []
    assert standing(banners, 100.0 + MOMENT) == ["link_lost a"]


def test_what_has_no_end_of_its_own_goes_away_by_itself() -> None:
    banners = Banners("gateway")
    events = [event(1, "vpn_lost"), event(2, "vpn_up"), event(3, "strangers")]
    banners.put(EventPage(events, 3, 0), 100.0, 0.0)
    assert standing(banners, 100.0 + GOOD_NEWS - 1) == ["strangers", "vpn_up"]
    assert standing(banners, 100.0 + GOOD_NEWS) == ["strangers"]
    assert standing(banners, 100.0 + NOTED) == []


def test_only_this_run_counts_and_a_console_that_opens_late_knows_the_age() -> None:
    banners = Banners("gateway")
    events = [event(1, "vpn_lost", at=5_000.0), event(2, "strangers", at=5_000.0)]
    banners.put(EventPage(events, 2, 1), 100.0, 5_000.0 + NOTED - 1)
    assert standing(banners, 100.0) == ["strangers"]
    assert standing(banners, 101.0) == []
    # Another machine's clock may be an hour ahead.
    ahead = Banners("gateway")
    ahead.put(EventPage([event(2, "strangers", at=9_000.0)], 2, 0), 100.0, 5_000.0)
    assert standing(ahead, 100.0) == ["strangers"]


def test_hidden_ones_stay_hidden_until_it_happens_again() -> None:
    banners = Banners("gateway")
    banners.put(EventPage([event(1, "vpn_lost"), event(2, "alarm")], 2, 0), 100.0, 0.0)
    banners.hide(banners.standing(100.0)[0])
    assert standing(banners, 100.0) == ["vpn_lost"]
    banners.hide(banners.standing(100.0)[0])
    banners.put(EventPage([event(1, "vpn_lost"), event(2, "alarm")], 2, 0), 101.0, 0.0)
    assert standing(banners, 101.0) == []
    again = [event(1, "vpn_lost"), event(2, "alarm"), event(3, "alarm")]
    banners.put(EventPage(again, 3, 0), 102.0, 0.0)
    assert standing(banners, 102.0) == ["alarm"]
    # A service that was started anew, and has lost its file, counts from 1.
    banners.put(EventPage([event(1, "vpn_lost")], 1, 0), 103.0, 0.0)
    assert standing(banners, 103.0) == ["vpn_lost"]


async def lose_vpn(c: Console) -> None:
    c.gateway.status = replace(c.gateway.status, sharing="unavailable", vpn=NO_VPN)
    c.gateway.happen("vpn_lost", "the VPN is lost: there is none")
    c.gateway.changed()
    await c.settle()


@pytest.mark.parametrize("width", [45, 80, 120])
async def test_a_lost_vpn_stands_in_every_section(console: OpenConsole, width: int) -> None:
    async with console(section="pair", size=(width, 24)) as c:
        assert "VPN lost" not in c.text
        await lose_vpn(c)
        for key in "12345678":
            await c.press(key)
            (line,) = [line for line in c.text.splitlines() if "VPN lost" in line]
            assert "✗ VPN lost 18:26:30" in line
            assert ("7 Doctor" in line) == (key != "7")
            assert ("nothing is forwarded" in line and "esc hides" in line) == (width > 45)
        c.gateway.status = replace(
            c.gateway.status, sharing="on", vpn=schema.Vpn("active", "tun0", ipv4=True)
        )
        c.gateway.happen("vpn_up", "the VPN is there: tun0", ago=0)
        c.gateway.changed()
        await c.settle()
        assert "VPN lost" not in c.text and "● VPN is back" in c.text
        await c.advance(GOOD_NEWS)
        assert "VPN is back" not in c.text


async def test_escape_hides_the_banner_and_then_clears_the_filter(console: OpenConsole) -> None:
    async with console(section="flows") as c:
        await c.press("slash", "t", "c", "p", "enter")
        await lose_vpn(c)
        c.gateway.happen("refused", "evil is turned away", "e1", "evil", ago=0)
        await c.settle()
        assert "VPN lost" in c.text and " +1 " in c.text
        await c.press("escape")
        assert "VPN lost" not in c.text and "evil turned away" in c.text
        await c.press("escape")
        assert "turned away" not in c.text and "/tcp" in c.text
        await c.press("escape")
        assert "/tcp" not in c.text


async def test_escape_in_a_question_answers_the_question(console: OpenConsole) -> None:
    async with console() as c:
        await lose_vpn(c)
        await c.press("s")
        assert "Stop sharing" in c.text
        await c.press("escape")
        assert "Stop sharing" not in c.text and "VPN lost" in c.text


async def test_nobody_is_told_of_a_vpn_that_is_not_shared(console: OpenConsole) -> None:
    async with console() as c:
        await lose_vpn(c)
        c.gateway.status = replace(c.gateway.status, sharing="off")
        c.gateway.changed()
        await c.settle()
        assert "VPN lost" not in c.text


@pytest.mark.parametrize("label", ["\x1b[2J[bold]evil", "\u202eevil", "", "名" * 60])
async def test_a_devices_name_does_no_harm(console: OpenConsole, label: str) -> None:
    async with console(size=(45, 24)) as c:
        c.gateway.happen("given_up", "gone", "p1", label)
        await c.settle()
        assert "18:26:30 · 6 Log" in c.text
        assert "\x1b[2J" not in c.text and "\u202e" not in c.text


async def test_the_client_has_banners_too(console: OpenConsole) -> None:
    async with console("client", section="settings") as c:
        c.client.happen("link_lost", "the link with Pixel 8 is lost")
        c.client.happen("held", "without a link: all traffic is held")
        await c.settle()
        await c.advance(MOMENT)
        assert "▲ Traffic is held 18:26:30 · no link · 3 Links +1   esc hides" in c.text


@pytest.mark.parametrize("height", [20, 21, 22])
async def test_a_pairing_code_that_takes_the_whole_screen_gives_way(
    console: OpenConsole, height: int
) -> None:
    async with console(section="pair", size=(45, height)) as c:
        if height == 21:
            assert "▀" in c.text and "2 Pair" not in c.text
        await lose_vpn(c)
        assert "✗ VPN lost 18:26:30 · 7 Doctor" in c.text
        await c.press("escape")
        if height == 21:
            assert "▀" in c.text


async def test_the_log_of_one_device(console: OpenConsole) -> None:
    async with console(section="log") as c:
        c.gateway.logs = [
            schema.LogLine(1.0, "info", "gateway.journal", "TV (p1) connected", 1, "p1", "TV"),
            schema.LogLine(2.0, "info", "gateway.journal", "sharing is on", 2),
            schema.LogLine(3.0, "info", "gateway.journal", "TV (p2) connected", 3, "p2", "TV"),
        ]
        c.gateway.changed("log")
        await c.settle()
        await c.press("up", "m")
        assert "This line is about no device." in c.told
        await c.press("up", "m")
        assert c.gateway.asked[-1]["log"]["device"] == "p1"
        assert "TV (p1)" in c.text and "TV (p2)" not in c.text and "1 line  of TV" in c.text
        await c.press("m")
        assert "TV (p2)" in c.text and "of TV" not in c.text
        await c.press("down", "down", "m")
        assert "TV (p1)" not in c.text
        await c.press("escape")
        assert "TV (p1)" in c.text


async def test_without_the_service_only_that_is_told(console: OpenConsole) -> None:
    async with console() as c:
        await lose_vpn(c)
        assert "VPN lost" in c.text
        c.gateway.stop()
        await c.settle()
        assert "VPN lost" not in c.text and "retrying" in c.text


HEADS = [
    (45, {}, " 1 Overview  2  3  4  5  6  7  8   ●on ●VPN"),
    (45, {"read_only": True}, " 1 Overview 2 3 4 5 6 7 8      ◆ro ●on ●VPN"),
    (80, {}, " 1 Overview 2 Pair 3 Peers 4 Flows 5 DNS 6 Log 7 Doc 8 Set   ● sharing ● tun0"),
    (80, {"read_only": True},
     " 1 Overview 2 Pair 3 Peers 4 Flows 5 DNS 6 Log 7 Doc 8 Set      ◆ro ●on ●VPN"),
    (80, {"by_ssh": True},
     " 1 Overview 2 Pair 3 Peers 4 Flows 5 DNS 6 Log 7 Doc 8 Set     ◆ssh ●on ●VPN"),
    (120, {"by_ssh": True}, " Pixel 8   1 Overview  2 Pair "),
    (120, {"by_ssh": True}, "◆ by ssh  ● sharing  ● tun0"),
]  # fmt: skip


@pytest.mark.parametrize(("width", "how", "shown"), HEADS)
async def test_the_head_has_words_beside_its_glyphs(
    console: OpenConsole, gateway: PretendGateway, width: int, how: dict[str, bool], shown: str
) -> None:
    gateway.read_only = how.get("read_only", False)
    async with console(size=(width, 24), by_ssh=how.get("by_ssh", False)) as c:
        head = c.text.splitlines()[0]
        assert " ".join(shown.split()) in " ".join(head.split())
        assert "  " in head, "tabs and state are apart"


@pytest.mark.parametrize("width", [45, 80, 120])
@pytest.mark.parametrize("role", ["gateway", "client"])
async def test_the_head_fits_whatever_it_has_to_say(
    console: OpenConsole, gateway: PretendGateway, role: str, width: int
) -> None:
    """And every state has a letter beside its glyph."""
    gateway.read_only = True
    no = replace(gateway.status, sharing="unavailable", vpn=NO_VPN, name="名" * 60)
    gateway.status = no
    async with console(role, size=(width, 24), by_ssh=True) as c:
        for key in "1234567":
            await c.press(key)
            head = c.text.splitlines()[0]
            assert f"{key} " in head and "ssh" in head
            if role == "gateway":
                assert "wait" in head and "VPN" in head and ("ro" in head or "read-only" in head)

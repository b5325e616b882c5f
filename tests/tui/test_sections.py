"""The sections of the gateway console and the actions in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from control import schema
from control.errors import Code, ControlError
from tests.fakes.services import lease
from tests.tui.conftest import Console, OpenConsole
from tui import actions
from tui.screens.log import unseen
from tui.widgets.table import RowTable


def called(c: Console, method: str) -> list[dict[str, object]]:
    return [params for name, params in c.gateway.calls if name == method]


# Everywhere


async def test_number_keys_go_to_sections(console: OpenConsole) -> None:
    async with console() as c:
        sections = ("overview", "pair", "peers", "flows", "dns", "log", "doctor", "settings")
        for key, section in zip("12345678", sections, strict=True):
            await c.press(key)
            assert c.app.section == section
            assert c.app.section_screen is c.app.screen
        await c.press("9")
        assert c.app.section == "settings"


async def test_only_what_the_section_shows_is_watched(console: OpenConsole) -> None:
    async with console() as c:
        assert set(c.gateway.asked[-1]) == {"status", "requests", "events", "leases"}
        await c.press("4")
        assert set(c.gateway.asked[-1]) == {"status", "requests", "events", "flows"}
        await c.press("5")
        assert set(c.gateway.asked[-1]) == {"status", "requests", "events", "dns"}
        await c.press("6")
        assert set(c.gateway.asked[-1]) == {"status", "requests", "events", "log"}
        await c.press("7")
        assert set(c.gateway.asked[-1]) == {"status", "requests", "events"}
        await c.press("8")
        assert set(c.gateway.asked[-1]) == {"status", "requests", "events", "settings"}
        await c.press("2")
        assert set(c.gateway.asked[-1]) == {"status", "requests", "events", "offers"}


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_share_starts_at_once_and_stops_after_a_question(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(size=size) as c:
        await c.press("s")
        assert called(c, "unshare") == []
        assert "Stop sharing “Pixel 8”?" in c.text
        await c.press("n")
        assert called(c, "unshare") == []
        await c.press("s", "y")
        assert called(c, "unshare") == [{}]
        assert "not sharing" in c.text
        await c.press("s")
        assert called(c, "share") == [{}]


async def test_share_stops_without_a_question_when_nobody_is_connected(
    console: OpenConsole, gateway: object
) -> None:
    async with console() as c:
        c.gateway.leases = []
        c.gateway.changed()
        await c.settle()
        await c.press("s")
        assert called(c, "unshare") == [{}]


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
@pytest.mark.parametrize(
    ("change", "state", "vpn"),
    [
        ({"sharing": "off"}, "○ not sharing", "● tun0"),
        ({"sharing": "unavailable", "vpn": schema.Vpn("absent")}, "▲ waiting for VPN", "✗ no VPN"),
        ({"sharing": "unavailable", "vpn": schema.Vpn("excluded", "tun0")}, "▲ waiting for VPN",
         "▲ VPN excludes us"),
        ({"bypass": True}, "● sharing", "▲ BYPASS"),
    ],
)  # fmt: skip
async def test_the_gateways_states_are_called_as_by_the_command(
    console: OpenConsole, change: dict[str, Any], state: str, vpn: str, size: tuple[int, int]
) -> None:
    async with console(size=size) as c:
        c.gateway.status = replace(c.gateway.status, **change)
        c.gateway.changed()
        await c.settle()
        assert f"State    {state} " in c.text and f"State    {vpn} " in c.text


@pytest.mark.parametrize("width", [45, 80, 120])
@pytest.mark.parametrize(
    ("sharing", "words", "short"),
    [
        ("unavailable", "▲ connected, no VPN there", ("▲ no VPN", "▲VPN")),
        ("off", "▲ connected, not sharing", ("▲ off", "▲off")),
    ],
)
async def test_connected_says_beside_it_when_the_gateway_forwards_nothing(
    console: OpenConsole, width: int, sharing: str, words: str, short: tuple[str, ...]
) -> None:
    async with console("client", size=(width, 24)) as c:
        assert "State    ● connected  for 12m" in c.text
        c.client.status = replace(c.client.status, sharing=sharing)
        c.client.changed()
        await c.settle()
        assert f"State    {words} " in c.text
        head = c.text.splitlines()[0]
        assert any(each in head for each in (words, *short)) and "●" not in head


@pytest.mark.parametrize("width", [45, 80, 120])
async def test_a_device_that_is_shut_out_sees_why(console: OpenConsole, width: int) -> None:
    async with console("client", size=(width, 24)) as c:
        sentence = "This device is paused by the owner."
        c.client.status = replace(c.client.status, shut_out=sentence)
        c.client.changed()
        await c.settle()
        assert "State    ▲ connected, shut out " in c.text
        assert sentence in " ".join(c.text.replace("│", " ").split())


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_what_to_do_next(console: OpenConsole, size: tuple[int, int]) -> None:
    async with console(size=size) as c:
        assert "What to do next" not in c.text
        c.gateway.status = replace(
            c.gateway.status,
            sharing="off",
            vpn=schema.Vpn("absent", reason="Connect a VPN first."),
        )
        c.gateway.peers, c.gateway.leases = [], []
        c.gateway.changed()
        await c.settle()
        assert "What to do next" in c.text
        assert "Connect a VPN first." in c.text
        assert "press s to start" in c.text
        assert "p shows how another one gets in" in " ".join(c.text.replace("│", "").split())


UNWRITTEN = schema.Unwritten(
    "In force, but not stored yet: the revocation of TV. gateway.db cannot be written: no space "
    "is left on its file system.",
    "Make room: df -h /var",
)


@pytest.mark.parametrize("width", [45, 80])
async def test_what_is_not_stored_is_shown_in_every_section_and_with_the_change(
    console: OpenConsole, width: int
) -> None:
    async with console(size=(width, 24)) as c:
        assert "not stored" not in c.text
        c.gateway.status = replace(c.gateway.status, unwritten=[UNWRITTEN])
        c.gateway.changed()
        for key in "12345678":
            await c.press(key)
            assert "the revocation of TV" in " ".join(c.text.split())
        await c.press("3", "x", "y")
        assert c.told[-1] == f"{UNWRITTEN.found} {UNWRITTEN.advice}"


async def test_the_clients_console_shows_it_too(console: OpenConsole) -> None:
    async with console("client") as c:
        c.client.status = replace(c.client.status, unwritten=[UNWRITTEN])
        c.client.changed()
        for key in "1234567":
            await c.press(key)
            assert "the revocation of TV" in " ".join(c.text.split())


async def test_bypass_is_shown_in_every_section(console: OpenConsole) -> None:
    async with console() as c:
        c.gateway.status = replace(c.gateway.status, bypass=True)
        c.gateway.changed()
        for key in "12345":
            await c.press(key)
            assert "BYPASS IS ON" in c.text


async def test_alarms_are_shown(console: OpenConsole) -> None:
    async with console() as c:
        c.gateway.status = replace(c.gateway.status, alarms=["The VPN counts less than we do."])
        c.gateway.changed()
        await c.settle()
        assert "The VPN counts less than we do." in c.text


async def test_theme_is_tried_on_and_kept_or_given_back(console: OpenConsole) -> None:
    kept: list[str] = []
    async with console(on_theme=kept.append) as c:
        await c.press("t", "down")
        assert c.app.theme == "high-contrast"
        await c.press("escape")
        assert c.app.theme == "dark"
        await c.press("t", "down", "down", "enter")
        assert c.app.theme == "light"
        assert kept == ["light"]


async def test_help_lists_the_keys_of_the_section(console: OpenConsole) -> None:
    async with console(section="flows", size=(100, 60)) as c:
        await c.press("question_mark")
        assert "Show only what contains these words" in c.text
        assert "Revoke the device" in c.text
        await c.press("escape")
        assert "Show only what contains these words" not in c.text


async def test_palette_runs_an_action(console: OpenConsole) -> None:
    async with console() as c:
        await c.press("colon")
        await c.press(*"go to peers")
        await c.press("enter")
        assert c.app.section == "peers"


async def test_palette_offers_devices_by_name(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        await c.press("colon")
        await c.press(*"flows of tab")
        await c.press("enter")
        assert c.app.section == "flows"
        assert c.gateway.asked[-1]["flows"]["peer"] == "p3"


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_palette_goes_to_settings_flows_and_devices(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(size=size) as c:
        await c.press("colon", *"dns.servers", "enter")
        assert c.app.section == "settings"
        assert c.app.section_screen is not None
        copied = c.app.section_screen.copied()
        assert copied is not None
        assert copied.text.startswith("dns.servers")
        await c.press("colon", *"udp 142.250.74.78", "enter")
        assert c.app.section == "flows"
        assert c.gateway.asked[-1]["flows"]["filter"] == "udp 142.250.74.78:443"
        await c.press("colon", *"device old phone", "enter")
        assert c.app.section == "peers"
        copied = c.app.section_screen.copied()
        assert copied is not None
        assert copied.text == "10.77.0.4"


async def test_quit_leaves_the_service_alone(console: OpenConsole) -> None:
    async with console() as c:
        await c.press("q")
        assert c.app.return_code == 0
        assert called(c, "shutdown") == []


async def test_keys_can_be_moved(console: OpenConsole) -> None:
    async with console(keymap={"share.toggle": "z"}) as c:
        await c.press("s")
        assert "Stop sharing" not in c.text
        assert "z Unshare" in c.text
        await c.press("z")
        assert "Stop sharing" in c.text


async def test_clashing_keys_are_told(console: OpenConsole) -> None:
    async with console(keymap={"theme.pick": "s", "no.such": "z"}) as c:
        assert "The key s clashes: share.toggle, theme.pick." in c.told
        assert "There is no action 'no.such' to give a key to." in c.told


@pytest.mark.parametrize(
    ("name", "near"),
    [("nosuchkey", ""), ("escap", " Did you mean escape?"), ("ctrl+shft+x", ""), ("", "")],
)
@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_a_key_that_does_not_exist_leaves_the_action_its_own(
    console: OpenConsole, name: str, near: str, size: tuple[int, int]
) -> None:
    keymap = {"theme.pick": name, "share.toggle": "slash"}
    async with console(keymap=keymap, size=size) as c:
        told = f"No key is called {name!r}: theme.pick keeps its own."
        assert any(each.startswith(told + near) for each in c.told)
        await c.press("t")
        assert "high-contrast" in c.text.lower() or "High contrast" in c.text


def test_every_key_of_the_registry_exists() -> None:
    for action in actions.ACTIONS:
        assert all(actions.is_key(key) for key in action.key.split(",")), action.id
    assert actions.keymap_problems({"console.quti": "x"}) == [
        "There is no action 'console.quti' to give a key to. Did you mean console.quit?"
    ]


async def test_a_tap_on_tab_or_key_works(console: OpenConsole) -> None:
    async with console(size=(45, 24)) as c:
        await c.pilot.click("TopBar", offset=(16, 0))
        await c.settle()
        assert c.app.section == "peers"
        await c.pilot.click("KeyBar", offset=(2, 0))
        await c.settle()
        assert "Revoke “Tablet”?" in c.text


# Peers


async def test_revoke_asks_by_name(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        await c.press("x")
        assert "Revoke “Tablet”?" in c.text
        await c.press("escape")
        assert called(c, "revoke") == []
        await c.press("x", "enter")
        assert called(c, "revoke") == []
        await c.press("x", "y")
        assert called(c, "revoke") == [{"id": "p3"}]
        assert "✗ revoked" in c.text


async def test_a_revoked_device_cannot_be_revoked_again(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        c.gateway.peers = [replace(c.gateway.peers[0], revoked=True)]
        c.gateway.changed()
        await c.settle()
        await c.press("x")
        assert "Revoke “" not in c.text


async def test_rename(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        await c.press("e")
        await c.press("ctrl+u", *"Sofa", "enter")
        assert called(c, "rename") == [{"id": "p3", "label": "Sofa"}]
        assert "Sofa" in c.text


async def test_rename_can_be_left(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        await c.press("e", "z", "escape")
        assert called(c, "rename") == []


async def test_flows_of_a_device(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        await c.press("j", "f")
        assert c.app.section == "flows"
        assert c.gateway.asked[-1]["flows"]["peer"] == "p2"
        assert "only Work laptop" in c.text
        await c.press("escape")
        assert "peer" not in c.gateway.asked[-1]["flows"]


async def test_a_device_without_a_lease_is_shown(console: OpenConsole) -> None:
    async with console(section="peers") as c:
        c.gateway.leases = []
        c.gateway.changed()
        await c.settle()
        assert "Tablet" in c.text


# Log


async def test_log_levels_and_filter(console: OpenConsole) -> None:
    async with console(section="log") as c:
        assert "budget of 4096" not in c.text
        await c.press("l")
        assert c.gateway.asked[-1]["log"]["level"] == "warning"
        assert "has the lease" not in c.text
        await c.press("l", "l")
        assert "budget of 4096" in c.text
        await c.press("slash", *"dns", "enter")
        assert "Resolver 10.64.0.1" in c.text
        assert "budget of 4096" not in c.text
        await c.press("escape")
        assert "budget of 4096" in c.text


async def test_log_follows_until_the_cursor_leaves_the_end(console: OpenConsole) -> None:
    async with console(section="log") as c:
        table = c.app.screen.query_one("#log", RowTable)
        line = c.gateway.logs[-1]
        c.gateway.logs += [replace(line, at=line.at + n, message=f"line {n}") for n in range(60)]
        c.gateway.changed("log")
        await c.settle()
        assert "line 59" in c.text
        await c.press("up")
        assert not table.tail
        c.gateway.logs.append(replace(line, at=line.at + 99, message="the newest"))
        c.gateway.changed("log")
        await c.settle()
        assert "the newest" not in c.text
        await c.press("f")
        assert "the newest" in c.text


async def test_the_filter_searches_in_all_that_the_service_keeps(console: OpenConsole) -> None:
    async with console(section="log") as c:
        line = c.gateway.logs[-1]
        c.gateway.logs = [replace(line, message="the needle")]
        c.gateway.logs += [replace(line, message=f"hay {n}") for n in range(400)]
        c.gateway.changed("log")
        await c.settle()
        assert "300 lines, 101 older" in c.text
        await c.press("slash", *"needle", "enter")
        assert c.gateway.asked[-1]["log"]["filter"] == "needle"
        assert "the needle" in c.text and "1 line " in c.text
        await c.press("escape")
        assert "filter" not in c.gateway.asked[-1]["log"]
        assert "hay 399" in c.text


async def test_equal_lines_are_lines_of_their_own_and_none_comes_twice(
    console: OpenConsole,
) -> None:
    async with console(section="log") as c:
        c.gateway.logs += [c.gateway.logs[-1]] * 2
        c.gateway.changed("log")
        await c.settle()
        table = c.app.screen.query_one("#log", RowTable)
        ids = [row.id for row in table.rows]
        assert len(ids) == len(set(ids)) == len(c.gateway.logs) - 1  # one is for debugging


async def test_what_passed_between_two_looks_is_counted(console: OpenConsole) -> None:
    async with console(section="log") as c:
        line = c.gateway.logs[-1]
        assert "dropped" not in c.text
        c.gateway.logs += [replace(line, message=f"line {n}") for n in range(350)]
        c.gateway.changed("log")
        await c.settle()
        assert "▲ 50 dropped" in c.text and "line 349" in c.text
        c.gateway.logs.append(line)
        c.gateway.changed("log")
        await c.settle()
        assert "▲ 50 dropped" in c.text, "it stays"
        await c.press("l")
        assert "dropped" not in c.text, "another kind of lines"
        await c.press("1")
        c.gateway.logs += [line] * 400
        c.gateway.changed("log")
        await c.press("6")
        assert "dropped" not in c.text, "nobody was looking"


def page(first: int, count: int, left_out: int, oldest: int, newest: int) -> schema.LogPage:
    lines = [schema.LogLine(0.0, "info", "x", "y", seq) for seq in range(first, first + count)]
    return schema.LogPage(lines, left_out, oldest, newest)


@pytest.mark.parametrize(
    ("found", "last", "missing"),
    [
        (page(1, 5, 0, 1, 5), 0, 0),
        (page(1, 6, 0, 1, 6), 5, 0),
        (page(11, 5, 10, 1, 15), 5, 5),
        (page(11, 5, 2, 1, 15), 5, 2),
        (page(9, 5, 8, 1, 13), 10, 0),
        (page(20, 5, 0, 20, 24), 5, 14),
        (page(30, 5, 10, 20, 34), 5, 24),
        (page(0, 0, 0, 9, 8), 5, 3),
    ],
)
def test_missing_lines(found: schema.LogPage, last: int, missing: int) -> None:
    assert unseen(found, last) == missing


async def test_a_whole_line_can_be_read(console: OpenConsole) -> None:
    async with console(section="log", size=(45, 24)) as c:
        c.gateway.logs.append(
            replace(c.gateway.logs[-1], at=c.gateway.logs[-1].at + 1, message="word " * 40 + "end.")
        )
        c.gateway.changed("log")
        await c.settle()
        assert "end." not in c.text
        await c.press("enter")
        assert "end." in c.text


# Permission and the line to the service


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_a_read_only_console_does_not_wait_for_a_code(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(size=size) as c:
        await c.press("2")
        assert "only looks" not in c.text
    c.gateway.read_only = True
    async with console(section="pair", size=size) as c:
        assert "This console only looks: it cannot ask for a code." in " ".join(c.text.split())
        assert "Asking the service" not in c.text


async def test_read_only_has_no_action_that_changes_anything(console: OpenConsole) -> None:
    async with console() as c:
        c.gateway.stop()
        await c.settle()
        c.gateway.up, c.gateway.read_only = True, True
        await c.press("r")
        for section in "12345":
            await c.press(section)
            await c.press("a", "d", "s", "x", "y", "n", "e")
            await c.press("escape")
        written = {name for name, _ in c.gateway.calls} - {"pair", "traffic"}
        assert written == set()
        assert c.gateway.offers == 0
        assert "Revoke" not in c.text


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_a_lost_service_leaves_its_data_and_its_age(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(size=size) as c:
        c.gateway.stop()
        await c.settle()
        await c.advance(4.0)
        assert "Data is 4s old" in c.text
        assert "Start sharing with: vpnshare up" in c.text
        assert "Work laptop" in c.text
        c.gateway.up = True
        c.gateway.leases.append(lease("l9", "p9", "New one", 9))
        await c.press("r")
        assert "old; retrying" not in c.text
        assert "New one" in c.text


async def test_without_a_service_the_console_says_how_to_start_it(
    console: OpenConsole, gateway: object
) -> None:
    from tests.fakes.services import PretendGateway

    assert isinstance(gateway, PretendGateway)
    gateway.up = False
    async with console() as c:
        assert "Start sharing with: vpnshare up" in c.text


async def test_an_error_answer_is_told_with_its_hint(console: OpenConsole) -> None:
    async with console() as c:
        c.gateway.status = replace(c.gateway.status, sharing="off")
        c.gateway.changed()
        await c.settle()
        c.gateway.errors["share"] = ControlError(Code.FAILED, "It is broken.", "Mend it.")
        await c.press("s")
        assert "It is broken. Mend it." in c.told


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
async def test_every_usual_key_quits(console: OpenConsole, key: str) -> None:
    async with console() as c:
        await c.pilot.press("4", key)
        assert not c.app.is_running
        assert c.app.return_code == 0

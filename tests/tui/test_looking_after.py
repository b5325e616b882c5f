"""DNS, Doctor and Settings: what they show and every action in them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from control import schema
from control.errors import Code, ControlError
from tests.fakes.services import QUESTIONS, Pretend
from tests.fakes.waiting import settle
from tests.tui.conftest import Console, OpenConsole
from tui import formats
from tui.screens.dns import counters
from tui.screens.dns import rows as questions
from tui.screens.doctor import check_text, ranked
from tui.screens.edit import EditScreen
from tui.screens.settings import SettingsScreen, bounds, spelled
from tui.screens.settings import rows as settings


def called(service: Pretend, method: str) -> list[dict[str, Any]]:
    return [params for name, params in service.calls if name == method]


async def type_over(c: Console, text: str) -> None:
    """Replace what stands in the dialog's input."""
    await c.press("end", *["backspace"] * 60)
    await c.press(*({" ": "space", ".": "full_stop", ",": "comma"}.get(x, x) for x in text))
    await c.press("enter")


async def go_to(c: Console, key: str) -> None:
    screen = c.app.screen
    assert isinstance(screen, SettingsScreen)
    screen.table.move_to(key)
    await c.settle()


# Overview


async def test_the_overview_shows_the_egress_proof(console: OpenConsole) -> None:
    async with console() as c:
        assert "Proof    ● 42 looks agree" in c.text
        egress = schema.Egress(1, alarms=["egress__sent_outside_vpn"])
        c.gateway.status = replace(
            c.gateway.status,
            egress=egress,
            alarms=["egress__sent_outside_vpn: more was sent than the VPN's interface carried"],
        )
        c.gateway.changed("status")
        await c.settle()
        assert "✗ what we sent did not go" in c.text
        assert "▲ egress__sent_outside_vpn: more was sent" in c.text
        c.gateway.status = replace(c.gateway.status, egress=schema.Egress(), alarms=[])
        c.gateway.changed("status")
        await c.settle()
        assert "○ not measured yet" in c.text
        assert "egress__" not in c.text


# DNS


async def test_dns_shows_resolver_cache_and_counters(console: OpenConsole) -> None:
    async with console(section="dns") as c:
        for words in ("● 10.8.0.1:53", "62 % from the cache", "12 answers", "query asked 15",
                      "○ not kept"):  # fmt: skip
            assert words in c.text
        c.gateway.dns = replace(c.gateway.dns, resolvers=[])
        c.gateway.changed("dns")
        await c.settle()
        assert "✗ nobody: questions fail" in c.text


async def test_questions_are_kept_and_forgotten_by_a_key(console: OpenConsole) -> None:
    async with console(section="dns") as c:
        assert "Not kept, for privacy. Press v to keep them." in c.text
        await c.press("v")
        assert called(c.gateway, "set") == [{"key": "dns.recent", "value": 200}]
        c.gateway.dns = replace(c.gateway.dns, recent_limit=200, recent=list(QUESTIONS))
        c.gateway.changed("dns")
        await c.settle()
        assert "cdn.video.example" in c.text
        assert "✗ timed_out" in c.text
        assert "v Forget" in c.text
        await c.press("v")
        assert called(c.gateway, "set")[-1] == {"key": "dns.recent", "value": 0}


async def test_a_question_in_full_and_the_filter(console: OpenConsole) -> None:
    async with console(section="dns") as c:
        long = replace(QUESTIONS[0], name="x" * 120 + ".example")
        c.gateway.dns = replace(c.gateway.dns, recent_limit=9, recent=[long, *QUESTIONS])
        c.gateway.changed("dns")
        await c.settle()
        await c.press("home", "enter")
        assert "Outcome  asked" in c.text
        await c.press("escape", "slash", *"tablet", "enter")
        assert "no-such.example" in c.text
        assert "example.org" not in c.text
        await c.press("escape")
        assert "example.org" in c.text


def test_the_cursor_stays_on_its_question_as_newer_ones_come() -> None:
    old = questions(QUESTIONS)
    newer = replace(QUESTIONS[0], age=0.0)
    new = questions([newer, *QUESTIONS])
    assert [row.id for row in new[1:]] == [row.id for row in old]
    assert len({row.id for row in new}) == 5


def test_the_largest_counters_are_named_in_words() -> None:
    dns = schema.Dns([], 0, 0, 0, 0, 0, {"dns__query__hit": 9, "dns__a__b_c": 2, "dns__d": 0}, 0)
    assert counters(dns) == "a b c 2"


# Doctor


async def test_the_doctor_examines_when_opened_once(console: OpenConsole) -> None:
    async with console() as c:
        await c.press("7")
        assert len(called(c.gateway, "doctor")) == 1
        assert "✗ 1 broken  ● 1 ok" in c.text
        assert "Do this: vpnshare set dns.servers 9.9.9.9" in c.text
        await c.press("1", "7")
        assert len(called(c.gateway, "doctor")) == 1


async def test_examine_again(console: OpenConsole) -> None:
    async with console(section="doctor") as c:
        c.gateway.findings = [schema.Finding("vpn", "VPN", "gateway", "warn", "It is slow.")]
        await c.press("e")
        assert "▲ 1 warning" in c.text
        assert "✗ broken" not in c.text


async def test_a_finding_in_full_and_copied(console: OpenConsole) -> None:
    async with console(section="doctor") as c:
        await c.press("enter")
        assert "Do this:" in c.text
        await c.press("escape", "y")
        assert c.app.clipboard == (
            "DNS\n✗ broken\n\nThe resolvers (10.8.0.1:53) do not answer.\n\n"
            "Do this: vpnshare set dns.servers 9.9.9.9"
        )
        assert c.told[-1].startswith("Copied the finding, if the terminal allows it: DNS")


async def test_a_doctor_that_fails_says_why(console: OpenConsole) -> None:
    async with console() as c:
        c.gateway.errors["doctor"] = ControlError(Code.TIMED_OUT, "It took too long.")
        await c.press("7")
        assert "✗ It took too long." in c.text
        await c.press("e")
        assert "✗ 1 broken" in c.text


async def test_the_clients_doctor(console: OpenConsole) -> None:
    async with console("client", section="doctor", size=(45, 24)) as c:
        assert len(called(c.client, "doctor")) == 1
        assert "● ok" in c.text


@pytest.mark.parametrize("role", ["gateway", "client"])
async def test_a_check_is_made_when_it_is_asked_for(console: OpenConsole, role: str) -> None:
    async with console(role, section="doctor") as c:
        service = c.gateway if role == "gateway" else c.client
        assert not called(service, "check")
        await c.press("v")
        assert len(called(service, "check")) == 1
        for words in (
            "Does it leave by the VPN?", "● good", "the Internet sees 203.0.113.7.",
            "Names are asked from the same address.",
            "IPv4 exit: 203.0.113.7 (stun.example.com:3478)",
            "Asked directly: no answer (whoami.example.com at ns.example.com)",
        ):  # fmt: skip
            assert words in c.text
        await c.press("escape")
        assert "Does it leave by the VPN?" not in c.text
        await c.press("v")
        assert len(called(service, "check")) == 2


async def test_a_check_that_is_not_good_says_what_to_do(console: OpenConsole) -> None:
    async with console(section="doctor", size=(45, 24)) as c:
        c.gateway.check = replace(
            c.gateway.check, state="broken", sentence="IPv6 leaves by wlan0.", advice="Turn it off."
        )
        await c.press("v")
        assert "✗ broken" in c.text and "Do this: Turn it off." in c.text
        await c.press("escape")
        c.gateway.check = replace(c.gateway.check, state="unknown")
        await c.press("v")
        assert "▲ cannot tell" in c.text


async def test_a_check_that_fails_says_why(console: OpenConsole) -> None:
    async with console(section="doctor") as c:
        c.gateway.errors["check"] = ControlError(Code.TIMED_OUT, "It took too long.")
        await c.press("v")
        assert "Not checked" in c.text and "It took too long." in c.text
        await c.press("escape", "v")
        assert "● good" in c.text


async def test_a_check_comes_to_who_has_gone_on_as_a_line(
    console: OpenConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with console(section="doctor") as c:
        go = asyncio.Event()
        ask = c.app.link.call_apart

        async def later(method: str, **params: Any) -> Any:
            await go.wait()
            return await ask(method, **params)

        monkeypatch.setattr(c.app.link, "call_apart", later)
        await c.press("v")
        assert "Asking servers outside" in c.text
        await c.press("v", "1")
        go.set()
        await settle(lambda: any("the Internet sees" in line for line in c.told))
        assert "Names are asked" not in c.text
        assert len(called(c.gateway, "check")) == 1


def test_a_check_in_full_is_cleaned() -> None:
    check = schema.Check(
        "gateway",
        "good\x1b[1m",
        "inside",
        "a\x1b[2J",
        exits=[schema.CheckExit("s\x07", "", "", "")],
    )
    assert not {"\x1b", "\x07"} & set(check_text(check, {}))


def test_the_worst_findings_come_first() -> None:
    found = [
        schema.Finding(status, status, "both", status, "")
        for status in ("skipped", "ok", "warn", "broken")
    ]
    assert [finding.status for finding in ranked(found)] == ["broken", "warn", "ok", "skipped"]


# Settings


async def test_a_text_is_changed_and_a_refusal_stays_in_the_dialog(console: OpenConsole) -> None:
    async with console(section="settings") as c:
        await go_to(c, "gateway.mtu")
        await c.press("e")
        await type_over(c, "12")
        assert "must be 1280 to 65535" in " ".join(c.text.split())
        await type_over(c, "1400")
        assert "must be" not in c.text
        assert called(c.gateway, "set") == [
            {"key": "gateway.mtu", "value": "12"},
            {"key": "gateway.mtu", "value": "1400"},
        ]
        assert "gateway.mtu is 1400 now." in c.told
        assert "1400" in c.text


async def test_a_dialog_can_be_left(console: OpenConsole) -> None:
    async with console(section="settings") as c:
        await go_to(c, "gateway.name")
        await c.press("enter", "x", "escape")
        assert called(c.gateway, "set") == []


async def test_a_switch_changes_at_once(console: OpenConsole) -> None:
    async with console(section="settings") as c:
        await go_to(c, "notify.enabled")
        await c.press("enter")
        assert called(c.gateway, "set") == [{"key": "notify.enabled", "value": False}]
        assert "○ off" in c.text


async def test_a_switch_that_weakens_a_promise_asks(console: OpenConsole) -> None:
    async with console(section="settings") as c:
        await go_to(c, "gateway.bypass")
        await c.press("e")
        assert "Turn gateway.bypass on?" in c.text
        await c.press("n")
        assert called(c.gateway, "set") == []
        await c.press("e", "y")
        assert called(c.gateway, "set") == [{"key": "gateway.bypass", "value": True}]
        await c.press("e")  # off again: nothing to ask
        assert called(c.gateway, "set")[-1] == {"key": "gateway.bypass", "value": False}


async def test_a_choice_is_made_from_a_list(console: OpenConsole) -> None:
    async with console(section="settings") as c:
        await go_to(c, "logs.level")
        await c.press("e")
        assert "warning" in c.text
        await c.press("down", "enter")
        assert called(c.gateway, "set") == [{"key": "logs.level", "value": "warning"}]


@pytest.mark.parametrize("size", [(45, 24), (80, 24), (120, 40)])
async def test_an_interface_is_picked_from_those_that_are_there(
    console: OpenConsole, size: tuple[int, int]
) -> None:
    async with console(section="settings", size=size) as c:
        await go_to(c, "gateway.vpn_interface")
        await c.press("e")
        assert "● (empty)   find the VPN by itself" in c.text
        assert "  tun0      tunnel, 10.8.0.2" in c.text and "down, no address" in c.text
        await c.press("down", "enter")
        assert called(c.gateway, "set")[-1] == {"key": "gateway.vpn_interface", "value": "tun0"}
        await c.press("e")
        assert "● tun0 " in c.text and "● (empty)" not in c.text
        await c.press("up", "enter")
        assert called(c.gateway, "set")[-1] == {"key": "gateway.vpn_interface"}, "as by default"


async def test_another_interface_may_come_later(console: OpenConsole) -> None:
    async with console(section="settings") as c:
        await go_to(c, "gateway.vpn_interface")
        await c.press("e", "end", "enter")
        await type_over(c, "wg7")
        assert called(c.gateway, "set")[-1] == {"key": "gateway.vpn_interface", "value": "wg7"}
        said = "There is no interface wg7 now; there are: tun0, wlan0, eth0. Sharing waits for it."
        assert said in c.told
        c.app.clear_notifications()
        await c.settle()
        assert said in " ".join(c.text.split()), "it stays in the details"
        await c.press("e")
        assert "● wg7" in c.text and "not there now" in c.text


async def test_local_interfaces_are_picked_while_there_is_one(console: OpenConsole) -> None:
    async with console("client", section="settings") as c:
        await go_to(c, "client.local_interfaces")
        await c.press("e")
        assert "all private networks" in c.text and "no network" in c.text
        await c.press("down", "down", "down", "enter")
        given = {"key": "client.local_interfaces", "value": "wlan0"}
        assert called(c.client, "set")[-1] == given
        await c.press("e")
        assert "● wlan0" in c.text
        await c.press("end", "enter")
        await type_over(c, "wlan0, eth0")
        await c.press("e")  # two of them are written: one from a list would take their place
        assert "another…" not in c.text and c.app.screen.query("Input")


async def test_a_theme_is_picked_and_a_refusal_takes_it_back(console: OpenConsole) -> None:
    async with console(section="settings") as c:
        await go_to(c, "console.theme")
        before = c.app.theme
        await c.press("e", "down")
        assert c.app.theme != before, "it is tried on"
        await c.press("escape")
        assert c.app.theme == before and called(c.gateway, "set") == []
        c.gateway.errors["set"] = ControlError(Code.FAILED, "The file cannot be written.")
        await c.press("e", "down", "enter")
        assert c.app.theme == before
        assert "The file cannot be written." in c.told


async def test_a_value_is_whole_where_there_is_room(console: OpenConsole) -> None:
    names = [f"corp{n}.example.com" for n in range(6)]
    async with console(section="settings") as c:
        await go_to(c, "gateway.listen")
        [line] = [line for line in c.text.splitlines() if " listen  " in line]
        assert "0.0.0.0:47800, [::]:47800 " in line
        c.gateway.settings = [
            replace(each, value=names) if each.key == "dns.rebinding_exempt" else each
            for each in c.gateway.settings
        ]
        c.gateway.changed("settings")
        await go_to(c, "dns.rebinding_exempt")
        assert ", ".join(names) in " ".join(c.text.split()), "all of it in the details"


async def test_back_to_the_default(console: OpenConsole) -> None:
    async with console(section="settings") as c:
        await go_to(c, "gateway.mtu")
        await c.press("u")
        assert called(c.gateway, "set") == []
        await c.press("e")
        await type_over(c, "1400")
        await c.press("u")
        assert called(c.gateway, "set")[-1] == {"key": "gateway.mtu"}
        assert "gateway.mtu is 1500 now." in c.told


async def test_what_needs_a_restart_says_so(console: OpenConsole) -> None:
    async with console("client", section="settings") as c:
        c.client.settings = [
            replace(each, value=1400, source="file", pending=True)
            if each.key == "client.mtu" else each
            for each in c.client.settings
        ]  # fmt: skip
        c.client.changed("settings")
        await go_to(c, "client.mtu")
        assert "▲ restart" in c.text
        assert "▲ 1 after a restart" in c.text
        assert "from the service's next start" in c.text


async def test_settings_are_filtered(console: OpenConsole) -> None:
    async with console(section="settings") as c:
        await c.press("slash", *"dns", "enter")
        assert "[dns]" in c.text
        assert "[logs]" not in c.text
        await c.press("escape")
        assert "[gateway]" in c.text


async def test_the_console_follows_its_own_settings(console: OpenConsole) -> None:
    async with console(section="settings") as c:
        await go_to(c, "console.theme")
        await c.press("e")
        themes = list(c.app.themes)
        steps = themes.index("mono") - themes.index(c.app.theme)
        await c.press(*["down" if steps > 0 else "up"] * abs(steps), "enter")
        assert called(c.gateway, "set")[-1] == {"key": "console.theme", "value": "mono"}
        assert c.app.theme == "mono"
        await go_to(c, "console.ascii")
        await c.press("e")
        assert c.app.glyphs is formats.ASCII
        await go_to(c, "console.keys")
        await c.press("e")
        await c.press(*"help", "full_stop", *"open", "equals_sign", "z", "enter")
        assert called(c.gateway, "set")[-1] == {"key": "console.keys", "value": "help.open=z"}
        await c.press("z")
        assert "Everywhere" in c.text


async def test_a_read_only_connection_changes_no_setting(console: OpenConsole) -> None:
    async with console() as c:
        c.app.store.link.read_only = True
        await c.press("8")
        await go_to(c, "notify.enabled")
        await c.press("e", "enter", "u")
        await c.press("5", "v")
        assert called(c.gateway, "set") == []


async def test_the_clients_settings(console: OpenConsole) -> None:
    async with console("client", section="settings", size=(45, 24)) as c:
        await go_to(c, "client.kill_switch")
        await c.press("e")
        assert called(c.client, "set") == [{"key": "client.kill_switch", "value": True}]


async def test_a_password_is_typed_unseen_and_never_shown(console: OpenConsole) -> None:
    async with console("client", section="settings") as c:
        key = "client.proxy_password"
        await go_to(c, key)
        await c.press("e", *"hunter2")
        assert "•••••••" in c.text and "hunter2" not in c.text
        await c.press("enter")
        assert called(c.client, "set") == [{"key": key, "value": "hunter2"}]
        assert f"{key} is set now." in c.told
        assert "(set, not shown)" in c.text and "hunter2" not in c.text
        await c.press("y")
        assert c.app.clipboard == key
        await c.press("e", "enter")
        assert not isinstance(c.app.screen, EditScreen)
        assert len(called(c.client, "set")) == 1, "nothing typed changes nothing"
        await c.press("u")
        assert called(c.client, "set")[-1] == {"key": key}
        assert "(set, not shown)" not in c.text


def test_values_are_spelled_as_the_service_reads_them() -> None:
    assert [spelled(value) for value in (True, 0.5, 2592000.0, ["a", "b"], {"x": "y"}, "")] == [
        "on", "0.5", "2592000", "a, b", "x=y", "",
    ]  # fmt: skip


def test_bounds_are_told(console: OpenConsole) -> None:
    setting = schema.Setting("a.b", 1, 1, "int", "", "default", True, low=0, high=10)
    assert bounds(setting) == "0 to 10"
    assert bounds(replace(setting, low=None, high=None)) == "a whole number"
    assert bounds(replace(setting, choices=["x", "y"])) == "x, y"


def test_settings_stand_under_their_headings() -> None:
    found = [
        schema.Setting(key, "", "", "text", "", "default", True) for key in ("a.x", "a.y", "b.x")
    ]
    assert [getattr(row, "section", getattr(row, "key", "")) for row in settings(found)] == [
        "a", "a.x", "a.y", "b", "b.x",
    ]  # fmt: skip

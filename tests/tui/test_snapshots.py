"""Pictures of the sections: a change of layout or colour must be meant.

After a change that is meant: `pytest tests/tui/test_snapshots.py --snapshot-update`.
Each section is pictured where its layout differs: on a phone, in a common
terminal, on a wide screen; colours in the default theme and in mono, which
shows that no state lives by colour alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from control import schema
from tests.fakes.services import (
    IDLE_CLIENT,
    QUESTIONS,
    WALL,
    PretendClient,
    PretendGateway,
    lease,
    peer,
    request,
)
from tests.tui.conftest import Clock
from tests.tui.rest import at_rest
from tui.app import ConsoleApp

PHONE, COMMON, WIDE = (45, 24), (80, 24), (120, 40)
SIZES = {"phone": PHONE, "common": COMMON, "wide": WIDE}

Compare = Callable[..., bool]
MakeApp = Callable[..., ConsoleApp]


@pytest.fixture(autouse=True)
def no_blinking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Input, "_toggle_cursor", lambda _: None)


def after(*keys: str) -> Callable[[Pilot[Any]], Any]:
    """Let the first news arrive, then press keys."""

    async def prepare(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, ConsoleApp)
        await at_rest(pilot.app)
        app.second()
        for key in keys:
            await pilot.press(key)
            await at_rest(pilot.app)

    return prepare


@pytest.mark.parametrize("theme", ["dark", "mono"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("section", ["overview", "pair", "peers", "flows", "log"])
def test_gateway(
    snap_compare: Compare, make_app: MakeApp, section: str, size: str, theme: str
) -> None:
    app = make_app(section=section, theme=theme)
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after())


@pytest.mark.parametrize("theme", ["dark", "mono"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("section", ["tunnel", "connect", "links", "flows"])
def test_client(
    snap_compare: Compare, make_app: MakeApp, section: str, size: str, theme: str
) -> None:
    app = make_app("client", section=section, theme=theme)
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("section", ["dns", "doctor", "settings"])
def test_looking_after_the_gateway(
    snap_compare: Compare, make_app: MakeApp, gateway: PretendGateway, section: str, size: str
) -> None:
    gateway.dns = replace(gateway.dns, recent_limit=200, recent=list(QUESTIONS))
    app = make_app(section=section)
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after("down"))


@pytest.mark.parametrize("section", ["dns", "doctor", "settings"])
def test_looking_after_the_gateway_in_mono(
    snap_compare: Compare, make_app: MakeApp, gateway: PretendGateway, section: str
) -> None:
    gateway.dns = replace(gateway.dns, recent_limit=200, recent=list(QUESTIONS))
    app = make_app(section=section, theme="mono")
    assert snap_compare(app, terminal_size=COMMON, run_before=after("down"))


@pytest.mark.parametrize(
    ("size", "keys"),
    [("phone", []), ("phone", ["end"]), ("common", []), ("common", ["end"]), ("wide", [])],
    ids=["phone", "phone-end", "common", "common-end", "wide"],
)
def test_a_devices_page(
    snap_compare: Compare, make_app: MakeApp, gateway: PretendGateway, size: str, keys: list[str]
) -> None:
    said = "1GB/day from 04:00; down 20mbit; mon-fri 07:00-20:00; deny set mail"
    gateway.peers = [replace(each, rules=said) for each in gateway.peers]
    gateway.counted = {"dns__query__refused_rules": 1204, "tcp__no_flow__rst_sent": 31,
                       "ip__no_room__dropped": 2, "dns__too_many__dropped": 1}  # fmt: skip
    app = make_app(section="peers")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after("enter", *keys))


@pytest.mark.parametrize("size", SIZES)
def test_a_setting_that_is_refused(snap_compare: Compare, make_app: MakeApp, size: str) -> None:
    app = make_app("client", section="settings")
    keys = ("slash", *"client.mtu", "enter", "e", "end", "9", "9", "enter")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after(*keys))


@pytest.mark.parametrize("size", SIZES)
def test_interfaces_to_pick_from(snap_compare: Compare, make_app: MakeApp, size: str) -> None:
    app = make_app(section="settings")
    keys = ("slash", *"vpn_int", "enter", "e")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after(*keys))


@pytest.mark.parametrize("size", SIZES)
def test_an_interface_that_is_not_there(
    snap_compare: Compare, make_app: MakeApp, gateway: PretendGateway, size: str
) -> None:
    gateway.answer("set", {"key": "gateway.vpn_interface", "value": "wg7"})
    app = make_app(section="settings")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after("down", "down"))


@pytest.mark.parametrize("size", SIZES)
def test_a_first_run_of_the_device(
    snap_compare: Compare, make_app: MakeApp, client: PretendClient, size: str
) -> None:
    client.status, client.gateways = IDLE_CLIENT, []
    assert snap_compare(make_app("client"), terminal_size=SIZES[size], run_before=after())


@pytest.mark.parametrize("size", SIZES)
def test_what_was_done_is_told_beside_the_cursor(
    snap_compare: Compare, make_app: MakeApp, size: str
) -> None:
    app = make_app(section="peers")
    keys = ("e", *"2", "enter", "down", "y")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after(*keys))


@pytest.mark.parametrize("size", SIZES)
def test_a_device_for_a_wireguard_app(snap_compare: Compare, make_app: MakeApp, size: str) -> None:
    app = make_app(section="pair")
    keys = ("g", *"tablet", "enter")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after(*keys))


@pytest.mark.parametrize("size", SIZES)
def test_an_invitation(snap_compare: Compare, make_app: MakeApp, size: str) -> None:
    app = make_app(section="pair")
    keys = ("i", *"router", "enter")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after(*keys))


@pytest.mark.parametrize("size", SIZES)
def test_a_device_with_a_wireguard_app(
    snap_compare: Compare, make_app: MakeApp, gateway: PretendGateway, size: str
) -> None:
    here, stuck = (
        schema.WireguardDevice(
            id, label, "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", state, "10.187.43.2",
            "fdab:cdef:1234::2", "192.168.43.1:51820", endpoint, age,
        )
        for id, label, state, endpoint, age in (
            ("w1", "Tablet by app", "connected", "192.168.43.57:51820", 42.0),
            ("w2", "Television", "quiet", None, None),
        )
    )  # fmt: skip
    trouble = schema.WireguardTrouble(
        "endpoint", "w2", "The config of Television names 192.168.43.1:51820, an address that "
        "this machine does not have.", "Edit the tunnel in its app: Endpoint = 192.168.87.1:51820",
    )  # fmt: skip
    gateway.wireguard = replace(gateway.wireguard, devices=[here, stuck], troubles=[trouble])
    gateway.peers = [
        replace(peer(each.id, each.label, "wireguard", connected=each is here), kind="wireguard")
        for each in (here, stuck)
    ]
    gateway.leases = [
        replace(
            lease("l1", "w1", "Tablet by app", 9), transport="wireguard", rtt_ms=None, mtu=1420,
            endpoint="192.168.43.57:51820", expires_in=None, offload=False,
        )
    ]  # fmt: skip
    app = make_app(section="peers")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after("down"))


@pytest.mark.parametrize("theme", ["light", "high-contrast"])
def test_the_other_themes(snap_compare: Compare, make_app: MakeApp, theme: str) -> None:
    assert snap_compare(make_app(theme=theme), terminal_size=COMMON, run_before=after())


def test_without_colour(
    snap_compare: Compare, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(make_app(), terminal_size=COMMON, run_before=after())


def test_ascii_symbols(snap_compare: Compare, make_app: MakeApp) -> None:
    assert snap_compare(make_app(ascii=True), terminal_size=PHONE, run_before=after())


def test_everything_is_wrong(
    snap_compare: Compare, make_app: MakeApp, gateway: PretendGateway
) -> None:
    gateway.status = replace(
        gateway.status,
        sharing="unavailable",
        bypass=True,
        vpn=schema.Vpn("absent", reason="No VPN is up. Connect one in your VPN app."),
        alarms=["The resolver of the VPN does not answer."],
    )
    gateway.peers, gateway.leases, gateway.flows = [], [], []
    gateway.waiting = [request(), request("r2", "Tablet", None, "qr")]
    assert snap_compare(make_app(), terminal_size=PHONE, run_before=after())


@pytest.mark.parametrize("size", SIZES)
def test_what_happened_stands_in_a_banner(
    snap_compare: Compare, make_app: MakeApp, gateway: PretendGateway, size: str
) -> None:
    gateway.status = replace(
        gateway.status,
        sharing="unavailable",
        vpn=schema.Vpn("absent", reason="No VPN is up. Connect one in your VPN app."),
    )
    gateway.happen("link_lost", "", "p1", "Living-room TV", ago=60)
    gateway.happen("vpn_lost", "the VPN is lost: there is none", ago=30)
    app = make_app(section="pair")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after())


@pytest.mark.parametrize("size", SIZES)
def test_requests_in_the_pair_section(
    snap_compare: Compare, make_app: MakeApp, gateway: PretendGateway, size: str
) -> None:
    gateway.waiting = [request(), request("r2", "Work tablet", "111222")]
    app = make_app(section="pair")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after())


@pytest.mark.parametrize("size", SIZES)
def test_a_template_is_chosen_while_approving(
    snap_compare: Compare, make_app: MakeApp, gateway: PretendGateway, size: str
) -> None:
    gateway.waiting = [request()]
    clock = Clock()

    async def choose(pilot: Pilot[Any]) -> None:
        await at_rest(pilot.app)
        clock.now += 1.0
        await pilot.press("A")
        await at_rest(pilot.app)

    app = make_app(section="flows", clock=clock)
    assert snap_compare(app, terminal_size=SIZES[size], run_before=choose)


@pytest.mark.parametrize("size", SIZES)
def test_a_device_with_rules(
    snap_compare: Compare, make_app: MakeApp, gateway: PretendGateway, size: str
) -> None:
    line = "paused; 1GB/day; down 20mbit; mon-fri 07:00-20:00, sat,sun 09:00-21:00"
    gateway.peers = [replace(each, rules=line) for each in gateway.peers]
    app = make_app(section="peers")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after())


@pytest.mark.parametrize("size", SIZES)
def test_flow_details_and_groups(snap_compare: Compare, make_app: MakeApp, size: str) -> None:
    app = make_app(section="flows")
    keys = ("g", "j", "enter")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=after(*keys))


@pytest.mark.parametrize("size", SIZES)
def test_flows_that_are_held_in_place(
    snap_compare: Compare, make_app: MakeApp, gateway: PretendGateway, size: str
) -> None:
    async def move(pilot: Pilot[Any]) -> None:
        await at_rest(pilot.app)
        # The first ones have ended, and the last one is the fastest now.
        gateway.flows = [
            replace(flow, to_tunnel_rate=9e6) if flow.id == 40 else flow
            for flow in gateway.flows
            if flow.id not in (1, 2)
        ]
        gateway.changed("flows")
        await at_rest(pilot.app)

    app = make_app(section="flows")
    assert snap_compare(app, terminal_size=SIZES[size], run_before=move)


def test_a_question(snap_compare: Compare, make_app: MakeApp) -> None:
    app = make_app(section="peers")
    assert snap_compare(app, terminal_size=PHONE, run_before=after("x"))


def test_help(snap_compare: Compare, make_app: MakeApp) -> None:
    app = make_app(section="flows")
    assert snap_compare(app, terminal_size=PHONE, run_before=after("question_mark"))


def test_the_service_is_gone(
    snap_compare: Compare, make_app: MakeApp, gateway: PretendGateway
) -> None:
    async def lose(pilot: Pilot[Any]) -> None:
        await at_rest(pilot.app)
        gateway.stop()
        await at_rest(pilot.app)

    assert snap_compare(make_app(), terminal_size=PHONE, run_before=lose)


@pytest.mark.parametrize("size", SIZES)
def test_the_kill_switch_holds(
    snap_compare: Compare, make_app: MakeApp, client: PretendClient, size: str
) -> None:
    switch = client.status.kill_switch
    client.status = replace(
        client.status,
        state="reconnecting",
        reason="The connection to the gateway broke.",
        endpoint=None,
        kill_switch=replace(
            switch, state="holding", strict=True, since_at=WALL - 12,
            rules=[*switch.rules, "nft table inet vpnshare_51830"],
        ),
    )  # fmt: skip
    assert snap_compare(make_app("client"), terminal_size=SIZES[size], run_before=after())


@pytest.mark.parametrize("size", SIZES)
def test_the_client_asks_its_user(
    snap_compare: Compare, make_app: MakeApp, client: PretendClient, size: str
) -> None:
    client.status = replace(
        IDLE_CLIENT,
        state="asked",
        code="483920",
        gateway="tcp:192.168.43.1:47800",
        gateway_fingerprint="9f:2c:41:d7:aa:03:5b:e8",
    )
    assert snap_compare(make_app("client"), terminal_size=SIZES[size], run_before=after())


def test_the_client_waits_with_its_code(
    snap_compare: Compare, make_app: MakeApp, client: PretendClient
) -> None:
    client.status = replace(IDLE_CLIENT, state="waiting", code="483920", gateway="Pixel 8")
    assert snap_compare(make_app("client"), terminal_size=PHONE, run_before=after())

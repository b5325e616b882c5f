"""`vpnshare check` from the command to the record: what is known before anybody is asked, who waits
for whom, and what the command prints and exits with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cli.main import main
from client.model import ClientSnapshot, ClientState
from control import schema
from control.exits import Exit
from control.methods import CheckParams
from gateway.gateway import Gateway
from gateway.model import VpnNetwork, VpnState
from services.check import client as client_side
from services.check import gateway as gateway_side
from services.check.check import Checker, record, servers
from services.check.gateway import outside
from services.check.verdict import Asker, Found, Outside, Word, judge
from services.config import MAX_ASKED, Config, ConfigError, find, parse
from tests.fakes.services import PretendClient, PretendGateway
from tests.gateway.vpn.fakes import LOOPBACK, TUNNEL, interface
from tests.services.conftest import serve

Capture = pytest.CaptureFixture[str]
WLAN = interface(2, "wlan0", "192.168.43.1/24", "2001:db8:a::23/64", "fe80::1/64")
INTERFACES = (
    interface(1, "lo", "127.0.0.1/8", "::1/128", flags=LOOPBACK), WLAN,
    interface(4, "tun0", "10.8.0.2/24", "2001:db8:e::2/64", flags=TUNNEL, kind="tun"),
)  # fmt: skip


# --- what is known before -------------------------------------------------------------------------


def test_from_where_packets_come_that_go_beside_the_vpn() -> None:
    found = outside(INTERFACES, "tun0")
    assert found == (
        Outside("wlan0", ip_network("192.168.43.1/32")),
        Outside("wlan0", ip_network("2001:db8:a::/64")),
    )
    narrow = interface(3, "wwan0", "2001:db8:b::7/128")
    assert outside([narrow], None) == (Outside("wwan0", ip_network("2001:db8:b::7/128")),)
    wide = interface(3, "eth0", "2001:db8:b::7/48")
    assert outside([wide], None) == (Outside("eth0", ip_network("2001:db8:b::/64")),)


def gateway_with(network: VpnNetwork, bypass: bool = False) -> Gateway:
    detector = SimpleNamespace(network=network, survey=lambda: INTERFACES)
    guard = SimpleNamespace(network=network, bypass=bypass)
    return cast(Gateway, SimpleNamespace(guard=guard, detector=detector))


UP = VpnNetwork(VpnState.ACTIVE, interface="tun0", kind="tun", ipv4=True, ipv6=False)


def test_a_gateway_asks_over_what_the_vpn_carries() -> None:
    found = gateway_side.before(gateway_with(UP), (4, 6))
    assert (found.absent, set(found.carried), found.families) == (None, {4}, (4, 6))
    assert {each.interface for each in found.outside} == {"wlan0"}
    only6 = gateway_side.before(gateway_with(UP), (6,))
    assert only6.absent is not None and judge(only6).name == "not_asked"
    assert gateway_side.before(gateway_with(UP, True), (4,)).bypass


@pytest.mark.parametrize("state", [VpnState.ABSENT, VpnState.EXCLUDED])
def test_a_gateway_without_a_vpn_asks_nobody(state: VpnState) -> None:
    network = VpnNetwork(state, reason="There is none.")
    verdict = judge(gateway_side.before(gateway_with(network), (4, 6)))
    assert (verdict.name, verdict.sentence) == ("not_asked", "There is none.")


class Road:
    """A passage that leads into the tunnel but for some families."""

    def __init__(self, **beside: str) -> None:
        self._beside = {int(family[1:]): source for family, source in beside.items()}
        self.closed = False

    def beside(self, family: int) -> str:
        return self._beside.get(family, "")

    def close(self) -> None:
        self.closed = True


LEASE: Any = SimpleNamespace(ipv4="10.77.0.2", ipv6="fd77::2", dns=("10.77.0.1",))
CONNECTED = ClientSnapshot(
    ClientState.CONNECTED, "laptop", "", lease=LEASE, interface="vshp0", sharing="on"
)


def before(
    now: ClientSnapshot, road: Road | None, routed: bool = True, families: Sequence[int] = (4, 6)
) -> Found:
    return client_side.before(now, routed, families, INTERFACES, cast(Any, road))


def test_a_client_looks_where_its_programs_would_send() -> None:
    assert not before(CONNECTED, Road()).leaving
    found = before(CONNECTED, Road(f6="2001:db8:a::23"))
    assert found.leaving == {6: "wlan0"}
    assert "IPv6 leaves this device by wlan0" in judge(found).sentence
    assert "(192.0.2.200)" in judge(before(CONNECTED, Road(f4="192.0.2.200"))).sentence
    # Where nothing is promised of the device's other programs, nothing is broken.
    assert not before(CONNECTED, Road(f6="2001:db8:a::23"), routed=False).leaving
    proxied = replace(CONNECTED, outlet="proxy")
    assert not before(proxied, Road(f6="2001:db8:a::23")).leaving
    assert not before(CONNECTED, Road(f6="2001:db8:a::23"), families=(4,)).leaving


@pytest.mark.parametrize(
    ("now", "road", "words"),
    [
        (replace(CONNECTED, state=ClientState.IDLE, lease=None), Road(), "is not connected"),
        (replace(CONNECTED, state=ClientState.RECONNECTING, reason="It broke."), Road(), "broke"),
        (CONNECTED, None, "The tunnel is gone"),
        (replace(CONNECTED, sharing="off"), Road(), "does not share"),
        (replace(CONNECTED, sharing="unavailable"), Road(), "has no VPN"),
    ],
)
def test_a_client_that_cannot_ask_says_why(
    now: ClientSnapshot, road: Road | None, words: str
) -> None:
    verdict = judge(before(now, road))
    assert verdict.name == "not_asked" and words in verdict.sentence and verdict.advice


def test_a_lease_without_a_family() -> None:
    only4 = replace(CONNECTED, lease=cast(Any, SimpleNamespace(ipv4="10.77.0.2", ipv6="", dns=())))
    assert before(only4, Road()).carried == {4}
    assert judge(before(only4, Road(), families=(6,))).name == "not_asked"


# --- the settings ---------------------------------------------------------------------------------


def test_the_servers_are_set() -> None:
    stun, whoami = servers(Config({}))
    assert len(stun) > 1 and len(whoami) > 1 and all(each.server for each in whoami)
    text = '[check]\nstun = ["192.0.2.1"]\nwhoami = []\n'
    stun, whoami = servers(parse(text, "config.toml"))
    assert ([each.host for each in stun], whoami) == (["192.0.2.1"], [])
    assert find("check.stun").live and find("check.whoami").live


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('stun = "stun.test:1"', "must be a list"),
        ("stun = [1]", "must be a list of STUN servers"),
        ('stun = ["nowhere"]', "write stun.example.com:3478"),
        (f"stun = {['192.0.2.1'] * (MAX_ASKED + 1)}", f"at most {MAX_ASKED}"),
        ('whoami = ["a.test@"]', "write ns.example.com"),
    ],
)
def test_servers_that_are_none(line: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(f"[check]\n{line}\n", "config.toml")


# --- who waits ------------------------------------------------------------------------------------


async def test_who_asks_meanwhile_waits_for_the_same() -> None:
    asked: list[Sequence[int]] = []
    go = asyncio.Event()

    async def examine(families: Sequence[int]) -> Found:
        asked.append(families)
        await go.wait()
        return Found("gateway", absent=("There is no VPN.", "Turn it on."))

    checker = Checker(examine)
    waiting = [asyncio.ensure_future(checker.run(CheckParams())) for _ in range(3)]
    other = asyncio.ensure_future(checker.run(CheckParams(ipv6=False)))
    while not asked:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert asked == [(4, 6)], "one at a time"
    waiting[0].cancel()
    go.set()
    first, second = await asyncio.gather(*waiting[1:])
    assert first is second and first.name == "not_asked"
    await other
    assert asked == [(4, 6), (4,)]
    await checker.run(CheckParams())
    assert asked == [(4, 6), (4,), (4, 6)], "a later one looks again"


def test_one_family_at_least() -> None:
    assert CheckParams(ipv4=False).families() == (6,)
    with pytest.raises(ValueError, match="one of ipv4 and ipv6"):
        CheckParams(ipv4=False, ipv6=False)


def test_a_record() -> None:
    found = Found(
        "client",
        words=(
            Word("one.test", 4, ip_address("203.0.113.7")),
            Word("one.test", 6, problem="silent"),
        ),
        askers=(Asker("who.test", "ns.test", 4, (ip_address("203.0.113.7"),)),),
    )
    made = record(found, judge(found))
    assert made.exits == [
        schema.CheckExit("one.test", "ipv4", "203.0.113.7", ""),
        schema.CheckExit("one.test", "ipv6", None, "no answer"),
    ]
    assert made.askers == [schema.CheckAsker("who.test", "ns.test", ["203.0.113.7"], "")]
    assert (made.side, made.state, made.name) == ("client", "good", "inside")


# --- the command ----------------------------------------------------------------------------------


def test_the_verdict_comes_first(gateway: PretendGateway, capsys: Capture) -> None:
    assert main(["check"]) == Exit.OK
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"● good  {gateway.check.sentence}"
    assert said[1] == "Names are asked from the same address."
    assert said[3:] == [
        "IPv4 exit       203.0.113.7 (stun.example.com:3478)",
        "IPv6 exit       no answer (stun.example.com:3478)",
        "Asks names      203.0.113.7 (whoami.example.com)",
        "Asked directly  no answer (whoami.example.com at ns.example.com)",
    ]


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [("broken", Exit.FAILED, "✗ broken"), ("unknown", Exit.UNTOLD, "▲ cannot tell"),
     ("of another day", Exit.UNTOLD, "▲ of another day")],
)  # fmt: skip
def test_what_is_not_good(
    gateway: PretendGateway, capsys: Capture, state: str, code: Exit, words: str
) -> None:
    gateway.check = replace(
        gateway.check, state=state, sentence="It leaks.", advice="vpnshare doctor", exits=[],
        notes=[], askers=[],
    )  # fmt: skip
    assert main(["check"]) == code
    assert capsys.readouterr().out.splitlines() == [f"{words}  It leaks.", "vpnshare doctor"]


@pytest.mark.parametrize(
    ("option", "families"), [([], (4, 6)), (["--ipv4"], (4,)), (["--ipv6"], (6,))]
)
def test_which_family(
    home: Path, capsys: Capture, option: list[str], families: tuple[int, ...]
) -> None:
    asked: list[CheckParams] = []

    class Asked(PretendGateway):
        def handlers(self) -> dict[str, Any]:
            def check(params: CheckParams) -> schema.Check:
                asked.append(params)
                return self.check

            return super().handlers() | {"check": check}

    with serve(Asked(), home / "gateway.sock"):
        assert main(["check", *option]) == Exit.OK
    assert [each.families() for each in asked] == [families]


def test_both_services(gateway: PretendGateway, home: Path, capsys: Capture) -> None:
    client = PretendClient()
    client.check = replace(client.check, state="unknown")
    with serve(client, home / "client.sock"):
        assert main(["check"]) == Exit.UNTOLD
        said = capsys.readouterr().out
        assert said.startswith("Gateway\n● good") and "\n\nClient\n▲ cannot tell" in said
        gateway.check = replace(gateway.check, state="broken")
        assert main(["check", "--json"]) == Exit.FAILED
        told = json.loads(capsys.readouterr().out)
        assert (told["gateway"]["state"], told["client"]["state"]) == ("broken", "unknown")
        assert main(["check", "--json", "--role", "client"]) == Exit.UNTOLD
        assert json.loads(capsys.readouterr().out)["side"] == "client"


def test_what_a_service_says_is_cleaned(gateway: PretendGateway, capsys: Capture) -> None:
    exits = [schema.CheckExit("x\x1b[31m", "ipv4", "1\x07", "")]
    gateway.check = replace(gateway.check, sentence="a\x1b[2Jb", exits=exits)
    assert main(["check"]) == Exit.OK
    assert not {"\x1b", "\x07"} & set(capsys.readouterr().out)


def test_no_service(home: Path, capsys: Capture) -> None:
    assert main(["check"]) == Exit.NOT_RUNNING

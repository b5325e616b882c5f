"""Which interfaces a setting may name, and what is said of one that is not there."""

from __future__ import annotations

import pytest

from cli.main import main
from control.exits import Exit
from control.methods import SetParams
from control.paths import find as find_paths
from control.schema import Suggestion
from gateway.model import VpnNetwork, VpnState
from services import interfaces
from services.config import LOCAL_INTERFACES, VPN_INTERFACE, find, load
from services.gateway_api import _vpn
from services.settings import Settings, record, told
from tests.fakes.services import INTERFACES
from tests.gateway.vpn.fakes import LOOPBACK, interface

TUN = Suggestion("tun0", "tunnel, 10.8.0.2")
OTHERS = [Suggestion("wlan0", "192.168.43.1"), Suggestion("eth0", "down, no address")]


def test_tunnels_come_first_and_what_is_down_last() -> None:
    offered = interfaces.suggestions(VPN_INTERFACE, "", INTERFACES)
    assert offered == [Suggestion("", "find the VPN by itself"), TUN, *OTHERS]
    again = interfaces.suggestions(LOCAL_INTERFACES, ["wlan0"], INTERFACES)
    assert [each.value for each in again] == ["", "none", "tun0", "wlan0", "eth0"]
    assert interfaces.suggestions("client.interface", "vshp%d", INTERFACES) == []


def test_a_name_that_nobody_has_stays_in_the_list() -> None:
    gone = Suggestion("nope", "not there now")
    assert interfaces.suggestions(VPN_INTERFACE, "nope", INTERFACES)[-1] == gone
    assert interfaces.suggestions(LOCAL_INTERFACES, ["nope"], INTERFACES)[-1] == gone
    none = interfaces.suggestions(LOCAL_INTERFACES, ["none"], INTERFACES)
    assert [each.value for each in none].count("none") == 1


@pytest.mark.parametrize("value", ["", "tun0", "eth0"])
def test_nothing_is_said_of_what_is_there(value: str) -> None:
    assert interfaces.note(VPN_INTERFACE, value, INTERFACES) == ""


def test_what_is_there_is_named_and_the_rest_counted() -> None:
    many = tuple(interface(n, f"eth{n}", kind="") for n in range(1, 10))
    assert interfaces.there_are(many) == "there are: eth1, eth2, eth3, eth4, eth5, eth6 and 3 more"
    assert interfaces.there_are(many[:1]) == "there is: eth1"
    assert "none" in interfaces.there_are((interface(1, "lo", flags=LOOPBACK),))
    assert interfaces.note(VPN_INTERFACE, "nope", ()) == "", "interfaces that cannot be read"


def test_the_service_takes_a_name_that_is_not_there_and_says_so(home: object) -> None:
    settings = Settings("gateway", find_paths().config, load(find_paths().config))
    settings.interfaces = lambda: INTERFACES
    done = settings.set(SetParams(VPN_INTERFACE, "nope"))
    assert done.value == "nope" and load(find_paths().config)["gateway", "vpn_interface"] == "nope"
    said = "There is no interface nope now; there are: tun0, wlan0, eth0. Sharing waits for it."
    assert done.note == said
    [shown] = [each for each in settings.read() if each.key == VPN_INTERFACE]
    assert shown.note == said and TUN in shown.suggestions
    assert settings.set(SetParams(VPN_INTERFACE, "tun0")).note == ""
    assert settings.set(SetParams("gateway.mtu", 1400)).suggestions == []


def test_without_a_service_this_host_is_looked_at() -> None:
    name = find(VPN_INTERFACE)
    assert told(record(name, "lo", "file")).note == "", "it is there, whatever else is"
    assert "There is no interface nope99 now" in told(record(name, "nope99", "file")).note


def test_the_command_says_so_at_once(home: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["set", VPN_INTERFACE, "nope99"]) == Exit.OK
    said = capsys.readouterr()
    assert said.out == f"{VPN_INTERFACE} is nope99 now.\n"
    assert "There is no interface nope99 now" in said.err and "Sharing waits for it." in said.err
    assert f"set {VPN_INTERFACE} --default" in said.err
    assert main(["set", VPN_INTERFACE, "--default"]) == Exit.OK
    assert capsys.readouterr().err == ""


def test_the_status_without_a_vpn_names_what_is_there() -> None:
    none = VpnNetwork(VpnState.ABSENT, reason="No VPN is up.", unnamed=True)
    said = "No VPN is up. There are: tun0, wlan0, eth0."
    assert _vpn(none, "device", INTERFACES).reason == said
    assert _vpn(none, "device", ()).reason == "No VPN is up."
    down = VpnNetwork(VpnState.ABSENT, reason="The interface tun0 is down.")
    assert _vpn(down, "device", INTERFACES).reason == "The interface tun0 is down."

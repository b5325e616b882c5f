"""Which interface is the VPN, told from written tables."""

from __future__ import annotations

import pytest

from gateway.model import VpnState
from gateway.vpn.classify import judge, tunnel_kind
from gateway.vpn.snapshot import INET, INET6, Interface, Snapshot, attached
from tests.gateway.vpn.fakes import LOOPBACK, TUNNEL, UP, address, interface

LO = interface(1, "lo", "127.0.0.1/8", "::1/128", flags=LOOPBACK)
LAN = interface(2, "wlan0", "192.168.1.20/24", "fe80::1/64", "2001:db8:1::20/64", kind="")
TUN = interface(5, "tun0", "10.8.0.2/24", "fd08::2/64", "fe80::5/64", flags=TUNNEL, kind="tun")


@pytest.mark.parametrize(
    ("name", "driver", "kind"),
    [
        ("anything", "tun", "tun"),
        ("nordlynx", "wireguard", "wireguard"),
        ("x", "xfrm", "ipsec"),
        ("x", "vti6", "ipsec"),
        ("ppp0", "ppp", "ppp"),
        ("tun0", "", "tun"),
        ("utun4", "", "tun"),
        ("proton0", "", "tun"),
        ("wg-mullvad", "", "wireguard"),
        ("ipsec1", "", "ipsec"),
        ("tun0", "veth", None),
        ("v4-rmnet0", "", None),
        ("rmnet_data1", "", None),
        ("ccmni1", "", None),
        ("wlan0", "", None),
        ("eth0", "", None),
        ("stuff", "", None),
        ("dummy0", "dummy", None),
    ],
)
def test_kinds(name: str, driver: str, kind: str | None) -> None:
    assert tunnel_kind(Interface(3, name, UP, driver)) == kind


def test_the_tunnel_that_takes_all_traffic_is_the_vpn() -> None:
    verdict = judge(Snapshot((LO, LAN, TUN), {INET: 5, INET6: 5}))
    network = verdict.network
    assert network.state is VpnState.ACTIVE
    assert (network.interface, network.kind) == ("tun0", "tun")
    assert (network.ipv4, network.ipv6) == (True, True)
    assert network.addresses == ("10.8.0.2", "fd08::2")
    assert (verdict.index, verdict.link_local) == (5, "fe80::5")


def test_a_family_that_goes_elsewhere_is_not_available() -> None:
    network = judge(Snapshot((LO, LAN, TUN), {INET: 5, INET6: 2})).network
    assert network.usable
    assert (network.ipv4, network.ipv6) == (True, False)


def test_a_tentative_address_is_none_yet() -> None:
    waiting = Interface(5, "tun0", TUNNEL, "tun", (address("fd08::2/64", usable=False),))
    assert judge(Snapshot((waiting,), {INET6: 5})).network.state is VpnState.ABSENT


def test_no_tunnel() -> None:
    network = judge(Snapshot((LO, LAN), {INET: 2, INET6: 2})).network
    assert network.state is VpnState.ABSENT
    assert "No VPN is up" in (network.reason or "")
    assert network.unnamed, "another may be named"
    assert judge(Snapshot((LO, LAN), {INET: 2}), name="tun9").network.unnamed
    assert not judge(Snapshot((LO, LAN, TUN), {INET: 2})).network.unnamed


def test_a_tunnel_to_a_part_of_the_internet_is_not_the_vpn() -> None:
    network = judge(Snapshot((LO, LAN, TUN), {INET: 2, INET6: 2})).network
    assert network.state is VpnState.ABSENT
    assert "--vpn-interface tun0" in (network.reason or "")


def test_a_vpn_for_other_apps() -> None:
    network = judge(Snapshot((LO, LAN, TUN), {INET: 2}, elsewhere=frozenset({5}))).network
    assert network.state is VpnState.EXCLUDED
    assert not network.usable
    assert network.interface == "tun0"
    assert "not for this app" in (network.reason or "")


def test_a_tunnel_without_carrier_is_not_there() -> None:
    dead = interface(5, "tun0", "10.8.0.2/24", flags=TUNNEL & ~0x40, kind="tun")
    assert judge(Snapshot((LO, LAN, dead), {INET: 5})).network.state is VpnState.ABSENT


def test_of_two_tunnels_the_one_in_use_stays() -> None:
    other = interface(4, "wg0", "10.9.0.2/24", "fd09::2/64", kind="wireguard")
    split = Snapshot((LO, TUN, other), {INET: 5, INET6: 4})
    assert judge(split, current=4).index == 4
    assert judge(split, current=5).index == 5


def test_named_may_be_of_any_kind() -> None:
    verdict = judge(Snapshot((LO, LAN, TUN), {INET: 5}), name="wlan0")
    assert verdict.network.kind == "named"
    assert verdict.index == 2
    assert (verdict.network.ipv4, verdict.network.ipv6) == (True, True)


def test_named_needs_a_way_for_each_family() -> None:
    lone = interface(3, "g1", "10.0.0.1/32", "fd00::1/128")
    assert judge(Snapshot((LO, lone)), name="g1").network.state is VpnState.ABSENT
    reached = Snapshot((LO, lone), reaches=frozenset({(INET, 3)}))
    network = judge(reached, name="g1").network
    assert (network.ipv4, network.ipv6) == (True, False)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ((), "no interface g1"),
        ((interface(3, "g1", "10.0.0.1/24", flags=0),), "down"),
        ((interface(3, "g1", "fe80::1/64"),), "no address"),
    ],
)
def test_named_and_absent_says_why(found: tuple[Interface, ...], word: str) -> None:
    network = judge(Snapshot(found), name="g1").network
    assert network.state is VpnState.ABSENT
    assert word in (network.reason or "")


def test_attached_lists_own_addresses_and_networks_outside_the_vpn() -> None:
    found = attached(Snapshot((LO, LAN, TUN)), vpn_index=5)
    assert set(found.own) == {a.packed for i in (LO, LAN, TUN) for a in i.addresses}
    assert set(found.networks) == {
        (address("192.168.1.0/24").packed, 24),
        (address("fe80::/64").packed, 64),
        (address("2001:db8:1::/64").packed, 64),
    }

"""What stands in the kernel, and what a packet then meets, on a model of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.block import Force
from client.model import ClientError, TransportEndpoint
from client.system.killswitch import KillSwitch
from client.system.routes import Routes, TunnelAddresses
from client.system.run import CommandError
from tests.client.fakes import RecordingRunner
from tests.client.kernel import MAIN, Kernel, Killed, Rule

LEASE = TunnelAddresses("10.7.0.2", "fd07::2", "10.7.0.1", "fd07::1")
INTERNET = ("93.184.215.14", "2606:2800:21f::1")
LAN = ("192.168.1.9", "fd01::9")
NIC = "vshp0"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    kernel = Kernel(tmp_path / "proc")
    kernel.add_link("lan0", "192.168.1.2/24", "fd01::2/64", "fe80::2/64")
    kernel.add_route("default", "lan0", "192.168.1.1")
    kernel.add_route("default", "lan0", "fd01::1")
    return kernel


def made(kernel: Kernel, *local: str) -> Routes:
    """Routes with a NIC that carries."""
    routes = Routes(kernel, local, proc=kernel.proc)
    assert routes.reserve(51830) == 51830
    kernel.open_nic("vshp%d", False)
    routes.enforce(Force.BLOCK, NIC, LEASE)
    routes.set_addresses(NIC, LEASE, True)
    routes.enforce(Force.TUNNEL, NIC, LEASE)
    return routes


def test_what_stands_word_for_word(kernel: Kernel) -> None:
    routes = made(kernel)
    for family in (4, 6):
        mine = [rule for rule in kernel.rules[family] if rule.protocol == 178]
        nowhere = [Rule(32765, 51830, True, protocol=178)] if family == 6 else []
        assert sorted(mine, key=lambda r: r.priority) == [
            Rule(32761, protocol_name="udp", port=53, goto=32764, protocol=178),
            Rule(32762, protocol_name="tcp", port=53, goto=32764, protocol=178),
            Rule(32763, 51830, True, table=51831, protocol=178),
            Rule(32764, 51830, True, table=51830, protocol=178),
            *nowhere,
        ]
    assert routes.enforce(Force.TUNNEL, NIC, LEASE) == (
        "ip -4 rule pref 32764 not fwmark 51830 lookup 51830",
        "ip -4 route unreachable default metric 4000 table 51830",
        "ip -6 rule pref 32765 not fwmark 51830 unreachable",
        "ip -6 rule pref 32764 not fwmark 51830 lookup 51830",
    )
    assert routes.direct.names() == (
        "lan0 192.168.1.0/24", "lan0 fd01::/64", "lan0 fe80::/64", "lan0 multicast and broadcast",
    )  # fmt: skip


def test_what_stands_is_not_made_again_and_all_of_it_goes(kernel: Kernel) -> None:
    before = ([*kernel.rules[4]], [*kernel.rules[6]], *map(set, kernel.routes.values()))
    routes = made(kernel)
    kernel.log.clear()
    routes.enforce(Force.TUNNEL, NIC, LEASE)
    assert kernel.log == []
    routes.clear()
    kernel.remove_link(NIC)
    assert (kernel.rules[4], kernel.rules[6], *kernel.routes.values()) == before


def test_everything_goes_in_but_the_link_and_its_networks(kernel: Kernel) -> None:
    routes = made(kernel)
    for address in INTERNET:
        assert kernel.decide(address) == NIC
        assert kernel.decide(address, mark=51830) == "lan0"
    for address in LAN:
        assert kernel.decide(address) == "lan0"
        assert kernel.decide(address, protocol="udp", port=53) == NIC, "names are not local"
    routes.enforce(Force.BLOCK, NIC, LEASE)
    for address in INTERNET:
        assert kernel.decide(address) == "unreachable"
        assert kernel.decide(address, mark=51830) == "lan0"
    for address in LAN:
        assert kernel.decide(address) == "lan0"
        assert kernel.decide(address, protocol="tcp", port=53) == "unreachable"


@pytest.mark.parametrize(
    ("announced", "victim"),
    [
        ("128.0.0.0/1", "142.250.1.1"),
        ("93.184.0.0/16", INTERNET[0]),
        ("93.184.215.14/32", INTERNET[0]),
        ("10.0.0.0/8", "10.20.0.5"),
        ("2000::/3", INTERNET[1]),
        ("2606::/16", INTERNET[1]),
        ("fd00::/8", "fd99::1"),
    ],
)
def test_a_route_that_the_local_network_announces_leads_nowhere(
    kernel: Kernel, announced: str, victim: str
) -> None:
    routes = made(kernel)
    # By a router, and (DHCP option 121 with gateway 0.0.0.0) as if it were on the link.
    for via in ("192.168.1.66" if ":" not in announced else "fe80::66", None):
        kernel.add_route(announced, "lan0", via)
        routes.enforce(Force.TUNNEL, NIC, LEASE)
        assert kernel.decide(victim) == NIC


@pytest.mark.parametrize(
    ("address", "victim"),
    [
        ("1.2.3.4/1", "93.184.215.14"),
        ("93.184.215.200/24", INTERNET[0]),
        ("8.8.8.200/7", "8.8.8.8"),
        ("10.1.2.3/7", "11.0.0.1"),
        ("2606:2800:21f::99/64", INTERNET[1]),
        ("fd55::1/8", "fd99::1"),
    ],
)
def test_an_address_that_claims_the_internet_is_not_local(
    kernel: Kernel, address: str, victim: str
) -> None:
    routes = made(kernel)
    kernel.add_address("lan0", address)
    routes.enforce(Force.TUNNEL, NIC, LEASE)
    assert kernel.decide(victim) == NIC


def test_which_networks_are_local_is_for_the_user_to_say(kernel: Kernel) -> None:
    kernel.add_link("docker0", "172.17.0.1/16")
    kernel.add_address("lan0", "198.51.100.7/24")
    made(kernel, "lan*").clear()
    kernel.remove_link(NIC)
    routes = made(kernel, "lan*")
    assert kernel.decide("172.17.0.5") == NIC
    assert kernel.decide("198.51.100.9") == "lan0", "named, so its networks count, public too"
    routes.clear()
    kernel.remove_link(NIC)
    made(kernel, "none")
    for address in LAN:
        assert kernel.decide(address) == NIC


def test_a_host_can_set_its_own_routes_before_we_have_looked(kernel: Kernel) -> None:
    """As a DHCP client does, a moment after the address: next hops are looked for by our rules."""
    routes = made(kernel)
    for force in (Force.TUNNEL, Force.BLOCK):
        routes.enforce(force, NIC, LEASE)
        name = f"wifi-{force}"
        kernel.add_link(name, f"172.16.{len(name)}.2/24")
        kernel.add_route("default", name, f"172.16.{len(name)}.1")
        assert kernel.decide(INTERNET[0]) != name


def test_it_follows_what_the_host_becomes(kernel: Kernel) -> None:
    kernel.set_ipv6(False)
    routes = made(kernel)
    kernel.set_ipv6(True)
    kernel.add_address("lan0", "fd01::2/64")
    kernel.add_route("default", "lan0", "fd01::1")
    assert kernel.decide(INTERNET[1]) == "unreachable", "before anybody has looked"
    kernel.add_link("wifi0", "172.16.5.2/24")
    assert kernel.decide("172.16.5.9") == NIC, "not copied yet, so not direct"
    routes.enforce(Force.TUNNEL, NIC, LEASE)
    assert kernel.decide(INTERNET[1]) == NIC
    assert kernel.decide("172.16.5.9") == "wifi0"
    kernel.set_link("wifi0", False)
    routes.enforce(Force.TUNNEL, NIC, LEASE)
    assert kernel.decide("172.16.5.9") == NIC
    kernel.rules[4] = [rule for rule in kernel.rules[4] if rule.protocol != 178]
    assert kernel.decide(INTERNET[0]) == "lan0", "somebody has flushed the rules"
    routes.enforce(Force.TUNNEL, NIC, LEASE)
    assert kernel.decide(INTERNET[0]) == NIC


@pytest.mark.parametrize("lines", range(0, 24, 2))
def test_killed_anywhere_the_next_run_takes_over(kernel: Kernel, lines: int) -> None:
    kernel.die_after = lines
    with pytest.raises(Killed):
        made(kernel).clear()
        made(kernel).clear()
    kernel.die_after = None
    kernel.remove_link(NIC)
    later = Routes(kernel, proc=kernel.proc)
    found = later.find(51830)
    assert found == any(rule.mark == 51830 for rule in kernel.rules[4])
    assert later.reserve(51830) == 51830
    later.enforce(Force.BLOCK, None, None)
    for address in INTERNET:
        assert kernel.decide(address) == "unreachable"
    assert len([rule for rule in kernel.rules[6] if rule.protocol == 178]) == 5
    later.clear()
    for family in (4, 6):
        assert [rule for rule in kernel.rules[family] if rule.protocol == 178] == []


def test_a_block_that_the_kernel_does_not_show_is_not_believed(kernel: Kernel) -> None:
    routes = Routes(kernel, proc=kernel.proc)
    routes.reserve(51830)
    kernel.refuses = "unreachable"
    with pytest.raises(CommandError):
        routes.enforce(Force.BLOCK, None, None)
    kernel.refuses = ""
    routes.enforce(Force.BLOCK, None, None)
    assert kernel.decide(INTERNET[0]) == "unreachable"


def test_tables_marks_and_preferences_in_use_are_stepped_over(kernel: Kernel) -> None:
    kernel.rules[4].append(Rule(5210, mark=51830, table=MAIN))
    routes = Routes(kernel, proc=kernel.proc)
    assert routes.reserve(51830) == 51832
    routes.enforce(Force.BLOCK, None, None)
    assert max(r.priority for f in (4, 6) for r in kernel.rules[f] if r.protocol == 178) == 5209


def test_rules_of_others_that_decide_first_are_named(kernel: Kernel) -> None:
    routes = made(kernel)
    kernel.rules[4].append(Rule(100, table=MAIN))
    routes.enforce(Force.TUNNEL, NIC, LEASE)
    assert "ip -4 rule 100" in routes.direct.names()


def test_no_room_below_the_rules_in_use(kernel: Kernel) -> None:
    kernel.rules[6].append(Rule(6, table=MAIN))
    with pytest.raises(ClientError, match="leave no room"):
        Routes(kernel, proc=kernel.proc).reserve(51830)


def test_a_kernel_without_ipv6_is_left_without(kernel: Kernel, tmp_path: Path) -> None:
    proc = tmp_path / "without"
    proc.mkdir()
    routes = Routes(kernel, proc=proc)
    routes.reserve(51830)
    rules = routes.enforce(Force.BLOCK, None, None)
    assert rules and all(rule.startswith("ip -4") for rule in rules)


@pytest.mark.parametrize(
    ("rp_filter", "route", "expected"),
    [
        (1, {"dev": "eth0", "gateway": "10.0.0.1"}, True),
        (2, {"dev": "eth0", "gateway": "10.0.0.1"}, False),
        (1, {"dev": "eth0"}, False),
    ],
)
def test_the_gateway_gets_a_rule_only_beyond_a_router_under_strict_filtering(
    tmp_path: Path, rp_filter: int, route: dict[str, str], expected: bool
) -> None:
    for name, value in (("all", 0), ("eth0", rp_filter)):
        path = tmp_path / f"ipv4/conf/{name}/rp_filter"
        path.parent.mkdir(parents=True)
        path.write_text(str(value))
    runner = RecordingRunner()
    runner.answers["ip -4 -N -j route get 203.0.113.9 mark 51830"] = [route]
    routes = Routes(runner, proc=tmp_path)
    routes.reserve(51830)
    there = TransportEndpoint("tcp", "203.0.113.9", 47800)
    phone = TransportEndpoint("usb", "R58M123", 47800)
    assert routes.reach((there, phone)) is expected
    assert routes.reach((there,)) is False, "it stands"
    wanted = "pref 32760 to 203.0.113.9 ipproto tcp dport 47800 lookup main"
    assert (wanted in [str(rule) for rule in routes._wanted(4)]) is expected


def test_kill_switch_loads_and_goes(kernel: Kernel) -> None:
    routes = made(kernel)
    switch = KillSwitch(kernel)
    assert switch.load(51830, NIC, routes.direct.networks, True) == "vpnshare_51830"
    assert kernel.decide(INTERNET[0]) == NIC
    assert kernel.decide(INTERNET[0], dev="lan0") == "rejected", "bound to another interface"
    assert kernel.decide("192.168.1.9") == "lan0"
    assert kernel.decide("192.168.1.9", port=53, dev="lan0") == "rejected"
    kernel.add_route("10.0.0.0/8", "lan0", "192.168.1.66")
    assert kernel.decide("10.20.0.5", dev="lan0") == "rejected", "private, and not on the link"
    kernel.log.clear()
    switch.load(51830, NIC, routes.direct.networks, True)
    assert kernel.log == [], "it stands"
    kernel.tables.clear()
    switch.load(51830, NIC, routes.direct.networks, True)
    assert kernel.decide(INTERNET[0], dev="lan0") == "rejected", "somebody flushed it"
    assert KillSwitch(kernel).find(range(51830, 51840)) == 51830
    switch.unload(51830)
    switch.unload(51830)
    assert kernel.tables == {}

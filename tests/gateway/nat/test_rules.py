"""What a device's rules refuse: new flows are told, running ones end, no spelling helps."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from scapy.layers.inet import ICMP, TCP, UDP, TCPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest
from scapy.packet import Packet, Raw

from gateway.nat.limits import Limits
from gateway.nat.shares import OWN_IDLE
from rules.destinations import AddressRules, compile_addresses
from rules.value import Destination, Protocol, Target, Verdict
from tests.gateway.nat.world import GATEWAY4, HOST4, Client, World, addresses, packed

OTHER4 = "198.51.100.7"
PROHIBITED4 = (3, 13)
"""Destination Unreachable, communication administratively prohibited (RFC 1812 5.2.7.1)."""
PROHIBITED6 = (1, 1)
"""The same of ICMPv6 (RFC 4443 3.1)."""
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def deny(
    where: str | None = None, protocol: Protocol = Protocol.ANY, *ports: tuple[int, int]
) -> Destination:
    network = None if where is None else ip_network(where)
    return Destination(Verdict.DENY, Target(network, "", protocol, ports))


def allow(where: str) -> Destination:
    return Destination(Verdict.ALLOW, Target(ip_network(where)))


def rule(world: World, *destinations: Destination, max_flows: int | None = None) -> None:
    """The owner's rules are these from now on."""
    world.nat.set_rules(world.peer, compile_addresses(destinations), max_flows, world.now)


def error_of(packet: Packet) -> tuple[int, int]:
    """Type and code of an ICMP error."""
    icmp = packet[ICMP] if packet.haslayer(ICMP) else packet[ICMPv6DestUnreach]
    return icmp.type, icmp.code


def datagram(
    world: World, version: int = 4, dport: int = 7, dst: str | None = None, sport: int = 5000
) -> Packet:
    return world.ip(version, dst) / UDP(sport=sport, dport=dport) / Raw(b"hello")


def ping(world: World, version: int = 4, dst: str | None = None, ident: int = 7) -> Packet:
    echo = ICMP(id=ident, seq=1) if version == 4 else ICMPv6EchoRequest(id=ident, seq=1)
    return world.ip(version, dst) / echo


# New flows.


@VERSIONS
@pytest.mark.parametrize("kind", ["tcp", "udp", "icmp"])
def test_a_refused_network_is_told_by_icmp_and_nothing_is_opened(version: int, kind: str) -> None:
    world = World()
    rule(world, deny({4: "192.0.2.0/24", 6: "2001:db8::/32"}[version]))
    packet = {
        "tcp": Client(world, version).segment("S"),
        "udp": datagram(world, version),
        "icmp": ping(world, version),
    }[kind]
    answer = world.exchange(packet)
    assert error_of(answer) == {4: PROHIBITED4, 6: PROHIBITED6}[version]
    assert not (world.outward.streams or world.outward.datagrams or world.outward.echoes)
    assert world.count(f"{kind}__refused_rules__icmp_sent") == 1
    world.balanced()


def test_the_error_quotes_the_syn_so_that_its_connect_ends_at_once() -> None:
    world = World()
    rule(world, deny(None, Protocol.TCP, (25, 25)))
    quoted = world.exchange(Client(world, dport=25, sport=4321).segment("S"))[ICMP][TCPerror]
    assert (quoted.sport, quoted.dport) == (4321, 25)


def test_only_the_ports_and_the_protocol_that_are_named() -> None:
    world = World()
    rule(world, deny(None, Protocol.TCP, (25, 25), (6000, 6010)))
    for port in (24, 26, 5999, 6011):
        Client(world, dport=port).connect()
    for port in (25, 6000, 6005, 6010):
        assert error_of(world.exchange(Client(world, dport=port).segment("S"))) == PROHIBITED4
    world.put(datagram(world, dport=25))
    world.put(ping(world))
    assert world.got() == []
    assert [sent.port for sent in world.outward.datagrams[0].sent] == [25]
    world.balanced()


def test_the_first_entry_that_fits_decides() -> None:
    world = World()
    rule(world, allow("192.0.2.64/26"), deny("192.0.2.0/24"), allow("0.0.0.0/0"))
    world.put(ping(world, dst="192.0.2.80"))
    world.put(ping(world, dst=OTHER4))
    assert world.got() == []
    assert error_of(world.exchange(ping(world, dst="192.0.2.1"))) == PROHIBITED4


def test_what_the_gateway_refuses_to_all_no_rule_allows() -> None:
    world = World()
    world.policy.set_networks(own=[], attached=["192.0.2.0/24"])
    rule(world, allow("192.0.2.0/24"), deny())
    assert error_of(world.exchange(ping(world))) == PROHIBITED4
    assert world.count("icmp__refused_attached_network__icmp_sent") == 1


def test_another_device_is_not_concerned() -> None:
    world = World()
    other = world.nat.add_peer("peer-2", addresses("10.9.0.3", "fd00:9::3"), 1500, world.now)
    world.nat.set_rules(other, compile_addresses([deny()]), None, world.now)
    Client(world).connect()


SPELLINGS = {
    "::ffff:192.0.2.80": "mapped",
    "::ffff:0:192.0.2.80": "rules",
    "64:ff9b::192.0.2.80": "rules",
    "64:ff9b:1::192.0.2.80": "rules",
    "2002:c000:250::1": "rules",
    "2001:0:c000:250::39cc:9bf8": "rules",
    "2001:db8:5::5efe:192.0.2.80": "rules",
    # Teredo: the client's address, complemented.
    "2001:0:c633:6407::3fff:fdaf": "rules",
}


@pytest.mark.parametrize(("spelling", "why"), SPELLINGS.items())
@pytest.mark.parametrize("kind", ["tcp", "udp", "icmp"])
def test_no_spelling_opens_a_refused_door(spelling: str, why: str, kind: str) -> None:
    free, world = World(), World()
    packet = {
        "tcp": Client(world, 6, dst=spelling).segment("S"),
        "udp": datagram(world, 6, 80, spelling),
        "icmp": ping(world, 6, spelling),
    }[kind]
    if why == "rules":
        # It is the rules that shut it.
        free.put(packet)
        assert free.got() == []
    rule(world, allow("::/0"), deny("192.0.2.80/32"))
    assert error_of(world.exchange(packet)) == PROHIBITED6
    assert world.count(f"{kind}__refused_{why}__icmp_sent") == 1


def test_a_spelling_is_judged_with_its_port_too() -> None:
    world = World()
    rule(world, deny("192.0.2.0/24", Protocol.TCP, (25, 25)))
    spelled = "64:ff9b::c000:250"
    Client(world, 6, dst=spelled, dport=80).connect()
    blocked = Client(world, 6, dst=spelled, dport=25).segment("S")
    assert error_of(world.exchange(blocked)) == PROHIBITED6


def test_the_gateway_itself_answers_whatever_the_rules_say() -> None:
    world = World()
    rule(world, deny())
    assert world.exchange(ping(world, dst=GATEWAY4))[ICMP].type == 0
    world.put(datagram(world, dport=53, dst=GATEWAY4))
    assert world.count("dns__question__forwarded") == 1


# Running flows.


@VERSIONS
def test_a_running_connection_that_new_rules_refuse_is_reset_both_ways(version: int) -> None:
    world = World()
    refused = Client(world, version, dport=25).connect()
    kept = Client(world, version, dport=80, sport=40001).connect()
    waiting = Client(world, version, dport=25, sport=40002)
    waiting.send("S")
    assert world.got() == []
    world.woken.clear()
    rule(world, deny(None, Protocol.TCP, (25, 25)))
    assert world.woken == [world.peer]
    resets = {packet[TCP].dport: packet[TCP].flags for packet in world.got()}
    assert resets == {refused.sport: "RA", waiting.sport: "RA"}
    assert [stream.closed for stream in world.outward.streams] == ["abort", "", "abort"]
    assert world.count("flows__closed__rules") == 2
    kept.send("PA", b"still here")
    assert bytes(world.outward.streams[1].sent) == b"still here"
    world.balanced()


def test_a_connection_whose_turn_has_not_come_is_told_too() -> None:
    world = World(limits=Limits(half_open_per_peer=1))
    Client(world).send("S")
    Client(world, dport=25, sport=40001).send("S")
    assert world.count("tcp__syn__held") == 1
    rule(world, deny(None, Protocol.TCP, (25, 25)))
    assert world.one()[TCP].dport == 40001
    assert [stream.port for stream in world.outward.streams] == [80]
    assert not world.peer.connects.waiting


def test_a_port_keeps_the_destinations_that_are_allowed() -> None:
    world = World()
    world.put(datagram(world))
    world.put(datagram(world, dport=9))
    world.put(datagram(world, dst=OTHER4))
    (sock,) = world.outward.datagrams
    rule(world, deny("192.0.2.0/24", Protocol.UDP, (7, 7)))
    assert world.count("udp__remotes__refused_rules") == 1
    assert error_of(world.exchange(datagram(world))) == PROHIBITED4
    world.put(datagram(world, dport=9))
    world.put(datagram(world, dst=OTHER4))
    assert len(sock.sent) == 5 and not sock.closed
    # Nor does anything come from there, though the host is known by another port.
    sock.receive(b"unasked", packed(HOST4), 7, now=world.now)
    assert world.got() == []
    assert world.count("udp__from_network__refused_rules") == 1
    sock.receive(b"asked", packed(HOST4), 9, now=world.now)
    assert bytes(world.one()[UDP].payload) == b"asked"
    world.balanced()


def test_nobody_is_let_in_whom_the_rules_refuse_where_filtering_is_off() -> None:
    world = World(address_dependent_filtering=False)
    world.put(datagram(world, dst=OTHER4))
    rule(world, deny("192.0.2.0/24"))
    (sock,) = world.outward.datagrams
    sock.receive(b"from a refused network", packed(HOST4), 7, now=world.now)
    assert world.got() == []
    sock.receive(b"from another one", packed("203.0.113.9"), 7, now=world.now)
    assert world.one().src == "203.0.113.9"


class Unasked(AddressRules):
    """Rules that must not be asked."""

    def refuse(self, host: bytes, protocol: str, port: int) -> bool:
        raise AssertionError((host, protocol, port))


@VERSIONS
def test_what_runs_is_compared_with_nothing(version: int) -> None:
    world = World()
    rule(world, deny(None, Protocol.TCP, (25, 25)))
    client = Client(world, version).connect()
    # The second datagram goes the slow way: it is for a traceroute.
    near = world.ip(4, ttl=1) if version == 4 else world.ip(6, hlim=1)
    datagrams = datagram(world, version), near / UDP(sport=5000, dport=7)
    world.put(datagrams[0])
    world.put(ping(world, version))
    world.peer.destinations = Unasked([])
    client.send("PA", b"hello")
    for packet in (*datagrams, ping(world, version)):
        world.put(packet)
    world.outward.datagrams[0].receive(b"back", world.outward.datagrams[0].sent[0].host, 7)
    assert bytes(world.outward.streams[0].sent) == b"hello"
    assert (len(world.outward.datagrams[0].sent), len(world.outward.echoes[0].sent)) == (2, 2)
    with pytest.raises(AssertionError):
        world.put(datagram(world, version, dport=8))


def test_a_running_ping_is_refused() -> None:
    world = World()
    world.put(ping(world, 6))
    rule(world, deny("2001:db8::/32"))
    assert error_of(world.exchange(ping(world, 6))) == PROHIBITED6
    assert len(world.outward.echoes[0].sent) == 1


def test_rules_that_are_taken_away_let_everything_pass_again() -> None:
    world = World()
    rule(world, deny(), max_flows=1)
    assert error_of(world.exchange(datagram(world))) == PROHIBITED4
    rule(world)
    Client(world).connect()
    Client(world, sport=40001).connect()


# Bounds on flows.


@VERSIONS
def test_flows_beyond_the_owners_bound_are_told_by_icmp(version: int) -> None:
    world = World()
    rule(world, max_flows=2)
    Client(world, version).connect()
    world.put(ping(world, version))
    assert world.got() == []
    told = {4: PROHIBITED4, 6: PROHIBITED6}[version]
    assert error_of(world.exchange(Client(world, version, sport=2).segment("S"))) == told
    assert error_of(world.exchange(datagram(world, version))) == told
    assert error_of(world.exchange(ping(world, version, ident=8))) == told
    for kind in ("tcp", "udp", "icmp"):
        assert world.count(f"{kind}__rules_flow_limit__icmp_sent") == 1
    assert (world.peer.sockets, len(world.peer.tcp)) == (2, 1)
    world.balanced()


def test_names_are_asked_by_tcp_within_the_bound_and_it_is_told_by_a_reset() -> None:
    world = World()
    rule(world, max_flows=1)
    Client(world).connect()
    asked = world.exchange(Client(world, dport=53, sport=2, dst=GATEWAY4).segment("S"))
    assert asked[TCP].flags == "RA"
    assert world.count("tcp__rules_flow_limit__rst_sent") == 1
    world.balanced()


def test_a_flow_that_has_rested_gives_way_to_one_that_is_wanted() -> None:
    world = World()
    rule(world, max_flows=1)
    rested = Client(world).connect()
    world.pass_time(OWN_IDLE)
    Client(world, sport=40001).send("S")
    assert world.one()[TCP].dport == rested.sport
    assert world.outward.streams[0].closed == "abort"
    assert world.count("flows__gave_way") == 1


def test_a_lower_bound_ends_the_longest_idle() -> None:
    world = World()
    clients = [Client(world, sport=40000 + n) for n in range(5)]
    for client in clients:
        client.connect()
        world.pass_time(1)
    clients[0].send("PA", b"in use")
    world.got()
    rule(world, max_flows=2)
    assert {packet[TCP].dport for packet in world.got()} == {40001, 40002, 40003}
    assert (world.peer.sockets, world.count("flows__closed__rules")) == (2, 3)

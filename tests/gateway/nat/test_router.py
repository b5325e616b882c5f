"""What comes before any flow: addresses, families, policy, offload headers, removal."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6ParamProblem, IPv6, IPv6ExtHdrHopByHop
from scapy.packet import Packet, Raw

from gateway.nat.limits import RESERVED_DESCRIPTORS, limits_for
from netstack.addresses import Addresses
from splice.timers import HEAP_SLACK
from tests.fakes.outward import PacketLog
from tests.gateway.nat.world import CLIENT4, CLIENT6, HOST4, HOST6, Client, World, packed

NOWHERE = Addresses(bytes(4), bytes(16), bytes(4), bytes(16))


@pytest.mark.parametrize(
    ("packet", "name"),
    [
        (IP(src="10.9.0.3", dst=HOST4) / UDP(), "ip__source_not_lease__dropped"),
        (IP(src=HOST4, dst=CLIENT4) / UDP(), "ip__source_not_lease__dropped"),
        (IPv6(src="fd00:9::3", dst=HOST6) / UDP(), "ip__source_not_lease__dropped"),
        (IPv6(src="fe80::1", dst="ff02::2") / UDP(), "ip__link_chatter__dropped"),
        (IPv6(src="::", dst="ff02::16") / UDP(), "ip__link_chatter__dropped"),
        (IP(src="0.0.0.0", dst="255.255.255.255") / UDP(), "ip__link_chatter__dropped"),
        (IP(src=CLIENT4, dst="224.0.0.251") / UDP(), "udp__refused_multicast__dropped"),
        (IP(src=CLIENT4, dst="224.0.0.251") / TCP(flags="S"), "tcp__refused_multicast__dropped"),
        (IP(src=CLIENT4, dst="255.255.255.255") / UDP(), "udp__refused_reserved__dropped"),
        (IPv6(src=CLIENT6, dst="ff02::fb") / UDP(), "udp__refused_multicast__dropped"),
        (IP(src=CLIENT4, dst="224.0.0.22", proto=2) / Raw(b"igmp"), "ip__multicast__dropped"),
        (IPv6(src=CLIENT6, dst=HOST6, nh=59), "ip__no_next_header__dropped"),
        (Raw(b"\x45"), "ip__truncated__dropped"),
        (Raw(b""), "ip__truncated__dropped"),
        (Raw(b"\x75" + bytes(60)), "ip__version__dropped"),
        (IP(src=CLIENT4, dst=HOST4, chksum=1) / UDP(), "ip__header_checksum__dropped"),
        (IP(src=CLIENT4, dst=HOST4, len=2000) / UDP(), "ip__total_length__dropped"),
        (IP(src=CLIENT4, dst=HOST4) / UDP(dport=0), "udp__port_zero__dropped"),
        (IP(src=CLIENT4, dst=HOST4) / UDP(len=4), "udp__length__dropped"),
        (IP(src=CLIENT4, dst=HOST4) / TCP(chksum=1), "tcp__bad_checksum__dropped"),
        (IP(src=CLIENT4, dst=HOST4) / TCP(dport=0, flags="S"), "tcp__port_zero__dropped"),
    ],
)
def test_dropped_by_name(packet: Packet, name: str) -> None:
    world = World()
    world.put(packet)
    assert world.counters.snapshot() == {name: 1, "tunnel__packets": 1}
    assert world.got() == []
    assert world.outward.open_sockets() == 0
    world.balanced()


@pytest.mark.parametrize("version", [4, 6])
def test_unknown_protocols_are_told(version: int) -> None:
    world = World()
    if version == 4:
        world.put(world.ip(4, proto=132) / Raw(b"sctp"))
        assert (world.one()[ICMP].type, world.count("ip__protocol_unknown__icmp_sent")) == (3, 1)
    else:
        world.put(world.ip(6, nh=132) / Raw(b"sctp"))
        problem = world.one()[ICMPv6ParamProblem]
        assert (problem.code, problem.ptr) == (1, 6)
    world.balanced()


def test_an_erroneous_extension_header_is_told() -> None:
    world = World()
    world.put(world.ip(6, nh=60) / Raw(bytes((0, 0)) + bytes(6) + bytes((17, 0)) + bytes(14)))
    assert world.one()[ICMPv6ParamProblem].code == 0
    assert world.count("ip__hop_by_hop_misplaced__icmp_sent") == 1


def test_extension_headers_are_skipped() -> None:
    world = World()
    world.put(world.ip(6) / IPv6ExtHdrHopByHop() / UDP(sport=5, dport=7) / Raw(b"x"))
    assert world.outward.datagrams[0].sent[0].data == b"x"


def test_ipv4_options_are_skipped_and_source_routes_are_not_taken() -> None:
    from scapy.layers.inet import IPOption_LSRR, IPOption_RR

    world = World()
    world.put(world.ip(4, options=[IPOption_RR()]) / UDP(sport=5, dport=7) / Raw(b"x"))
    assert world.outward.datagrams[0].sent[0].data == b"x"
    client = Client(world, options=[IPOption_RR()])
    client.send("S", options=[("WScale", 7)])
    world.outward.streams[0].connected()
    client.take(world.got())
    client.send("A")
    client.send("PA", b"hello")
    assert world.outward.streams[0].sent == b"hello"
    world.put(world.ip(4, options=[IPOption_LSRR()]) / UDP(sport=5, dport=7) / Raw(b"x"))
    assert world.count("ip__source_route__dropped") == 1


@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_family_without_a_way_out_is_told_at_once(version: int, protocol: str) -> None:
    world = World()
    world.nat.set_available(version == 6, version == 4)
    world.put(transport(world, protocol, version))
    answer = world.one()
    if version == 4:
        assert (answer[ICMP].type, answer[ICMP].code) == (3, 0)
    else:
        assert answer[ICMPv6DestUnreach].code == 0
    assert world.count(f"{protocol}__no_route__icmp_sent") == 1
    world.put(transport(world, protocol, 10 - version))
    assert world.outward.open_sockets() == 1
    world.balanced()


@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
def test_refused_destinations_are_told(protocol: str) -> None:
    world = World()
    world.policy.set_networks(own=["192.168.1.7"], attached=["192.168.1.0/24"])
    for host, verdict in (
        ("127.0.0.1", "loopback"),
        ("192.168.1.7", "own_address"),
        ("192.168.1.1", "attached_network"),
        ("169.254.169.254", "link_local"),
    ):
        world.put(transport(world, protocol, 4, host))
        assert world.one()[ICMP].code == 13
        assert world.count(f"{protocol}__refused_{verdict}__icmp_sent") == 1
    world.put(transport(world, protocol, 6, "64:ff9b::c0a8:101"))
    assert world.one()[ICMPv6DestUnreach].code == 1
    assert world.outward.open_sockets() == 0
    world.balanced()


def transport(world: World, protocol: str, version: int, dst: str | None = None) -> Packet:
    from scapy.layers.inet6 import ICMPv6EchoRequest

    ip = world.ip(version, dst)
    if protocol == "tcp":
        return ip / TCP(sport=4000, dport=80, flags="S", seq=1)
    if protocol == "udp":
        return ip / UDP(sport=4000, dport=80) / Raw(b"x")
    return ip / (ICMP(id=1, seq=1) if version == 4 else ICMPv6EchoRequest(id=1, seq=1))


def test_a_new_policy_closes_what_it_refuses() -> None:
    world = World()
    Client(world, dst="10.5.5.5").connect()
    world.put(transport(world, "udp", 4, "10.5.5.5"))
    world.put(transport(world, "udp", 4, "10.6.6.6"))
    world.policy.set_networks(own=[], attached=["10.5.0.0/16"])
    world.nat.policy_changed(world.now)
    assert world.one()[TCP].flags.R
    assert world.outward.streams[0].closed == "abort"
    world.put(transport(world, "udp", 4, "10.5.5.5"))
    world.put(transport(world, "udp", 4, "10.6.6.6"))
    assert [s.host for s in world.outward.datagrams[0].sent] == [
        packed("10.5.5.5"),
        packed("10.6.6.6"),
        packed("10.6.6.6"),
    ]
    assert world.count("udp__refused_attached_network__icmp_sent") == 1


def test_a_lost_vpn_closes_the_flows_of_the_families_it_had() -> None:
    world = World()
    Client(world, 4).connect()
    Client(world, 6, sport=41000).connect()
    world.put(transport(world, "udp", 4))
    world.put(transport(world, "icmp", 6))
    world.nat.close_flows("vpn_lost", world.now, v4=True, v6=False)
    resets = world.got()
    assert [packet.src for packet in resets if packet[TCP].flags.R] == [HOST4]
    assert world.nat.sockets == 2
    world.nat.close_flows("vpn_lost", world.now)
    assert world.nat.sockets == 0
    assert world.outward.open_sockets() == 0
    assert world.count("flows__closed__vpn_lost") == 4
    assert world.nat.flows() == []


def test_a_removed_peer_leaves_nothing() -> None:
    world = World()
    Client(world).connect()
    for protocol in ("tcp", "udp", "icmp"):
        world.put(transport(world, protocol, 6))
    world.put(IP(src=CLIENT4, dst=HOST4, flags="MF") / Raw(bytes(64)))
    world.got()
    assert {info.protocol for info in world.nat.flows(world.peer)} == {"tcp", "udp", "icmp"}
    world.nat.remove_peer(world.peer, world.now)
    assert world.outward.open_sockets() == 0
    assert world.nat.sockets == 0
    assert world.nat.get_timer() is None
    assert world.link.take() == []
    assert all(stream.closed == "abort" for stream in world.outward.streams)


def test_an_id_is_taken_once() -> None:
    world = World()
    with pytest.raises(ValueError, match="peer-1"):
        world.nat.add_peer("peer-1", NOWHERE, 1500, 0.0)


def test_peers_share_what_sockets_there_are() -> None:
    world = World()
    alone = world.nat.share()
    others = [world.nat.add_peer(f"other-{n}", NOWHERE, 1500, 0.0) for n in range(9)]
    assert world.nat.share() == world.nat.config.limits.flows // 10 < alone
    for other in others:
        world.nat.remove_peer(other, world.now)
    assert world.nat.share() == alone


@pytest.mark.parametrize("descriptors", [64, 1024, 32768, 1_000_000])
def test_limits_follow_the_descriptors(descriptors: int) -> None:
    limits = limits_for(descriptors)
    assert limits.flows_per_peer <= limits.flows
    assert limits.udp_per_peer + limits.echo_per_peer <= limits.flows_per_peer
    if descriptors > 2 * RESERVED_DESCRIPTORS:
        assert limits.flows + RESERVED_DESCRIPTORS <= descriptors


def offload(flags: int, gso_type: int, size: int, start: int, offset: int) -> bytes:
    fields = (20, size, start, offset)
    return bytes((flags, gso_type)) + b"".join(field.to_bytes(2, "little") for field in fields)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (offload(8, 0, 0, 0, 0), "offload__flags__dropped"),
        (offload(1, 0, 0, 20, 16), "offload__checksum_start__dropped"),
        (offload(1, 0, 0, 24, 6), "offload__checksum_start__dropped"),
        (offload(1, 0, 0, 65535, 65535), "offload__checksum_start__dropped"),
        (offload(1, 1, 1000, 20, 6), "offload__segment_type__dropped"),
        (offload(1, 3, 1000, 20, 6), "offload__segment_type__dropped"),
        (offload(1, 5, 0, 20, 6), "offload__segment_size__dropped"),
        (offload(0, 5, 1000, 0, 0), "offload__segment_size__dropped"),
    ],
)
def test_offload_headers_are_judged(header: bytes, name: str) -> None:
    world = World(offload=True, offload_udp=True)
    packet = bytes(world.ip(4) / UDP(sport=1, dport=2) / Raw(b"x" * 100))
    world.put(packet, offload(0, 0, 0, 0, 0))
    for _ in range(2):
        # Also when the mapping exists, where the fast path looks first.
        world.put(packet, header)
    assert world.count(name) == 2
    assert len(world.outward.datagrams[0].sent) == 1
    world.balanced()


def test_fragments_with_offload_are_refused() -> None:
    world = World(offload=True)
    world.put(IP(src=CLIENT4, dst=HOST4, flags="MF") / Raw(bytes(64)), offload(1, 0, 0, 20, 6))
    assert world.count("offload__fragment__dropped") == 1


def test_partial_checksums_are_accepted() -> None:
    world = World(offload=True)
    packet = bytearray(bytes(world.ip(4) / UDP(sport=1, dport=2) / Raw(b"partial")))
    packet[26:28] = b"\x12\x34"
    for _ in range(2):
        world.put(bytes(packet), offload(1, 0, 0, 20, 6))
    assert [s.data for s in world.outward.datagrams[0].sent] == [b"partial"] * 2


def test_errors_are_limited_in_rate() -> None:
    world = World()
    limit = world.nat.config.limits.icmp_errors_per_second
    world.nat.set_available(False, False)
    packet = bytes(transport(world, "udp", 4))
    for _ in range(limit + 50):
        world.put(packet)
    assert world.count("udp__no_route__icmp_sent") == limit
    assert world.count("udp__no_route__dropped") == 50
    world.now += 1
    world.put(packet)
    assert world.count("udp__no_route__icmp_sent") == limit + 1
    world.balanced()


def test_output_is_announced_once_until_it_is_pulled() -> None:
    world = World()
    Client(world).connect()
    stream = world.outward.streams[0]
    world.got()
    world.woken.clear()
    stream.receive(b"a")
    stream.receive(b"b")
    assert world.woken == [world.peer]
    world.got()
    stream.receive(b"c")
    assert len(world.woken) == 2
    world.peer.link_lost(world.now)
    stream.receive(b"d")
    assert len(world.woken) == 2
    world.peer.set_out(PacketLog(), world.wake, world.now)
    assert len(world.woken) == 3


def test_stale_timers_do_not_pile_up() -> None:
    world = World()
    packet: Any = bytes(transport(world, "udp", 4))
    for _ in range(3000):
        world.put(packet)
        world.nat.close_flows("test", world.now)
        world.got()
        world.now += 0.01
    assert len(world.nat.timers._heap) <= HEAP_SLACK + 2


def test_nothing_wakes_an_idle_nat() -> None:
    world = World()
    assert world.nat.get_timer() is None
    Client(world).connect()
    timer = world.nat.get_timer()
    world.pass_time(120)
    later = world.nat.get_timer()
    assert timer is not None
    assert later is not None
    assert later - world.now > 60

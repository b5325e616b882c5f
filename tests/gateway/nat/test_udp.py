"""UDP mappings: mapping, filtering, time-outs, batches, sizes, errors."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP, UDPerror, defragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
    defragment6,
    fragment6,
)
from scapy.packet import Packet, Raw

from gateway.nat.limits import Limits
from gateway.nat.ports import ORIGIN_ICMP, ORIGIN_ICMP6, ORIGIN_LOCAL, NetworkError
from gateway.nat.router import NatConfig
from gateway.nat.udp import DNS_TIMEOUT, MAX_PIECES, NEW_TIMEOUT, STABLE_TIMEOUT
from gateway.records import GatewayConfig
from tests.gateway.nat.world import CLIENT4, GATEWAY4, HOST4, HOST6, World, packed

VERSIONS = pytest.mark.parametrize("version", [4, 6])
HOST = {4: HOST4, 6: HOST6}


def datagram(
    world: World, data: bytes, version: int = 4, sport: int = 5000, dport: int = 7, **ip: Any
) -> Packet:
    return world.ip(version, **ip) / UDP(sport=sport, dport=dport) / Raw(data)


@VERSIONS
def test_there_and_back(version: int) -> None:
    world = World()
    world.put(datagram(world, b"ping", version))
    (sock,) = world.outward.datagrams
    assert [(s.data, s.host, s.port) for s in sock.sent] == [(b"ping", packed(HOST[version]), 7)]
    sock.receive(b"pong", packed(HOST[version]), 7, now=world.now)
    answer = world.one()
    assert answer.src == HOST[version]
    assert (answer[UDP].sport, answer[UDP].dport) == (7, 5000)
    assert bytes(answer[UDP].payload) == b"pong"
    world.balanced()


def test_one_socket_for_a_port_whatever_the_destination() -> None:
    world = World()
    for host in ("192.0.2.1", "192.0.2.2", "198.51.100.1"):
        for port in (1, 2):
            world.put(datagram(world, b"x", dst=host, dport=port))
    world.put(datagram(world, b"x", version=6))
    world.put(datagram(world, b"x", sport=5001))
    assert len(world.outward.datagrams) == 3
    assert len(world.outward.datagrams[0].sent) == 6
    assert {info.destination for info in world.nat.flows()} >= {None}


def test_filtering_is_address_dependent_unless_the_owner_opens_it() -> None:
    assert NatConfig().address_dependent_filtering
    assert GatewayConfig().address_dependent_filtering
    for dependent, expected in ((False, 1), (True, 0)):
        world = World(address_dependent_filtering=dependent)
        world.put(datagram(world, b"x"))
        sock = world.outward.datagrams[0]
        sock.receive(b"stranger", packed("198.51.100.9"), 99, now=world.now)
        assert len(world.got()) == expected
        sock.receive(b"other port", packed(HOST4), 99, now=world.now)
        assert len(world.got()) == 1
        assert world.count("udp__from_network__filtered") == 1 - expected


def test_the_owner_may_open_and_close_the_filter_while_it_runs() -> None:
    world = World()
    world.put(datagram(world, b"x"))
    (sock,) = world.outward.datagrams
    for dependent, expected in ((True, 0), (False, 1), (True, 0)):
        world.nat.config = replace(world.nat.config, address_dependent_filtering=dependent)
        sock.receive(b"stranger", packed("198.51.100.9"), 99, now=world.now)
        assert len(world.got()) == expected


def test_a_host_that_the_policy_refuses_now_is_a_stranger() -> None:
    world = World()
    world.put(datagram(world, b"x"))
    (sock,) = world.outward.datagrams
    world.policy.set_networks([], [HOST4])
    world.nat.policy_changed(world.now)
    sock.receive(b"still there", packed(HOST4), 7, now=world.now)
    assert world.got() == []


def test_equal_datagrams_of_a_batch_leave_in_one_send() -> None:
    world = World()
    world.put(datagram(world, b"first"))
    sock = world.outward.datagrams[0]
    sock.sent.clear()
    for number in range(5):
        world.put(datagram(world, bytes([number]) * 100), end=False)
    world.put(datagram(world, b"short"), end=False)
    world.put(datagram(world, b"next!"), end=False)
    world.put(datagram(world, b"elsewhere", dport=8), end=False)
    world.peer.end_batch(world.now)
    assert [(len(s.data), s.size, s.port) for s in sock.sent] == [
        (505, 100, 7),
        (5, 0, 7),
        (9, 0, 8),
    ]
    assert world.count("udp__datagram__forwarded") == 9
    world.balanced()


def test_without_segmentation_they_leave_one_by_one() -> None:
    world = World()
    world.put(datagram(world, b"first"))
    sock = world.outward.datagrams[0]
    sock.segmentation = False
    sock.sent.clear()
    for _ in range(3):
        world.put(datagram(world, b"y" * 50), end=False)
    world.peer.end_batch(world.now)
    assert [s.data for s in sock.sent] == [b"y" * 50] * 3
    world.balanced()


def test_a_packet_of_segments_is_split_again() -> None:
    world = World(offload=True, offload_udp=True)
    payload = b"".join(bytes([n]) * 1200 for n in range(10)) + b"tail"
    packet = bytearray(bytes(datagram(world, payload)))
    header = bytes((1, 5)) + b"".join(value.to_bytes(2, "little") for value in (28, 1200, 20, 6))
    world.put(bytes(packet), header)
    (sock,) = world.outward.datagrams
    assert [(s.data, s.size) for s in sock.sent] == [(payload, 1200)]
    sock.segmentation = False
    world.put(bytes(packet), header)
    assert [s.data for s in sock.sent[1:]] == [payload[i : i + 1200] for i in range(0, 12004, 1200)]
    assert world.count("udp__segments__forwarded") == 2
    world.balanced()


@pytest.mark.parametrize("size", [1, 9, 100])
@VERSIONS
def test_a_packet_of_more_segments_than_a_kernel_makes_is_dropped(version: int, size: int) -> None:
    world = World(offload=True, offload_udp=True)
    header = 20 if version == 4 else 40

    def frame(pieces: int) -> tuple[bytes, bytes]:
        packet = bytearray(bytes(datagram(world, bytes(pieces * size), version)))
        fields = (header + 8, size, header, 6)
        return bytes(packet), bytes((1, 5)) + b"".join(n.to_bytes(2, "little") for n in fields)

    for _ in range(2):
        # The second time the mapping is there, and the fast path takes it.
        world.put(*frame(MAX_PIECES + 1))
        world.put(*frame(MAX_PIECES))
    assert world.count("offload__too_many_segments__dropped") == 2
    (sock,) = world.outward.datagrams
    assert sum(-(-len(sent.data) // sent.size) for sent in sock.sent) == 2 * MAX_PIECES
    world.balanced()


@pytest.mark.parametrize(("offload", "offload_udp"), [(False, False), (True, False), (True, True)])
@VERSIONS
def test_joined_datagrams_reach_the_client_as_it_can_take_them(
    version: int, offload: bool, offload_udp: bool
) -> None:
    world = World(offload=offload, offload_udp=offload_udp)
    packet = bytes(datagram(world, b"x", version))
    world.put(packet)
    data = b"".join(bytes([n]) * 1000 for n in range(6)) + b"tail"
    sock = world.outward.datagrams[0]
    sock.receive(data, packed(HOST[version]), 7, size=1000, now=world.now)
    packets = world.got()
    assert len(packets) == (1 if offload_udp else 7)
    header = 28 if version == 4 else 48
    assert b"".join(bytes(p)[header:] for p in packets) == data
    assert world.count("udp__to_tunnel__datagrams") == 7


@VERSIONS
def test_large_datagrams_arrive_in_fragments_that_scapy_joins(version: int) -> None:
    world = World()
    world.put(datagram(world, b"x", version))
    data = bytes(range(256)) * 200
    sock = world.outward.datagrams[0]
    sock.receive(data, packed(HOST[version]), 7, now=world.now)
    packets = world.got()
    assert len(packets) > 30
    if version == 4:
        whole = defragment([IP(bytes(packet)) for packet in packets])
        assert len(whole) == 1
        assert bytes(whole[0][UDP].payload) == data
        joined = IP(bytes(whole[0]))
        want = joined[UDP].chksum
        del joined[UDP].chksum
        assert IP(bytes(joined))[UDP].chksum == want
    else:
        whole6: Packet = defragment6([IPv6(bytes(packet)) for packet in packets])
        assert bytes(whole6)[48:] == data


@VERSIONS
def test_the_clients_fragments_become_one_datagram(version: int) -> None:
    world = World()
    data = bytes(range(256)) * 100
    if version == 4:
        packet = world.ip(4, id=77) / UDP(sport=5000, dport=7) / Raw(data)
        pieces = [bytes(piece) for piece in packet.fragment(1400)]
    else:
        packet = world.ip(6) / IPv6ExtHdrFragment(id=77) / UDP(sport=5000, dport=7) / Raw(data)
        pieces = [bytes(piece) for piece in fragment6(packet, 1400)]
    assert len(pieces) > 10
    for piece in [*pieces[1:], pieces[0]]:
        world.put(piece)
    (sock,) = world.outward.datagrams
    assert [s.data for s in sock.sent] == [data]
    assert sock.fragmentation is True
    assert world.peer.reassembler.held == 0
    world.balanced()


def test_overlapping_fragments_are_dropped_with_all_that_follows() -> None:
    world = World()
    data = bytes(4000)
    pieces = (world.ip(4, id=78) / UDP(sport=5000, dport=7) / Raw(data)).fragment(1400)
    evil = pieces[1].copy()
    evil.frag -= 1
    del evil.chksum
    world.put(pieces[0])
    world.put(evil)
    world.put(pieces[1])
    world.put(pieces[2])
    assert world.outward.datagrams == []
    assert world.count("ip__fragment_overlap__dropped") == 3
    world.balanced()


def test_missing_fragments_are_reported_after_a_while() -> None:
    world = World()
    pieces = (world.ip(4, id=79) / UDP(sport=5000, dport=7) / Raw(bytes(4000))).fragment(1400)
    world.put(pieces[0])
    world.pass_time(31)
    answer = world.one()
    assert (answer[ICMP].type, answer[ICMP].code) == (11, 1)
    assert world.peer.reassembler.held == 0
    assert world.nat.get_timer() is None


def test_low_ttls_are_passed_on_and_the_last_hop_is_ours() -> None:
    world = World()
    world.put(datagram(world, b"hop", ttl=1, dport=33434))
    answer = world.one()
    assert answer.src == GATEWAY4
    assert (answer[ICMP].type, answer[ICMP].code) == (11, 0)
    assert answer[UDPerror].dport == 33434
    world.put(datagram(world, b"hop", ttl=2, dport=33435))
    world.put(datagram(world, b"hop", ttl=3, dport=33435))
    world.put(datagram(world, b"far", ttl=64, dport=33435))
    assert [(s.data, s.ttl) for s in world.outward.datagrams[0].sent] == [
        (b"hop", 1),
        (b"hop", 2),
        (b"far", 0),
    ]
    world.put(datagram(world, b"hop", ttl=1, dport=33435))
    assert world.one()[ICMP].type == 11
    world.balanced()


@VERSIONS
def test_icmp_errors_of_the_network_quote_the_clients_datagram(version: int) -> None:
    world = World()
    world.put(datagram(world, b"probe", version, dport=33440))
    sock = world.outward.datagrams[0]
    router = packed("203.0.113.1" if version == 4 else "2001:db8:f::1")
    kind, code = (11, 0) if version == 4 else (3, 0)
    origin = ORIGIN_ICMP if version == 4 else ORIGIN_ICMP6
    host = packed(HOST[version])
    sock.report(
        NetworkError(errno.EHOSTUNREACH, origin, kind, code, 0, router, host, 33440, b"probe"),
        world.now,
    )
    answer = world.one()
    assert packed(answer.src) == router
    if version == 4:
        assert (answer[ICMP].type, answer[ICMP].code) == (11, 0)
    quoted = answer[UDPerror]
    assert (quoted.sport, quoted.dport, quoted.len) == (5000, 33440, 13)
    assert world.count("udp__icmp_error__to_tunnel") == 1


def test_icmp_errors_about_strangers_are_not_passed_on() -> None:
    world = World()
    world.put(datagram(world, b"probe"))
    error = NetworkError(
        errno.ECONNREFUSED, ORIGIN_ICMP, 3, 3, 0, None, packed("198.51.100.1"), 7, b""
    )
    world.outward.datagrams[0].report(error, world.now)
    assert world.got() == []
    assert world.count("udp__icmp_error__unknown") == 1


@VERSIONS
def test_what_exceeds_the_path_mtu_is_answered_by_packet_too_big(version: int) -> None:
    world = World()
    flags: dict[str, Any] = {"flags": "DF"} if version == 4 else {}
    world.put(datagram(world, b"small", version, **flags))
    sock = world.outward.datagrams[0]
    assert sock.fragmentation is False
    sock.failures.append(errno.EMSGSIZE)
    # The kernel's own entry has neither port nor payload.
    sock.errors.append(
        NetworkError(errno.EMSGSIZE, ORIGIN_LOCAL, 0, 0, 1300, None, packed(HOST[version]), 0, b"")
    )
    world.put(datagram(world, bytes(1400), version, **flags))
    answer = world.one()
    if version == 4:
        assert (answer[ICMP].type, answer[ICMP].code) == (3, 4)
        assert answer[ICMP].nexthopmtu == 1300
    else:
        assert answer[ICMPv6PacketTooBig].mtu == 1300
    quoted = answer[UDPerror]
    assert (quoted.sport, quoted.dport, quoted.len) == (5000, 7, 1408)
    assert world.count("udp__too_big__icmp_sent") == 1
    world.balanced()


def test_what_may_be_fragmented_is_left_to_the_system() -> None:
    world = World()
    world.put(datagram(world, bytes(1400)))
    assert world.outward.datagrams[0].fragmentation is True


def test_an_earlier_datagrams_error_does_not_cost_the_next_one() -> None:
    world = World()
    world.put(datagram(world, b"one"))
    sock = world.outward.datagrams[0]
    sock.failures.append(errno.ECONNREFUSED)
    sock.errors.append(
        NetworkError(errno.ECONNREFUSED, ORIGIN_ICMP, 3, 3, 0, packed(HOST4), packed(HOST4), 7, b"")
    )
    world.put(datagram(world, b"two"))
    assert [s.data for s in sock.sent] == [b"one", b"two"]
    assert (world.one()[ICMP].type, world.count("udp__datagram__forwarded")) == (3, 2)
    world.balanced()


@VERSIONS
def test_a_send_that_fails_is_an_icmp_error(version: int) -> None:
    world = World()
    world.put(datagram(world, b"one", version))
    world.outward.datagrams[0].failures.extend([errno.ENETUNREACH] * 2)
    world.put(datagram(world, b"two", version))
    answer = world.one()
    if version == 4:
        assert (answer[ICMP].type, answer[ICMP].code) == (3, 0)
    else:
        assert answer[ICMPv6DestUnreach].code == 0
    assert world.count("udp__net_unreachable__icmp_sent") == 1
    world.balanced()


def test_a_full_socket_buffer_drops_by_name() -> None:
    world = World()
    world.put(datagram(world, b"one"))
    world.outward.datagrams[0].failures.append(errno.EAGAIN)
    world.put(datagram(world, b"two"))
    assert world.count("udp__socket_full__dropped") == 1
    assert world.got() == []
    world.balanced()


def test_time_outs_by_what_the_mapping_does() -> None:
    world = World()
    world.put(datagram(world, b"q", sport=1, dport=53))
    world.put(datagram(world, b"n", sport=2))
    world.put(datagram(world, b"s", sport=3))
    for sock in world.outward.datagrams:
        sock.receive(b"a", packed(HOST4), 53 if sock is world.outward.datagrams[0] else 8)
    world.outward.datagrams[2].receive(b"a", packed(HOST4), 7)
    world.got()
    dns, new, stable = world.outward.datagrams
    world.pass_time(DNS_TIMEOUT + 1)
    assert (dns.closed, new.closed, stable.closed) == (True, False, False)
    world.pass_time(NEW_TIMEOUT - DNS_TIMEOUT)
    assert (new.closed, stable.closed) == (True, False)
    world.pass_time(STABLE_TIMEOUT)
    assert stable.closed
    assert world.nat.sockets == 0
    assert world.peer.udp_remotes == {}
    assert world.nat.get_timer() is None


def test_what_arrives_does_not_keep_a_mapping_open_but_what_leaves_does() -> None:
    world = World()
    world.put(datagram(world, b"n"))
    sock = world.outward.datagrams[0]
    world.pass_time(NEW_TIMEOUT - 10)
    world.put(datagram(world, b"again"))
    world.pass_time(NEW_TIMEOUT - 10)
    assert not sock.closed
    sock.receive(b"stranger", packed("198.51.100.1"), 9, now=world.now)
    world.got()
    world.pass_time(20)
    assert sock.closed


def test_mappings_are_bounded_and_the_longest_idle_gives_way() -> None:
    world = World(limits=Limits(udp_per_peer=3))
    for port in (1, 2, 3):
        world.put(datagram(world, b"x", sport=port))
        world.now += 1
    world.put(datagram(world, b"x", sport=1))
    world.put(datagram(world, b"x", sport=4))
    assert [sock.closed for sock in world.outward.datagrams] == [False, True, False, False]
    assert world.count("udp__mapping__evicted") == 1
    assert world.nat.sockets == 3


def test_a_scan_does_not_grow_a_mapping_without_bound() -> None:
    world = World(limits=Limits(remotes_per_mapping=50))
    for port in range(1, 200):
        world.put(datagram(world, b"x", dport=port))
    assert len(world.peer.udp_remotes) == 50
    (sock,) = world.outward.datagrams
    assert len(sock.sent) == 199


def test_a_scan_of_hosts_shuts_out_the_oldest_and_no_other() -> None:
    world = World(limits=Limits(remotes_per_mapping=50))
    for last in range(1, 52):
        world.put(datagram(world, b"x", dst=f"192.0.2.{last}"))
    (sock,) = world.outward.datagrams
    for last in range(1, 52):
        sock.receive(bytes([last]), packed(f"192.0.2.{last}"), 7, now=world.now)
    assert [bytes(packet[UDP].payload)[0] for packet in world.got()] == list(range(2, 52))


def test_a_socket_that_cannot_be_opened_is_told() -> None:
    world = World()
    world.outward.refusals.append(errno.EMFILE)
    world.put(datagram(world, b"x"))
    assert (world.one()[ICMP].code, world.count("udp__no_descriptors__icmp_sent")) == (13, 1)
    assert world.peer.mappings == {}
    world.balanced()


def port_unreachable(world: World, packet: Packet) -> Packet:
    """What the client's system says of a datagram that no program of its own takes."""
    quote = bytes(packet)[:48]
    if packet.version == 4:
        return world.ip(4, packet.src) / ICMP(type=3, code=3) / Raw(quote)
    return world.ip(6, packet.src) / ICMPv6DestUnreach(code=4) / Raw(quote)


@VERSIONS
def test_the_clients_port_unreachable_concerns_one_host_and_the_mapping_stays(version: int) -> None:
    world = World()
    other = {4: "192.0.2.81", 6: "2001:db8::81"}[version]
    for host in (HOST[version], other):
        world.put(datagram(world, b"x", version, dst=host))
    (sock,) = world.outward.datagrams
    sock.receive(b"late answer", packed(HOST[version]), 7, now=world.now)
    world.put(port_unreachable(world, world.one()))
    assert world.count("icmp__port_unreachable__dropped") == 1
    assert not sock.closed
    # The call to the other host goes on both ways, out of the same port.
    world.put(datagram(world, b"call", version, dst=other))
    sock.receive(b"call", packed(other), 7, now=world.now)
    assert bytes(world.one()[UDP].payload) == b"call"
    assert world.outward.datagrams == [sock]
    # Nobody listens there for the first host, until the client turns to it again.
    sock.receive(b"stray", packed(HOST[version]), 7, now=world.now)
    assert world.got() == []
    world.put(datagram(world, b"again", version))
    sock.receive(b"welcome", packed(HOST[version]), 7, now=world.now)
    assert bytes(world.one()[UDP].payload) == b"welcome"
    assert world.outward.datagrams == [sock]
    world.balanced()


def test_a_port_unreachable_about_what_never_came_changes_nothing() -> None:
    world = World()
    world.put(datagram(world, b"x"))
    (sock,) = world.outward.datagrams
    stranger = IP(src="198.51.100.9", dst=CLIENT4) / UDP(sport=7, dport=5000) / b"x"
    world.put(port_unreachable(world, stranger))
    cut = IP(src=HOST4, dst=CLIENT4) / UDP(sport=7, dport=5000)
    world.put(world.ip(4) / ICMP(type=3, code=3) / Raw(bytes(cut)[:23]))
    sock.receive(b"answer", packed(HOST4), 7, now=world.now)
    assert bytes(world.one()[UDP].payload) == b"answer"
    assert world.count("icmp__error_no_flow__dropped") == 1
    assert world.count("icmp__error_quote__dropped") == 1
    world.balanced()


@pytest.mark.parametrize("version", [4, 6])
def test_a_first_datagram_is_summed_and_later_ones_are_as_they_were_sealed(version: int) -> None:
    world = World()
    good = bytes(datagram(world, b"hello", version))
    bad = bytearray(good)
    bad[-1] ^= 1
    world.put(bytes(bad))
    assert world.outward.datagrams == []
    assert world.count("udp__bad_checksum__dropped") == 1
    world.put(good)
    world.put(bytes(bad))
    none = datagram(world, b"hello", version)
    none[UDP].chksum = 0
    world.put(none)
    # Over IPv6 there has to be one (RFC 8200, 8.1).
    last = [b"hello"] if version == 4 else []
    assert [s.data for s in world.outward.datagrams[0].sent] == [b"hello", b"helln", *last]
    assert world.count("udp__bad_checksum__dropped") == 2 - len(last)
    world.balanced()

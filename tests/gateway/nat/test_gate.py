"""A client whose gate is closed: what ends, what it is told, and that it goes on afterwards."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest
from scapy.packet import Packet, Raw

from gateway.nat.side import ClientSide
from netstack.dns import PROHIBITED, REFUSED, TYPE_A, address_question, edns_record, wire_name
from splice.peer import UNMETERED
from tests.fakes.outward import PacketLog
from tests.gateway.nat.test_dns import GATEWAY, DnsClient
from tests.gateway.nat.world import HOST4, HOST6, Client, World, addresses, packed

VERSIONS = pytest.mark.parametrize("version", [4, 6])
HOST = {4: HOST4, 6: HOST6}
QUESTION = address_question(7, wire_name("test"), TYPE_A)


def ping(world: World, version: int) -> Packet:
    if version == 4:
        return world.ip(4) / ICMP(id=1, seq=1) / Raw(b"ping")
    return world.ip(6) / ICMPv6EchoRequest(id=1, seq=1, data=b"ping")


def prohibited(packet: Packet, version: int) -> bool:
    """Destination Unreachable: communication administratively prohibited."""
    if version == 4:
        return (packet[ICMP].type, packet[ICMP].code) == (3, 13)
    return int(packet[ICMPv6DestUnreach].code) == 1


@VERSIONS
def test_what_runs_ends_on_both_sides(version: int) -> None:
    world = World()
    running = Client(world, version).connect()
    opening = Client(world, version, sport=40001)
    opening.send("S")
    world.put(world.ip(version) / UDP(sport=5000, dport=7) / Raw(b"x"))
    world.put(ping(world, version))
    assert world.outward.open_sockets() == 4
    world.nat.shut_out(world.peer, world.now)
    assert world.outward.open_sockets() == 0
    assert [stream.closed for stream in world.outward.streams] == ["abort", "abort"]
    resets = {packet[TCP].dport: packet[TCP].flags for packet in world.got()}
    assert "R" in str(resets[running.sport]) and "R" in str(resets[opening.sport])
    assert world.peer.flow_count == 0
    assert world.count("flows__closed__gate") == 4


@VERSIONS
def test_what_is_tried_is_told(version: int) -> None:
    world = World()
    running = Client(world, version).connect()
    world.nat.shut_out(world.peer, world.now)
    world.got()
    fresh = Client(world, version, sport=40001).segment("S")
    datagram = world.ip(version) / UDP(sport=5000, dport=7) / Raw(b"x")
    for packet in (fresh, datagram, ping(world, version)):
        assert prohibited(world.exchange(packet), version)
    # A connection of before that has not noticed.
    assert "R" in str(world.exchange(running.segment("PA", b"more"))[TCP].flags)
    assert world.outward.open_sockets() == 0
    for kind in ("tcp", "udp", "icmp"):
        assert world.count(f"{kind}__gate_closed__icmp_sent") == 1
    world.balanced()


@VERSIONS
def test_questions_are_refused(version: int) -> None:
    world = World()
    asking = DnsClient(world, version)
    packet = world.ip(version, GATEWAY[version]) / UDP(sport=4444, dport=53) / Raw(QUESTION)
    world.put(packet)
    ((_, _, _, late),) = world.dns.questions
    world.nat.shut_out(world.peer, world.now)
    assert world.got() == [], "the connection with the resolver stays"
    # One that was under way, one over UDP, one over TCP.
    late(b"an answer that came too late")
    replies = [bytes(world.one()[UDP].payload), bytes(world.exchange(packet)[UDP].payload)]
    asking.ask(QUESTION)
    replies.append(asking.take(world.got())[2:])
    for reply in replies:
        assert reply[:2] == QUESTION[:2] and reply[3] & 15 == REFUSED
    assert len(world.dns.questions) == 1
    assert world.count("dns__gate_closed__refused") == 3


def test_who_knows_edns_is_told_why() -> None:
    world = World()
    world.nat.shut_out(world.peer, world.now)
    wire = QUESTION[:10] + b"\0\1" + QUESTION[12:] + edns_record(0)
    answer = world.exchange(world.ip(4, GATEWAY[4]) / UDP(sport=4444, dport=53) / Raw(wire))
    assert PROHIBITED.to_bytes(2, "big") + b"this device may not" in bytes(answer)


@VERSIONS
def test_it_goes_on_when_the_gate_opens(version: int) -> None:
    world = World()
    Client(world, version).connect()
    world.nat.shut_out(world.peer, world.now)
    world.got()
    world.nat.let_in(world.peer)
    Client(world, version, sport=40001).connect()
    world.put(world.ip(version) / UDP(sport=5000, dport=7) / Raw(b"x"))
    world.put(ping(world, version))
    world.put(world.ip(version, GATEWAY[version]) / UDP(sport=4444, dport=53) / Raw(b"q" * 20))
    assert world.outward.open_sockets() == 3
    assert world.outward.datagrams[-1].sent[-1].host == packed(HOST[version])
    assert len(world.dns.questions) == 1


# --- the meter ---------------------------------------------------------------------------------


def metered(world: World, up: int | None = None, down: int | None = None) -> list[tuple[int, int]]:
    """Shut the client out when so many bytes have gone either way; each look's two counts."""
    looks: list[tuple[int, int]] = []
    peer = world.peer
    if up is not None:
        peer.up_stop = peer.from_tunnel_bytes + up
    if down is not None:
        peer.down_stop = peer.to_tunnel_bytes + down

    def look(side: ClientSide, now: float) -> None:
        assert side is peer
        looks.append((peer.from_tunnel_bytes, peer.to_tunnel_bytes))
        if peer.from_tunnel_bytes > peer.up_stop or peer.to_tunnel_bytes >= peer.down_stop:
            peer.up_stop = peer.down_stop = UNMETERED
            world.nat.shut_out(peer, now)

    world.nat.on_metered = look
    return looks


@VERSIONS
def test_a_download_ends_near_its_stop(version: int) -> None:
    world = World()
    client = Client(world, version).connect()
    before = world.peer.to_tunnel_bytes
    metered(world, down=300_000)
    world.outward.streams[0].receive(bytes(2_000_000), world.now)
    while not world.peer.shut_out:
        packets = world.got()
        client.take(packets)
        client.send("A")
    assert world.outward.streams[0].closed == "abort"
    assert 300_000 <= world.peer.to_tunnel_bytes - before < 300_000 + 10_000
    assert "R" in str(world.got()[-1][TCP].flags)


def test_datagrams_to_the_client_end_near_their_stop() -> None:
    world = World()
    world.put(world.ip(4) / UDP(sport=5000, dport=7) / Raw(b"x"))
    (sock,) = world.outward.datagrams
    metered(world, down=50_000)
    for _ in range(100):
        if not world.peer.shut_out:
            sock.receive(bytes(1000), packed(HOST4), 7, now=world.now)
            world.got()
    assert 50_000 <= world.peer.to_tunnel_bytes < 52_000
    assert sock.closed


@VERSIONS
def test_an_upload_ends_with_the_packet_that_is_too_much(version: int) -> None:
    world = World()
    metered(world, up=20_000)
    datagram = world.ip(version) / UDP(sport=5000, dport=7) / Raw(bytes(1000))
    for _ in range(20_000 // len(bytes(datagram))):
        world.put(datagram)
    assert world.got() == [] and not world.peer.shut_out
    sent = len(world.outward.datagrams[0].sent)
    assert prohibited(world.exchange(datagram), version)
    assert len(world.outward.datagrams[0].sent) == sent
    world.balanced()


def test_who_has_no_quota_is_never_looked_at() -> None:
    world = World()
    looks = metered(world)
    client = Client(world).connect()
    world.outward.streams[0].receive(bytes(500_000), world.now)
    client.take(world.got())
    client.send("A", bytes(1000))
    assert looks == []


def test_another_device_is_not_concerned() -> None:
    world = World()
    other = world.nat.add_peer("peer-2", addresses("10.9.0.3", "fd00:9::3"), 1500, world.now)
    other.set_out(PacketLog(), lambda: None, world.now)
    client = Client(world).connect()
    world.nat.shut_out(other, world.now)
    world.outward.streams[0].receive(b"hello", world.now)
    assert client.take(world.got()) == b"hello"

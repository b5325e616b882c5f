"""What a device has sent and got, in bytes of IP packets: each counted once, with its headers."""

from __future__ import annotations

import struct

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.packet import Packet, Raw

from netstack.out import GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4
from tests.fakes.outward import PacketLog
from tests.gateway.nat.test_icmp import ping
from tests.gateway.nat.test_joined import Feeder
from tests.gateway.nat.world import GATEWAY4, GATEWAY6, Client, World, packed

VERSIONS = pytest.mark.parametrize("version", [4, 6])
HOSTS = {4: "192.0.2.80", 6: "2001:db8::80"}


class Scales(World):
    """Weighs all that the client sends and gets, beside the NAT's own figures."""

    sent = received = 0

    def put(self, packet: Packet | bytes, header: bytes | None = None, end: bool = True) -> None:
        self.sent += len(bytes(packet))
        super().put(packet, header, end)

    def got(self) -> list[Packet]:
        packets = super().got()
        self.received += sum(len(bytes(packet)) for packet in packets)
        return packets

    def even(self) -> None:
        assert (self.peer.from_tunnel_bytes, self.peer.to_tunnel_bytes) == (
            self.sent, self.received,
        )  # fmt: skip


@VERSIONS
@pytest.mark.parametrize("offload", [False, True])
def test_everything_that_goes_in_or_comes_out_counts(version: int, offload: bool) -> None:
    world = Scales(offload)
    client = Client(world, version)
    client.send("S", options=[("MSS", 1460), ("WScale", 7)])
    world.outward.streams[-1].connected(world.now)
    client.take(world.got())
    client.send("A")
    client.send("PA", b"request")
    world.outward.streams[-1].receive(b"an answer" * 30, world.now)
    client.take(world.got())
    client.send("A")
    world.even()
    assert world.received > 270 + 2 * 40, "headers and ACKs count, too"

    host = HOSTS[version]
    world.put(world.ip(version) / UDP(sport=5000, dport=9) / Raw(b"question"))
    datagrams = world.outward.datagrams[-1]
    datagrams.receive(b"x" * 900, packed(host), 9, now=world.now)
    datagrams.receive(b"y" * 4000, packed(host), 9, now=world.now)
    world.put(ping(world, version))
    world.got()
    world.outward.echoes[-1].reply(now=world.now)
    gateway = {4: GATEWAY4, 6: GATEWAY6}[version]
    world.put(world.ip(version, gateway) / UDP(sport=4444, dport=53) / Raw(bytes(12) + b"name"))
    world.dns.questions[-1][3](b"dns answer, which is none")
    assert len(world.got()) >= 2
    world.even()

    # What is refused was sent, and the refusal is got.
    world.put(world.ip(version, gateway) / UDP(sport=4444, dport=54) / Raw(b"to nobody"))
    world.put(world.ip(version, gateway) / TCP(sport=4444, dport=54, flags="S"))
    world.put(b"\x45 no packet")
    assert len(world.got()) == 2
    world.even()
    client.send("FA")
    world.outward.streams[-1].finish(world.now)
    world.got()
    world.even()


@VERSIONS
def test_fragments_count_as_the_packets_that_they_are(version: int) -> None:
    world = Scales(mtu=1300)
    world.put(world.ip(version) / UDP(sport=5000, dport=9) / Raw(b"question"))
    world.outward.datagrams[-1].receive(b"y" * 4000, packed(HOSTS[version]), 9, now=world.now)
    assert len(world.got()) == 4
    world.even()


@VERSIONS
def test_a_super_segment_counts_as_what_a_card_makes_of_it(version: int) -> None:
    """The same figure, whatever a device's link lets its kernel hand over in one piece."""
    weights = []
    ip_header = 20 if version == 4 else 40
    for offload in (False, True):
        world = World(offload)
        client = Client(world, version)
        client.connect()
        world.got()
        before = world.peer.from_tunnel_bytes, world.peer.to_tunnel_bytes
        data = bytes(5 * 1000 + 1)
        if offload:
            gso = GSO_TCPV4 if version == 4 else GSO_TCPV6
            whole = client.segment("PA", data, options=[("NOP", None)] * 4)
            # The length of headers is a hint, which kernels give as they like.
            head = struct.pack("<BBHHHH", 1, gso, 1400, 1000, ip_header, 16)
            world.put(bytes(whole), head)
        else:
            for at in range(0, len(data), 1000):
                client.send("A", data[at : at + 1000], options=[("NOP", None)] * 4)
        world.outward.streams[-1].receive(b"down" * 2500, world.now)
        world.peer.pull(world.now)
        up, down = world.peer.from_tunnel_bytes, world.peer.to_tunnel_bytes
        weights.append((up - before[0], down - before[1]))
        packets = world.link.take()
        assert any(fields[0] for fields, _ in packets) is offload
    (up, down), _ = weights
    assert up == len(data) + 6 * (ip_header + 24)
    acks = 2 * ip_header
    assert abs(weights[1][1] - down) <= 6 * (acks + 40), "fewer ACKs of its own, at most"
    assert weights[1][0] == up


def test_segments_of_udp_count_as_datagrams_each() -> None:
    world = World(True, True)
    head = struct.pack("<BBHHHH", 1, GSO_UDP_L4, 0, 100, 20, 6)
    packet = world.ip(4) / UDP(sport=5000, dport=9) / Raw(bytes(450))
    world.put(bytes(packet), head)
    assert world.peer.from_tunnel_bytes == 450 + 5 * 28
    world.outward.datagrams[-1].receive(bytes(450), packed(HOSTS[4]), 9, size=100, now=world.now)
    world.peer.pull(world.now)
    assert world.peer.to_tunnel_bytes == 450 + 5 * 28
    assert len(world.link.take()) == 1


@VERSIONS
def test_what_was_joined_counts_as_it_was_sent(version: int) -> None:
    world = World(True)
    client = Client(world, version)
    client.connect()
    world.got()
    before = world.peer.from_tunnel_bytes
    packets = []
    for number in range(9):
        packets.append(bytes(client.segment("A", bytes(1000 if number < 8 else 17))))
        client.seq += 1000
    Feeder(world).feed(packets)
    assert world.peer.from_tunnel_bytes - before == sum(map(len, packets))
    assert len(world.outward.streams[-1].sent) == 8017


def test_an_offload_header_that_lies_counts_nothing_that_is_not_there() -> None:
    world = World(True)
    for gso in (GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, 0, 77):
        for transport in (0, 20, 39, 40, 41, 65535):
            before = world.peer.from_tunnel_bytes
            packet = bytes(world.ip(4) / TCP(flags="A") / Raw(b"x"))
            world.put(packet, struct.pack("<BBHHHH", 1, gso, 65535, 65535, transport, 16))
            assert world.peer.from_tunnel_bytes - before == len(packet)


@pytest.mark.parametrize("offload", [False, True])
def test_another_link_goes_on_with_the_figures_and_none_counts_twice(offload: bool) -> None:
    world = Scales(offload)
    client = Client(world)
    client.connect()
    for step in range(6):
        world.outward.streams[-1].receive(b"down" * 100, world.now)
        client.take(world.got())
        client.send("A")
        world.even()
        world.peer.link_lost(world.now)
        world.even()
        if step % 2:
            # A link that had carried somebody else's packets before.
            world.link = PacketLog(offload)
            world.link.reserve_packet(1000)
            world.link.take()
        world.peer.set_out(world.link, world.wake, world.now)
        world.got()
        world.even()
    world.nat.remove_peer(world.peer, world.now)
    world.even()

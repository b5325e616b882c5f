"""A small answer is sent before more of a download is read."""

from __future__ import annotations

import errno

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.packet import Packet

from splice.peer import SMALL, SMALL_EVERY
from tests.fakes.outward import FakeStream
from tests.gateway.nat.world import HOST4, Client, World, checked, packed

ROOM = 128 * 1024
"""Of a link, in bytes."""


class Download:
    """A connection of port 80, whose host always has more to say, and the link that limits it."""

    def __init__(self) -> None:
        self.world = world = World()
        world.link.space = ROOM
        world.peer.set_out(world.link, world.wake, world.now)
        self.client = Client(world).connect()
        (self.host,) = world.outward.streams
        world.now += 1
        self.host.receive(b"d" * 1_000_000, world.now)
        more, packets = self.filling()
        assert more and len(packets) > 40

    def filling(self) -> tuple[bool, list[Packet]]:
        """What one filling of the link puts into it, and whether another is asked for."""
        world = self.world
        more = world.peer.pull(world.now)
        packets = [checked(packet, fields, world.link) for fields, packet in world.link.take()]
        self.client.take([packet for packet in packets if packet.sport == 80])
        # Acknowledged at once, as by a client that is never the limit.
        self.client.send("A")
        return more, packets

    def other(self) -> tuple[Client, FakeStream]:
        """Another connection, whose SYN has just come."""
        client = Client(self.world, dport=7000, sport=50000)
        client.send("S", options=[("MSS", 1460), ("WScale", 7)])
        return client, self.world.outward.streams[-1]

    def asked(self) -> FakeStream:
        """Another connection, open and quiet, a while ago."""
        client, host = self.other()
        host.connected(self.world.now)
        self.world.now += 1
        client.take([packet for packet in self.filling()[1] if packet.sport == 7000])
        client.send("PA", b"request")
        self.world.now += 1
        return host

    def goes_on(self) -> None:
        """The download has lost nothing but a filling."""
        more, packets = self.filling()
        assert more and len(packets) > 40 and {packet.sport for packet in packets} == {80}


def flags_of(packets: list[Packet]) -> list[str]:
    return [str(packet[TCP].flags) for packet in packets]


def test_a_syn_is_answered_first() -> None:
    download = Download()
    download.other()[1].connected(download.world.now)
    more, packets = download.filling()
    assert more and flags_of(packets) == ["SA"]
    download.goes_on()


def test_a_refusal_is_told_first() -> None:
    download = Download()
    download.other()[1].refuse(errno.ECONNREFUSED, download.world.now)
    more, packets = download.filling()
    assert more and flags_of(packets) == ["RA"]
    download.goes_on()


def test_an_error_is_told_first() -> None:
    download = Download()
    download.other()[1].refuse(errno.EHOSTUNREACH, download.world.now)
    world = download.world
    assert world.peer.pull(world.now)
    ((fields, packet),) = world.link.take()
    assert checked(packet, fields, world.link).haslayer(ICMP)
    download.goes_on()


def test_what_a_quiet_host_says_is_sent_first() -> None:
    download = Download()
    host = download.asked()
    host.receive(b"answer", download.world.now)
    more, packets = download.filling()
    assert more and [bytes(packet[TCP].payload) for packet in packets] == [b"answer"]
    download.goes_on()


def test_a_datagram_is_sent_first() -> None:
    download = Download()
    world = download.world
    world.put(world.ip() / UDP(sport=50000, dport=7000) / b"question")
    (socket,) = world.outward.datagrams
    world.now += 1
    socket.receive(b"answer", packed(HOST4), 7000, now=world.now)
    assert world.peer.pull(world.now)
    ((fields, packet),) = world.link.take()
    assert bytes(checked(packet, fields, world.link)[UDP].payload) == b"answer"
    download.goes_on()


def test_the_answers_of_several_go_together() -> None:
    download = Download()
    hosts = [download.asked()]
    for port in (50001, 50002):
        client = Client(download.world, dport=7000, sport=port)
        client.send("S", options=[("MSS", 1460), ("WScale", 7)])
        hosts.append(download.world.outward.streams[-1])
        hosts[-1].connected(download.world.now)
        download.world.now += 1
        client.take([packet for packet in download.filling()[1] if packet.dport == port])
        client.send("A")
        download.world.now += 1
    for host in hosts:
        host.receive(b"answer", download.world.now)
    more, packets = download.filling()
    assert more and [packet.dport for packet in packets] == [50000, 50001, 50002]
    download.goes_on()


def test_much_that_a_quiet_host_says_is_sent_with_the_download() -> None:
    download = Download()
    host = download.asked()
    host.receive(b"a" * (SMALL + 1), download.world.now)
    more, packets = download.filling()
    assert more and {packet.sport for packet in packets} == {80, 7000}


@pytest.mark.parametrize("kind", ["syn", "data"])
def test_a_second_one_at_the_same_time_goes_with_the_download(kind: str) -> None:
    """So that many small ones do not make every filling short."""
    download = Download()
    host = download.asked()
    host.receive(b"answer", download.world.now)
    assert len(download.filling()[1]) == 1
    download.world.now += SMALL_EVERY / 2
    if kind == "syn":
        Client(download.world, dport=7000, sport=50001).send("S")
        download.world.outward.streams[-1].connected(download.world.now)
    else:
        download.goes_on()  # and the host's flow leaves the queue
        host.receive(b"answer", download.world.now)
    more, packets = download.filling()
    assert more and {packet.sport for packet in packets} == {80, 7000}
    download.world.now += SMALL_EVERY
    download.goes_on()
    host.receive(b"answer", download.world.now)
    assert len(download.filling()[1]) == 1


def test_an_answer_that_has_left_by_itself_ends_no_filling() -> None:
    download = Download()
    download.other()[1].connected(download.world.now)
    assert len(download.world.link.take()) == 1
    download.goes_on()


def test_it_is_over_when_it_was_sent() -> None:
    download = Download()
    client, host = download.other()
    host.connected(download.world.now)
    client.take(download.filling()[1])
    download.world.now += 1
    client.send("A")
    client.send("A", b"u" * 1460, end=False)
    client.send("PA", b"u" * 1460)
    more, packets = download.filling()
    assert more and {packet.sport for packet in packets} == {80, 7000}, "an ACK of an upload"


def test_nothing_is_asked_for_when_nobody_has_more_to_say() -> None:
    world = World()
    client = Client(world).connect()
    world.now += 1
    (host,) = world.outward.streams
    host.receive(b"answer", world.now)
    assert not world.peer.pull(world.now)
    client.take([checked(packet, fields, world.link) for fields, packet in world.link.take()])
    Client(world, sport=50000).send("S")
    world.outward.streams[-1].connected(world.now)
    assert not world.peer.pull(world.now)

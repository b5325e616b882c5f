"""Urgent bytes through the splice: the mark on both sides where the byte is."""

from __future__ import annotations

import pytest
from scapy.layers.inet import TCP

from tests.fakes.backlog import backlog
from tests.gateway.nat.world import Client, World

OFFLOAD = pytest.mark.parametrize("offload", [False, True])
VERSIONS = pytest.mark.parametrize("version", [4, 6])


def marks(client: Client) -> list[tuple[bytes, int]]:
    """Payload of what the client receives now, and how far ahead the urgent byte ends."""
    found = []
    for packet in client.world.got():
        tcp = packet[TCP]
        found.append((client.take([packet]), int(tcp.urgptr) if tcp.flags.U else 0))
    return found


@OFFLOAD
@VERSIONS
def test_the_hosts_urgent_byte_is_the_clients_and_what_follows_it_comes(
    version: int, offload: bool
) -> None:
    client = Client(World(offload=offload), version).connect()
    world, (stream,) = client.world, client.world.outward.streams
    stream.receive_urgent(b"before!", world.now)
    stream.receive(b"after", world.now)
    assert marks(client) == [(b"", 7), (b"before", 7), (b"!after", 1)]
    client.send("A")
    stream.receive(b"more", world.now)
    assert marks(client) == [(b"more", 0)]
    assert world.peer.tcp.popitem()[1].mark == 0


def test_a_client_that_takes_nothing_is_told_all_the_same() -> None:
    client = Client(World()).connect()
    world, (stream,) = client.world, client.world.outward.streams
    client.send("A", window=0)
    assert world.got() == []
    stream.receive_urgent(b"x" * 99 + b"!", world.now)
    assert marks(client) == [(b"", 100)]
    stream.receive(b"nothing new", world.now)
    assert world.got() == []


@VERSIONS
def test_the_clients_urgent_byte_is_the_hosts(version: int) -> None:
    client = Client(World(), version).connect()
    world, (stream,) = client.world, client.world.outward.streams
    client.send("PA", b"before", end=False)
    client.send("PAU", b"ab!after", urgptr=3)
    client.send("PA", b"more")
    assert bytes(stream.sent) == b"beforeab!aftermore"
    assert stream.urgent == [9]
    world.balanced()


def test_it_keeps_its_place_in_front_of_a_slow_host() -> None:
    client = Client(World()).connect()
    world, (stream,) = client.world, client.world.outward.streams
    stream.capacity = 4
    client.send("PA", b"before")
    client.send("PAU", b"!", urgptr=1)
    client.send("PA", b"after")
    assert (bytes(stream.sent), stream.urgent) == (b"befo", [])
    for capacity in (6, 7, 9, 100):
        stream.drain(capacity, world.now)
    assert bytes(stream.sent) == b"before!after"
    assert stream.urgent == [7]
    assert backlog(world.peer) == 0


def test_a_question_in_urgent_data_is_a_question() -> None:
    world = World()
    client = Client(world, dport=53, dst="10.9.0.1")
    client.send("S", options=[("MSS", 1460), ("WScale", 7)])
    client.take(world.got())
    client.send("A")
    client.send("PAU", b"\0\x0c" + bytes(12), urgptr=5)
    assert [wire for wire, *_ in world.dns.questions] == [bytes(12)]

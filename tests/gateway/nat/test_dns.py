"""Questions to the gateway's address, over UDP and over TCP."""

from __future__ import annotations

import pytest
from scapy.layers.dns import DNS
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.packet import Raw

from gateway.nat.admit_tcp import DNS_IDLE_TIMEOUT
from gateway.nat.dns import ANSWER_TIMEOUT, MAX_PIPELINED, Questions
from gateway.nat.limits import Limits
from tests.gateway.nat.world import GATEWAY4, GATEWAY6, Client, World

GATEWAY = {4: GATEWAY4, 6: GATEWAY6}
QUESTION = bytes(range(12)) + b"question"


class DnsClient(Client):
    """A TCP connection to the resolver, which answers without a network."""

    def __init__(self, world: World, version: int = 4) -> None:
        super().__init__(world, version, dport=53, dst=GATEWAY[version])
        self.send("S", options=[("MSS", 1460), ("WScale", 7)])
        self.take(world.got())
        self.send("A")

    def ask(self, *questions: bytes) -> None:
        stream = b"".join(len(q).to_bytes(2, "big") + q for q in questions)
        self.send("PA", stream)


@pytest.mark.parametrize("version", [4, 6])
def test_over_udp(version: int) -> None:
    world = World()
    world.put(world.ip(version, GATEWAY[version]) / UDP(sport=4444, dport=53) / Raw(QUESTION))
    ((wire, over_tcp, client, reply),) = world.dns.questions
    assert (wire, over_tcp, client) == (QUESTION, False, "peer-1")
    woken = len(world.woken)
    world.peer.pull(world.now)
    reply(b"answer")
    assert len(world.woken) == woken + 1
    answer = world.one()
    assert (answer.src, answer[UDP].sport, answer[UDP].dport) == (GATEWAY[version], 53, 4444)
    found = answer[UDP].payload
    assert bytes(found if not isinstance(found, DNS) else found.original)[:6] == b"answer"
    # A second answer to the same question is nobody's.
    reply(b"answer")
    assert world.got() == []
    world.balanced()


def test_answers_after_the_client_has_gone_go_nowhere() -> None:
    world = World()
    world.put(world.ip(4, GATEWAY4) / UDP(sport=4444, dport=53) / Raw(QUESTION))
    world.nat.remove_peer(world.peer, world.now)
    world.dns.questions[0][3](b"answer")
    assert world.link.take() == []


def test_questions_are_bounded_and_the_bound_forgets() -> None:
    world = World(limits=Limits(dns_per_peer=3))
    packet = world.ip(4, GATEWAY4) / UDP(sport=4444, dport=53) / Raw(QUESTION)
    for _ in range(5):
        world.put(packet)
    assert len(world.dns.questions) == 3
    assert world.count("dns__too_many__dropped") == 2
    world.now += ANSWER_TIMEOUT + 1
    world.put(packet)
    assert len(world.dns.questions) == 4
    world.balanced()


def test_other_ports_of_the_gateway_are_closed() -> None:
    world = World()
    world.put(world.ip(4, GATEWAY4) / UDP(sport=1, dport=123) / Raw(b"x"))
    answer = world.one()
    assert (answer[ICMP].type, answer[ICMP].code) == (3, 3)
    Client(world, dport=22, dst=GATEWAY4).send("S")
    assert world.one()[TCP].flags == "RA"
    assert world.outward.open_sockets() == 0
    world.balanced()


@pytest.mark.parametrize("version", [4, 6])
def test_over_tcp(version: int) -> None:
    world = World()
    client = DnsClient(world, version)
    client.ask(QUESTION, QUESTION + b"2")
    assert [(q[0], q[1]) for q in world.dns.questions] == [
        (QUESTION, True),
        (QUESTION + b"2", True),
    ]
    world.got()
    world.dns.questions[1][3](b"second")
    world.dns.questions[0][3](b"first")
    assert client.take(world.got()) == b"\0\x06second\0\x05first"
    client.send("FA")
    packets = world.got()
    assert packets[-1][TCP].flags.F
    client.take(packets)
    client.send("A")
    assert world.peer.tcp == {}
    assert world.nat.sockets == 0
    world.balanced()


def test_the_end_waits_for_the_last_answer() -> None:
    world = World()
    client = DnsClient(world)
    client.ask(QUESTION)
    client.send("FA")
    assert not any(packet[TCP].flags.F for packet in world.got())
    world.dns.questions[0][3](b"answer")
    packets = world.got()
    assert client.take(packets) == b"\0\x06answer"
    assert packets[-1][TCP].flags.F


def test_questions_in_single_bytes() -> None:
    world = World()
    client = DnsClient(world)
    for byte in len(QUESTION).to_bytes(2, "big") + QUESTION:
        client.send("PA", bytes([byte]))
    assert [q[0] for q in world.dns.questions] == [QUESTION]


def test_pipelining_is_bounded() -> None:
    world = World()
    client = DnsClient(world)
    client.ask(*[QUESTION] * (MAX_PIPELINED * 3))
    assert len(world.dns.questions) == MAX_PIPELINED
    for number in range(MAX_PIPELINED * 3):
        world.dns.questions[number][3](b"answer")
        assert len(world.dns.questions) <= MAX_PIPELINED + number + 1
    assert client.take(world.got()) == b"\0\x06answer" * (MAX_PIPELINED * 3)


def test_a_message_too_short_to_be_one_resets_the_connection() -> None:
    world = World()
    client = DnsClient(world)
    client.ask(b"short")
    assert world.got()[-1][TCP].flags.R
    assert world.count("dns__tcp__malformed") == 1
    assert world.peer.tcp == {}


def test_a_silent_connection_is_closed_in_good_order() -> None:
    world = World()
    client = DnsClient(world)
    world.pass_time(DNS_IDLE_TIMEOUT + 1)
    packets = world.got()
    assert packets[-1][TCP].flags.F
    client.take(packets)
    client.send("FA")
    world.pass_time(10)
    assert world.peer.tcp == {}


def test_a_place_is_given_back_once() -> None:
    questions = Questions(1)
    place = questions.take(0.0)
    assert place is not None
    assert questions.take(1.0) is None
    assert questions.done(place)
    assert not questions.done(place)
    assert len(questions) == 0

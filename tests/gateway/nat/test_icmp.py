"""Ping through the NAT, and ICMP that is no ping."""

from __future__ import annotations

import errno

import pytest
from scapy.layers.inet import ICMP, IP, UDP, ICMPerror, defragment
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6TimeExceeded
from scapy.packet import Packet, Raw

from gateway.nat.icmp import TIMEOUT
from gateway.nat.limits import Limits
from gateway.nat.ports import ORIGIN_ICMP, ORIGIN_ICMP6, ORIGIN_LOCAL, NetworkError
from tests.gateway.nat.world import (
    CLIENT4,
    GATEWAY4,
    GATEWAY6,
    HOST4,
    HOST6,
    World,
    packed,
)

VERSIONS = pytest.mark.parametrize("version", [4, 6])
HOST = {4: HOST4, 6: HOST6}


def ping(
    world: World, version: int = 4, ident: int = 7, seq: int = 1, data: bytes = b"abcdefgh",
    dst: str | None = None, ttl: int = 64, df: bool = False,
) -> Packet:  # fmt: skip
    if version == 4:
        flags = "DF" if df else 0
        return world.ip(4, dst, ttl=ttl, flags=flags) / ICMP(id=ident, seq=seq) / Raw(data)
    ip = world.ip(6, dst, hlim=ttl)
    return ip / ICMPv6EchoRequest(id=ident, seq=seq, data=data)


@VERSIONS
def test_the_reply_comes_from_the_host_with_its_ttl(version: int) -> None:
    world = World()
    world.put(ping(world, version, ttl=30))
    assert world.got() == []
    (sock,) = world.outward.echoes
    (sent,) = sock.sent
    assert (sent.host, sent.ttl) == (packed(HOST[version]), 29)
    sock.reply(ttl=57, now=world.now)
    answer = world.one()
    assert answer.src == HOST[version]
    if version == 4:
        assert answer.ttl == 56
        reply = answer[ICMP]
        assert (reply.type, reply.id, reply.seq) == (0, 7, 1)
        assert bytes(reply.payload) == b"abcdefgh"
    else:
        assert answer.hlim == 56
        reply = answer[ICMPv6EchoReply]
        assert (reply.id, reply.seq, reply.data) == (7, 1, b"abcdefgh")
    world.balanced()


def test_one_socket_for_an_identifier() -> None:
    world = World()
    world.put(ping(world, ident=1))
    world.put(ping(world, ident=1, dst="192.0.2.99"))
    world.put(ping(world, ident=2))
    world.put(ping(world, 6, ident=1))
    assert [len(sock.sent) for sock in world.outward.echoes] == [2, 1, 1]


@VERSIONS
def test_the_gateway_answers_for_itself_and_for_nobody_else(version: int) -> None:
    world = World()
    gateway = {4: GATEWAY4, 6: GATEWAY6}[version]
    world.put(ping(world, version, dst=gateway, data=bytes(3)))
    assert world.one().src == gateway
    assert world.outward.echoes == []
    assert world.count("icmp__gateway_echo__answered") == 1


@VERSIONS
def test_routers_on_the_way_show_themselves(version: int) -> None:
    world = World()
    world.put(ping(world, version, ttl=1))
    first = world.one()
    assert first.src == {4: GATEWAY4, 6: GATEWAY6}[version]
    world.put(ping(world, version, ttl=2, seq=9))
    sock = world.outward.echoes[0]
    assert sock.sent[0].ttl == 1
    router = "203.0.113.1" if version == 4 else "2001:db8:f::1"
    origin, kind = (ORIGIN_ICMP, 11) if version == 4 else (ORIGIN_ICMP6, 3)
    quoted = bytes(sock.sent[0].data[:4]) + b"\x5a\x5a" + sock.sent[0].data[6:]
    sock.report(
        NetworkError(
            errno.EHOSTUNREACH, origin, kind, 0, 0, packed(router), packed(HOST[version]), 0, quoted
        ),
        world.now,
    )
    answer = world.one()
    assert answer.src == router
    if version == 4:
        assert answer[ICMP].type == 11
        assert (answer[ICMPerror].id, answer[ICMPerror].seq) == (7, 9)
    else:
        inner = bytes(answer[ICMPv6TimeExceeded].payload)
        assert inner[40:48] == bytes((128, 0)) + inner[42:44] + bytes((0, 7, 0, 9))
    world.balanced()


def test_sizes_beyond_the_mtu_come_back_in_fragments() -> None:
    world = World()
    data = bytes(range(250)) * 20
    for piece in ping(world, data=data).fragment(1400):
        world.put(piece)
    sock = world.outward.echoes[0]
    assert sock.sent[0].data[8:] == data
    assert sock.fragmentation is True
    sock.reply(now=world.now)
    whole = defragment([IP(bytes(p)) for p in world.got()])
    assert bytes(IP(bytes(whole[0]))[ICMP].payload) == data


def test_too_big_for_the_path() -> None:
    world = World()
    world.put(ping(world, df=True))
    sock = world.outward.echoes[0]
    assert sock.fragmentation is False
    sock.failures.append(errno.EMSGSIZE)
    sock.errors.append(
        NetworkError(errno.EMSGSIZE, ORIGIN_LOCAL, 0, 0, 1300, None, packed(HOST4), 0, b"")
    )
    world.put(ping(world, df=True, data=bytes(1400)))
    answer = world.one()
    assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, 1300)
    world.balanced()


def test_sessions_end_and_are_bounded() -> None:
    world = World(limits=Limits(echo_per_peer=2))
    for ident in (1, 2, 3):
        world.put(ping(world, ident=ident))
        world.now += 1
    assert [sock.closed for sock in world.outward.echoes] == [True, False, False]
    assert world.count("icmp__session__evicted") == 1
    world.pass_time(TIMEOUT + 1)
    assert world.nat.sockets == 0
    assert world.peer.echo == {}
    assert world.nat.get_timer() is None


def test_no_ping_socket_is_told() -> None:
    world = World()
    world.outward.refusals.append(errno.EACCES)
    world.put(ping(world))
    assert world.one()[ICMP].code == 13
    assert world.count("icmp__prohibited__icmp_sent") == 1
    world.balanced()


def test_other_icmp_is_counted_and_dropped() -> None:
    world = World()
    world.put(IP(src=CLIENT4, dst=HOST4) / ICMP(type=13))
    world.put(IP(src=CLIENT4, dst=HOST4) / ICMP(type=0))
    world.put(IP(src=CLIENT4, dst=HOST4) / ICMP(type=3, code=1) / bytes(28))
    world.put(IP(src=CLIENT4, dst=HOST4) / ICMP(type=3, code=3) / bytes(10))
    world.put(
        IP(src=CLIENT4, dst=HOST4)
        / ICMP(type=3, code=3)
        / bytes(IP(src=HOST4, dst=CLIENT4) / UDP(sport=7, dport=1234))
    )
    bad = bytearray(bytes(ping(world)))
    bad[-1] ^= 1
    world.put(bytes(bad))
    assert world.got() == []
    assert world.counters.snapshot() == {
        "icmp__bad_checksum__dropped": 1,
        "icmp__error__dropped": 1,
        "icmp__error_no_flow__dropped": 1,
        "icmp__error_quote__dropped": 1,
        "icmp__other__dropped": 2,
        "tunnel__packets": 6,
    }
    world.balanced()

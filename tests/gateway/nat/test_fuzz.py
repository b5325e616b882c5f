"""Any packets from the tunnel, in any order: nothing raises, all is counted, memory is bounded."""

from __future__ import annotations

import errno
import struct
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest
from scapy.packet import Raw

from gateway.nat.dns import Questions
from gateway.nat.limits import Limits
from gateway.nat.tcp import TcpFlow
from tests.fakes.backlog import backlog
from tests.gateway.nat.world import GATEWAY4, GATEWAY6, HOST4, HOST6, Client, World

_PLAIN = World()
EVENTS = ["", "open", "connect", "refuse", "receive", "urgent", "finish", "break", "time", "fail"]
LIMITS = Limits(
    flows=40,
    flows_per_peer=30,
    half_open_per_peer=4,
    connects_waiting_per_peer=3,
    udp_per_peer=6,
    echo_per_peer=3,
    remotes_per_mapping=5,
    dns_per_peer=5,
    fragments_per_peer=8000,
    receive_window_min=4096,
)

hosts4 = st.sampled_from([*[HOST4] * 9, GATEWAY4, "127.0.0.1", "224.0.0.1", "198.51.100.1"])
hosts6 = st.sampled_from([*[HOST6] * 9, GATEWAY6, "::1", "ff02::1", "64:ff9b::7f00:1"])
ports = st.sampled_from([0, 53, *[80] * 6, 4000])
payloads = st.binary(max_size=60) | st.sampled_from([bytes(1000), bytes(3000)])


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """A plausible packet, sometimes damaged; sometimes mere junk."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=100))
    version = draw(st.sampled_from([4, 6]))
    ttl = draw(st.sampled_from([0, 1, 2, *[64] * 9]))
    world = _PLAIN
    if version == 4:
        fields: dict[str, Any] = {"ttl": ttl}
        if draw(st.integers(0, 3)) == 0:
            fields["flags"] = draw(st.sampled_from(["DF", "MF"]))
            fields["frag"] = draw(st.sampled_from([0, 0, 0, 1, 185, 8000]))
            fields["id"] = draw(st.integers(1, 3))
        ip = world.ip(4, draw(hosts4), **fields)
    else:
        ip = world.ip(6, draw(hosts6), hlim=ttl)
    kind = draw(st.sampled_from(["tcp", "tcp", "tcp", "udp", "icmp", "other"]))
    data = draw(payloads)
    if kind == "tcp":
        flags = draw(st.sampled_from(["S", "S", "A", "PA", "PAU", "FA", "R", "SA", "F", "", "SRF"]))
        ip = ip / TCP(
            sport=draw(ports), dport=draw(ports), flags=flags,
            seq=draw(st.sampled_from([0, *[1000, 1001] * 4, 2**32 - 1])),
            ack=draw(st.sampled_from([0, *[1] * 6, 501, 2**31])),
            window=draw(st.sampled_from([0, 1, 65535])),
            urgptr=draw(st.sampled_from([0, 1, 20, 60, 65535])),
        )  # fmt: skip
    elif kind == "udp":
        ip = ip / UDP(sport=draw(ports), dport=draw(ports))
    elif kind == "icmp":
        message = draw(st.integers(0, 255))
        if version == 4:
            ip = ip / ICMP(type=draw(st.sampled_from([8, 8, 3, message])), id=draw(ports), seq=1)
        else:
            ip = ip / ICMPv6EchoRequest(id=draw(ports), seq=1)
    raw = bytearray(bytes(ip / Raw(data)))
    if draw(st.integers(0, 9)) == 0:
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    if draw(st.integers(0, 15)) == 0:
        del raw[draw(st.integers(0, len(raw))) :]
    return bytes(raw)


headers = st.one_of(
    st.just(bytes(10)),
    st.binary(min_size=10, max_size=10),
    st.builds(
        lambda *fields: struct.pack("<BBHHHH", *fields),
        st.sampled_from([0, 1, 2, 3]),
        st.sampled_from([0, 1, 4, 5]),
        st.integers(0, 100),
        st.sampled_from([0, 1, 100, 1200]),
        st.sampled_from([20, 40]),
        st.sampled_from([6, 16]),
    ),
)
steps = st.lists(
    st.tuples(
        packets(),
        st.none() | st.none() | headers,
        st.sampled_from(EVENTS),
    ),
    min_size=5,
    max_size=40,
)


def play(world: World, event: str) -> None:
    """Something happens on the network's side, or time passes."""
    outward = world.outward
    if event == "open":
        # The connection that most of the segments made above would belong to.
        for version in (4, 6):
            client = Client(world, version, sport=80)
            client.send("S")
            for stream in outward.streams[-1:]:
                if not stream.closed:
                    stream.connected(world.now)
            client.ack = 1
            client.send("A")
    if event == "time":
        world.pass_time(45)
    elif event == "fail":
        outward.refusals.append(errno.EHOSTUNREACH)
        for datagrams in outward.datagrams:
            datagrams.failures.extend([errno.ECONNREFUSED, errno.EMSGSIZE])
    for stream in outward.streams:
        if stream.closed:
            continue
        if event == "connect":
            stream.connected(world.now)
        elif event == "refuse":
            stream.refuse(errno.ECONNREFUSED, world.now)
        elif event == "receive":
            stream.receive(b"data" * 500, world.now)
        elif event == "urgent":
            stream.receive_urgent(b"in the midst!", world.now)
        elif event == "finish":
            stream.finish(world.now)
    if event == "receive":
        for sock in outward.datagrams:
            if not sock.closed:
                sock.receive(bytes(3000), bytes(sock.sent[-1].host) if sock.sent else bytes(4), 9)
        for echo in outward.echoes:
            if not echo.closed and echo.sent:
                echo.reply(now=world.now)
    if event == "break":
        world.peer.link_lost(world.now)
        world.peer.set_out(world.link, world.wake, world.now)


@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps, st.booleans())
def test_anything(script: list[tuple[bytes, bytes | None, str]], offload: bool) -> None:
    world = World(offload=offload, offload_udp=offload, limits=LIMITS, random_bytes=bytes)
    for packet, header, event in script:
        world.put(packet, header if offload or header is not None else None)
        play(world, event)
        world.got()
        world.balanced()
        assert world.nat.sockets == world.outward.open_sockets() + open_dns(world)
        assert world.nat.sockets <= LIMITS.flows_per_peer
        assert len(world.peer.connects.under_way) <= LIMITS.half_open_per_peer
        assert len(world.peer.connects.waiting) <= LIMITS.connects_waiting_per_peer
        assert len(world.peer.mappings) <= LIMITS.udp_per_peer
        assert len(world.peer.echo) <= LIMITS.echo_per_peer
        assert world.peer.reassembler.held <= LIMITS.fragments_per_peer
        assert isinstance(world.peer.questions, Questions)
        assert len(world.peer.questions) <= LIMITS.dns_per_peer
        flows = [*world.peer.tcp.values(), *world.peer.draining]
        assert world.peer.in_flight == sum(flow.in_flight for flow in flows)
    world.nat.remove_peer(world.peer, world.now)
    assert world.nat.sockets == 0
    assert world.outward.open_sockets() == 0
    assert world.peer.in_flight == 0
    assert backlog(world.peer) == 0
    assert world.nat.get_timer() is None


def open_dns(world: World) -> int:
    """Connections to the resolver count as sockets, though they hold no descriptor."""
    return sum(
        isinstance(flow, TcpFlow)
        and flow.port == 53
        and flow.host in (world.peer.gateway_ipv4, world.peer.gateway_ipv6)
        for flow in [*world.peer.tcp.values(), *world.peer.draining]
        if flow.sock is not None
    )

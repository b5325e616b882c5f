"""Sockets among clients: fair shares, the reserve, who gives back and what goes first."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP

from gateway.nat.limits import Limits
from gateway.nat.router import Nat, TunnelPeer
from gateway.nat.shares import LOOK_INTERVAL, PATIENCE, UNANSWERED
from netstack.checksum import add, finish, pseudo_header
from netstack.ip import PROTO_TCP, PROTO_UDP, pack_ip
from netstack.tcp_segment import ACK, SYN
from tests.fakes.outward import FakeDatagrams, FakeStream, PacketLog
from tests.gateway.nat.world import HOST4, World, addresses, packed

SEGMENT = struct.Struct("!HHIIBBHHH").pack
SEGMENT_OF = struct.Struct("!HHIIBBHHH").unpack_from
DATAGRAM = struct.Struct("!HHHH").pack
FLOWS = 320
LIMITS = Limits(flows=FLOWS, flows_per_peer=240, half_open_per_peer=240, udp_per_peer=240)
RESERVE = FLOWS // 16


class Crowd:
    """Several clients of one NAT, whose flows are told apart by their ports."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.world = World(limits=limits)
        self.nat: Nat = self.world.nat
        self.now = 1000.0
        self.clients: dict[str, TunnelPeer] = {}
        self.nat.remove_peer(self.world.peer, self.now)

    def join(self, name: str) -> TunnelPeer:
        n = len(self.clients) + 2
        self.clients[name] = self.nat.add_peer(
            name, addresses(f"10.9.1.{n}", f"fd00:9::{n}"), 1500, self.now
        )
        self.clients[name].set_out(PacketLog(), lambda: None, self.now)
        return self.clients[name]

    def put(self, peer: TunnelPeer, protocol: int, body: bytes) -> None:
        """A packet; scapy's were nine tenths of these tests' time."""
        there = packed(HOST4)
        raw = bytearray(20 + len(body))
        pack_ip(raw, 0, len(body), protocol, peer.ipv4, there)
        at = 16 if protocol == PROTO_TCP else 6
        total = add(body) + pseudo_header(peer.ipv4, there, protocol, len(body))
        raw[20:] = body[:at] + finish(total).to_bytes(2, "big") + body[at + 2 :]
        peer.from_tunnel(memoryview(raw), 0, len(raw), False, self.now)
        peer.end_batch(self.now)

    def segment(self, peer: TunnelPeer, port: int, flags: int, seq: int = 0, ack: int = 0) -> None:
        self.put(peer, PROTO_TCP, SEGMENT(port, 80, seq, ack, 5 << 4, flags, 8192, 0, 0))

    def tcp(self, peer: TunnelPeer, port: int, answered: bool = True) -> FakeStream | None:
        """Connect from a port; None if no connect went out."""
        before = len(self.world.outward.streams)
        self.segment(peer, port, SYN)
        if len(self.world.outward.streams) == before:
            return None
        stream = self.world.outward.streams[-1]
        if answered:
            stream.connected(self.now)
            assert isinstance(peer.out, PacketLog)
            _, to, seq, _, _, flags, *_ = SEGMENT_OF(peer.out.packets()[-1], 20)
            assert (to, flags) == (port, SYN | ACK)
            self.segment(peer, port, ACK, 1, (seq + 1) & 0xFFFFFFFF)
        return stream

    def udp(self, peer: TunnelPeer, port: int, answered: bool = True) -> FakeDatagrams | None:
        before = len(self.world.outward.datagrams)
        self.put(peer, PROTO_UDP, DATAGRAM(port, 7, 8, 0))
        if len(self.world.outward.datagrams) == before:
            return None
        sock = self.world.outward.datagrams[-1]
        if answered:
            sock.receive(b"x", packed(HOST4), 7, now=self.now)
            peer.pull(self.now)
        return sock

    def fill(self, kind: str, peer: TunnelPeer) -> list[FakeStream | FakeDatagrams]:
        """As many flows as it gets, a second apart."""
        got: list[FakeStream | FakeDatagrams] = []
        for port in range(1, LIMITS.flows_per_peer + 20):
            self.now += 1 / 16
            sock = self.tcp(peer, port) if kind == "tcp" else self.udp(peer, port)
            if sock is None:
                break
            got.append(sock)
            if peer.sockets < len(got):
                break
        return got


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_two_that_hold_everything_give_a_third_its_fair_share(kind: str) -> None:
    crowd = Crowd()
    first = crowd.join("first")
    crowd.fill(kind, first)
    assert first.sockets == LIMITS.flows_per_peer
    second = crowd.join("second")
    crowd.fill(kind, second)
    assert first.sockets + second.sockets == FLOWS - RESERVE
    assert abs(first.sockets - second.sockets) <= 1
    third = crowd.join("third")
    # The reserve is there at once: nobody gives anything for the first few.
    for port in range(RESERVE):
        assert crowd.tcp(third, 9000 + port)
    assert first.sockets + second.sockets == FLOWS - RESERVE
    for port in range(RESERVE, FLOWS // 3):
        crowd.now += 1 / 16
        assert crowd.tcp(third, 9000 + port), port
    assert third.sockets == FLOWS // 3
    assert min(first.sockets, second.sockets) >= FLOWS // 3 - RESERVE
    assert crowd.nat.sockets <= FLOWS
    crowd.world.balanced()


def resets(peer: TunnelPeer) -> int:
    """How many connections the client has been told are reset."""
    assert isinstance(peer.out, PacketLog)
    return sum("R" in IP(packet)[TCP].flags for packet in peer.out.packets())


EQUAL = (FLOWS - RESERVE) // 3
"""What each of three gets who all want more."""


def test_the_longest_idle_goes_first_and_what_runs_goes_last() -> None:
    crowd = Crowd()
    rich = crowd.join("rich")
    streams = [crowd.tcp(rich, port) for port in range(1, LIMITS.flows_per_peer + 1)]
    running = streams[::3]
    crowd.now += 10
    for stream in running:
        assert stream is not None
        stream.receive(b"x", crowd.now)
    rich.pull(crowd.now)
    poor, other = crowd.join("poor"), crowd.join("other")
    for port in range(1, EQUAL + 1):
        crowd.now += 0.01
        assert crowd.tcp(poor, port), port
        assert crowd.tcp(other, port), port
    closed = {id(stream) for stream in streams if stream is not None and stream.closed}
    assert len(closed) >= LIMITS.flows_per_peer - EQUAL - RESERVE
    assert not closed & {id(stream) for stream in running}
    assert all(stream.closed in ("", "abort") for stream in streams if stream is not None)
    assert resets(rich) == len(closed)


def test_what_waits_for_an_answer_that_does_not_come_goes_before_what_is_idle() -> None:
    crowd = Crowd()
    rich = crowd.join("rich")
    half = LIMITS.flows_per_peer // 2
    idle = [crowd.tcp(rich, port) for port in range(1, half + 1)]
    crowd.now += UNANSWERED / 2
    silent = [crowd.tcp(rich, 5000 + port, answered=False) for port in range(half)]
    crowd.now += PATIENCE
    assert resets(rich) == 0
    poor = crowd.join("poor")
    for port in range(1, LIMITS.flows_per_peer // 2 + RESERVE):
        assert crowd.tcp(poor, port), port
    assert sum(stream.closed == "abort" for stream in silent if stream is not None) > half // 2
    assert not any(stream.closed for stream in idle if stream is not None)
    # The client of a connect that gave way hears nothing: its SYN comes again.
    assert resets(rich) == 0


def test_what_came_to_wait_in_vain_since_the_last_look_goes_first_too() -> None:
    crowd = Crowd()
    rich = crowd.join("rich")
    idle = [crowd.tcp(rich, port) for port in range(1, 181)]
    crowd.now += 1
    silent = [crowd.tcp(rich, 5000 + n, answered=False) for n in range(20)]
    poor = crowd.join("poor")
    for port in range(1, FLOWS - RESERVE - 200 + 10):
        assert crowd.tcp(poor, port), port
    lost = [stream for stream in idle if stream is not None and stream.closed]
    assert lost
    assert not any(stream.closed for stream in silent if stream is not None)
    crowd.now += 60
    third = crowd.join("third")
    for port in range(1, 2 * RESERVE):
        assert crowd.tcp(third, port), port
    assert any(stream.closed for stream in silent if stream is not None)
    assert [stream for stream in idle if stream is not None and stream.closed] == lost


def test_a_burst_between_two_looks_takes_the_oldest() -> None:
    crowd = Crowd(Limits(flows=1200, flows_per_peer=900, half_open_per_peer=900))
    rich = crowd.join("rich")
    for port in range(1, 901):
        crowd.tcp(rich, port, answered=False)
    poor = crowd.join("poor")
    crowd.now += 1
    for port in range(1, 551):
        assert crowd.tcp(poor, port, answered=False), port
        crowd.now += LOOK_INTERVAL / 10_000
    assert poor.sockets == 550
    assert crowd.nat.sockets <= 1200


def test_who_has_most_gives_only_what_has_rested() -> None:
    crowd = Crowd()
    rich = crowd.join("rich")
    crowd.fill("tcp", rich)
    assert crowd.tcp(rich, 9999) is None
    assert crowd.world.count("tcp__peer_flow_limit__dropped") >= 1
    crowd.now += 3600
    assert crowd.tcp(rich, 9998)
    assert rich.sockets == LIMITS.flows_per_peer


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["tcp", "udp", "half"]), st.integers(1, 9)),
        min_size=20, max_size=80,
    )
)  # fmt: skip
def test_who_has_less_than_the_richest_always_gets_one_more(
    script: list[tuple[int, str, int]],
) -> None:
    limits = Limits(flows=48, flows_per_peer=36, half_open_per_peer=36, udp_per_peer=36)
    crowd = Crowd(limits)
    clients = [crowd.join(f"client-{n}") for n in range(4)]
    port = 0
    for who, kind, count in script:
        peer = clients[who]
        for _ in range(count):
            port += 1
            crowd.now += 0.5
            before = peer.sockets
            richest = max(client.sockets for client in clients)
            opened = (
                crowd.udp(peer, port) if kind == "udp"
                else crowd.tcp(peer, port, answered=kind == "tcp")
            )  # fmt: skip
            if before + 1 < richest and before < crowd.nat.share():
                assert opened is not None
                assert peer.sockets == before + 1
            assert crowd.nat.sockets <= limits.flows
            assert peer.sockets <= max(before, crowd.nat.share())
            assert crowd.nat.sockets == sum(client.sockets for client in clients)
            assert crowd.nat.sockets == crowd.world.outward.open_sockets()

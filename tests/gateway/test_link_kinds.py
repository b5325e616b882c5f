"""A kind of link that the gateway has never met: what it can do is all that is asked of it."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

import gateway
from eventloop.clock import SYSTEM
from gateway.gates import Gates
from gateway.journal import Journal
from gateway.leases import AddressPool
from gateway.link import Link
from gateway.model import MemoryStore, PeerDevice, TunnelLease
from gateway.peers import PeerRegistry
from gateway.tunnels import Tunnels
from netstack.out import PacketOut
from tests.fakes.outward import PacketLog
from tests.gateway.nat.world import CLIENT4, CLIENT6, HOST4, World, addresses, packed
from vshp.config import CloseReason
from vshp.endpoints import Endpoint
from vshp.tickets import TicketBook

GATEWAY = Path(gateway.__file__).parent
KEY = bytes(range(32))


class Pigeon(Link):
    """Unreliable, without offload, without tickets."""

    def __init__(self, now: float) -> None:
        super().__init__("192.0.2.1", 7, "pigeon", now)
        self.public_key = KEY
        self.log = PacketLog()
        self.reason: CloseReason | None = None
        self.woken = 0

    @property
    def local(self) -> str:
        return "192.0.2.2"

    @property
    def out(self) -> PacketOut:
        return self.log

    @property
    def counters(self) -> Mapping[str, int]:
        return {}

    def wake(self) -> None:
        self.woken += 1

    def close(self, reason: CloseReason, now: float, detail: str = "") -> None:
        self.closed, self.reason = True, reason


class Loft:
    """Tunnels over a NAT with its network in memory, and the one device that sends pigeons."""

    def __init__(self) -> None:
        self.world = World()
        self.now = self.world.now
        self.world.nat.remove_peer(self.world.peer, self.now)
        registry = PeerRegistry(MemoryStore(), SYSTEM)
        self.device: PeerDevice = registry.approve(KEY, "loft", "pigeon")
        self.events: list[str] = []
        journal = Journal(lambda event: self.events.append(event.kind))
        self.tunnels = Tunnels(
            self.world.nat,
            AddressPool(IPv4Network("10.9.0.0/24"), IPv6Network("fd00:9::/64")),
            registry,
            TicketBook(bytes(32)),
            self.world.counters,
            journal,
            Gates(self.world.nat, registry, journal, SYSTEM),
            SYSTEM,
            "gateway",
            1500,
            grace=300.0,
        )
        self.lease = TunnelLease(
            "lease", self.device.id, addresses(CLIENT4, CLIENT6), 1280, False, math.inf
        )

    def carry(self) -> Pigeon:
        pigeon = Pigeon(self.now)
        self.tunnels.carry(pigeon, self.device.public_key, self.lease, self.now)
        return pigeon

    def send(self, pigeon: Pigeon) -> None:
        assert pigeon.peer is not None
        packet = bytearray(bytes(IP(src=CLIENT4, dst=HOST4) / UDP(sport=5, dport=7) / Raw(b"coo")))
        pigeon.peer.from_tunnel(packet, 0, len(packet), False, self.now)

    def answered(self, pigeon: Pigeon) -> list[bytes]:
        self.world.outward.datagrams[0].receive(b"rrr", packed(HOST4), 7, now=self.now)
        assert pigeon.peer is not None
        pigeon.peer.pull(self.now)
        return [bytes(IP(packet)[UDP].payload) for packet in pigeon.log.packets()]


def test_another_kind_of_link_is_carried_loses_its_path_comes_back_and_is_ended() -> None:
    loft = Loft()
    first = loft.carry()
    loft.send(first)
    assert loft.answered(first) == [b"rrr"]
    # What is told to all and renewed in time has nothing to say to a link that has no such words.
    loft.tunnels.tell_endpoints((Endpoint("tcp", packed("192.0.2.2"), 7),), loft.now)
    loft.tunnels.renew(loft.now + 10**9)

    first.closed = True
    assert loft.tunnels.link_gone(first, loft.now) and loft.tunnels.connected() == 0
    second = loft.carry()
    assert loft.answered(second) == [b"rrr"], "the flow has waited"
    assert loft.world.counters.counts["session__resumed"] == 1
    assert len(loft.world.outward.datagrams) == 1

    tunnel = loft.tunnels.of_key(KEY)
    assert tunnel is not None and tunnel.link is second
    loft.tunnels.end(tunnel, loft.now)
    second.close(CloseReason.REVOKED, loft.now)
    assert loft.tunnels.of_key(KEY) is None and loft.world.nat.flows() == []
    assert second.peer is None and loft.world.outward.open_sockets() == 0
    assert loft.events == ["connected", "resumed"]


def test_the_link_that_carries_the_tunnel_is_woken_and_no_other() -> None:
    loft = Loft()
    first = loft.carry()
    loft.send(first)
    loft.answered(first)
    (mapping,) = loft.world.outward.datagrams
    before = first.woken
    mapping.receive(b"a", packed(HOST4), 7, now=loft.now)
    assert first.woken == before + 1

    second = loft.carry()
    assert second.woken == 1, "though the first one was woken, and has not pulled"
    assert second.peer is not None
    second.peer.pull(loft.now)
    mapping.receive(b"b", packed(HOST4), 7, now=loft.now)
    assert (first.woken, second.woken) == (before + 1, 2)

    second.closed = True
    loft.tunnels.link_gone(second, loft.now)
    mapping.receive(b"c", packed(HOST4), 7, now=loft.now)
    third = loft.carry()
    assert (second.woken, third.woken) == (2, 1)
    tunnel = loft.tunnels.of_key(KEY)
    assert tunnel is not None
    loft.tunnels.end(tunnel, loft.now)
    loft.world.nat.handle_timer(loft.now + 1000)
    assert third.woken == 1


@pytest.mark.parametrize("name", ["tunnels.py", "pulse.py", "journal.py", "sharing.py"])
def test_nobody_asks_a_link_what_it_is(name: str) -> None:
    """Neither by its class nor by the name of its transport: a journal may print that one."""
    for node in ast.walk(ast.parse((GATEWAY / name).read_text())):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            assert not any(isinstance(s, ast.Attribute) and s.attr == "transport" for s in sides)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "isinstance", f"line {node.lineno}"

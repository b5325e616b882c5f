"""An owner's destinations and bound on flows, carried to the device's side of the NAT and to the
resolver: when its tunnel begins, when they change, and no longer than it is there."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from gateway.enforced import ENFORCED
from gateway.gateway import Gateway
from gateway.model import MemoryStore, peer_id
from netstack.checksum import add, finish, pseudo_header
from netstack.ip import PROTO_UDP, pack_ip
from netstack.out import HEADROOM
from rules.value import NO_RULES, Destination, Rules, Target, Verdict
from tests.fakes.waiting import settle
from tests.gateway.devices import CONFIG, Device, paired, public
from tests.netstack import wires
from vshp.config import LeaseConfig
from vshp.events import LeaseGranted

DENIED, ELSEWHERE = "203.0.113.1", "198.51.100.1"
RULES = Rules(
    destinations=(
        Destination(Verdict.DENY, Target(ip_network("203.0.113.0/24"))),
        Destination(Verdict.DENY, Target(name="evil.test")),
    ),
    max_flows=7,
)
REFUSED_BY_RULES = "udp__refused_rules__icmp_sent"
NO_ROUTE = "udp__no_route__icmp_sent"
"""What becomes of what is not refused: this gateway has no VPN."""


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway(CONFIG, MemoryStore())
    await gateway.start()
    yield gateway
    await gateway.stop()


async def send(device: Device, lease: LeaseConfig, host: str) -> None:
    """A datagram from the device."""
    body = struct.pack("!HHHH", 4000, 7, 8, 0)
    there = socket.inet_aton(host)
    pseudo = pseudo_header(lease.ipv4, there, PROTO_UDP, len(body))
    packet = bytearray(HEADROOM + 20) + body
    pack_ip(packet, HEADROOM, len(body), PROTO_UDP, lease.ipv4, there)
    packet[HEADROOM + 26 : HEADROOM + 28] = finish(add(body) + pseudo).to_bytes(2, "big")
    device.session.writer.send_packet(packet, HEADROOM, len(packet))
    device.session.writer.flush()
    await device.flush()


async def counted(gateway: Gateway, name: str, times: int) -> None:
    await settle(lambda: gateway.counters.total()[name] >= times)
    assert gateway.counters.total()[name] == times


def asked(gateway: Gateway, device: Device, name: str) -> str:
    """What the resolver counts a question of the device's as."""
    before = dict(gateway.snapshots.dns_state()[0])
    (tunnel,) = gateway.snapshots.tunnels()
    gateway._dns.query(wires.question(name), False, tunnel.nat_peer.id, lambda wire: None)
    after = gateway.snapshots.dns_state()[0]
    return " ".join(key for key, n in after.items() if n != before.get(key))


async def test_rules_hold_from_the_first_packet_change_at_once_and_outlive_the_tunnel(
    gateway: Gateway,
) -> None:
    device, lease = await paired(gateway)
    key = public(device.identity)
    await send(device, lease, DENIED)
    await counted(gateway, NO_ROUTE, 1)
    # Changed while it is connected.
    gateway.registry.set_rules(key, RULES)
    await send(device, lease, DENIED)
    await counted(gateway, REFUSED_BY_RULES, 1)
    await send(device, lease, ELSEWHERE)
    await counted(gateway, NO_ROUTE, 2)
    assert asked(gateway, device, "www.evil.test") == "dns__query__refused_rules"
    assert "refused" not in asked(gateway, device, "good.test")
    (tunnel,) = gateway.snapshots.tunnels()
    assert tunnel.nat_peer.max_flows == 7
    # Another tunnel of the same device.
    device.leave()
    again = Device(gateway, device.identity)
    lease = (await again.until(LeaseGranted)).lease
    await again.alive()
    (other,) = gateway.snapshots.tunnels()
    assert other.nat_peer is not tunnel.nat_peer
    await send(again, lease, DENIED)
    await counted(gateway, REFUSED_BY_RULES, 2)
    assert asked(gateway, again, "evil.test") == "dns__query__refused_rules"
    assert other.nat_peer.max_flows == 7
    # Taken away.
    gateway.registry.set_rules(key, NO_RULES)
    await send(again, lease, DENIED)
    await counted(gateway, NO_ROUTE, 3)
    assert "refused" not in asked(gateway, again, "evil.test")
    assert other.nat_peer.max_flows is None
    again.leave()


async def test_a_change_of_other_rules_compiles_nothing(gateway: Gateway) -> None:
    device, _ = await paired(gateway)
    key = public(device.identity)
    gateway.registry.set_rules(key, RULES)
    (tunnel,) = gateway.snapshots.tunnels()
    compiled = tunnel.nat_peer.destinations
    assert compiled is not None
    gateway.registry.set_rules(key, Rules(destinations=RULES.destinations, max_flows=8))
    assert tunnel.nat_peer.destinations is compiled
    assert tunnel.nat_peer.max_flows == 8
    device.leave()


async def test_of_a_device_that_is_gone_nothing_is_kept(gateway: Gateway) -> None:
    device, _ = await paired(gateway)
    gateway.registry.set_rules(public(device.identity), RULES)
    (tunnel,) = gateway.snapshots.tunnels()
    assert tunnel.nat_peer.id in gateway._dns._rules
    gateway.owner.revoke(tunnel.lease.peer_id)
    assert not gateway._dns._rules
    device.leave()


def test_both_are_carried_out() -> None:
    assert {"destinations", "max_flows"} <= ENFORCED


async def test_what_a_device_is_refused_is_counted_of_it_and_of_all(gateway: Gateway) -> None:
    one, lease = await paired(gateway)
    other, others = await paired(gateway)

    def of(device: Device) -> dict[str, int]:
        return gateway.snapshots.counted_of(public(device.identity))

    await send(one, lease, ELSEWHERE)
    await send(one, lease, ELSEWHERE)
    await counted(gateway, NO_ROUTE, 2)
    await send(other, others, ELSEWHERE)
    await counted(gateway, NO_ROUTE, 3)
    assert [of(device)[NO_ROUTE] for device in (one, other)] == [2, 1]
    # What it does against the protocol is its, too, while its session waits for it.
    one.sock.sendall(bytes(64))
    await settle(lambda: any(name.startswith("session__") for name in of(one)))
    assert of(one)[NO_ROUTE] == 2
    assert not any(name.startswith("session__") for name in of(other))
    faults = {name: n for name, n in of(one).items() if name.startswith("session__")}
    gateway.owner.revoke(peer_id(public(one.identity)))
    assert of(one) == {}
    assert gateway.snapshots.status().counters[NO_ROUTE] == 3, "of all, it stays"
    counters = gateway.snapshots.status().counters
    assert all(counters[name] == n for name, n in faults.items())
    other.leave()

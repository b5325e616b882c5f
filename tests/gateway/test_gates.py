"""Gates at a composed gateway, over loopback: who is shut out, when, and what it is told.

The gateway has no VPN, so what is not shut out is answered "net unreachable", and what is by
"administratively prohibited".
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from eventloop.clock import SYSTEM, Clock
from gateway.gates import FINE, LOOK_SECONDS, TOLD_LEAST, TOLD_PARTS
from gateway.gateway import Gateway
from gateway.model import MemoryStore
from gateway.tunnels import Tunnel
from rules.gate import OPEN, State, counted
from rules.value import NO_RULES, Direction, Period, Quota, Rules, Span
from sealing.happenings import Event
from tests.fakes.ports import free_port
from tests.gateway.devices import CONFIG, Device, paired, public
from tests.gateway.wireguard_app import let_in
from vshp.config import GatewayStatus, LeaseConfig
from vshp.events import Event as VshpEvent
from vshp.events import LeaseGranted, StatusReceived

ZONE = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 27, 12, tzinfo=ZONE).timestamp()
MIDNIGHT = datetime(2026, 11, 28, tzinfo=ZONE).timestamp()
HOURS = (Span((4,), 12 * 60, 13 * 60),)
NET_UNREACHABLE, PROHIBITED = 0, 13


class Wall:
    """A wall clock that stands where a test sets it, until it is let go."""

    gateway: Gateway

    def __init__(self) -> None:
        self._unix, self._since = NOON, 0.0

    def set(self, unix: float) -> None:
        self._unix, self._since = unix, 0.0

    def go(self, unix: float) -> None:
        """On from there, and somebody has looked at it."""
        self._unix, self._since = unix, SYSTEM.now()
        for tunnel in self.gateway.snapshots.tunnels():
            key = tunnel.public_key
            for rules_changed in self.gateway.registry.on_rules:
                rules_changed(key, self.gateway.registry.rules(key))

    def read(self) -> float:
        return self._unix + (SYSTEM.now() - self._since if self._since else 0.0)


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def gateway(wall: Wall) -> AsyncIterator[Gateway]:
    told: list[Event] = []
    config, clock = replace(CONFIG, wireguard=free_port()), Clock(SYSTEM.now, wall.read)
    gateway = wall.gateway = Gateway(config, MemoryStore(), told.append, clock)
    await gateway.start()
    gateway.gates.zone = ZONE
    gateway_told[gateway] = told
    yield gateway
    del gateway_told[gateway]
    await gateway.stop()


gateway_told: dict[Gateway, list[Event]] = {}


def gate_events(gateway: Gateway) -> list[tuple[str, str]]:
    """Kind, and what is said of the device, of all events of gates so far."""
    found = [event for event in gateway_told[gateway] if event.kind.startswith("gate_")]
    return [(event.kind, event.text.split(") ", 1)[1]) for event in found]


def packet(source: bytes, size: int = 1) -> bytes:
    header = IP(src=socket.inet_ntoa(source), dst="203.0.113.9")
    return bytes(header / UDP(sport=4000, dport=7) / Raw(bytes(size)))


def send(device: Device, data: bytes) -> None:
    """Have a packet leave with what the device sends next."""
    writer = device.session.writer
    at = writer.reserve_packet(len(data))
    writer.buffer[at : at + len(data)] = data
    writer.flush()


async def answer(device: Device, lease: LeaseConfig) -> int:
    """The ICMP code with which a device's datagram is answered."""
    found: list[bytes] = []
    device.session.on_packet = lambda buf, at, end, offload: found.append(bytes(buf[at:end]))
    send(device, packet(lease.ipv4))
    await device.flush()
    while not found:
        await device.alive()
    return int(IP(found[0])[ICMP].code)


async def told(device: Device, fits: Callable[[GatewayStatus], bool]) -> GatewayStatus:
    """The first STATUS from now on that fits."""
    while True:
        status = (await device.until(StatusReceived)).status
        if fits(status):
            return status


def set_rules(gateway: Gateway, device: Device, rules: Rules) -> None:
    gateway.registry.set_rules(public(device.identity), rules)


@pytest.mark.parametrize("udp", [False, True])
async def test_a_pause_is_told_and_over_at_once(gateway: Gateway, udp: bool) -> None:
    device, lease = await paired(gateway, udp=udp)
    other, other_lease = await paired(gateway, udp=udp)
    assert await answer(device, lease) == NET_UNREACHABLE
    set_rules(gateway, device, Rules(paused=True))
    status = await told(device, lambda status: bool(status.shut_out))
    assert status.shut_out == "This device is paused by the owner."
    assert await answer(device, lease) == PROHIBITED
    assert await answer(other, other_lease) == NET_UNREACHABLE
    set_rules(gateway, device, NO_RULES)
    await told(device, lambda status: not status.shut_out)
    assert await answer(device, lease) == NET_UNREACHABLE
    assert gate_events(gateway) == [
        ("gate_closed", "is paused by the owner"), ("gate_opened", "may use the tunnel again"),
    ]  # fmt: skip
    device.leave()
    other.leave()


async def test_an_end_comes_by_itself(gateway: Gateway, wall: Wall) -> None:
    device, lease = await paired(gateway)
    set_rules(gateway, device, Rules(until=NOON + 1.0))
    assert await answer(device, lease) == NET_UNREACHABLE
    wall.go(NOON + 0.9)
    status = await told(device, lambda status: bool(status.shut_out))
    assert status.shut_out == (
        "This device may not use the tunnel any more: its time has ended today at 12:00."
    )
    assert wall.read() >= NOON + 1.0
    assert await answer(device, lease) == PROHIBITED
    (tunnel,) = gateway.snapshots.tunnels()
    assert gateway.gates.of(tunnel).verdict.opens is None
    set_rules(gateway, device, Rules(until=NOON + 3600))
    await told(device, lambda status: not status.shut_out)
    device.leave()


async def test_hours_end_and_begin_by_themselves(gateway: Gateway, wall: Wall) -> None:
    device, lease = await paired(gateway)
    set_rules(gateway, device, Rules(hours=HOURS))
    assert await answer(device, lease) == NET_UNREACHABLE
    wall.go(NOON + 3599.9)
    status = await told(device, lambda status: bool(status.shut_out))
    assert status.shut_out == (
        "This device is outside its hours; they begin again on 4 December at 12:00."
    )
    assert await answer(device, lease) == PROHIBITED
    wall.go(NOON + 7 * 86400 - 0.1)
    await told(device, lambda status: not status.shut_out)
    assert wall.read() >= NOON + 7 * 86400
    assert await answer(device, lease) == NET_UNREACHABLE
    device.leave()


async def test_a_clock_that_is_set_is_noticed(
    gateway: Gateway, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.gates.LOOK_SECONDS", 0.1)
    assert LOOK_SECONDS <= 60, "what is shortened here"
    device, _ = await paired(gateway)
    set_rules(gateway, device, Rules(hours=HOURS))
    wall.set(NOON - 86400)
    await told(device, lambda status: bool(status.shut_out))
    wall.set(NOON)
    await told(device, lambda status: not status.shut_out)
    device.leave()


class Statuses(list[VshpEvent]):
    """A device's events, which are taken away as they are waited for; its STATUS stay here."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[GatewayStatus] = []

    def append(self, event: VshpEvent) -> None:
        super().append(event)
        if isinstance(event, StatusReceived):
            self.seen.append(event.status)


async def use(device: Device, lease: LeaseConfig) -> GatewayStatus:
    """Send until it is said that there is no more."""
    data = packet(lease.ipv4, 1000)
    device.events = events = Statuses()
    async with asyncio.timeout(20):
        while not events.seen or not events.seen[-1].shut_out:
            send(device, data)
            await device.alive()
    return events.seen[-1]


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("direction", list(Direction))
async def test_a_quota_is_spent_told_and_begins_again(
    gateway: Gateway, wall: Wall, direction: Direction, udp: bool
) -> None:
    device, lease = await paired(gateway, udp=udp)
    quota = Quota(3_000 if direction is Direction.DOWN else 30_000, direction, Period.DAY)
    set_rules(gateway, device, Rules(quota=quota))
    status = await use(device, lease)
    assert status.quota_left == 0
    assert "This device has used its quota of 3" in status.shut_out
    assert status.shut_out.endswith(" a day; it begins again tomorrow at 00:00.")
    used = counted(quota, *gateway.books.total(public(device.identity)))
    assert quota.bytes <= used < quota.bytes + FINE + 3_000
    assert await answer(device, lease) == PROHIBITED
    # A clock that is set back gives nothing, and the period's end comes for all that.
    wall.go(NOON - 86400)
    assert await answer(device, lease) == PROHIBITED
    wall.go(NOON)
    assert await answer(device, lease) == PROHIBITED
    wall.go(MIDNIGHT - 0.1)
    status = await told(device, lambda status: not status.shut_out)
    assert status.quota_left == quota.bytes
    assert await answer(device, lease) == NET_UNREACHABLE
    device.leave()


@pytest.mark.parametrize("direction", list(Direction))
async def test_who_looks_sees_what_is_left_at_that_moment(
    gateway: Gateway, direction: Direction
) -> None:
    device, lease = await paired(gateway)
    quota = Quota(10**9, direction, Period.DAY)
    set_rules(gateway, device, Rules(quota=quota))
    (tunnel,) = gateway.snapshots.tunnels()
    looked = gateway.gates.of(tunnel).verdict
    for _ in range(3):
        before = gateway.gates.read(tunnel)[0].left
        assert await answer(device, lease) == NET_UNREACHABLE
        used = counted(quota, *gateway.books.total(public(device.identity)))
        verdict, said = gateway.gates.read(tunnel)
        assert before is not None and verdict.left == quota.bytes - used < before
        assert (verdict.open, said) == (True, "")
    assert gateway.gates.of(tunnel).verdict is looked, "nothing was due"
    device.leave()


class Tellings(list[int]):
    """What was left each time that a device was to be told."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gates, self._tell = gateway.gates, gateway.gates.on_change
        gateway.gates.on_change = self._told

    def _told(self, tunnel: Tunnel, now: float) -> None:
        self.append(self._gates.read(tunnel)[0].left or 0)
        self._tell(tunnel, now)


@pytest.mark.parametrize("direction", [Direction.UP, Direction.BOTH])
async def test_a_device_that_begins_to_use_its_quota_is_told_so(
    gateway: Gateway, direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, sent, size = 3_000, 1_100, 10**5
    monkeypatch.setattr("gateway.gates.TOLD_LEAST", part)
    device, lease = await paired(gateway)
    tellings = Tellings(gateway)
    set_rules(gateway, device, Rules(quota=Quota(size, direction, Period.DAY)))
    assert tellings == [size]
    device.events = events = Statuses()
    async with asyncio.timeout(20):
        while len(tellings) < 2:
            send(device, packet(lease.ipv4, 1_000))
            await device.alive()
        ways = 2 if direction is Direction.BOTH else 1
        assert part <= size - tellings[1] <= ways * (part + sent)
        while tellings[1] not in [each.quota_left for each in events.seen]:
            await device.alive()
    device.leave()


async def test_a_device_is_told_by_parts_not_too_often_and_all_of_them(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its STATUS wait for its ACK, in a queue with a bound."""
    part, pause = 1_000, 0.3
    monkeypatch.setattr("gateway.gates.TOLD_LEAST", part)
    monkeypatch.setattr("gateway.gates.TOLD_PARTS", 10**6)
    monkeypatch.setattr("gateway.gates.USE_SECONDS", pause)
    device, lease = await paired(gateway, udp=True)
    device.events = events = Statuses()
    set_rules(gateway, device, Rules(quota=Quota(10**9, Direction.BOTH, Period.DAY)))
    began, tellings = gateway.snapshots.now(), Tellings(gateway)
    (tunnel,) = gateway.snapshots.tunnels()
    peer = tunnel.nat_peer
    assert peer.up_stop - peer.from_tunnel_bytes == part
    while peer.from_tunnel_bytes < 20_000:
        send(device, packet(lease.ipv4, 1_000))
        await device.alive()

    def untold() -> int:
        left = gateway.gates.read(tunnel)[0].left
        told = events.seen[-1].quota_left if events.seen else None
        assert left is not None
        return 10**9 if told is None else told - left

    async with asyncio.timeout(10):
        while untold() >= part:
            await device.alive()
        assert len(tellings) <= (gateway.snapshots.now() - began) / pause + 2
        # Its packets are compared with a stop that is far as long as it is looked at anyway.
        while peer.up_stop - peer.from_tunnel_bytes != part:
            assert peer.up_stop - peer.from_tunnel_bytes > 10**8
            await device.alive()
    assert peer.down_stop - peer.to_tunnel_bytes == part
    device.leave()


@pytest.mark.parametrize(("size", "part"), [(10**6, TOLD_LEAST), (10**10, 10**8)])
async def test_parts_of_a_large_quota_are_larger(gateway: Gateway, size: int, part: int) -> None:
    device, _ = await paired(gateway)
    set_rules(gateway, device, Rules(quota=Quota(size, Direction.UP, Period.DAY)))
    (tunnel,) = gateway.snapshots.tunnels()
    peer = tunnel.nat_peer
    assert peer.up_stop - peer.from_tunnel_bytes == part == max(size // TOLD_PARTS, TOLD_LEAST)
    device.leave()


async def test_a_quota_below_what_was_used_is_spent_at_once(gateway: Gateway) -> None:
    device, lease = await paired(gateway)
    for _ in range(5):
        await answer(device, lease)
    set_rules(gateway, device, Rules(quota=Quota(100, Direction.BOTH, Period.TOTAL)))
    status = await told(device, lambda status: bool(status.shut_out))
    assert "it does not begin again by itself" in status.shut_out
    set_rules(gateway, device, Rules(quota=Quota(10**6, Direction.BOTH, Period.TOTAL)))
    status = await told(device, lambda status: not status.shut_out)
    assert status.quota_left is not None and 0 < status.quota_left < 10**6
    device.leave()


@pytest.mark.parametrize("udp", [False, True])
async def test_who_comes_while_its_gate_is_closed_is_told(gateway: Gateway, udp: bool) -> None:
    device, _ = await paired(gateway, udp=udp)
    device.leave()
    set_rules(gateway, device, Rules(paused=True))
    before = len(gate_events(gateway))
    back = Device(gateway, device.identity, udp=udp)
    lease = (await back.until(LeaseGranted)).lease
    await told(back, lambda status: bool(status.shut_out))
    assert await answer(back, lease) == PROHIBITED
    assert gate_events(gateway)[before:] == [("gate_closed", "is paused by the owner")]
    back.leave()


async def test_a_wireguard_device_is_shut_out_alike(gateway: Gateway) -> None:
    app = await let_in(gateway)

    async def code() -> int:
        async with asyncio.timeout(10):
            while True:
                app.packets.clear()
                app.send(packet(app.profile.ipv4))
                await app.listen(0.05)
                for found in app.packets:
                    if found[9] == 1:
                        return int(IP(found)[ICMP].code)

    assert await code() == NET_UNREACHABLE
    key = gateway.snapshots.peers()[0].public_key
    gateway.registry.set_rules(key, Rules(paused=True))
    assert await code() == PROHIBITED
    refused = await app.asks()
    assert refused is not None and refused[28 + 3] & 15 == 5
    assert gateway.gates.of(gateway.snapshots.tunnels()[0]).verdict.state is State.PAUSED
    gateway.registry.set_rules(key, NO_RULES)
    assert await code() == NET_UNREACHABLE
    app.close()


async def test_who_is_away_is_judged_as_if_it_came(gateway: Gateway, wall: Wall) -> None:
    device, lease = await paired(gateway)
    key = public(device.identity)
    assert gateway.gates.away(key) == (OPEN, "")
    await answer(device, lease)
    (tunnel,) = gateway.snapshots.tunnels()
    rules = Rules(quota=Quota(10**6), hours=HOURS)
    set_rules(gateway, device, rules)
    here = gateway.gates.of(tunnel)
    assert here.verdict.left is not None and 0 < here.verdict.left < 10**6
    assert gateway.gates.away(key) == (here.verdict, "")
    gateway.owner.revoke(gateway.snapshots.peers()[0].id)
    assert not gateway.snapshots.tunnels() and gateway.gates.away(key)[0].left == here.verdict.left
    wall.set(NOON + 2 * 3600)
    verdict, said = gateway.gates.away(key)
    assert verdict.state is State.OUTSIDE_HOURS and said.startswith("is outside its")
    wall.set(MIDNIGHT + 1)
    assert gateway.gates.away(key)[0].left == 10**6, "another day"
    set_rules(gateway, device, Rules(paused=True))
    assert gateway.gates.away(key)[1] == "is paused by the owner"
    device.leave()


async def test_a_revoked_device_has_no_gate(gateway: Gateway) -> None:
    device, _ = await paired(gateway)
    set_rules(gateway, device, Rules(until=NOON + 3600))
    assert gateway.gates.get_timer() is not None
    gateway.owner.revoke(gateway.snapshots.peers()[0].id)
    gateway.gates.handle_timer(gateway.snapshots.now() + LOOK_SECONDS)
    assert gateway.gates.get_timer() is None
    device.leave()


async def test_a_look_costs_an_idle_gateway_nothing(gateway: Gateway) -> None:
    device, _ = await paired(gateway)
    assert gateway.gates.get_timer() is None
    set_rules(gateway, device, Rules(paused=True))
    assert gateway.gates.get_timer() is None
    device.leave()

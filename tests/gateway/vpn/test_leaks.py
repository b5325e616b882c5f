"""Whatever happens to the VPN, nothing of ours leaves by the uplink: the kernel's own word."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from gateway.model import VpnState
from gateway.vpn.detector import VpnDetector
from gateway.vpn.egress import tie
from gateway.vpn.guard import EgressGuard, GuardRefused, Strength
from gateway.vpn.ties import (
    IP_UNICAST_IF,
    IPV6_UNICAST_IF,
    SO_BINDTODEVICE,
    SO_BINDTOIFINDEX,
    MappedSocket,
    Ties,
)
from tests.fakes.waiting import settle
from tests.gateway.vpn.namespace import (
    FAR4,
    FAR6,
    Capture,
    Tunnel,
    Uplink,
    allow_ping,
    fresh_namespace,
    needs_namespaces,
    run,
)

pytestmark = needs_namespaces

UDP, TCP, PING = "udp", "tcp", "ping"
FAMILIES = (socket.AF_INET, socket.AF_INET6)

WAYS = [(family, way) for family in FAMILIES for way in (UDP, TCP, PING)]


class Refusing(Ties):
    """A kernel or a policy that refuses some ways."""

    def __init__(self, *options: int, scope: bool = True) -> None:
        self._options = options
        self._scope = scope

    def set_option(self, sock: socket.socket, level: int, option: int, value: bytes | int) -> None:
        if option in self._options:
            raise PermissionError(1, "refused")
        super().set_option(sock, level, option, value)

    def by_scope(self, sock: socket.socket, index: int, name: str, link_local: str | None) -> None:
        if not self._scope:
            raise PermissionError(1, "refused")
        super().by_scope(sock, index, name, link_local)


DEVICE = (SO_BINDTOIFINDEX, SO_BINDTODEVICE)
UNICAST = (IP_UNICAST_IF, IPV6_UNICAST_IF)

KERNELS = {
    "index": (Strength.DEVICE, "device", Refusing()),
    "name": (Strength.DEVICE, "device", Refusing(SO_BINDTOIFINDEX)),
    "unicast-if, scope": (Strength.UNICAST_IF, "scope", Refusing(*DEVICE)),
    "unicast-if, address": (Strength.UNICAST_IF, "address", Refusing(*DEVICE, scope=False)),
    "scope": (Strength.ADDRESS, "scope", Refusing(*DEVICE, *UNICAST)),
    "address": (Strength.ADDRESS, "address", Refusing(*DEVICE, *UNICAST, scope=False)),
}
"""What the guard shows, what ties TCP, and the kernel."""

LOSSES: dict[str, tuple[str, ...]] = {
    "deleted": (),
    "down": ("ip link set vpn0 down",),
    "address removed": ("ip addr flush dev vpn0 scope global", "ip route flush dev vpn0"),
    "routes removed": ("ip route flush dev vpn0", "ip -6 route flush dev vpn0 metric 1024"),
}
"""How the VPN is lost: by these commands, or by being deleted."""


@dataclass
class Scene:
    """A host with a VPN, and its guard."""

    detector: VpnDetector
    guard: EgressGuard
    tunnel: Tunnel
    capture: Capture
    opened: list[socket.socket] = field(default_factory=list)

    def open(self, family: int, way: str) -> socket.socket | None:
        """A guarded socket, or None if the guard refuses."""
        opener = {
            UDP: self.guard.udp_socket,
            TCP: self.guard.tcp_socket,
            PING: self.guard.ping_socket,
        }[way]
        try:
            sock = opener(family)
        except GuardRefused:
            return None
        self.opened.append(sock)
        return sock


@contextlib.asynccontextmanager
async def scene(kernel: str = "index") -> AsyncIterator[Scene]:
    strength, streams, ties = KERNELS[kernel]
    with fresh_namespace():
        allow_ping()
        Uplink()
        tunnel = Tunnel().up()
        capture = Capture()
        detector = VpnDetector()
        await detector.start()
        guard = EgressGuard(detector, ties=ties)
        assert (guard.strength, guard.streams) == (strength, streams)
        world = Scene(detector, guard, tunnel, capture)
        try:
            yield world
        finally:
            for sock in world.opened:
                sock.close()
            await detector.stop()
            world.tunnel.close()
            capture.close()


def emit(sock: socket.socket, way: str) -> None:
    """Try to send to a far host; failing is fine, leaking is not."""
    ipv6 = sock.family == socket.AF_INET6 and not isinstance(sock, MappedSocket)
    far = FAR6 if ipv6 else FAR4
    echo = 128 if ipv6 else 8
    with contextlib.suppress(OSError):
        if way == TCP:
            sock.connect_ex((far, 80))
        elif way == UDP:
            sock.sendto(b"leak?", (far, 9))
        else:
            sock.sendto(bytes([echo, 0, 0, 0, 0, 0, 0, 1]), (far, 0))


@pytest.mark.parametrize("kernel", KERNELS)
async def test_all_traffic_enters_the_vpn(kernel: str) -> None:
    async with scene(kernel) as w:
        entered = set()
        for family, way in WAYS:
            sock = w.open(family, way)
            if sock is not None:
                emit(sock, way)
                entered.add((family, way))
                assert len(w.tunnel.packets()) == 1
        assert w.capture.packets() == []
        refused = set()
        if w.guard.strength is Strength.ADDRESS:
            refused |= {(family, way) for family in FAMILIES for way in (UDP, PING)}
        if w.guard.streams == "address":
            refused.add((socket.AF_INET6, TCP))
        assert entered == set(WAYS) - refused


async def test_an_unguarded_socket_does_leak_so_the_capture_is_worth_something() -> None:
    async with scene() as w:
        w.tunnel.close()
        for family in FAMILIES:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                emit(sock, UDP)
        assert len(w.capture.packets()) == 2


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kernel", KERNELS)
async def test_nothing_leaves_when_the_vpn_is_lost(kernel: str, loss: str) -> None:
    if kernel.endswith("address") and loss in ("down", "routes removed"):
        pytest.skip("an address alone does not hold while it stays: see gateway/vpn/ties.py")
    async with scene(kernel) as w:
        used = [(w.open(family, way), way) for family, way in WAYS]
        unused = [(w.open(family, way), way) for family, way in WAYS]
        for sock, way in used:
            if sock is not None:
                emit(sock, way)
        w.tunnel.packets()
        if loss == "deleted":
            w.tunnel.close()
        for command in LOSSES[loss]:
            run(command)
        # In the same instant, before the detector has had its turn.
        blind = [(w.open(family, way), way) for family, way in WAYS]
        for sock, way in used + unused + blind:
            if sock is not None:
                emit(sock, way)
        await settle(lambda: w.detector.network.state is VpnState.ABSENT)
        assert w.detector.generation == 1
        for family, way in WAYS:
            assert w.open(family, way) is None
        for sock, way in used + unused + blind:
            if sock is not None:
                emit(sock, way)
        await asyncio.sleep(0.05)
        assert w.capture.packets() == []


async def test_replaced_by_another_device_of_the_same_name() -> None:
    async with scene() as w:
        old = [(w.open(family, way), way) for family, way in WAYS]
        w.tunnel.close()
        w.tunnel = Tunnel(address="10.9.0.2").up()
        for sock, way in old:
            assert sock is not None
            emit(sock, way)
        assert w.tunnel.packets() == [], "what was tied to the old device stays dead"
        await settle(lambda: w.guard.generation == 1 and w.detector.network.usable)
        for family, way in WAYS:
            sock = w.open(family, way)
            assert sock is not None
            emit(sock, way)
        assert len(w.tunnel.packets()) == len(WAYS)
        assert w.capture.packets() == []


async def test_renamed_device_is_the_same_vpn() -> None:
    async with scene() as w:
        old = w.open(socket.AF_INET, UDP)
        assert old is not None
        run("ip link set vpn0 name vpn9")
        await settle(lambda: w.detector.network.interface == "vpn9")
        assert w.detector.generation == 0
        emit(old, UDP)
        fresh = w.open(socket.AF_INET6, TCP)
        assert fresh is not None
        emit(fresh, TCP)
        assert len(w.tunnel.packets()) == 2
        assert tie(fresh).device == "vpn9"
        assert w.capture.packets() == []


@pytest.mark.parametrize("kernel", ["index", "unicast-if, scope"])
async def test_the_kernel_tells_what_holds_a_socket(kernel: str) -> None:
    async with scene(kernel) as w:
        sock = w.open(socket.AF_INET, UDP)
        assert sock is not None
        emit(sock, UDP)
        assert tie(sock).device == "vpn0"
        stream = w.open(socket.AF_INET, TCP)
        assert stream is not None
        emit(stream, TCP)
        assert tie(stream).address == "10.8.0.2"
        stream.close()
        assert tie(stream).device is None


def is_back(w: Scene, losses: int) -> bool:
    return w.detector.generation >= losses and w.detector.network.usable


@pytest.mark.parametrize("kernel", ["index", "unicast-if, scope"])
async def test_fifty_losses_and_returns_leak_nothing(kernel: str) -> None:
    async with scene(kernel) as w:
        for lost in range(50):
            sockets = [(w.open(family, way), way) for family, way in WAYS]
            w.tunnel.close()
            for sock, way in sockets:
                assert sock is not None
                emit(sock, way)
                sock.close()
            w.tunnel = Tunnel().up()
            await settle(partial(is_back, w, lost + 1))
        assert w.capture.packets() == []
        assert w.detector.generation == 50

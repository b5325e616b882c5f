"""Listeners that are changed, opened anew or lost while devices are connected."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from eventloop.poller import Poller
from gateway.gateway import Gateway
from gateway.listeners import ListenError, StreamListener
from gateway.model import MemoryStore
from tests.fakes.ports import free_port
from tests.fakes.waiting import settle
from tests.gateway.devices import CONFIG, Device, paired, port_of
from vshp.config import CloseReason, LeaseConfig, Resume
from vshp.endpoints import Endpoint
from vshp.events import LeaseChanged, LeaseGranted, PeerClosed
from vshp.uri import PairingUri

HERE = "127.0.0.1"


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway(CONFIG, MemoryStore())
    await gateway.start()
    yield gateway
    await gateway.stop()


def listen(gateway: Gateway, *places: tuple[str, int]) -> None:
    gateway.owner.configure(replace(gateway.owner.config, listen=places))


def accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 1):
            return True
    except ConnectionRefusedError:
        return False


async def test_any_port_is_one_that_is_free_over_udp_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Taken(StreamListener):
        """The port that the system chose over TCP is somebody's over UDP, three times."""

        def __init__(self, host: str, port: int, *rest: Any) -> None:
            super().__init__(host, port, *rest)
            if port == 0 and len(taken) < 3:
                taken.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                taken[-1].bind((HERE, self.port))

    taken: list[socket.socket] = []
    monkeypatch.setattr("gateway.entrance.StreamListener", Taken)
    gateway = Gateway(CONFIG, MemoryStore())
    try:
        await gateway.start()
        others = [sock.getsockname()[1] for sock in taken]
        assert len(others) == 3 and port_of(gateway) not in others
        assert not any(accepts(HERE, port) for port in others), "nothing is left open there"
        await paired(gateway, udp=True)
    finally:
        await gateway.stop()
        for sock in taken:
            sock.close()


@pytest.mark.parametrize("udp", [False, True])
async def test_opened_anew_nobody_notices(gateway: Gateway, udp: bool) -> None:
    device, _ = await paired(gateway, udp=udp)
    port = port_of(gateway)
    for _ in range(3):
        gateway.owner.relisten()
        await device.alive()
    assert port_of(gateway) == port, "any port stays the one that it became"
    assert gateway.snapshots.status().counters.get("session__resumed") is None
    newcomer, _ = await paired(gateway, udp=udp)
    await newcomer.alive()


@pytest.mark.parametrize("udp", [False, True])
async def test_opened_anew_and_everybody_comes_back(gateway: Gateway, udp: bool) -> None:
    device, lease = await paired(gateway, udp=udp)
    gateway.owner.relisten(drop=True)
    closed = await device.until(PeerClosed)
    assert (closed.reason, closed.authenticated) == (CloseReason.LISTENER_CLOSED, True)
    assert len(gateway.snapshots.tunnels()) == 1 and gateway.snapshots.status().connected == 0
    await resumed(gateway, device, lease, udp)


async def resumed(gateway: Gateway, device: Device, lease: LeaseConfig, udp: bool) -> None:
    """The device goes on with its session over a new link."""
    resume = Resume(lease.session_id, lease.ticket, lease)
    again = Device(gateway, device.identity, resume=resume, udp=udp)
    assert (await again.until(LeaseGranted)).lease.resumed
    await again.alive()


async def test_another_port_leaves_tcp_alone_and_has_udp_come_back(gateway: Gateway) -> None:
    stays, _ = await paired(gateway)
    moves, lease = await paired(gateway, udp=True)
    before, port = port_of(gateway), free_port()
    listen(gateway, (HERE, port))
    assert gateway.snapshots.status().listen == [f"{HERE}:{port}"]
    assert not accepts(HERE, before)
    there = (Endpoint.of("any", HERE, port),)
    for device in (stays, moves):
        assert (await device.until(LeaseChanged)).lease.endpoints == there
    assert (await moves.until(PeerClosed)).reason is CloseReason.LISTENER_CLOSED
    await resumed(gateway, moves, lease, udp=True)
    await stays.alive()
    assert PairingUri.decode(gateway.owner.pair().uri).endpoints == there
    assert gateway.snapshots.status().counters["link__udp__listener_closed"] == 1


@pytest.mark.parametrize(
    ("first", "second"), [("0.0.0.0", HERE), (HERE, "0.0.0.0"), ("0.0.0.0", "0.0.0.0")]
)
async def test_a_listener_on_the_same_port_adopts_the_links(first: str, second: str) -> None:
    port = free_port()
    gateway = Gateway(replace(CONFIG, listen=((first, port),)), MemoryStore())
    await gateway.start()
    device, _ = await paired(gateway, udp=True)
    listen(gateway, (second, port), (HERE, free_port()))
    await device.alive()
    assert gateway.snapshots.status().connected == 1
    changed = gateway.snapshots.status().counters.get("link__udp__listener_changed", 0)
    assert changed == (first != second), "what is listened on already stays as it is"
    await gateway.stop()


async def test_who_cannot_reach_the_new_listener_is_told() -> None:
    port = free_port()
    gateway = Gateway(replace(CONFIG, listen=(("0.0.0.0", port),)), MemoryStore())
    await gateway.start()
    device, _ = await paired(gateway, udp=True)
    listen(gateway, ("127.0.0.2", port))
    assert (await device.until(PeerClosed)).reason is CloseReason.LISTENER_CLOSED
    await gateway.stop()


@pytest.mark.parametrize("udp", [False, True])
async def test_a_listen_that_fails_changes_nothing(udp: bool) -> None:
    port, spare = free_port(), free_port()
    gateway = Gateway(replace(CONFIG, listen=(("0.0.0.0", port),)), MemoryStore())
    await gateway.start()
    device, _ = await paired(gateway, udp=udp)
    with socket.create_server((HERE, 0)) as taken:
        used = taken.getsockname()[1]
        for places in (
            [(HERE, used)],
            [(HERE, spare), (HERE, used)],
            # The old one is in the way of the first, and has to come back.
            [(HERE, port), ("127.0.0.2", port), ("192.0.2.1", port)],
        ):
            with pytest.raises(ListenError, match=r"set gateway\.listen"):
                listen(gateway, *places)
            assert gateway.snapshots.status().listen == [f"0.0.0.0:{port}"]
            assert accepts(HERE, port) and not accepts(HERE, spare)
            await device.alive()
    newcomer, _ = await paired(gateway, udp=udp)
    await newcomer.alive()
    await gateway.stop()


async def test_a_listener_that_the_system_ends_is_opened_again(gateway: Gateway) -> None:
    device, _ = await paired(gateway)
    # What SOCK_DESTROY does to it (tcp_abort), and likewise leaves an EPOLLHUP behind.
    door = gateway._entrance.places._places[0].doors[0]
    assert isinstance(door, StreamListener)
    door.sock.shutdown(socket.SHUT_RD)
    await settle(lambda: gateway.snapshots.status().counters.get("listener__dead__reopened"))
    newcomer, _ = await paired(gateway)
    await newcomer.alive()
    await device.alive()


async def test_it_is_opened_again_as_soon_as_that_is_possible(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.places.REOPEN_FIRST", 0.01)
    places = gateway._entrance.places
    places._pause = 0.01
    port = port_of(gateway)
    door = places._places[0].doors[0]
    assert isinstance(door, StreamListener)
    door.sock.shutdown(socket.SHUT_RD)
    squatter = socket.create_server((HERE, port))
    await settle(lambda: gateway.snapshots.status().counters.get("listener__dead__not_reopened"))
    squatter.close()
    await settle(lambda: gateway.snapshots.status().counters.get("listener__dead__reopened"))
    await asyncio.sleep(0)
    assert places.get_timer() is None
    await paired(gateway)


async def test_an_address_may_be_listened_on_before_it_is_there() -> None:
    poller = Poller()
    with pytest.raises(ListenError, match="an address that this device has"):
        StreamListener("192.0.2.1", 0, poller, lambda *_: None)
    StreamListener("192.0.2.1", 0, poller, lambda *_: None, early=True).close()
    poller.close()

"""The client with a proxy as its outlet: the device stays as it is, and links come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from client.client import Client
from client.judgement import HostFacts
from client.model import ClientConfig, ClientError, ClientSnapshot, ClientState, MemoryStore
from client.outlet.flows import FlowSample
from client.outlet.outlet import OutletKind
from client.outlet.port import Carrier, Intake
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.outlet import ProxyOutlet
from client.outlet.proxy.passage import Sender
from tests.client.gateway_double import GatewayDouble
from vshp.config import CloseReason, LeaseConfig

ADDRESS = "127.0.0.1:1080"


class NoFlows:
    problem: str | None = None

    def __init__(self) -> None:
        self.stopped = False

    async def look(self) -> FlowSample:
        return FlowSample()

    async def count(self) -> int | None:
        return 3

    async def stop(self) -> None:
        self.stopped = True


class Doorway:
    """A listener at which nobody knocks."""

    def __init__(self) -> None:
        self.flows = NoFlows()
        self.address = ""
        self.taken = False
        """Whether another program has the address."""
        self.counters = {"proxy__connections": 7}

    def start(self) -> None:
        if self.taken:
            raise ClientError("proxy_address", "taken", "Choose another.")
        self.address = ADDRESS

    def close(self) -> None:
        self.address = ""


class Answering:
    """In the dialer's place: answers each packet, and keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.counters = {"tcp__closed__finished": 1}
        self._link: Carrier | None = None

    def attach(self, link: Carrier, lease: LeaseConfig) -> Intake:
        self._link = link
        self.told.append("attach")
        return Intake(self._packet)

    def _packet(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        assert self._link is not None
        data = bytearray(64) + buf[start:end]
        self._link.writer.send_packet(data, 64, len(data))

    def detach(self) -> None:
        self._link = None
        self.told.append("detach")

    def room_again(self) -> None: ...

    def associate(
        self,
        on_datagram: Callable[[bytes, int, memoryview], None],
        on_error: Callable[[bytes, int, Outcome], None],
    ) -> Sender | None:
        return None

    def lease_over(self) -> None:
        self.told.append("lease over")

    def close(self) -> None:
        self.told.append("close")


class Device:
    def __init__(self, folder: Path, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store
        config = ClientConfig(folder, label="laptop", offload=False)
        self.dialer, self.doorway = Answering(), Doorway()
        self.outlet = ProxyOutlet(config, self.dialer, self.doorway, HostFacts)
        self.client = Client(self.store, config, self.outlet)

    async def until(self, state: ClientState) -> ClientSnapshot:
        async with asyncio.timeout(10):
            while self.client.status().state is not state:
                await asyncio.sleep(0.005)
        return self.client.status()


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    made = Device(tmp_path)
    await made.client.start()
    yield made
    await made.client.stop()


async def test_a_client_with_a_proxy(device: Device) -> None:
    before = device.client.status()
    assert (before.outlet, before.proxy, before.interface) == ("proxy", ADDRESS, None)
    async with GatewayDouble() as gateway:
        await device.client.connect(gateway.uri())
        now = await device.client.wait(5)
        assert (now.state, now.outlet, now.proxy) == (ClientState.CONNECTED, "proxy", ADDRESS)
        assert now.interface is None and not now.guard.guards.rules
        assert now.counters["proxy__connections"] == 7
        assert now.counters["tcp__closed__finished"] == 1
        packet = b"\x45\0\0\x1c" + bytes(24)
        gateway.guests[0].send_packet(packet)
        await gateway.until(lambda: [p for _, p in gateway.packets] == [packet])
        # The link breaks, and the next one is attached to the same port.
        gateway.guests[0].cut()
        await gateway.until(lambda: len(gateway.guests) == 2)
        await device.until(ClientState.CONNECTED)
        gateway.guests[1].send_packet(packet)
        await gateway.until(lambda: [p for _, p in gateway.packets] == [packet] * 2)
        # One more that was over at the start; connections go on over the next link.
        assert device.dialer.told.count("lease over") == 1
        await device.client.disconnect()
    assert device.dialer.told[-1] == "lease over"
    after = device.client.status()
    assert (after.state, after.proxy) == (ClientState.IDLE, ADDRESS), "programs are told"


async def test_a_refusal_ends_connections_and_closes_nothing(device: Device) -> None:
    async with GatewayDouble() as gateway:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        device.dialer.told.clear()
        gateway.guests[0].close(CloseReason.REVOKED)
        now = await device.until(ClientState.FAILED)
    assert device.dialer.told == ["detach", "lease over"]
    assert not now.guard.guards.rules
    assert device.outlet.promised, "only the user takes the wish back"


async def test_a_wish_is_pursued_by_the_next_run(tmp_path: Path) -> None:
    first = Device(tmp_path)
    await first.client.start()
    async with GatewayDouble() as gateway:
        await first.client.connect(gateway.uri())
        await first.client.wait(5)
        await first.client.stop(on_purpose=False)
        assert first.dialer.told[-1] == "close" and first.doorway.flows.stopped
        second = Device(tmp_path, first.store)
        await second.client.start()
        now = await second.client.wait(5)
        assert now.state is ClientState.CONNECTED
        await second.client.stop()
    assert second.doorway.address == ""


async def test_an_address_that_is_taken_is_told_at_the_start(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.doorway.taken = True
    with pytest.raises(ClientError, match="taken"):
        await device.client.start()
    await device.client.stop()


def test_what_a_gateway_is_asked_for(tmp_path: Path) -> None:
    def outlet(config: ClientConfig) -> ProxyOutlet:
        return ProxyOutlet(config, Answering(), Doorway(), HostFacts)

    plain = outlet(ClientConfig(tmp_path, offload=False, mtu=1400)).terms
    assert (plain.offload, plain.offload_udp, plain.mtu) == (False, False, 1400)
    usual = outlet(ClientConfig(tmp_path)).terms
    assert (usual.offload, usual.offload_udp, usual.mtu) == (True, True, 65535)
    assert outlet(ClientConfig(tmp_path)).kind is OutletKind.PROXY

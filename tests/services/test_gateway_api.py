"""Flows as the control API shows them: order, filter, page, rates."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from control import words
from control.errors import Code, ControlError
from control.methods import FLOW_SORTS, FlowParams, FlowsParams, IdParams, RenameParams
from control.schema import Finding
from eventloop.clock import SYSTEM, Clock
from gateway.gateway import Gateway
from gateway.model import MemoryStore, PeerDevice
from gateway.peers import NoSuchPeer, PeerRegistry
from services.config import Config
from services.doctor.doctor import Doctor
from services.flow_pages import SLICE
from services.gateway_api import GatewayApi
from services.logs import Ring
from services.settings import Settings
from services.wake import WakeLock
from splice.flow import FlowInfo

TV = PeerDevice(b"\x01" * 32, "Living-room TV", "linux", 0.0, 0.0)
LAPTOP = PeerDevice(b"\x02" * 32, "Laptop", "linux", 0.0, 0.0)


class LiveFlow:
    """An open flow, as the NAT has it."""

    def __init__(self, info: FlowInfo) -> None:
        self.id = info.id
        self.created, self.last_used = info.created, info.last_used
        self.from_tunnel_bytes, self.to_tunnel_bytes = info.from_tunnel_bytes, info.to_tunnel_bytes
        self.peer = TV if info.peer_id == TV.id else LAPTOP
        self._info = info

    def info(self) -> FlowInfo:
        return self._info


class FewFlows:
    """The part of a gateway that flows are read from."""

    def __init__(self, now: float) -> None:
        self.infos = [
            self._info(1, TV, "tcp", 443, now - 30, 1000, 9000),
            self._info(2, LAPTOP, "udp", 53, now - 20, 50, 60),
            self._info(3, LAPTOP, "tcp", 22, now - 10, 7000, 100),
        ]
        self.closed: list[int] = []
        self.names: dict[tuple[str, bytes], str] = {}
        self.clock = SYSTEM
        self.registry = PeerRegistry(MemoryStore(), SYSTEM)
        self.owner = self.snapshots = self

    @staticmethod
    def _info(
        id: int, peer: PeerDevice, protocol: str, port: int, created: float, up: int, down: int
    ) -> FlowInfo:
        source = (bytes([10, 47, id >> 8, id & 255]), 5000 + id)
        six = (b"\xfd" + bytes(14) + b"\x01", port)
        destination = None if protocol == "udp" else six
        return FlowInfo(
            id, peer.id, protocol, "established", source, destination, created, created,
            up, down, "tun0", (bytes([10, 8, 0, 2]), 40000),
        )  # fmt: skip

    def peers(self) -> list[PeerDevice]:
        return [TV, LAPTOP]

    def flows(self, peer_id: str | None = None) -> list[LiveFlow]:
        if peer_id is None:
            return [LiveFlow(info) for info in self.infos]
        if not any(peer.id.startswith(peer_id) for peer in self.peers()):
            raise NoSuchPeer(peer_id)
        return [LiveFlow(info) for info in self.infos if info.peer_id.startswith(peer_id)]

    def name_of(self, peer_id: str, address: bytes, began: float) -> str:
        return self.names.get((peer_id, address), "")

    def counted_of(self, public_key: bytes) -> dict[str, int]:
        names = ("tcp__connect__refused", "tcp__no_flow__rst_sent", "tunnel__packets")
        return dict(zip(names, (50, 3, 900), strict=True)) if public_key == TV.public_key else {}

    def close_flow(self, flow_id: int) -> bool:
        self.closed.append(flow_id)
        return flow_id == 1


@pytest.fixture
async def gateway() -> FewFlows:
    return FewFlows(asyncio.get_running_loop().time())


@pytest.fixture
async def api(gateway: FewFlows) -> GatewayApi:
    return api_of(gateway)


def api_of(gateway: FewFlows) -> GatewayApi:
    settings = Settings("gateway", Path("nowhere"), Config({}))
    doctor = Doctor(nobody_is_ill)
    return GatewayApi(
        cast(Gateway, gateway), Ring(), lambda: None, settings, WakeLock(False), doctor
    )


async def nobody_is_ill() -> list[Finding]:
    return []


async def ids(api: GatewayApi, **params: Any) -> list[int]:
    return [row.id for row in (await api.flows(FlowsParams(**params))).flows]


async def test_order(api: GatewayApi) -> None:
    assert await ids(api, sort="age") == [3, 2, 1]
    assert await ids(api, sort="bytes", descending=True) == [1, 3, 2]
    assert await ids(api, sort="label") == [2, 3, 1]
    for sort in FLOW_SORTS:
        assert sorted(await ids(api, sort=sort)) == [1, 2, 3]


async def test_filter_and_page(api: GatewayApi) -> None:
    assert await ids(api, filter="TCP lap") == [3]
    assert await ids(api, filter="]:443") == [1]
    assert await ids(api, filter="10.47.0.2") == [2]
    page = await api.flows(FlowsParams(limit=1, sort="bytes", descending=True))
    assert page.total == 3 and [row.id for row in page.flows] == [1]
    assert (await api.flows(FlowsParams(limit=0))).flows == []
    assert await ids(api, peer=TV.id[:4]) == [1]
    with pytest.raises(ControlError) as caught:
        await api.flows(FlowsParams(peer="zz"))
    assert caught.value.code == Code.NOT_FOUND


async def test_addresses_are_spelled(api: GatewayApi) -> None:
    rows = {row.id: row for row in (await api.flows(FlowsParams())).flows}
    assert rows[1].source == "10.47.0.1:5001" and rows[1].local == "10.8.0.2:40000"
    assert rows[1].destination == "[fd00::1]:443" and rows[2].destination == "*"
    assert (rows[1].label, rows[1].device) == ("Living-room TV", "tun0")


async def test_pings_have_no_port(api: GatewayApi, gateway: FewFlows) -> None:
    (ping,) = gateway.infos = [replace(gateway.infos[0], protocol="icmp")]
    (row,) = (await api.flows(FlowsParams())).flows
    assert (row.source, row.destination, row.local) == ("10.47.0.1", "fd00::1", "10.8.0.2")
    assert await ids(api, filter="fd00::1") == [ping.id]


async def test_a_destination_has_the_name_that_its_device_asked_for(
    api: GatewayApi, gateway: FewFlows
) -> None:
    address, _ = gateway.infos[0].destination or (b"", 0)
    gateway.names = {(TV.id, address): "www.shop.test"}
    rows = {row.id: row for row in (await api.flows(FlowsParams())).flows}
    assert [rows[id].name for id in (1, 2, 3)] == ["www.shop.test", "", ""], "not the laptop's"
    assert words.destination(rows[1]) == "www.shop.test:443"
    assert words.destination(replace(rows[1], protocol="icmp")) == "www.shop.test"
    assert words.destination(rows[3]) == "[fd00::1]:22"
    assert await ids(api, filter="SHOP") == [1]
    assert await ids(api, sort="destination") == [2, 3, 1]


async def test_rates_are_averages_first_and_then_between_looks(gateway: FewFlows) -> None:
    now = asyncio.get_running_loop().time()
    gateway.clock = Clock(lambda: now, SYSTEM.wall)
    api = api_of(gateway)

    async def rate(id: int) -> float:
        return {row.id: row for row in (await api.flows(FlowsParams())).flows}[id].to_tunnel_rate

    assert await rate(1) == pytest.approx(9000 / 30, rel=0.01)
    now += 2
    gateway.infos[0] = replace(gateway.infos[0], to_tunnel_bytes=9000 + 5000)
    await api.flows(FlowsParams(peer=LAPTOP.id))  # a look at other flows changes nothing
    assert await rate(1) == pytest.approx(2500, rel=0.01)
    now += 2
    assert await rate(1) == 0.0
    gateway.infos = []
    await api.flows(FlowsParams())
    assert not api._pages._meters, "flows that are gone are forgotten"


async def test_a_look_at_many_flows_gives_way(api: GatewayApi, gateway: FewFlows) -> None:
    now = asyncio.get_running_loop().time()
    gateway.infos = [
        gateway._info(number, TV, "tcp", 443, now - number, number, 0)
        for number in range(1, 10 * SLICE + 1)
    ]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    working = asyncio.ensure_future(others())
    page = await api.flows(FlowsParams(sort="bytes", descending=True, limit=2))
    working.cancel()
    assert turns >= 10
    assert (page.total, [row.id for row in page.flows]) == (
        10 * SLICE,
        [10 * SLICE, 10 * SLICE - 1],
    )


async def test_close_flow_and_rename(api: GatewayApi, gateway: FewFlows) -> None:
    assert api.close_flow(FlowParams(1)).id == "1"
    with pytest.raises(ControlError) as caught:
        api.close_flow(FlowParams(9))
    assert caught.value.code == Code.NOT_FOUND and gateway.closed == [1, 9]
    for label in ("x" * 65, "a\x1b[2J", "a\u202eb"):
        with pytest.raises(ControlError) as caught:
            api.rename(RenameParams(TV.id, label))
        assert caught.value.code == Code.INVALID_PARAMS


async def test_what_a_device_was_refused_stands_beside_its_counters(
    api: GatewayApi, gateway: FewFlows
) -> None:
    for each in (TV, LAPTOP):
        gateway.registry.approve(each.public_key, each.label, each.platform)
    found = api.counters(IdParams(TV.id))
    assert found.label == TV.label and found.counters["tcp__connect__refused"] == 50
    assert [(each.name, each.count, each.what) for each in found.refused] == [
        ("tcp__no_flow__rst_sent", 3, "no_flow")
    ]
    assert api.counters(IdParams(LAPTOP.id)).refused == []

"""A gateway that lies about addresses and places, against a whole client with a host in memory."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import replace
from pathlib import Path

import pytest

from client.judgement import Attached, HostFacts
from client.model import ClientState
from tests.client.gateway_double import LEASE, GatewayDouble
from tests.client.test_client import DOWN, Device
from vshp.config import LeaseConfig
from vshp.endpoints import Endpoint

LAN = HostFacts(
    own=frozenset({ipaddress.ip_address("192.168.1.7")}),
    attached=(Attached(ipaddress.ip_network("192.168.1.0/24"), "wlan0"),),
    routers=frozenset({ipaddress.ip_address("192.168.1.1")}),
)
ROUTER = replace(LEASE, ipv4=bytes((192, 168, 1, 60)), gateway_ipv4=bytes((192, 168, 1, 1)))
STUB = replace(LEASE, ipv4=bytes((127, 0, 0, 52)), gateway_ipv4=bytes((127, 0, 0, 53)))
MULTICAST = replace(LEASE, gateway_ipv6=bytes.fromhex("ff02" + "00" * 13 + "fb"))


def installed(device: Device) -> list[str]:
    """What was done to the host for a lease."""
    return [step for step in device.host.log if step.split()[0] == "set_up"]


@pytest.mark.parametrize(
    ("lease", "name", "state"),
    [
        (STUB, "lease_forbidden", ClientState.FAILED),
        (MULTICAST, "lease_forbidden", ClientState.FAILED),
        (ROUTER, "lease_clashes", ClientState.CONNECTING),
    ],
)
async def test_a_lease_that_is_refused_is_never_installed(
    tmp_path: Path, lease: LeaseConfig, name: str, state: ClientState
) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        device.host.facts = LAN
        gateway.lease = lease
        await device.client.connect(gateway.uri())
        await device.until(lambda: device.client.status().error == name)
        now = device.client.status()
        assert now.state is state and now.reason
        assert now.counters[f"{name.replace('_', '__')}__refused"] == 1
        assert not installed(device)


@pytest.mark.parametrize(("lease", "name"), [(STUB, "lease_forbidden"), (ROUTER, "lease_clashes")])
async def test_nor_one_that_comes_by_a_delta(tmp_path: Path, lease: LeaseConfig, name: str) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        device.host.facts = LAN
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        gateway.lease = lease
        gateway.guests[0].change(lease)
        await device.until(lambda: device.client.status().error == name)
        assert installed(device) == ["set_up 10.77.0.2 fd77::2"]


async def test_a_lease_that_clashes_once_the_host_has_changed_is_left(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        device.host.facts = LAN
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        device.host.facts = HostFacts(
            attached=(Attached(ipaddress.ip_network("10.77.0.0/16"), "eth1"),)
        )
        device.client._host_news.told()
        await device.until(lambda: device.client.status().error == "lease_clashes")
        reason = device.client.status().reason or ""
        assert "10.77.0.0/16" in reason and "eth1" in reason and "pool_ipv4" in reason
        device.host.facts = LAN
        device.client._host_news.told()
        await device.until(lambda: device.state is ClientState.CONNECTED)


async def test_a_host_that_changes_to_what_it_was_keeps_its_link(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        device.host.facts = LAN
        device.client._host_news.told()
        await asyncio.sleep(0.05)
        gateway.guests[0].send_packet(DOWN)
        assert await device.read() == bytes(10) + DOWN
        assert device.client.status().reconnects == 0


async def test_places_that_are_this_device_or_nobody_are_neither_kept_nor_dialled(
    tmp_path: Path,
) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        device.host.facts = LAN
        told = tuple(
            Endpoint.of("tcp", host, gateway.port)
            for host in (
                "::ffff:127.0.0.1", "255.255.255.255", "169.254.169.254", "192.168.1.7",
                "10.77.0.1", "127.0.0.53", "192.168.1.255", "192.0.2.7",
            )
        )  # fmt: skip
        gateway.lease = replace(LEASE, endpoints=told)
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        here = f"tcp:127.0.0.1:{gateway.port}"
        kept = [here, f"tcp:192.0.2.7:{gateway.port}"]
        assert [str(e) for e in device.store.gateways()[0].endpoints] == kept
        counters = device.client.status().counters
        assert counters["endpoint__forbidden__refused"] == 4
        assert counters["endpoint__here__refused"] == 3
        gateway.guests[0].cut()
        await gateway.heard(2)
        await device.until(lambda: device.state is ClientState.CONNECTED)
        assert {str(record.endpoint) for record in device.client.endpoints()} <= set(kept)


async def test_what_was_stored_is_judged_again_when_it_is_dialled(tmp_path: Path) -> None:
    """The address that a gateway had may be this device's by now; an older store holds worse."""
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        await device.client.disconnect()
        (known,) = device.store.gateways()
        bad = [replace(known.endpoints[0], host=host) for host in ("::ffff:127.0.0.1", "10.9.9.9")]
        device.store.save_gateway(replace(known, endpoints=(*bad, *known.endpoints)))
        device.host.facts = HostFacts(own=frozenset({ipaddress.ip_address("10.9.9.9")}))
        await device.client.connect()
        await device.client.wait(5)
        assert next(str(r.endpoint) for r in device.client.endpoints()) == str(known.endpoints[0])
        assert device.client.status().counters["endpoint__here__refused"] >= 2

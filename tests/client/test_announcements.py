"""A gateway that says where it is: which links are listened on, and whose word is tried."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from client.judgement import Attached, HostFacts
from client.listening import MAX_EARS, ears
from client.model import ClientState, fingerprint
from reach.announced import Place
from tests.client.gateway_double import GatewayDouble
from tests.client.test_client import Device
from tests.client.test_routers import known

LOOP = ipaddress.ip_network("127.0.0.0/8")
LINK = HostFacts(
    own=frozenset({ipaddress.ip_address("192.0.2.7")}),
    attached=(
        Attached(ipaddress.ip_network("192.0.2.0/24"), "eth0"),
        Attached(ipaddress.ip_network("2001:db8::/64"), "eth0"),
    ),
)


def test_each_link_with_an_ipv4_address_is_listened_on(tmp_path: Path) -> None:
    facts = HostFacts(
        own=frozenset(map(ipaddress.ip_address, ("192.168.1.7", "192.168.1.8", "10.1.0.7",
                                                 "172.17.0.1", "fd00::7"))),
        attached=tuple(
            Attached(ipaddress.ip_network(network), interface)
            for network, interface in (("192.168.1.0/24", "eth0"), ("10.1.0.0/24", "wlan0"),
                                       ("172.17.0.0/16", "docker0"), ("fd00::/64", "eth1"))
        ),
    )  # fmt: skip
    assert ears(facts, tmp_path) == (("192.168.1.7", "eth0"), ("10.1.0.7", "wlan0"))


def test_links_are_few(tmp_path: Path) -> None:
    facts = HostFacts(
        own=frozenset(ipaddress.ip_address(f"10.{n}.0.1") for n in range(20)),
        attached=tuple(
            Attached(ipaddress.ip_network(f"10.{n}.0.0/24"), f"eth{n}") for n in range(20)
        ),
    )
    assert len(ears(facts, tmp_path)) == MAX_EARS


async def away(device: Device, gateway: GatewayDouble) -> None:
    """A known gateway is sought, and not where it was."""
    await known(device, gateway)
    await gateway.deafen()
    await device.client.connect()
    await device.until(lambda: device.client.status().error is not None)


def tried(device: Device) -> list[str]:
    return [str(record.endpoint) for record in device.client.endpoints()]


@pytest.mark.parametrize(
    ("host", "sender"),
    [("192.0.2.9", "203.0.113.9"), ("203.0.113.9", "192.0.2.9"), ("2001:db9::9", "192.0.2.9"),
     ("192.0.2.7", "192.0.2.9"), ("127.0.0.1", "192.0.2.9"), ("192.0.2.255", "192.0.2.9")],
)  # fmt: skip
async def test_only_who_is_on_the_link_is_believed_to_be_there(
    tmp_path: Path, host: str, sender: str
) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        device.host.facts = LINK
        await away(device, gateway)
        digits = fingerprint(gateway.public_key).replace(":", "")
        device.client._pursuit.ways._heard(Place(digits, host, 47999), sender)
        assert "announcement__gateway__heard" not in device.client.status().counters
        device.client._pursuit.ways._heard(Place(digits, "192.0.2.9", 47999), "192.0.2.9")
        assert device.client.status().counters["announcement__gateway__heard"] == 1


async def test_who_is_not_meant_is_not_tried(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        device.host.facts = LINK
        place = Place("0123456789abcdef", "192.0.2.9", 47999)
        device.client._pursuit.ways._heard(place, "192.0.2.9")
        await away(device, gateway)
        device.client._pursuit.ways._heard(place, "192.0.2.9")
        assert "announcement__gateway__heard" not in device.client.status().counters
        assert not any("192.0.2.9" in endpoint for endpoint in tried(device))


async def test_the_gateway_is_tried_where_it_says_that_it_is(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        device.host.facts = HostFacts(attached=(Attached(LOOP, "eth0"),))
        await away(device, gateway)
        gateway.port = 0
        await gateway.listen()
        digits = fingerprint(gateway.public_key).replace(":", "")
        # Loopback stands in for the link here, which a gateway's own word may not name.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("client.trust.judge_endpoint", lambda *_: None)
            device.client._pursuit.ways._heard(
                Place(digits, "127.0.0.9", gateway.port), "127.0.0.9"
            )
            assert device.state is ClientState.CONNECTING
            gateway.host = "127.0.0.9"
            await gateway.deafen()
            await gateway.listen()
            now = await device.client.wait(10)
        assert now.endpoint == f"tcp:127.0.0.9:{gateway.port}"

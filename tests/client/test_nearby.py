"""What is near: phones, routers that show a key, announcements; and what of it is not believed."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from pathlib import Path

import pytest

from client import nearby
from client.judgement import Attached, HostFacts, Router
from client.model import ClientError, TransportEndpoint, fingerprint
from client.nearby import Nearby, Surroundings
from reach.cable import Phone, PhoneState
from reach.mdns import Announcement, DiscoveryUnavailable
from tests.client.gateway_double import GatewayDouble
from tests.client.test_client import Device

ip = ipaddress.ip_address
LAN = HostFacts(
    own=frozenset({ip("192.168.1.7"), ip("fd01::7")}),
    attached=(Attached(ipaddress.ip_network("192.168.1.0/24"), "wlan0"),),
    defaults=(Router(ip("192.168.1.1"), "wlan0"),),
)
ROUTER = "192.168.1.1:47800"
KEY = "aa:aa"


class Connected:
    """A cable with some phones on it."""

    def __init__(self, *phones: Phone) -> None:
        self.there = list(phones)

    async def phones(self) -> list[Phone]:
        return self.there


async def shows(endpoint: TransportEndpoint, mark: int, seconds: float) -> str:
    return KEY


async def refuses(endpoint: TransportEndpoint, mark: int, seconds: float) -> str:
    raise ConnectionRefusedError


async def is_none(endpoint: TransportEndpoint, mark: int, seconds: float) -> str:
    raise ClientError("not_a_gateway", "What answers is no gateway.")


async def says_nothing(endpoint: TransportEndpoint, mark: int, seconds: float) -> str:
    await asyncio.Event().wait()
    return KEY


def announces(*found: Announcement) -> nearby.Browse:
    async def browse(addresses: Iterable[str], seconds: float) -> list[Announcement]:
        assert list(addresses) == ["192.168.1.7"]
        return list(found)

    return browse


async def look(
    probe: nearby.Probe, *heard: Announcement, phones: tuple[Phone, ...] = ()
) -> tuple[Nearby, ...]:
    around = await nearby.look(LAN, Connected(*phones), 0, probe, announces(*heard))
    assert around.deaf == ""
    return around.found


async def test_a_router_that_shows_a_key_is_one_and_its_announcement_names_it() -> None:
    (found,) = await look(shows)
    assert (found.way, found.target, found.name, found.fingerprint) == ("router", ROUTER, "", KEY)
    (found,) = await look(shows, Announcement("Kitchen", KEY, ("192.168.1.1",), 47800))
    assert (found.way, found.target, found.name) == ("router", ROUTER, "Kitchen")


async def test_a_name_that_somebody_else_announces_is_not_the_routers() -> None:
    router, other = await look(shows, Announcement("Evil", "bb:bb", ("192.168.1.66",), 47800))
    assert (router.name, router.target) == ("", ROUTER)
    assert (other.way, other.target) == ("announced", "192.168.1.66:47800")


@pytest.mark.parametrize("probe", [refuses, is_none, says_nothing])
async def test_a_router_that_is_no_gateway_is_none(
    probe: nearby.Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearby, "ANSWER_SECONDS", 0.05)
    assert await look(probe) == ()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "192.168.1.7", "169.254.169.254", "203.0.113.9", "10.0.0.1", "224.0.0.1"]
)
async def test_what_is_announced_elsewhere_or_here_is_left_out(host: str) -> None:
    assert await look(refuses, Announcement("Evil", "bb:bb", (host,), 47800)) == ()


async def test_phones_come_first_and_what_bars_one_is_told() -> None:
    held = Phone("B", PhoneState.OFFLINE, "Two\x1b[31m")
    first, second, router = await look(
        shows, phones=(Phone("A", PhoneState.NOT_ALLOWED, "One"), held)
    )
    assert (first.target, first.lack) == ("usb:A", ""), "connecting asks the person at the phone"
    assert second.target == "usb:B" and "Unplug it" in second.lack and "\x1b" not in second.name
    assert router.target == ROUTER


async def test_why_nobody_has_listened_is_told() -> None:
    async def browse(addresses: Iterable[str], seconds: float) -> list[Announcement]:
        raise DiscoveryUnavailable("mDNS needs the package zeroconf.", lacks="zeroconf")

    around = await nearby.look(LAN, Connected(), 0, refuses, browse)
    assert (around.deaf, around.lacks) == ("mDNS needs the package zeroconf.", "zeroconf")
    alone = await nearby.look(HostFacts(), Connected(), 0, refuses, browse)
    assert alone.deaf == "This device is on no local network."


async def test_the_key_is_the_gateways_own_and_two_who_look_get_one_answer(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway:
        there = TransportEndpoint("tcp", "127.0.0.1", gateway.port)
        shown = await nearby.shown_key(there, 0, 5.0)
        assert shown == fingerprint(gateway.public_key)
    async with Device(tmp_path) as device:
        one, other = await asyncio.gather(device.client.nearby(), device.client.nearby())
        assert one is other and isinstance(one, Surroundings)

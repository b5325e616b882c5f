"""What a client must not reach through the gateway: refused at once, whatever the spelling, and
counted where the owner sees it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.capture import Capture
from tests.netns.conftest import Tunnel
from tests.netns.processes import wait_for
from tests.netns.product import PORT
from tests.netns.raw_packets import PROTOCOLS, RawNic, spellings
from tests.netns.world import LEAK_FILTER

PROHIBITED = {4: "icmp 3/13", 6: "icmp 1/1"}
PATIENCE = 5.0
ELSEWHERE_PORT = 8080
NO_NEWS = "not (udp src port 5353 and udp dst port 5353)"
"""Less the gateway's own announcements, which may go on for a while after its start."""

REFUSED4 = {
    "127.0.0.1": "loopback",
    "127.200.3.4": "loopback",
    "10.1.0.1": "own_address",
    "10.1.1.1": "own_address",
    "10.7.0.2": "own_address",
    "10.8.0.2": "own_address",
    "10.1.0.2": "attached_network",
    "10.1.1.2": "attached_network",
    "10.7.0.1": "attached_network",
    "10.1.0.255": "attached_network",
    "169.254.169.254": "link_local",
    "169.254.0.1": "link_local",
}
SILENT4 = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
}
"""An ICMP error about these must not be sent (RFC 1122 3.2.2): they are dropped and counted."""
REFUSED6 = {
    "::1": "loopback",
    "fd01::1": "own_address",
    "fd07::2": "own_address",
    "fd08::2": "own_address",
    "fd01::2": "attached_network",
    "fd01:1::2": "attached_network",
    "fd07::1": "attached_network",
    "fe80::1": "link_local",
    "fec0::1": "link_local",
}
SILENT6 = {"::": "unspecified", "ff02::1": "multicast", "ff05::2": "multicast"}


@pytest.fixture(scope="module")
def nic(tunnel: Tunnel) -> Iterator[RawNic]:
    status = tunnel.client.status()
    lease = status["lease"]
    host = tunnel.world.client
    with RawNic(host, status["interface"], lease["ipv4"], lease["ipv6"]) as opened:
        yield opened


@pytest.fixture(scope="module", autouse=True)
def nothing_moves(tunnel: Tunnel) -> Iterator[None]:
    """Fails if anything was sent to the gateway itself or to its neighbours."""
    world = tunnel.world
    with (
        Capture.of(world.gateway, "lo", NO_NEWS) as loopback,
        Capture.of(
            world.gateway, "lan0", f"{LEAK_FILTER} and not port {PORT} and {NO_NEWS}"
        ) as lan0,
        Capture.of(world.gateway, "lan1", LEAK_FILTER) as lan1,
        Capture.of(world.gateway, "under0", LEAK_FILTER) as underlay,
    ):
        yield
        for capture in (loopback, lan0, lan1, underlay):
            assert capture.lines("-t") == []


def counter(tunnel: Tunnel, name: str) -> int:
    counters: dict[str, int] = tunnel.gateway.peek()["counters"]
    return counters.get(name, 0)


def refused(tunnel: Tunnel, nic: RawNic, why: str, port: int, *destinations: str) -> None:
    """Each protocol is told at once, and counted by its own name."""
    before = tunnel.gateway.peek()["counters"]
    for destination in destinations:
        for protocol in PROTOCOLS:
            packet = nic.packet(protocol, destination, port)
            nic.send(packet)
            told = nic.answer(packet, PATIENCE)
            assert told == PROHIBITED[6 if ":" in destination else 4], (protocol, destination)
    after = tunnel.gateway.peek()["counters"]
    for protocol in PROTOCOLS:
        name = f"{protocol}__refused_{why}__icmp_sent"
        assert after.get(name, 0) == before.get(name, 0) + len(destinations), name


def dropped(tunnel: Tunnel, nic: RawNic, destination: str, why: str) -> None:
    """No error may be sent, so each protocol is dropped and counted."""
    names = [f"{protocol}__refused_{why}__dropped" for protocol in PROTOCOLS]
    before = tunnel.gateway.peek()["counters"]
    for protocol in PROTOCOLS:
        nic.send(nic.packet(protocol, destination, ELSEWHERE_PORT))

    def counted() -> bool:
        after = tunnel.gateway.peek()["counters"]
        return all(after.get(name, 0) > before.get(name, 0) for name in names)

    wait_for(counted, f"{names} to be counted for {destination}")


@pytest.mark.parametrize("destination", REFUSED4)
def test_ipv4_in_every_spelling(tunnel: Tunnel, nic: RawNic, destination: str) -> None:
    spelled = spellings(destination).values()
    refused(tunnel, nic, REFUSED4[destination], ELSEWHERE_PORT, destination, *spelled)


@pytest.mark.parametrize("destination", REFUSED6)
def test_ipv6(tunnel: Tunnel, nic: RawNic, destination: str) -> None:
    refused(tunnel, nic, REFUSED6[destination], ELSEWHERE_PORT, destination)


@pytest.mark.parametrize("destination", [*SILENT4, *SILENT6])
def test_what_may_not_be_answered_is_dropped(tunnel: Tunnel, nic: RawNic, destination: str) -> None:
    dropped(tunnel, nic, destination, (SILENT4 | SILENT6)[destination])


@pytest.mark.parametrize("destination", ["127.0.0.1", "::1", "10.1.0.1", "fd01::1", "10.8.0.2"])
def test_the_listener_is_not_reached_from_within(
    tunnel: Tunnel, nic: RawNic, destination: str
) -> None:
    why = "loopback" if destination in ("127.0.0.1", "::1") else "own_address"
    refused(tunnel, nic, why, PORT, destination)


@pytest.mark.parametrize("version", [4, 6])
def test_the_gateways_virtual_address_has_a_resolver_and_nothing_else(
    tunnel: Tunnel, nic: RawNic, version: int
) -> None:
    gateway = tunnel.client.status()["lease"][f"gateway_ipv{version}"]
    for protocol, name, told in (
        ("tcp", "tcp__gateway_port__rst_sent", "rst"),
        ("udp", "udp__gateway_port__icmp_sent", "icmp 3/3" if version == 4 else "icmp 1/4"),
    ):
        for port in (PORT, 22, 80):
            before = counter(tunnel, name)
            packet = nic.packet(protocol, gateway, port)
            nic.send(packet)
            assert nic.answer(packet, PATIENCE) == told
            assert counter(tunnel, name) == before + 1


def test_the_vpns_broadcast_address_is_refused(tunnel: Tunnel, nic: RawNic) -> None:
    """It is the VPN's own network, so clients may speak to it; but not to all of it at once."""
    for protocol in PROTOCOLS:
        packet = nic.packet(protocol, "10.8.0.255", ELSEWHERE_PORT)
        nic.send(packet)
        assert nic.answer(packet, PATIENCE).startswith("icmp 3/"), protocol
    counters = tunnel.gateway.peek()["counters"]
    assert any("prohibited" in name or "net_unreachable" in name for name in counters)


def test_programs_are_told_at_once(tunnel: Tunnel) -> None:
    """The metadata service of clouds, as curl sees it."""
    curl = ["curl", "-sS", "-m", "10", "http://169.254.169.254/latest/meta-data/"]
    told = tunnel.world.client.run(curl, check=False)
    assert told.returncode == 7, told.stderr
    assert "timed out" not in told.stderr

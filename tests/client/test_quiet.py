"""What a client does not do while its gateway is away and nothing is new: each of it wakes."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

import pytest

from client.dial import AllUnreachable, Race
from client.endpoints import Outcome
from client.judgement import HostFacts
from client.model import ClientState, TransportEndpoint
from client.outlet.nic.nic import Nic
from client.system.watch import NetworkWatch
from reach.cable import Cable
from tests.client.gateway_double import GatewayDouble
from tests.client.test_client import Device
from vshp.config import CloseReason


def at(host: str, by: str = "tcp") -> TransportEndpoint:
    return TransportEndpoint(by, host, 47800)


class Network:
    """Takes the place of `dial.connect`: who is where, and in what order they were asked."""

    def __init__(self, errors: dict[str, int]) -> None:
        self.errors = errors
        self.asked: list[str] = []
        self.answer = asyncio.Event()

    async def connect(
        self, endpoint: TransportEndpoint, mark: int, timeout: float, cable: Cable | None
    ) -> socket.socket:
        self.asked.append(str(endpoint))
        if endpoint.transport == "udp":
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        await self.answer.wait()
        number = self.errors[endpoint.host]
        raise OSError(number, os.strerror(number))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    errors = {"192.0.2.1": errno.ECONNREFUSED, "192.0.2.2": errno.EHOSTUNREACH}
    network = Network(errors)
    monkeypatch.setattr("client.dial.connect", network.connect)
    return network


async def test_a_quiet_race_begins_at_once_and_asks_by_datagram_last(network: Network) -> None:
    told: dict[str, Outcome] = {}

    def tell(
        endpoint: TransportEndpoint, outcome: Outcome, why: str, seconds: float | None
    ) -> None:
        told[str(endpoint)] = outcome

    there, absent = ("192.0.2.1", "192.0.2.2")
    everything = (at(there), at(there, "udp"), at(absent), at(absent, "udp"))
    race = Race(everything, 0, 30.0, tell, quiet=True)
    taken = asyncio.ensure_future(race.next())
    for _ in range(20):
        await asyncio.sleep(0)
    assert network.asked == [str(at(there)), str(at(absent))], "together, and no datagram"
    network.answer.set()
    async with asyncio.timeout(10):
        sock, endpoint = await taken
        assert endpoint == at(there, "udp"), "somebody is there"
        sock.close()
        with pytest.raises(AllUnreachable):
            await race.next()
    assert str(at(absent, "udp")) not in network.asked, "nobody is there"
    assert told == {
        str(at(there)): Outcome.REFUSED,
        str(at(absent)): Outcome.UNREACHABLE,
        str(at(absent, "udp")): Outcome.UNREACHABLE,
    }
    await race.close()


async def test_a_quiet_race_of_datagrams_alone_is_one(network: Network) -> None:
    race = Race((at("192.0.2.2", "udp"),), 0, 30.0, quiet=True)
    async with asyncio.timeout(10):
        sock, _ = await race.next()
    sock.close()
    await race.close()


@pytest.mark.parametrize("hears", [True, False])
async def test_a_host_without_news_is_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hears: bool
) -> None:
    for name, value in (("BACKOFF_FIRST", 0.001), ("BACKOFF_MAX", 0.01), ("QUIET_ROUNDS", 3)):
        monkeypatch.setattr(f"client.reconnect.{name}", value)
    looks = rounds = 0

    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        client, host = device.client, device.host
        # News of the network are the test's.
        client._watch.stop()
        monkeypatch.setattr(NetworkWatch, "hears", hears)

        def look(nic: Nic | None) -> HostFacts:
            nonlocal looks
            looks += 1
            return host.facts

        def count() -> None:
            nonlocal rounds
            rounds += 1

        monkeypatch.setattr(host, "look", look)
        await client.connect(gateway.uri())
        await client.wait(5)
        client.on_change = count
        await gateway.deafen()
        gateway.guests[0].close(CloseReason.SHUTDOWN)

        async def more() -> int:
            """Looks during the rounds to come."""
            upto, before = rounds + 10, looks
            await device.until(lambda: rounds >= upto)
            return looks - before

        await device.until(lambda: device.state is ClientState.RECONNECTING)
        await more()
        assert (await more() == 0) is hears
        before = looks
        client._host_news.told()
        await device.until(lambda: looks > before + 1)
        await more()
        assert (await more() == 0) is hears
        await gateway.listen()
        await device.until(lambda: device.state is ClientState.CONNECTED)

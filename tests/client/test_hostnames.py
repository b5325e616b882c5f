"""Gateways by the names of their hosts: asked again, judged, and never waited for alone."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import replace
from pathlib import Path

import pytest

from client.client import Client
from client.judgement import HostFacts
from client.model import ClientConfig, ClientError, ClientState, TransportEndpoint
from client.outlet.nic.outlet import NicOutlet
from reach.names import NameProblem, Opener
from tests.client.gateway_double import GatewayDouble
from tests.client.test_client import Device
from tests.fakes.ports import free_port

SERVERS = (ipaddress.ip_address("192.0.2.53"), ipaddress.ip_address("2001:db8::53"))
LAN = HostFacts(own=frozenset({ipaddress.ip_address("192.168.1.7")}), resolvers=SERVERS)


class Names:
    """Answers by a table; remembers who was to be asked."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[str, ...] | NameProblem] = {}
        self.asked: list[tuple[str, tuple[str, ...], tuple[str, ...], bool]] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def ask(
        self,
        host: str,
        servers: tuple[str, ...],
        open_socket: Opener,
        *,
        links: tuple[str, ...],
        system: bool,
    ) -> tuple[str, ...]:
        self.asked.append((host, servers, links, system))
        await self.hold.wait()
        answer = self.known.get(host, NameProblem("name_unknown", "no host has that name"))
        if isinstance(answer, NameProblem):
            raise answer
        return answer


class Named(Device):
    """A device whose names are looked up in a table."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.names = Names()
        self.host.facts = LAN
        config = ClientConfig(path, label="laptop")
        self.client = Client(self.store, config, NicOutlet(self.host, config), ask=self.names.ask)

    async def refusal(self, target: str) -> ClientError:
        with pytest.raises(ClientError) as caught:
            await self.client.connect(target)
        assert self.state is ClientState.IDLE and self.host.log[-1] == "undo"
        return caught.value


async def test_a_name_that_leads_nowhere_is_said_at_once(tmp_path: Path) -> None:
    async with Named(tmp_path) as device:
        error = await device.refusal("phone.lan:1234")
        assert (error.name, error.message) == (
            "name_unknown", "phone.lan leads to no gateway: no host has that name.",
        )  # fmt: skip
        servers = ("192.0.2.53", "2001:db8::53")
        assert device.names.asked == [("phone.lan", servers, ("192.168.1.7",), True)]
        device.names.known["dead.lan"] = NameProblem("name_unanswered", "nobody has answered")
        assert (await device.refusal("dead.lan")).name == "name_unanswered"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "this device itself"),
        ("::1", "this device itself"),
        ("::ffff:127.0.0.1", "this device itself"),
        ("192.168.1.7", "this device itself"),
        ("169.254.169.254", "metadata"),
        ("0.0.0.0", "no one host"),
        ("ff02::1", "no one host"),
    ],
)
async def test_where_no_name_may_lead(tmp_path: Path, address: str, why: str) -> None:
    async with Named(tmp_path) as device:
        device.names.known["phone.lan"] = (address,)
        error = await device.refusal("phone.lan")
        assert error.name == "name_refused" and why in error.message and error.hint


async def paired(gateway: GatewayDouble, device: Named) -> TransportEndpoint:
    """Connected, and the gateway is known by the name of its host, too."""
    await device.client.connect(gateway.uri())
    await device.client.wait(5)
    await device.client.disconnect()
    (known,) = device.store.gateways()
    named = TransportEndpoint("tcp", "phone.lan", gateway.port)
    device.store.save_gateway(replace(known, endpoints=(named, *known.endpoints)))
    return named


async def test_a_name_is_kept_asked_again_and_never_in_the_way_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.hostnames.FRESH", 0.0)
    async with GatewayDouble() as gateway, Named(tmp_path) as device:
        named = await paired(gateway, device)
        device.names.hold.clear()
        await device.client.connect()
        now = await device.client.wait(5)
        assert now.state is ClientState.CONNECTED, "the answer has not come yet"
        assert named in device.store.gateways()[0].endpoints
        device.names.known["phone.lan"] = ("10.77.0.1", "192.0.2.9")
        device.names.hold.set()
        asked = len(device.names.asked)
        assert device.names.asked[-1][3] is False, "the system's resolver may be the gateway"
        gateway.guests[-1].cut()
        await device.until(lambda: len(device.names.asked) > asked)
        await device.until(lambda: device.state is ClientState.CONNECTED)
        device.client._pursuit.search.hurry()
        await device.until(lambda: f"tcp:192.0.2.9:{gateway.port}" in tried(device))
        assert f"tcp:10.77.0.1:{gateway.port}" not in tried(device), "inside the tunnel"
        assert str(named) not in tried(device)


def tried(device: Device) -> list[str]:
    return [str(record.endpoint) for record in device.client.endpoints()]


async def test_what_a_name_led_to_last_stays_while_nobody_answers(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Named(tmp_path) as device:
        named = await paired(gateway, device)
        (known,) = device.store.gateways()
        device.store.save_gateway(replace(known, endpoints=(named,)))
        device.names.known["phone.lan"] = ("192.0.2.9",)
        await device.client.connect()
        there = f"tcp:192.0.2.9:{gateway.port}"
        await device.until(lambda: there in tried(device))
        unanswered = NameProblem("name_unanswered", "nobody has answered")
        device.names.known["phone.lan"] = unanswered
        asked = len(device.names.asked)
        await device.until(lambda: len(device.names.asked) > asked)
        await device.until(lambda: device.client._names.problem("phone.lan") is unanswered)
        assert there in tried(device)
        device.names.known["phone.lan"] = NameProblem("name_unknown", "no host has that name")
        await device.until(lambda: device.client.status().error == "name_unknown")
        status = device.client.status()
        assert status.state is ClientState.CONNECTING and "phone.lan: no host" in (
            status.reason or ""
        )
        assert tried(device) == [str(named)]


async def test_a_name_that_is_answered_late_joins_the_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has the gateway's old address, and keeps the round busy by saying nothing."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr("client.hostnames.MOMENT", 0.0)
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, GatewayDouble() as gateway, Named(tmp_path) as device:
        named = await paired(gateway, device)
        (known,) = device.store.gateways()
        port = server.sockets[0].getsockname()[1]
        there = TransportEndpoint("tcp", "127.0.0.1", port)
        device.store.save_gateway(replace(known, endpoints=(named, there)))
        device.names.hold.clear()
        device.names.known["phone.lan"] = ("10.77.0.1", "192.0.2.9", "127.0.0.1")
        await device.client.connect()
        pursuit = device.client._pursuit
        await device.until(lambda: pursuit.round is not None and pursuit.round.link is not None)
        current = pursuit.round
        device.names.hold.set()
        late = f"tcp:192.0.2.9:{gateway.port}"
        await device.until(lambda: late in tried(device))
        assert pursuit.round is current, "it is tried in the round that was under way"
        assert f"tcp:127.0.0.1:{gateway.port}" not in tried(device), "it is judged as ever"
        assert len(device.names.asked) == 1


async def test_a_late_name_without_a_round_has_the_next_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.hostnames.MOMENT", 0.0)
    monkeypatch.setattr("client.reconnect.BACKOFF_FIRST", 3600.0)
    monkeypatch.setattr("client.reconnect.BACKOFF_MAX", 3600.0)
    async with GatewayDouble() as gateway, Named(tmp_path) as device:
        named = await paired(gateway, device)
        (known,) = device.store.gateways()
        nobody = TransportEndpoint("tcp", "127.0.0.1", free_port())
        device.store.save_gateway(replace(known, endpoints=(named, nobody)))
        device.names.hold.clear()
        device.names.known["phone.lan"] = ("192.0.2.9",)
        await device.client.connect()
        await device.until(lambda: device.client.status().error == "unreachable")
        await device.until(lambda: device.client._pursuit.round is None)
        device.names.hold.set()
        await device.until(lambda: f"tcp:192.0.2.9:{gateway.port}" in tried(device))

"""The link over UDP, and moving between links: to another address, to a better transport."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from client.datagram_link import DatagramLink
from client.driver import LinkOwner
from client.judgement import HostFacts
from client.link import Link
from client.model import ClientState, TransportEndpoint
from client.outlet.nic.ingress import Ingress
from client.outlet.nic.nic import MemoryTun
from client.outlet.nic.pump import NicPort
from eventloop.link_sockets import UDP_GRO
from tests.client.datagram_double import DatagramDouble
from tests.client.gateway_double import GatewayDouble
from tests.client.test_client import DOWN, SET_UP, UDP, Device
from tests.vshp.lossy import connected, split
from vshp.endpoints import Endpoint
from vshp.uri import PairingUri


@asynccontextmanager
async def door(gateway: GatewayDouble) -> AsyncIterator[tuple[DatagramDouble, Endpoint]]:
    double = DatagramDouble(gateway)
    port = await double.listen()
    try:
        yield double, Endpoint.of("udp", "127.0.0.1", port)
    finally:
        double.transport.close()


def uri(gateway: GatewayDouble, *endpoints: Endpoint) -> str:
    secret = gateway.secrets.issue(time.monotonic())
    return PairingUri(gateway.public_key, secret, "phone", endpoints).encode()


def running(device: Device) -> Link:
    current = device.client._pursuit.round
    assert current is not None and isinstance(current.link, Link)
    return current.link


async def test_packets_go_both_ways_over_datagrams(tmp_path: Path) -> None:
    async with (
        GatewayDouble() as gateway,
        door(gateway) as (double, there),
        Device(tmp_path) as device,
    ):
        await device.client.connect(uri(gateway, there), "udp")
        now = await device.client.wait(5)
        assert (now.state, now.transport) == (ClientState.CONNECTED, "udp")
        assert device.host.nic is not None
        assert device.host.nic.offload == (False, False)
        assert device.host.nic.mtu == 1280
        for number in range(40):
            device.write(bytes(10) + UDP[:-1] + bytes((number,)))
        await gateway.until(lambda: len(gateway.packets) == 40)
        assert gateway.packets[7] == (None, UDP[:-1] + b"\x07")
        double.send_packet(double.sessions[0], DOWN)
        assert await device.read() == bytes(10) + DOWN


async def test_what_was_queued_before_offload_ended_is_dropped_by_name(tmp_path: Path) -> None:
    async with (
        GatewayDouble() as gateway,
        door(gateway) as (_, there),
        Device(tmp_path) as device,
    ):
        await device.client.connect(uri(gateway, there))
        await device.client.wait(5)
        device.write(b"\x01" + bytes(9) + UDP)
        device.write(bytes(10) + UDP)
        await gateway.until(lambda: len(gateway.packets) == 1)
        assert device.client.status().counters["nic__unfinished__dropped"] == 1


async def test_a_removed_nic_is_replaced_under_a_link_of_datagrams(tmp_path: Path) -> None:
    async with (
        GatewayDouble() as gateway,
        door(gateway) as (_, there),
        Device(tmp_path) as device,
    ):
        await device.client.connect(uri(gateway, there))
        await device.client.wait(5)
        before = device.host.nic
        assert before is not None
        before.vanish()
        await device.until(lambda: device.host.log.count(SET_UP) == 2)
        await device.until(lambda: device.state is ClientState.CONNECTED)
        device.write(bytes(10) + UDP)
        await gateway.until(lambda: gateway.packets == [(None, UDP)])


async def test_a_change_of_the_lease_reaches_the_nic_at_once(tmp_path: Path) -> None:
    async with (
        GatewayDouble() as gateway,
        door(gateway) as (double, there),
        Device(tmp_path) as device,
    ):
        await device.client.connect(uri(gateway, there))
        await device.client.wait(5)
        session = double.sessions[0]
        assert session.lease is not None
        session.change(replace(session.lease, mtu=1400), time.monotonic())
        double.flush(session)
        await device.until(lambda: device.mtu == 1400)
        assert device.host.nic is not None and device.host.nic.mtu == 1400


async def test_another_address_keeps_the_session(tmp_path: Path) -> None:
    async with (
        GatewayDouble() as gateway,
        door(gateway) as (double, there),
        Device(tmp_path) as device,
    ):
        await device.client.connect(uri(gateway, there))
        await device.client.wait(5)
        session = double.sessions[0]
        before = session.address
        running(device).local_address = "192.0.2.1"
        device.client._host_news.told()
        await gateway.until(lambda: session.address != before)
        device.write(bytes(10) + UDP)
        await gateway.until(lambda: gateway.packets == [(None, UDP)])
        double.send_packet(session, DOWN)
        assert await device.read() == bytes(10) + DOWN
        assert len(double.hellos) == 1
        assert device.client.status().reconnects == 0


async def test_nobody_there_is_known_by_icmp(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        async with door(gateway) as (_, there):
            pass
        await device.client.connect(uri(gateway, there), "udp")
        now = await device.client.wait(10)
        assert (now.state, now.error) == (ClientState.FAILED, "unreachable")
        assert now.reason is not None and "refused" in now.reason


async def test_a_gateway_that_goes_away_is_noticed_by_icmp(tmp_path: Path) -> None:
    async with (
        GatewayDouble() as gateway,
        door(gateway) as (double, there),
        Device(tmp_path) as device,
    ):
        await device.client.connect(uri(gateway, there))
        await device.client.wait(5)
        double.transport.abort()
        for _ in range(200):
            if device.client.status().reconnects:
                break
            device.write(bytes(10) + UDP)
            await asyncio.sleep(0.01)
        assert device.client.status().reconnects == 1


async def test_a_full_socket_holds_what_was_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        GatewayDouble() as gateway,
        door(gateway) as (_, there),
        Device(tmp_path) as device,
    ):
        await device.client.connect(uri(gateway, there))
        await device.client.wait(5)
        put = DatagramLink._put
        times = iter([True, True, True])

        def full(link: DatagramLink, data: memoryview, segment: int) -> None:
            if next(times, False):
                raise BlockingIOError
            put(link, data, segment)

        monkeypatch.setattr(DatagramLink, "_put", full)
        for _ in range(5):
            device.write(bytes(10) + UDP)
        await gateway.until(lambda: len(gateway.packets) == 5)


async def test_tcp_is_moved_to_when_it_appears_and_nothing_is_lost(tmp_path: Path) -> None:
    async with (
        GatewayDouble() as gateway,
        door(gateway) as (double, there),
        Device(tmp_path) as device,
    ):
        await gateway.deafen()
        here = Endpoint.of("tcp", "127.0.0.1", gateway.port)
        await device.client.connect(uri(gateway, here, there))
        now = await device.client.wait(5)
        assert (now.state, now.transport) == (ClientState.CONNECTED, "udp")
        await gateway.listen()
        device.client._pursuit.hurry()
        await device.until(lambda: device.client.status().transport == "tcp")
        assert gateway.resumes[-1] is not None
        device.write(bytes(10) + UDP)
        await gateway.until(lambda: gateway.packets == [(bytes(10), UDP)])
        gateway.guests[-1].send_packet(DOWN)
        assert await device.read() == bytes(10) + DOWN
        now = device.client.status()
        assert (now.state, now.reconnects) == (ClientState.CONNECTED, 0)
        assert double.sessions[0].closed
        assert "undo" not in device.host.log[2:]


async def test_a_trial_that_fails_costs_nothing(tmp_path: Path) -> None:
    async with (
        GatewayDouble() as gateway,
        door(gateway) as (_, there),
        Device(tmp_path) as device,
    ):
        await gateway.deafen()
        here = Endpoint.of("tcp", "127.0.0.1", gateway.port)
        await device.client.connect(uri(gateway, here, there))
        await device.client.wait(5)
        silent = await asyncio.start_server(_silent, "127.0.0.1", gateway.port)
        current = device.client._pursuit.round
        assert current is not None
        device.client._pursuit.hurry()
        await device.until(lambda: current._candidate is not None)
        device.write(bytes(10) + UDP)
        await gateway.until(lambda: gateway.packets == [(None, UDP)])
        await device.until(lambda: current._candidate is None)
        silent.close()
        assert device.client.status().transport == "udp"


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


class Listening(DatagramLink):
    """Does nothing by itself."""

    def _begin(self) -> None: ...

    def _settle(self, ending: object) -> None: ...


async def test_datagrams_alone_and_in_runs_reach_the_nic_in_order_and_only_while_it_is_there() -> (
    None
):
    world = connected()
    session = world.client
    assert session.lease is not None
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sessions = SimpleNamespace(datagram=lambda now, address: session)
    there = TransportEndpoint("udp", "127.0.0.1", 1)
    link = Listening(cast(LinkOwner, None), sock, there, cast(Any, sessions), lambda: sock)
    waiting: list[tuple[int, list[tuple[int, int, bytes]], int, None]] = []

    def receive(buffers: object, size: int) -> object:
        if not waiting:
            raise BlockingIOError
        return waiting.pop(0)

    def hear(*packets: bytes) -> list[bytes]:
        """They come by one system call, each in a datagram; what the NIC has then."""
        assert world.gateway is not None
        writer = world.gateway.writer
        for packet in packets:
            writer.send_packet(bytearray(64) + packet, 64, 64 + len(packet))
            writer.flush()
        datagrams = split(writer.output())
        data = b"".join(datagrams)
        link._buffer[: len(data)] = data
        run = [(socket.IPPROTO_UDP, UDP_GRO, len(datagrams[0]).to_bytes(4, "little"))]
        waiting.append((len(data), run if len(packets) > 1 else [], 0, None))
        link._receive(world.now)
        found = []
        while True:
            try:
                found.append(nic.host.recv(70000))
            except BlockingIOError:
                return found

    def segment(number: int) -> bytes:
        ports = (80).to_bytes(2, "big") + (4000).to_bytes(2, "big")
        tcp = ports + (number * 1300).to_bytes(4, "big") + bytes(4) + b"\x50\x10\xff\xff" + bytes(4)
        head = b"\x45\0" + (1340).to_bytes(2, "big") + bytes(4) + b"\x40\6" + bytes(2)
        return head + bytes((192, 0, 2, 1)) + lease.ipv4 + tcp + bytes((number,)) * 1300

    lease = replace(session.lease, offload=False)
    nic = MemoryTun(offload=True)
    ingress = Ingress()
    ingress.admit(lease, HostFacts())
    fd = sock.fileno()
    link._sock = cast(Any, SimpleNamespace(recvmsg_into=receive, fileno=lambda: fd))
    session.address = link._address
    link.attach(NicPort(nic, ingress), lease)
    a, b, c, d, e = map(segment, range(5))
    assert hear(a) == [bytes(10) + a]
    (joined,) = hear(b, c)
    assert joined[0] == 1 and len(joined) == 10 + 1340 + 1300
    assert hear(d) == [bytes(10) + d]
    link.detach()
    for packets in ((e,), (e, e)):
        assert hear(*packets) == []
    assert link.counters["outlet__not_ready__dropped"] == 3
    sock.close()
    nic.close()
    nic.vanish()

"""The link under pressure: a slow gateway, a full NIC, a gateway that babbles or falls silent."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from client.driver import LinkDriver
from client.model import ClientState, TransportEndpoint
from client.reconnect import Ending
from client.round import MAX_NEWS
from client.stream_link import StreamLink
from sealing.identity import generate_identity, public_key
from tests.client.gateway_double import LEASE, GatewayDouble
from tests.client.test_client import DOWN, UDP, Device
from vshp.config import CloseReason, Hello
from vshp.constants import MAX_QUEUED, MAX_RECORD_PLAINTEXT
from vshp.events import Event
from vshp.session import ClientSession

BIG = bytes(10) + bytes(65000)
ENOUGH = 2000
"""Packets of 65 kB: far more than two kernels' socket buffers."""


async def test_a_gateway_that_does_not_read_stops_the_nic_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        guest = gateway.guests[0]
        pipe = guest.writer.transport
        assert isinstance(pipe, asyncio.Transport)
        pipe.pause_reading()
        assert device.host.nic is not None
        host = device.host.nic.host
        sent = blocked = 0
        while blocked < 50 and sent < ENOUGH:
            try:
                host.send(sent.to_bytes(10, "little") + BIG[10:])
                sent, blocked = sent + 1, 0
            except BlockingIOError:
                blocked += 1
                await asyncio.sleep(0.002)
        assert blocked == 50, "the NIC is no longer read"
        running = device.client._pursuit.round
        assert running is not None and isinstance(running.link, StreamLink)
        waiting = len(running.link.session.writer.output())
        assert 0 < waiting <= MAX_QUEUED + 2 * MAX_RECORD_PLAINTEXT
        pipe.resume_reading()
        await gateway.until(lambda: len(gateway.packets) == sent)
        assert [header for header, _ in gateway.packets] == [
            number.to_bytes(10, "little") for number in range(sent)
        ]


async def test_a_nic_that_is_full_loses_packets_by_name_and_nothing_else(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        for _ in range(20):
            gateway.guests[0].send_packet(DOWN[:20] + BIG[30:])
        await device.until(lambda: device.client.status().from_tunnel_bytes == 20 * (len(BIG) - 10))
        assert device.client.status().counters["nic__queue_full__dropped"] > 0
        assert device.state is ClientState.CONNECTED


async def test_packets_before_the_nic_is_ready_are_counted(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        device.host.on_step = lambda step: (
            gateway.guests[0].gateway.changed.set() if step == "x" else None
        )
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hold_up(step: str) -> None:
            if step.startswith("set_up"):
                asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)

        device.host.on_step = hold_up
        await device.client.connect(gateway.uri())
        await device.until(lambda: device.host.log[-1].startswith("set_up"))
        gateway.guests[0].send_packet(UDP)
        await device.until(
            lambda: device.client.status().counters.get("outlet__not_ready__dropped") == 1
        )
        gate.set()
        assert (await device.client.wait(5)).state is ClientState.CONNECTED


async def test_a_gateway_that_changes_its_mind_without_end_is_left(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        for number in range(3 * MAX_NEWS):
            gateway.guests[0].session.change(replace(LEASE, mtu=1300 + number % 2), 0.0)
        gateway.guests[0].flush()
        await gateway.heard(2)
        await device.until(lambda: device.client.status().reconnects == 1)


@pytest.mark.parametrize("garbage", [bytes(4000), b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 9])
async def test_garbage_instead_of_a_gateway(tmp_path: Path, garbage: bytes) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        uri = gateway.uri()
        await gateway.deafen()

        async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(garbage)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(babble, "127.0.0.1", gateway.port)
        await device.client.connect(uri)
        now = await device.client.wait(20)
        server.close()
        assert now.state is ClientState.FAILED
        assert now.error and now.reason
        assert device.host.log[-1] == "undo"


async def test_news_of_the_network_makes_it_try_at_once(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        await gateway.deafen()
        gateway.guests[0].cut()
        await device.until(lambda: device.client.status().error == "unreachable")
        await gateway.listen()
        device.client._host_news.told()
        await device.until(lambda: device.state is ClientState.CONNECTED)
        assert len(gateway.resumes) == 2


async def test_news_of_the_network_asks_a_running_link_for_a_sign_of_life(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        before = gateway.guests[0].session.records
        device.client._host_news.told()
        device.client._host_news.told()
        await gateway.until(lambda: gateway.guests[0].session.records == before + 1)
        assert device.state is ClientState.CONNECTED


async def test_who_counts_is_told_soon_after_something_was_sent(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        told: list[float] = []
        device.client.on_timed = lambda: told.append(device.client.clock.now())
        running = device.client._pursuit.round
        assert running is not None and isinstance(running.link, StreamLink)
        await gateway.until(lambda: bool(told))
        told.clear()
        # Now the session is at rest: nothing is due for minutes.
        running.link.session.writer.reserve_packet(60)
        running.link.push()
        await gateway.until(lambda: bool(told))


class Nobody:
    """An owner who wants to know nothing."""

    def link_event(self, link: LinkDriver, event: Event) -> None:
        pass

    def link_timed(self) -> None:
        pass

    def link_over(self, link: LinkDriver, ending: Ending) -> None:
        pass


@pytest.mark.parametrize("reason", ["link_dead", "link_lost"])
async def test_a_link_given_up_leaves_nothing_for_the_kernel_to_deliver(reason: str) -> None:
    link, far = await stream_link()
    link.fail(Ending(reason, authenticated=False))
    with pytest.raises(ConnectionResetError):
        while far.recv(65536):
            pass
    far.close()


async def test_a_goodbye_is_delivered() -> None:
    link, far = await stream_link()
    link.close(CloseReason.DISCONNECTED)
    got = b""
    while data := far.recv(65536):
        got += data
    assert got, "what was said before, and then an orderly end"
    far.close()


async def stream_link() -> tuple[StreamLink, socket.socket]:
    """A link whose first message is on its way to somebody who does not read yet."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    gateway = public_key(generate_identity())
    sessions = SimpleNamespace(
        stream=lambda now, usb: ClientSession(
            generate_identity(), gateway, Hello("tablet", "linux"), now=now
        )
    )
    there = TransportEndpoint("tcp", "127.0.0.1", 47800)
    link = StreamLink(Nobody(), near, there, sessions)
    far.settimeout(10)
    return link, far

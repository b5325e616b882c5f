"""Looking whose gateway is there, against real gateways and those who are none."""

from __future__ import annotations

import asyncio
import socket

import pytest

from client.model import ClientError, TransportEndpoint
from client.probe import whose_key
from tests.client.datagram_double import DatagramDouble
from tests.client.gateway_double import GatewayDouble
from tests.fakes.ports import free_port


def at(port: int, transport: str = "tcp") -> TransportEndpoint:
    return TransportEndpoint(transport, "127.0.0.1", port)


async def test_a_gateways_key_and_no_request() -> None:
    async with GatewayDouble() as gateway:
        for _ in range(3):
            assert await whose_key(at(gateway.port), 0, 5.0) == gateway.public_key
        assert [guest.hello for guest in gateway.guests] == [None] * 3
        assert not gateway.resumes


@pytest.mark.parametrize(
    ("answer", "name"),
    [(b"SSH-2.0-OpenSSH_9.2\r\n", "not_a_gateway"), (b"", "gateway_hung_up"),
     (b"\x02\x01\x00\x0e", "busy"), (b"\x01\x60\x00" + bytes(96), "not_a_gateway"),
     (b"\x01\x60\x00" + bytes(20), "gateway_hung_up")],
)  # fmt: skip
async def test_who_is_none_is_named(answer: bytes, name: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        with pytest.raises(ClientError) as raised:
            await whose_key(at(server.sockets[0].getsockname()[1]), 0, 5.0)
    assert raised.value.name == name


async def test_who_says_nothing_is_waited_for_so_long() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        with pytest.raises(TimeoutError):
            await whose_key(at(server.sockets[0].getsockname()[1]), 0, 0.1)


async def test_nobody_there_is_refused_at_once() -> None:
    with pytest.raises(ConnectionRefusedError):
        await whose_key(at(free_port()), 0, 5.0)


async def test_by_udp_the_gateway_learns_as_little() -> None:
    async with GatewayDouble() as gateway:
        door = DatagramDouble(gateway)
        port = await door.listen()
        assert await whose_key(at(port, "udp"), 0, 5.0) == gateway.public_key
        # A busy one wants its cookie first.
        door.listener.under_load = True
        assert await whose_key(at(port, "udp"), 0, 5.0) == gateway.public_key
        assert door.hellos == [] and [s.peer_key for s in door.sessions] == [None, None]
        assert door.listener.counters["initiation__cookie_missing__asked"] == 1
        door.transport.close()


async def test_a_question_that_was_lost_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.probe.ASK_AGAIN", 0.05)
    async with GatewayDouble() as gateway:
        door = DatagramDouble(gateway)
        port = await door.listen()
        door.deaf = True
        looking = asyncio.ensure_future(whose_key(at(port, "udp"), 0, 10.0))
        await gateway.until(lambda: door.received >= 2)
        door.deaf = False
        assert await looking == gateway.public_key
        door.transport.close()


async def test_who_says_nothing_by_udp_is_waited_for_so_long() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(TimeoutError):
            await whose_key(at(silent.getsockname()[1], "udp"), 0, 0.1)
    with pytest.raises(ConnectionRefusedError):
        await whose_key(at(free_port(), "udp"), 0, 5.0)

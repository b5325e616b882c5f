"""Datagrams by SOCKS: an association's program, its names, its bounds, and strangers."""

from __future__ import annotations

import asyncio
import socket

import pytest

from client.outlet.proxy import associations, visitor
from client.outlet.proxy.outcome import Outcome
from tests.client.outlet.proxy.house import LOOPBACK, House, connect_request, house
from tests.fakes.waiting import settle


class Program:
    """Has a UDP port through the proxy."""

    def __init__(self) -> None:
        self.sock = udp()

    async def associate(self, home: House, port: int = 0) -> None:
        self.reader, self.writer = await home.open()
        self.writer.write(b"\x05\x01\x00" + connect_request("0", port, command=3))
        answer = (await self.reader.readexactly(12))[2:]
        assert answer[1] == 0, answer
        self.relay = socket.inet_ntoa(answer[4:8]), int.from_bytes(answer[8:], "big")

    def send(self, payload: bytes, port: int, name: str = "") -> None:
        host = b"\x03" + bytes((len(name),)) + name.encode() if name else b"\x01" + LOOPBACK
        self.sock.sendto(bytes(3) + host + port.to_bytes(2, "big") + payload, self.relay)

    async def receive(self) -> bytes:
        return await take(self.sock)


def udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    return sock


async def take(sock: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 65535), 10)


async def test_datagrams_both_ways_by_address_and_by_name() -> None:
    far, program = udp(), Program()
    port = far.getsockname()[1]
    async with house() as home:
        await program.associate(home)
        loop = asyncio.get_running_loop()
        for name in ("", "site.test", "SITE.test"):
            if name:
                home.dialer.names[name.lower()] = [LOOPBACK]
            program.send(b"ping", port, name)
            data, whence = await loop.sock_recvfrom(far, 100)
            assert data == b"ping"
            far.sendto(b"pong", whence)
            head = bytes(3) + b"\x01" + LOOPBACK + port.to_bytes(2, "big")
            assert await program.receive() == head + b"pong"
        (flow,) = (await home.server.flows.look()).flows
        assert (flow.protocol, flow.state, flow.destination) == ("udp", "active", "*")
        assert (flow.to_tunnel_bytes, flow.from_tunnel_bytes) == (12, 12)
        program.writer.close()
        await settle(lambda: home.dialer.associations[0].closed)
        await settle(lambda: not len(home.server.flows) and not home.server.associations)


async def test_a_program_that_closes_at_once_leaves_no_association() -> None:
    async with house() as home:
        _, writer = await home.open()
        writer.write(b"\x05\x01\x00" + connect_request("0", 0, command=3))
        writer.write_eof()
        await settle(lambda: home.dialer.associations and home.dialer.associations[0].closed)
        assert not home.server.associations


async def test_one_sender_is_served_and_nobody_else() -> None:
    far, program, other = udp(), Program(), Program()
    port = far.getsockname()[1]
    async with house() as home:
        await program.associate(home)
        other.relay = program.relay
        program.send(b"mine", port)
        assert await take(far) == b"mine"
        other.send(b"not mine", port)
        await settle(lambda: home.counts.get("proxy__udp__stranger__dropped"))
        program.send(b"again", port)
        assert await take(far) == b"again"
        await other.associate(home, port=program.sock.getsockname()[1])
        other.send(b"from another port than said", port)
        await settle(lambda: home.counts["proxy__udp__stranger__dropped"] == 2)


async def test_what_cannot_be_passed_on_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(associations, "MAX_WAITING_DATAGRAMS", 2)
    program = Program()
    async with house() as home:
        await program.associate(home)
        program.sock.sendto(b"\0\0\1\1" + LOOPBACK + b"\0\1x", program.relay)
        for _ in range(3):
            program.send(b"x", 1, "nowhere.test")
        await settle(lambda: home.counts.get("proxy__udp__no_such_name__dropped") == 2)
        assert home.counts["proxy__udp__datagram_fragment__dropped"] == 1
        assert home.counts["proxy__udp__name_waits__dropped"] == 1
        program.send(b"x", 1, "nowhere.test")
        await settle(lambda: home.counts.get("proxy__udp__no_such_name__dropped") == 3)
        (association,) = home.server.associations
        association._failed(LOOPBACK, 1, Outcome.REFUSED)
        assert home.counts["proxy__udp__refused__told"] == 1


async def test_associations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitor, "MAX_ASSOCIATIONS", 1)
    async with house() as home:
        await Program().associate(home)
        reader, writer = await home.open()
        writer.write(b"\x05\x01\x00" + connect_request("0", 0, command=3))
        assert (await reader.read(-1))[3] == 1
        assert home.counts["proxy__socks__associations_full__refused"] == 1


async def test_no_port_is_left_in_the_tunnel() -> None:
    async with house() as home:
        home.dialer.ports_left = False
        reader, writer = await home.open()
        writer.write(b"\x05\x01\x00" + connect_request("0", 0, command=3))
        assert (await reader.read(-1))[3] == 1
        assert home.counts["proxy__socks__associate__failed"] == 1
        assert not home.server.associations

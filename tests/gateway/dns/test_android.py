"""netd's socket, played by a server that speaks its framing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.dns.android import MAX_QUERY, NetdRelay, framing
from gateway.dns.forwarder import DnsForwarder
from gateway.vpn.detector import VpnDetector
from gateway.vpn.guard import EgressGuard
from tests.gateway.dns.world import NO_VPN, VPN
from tests.gateway.vpn.fakes import ScriptedSource
from tests.netstack import wires

Answer = Callable[[bytes], bytes]


class Netd:
    """`resnsend <netid> <flags> <base64>\\0` in; rcode, length, message out."""

    def __init__(self, answer: Answer, piece: int = 65536) -> None:
        self.asked: list[bytes] = []
        self.commands: list[list[bytes]] = []
        self._answer = answer
        self._piece = piece

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            words = (await reader.readuntil(b"\0"))[:-1].split(b" ")
            self.commands.append(words[:3])
            message = base64.b64decode(words[3], validate=True)
            self.asked.append(message)
            output = self._answer(message)
            for at in range(0, len(output), self._piece):
                writer.write(output[at : at + self._piece])
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()


def framed(message: bytes) -> bytes:
    return struct.pack("!ii", message[3] & 15, len(message)) + message


@contextlib.asynccontextmanager
async def phone(tmp_path: Path, netd: Netd) -> AsyncIterator[tuple[DnsForwarder, ScriptedSource]]:
    path = str(tmp_path / "dnsproxyd")
    server = await asyncio.start_unix_server(netd.serve, path)
    source = ScriptedSource(VPN)
    detector = VpnDetector(source=source)
    await detector.start()
    guard = EgressGuard(detector)
    counters: dict[str, int] = {}
    forwarder = DnsForwarder(guard, backend=NetdRelay(detector, counters, path))
    forwarder.counters = counters
    try:
        yield forwarder, source
    finally:
        forwarder.close()
        server.close()
        await detector.stop()


async def ask(forwarder: DnsForwarder, wire: bytes) -> bytes:
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    forwarder.query(wire, False, "peer", answer.set_result)
    return await asyncio.wait_for(answer, 5)


@pytest.mark.parametrize("piece", [1, 7, 65536])
async def test_any_type_is_asked_of_netd(tmp_path: Path, piece: int) -> None:
    netd = Netd(lambda m: framed(wires.address_reply(m)[0]), piece)
    async with phone(tmp_path, netd) as (forwarder, _):
        asked = wires.question("Phone.test", wires.HTTPS, id_=77, edns=wires.opt(do=True))
        answer = await ask(forwarder, asked)
        assert answer == wires.address_reply(asked)[0]
        canonical = wires.question("phone.test", wires.HTTPS, edns=wires.opt(do=True))
        assert [q[2:] for q in netd.asked] == [canonical[2:]]
        assert netd.commands == [[b"resnsend", b"0", b"0"]]
        await ask(forwarder, asked)
        assert len(netd.asked) == 1, "the second one is a hit"


@pytest.mark.parametrize(
    "output",
    [
        struct.pack("!i", -16),  # -EBUSY
        struct.pack("!ii", 0, -1),
        struct.pack("!ii", 0, 1 << 30),
        struct.pack("!ii", 0, 12) + bytes(12),
        framed(wires.address_reply(wires.question("another.test"))[0]),
        b"",
    ],
)
async def test_refusals_and_nonsense_are_servfail(tmp_path: Path, output: bytes) -> None:
    async with phone(tmp_path, Netd(lambda m: output)) as (forwarder, _):
        assert wires.rcode(await ask(forwarder, wires.question("a.test"))) == 2
        assert forwarder.counters["dns__netd__failed"] == 1


async def test_an_error_without_the_question_is_passed_on(tmp_path: Path) -> None:
    netd = Netd(lambda m: framed(m[0:2] + struct.pack("!5H", 0x8185, 0, 0, 0, 0)))
    async with phone(tmp_path, netd) as (forwarder, _):
        asked = wires.question("Bare.test")
        assert await ask(forwarder, asked) == wires.reply(asked, rcode=5)


async def test_netd_is_not_asked_without_the_vpn(tmp_path: Path) -> None:
    """It would ask the phone's own network; the poll may not have noticed yet."""
    netd = Netd(lambda m: framed(wires.address_reply(m)[0]))
    async with phone(tmp_path, netd) as (forwarder, source):
        source.now, source.stays = NO_VPN, False
        assert wires.rcode(await ask(forwarder, wires.question("a.test"))) == 2
        assert netd.asked == []
        assert forwarder.counters["dns__netd__vpn_absent"] == 1


async def test_a_command_longer_than_netd_takes_is_not_sent(tmp_path: Path) -> None:
    netd = Netd(lambda m: b"")
    async with phone(tmp_path, netd) as (forwarder, _):
        options = struct.pack("!HH", 65001, MAX_QUERY) + bytes(MAX_QUERY)
        asked = wires.question("a.test", edns=wires.opt(options=options))
        assert wires.rcode(await ask(forwarder, asked)) == 2
        assert netd.asked == []


def test_framing_waits_for_the_whole() -> None:
    whole = framed(wires.address_reply(wires.question("a.test"))[0])
    for end in range(len(whole)):
        assert framing(bytearray(whole[:end])) is None
    assert framing(bytearray(whole + b"more")) == whole[8:]

"""A resolver to forward to, scripted by the test, and a port in front of the forwarder.

dig ---> Front (UDP, TCP) ---> DnsForwarder ---> Resolver (UDP, TCP; 127.0.0.x)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from gateway.dns.forwarder import DnsConfig, DnsForwarder
from gateway.dns.upstreams import Server
from gateway.vpn.detector import VpnDetector
from gateway.vpn.guard import EgressGuard
from gateway.vpn.snapshot import INET, Snapshot
from tests.fakes.ports import free_port
from tests.gateway.vpn.fakes import LOOPBACK, TUNNEL, ScriptedSource, interface

VPN = Snapshot(
    (
        interface(1, "lo", "127.0.0.1/8", flags=LOOPBACK),
        interface(7, "tun0", "10.8.0.2/24", flags=TUNNEL, kind="tun"),
    ),
    {INET: 7},
)
NO_VPN = Snapshot((interface(1, "lo", "127.0.0.1/8", flags=LOOPBACK),))

Script = Callable[[bytes, bool], "list[bytes]"]
"""Takes a question and whether it came by TCP; returns the messages to send back."""


class Resolver(asyncio.DatagramProtocol):
    """A DNS server on a loopback address that answers as its script says."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.udp: list[bytes] = []
        self.tcp: list[bytes] = []
        self.ports: list[int] = []
        self.server = Server("127.0.0.1")
        self.holds_tcp = False
        """Takes connections and questions over TCP, and never says a word."""
        self.transport: asyncio.DatagramTransport | None = None

    async def start(self, host: str = "127.0.0.1") -> Resolver:
        loop = asyncio.get_running_loop()
        # One number for both transports. What TCP would pick may be some UDP socket's.
        port = free_port()
        self._streams = await asyncio.start_server(self._serve, host, port)
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=(host, port)
        )
        self.server = Server(host, port)
        return self

    async def stop(self) -> None:
        self.holds_tcp = False
        self._streams.close()
        if self.transport is not None:
            self.transport.close()

    async def has_heard(self, questions: int) -> None:
        """Wait until so many have come over UDP."""
        async with asyncio.timeout(10):
            while len(self.udp) < questions:
                await asyncio.sleep(0)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.udp.append(data)
        self.ports.append(addr[1])
        assert self.transport is not None
        for message in self.script(data, False):
            self.transport.sendto(message, addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            length = int.from_bytes(await reader.readexactly(2), "big")
            data = await reader.readexactly(length)
            self.tcp.append(data)
            while self.holds_tcp:
                await asyncio.sleep(0.1)
            for message in self.script(data, True):
                writer.write(len(message).to_bytes(2, "big") + message)
            await writer.drain()
        writer.close()


class Front(asyncio.DatagramProtocol):
    """Clients' side: what the NAT does for the lease's resolver address."""

    def __init__(self, forwarder: DnsForwarder) -> None:
        self._forwarder = forwarder
        self.port = 0

    async def start(self) -> Front:
        loop = asyncio.get_running_loop()
        self.port = free_port()
        self._streams = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", self.port)
        )
        return self

    async def stop(self) -> None:
        self._streams.close()
        self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._forwarder.query(data, False, "peer", lambda wire: self._transport.sendto(wire, addr))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                data = await reader.readexactly(length)
                self._forwarder.query(
                    data, True, "peer", lambda m: writer.write(len(m).to_bytes(2, "big") + m)
                )
        writer.close()


@dataclass
class World:
    """All of it, running."""

    source: ScriptedSource
    detector: VpnDetector
    guard: EgressGuard
    forwarder: DnsForwarder
    front: Front
    resolvers: list[Resolver] = field(default_factory=list)

    async def dig(self, *arguments: str) -> str:
        """What the real dig prints."""
        process = await asyncio.create_subprocess_exec(
            "dig", "@127.0.0.1", "-p", str(self.front.port), "+tries=1", "+time=8", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        return output.decode()

    async def ask(self, wire: bytes, over_tcp: bool = False, client: str = "peer") -> bytes:
        """Put a message straight to the forwarder."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.forwarder.query(wire, over_tcp, client, answer.set_result)
        return await asyncio.wait_for(answer, 10)


@contextlib.asynccontextmanager
async def world(*scripts: Script, config: DnsConfig | None = None) -> AsyncIterator[World]:
    """A forwarder whose resolvers are the scripts, at 127.0.0.1, 127.0.0.2..."""
    resolvers = [
        await Resolver(script).start(f"127.0.0.{number}")
        for number, script in enumerate(scripts, 1)
    ]
    source = ScriptedSource(VPN)
    detector = VpnDetector(source=source)
    await detector.start()
    guard = EgressGuard(detector)
    settings = config or DnsConfig()
    servers = settings.servers or tuple(r.server for r in resolvers)
    fields = {name: getattr(settings, name) for name in settings.__slots__}
    forwarder = DnsForwarder(guard, DnsConfig(**{**fields, "servers": servers}))
    front = await Front(forwarder).start()
    try:
        yield World(source, detector, guard, forwarder, front, resolvers)
    finally:
        print(forwarder.counters)  # shown when the test fails
        forwarder.close()
        await front.stop()
        for resolver in resolvers:
            await resolver.stop()
        await detector.stop()

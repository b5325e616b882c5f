"""A proxy on loopback whose tunnel is this machine's kernel, and programs that use it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from client.outlet.proxy.access import Access
from client.outlet.proxy.place import ProxyPlace
from client.outlet.proxy.server import ProxyConfig, ProxyServer
from tests.fakes.kernel_dialer import KernelDialer
from tests.fakes.ports import free_port

LOOPBACK = socket.inet_aton("127.0.0.1")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class House:
    """The proxy and its dialler."""

    def __init__(self, place: ProxyPlace | None = None) -> None:
        self.dialer = KernelDialer()
        self.dialer.names["site.test"] = [LOOPBACK]
        config = ProxyConfig(place or ProxyPlace(port=free_port()), "secret", pac=True)
        self.server = ProxyServer(self.dialer, config)
        self.server.start()

    @property
    def counts(self) -> dict[str, int]:
        return self.server.counters

    def unknown(self) -> None:
        """From now on the kernel does not say whose connections are whose."""
        self.server.access = Access("secret", lambda protocol, source, destination: None)

    async def open(self) -> Streams:
        place = self.server.config.place
        if place.path:
            return await asyncio.open_unix_connection(place.path)
        return await asyncio.open_connection(place.host, place.port)

    async def connect(self, host: str, port: int) -> Streams:
        """A program that asks for a name, by SOCKS."""
        reader, writer = await self.open()
        writer.write(b"\x05\x01\x00" + connect_request(host, port))
        assert await reader.readexactly(2) == b"\x05\x00"
        answer = await reader.readexactly(10)
        assert answer[:2] == b"\x05\x00", answer
        return reader, writer


def connect_request(host: str, port: int, command: int = 1) -> bytes:
    name = host.encode()
    return bytes((5, command, 0, 3, len(name))) + name + port.to_bytes(2, "big")


@contextlib.asynccontextmanager
async def house(place: ProxyPlace | None = None) -> AsyncIterator[House]:
    built = House(place)
    try:
        yield built
    finally:
        built.server.close()
        for dialing in built.dialer.dialings:
            if dialing.task is not None:
                dialing.task.cancel()
        await asyncio.wait([d.task for d in built.dialer.dialings if d.task] or [_nothing()])


def _nothing() -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(asyncio.sleep(0))


@contextlib.asynccontextmanager
async def origin(handler: Handler) -> AsyncIterator[int]:
    """A server on loopback; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()

"""A gateway with real VSHP sessions and no NAT: what comes from the tunnel is remembered."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import replace

from sealing.errors import ProtocolError
from sealing.identity import generate_identity, public_key
from vshp.config import CloseReason, GatewayStatus, LeaseConfig, Resume
from vshp.endpoints import Endpoint
from vshp.events import Event, HelloReceived, PeerClosed
from vshp.pairing import OneTimeSecrets
from vshp.session import GatewaySession
from vshp.uri import PairingUri

LEASE = LeaseConfig(
    session_id=b"s" * 16,
    ipv4=bytes((10, 77, 0, 2)),
    ipv6=bytes.fromhex("fd77" + "00" * 13 + "02"),
    gateway_ipv4=bytes((10, 77, 0, 1)),
    gateway_ipv6=bytes.fromhex("fd77" + "00" * 13 + "01"),
    mtu=1500,
    offload=True,
    expires_in=3600,
    name="phone",
    ticket=b"ticket-1",
)


class Guest:
    """One accepted stream."""

    def __init__(self, gateway: GatewayDouble, writer: asyncio.StreamWriter) -> None:
        self.gateway = gateway
        self.writer = writer
        self.session = GatewaySession(gateway.identity, gateway.lookup, time.monotonic())
        self.session.on_packet = self._packet
        self.hello: HelloReceived | None = None
        self.closed: PeerClosed | None = None

    def _packet(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        header = bytes(buf[start - 10 : start]) if offload else None
        self.gateway.packets.append((header, bytes(buf[start:end])))
        self.gateway.changed.set()

    def send_packet(self, packet: bytes, **terms: int) -> None:
        buf = bytearray(64) + packet
        self.session.writer.send_packet(buf, 64, len(buf), **terms)
        self.flush()

    def flush(self) -> None:
        writer = self.session.writer
        writer.flush()
        output = bytes(writer.output())
        writer.consumed(len(output))
        if output and not self.writer.is_closing():
            self.writer.write(output)

    def status(self, *, vpn_up: bool = True) -> None:
        self.session.status(GatewayStatus(vpn_up=vpn_up), time.monotonic())
        self.flush()

    def change(self, lease: LeaseConfig) -> None:
        self.session.change(lease, time.monotonic())
        self.flush()

    def approve(self, lease: LeaseConfig) -> None:
        self.session.approve(lease, time.monotonic())
        self.flush()

    def close(self, reason: CloseReason) -> None:
        self.session.close(reason, time.monotonic())
        self.flush()
        self.writer.close()

    def cut(self) -> None:
        """As a cable pulled, but visible: RST."""
        self.writer.transport.abort()


class GatewayDouble:
    """Listens on a loopback port; `decide` answers every HELLO (default: grants)."""

    def __init__(self) -> None:
        self.identity = generate_identity()
        self.public_key = public_key(self.identity)
        self.secrets = OneTimeSecrets(self.public_key)
        self.guests: list[Guest] = []
        self.packets: list[tuple[bytes | None, bytes]] = []
        self.resumes: list[Resume | None] = []
        self.changed = asyncio.Event()
        self.decide: Callable[[Guest, HelloReceived], None] = self.grant
        self.lease = LEASE
        self.host = "127.0.0.1"
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> GatewayDouble:
        await self.listen()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.deafen()
        for guest in self.guests:
            guest.writer.close()

    async def listen(self, sock: socket.socket | None = None) -> None:
        """On this host's loopback, or with a socket that listens already."""
        if sock is None:
            self._server = await asyncio.start_server(self._serve, self.host, self.port)
        else:
            self._server = await asyncio.start_server(self._serve, sock=sock)
            self.host = sock.getsockname()[0]
        self.port = self._server.sockets[0].getsockname()[1]

    async def deafen(self) -> None:
        """Stop listening; guests stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def uri(self, *more: Endpoint) -> str:
        secret = self.secrets.issue(time.monotonic())
        here = Endpoint.of("tcp", self.host, self.port)
        return PairingUri(self.public_key, secret, "phone", (*more, here)).encode()

    def lookup(self, secret_id: bytes) -> bytes:
        return self.secrets.lookup(secret_id, time.monotonic())

    def grant(self, guest: Guest, hello: HelloReceived) -> None:
        ticket = b"ticket-%d" % len(self.resumes)
        resumed = hello.resume is not None
        lease = replace(self.lease, ticket=ticket, resumed=resumed)
        guest.session.approve(lease, time.monotonic())
        guest.session.status(GatewayStatus(), time.monotonic())

    async def heard(self, hellos: int) -> None:
        """Wait for that many HELLOs in all."""
        await self.until(lambda: len(self.resumes) == hellos)

    async def until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await self.changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guest = Guest(self, writer)
        self.guests.append(guest)
        session = guest.session
        try:
            while data := await reader.read(65536):
                at = 0
                while at < len(data):
                    buffer = session.receive_buffer()
                    n = min(len(buffer), len(data) - at)
                    buffer[:n] = data[at : at + n]
                    at += n
                    session.received(n, time.monotonic())
                    while (event := session.next_event()) is not None:
                        self._event(guest, event)
                guest.flush()
                if session.closed:
                    break
        except (ProtocolError, OSError):
            guest.flush()
        finally:
            writer.close()
            self.changed.set()

    def _event(self, guest: Guest, event: Event) -> None:
        if isinstance(event, HelloReceived):
            guest.hello = event
            self.resumes.append(event.resume)
            if event.secret_id is not None:
                self.secrets.consume(event.secret_id, time.monotonic())
            self.decide(guest, event)
        elif isinstance(event, PeerClosed):
            guest.closed = event
        self.changed.set()

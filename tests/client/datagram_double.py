"""The gateway double's UDP door: real datagram sessions on a loopback socket."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from tests.client.gateway_double import GatewayDouble
from vshp.datagram_listener import DatagramListener
from vshp.datagram_session import DatagramGatewaySession
from vshp.events import HelloReceived


class DatagramDouble(asyncio.DatagramProtocol):
    """Grants every HELLO the lease of `gateway`, with the smallest MTU, as the real one does."""

    def __init__(self, gateway: GatewayDouble) -> None:
        self.gateway = gateway
        self.listener = DatagramListener(gateway.identity, gateway.lookup, time.monotonic())
        self.sessions: list[DatagramGatewaySession] = []
        self.hellos: list[HelloReceived] = []
        self.transport: asyncio.DatagramTransport
        self.deaf = False
        self.received = 0
        """Datagrams, also while deaf."""

    async def listen(self) -> int:
        """The port."""
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        port: int = self.transport.get_extra_info("sockname")[1]
        return port

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.received += 1
        if self.deaf:
            return
        now = time.monotonic()
        session = self.listener.receive_datagram(memoryview(bytearray(data)), address, now)
        for reply, there in self.listener.replies():
            self.transport.sendto(reply, there)
        if session is None:
            return
        if session not in self.sessions:
            self.sessions.append(session)
            session.on_packet = self._packet
        while (event := session.next_event()) is not None:
            if isinstance(event, HelloReceived):
                self.hellos.append(event)
                if event.secret_id is not None:
                    self.gateway.secrets.consume(event.secret_id, now)
                lease = replace(
                    self.gateway.lease,
                    mtu=1280,
                    offload=False,
                    ticket=b"udp-ticket-%d" % len(self.hellos),
                    resumed=event.resume is not None,
                )
                session.approve(lease, now)
        self.flush(session)
        self.gateway.changed.set()

    def send_packet(self, session: DatagramGatewaySession, packet: bytes) -> None:
        session.writer.send_packet(bytearray(packet), 0, len(packet))
        self.flush(session)

    def flush(self, session: DatagramGatewaySession) -> None:
        session.writer.flush()
        for datagram, there in session.datagrams_elsewhere():
            self.transport.sendto(datagram, there)
        for data, segment in session.datagrams_to_send():
            for at in range(0, len(data), segment):
                self.transport.sendto(bytes(data[at : at + segment]), session.address)

    def _packet(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        self.gateway.packets.append((None, bytes(buf[start:end])))
        self.gateway.changed.set()

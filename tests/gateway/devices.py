"""Devices that come to a gateway: a client session each, driven over one real socket."""

from __future__ import annotations

import asyncio
import socket
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.gateway import Gateway
from gateway.records import GatewayConfig
from sealing.errors import ProtocolError
from tests.fakes.waiting import settle
from vshp.config import Carrier, Hello, LeaseConfig, Resume, Route
from vshp.datagram_session import DatagramClientSession
from vshp.events import ApprovalPending, CodeShown, Event, LeaseGranted, RttMeasured
from vshp.session import ClientSession
from vshp.uri import PairingUri

E = TypeVar("E", bound=Event)
CONFIG = GatewayConfig(listen=(("127.0.0.1", 0),), name="test", vpn_interface="no-such-vpn0")


def key() -> bytes:
    return X25519PrivateKey.generate().private_bytes_raw()


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def port_of(gateway: Gateway) -> int:
    return int(gateway.snapshots.status().listen[0].rpartition(":")[2])


class Device:
    """A client session driven over one real socket."""

    def __init__(
        self,
        gateway: Gateway,
        identity: bytes,
        *,
        secret: bytes | None = None,
        resume: Resume | None = None,
        known: bool = True,
        udp: bool = False,
        carrier: Carrier = Carrier.UNKNOWN,
        networks: tuple[Route, ...] = (),
    ) -> None:
        self.identity = identity
        self.loop = asyncio.get_running_loop()
        self.udp = udp
        kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
        self.sock = socket.socket(socket.AF_INET, kind)
        self.sock.connect(("127.0.0.1", port_of(gateway)))
        self.sock.setblocking(False)
        hello = Hello(label="a device", platform="linux", carrier=carrier, networks=networks)
        gateway_key = gateway.public_key if known else None
        now = self.loop.time()
        if udp:
            self.session: ClientSession | DatagramClientSession = DatagramClientSession(
                identity,
                gateway_key,
                hello,
                address="gateway",
                now=now,
                secret=secret,
                resume=resume,
            )
        else:
            self.session = ClientSession(
                identity, gateway_key, hello, now=now, secret=secret, resume=resume
            )
        self.session.on_packet = lambda *_: None
        self.events: list[Event] = []

    async def flush(self) -> None:
        if isinstance(self.session, DatagramClientSession):
            for run, size in self.session.datagrams_to_send():
                for at in range(0, len(run), size):
                    self.sock.send(run[at : at + size])
            return
        while output := bytes(self.session.writer.output()):
            await self.loop.sock_sendall(self.sock, output)
            self.session.writer.consumed(len(output))

    async def until(self, kind: type[E]) -> E:
        """Drive the session until it tells this; an end of the session ends it, too."""
        async with asyncio.timeout(10):
            while True:
                await self.flush()
                for at, event in enumerate(self.events):
                    if isinstance(event, kind):
                        del self.events[: at + 1]
                        return event
                try:
                    data = await self.loop.sock_recv(self.sock, 65536)
                except ConnectionRefusedError:
                    # By ICMP, for a datagram that went before; what arrived comes next.
                    if not self.udp:
                        raise
                    continue
                now = self.loop.time()
                try:
                    if isinstance(self.session, DatagramClientSession):
                        self.session.receive_datagram(memoryview(data), "gateway", now)
                    elif not data:
                        raise EOFError
                    else:
                        buffer = self.session.receive_buffer()
                        buffer[: len(data)] = data
                        self.session.received(len(data), now)
                except ProtocolError:
                    pass
                while (told := self.session.next_event()) is not None:
                    self.events.append(told)

    async def alive(self) -> None:
        """The gateway answers a PING of this session."""
        self.session.ping(self.loop.time())
        self.session.writer.flush()
        await self.until(RttMeasured)

    async def agree(self) -> str:
        """First contact: its user says that the digits are alike; which they are."""
        shown = await self.until(CodeShown)
        self.session.agree(self.loop.time())
        await self.flush()
        return shown.code

    def leave(self) -> None:
        self.sock.close()


def offer(gateway: Gateway) -> bytes:
    return PairingUri.decode(gateway.owner.pair().uri).secret


async def paired(gateway: Gateway, *, udp: bool = False) -> tuple[Device, LeaseConfig]:
    device = Device(gateway, key(), secret=offer(gateway), udp=udp)
    await device.until(ApprovalPending)
    gateway.owner.approve(gateway.snapshots.requests()[0].id)
    lease = (await device.until(LeaseGranted)).lease
    await device.flush()
    await settle(lambda: gateway.snapshots.status().connected)
    return device, lease

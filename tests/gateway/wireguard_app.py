"""A WireGuard app in the test's own process: our pure device, told by a config, over a socket."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import NamedTuple

from gateway.gateway import Gateway
from netstack.checksum import add, finish, pseudo_header
from netstack.ip import PROTO_UDP, pack_ip
from wireguard.constants import RESPONSE_SIZE
from wireguard.device import Device
from wireguard.peer import Peer, Where
from wireguard.profile import Profile, parse_profile

QUESTION = bytes.fromhex("1234010000010000000000000474657374000001 0001".replace(" ", ""))
"""A DNS query for `test`, A: the resolver answers something, whatever it can."""


def question(client: bytes, resolver: bytes) -> bytes:
    """QUESTION, as a packet from the client to the resolver."""
    size = 8 + len(QUESTION)
    packet = bytearray(20 + size)
    pack_ip(packet, 0, size, PROTO_UDP, client, resolver)
    packet[20:24] = (4000).to_bytes(2, "big") + (53).to_bytes(2, "big")
    packet[24:26] = size.to_bytes(2, "big")
    packet[28:] = QUESTION
    total = add(bytes(packet[20:])) + pseudo_header(client, resolver, PROTO_UDP, size)
    packet[26:28] = finish(total).to_bytes(2, "big")
    return bytes(packet)


class Gate(NamedTuple):
    host: str
    port: int


class App:
    """One tunnel of an app; `text` is the config that it was given."""

    def __init__(self, text: str) -> None:
        self.profile: Profile = parse_profile(text)
        assert self.profile.private_key is not None
        self.loop = asyncio.get_running_loop()
        now = self.loop.time()
        self.device = Device(self.profile.private_key, self, time.time() - now, now)
        gateway = self.profile.gateway_key
        self.peer = self.device.add(gateway, self.profile.dns[0], self.profile.ipv6)
        self.packets: list[bytes] = []
        self.peer.on_packet = lambda buf, at, end: self.packets.append(bytes(buf[at:end]))
        self.gate = Gate(self.profile.host, self.profile.port)
        self.peer.endpoint = self.gate
        self.sock = self.open()

    def open(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in self.gate.host else socket.AF_INET,
                             socket.SOCK_DGRAM)  # fmt: skip
        sock.setblocking(False)
        sock.connect(self.gate)
        return sock

    def move(self) -> None:
        """Go on from another port, as behind another address."""
        self.sock.close()
        self.sock = self.open()

    def question(self, source: bytes | None = None) -> bytes:
        """A DNS query to the tunnel's resolver, as a packet."""
        return question(source or self.profile.ipv4, self.profile.dns[0])

    def send(self, packet: bytes) -> None:
        now = self.loop.time()
        if self.peer.ready(now):
            at = self.peer.writer.reserve_packet(len(packet))
            self.peer.writer.buffer[at : at + len(packet)] = packet
            for run, segment in self.peer.take(now):
                for at in range(0, len(run), segment):
                    self._out(bytes(run[at : at + segment]))
        self._flush()

    async def listen(self, seconds: float) -> None:
        """Take what comes for so long."""
        end = self.loop.time() + seconds
        while (left := end - self.loop.time()) > 0:
            try:
                data = await asyncio.wait_for(self.loop.sock_recv(self.sock, 65536), left)
            except (TimeoutError, ConnectionRefusedError):
                continue
            self.device.receive(memoryview(data), len(data), self.gate, self.loop.time())
            self._flush()

    async def asks(self, seconds: float = 5.0) -> bytes | None:
        """An answer of the tunnel's resolver, asked again and again; None if none comes."""
        end = self.loop.time() + seconds
        while self.loop.time() < end:
            self.packets.clear()
            self.send(self.question())
            await self.listen(0.05)
            if self.packets:
                return self.packets[0]
        return None

    def again(self) -> None:
        """Forget when the last initiation was sent, so that the next one goes at once."""
        self.peer._sent_at = -1e9
        if self.peer.pairs.current is None:
            self.peer.begin(self.loop.time())
        self._flush()

    async def ignores_the_answer(self) -> None:
        """Wait for the gateway's answer, and throw it away: nothing is confirmed."""
        data = await asyncio.wait_for(self.loop.sock_recv(self.sock, 65536), 10.0)
        assert len(data) == RESPONSE_SIZE

    def close(self) -> None:
        self.sock.close()

    def _flush(self) -> None:
        for message, _ in self.device.take_messages():
            self._out(message)

    def _out(self, datagram: bytes) -> None:
        try:
            self.sock.send(datagram)
        except ConnectionRefusedError:
            pass

    # DeviceOwner

    def confirmed(self, peer: Peer, now: float) -> None: ...
    def moved(self, peer: Peer, now: float) -> None: ...
    def silent(self, peer: Peer, now: float) -> None: ...
    def unknown(self, public: bytes, where: Where, now: float) -> Peer | None:
        return None

    def refused(self, reason: str, peer: Peer | None, where: Where, now: float) -> None: ...


async def let_in(gateway: Gateway, label: str = "phone") -> App:
    """A device that was made, asked, was approved and speaks."""
    app = App(gateway.owner.wireguard_add(label).profile.text())
    app.send(app.question())
    await app.listen(0.2)
    (request,) = gateway.snapshots.requests()
    gateway.owner.approve(request.id)
    app.again()
    assert await app.asks() is not None
    return app

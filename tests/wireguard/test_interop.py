"""Whole sessions with `wireguard-protocol` (PyPI), in memory: what goes in comes out, both ways.

It is a device only, so its other role, and cookies in both, are in `test_noise` and `test_device`:
those take one message each.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Packet, Raw

from sealing.identity import generate_identity, public_key
from tests.wireguard.oracles import oracle_initiator
from tests.wireguard.pipe import WALL, Side, Spot, v4, v6
from wireguard.constants import INITIATION, MTU, NO_PSK
from wireguard.device import Device

PSK = bytes(range(32))
PIECE = MTU - 20
BATCH = 16
ROUNDS = 2235
"""Of `BATCH` packets each way: 50 MB."""
THERE = Spot("10.0.0.2", 40000)


class Session:
    """Our gateway and its device, which has been let in and has a session."""

    def __init__(self, psk: bytes) -> None:
        self.now = 0.0
        private = generate_identity()
        self.gateway = Side("gateway", generate_identity(), THERE, random.Random(1).randbytes, WALL)
        self.device: Device = self.gateway.device
        self.peer = self.gateway.know(public_key(private), 2, psk)
        self.packets: list[bytes] = []
        self.app: Any = oracle_initiator(
            private, self.device.identity.public, psk if psk != NO_PSK else None
        )
        self.app.on_message_rx(self.packets.append)
        # Its first look at the clock finds no session; it begins one at the next.
        assert not list(self.app.update_state())

    def exchange(self) -> list[int]:
        """Carry what waits to be sent, until there is nothing; the types of the messages."""
        kinds: list[int] = []
        while True:
            out = [bytes(datagram) for datagram in self.app.update_state()]
            for datagram in out:
                self.device.receive(memoryview(datagram), len(datagram), THERE, self.now)
            back = [bytes(message) for message, _ in self.device.take_messages()]
            for run, segment in self.peer.take(self.now):
                back += [bytes(run[at : at + segment]) for at in range(0, len(run), segment)]
            for datagram in back:
                self.app.decode_packet(datagram)
            if not out and not back:
                return kinds
            kinds += [datagram[0] for datagram in out + back]

    def up(self, *packets: bytes) -> None:
        for packet in packets:
            self.app.encode_transport(packet)
        self.exchange()

    def down(self, *packets: bytes) -> None:
        for packet in packets:
            assert self.peer.ready(self.now)
            at = self.peer.writer.reserve_packet(len(packet))
            self.peer.writer.buffer[at : at + len(packet)] = packet
        self.exchange()


@pytest.fixture(params=[NO_PSK, PSK], ids=["without", "with preshared key"])
def session(request: pytest.FixtureRequest) -> Session:
    session = Session(request.param)
    assert session.exchange()[0] == INITIATION
    session.up(bytes(raw(ends(4) / ICMP())))
    assert session.gateway.news == ["confirmed"] and len(session.gateway.packets) == 1
    session.gateway.packets.clear()
    return session


def raw(packet: Packet) -> bytes:
    return bytes(packet)


def ends(version: int) -> Packet:
    """From the device to somebody."""
    if version == 4:
        return IP(src=".".join(map(str, v4(2))), dst="192.0.2.1")
    return IPv6(src=v6(2).hex(":", 2), dst="2001:db8::1")


@pytest.mark.parametrize(
    "packet",
    [
        ends(4) / ICMP() / Raw(b"ping"),
        ends(6) / ICMPv6EchoRequest(data=b"ping"),
        ends(4) / UDP(sport=4000, dport=53) / Raw(bytes(29)),
        ends(6) / UDP(sport=4000, dport=7) / Raw(b"x"),
        ends(4) / TCP(sport=4000, dport=80, flags="S"),
        ends(6) / TCP(sport=4000, dport=80, flags="S"),
        ends(4) / UDP(sport=4000, dport=7) / Raw(bytes(MTU - 28)),
    ],
    ids=["ping", "ping6", "dns", "udp6", "tcp", "tcp6", "largest"],
)
def test_packets_of_all_kinds_come_as_they_went(session: Session, packet: Packet) -> None:
    wire = raw(packet)
    session.up(wire)
    assert session.gateway.packets == [wire]
    session.down(wire)
    # It leaves the padding to who reads the packet.
    (got,) = session.packets
    assert got[: len(wire)] == wire and not any(got[len(wire) :])


@pytest.mark.parametrize("session", [PSK], indirect=True, ids=["with preshared key"])
def test_fifty_megabytes_both_ways(session: Session) -> None:
    stream = random.Random(7).randbytes(1_000_000)
    head = raw(ends(4) / Raw(bytes(PIECE)))[:20]
    want, up, down = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    for turn in range(ROUNDS):
        starts = (7919 * (turn * BATCH + n) % (len(stream) - PIECE) for n in range(BATCH))
        packets = [head + stream[at : at + PIECE] for at in starts]
        session.up(*packets)
        session.down(*packets)
        for total, came in (
            (want, packets),
            (up, session.gateway.packets),
            (down, session.packets),
        ):
            for packet in came:
                total.update(packet)
            came.clear()
    assert up.digest() == want.digest() == down.digest()
    assert not [name for name in session.device.counters if "dropped" in name]

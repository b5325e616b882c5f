"""The egress proof: the kernel's counts of real sockets against an interface's counters."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, cast

import pytest

from eventloop.poller import running_poller
from gateway.gateway import Gateway
from gateway.model import MemoryStore, VpnNetwork, VpnState
from gateway.proof import EgressProof
from gateway.records import GatewayConfig
from gateway.sockets import Sockets
from gateway.vpn.detector import VpnDetector
from gateway.vpn.egress import ALARM_RECEIVED, ALARM_SENT

PIECE = bytes(256 * 1024)


class Loopback:
    """An interface to send by, whose counters may be frozen; and the sockets' factory."""

    network = VpnNetwork(VpnState.ACTIVE, "lo", ipv4=True)
    generation = 0

    def __init__(self) -> None:
        self.frozen: tuple[int, int, int] | None = None

    def counters(self) -> tuple[int, int, int] | None:
        if self.frozen is not None:
            return self.frozen
        folder = Path("/sys/class/net/lo/statistics")
        sent, received = (int((folder / f"{way}_bytes").read_text()) for way in ("tx", "rx"))
        return sent, received, 0

    def freeze(self) -> None:
        self.frozen = self.counters()

    def open(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        return socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)


class Quiet:
    """A flow that does not care."""

    def ready(self, mask: int, now: float) -> None:
        return


class Carrier:
    """Streams to a listener on loopback, and bytes over them."""

    def __init__(self, interface: Loopback) -> None:
        self.poller = running_poller()
        self.sockets = Sockets(interface, self.poller)
        self.listener = socket.create_server(("127.0.0.1", 0))

    def carry(self, up: int, down: int, keep: bool = False) -> None:
        port = self.listener.getsockname()[1]
        stream = self.sockets.connect(4, bytes((127, 0, 0, 1)), port, Quiet())
        far = self.listener.accept()[0]
        for sender, receiver, count in ((stream, far, up), (far, stream, down)):
            buffer = bytearray(len(PIECE))
            for _ in range(count):
                left = sent = len(PIECE)
                while left or sent:
                    if sent:
                        try:
                            sent -= sender.send(PIECE[:sent])
                        except BlockingIOError:
                            pass
                    try:
                        left -= receiver.recv_into(buffer)
                    except BlockingIOError:
                        pass
        if not keep:
            stream.close()
        far.close()

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
async def interface() -> Loopback:
    return Loopback()


@pytest.fixture
async def carrier(interface: Loopback) -> Any:
    carrier = Carrier(interface)
    yield carrier
    carrier.close()


@pytest.fixture
async def proof(interface: Loopback, carrier: Carrier) -> EgressProof:
    return EgressProof(cast(VpnDetector, interface), carrier.sockets.tally)


async def test_what_went_by_the_interface_is_no_alarm(proof: EgressProof, carrier: Carrier) -> None:
    proof.look(0.0)
    for number in range(4):
        carrier.carry(4, 6, keep=number % 2 == 0)
        proof.look(float(number))
    assert proof.report.alarms == () and not proof.suspicious
    assert 0.9 * 16 < proof.report.sent / len(PIECE) <= 16
    assert 0 <= 24 * len(PIECE) - proof.report.received <= 4, "SYN and FIN count as bytes"
    assert proof.report.interface_sent >= proof.report.sent


@pytest.mark.parametrize(("up", "down", "alarm"), [(8, 0, ALARM_SENT), (0, 8, ALARM_RECEIVED)])
async def test_what_went_another_way_is_one(
    proof: EgressProof, carrier: Carrier, interface: Loopback, up: int, down: int, alarm: str
) -> None:
    told: list[str] = []
    proof.on_alarm = told.append
    proof.look(0.0)
    interface.freeze()
    carrier.carry(up, down)
    proof.look(1.0)
    assert proof.suspicious and told == []
    proof.look(2.0)
    proof.look(3.0)
    proof.look(4.0)
    assert told == [alarm] and proof.report.alarms == (alarm,)
    proof.acknowledge()
    proof.look(5.0)
    assert not proof.report.alarms


async def test_what_was_in_flight_at_the_first_look_is_not_held_against_it(
    proof: EgressProof,
    carrier: Carrier,
    interface: Loopback,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bytes sent before the first look and acknowledged after it went by then already."""
    carrier.carry(4, 0, keep=True)
    sent, received, _ = carrier.sockets.tally.totals()
    totals = (sent - 3 * len(PIECE), received, 3 * len(PIECE))
    with monkeypatch.context() as patch:
        patch.setattr(carrier.sockets.tally, "totals", lambda: totals)
        proof.look(0.0)
    interface.freeze()
    for number in range(5):
        proof.look(float(number))
    assert proof.report.alarms == ()


async def test_counters_that_cannot_be_read_say_nothing(
    proof: EgressProof, interface: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "counters", lambda: None)
    proof.look(0.0)
    assert (proof.report.looks, proof.report.at) == (0, None)


# The gateway


@pytest.fixture
async def gateway() -> Any:
    gateway = Gateway(GatewayConfig(listen=(), share=True), MemoryStore())
    await gateway.start()
    yield gateway
    await gateway.stop()


async def test_an_alarm_stops_sharing(gateway: Gateway) -> None:
    told: list[str] = []
    gateway.on_alarm = told.append
    interface = Loopback()
    carrier = Carrier(interface)
    proof = gateway._sharing._proof
    proof._detector = cast(VpnDetector, interface)
    proof._tally = carrier.sockets.tally
    proof.look(0.0)
    interface.freeze()
    carrier.carry(8, 0)
    for wanted in ("unavailable", "unavailable", "off"):
        gateway._collector.at = 1.0
        gateway._collector.handle_timer(1.0)
        assert gateway.snapshots.status().sharing == wanted
        # While there is a suspicion the next look comes soon.
        assert gateway._collector.at == (3.0 if wanted != "off" else None)
    assert len(told) == 1 and told == gateway.snapshots.status().alarms
    assert told[0].startswith(f"{ALARM_SENT}: ")
    assert gateway.snapshots.status().counters[ALARM_SENT] == 1
    gateway.owner.share()
    assert gateway.snapshots.status().alarms == [], "sharing again is the owner's answer"
    carrier.close()

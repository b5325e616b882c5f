"""A datagram client and a listener joined by a seeded, lossy, reordering path."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.vshp.dialogue import CLIENT_KEY, GATEWAY_KEY, GATEWAY_PUBLIC, HELLO, LEASE
from vshp.config import LeaseConfig, Resume, Suite
from vshp.datagram_listener import DatagramListener
from vshp.datagram_session import DatagramClientSession, DatagramGatewaySession
from vshp.events import Event, HelloReceived, LeaseGranted
from vshp.pairing import OneTimeSecrets

SERVER = ("10.0.0.1", 47800)


def split(runs: list[tuple[memoryview, int]]) -> list[bytes]:
    """Cut runs into datagrams as UDP_SEGMENT does."""
    found = []
    for run, size in runs:
        found += [bytes(run[at : at + size]) for at in range(0, len(run), size)]
    return found


@dataclass
class World:
    """Both ends, the path between them, and its clock."""

    loss: float = 0.0
    duplicate: float = 0.0
    jitter: float = 0.0
    path_payload: int = 65507
    known: bool = True
    secret: bytes | None = None
    secrets: OneTimeSecrets | None = None
    resume: Resume | None = None
    suite: Suite = Suite.CHACHAPOLY_BLAKE2S
    seed: int = 1
    lease: LeaseConfig = LEASE
    decide: Callable[[World, DatagramGatewaySession, HelloReceived], None] | None = None
    now: float = 0.0
    address: tuple[str, int] = ("192.168.1.9", 5555)
    cut: bool = False
    elsewhere: list[object] = field(default_factory=list)
    """Addresses that were asked whether the client is there."""
    at_client: list[bytes] = field(default_factory=list)
    at_gateway: list[bytes] = field(default_factory=list)
    client_events: list[Event] = field(default_factory=list)
    gateway_events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        table = self.secrets or OneTimeSecrets(GATEWAY_PUBLIC)
        self.listener = DatagramListener(
            GATEWAY_KEY, lambda name: table.lookup(name, self.now), self.now
        )
        self.client = DatagramClientSession(
            CLIENT_KEY,
            GATEWAY_PUBLIC if self.known else None,
            HELLO,
            address=SERVER,
            now=self.now,
            secret=self.secret,
            resume=self.resume,
            suite=self.suite,
        )
        self.client.on_packet = lambda buf, start, end, offload: self.at_client.append(
            bytes(buf[start:end])
        )
        self.flying: list[tuple[float, int, str, bytes, tuple[str, int]]] = []
        self.count = 0
        self.gateway: DatagramGatewaySession | None = None

    def send(self, to: str, data: bytes, source: tuple[str, int]) -> None:
        if self.cut or len(data) > self.path_payload or self.random.random() < self.loss:
            return
        for _ in range(2 if self.random.random() < self.duplicate else 1):
            self.count += 1
            at = self.now + 0.005 + self.random.random() * self.jitter
            heapq.heappush(self.flying, (at, self.count, to, data, source))

    def pump(self) -> None:
        """Take what both ends have to send, and their news."""
        for data in split(self.client.datagrams_to_send()):
            self.send("gateway", data, self.address)
        for reply, _ in self.listener.replies():
            self.send("client", reply, SERVER)
        for session in list(self.listener.sessions.values()):
            while (event := session.next_event()) is not None:
                self.gateway_events.append(event)
                if isinstance(event, HelloReceived):
                    self.gateway = session
                    session.on_packet = lambda buf, start, end, offload: self.at_gateway.append(
                        bytes(buf[start:end])
                    )
                    if self.decide:
                        self.decide(self, session, event)
                    else:
                        session.approve(self.lease, self.now)
            # The client's old address leads nowhere.
            if session.address == self.address:
                for data in split(session.datagrams_to_send()):
                    self.send("client", data, SERVER)
            else:
                session.datagrams_to_send()
            for data, there in session.datagrams_elsewhere():
                self.elsewhere.append(there)
                if there == self.address:
                    self.send("client", data, SERVER)
        while (news := self.client.next_event()) is not None:
            self.client_events.append(news)

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        until = self.now + seconds
        while True:
            self.pump()
            times = [until]
            sessions = [self.client, *self.listener.sessions.values()]
            for session in sessions:
                due = session.get_timer()
                if due is not None:
                    times.append(max(due, self.now))
            if self.flying:
                times.append(self.flying[0][0])
            step = min(times)
            if step >= until:
                self.now = until
                return
            self.now = max(step, self.now)
            for session in sessions:
                due = session.get_timer()
                if due is not None and due <= self.now:
                    session.handle_timer(self.now)
            while self.flying and self.flying[0][0] <= self.now:
                _, _, to, data, source = heapq.heappop(self.flying)
                if to == "client":
                    self.client.receive_datagram(memoryview(data), source, self.now)
                else:
                    self.listener.receive_datagram(memoryview(data), source, self.now)
                self.pump()

    def granted(self) -> bool:
        return any(isinstance(event, LeaseGranted) for event in self.client_events)

    @property
    def session(self) -> DatagramGatewaySession:
        assert self.gateway is not None
        return self.gateway


def connected(world: World | None = None) -> World:
    """A world, this one or any, whose client has its lease and where all is quiet."""
    world = World() if world is None else world
    world.run(0.5)
    assert world.granted(), world.client_events
    world.client_events.clear()
    world.gateway_events.clear()
    return world

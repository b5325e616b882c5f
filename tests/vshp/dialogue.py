"""Two sessions in one process, and words for what passes between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sealing.identity import generate_identity, public_key
from vshp.config import Capability, Hello, LeaseConfig, Resume, Suite
from vshp.events import Event, HelloReceived, LeaseGranted
from vshp.pairing import OneTimeSecrets
from vshp.session import ClientSession, GatewaySession

HELLO = Hello("work laptop", "linux", Capability.OFFLOAD | Capability.IPV6)
LEASE = LeaseConfig(
    session_id=bytes(range(16)),
    ipv4=bytes((10, 77, 0, 2)),
    ipv6=bytes.fromhex("fd77" + "00" * 13 + "02"),
    gateway_ipv4=bytes((10, 77, 0, 1)),
    gateway_ipv6=bytes.fromhex("fd77" + "00" * 13 + "01"),
    name="phone",
    ticket=b"t" * 80,
)
Session = ClientSession | GatewaySession


def feed(session: Session, data: bytes, now: float = 0.0, step: int = 1 << 30) -> None:
    """Receive `data` in pieces of at most `step` bytes."""
    at = 0
    while at < len(data):
        buffer = session.receive_buffer()
        n = min(step, len(buffer), len(data) - at)
        buffer[:n] = data[at : at + n]
        at += n
        session.received(n, now)


def drain(session: Session) -> bytes:
    """Take all output."""
    data = bytes(session.writer.output())
    session.writer.consumed(len(data))
    return data


def events(session: Session) -> list[Event]:
    found = []
    while (event := session.next_event()) is not None:
        found.append(event)
    return found


@dataclass
class Pair:
    """A client and a gateway, joined by hand."""

    client: ClientSession
    gateway: GatewaySession
    at_client: list[bytes] = field(default_factory=list)
    at_gateway: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        def keep(store: list[bytes]) -> Callable[[memoryview, int, int, bool], None]:
            def on_packet(buf: memoryview, start: int, end: int, offload: bool) -> None:
                store.append(bytes(buf[start - 10 if offload else start : end]))

            return on_packet

        self.client.on_packet = keep(self.at_client)
        self.gateway.on_packet = keep(self.at_gateway)

    def exchange(self, now: float = 0.0, step: int = 1 << 30) -> None:
        """Move bytes both ways until there are none."""
        while True:
            up, down = drain(self.client), drain(self.gateway)
            if not up and not down:
                return
            feed(self.gateway, up, now, step)
            feed(self.client, down, now, step)

    def hello(self) -> HelloReceived:
        """The gateway's next piece of news must be the HELLO."""
        event = self.gateway.next_event()
        assert isinstance(event, HelloReceived), event
        return event


CLIENT_KEY = generate_identity()
GATEWAY_KEY = generate_identity()
GATEWAY_PUBLIC = public_key(GATEWAY_KEY)
CLIENT_PUBLIC = public_key(CLIENT_KEY)


def pair(
    *,
    known: bool = True,
    secret: bytes | None = None,
    secrets: OneTimeSecrets | None = None,
    resume: Resume | None = None,
    suite: Suite = Suite.CHACHAPOLY_BLAKE2S,
    now: float = 0.0,
) -> Pair:
    """IK; with a secret IKpsk1; with `known=False` XX."""
    table = OneTimeSecrets(GATEWAY_PUBLIC) if secrets is None else secrets
    client = ClientSession(
        CLIENT_KEY,
        GATEWAY_PUBLIC if known else None,
        HELLO,
        now=now,
        secret=secret,
        resume=resume,
        suite=suite,
    )
    gateway = GatewaySession(GATEWAY_KEY, lambda name: table.lookup(name, now), now)
    return Pair(client, gateway)


def connected(
    lease: LeaseConfig = LEASE, suite: Suite = Suite.CHACHAPOLY_BLAKE2S, now: float = 0.0
) -> Pair:
    """An open session with nothing in flight and no events waiting."""
    both = pair(suite=suite, now=now)
    both.exchange(now)
    both.hello()
    both.gateway.approve(lease, now)
    both.exchange(now)
    assert any(isinstance(event, LeaseGranted) for event in events(both.client))
    events(both.gateway)
    return both

"""What a caller of the dialer holds: a connection, a question, a UDP port, each to its end.

Theory of operation. Whoever asks the dialer for something is given a handle at once and told later
what became of it, once, and not at all after `cancel`. A connection's handle is told the outcome
first, while the local socket is still the caller's to write its reply to; then the two are joined,
and what the handle shows is the connection's. The handles keep no clock and no socket's readiness:
that is the driver's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol, TypeVarTuple

from client.outlet.proxy.dial import Dial
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.outgoing import Outgoing
from client.outlet.proxy.resolver import Half, Resolver
from client.outlet.proxy.udp_port import UdpPort
from netstack.tcp.states import State
from splice.splice import CLOSED, OPEN

Bound = tuple[bytes, int]
OnOutcome = Callable[[Outcome, Bound | None], None]

_Ts = TypeVarTuple("_Ts")


class Driver(Protocol):
    """What the handles need of the dialer."""

    def now(self) -> float:
        """The poller's clock."""

    def settle_soon(self) -> None:
        """The stack has something to send."""

    def later(self, told: Callable[[], None]) -> None:
        """Call in the loop's next turn."""

    def call(self, told: Callable[[*_Ts], None], *words: *_Ts) -> bool:
        """Call a function of a caller's; False when it failed, which is logged."""

    def tell(self, told: OnOutcome, outcome: Outcome, bound: Bound | None) -> bool:
        """Likewise of what became of a connection, which is counted."""

    def done(self, dialing: Dialing) -> None:
        """It is dialled no more."""

    def let_go(self, sock: socket.socket) -> None:
        """Nothing of what the socket has to say is heard any more."""

    def join(self, flow: Outgoing, sock: socket.socket, early: bytes, now: float) -> None:
        """Splice an open connection to the local socket."""


def _ignore() -> None:
    """What nobody waits for."""


class Dialing:
    """A connection that was asked for, from the asking to its end."""

    __slots__ = ("_dial", "_dialer", "_early", "_flow", "_on_outcome", "_sock", "host", "on_over",
                 "port")  # fmt: skip

    def __init__(
        self,
        dialer: Driver,
        sock: socket.socket,
        host: bytes,
        port: int,
        on_outcome: OnOutcome,
        early: bytes,
    ) -> None:
        self._dialer = dialer
        self._sock: socket.socket | None = sock
        self._on_outcome: OnOutcome | None = on_outcome
        self._early = early
        self._dial: Dial | None = None
        self._flow: Outgoing | None = None
        self.host = host
        """The far host's address; empty until one is chosen."""
        self.port = port
        self.on_over: Callable[[], None] = _ignore
        """Called once when a connection that was opened is over."""

    @property
    def local(self) -> Bound | None:
        """Our own address and port in the tunnel."""
        return self._flow.local if self._flow is not None else None

    @property
    def from_tunnel_bytes(self) -> int:
        """Payload; likewise the other way."""
        return self._flow.from_tunnel_bytes if self._flow is not None else 0

    @property
    def to_tunnel_bytes(self) -> int:
        return self._flow.to_tunnel_bytes if self._flow is not None else 0

    @property
    def last_used(self) -> float:
        """When bytes were last carried, monotonic; 0 before it is open."""
        return self._flow.last_used if self._flow is not None else 0.0

    @property
    def state(self) -> str:
        """`connecting`, `established`, `closing` or `closed`."""
        flow = self._flow
        if flow is None:
            return "connecting" if self._dial is not None else "closed"
        if flow.stage > OPEN:
            return "closing" if flow.sock is not None else "closed"
        return "established" if flow.conn.state == State.ESTABLISHED else "closing"

    @property
    def rtt(self) -> float | None:
        """Seconds to the gateway and back as this connection has measured them, if it has."""
        return self._flow.conn.srtt if self._flow is not None else None

    @property
    def retransmits(self) -> int | None:
        """Not counted for each connection."""
        return None

    def cancel(self) -> None:
        """Whoever asked has gone: nothing is told, and the socket stays the caller's."""
        self._on_outcome = None
        dial, self._dial = self._dial, None
        if dial is not None:
            dial.cancel(self._dialer.now())
            self._dialer.done(self)

    def abort(self) -> None:
        """End it: RST to both sides; while it is dialled, as `cancel`."""
        self.cancel()
        if self._flow is not None and self._flow.stage < CLOSED:
            self._flow.shut(self._dialer.now())
            self._dialer.settle_soon()

    # --- the dialer's side ---------------------------------------------------------------------

    def dial(self, dial: Dial) -> None:
        self._dial = dial

    def dialled(self, outcome: Outcome, flow: Outgoing | None, now: float) -> None:
        """What became of it: tell, and splice."""
        self._dial = None
        sock, self._sock = self._sock, None
        told, self._on_outcome = self._on_outcome, None
        early, self._early = self._early, b""
        if flow is None or told is None or sock is None:
            if flow is not None:
                flow.abandon(now)
            if told is not None:
                self._dialer.tell(told, outcome, None)
            self._dialer.done(self)
            return
        self._flow = flow
        self.host = flow.host
        flow.on_over = self._over
        taken = self._dialer.tell(told, outcome, flow.local)
        self._dialer.done(self)
        if not taken or sock.fileno() < 0:
            self._dialer.let_go(sock)
            flow.abandon(now)
            return
        self._dialer.join(flow, sock, early, now)

    def _over(self) -> None:
        over, self.on_over = self.on_over, _ignore
        self._dialer.call(over)


class Query:
    """A name that is being asked."""

    __slots__ = ("_dialer", "_found", "_halves", "_on_answer", "_outcome")

    def __init__(self, dialer: Driver, on_answer: Callable[[Outcome, list[bytes]], None]) -> None:
        self._dialer = dialer
        self._on_answer: Callable[[Outcome, list[bytes]], None] | None = on_answer
        self._halves: list[Half] = []
        self._found: dict[int, list[bytes]] = {}
        self._outcome = Outcome.NO_SUCH_NAME

    def begin(self, resolver: Resolver, name: bytes, now: float) -> None:
        for version in (6, 4):
            half = resolver.ask(name, version, self._resolved, now)
            if half is not None:
                self._halves.append(half)
        if not self._halves:
            self._dialer.later(lambda: self._tell(Outcome.BUSY, []))

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self._on_answer = None
        halves, self._halves = self._halves, []
        for half in halves:
            half.cancel()

    def fail(self, outcome: Outcome) -> None:
        """Not asked at all; told later."""
        self._dialer.later(lambda: self._tell(outcome, []))

    def _resolved(self, version: int, outcome: Outcome, found: list[bytes]) -> None:
        self._halves = [half for half in self._halves if half.version != version]
        self._found[version] = found
        if outcome is Outcome.NAMES_FAILED:
            self._outcome = outcome
        if not self._halves:
            six, four = self._found.get(6, []), self._found.get(4, [])
            mixed = [address for pair in zip(six, four, strict=False) for address in pair]
            shorter = min(len(six), len(four))
            mixed += six[shorter:] + four[shorter:]
            self._tell(Outcome.OPENED if mixed else self._outcome, mixed)

    def _tell(self, outcome: Outcome, found: list[bytes]) -> None:
        told, self._on_answer = self._on_answer, None
        if told is not None:
            self._dialer.call(told, outcome, found)


class Association:
    """A UDP port of the stack's, in the hands of one of the proxy's visitors."""

    __slots__ = ("_dialer", "_udp")

    def __init__(self, dialer: Driver, udp: UdpPort) -> None:
        self._dialer = dialer
        self._udp = udp

    @property
    def port(self) -> int:
        return self._udp.port

    @property
    def from_tunnel_bytes(self) -> int:
        """Payload; likewise the other way."""
        return self._udp.from_tunnel_bytes

    @property
    def to_tunnel_bytes(self) -> int:
        return self._udp.to_tunnel_bytes

    def send(self, host: bytes, port: int, payload: bytes | bytearray | memoryview) -> bool:
        """Send a datagram; False if it was dropped: no lease, no room, too large."""
        sent = self._udp.send(host, port, payload)
        self._dialer.settle_soon()
        return sent

    def close(self) -> None:
        """Safe to call twice."""
        self._udp.close()

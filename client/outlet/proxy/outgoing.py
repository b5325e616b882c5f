"""A TCP connection that we open through the tunnel, spliced to a local stream once it is open.

The SYN has left before this is made, and goes again until it is answered. SYN-ACK, RST, an ICMP
error about the SYN, or silence is what `on_result` is told, once. The stream comes afterwards
(`begin`): whoever asked has to be told first, in words of its own protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from client.outlet.proxy.outcome import Outcome
from netstack.tcp.config import CloseReason
from netstack.tcp.constants import MASK
from netstack.tcp.states import State
from splice.flow import FlowInfo
from splice.ports import READABLE, StreamSocket
from splice.splice import CLOSED, CONNECTING, OPEN, STAGES, Splice

if TYPE_CHECKING:
    from client.outlet.proxy.stack import Stack
    from netstack.tcp.handshake import Opening

_FAILURES = {
    CloseReason.RESET: Outcome.REFUSED,
    CloseReason.TIMED_OUT: Outcome.TIMED_OUT,
}

OnResult = Callable[["Outgoing", Outcome, float], None]


def _nobody() -> None:
    """Whom nobody waits for."""


class Outgoing(Splice):
    """A connection to `host`, from an address and port of the lease's."""

    __slots__ = ("host", "local", "on_over", "on_result", "port")

    peer: Stack

    def __init__(
        self,
        stack: Stack,
        version: int,
        key: bytes,
        local: tuple[bytes, int],
        host: bytes,
        port: int,
        iss: int,
        on_result: OnResult,
        now: float,
        opening: Opening,
    ) -> None:
        Splice.__init__(self, stack, version, key, local, (host, port), iss, now, opening)
        self.local = local
        self.host = host
        self.port = port
        self.on_result: OnResult | None = on_result
        self.on_over: Callable[[], None] = _nobody
        """Called once when a connection that was open is over."""

    def open(self, now: float) -> None:
        """Wait for the answer to the SYN."""
        self.stage = CONNECTING
        # Until there is a stream, what comes waits: the segment that opens it may hold data.
        self.blocked = True
        self.conn.connect(now, early=True)
        self.settle(now)

    def progressed(self, now: float) -> None:
        """A segment came while it opens."""
        if self.stage == CONNECTING and self.conn.state >= State.ESTABLISHED:
            self.stage = OPEN
            # Sums and timers are settled when the batch ends, as of all that got a segment.
            self._tell(Outcome.OPENED, now)

    def sent(self, seq: int) -> bool:
        """Whether our SYN has this sequence number, and is not answered yet."""
        return self.conn.state is State.SYN_SENT and seq == self.conn.snd.una & MASK

    def failed(self, outcome: Outcome, now: float) -> None:
        """An ICMP error, or our own decision, ends the attempt: without a word to the host."""
        self.conn.drop()
        self.dispose(abort=False)
        self._tell(outcome, now)

    def begin(self, stream: StreamSocket, now: float, holds: bool = True) -> None:
        """Splice the open connection to `stream`, whose readiness `ready` is told from now on.

        What the stream `holds` already is read without being told.
        """
        self.take_socket(stream)
        self.blocked = False
        if holds:
            self.ready(READABLE, now)
        if self.stage == OPEN and (self.backlog or self.fin_waits):
            self._flush(now)
            self.settle(now)

    def deliver_fin(self) -> None:
        if self.sock is None:
            self.fin_waits = True
        else:
            Splice.deliver_fin(self)

    def closed(self, reason: CloseReason) -> None:
        if self.stage == CONNECTING:
            self.dispose(abort=False)
            # What was given up by ourselves is so for want of the lease that it began with.
            self._tell(_FAILURES.get(reason, Outcome.AWAY), self.peer.timers.now)
        else:
            Splice.closed(self, reason)

    def dispose(self, abort: bool) -> None:
        if self.stage == CLOSED:
            return
        Splice.dispose(self, abort)
        if self.on_result is None:
            over, self.on_over = self.on_over, _nobody
            over()

    def abandon(self, now: float) -> None:
        """Nobody wants it any more, and nobody is told: RST to the host."""
        self.on_result = None
        Splice.shut(self, now)

    def _tell(self, outcome: Outcome, now: float) -> None:
        told, self.on_result = self.on_result, None
        if told is not None:
            told(self, outcome, now)

    def info(self) -> FlowInfo:
        state = self.conn.state.name.lower() if self.stage == OPEN else STAGES[self.stage]
        return FlowInfo(
            self.id, self.peer.id, "tcp", state, self.local, (self.host, self.port), self.created,
            self.last_used, self.from_tunnel_bytes, self.to_tunnel_bytes, None, None,
        )  # fmt: skip

"""A client's TCP connection, spliced to a socket of ours (`splice/splice.py`): how it opens.

The client's SYN is held. A connect goes out when it has its turn
(`connects.py`); what comes of it is what the client is told: SYN-ACK, RST for
a refusal, an ICMP error for a host or net that cannot be reached. So the
client's application sees the network's own answer, and as late or early as the
network gave it. What fails for want of room here is told to nobody: the
client's system sends the SYN again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.nat import errors
from netstack import icmp
from splice.flow import FlowInfo
from splice.outcomes import Outcome, outcome_of
from splice.ports import READABLE, WRITABLE, StreamSocket
from splice.splice import CONNECTING, INPUT, OPEN, STAGES, Splice

if TYPE_CHECKING:
    from gateway.nat.ports import Outward
    from gateway.nat.side import ClientSide
    from netstack.tcp_segment import TcpSegment


class TcpFlow(Splice):
    """A connection of a client's to `host`, from its `source`."""

    __slots__ = ("host", "port", "quote", "source")

    peer: ClientSide

    def __init__(
        self,
        peer: ClientSide,
        version: int,
        key: bytes,
        source: tuple[bytes, int],
        host: bytes,
        port: int,
        now: float,
    ) -> None:
        iss = peer.nat.initial_sequence()
        Splice.__init__(self, peer, version, key, (host, port), source, iss, now)
        self.source = source
        self.host = host
        self.port = port
        self.quote = b""
        """The SYN's beginning, for an ICMP error, while connecting."""

    def hold(self, seg: TcpSegment, quote: bytes, now: float) -> None:
        """Take the SYN, of which `quote` is the beginning; `connect` is for later."""
        self.conn.syn_arrived(seg, now)
        self.quote = quote
        self.settle(now)

    def connect(self, outward: Outward, now: float) -> str:
        """Connect. Returns what became of the SYN, a counter's name."""
        self.stage = CONNECTING
        self.last_used = now
        try:
            self.take_socket(outward.connect(self.version, self.host, self.port, self))
        except OSError as error:
            return self._connect_failed(outcome_of(error), now)
        return "tcp__syn__forwarded"

    def begin_local(
        self, sock: StreamSocket, seg: TcpSegment, idle_timeout: float, now: float
    ) -> str:
        """Take the SYN and answer it: `sock` is a service of our own."""
        self.idle_timeout = idle_timeout
        self.conn.syn_arrived(seg, now)
        self.take_socket(sock)
        self._connected(now)
        return "tcp__syn__answered"

    def connect_ready(self, mask: int, now: float) -> None:
        if self.sock is not None:
            error = self.sock.connect_error()
            if error:
                self._connect_failed(outcome_of(error), now)
            elif mask & WRITABLE:
                # Without it there is news of an error that the kernel has not noted yet: it wakes
                # for an ICMP error before it ends the connect (`ip_icmp_error`, Linux).
                self._connected(now)
                if mask & READABLE:
                    self.ready(mask & INPUT, now)
            self.peer.wake()

    def _connected(self, now: float) -> None:
        self.peer.connected(self)
        self.stage = OPEN
        self.last_used = now
        self.quote = b""
        self.conn.accept(now)
        self.peer.hasty = True
        self.settle(now)

    def _connect_failed(self, outcome: Outcome, now: float) -> str:
        """Tell the client why there is no connection."""
        peer = self.peer
        peer.counts[f"tcp__connect__{outcome.label}"] += 1
        if outcome is Outcome.NO_DESCRIPTORS:
            self.vanish()
            return "tcp__no_descriptors__dropped"
        if outcome.resets:
            # Ends in `closed`, which disposes.
            self.conn.refuse(now)
            peer.hasty = True
            return "tcp__connect__rst_sent"
        sent = self._unreachable(outcome.code(self.version), now)
        return "tcp__connect__icmp_sent" if sent else "tcp__connect_error_limit__dropped"

    def prohibited(self, name: str, now: float) -> str:
        """Close it, whose connect has not begun, because the owner's rules forbid it.

        Returns what became of the SYN, a counter's name that begins with `name`.
        """
        code = icmp.ADMIN_PROHIBITED if self.version == 4 else icmp.ADMIN_PROHIBITED6
        return name + ("__icmp_sent" if self._unreachable(code, now) else "__dropped")

    def _unreachable(self, code: int, now: float) -> bool:
        """Answer the SYN by Destination Unreachable, and close."""
        peer = self.peer
        quote = self.quote
        self.conn.drop()
        self.dispose(abort=False)
        gateway = peer.gateway(self.version)
        return peer.send_error(errors.unreachable(gateway, self.source[0], code, quote), now)

    def give_way(self, now: float) -> None:
        """Close it for want of its socket. Who was not answered yet will send the SYN again."""
        if self.stage <= CONNECTING:
            self.vanish()
        else:
            self.shut(now)

    def info(self) -> FlowInfo:
        sock = self.sock
        state = self.conn.state.name.lower() if self.stage == OPEN else STAGES[self.stage]
        return FlowInfo(
            self.id, self.peer.id, "tcp", state, self.source, (self.host, self.port),
            self.created, self.last_used, self.from_tunnel_bytes, self.to_tunnel_bytes,
            sock.device if sock is not None else None, sock.local() if sock is not None else None,
        )  # fmt: skip

"""The splice: a TCP connection of the tunnel's, which ends here, joined to a stream of ours.

Theory of operation. The stream is a socket, or what behaves like one
(`ports.py`); *the tunnel's side* is whoever has the other end of the TCP
connection, *the socket's side* whoever is behind the stream. In the gateway
these are a client's program and a host of the Internet, in the client a host
and a program. How a splice opens is its subclass's affair: it brings `conn` to
where it is open, gives the stream to `take_socket` and sets `stage` to OPEN.

*From the socket* bytes are pulled, not pushed: it is read when the
link has room, it is this flow's turn, and the tunnel's side's window takes what
would be read. They are received straight into the buffer out of which the
TCP machine emits and, after a break of the link, emits again.

*From the tunnel* bytes are handed over as they come in order. Large pieces go
to the socket at once; small ones are joined until the batch of packets ends.
What the socket does not take waits in `backlog`, and counts as consumed, so
that the window reopens, only when the socket has taken it: the
backlog is bounded by the window that was advertised.

*Urgent data* (RFC 6093) stay where they are in the stream. A mark in the stream
is carried over: the socket's as soon as it is known how far ahead it is, the
tunnel's when its byte goes to the socket. Of several marks on their way the last
one counts, as everywhere.

*Keeping alive.* When the tunnel's side probes its connection the socket's is
probed, after as much silence as that waited itself: so a NAT on that side sees
what it would see, and a host that is dead is told as RST. Where it does not,
nothing is sent: a phone sleeps. Only a half-closed connection is probed on both
sides, once it has lasted for longer than it takes to close (`LinkPeer.half_closed`).

*Closing.* FIN and RST are carried over, each direction by itself. When the
connection ends while the backlog still waits for a slow reader, the flow leaves
the table and drains (`DRAINING`), for a bounded time.

Readiness is edge-triggered. `readable` stays set until a read says that there
is no more: EAGAIN, or fewer bytes than asked for, unless the far side's FIN or
an error is known to wait behind them (`certain`), or a mark, at which a read
ends (`mark`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.tcp.config import CloseReason
from netstack.tcp.connection import TcpConnection
from netstack.tcp.states import State
from splice.flow import Flow
from splice.outcomes import outcome_of
from splice.ports import (
    FAILED,
    HUNG_UP,
    PEER_CLOSED,
    READABLE,
    URGENT,
    WRITABLE,
    StreamSocket,
)
from splice.timers import NEVER
from splice.windows import PROBATION

if TYPE_CHECKING:
    from netstack.out import PacketOut
    from netstack.tcp.handshake import Opening
    from splice.peer import LinkPeer

WAITING, CONNECTING, OPEN, DRAINING, CLOSED = range(5)
STAGES = ("waiting", "connecting", "open", "draining", "closed")

DIRECT = 8 * 1024
"""From this size on a piece goes to the socket by itself; smaller ones are joined."""
JOINED = 64 * 1024
"""Joined pieces go to the socket at the latest at this size."""
DRAIN_TIMEOUT = 60.0
"""Seconds without progress after which a backlog that outlived its connection is given up."""

HALF_CLOSED_IDLE = 240
"""Seconds of the socket's side's silence after which it is probed once the tunnel's has closed."""
LONGEST_IDLE = 7200
"""Seconds beyond which the tunnel's side's own keep-alive is not followed."""
UNPLACED = -1

INPUT = READABLE | URGENT | PEER_CLOSED | HUNG_UP | FAILED
_ENDING = PEER_CLOSED | HUNG_UP | FAILED
_SPECIAL = _ENDING | URGENT


class Splice(Flow):
    """One spliced connection: the TCP machine's user, and the handler of the socket."""

    __slots__ = (
        "_recv_into",
        "_send",
        "backlog",
        "batched",
        "blocked",
        "certain",
        "conn",
        "eof",
        "fin_waits",
        "heard",
        "idle_timeout",
        "in_flight",
        "kept",
        "key",
        "lent",
        "mark",
        "owed",
        "passed",
        "readable",
        "sock",
        "stage",
        "uploading",
        "urgent_at",
    )

    def __init__(
        self,
        peer: LinkPeer,
        version: int,
        key: bytes,
        local: tuple[bytes, int],
        remote: tuple[bytes, int],
        iss: int,
        now: float,
        opening: Opening | None = None,
    ) -> None:
        """Of a connection from `local`, whom we are or impersonate, to `remote` in the tunnel.

        `key` finds it among the peer's (`LinkPeer.tcp`); `iss` is the initial sequence number;
        `opening` is of a SYN that has left already.
        """
        Flow.__init__(self, peer, version, now)
        self.key = key
        self.stage = WAITING
        self.conn = TcpConnection(
            version, local[0], local[1], remote[0], remote[1], self,
            peer.tcp_config(version) if opening is None else opening.config, iss, peer.out,
            None if opening is None else opening.writer,
        )  # fmt: skip
        self.sock: StreamSocket | None = None
        self.backlog = bytearray()
        """Bytes from the tunnel that the socket has not taken."""
        self.blocked = False
        """The socket took less than it was offered: WRITABLE will come."""
        self.fin_waits = False
        """The tunnel's FIN waits for the backlog to go out."""
        self.urgent_at = -1
        """Where in the backlog the tunnel's urgent byte is; -1: it is not."""
        self.readable = False
        self.certain = False
        self.kept = 0
        """Seconds of silence after which the socket's side is probed; 0: it is not."""
        self.mark = 0
        """`to_tunnel_bytes` when the socket's urgent byte will have been received; UNPLACED while
        that is not known; 0: there is none."""
        self.eof = False
        self.batched = False
        """In the peer's list of flows with something to do at the end of the batch."""
        self.in_flight = 0
        """As last added to the peer's sum."""
        self.heard = 0
        """Bytes passed on to the socket in this period of the receive-window budget."""
        self.passed = 0
        """Bytes that the socket took in the batch that goes on, for which nothing was done yet."""
        self.uploading = False
        self.owed = 0
        self.lent = 0
        """With a speed limit; see `PacedWindows`. `owed` is negative while bytes are free."""
        self.idle_timeout = NEVER
        """Seconds without data after which we hang up by ourselves."""

    @property
    def answered(self) -> bool:
        return self.stage >= OPEN

    def take_socket(self, sock: StreamSocket) -> None:
        """The stream to be spliced, whether or not it is open yet."""
        self.sock = sock
        self._recv_into = sock.recv_into
        self._send = sock.send
        self.peer.opened()

    def connect_ready(self, mask: int, now: float) -> None:
        """The socket has news while the connection opens (CONNECTING)."""
        raise NotImplementedError

    # The socket's side.

    def ready(self, mask: int, now: float) -> None:
        stage = self.stage
        if stage == OPEN:
            if mask & INPUT:
                self.readable = True
                if mask & _SPECIAL:
                    if mask & _ENDING:
                        self.certain = True
                    if mask & URGENT:
                        self._place_mark(now)
                if not self.eof and self.conn.sendable() > 0:
                    self.peer.activate(self)
                elif mask & FAILED:
                    self._check_error(now)
            if self.blocked and mask & WRITABLE and self.stage == OPEN:
                self.blocked = False
                self._flush(now)
                self.settle(now)
        elif stage == CONNECTING:
            self.connect_ready(mask, now)
        elif stage == DRAINING and mask & (WRITABLE | FAILED | HUNG_UP):
            self.blocked = False
            self._flush(now)

    def pull_some(self, out: PacketOut, now: float) -> int:
        conn = self.conn
        limit = conn.sendable()
        if limit <= 0:
            self.peer.queue.idle(self)
            return 0
        peer = self.peer
        if limit > peer.read_size:
            limit = peer.read_size
        if self.mark:
            self._near_mark(now)
        buf = peer.buffers.take()
        try:
            n = self._recv_into(buf.view, limit)
        except BlockingIOError:
            buf.release()
            self.readable = False
            self.peer.queue.idle(self)
            return 0
        except OSError as error:
            buf.release()
            self._network_failed(error, now)
            return 0
        if n == 0:
            buf.release()
            self._network_finished(now)
            return 0
        conn.send(buf, n, now)
        self.to_tunnel_bytes += n
        self.last_used = now
        if n < limit and not self.certain and not self.mark:
            self.readable = False
            self.peer.queue.idle(self)
        elif conn.sendable() <= 0:
            self.peer.queue.idle(self)
        self.settle(now)
        return n

    def _place_mark(self, now: float) -> None:
        """The socket has an urgent byte: find out where it is, and tell the tunnel's side."""
        ahead = self.sock.urgent_ahead() if self.sock is not None else None
        if ahead is None:
            self.mark = self.mark or UNPLACED
            return
        mark = self.to_tunnel_bytes + ahead + 1
        if mark != self.mark:
            self.mark = mark
            self.conn.urge(ahead, now)
            self.peer.wake()

    def _near_mark(self, now: float) -> None:
        if self.mark == UNPLACED:
            self._place_mark(now)
        elif self.to_tunnel_bytes >= self.mark:
            self.mark = 0

    def _network_finished(self, now: float) -> None:
        """The socket's FIN: pass it on."""
        self.eof = True
        self.peer.queue.idle(self)
        self.conn.send_fin(now)
        self.settle(now)

    def _network_failed(self, error: OSError, now: float) -> None:
        """The socket is dead: RST to the tunnel's side."""
        outcome = outcome_of(error)
        self.peer.counts[f"tcp__network__{outcome.label}"] += 1
        if self.stage == DRAINING:
            self.dispose(abort=False)
            return
        self._release(abort=False)
        self.conn.abort(now)
        self.peer.wake()

    def _check_error(self, now: float) -> None:
        """An error that no read will report, as the window is closed or the stream has ended."""
        if self.sock is not None:
            error = self.sock.connect_error()
            if error:
                self._network_failed(OSError(error, "pending error"), now)

    def _flush(self, now: float) -> None:
        """Give the backlog to the socket, and after it the tunnel's FIN."""
        backlog = self.backlog
        while backlog:
            urgent = self.urgent_at >= 0
            try:
                taken = self._send_to_mark() if urgent else self._send(backlog)
            except BlockingIOError:
                self.blocked = True
                return
            except OSError as error:
                self._network_failed(error, now)
                return
            offered = len(backlog)
            del backlog[:taken]
            self.last_used = now
            if self.stage == OPEN:
                self._passed_on(taken, now)
            if taken < offered and not urgent:
                self.blocked = True
                return
        if self.fin_waits:
            self.fin_waits = False
            self._shutdown_write(now)
        if self.stage == DRAINING:
            self.dispose(abort=False)

    def _send_to_mark(self) -> int:
        """Give the socket the backlog before the urgent byte or, there being none, that byte."""
        at = self.urgent_at
        if at:
            taken = self._send(bytes(self.backlog[:at]))
        else:
            assert self.sock is not None
            taken = self.sock.send_urgent(bytes(self.backlog[:1]))
        self.urgent_at = at - taken
        return taken

    def _passed_on(self, n: int, now: float) -> None:
        """The socket has taken `n` bytes of the tunnel's."""
        self.heard += n
        if not self.uploading and self.heard >= PROBATION:
            self.peer.uploads(self, now)
        if self.peer.paced_windows is None:
            self.conn.consumed(n, now)
        else:
            self.peer.passed_on(self, n, now)

    def _shutdown_write(self, now: float) -> None:
        try:
            if self.sock is not None:
                self.sock.shutdown_write()
                if not self.eof:
                    self.peer.half_closed(self, now)
        except OSError as error:
            self._network_failed(error, now)

    # The TCP machine's side (TcpUser).

    def deliver(self, data: memoryview) -> None:
        n = len(data)
        peer = self.peer
        now = peer.timers.now
        self.from_tunnel_bytes += n
        self.last_used = now
        backlog = self.backlog
        if n >= DIRECT and not backlog and not self.blocked:
            try:
                taken = self._send(data)
            except BlockingIOError:
                taken = 0
            except OSError as error:
                self._network_failed(error, now)
                return
            if peer.paced_windows is None:
                # Accounted for when the batch is over, once for all its pieces.
                self.passed += taken
            elif taken:
                self._passed_on(taken, now)
            if taken == n:
                return
            self.blocked = True
            backlog += data[taken:]
            return
        backlog += data
        if len(backlog) >= JOINED and not self.blocked:
            self._flush(now)

    def deliver_urgent(self, data: memoryview, end: int) -> None:
        n = len(data)
        peer = self.peer
        now = peer.timers.now
        self.from_tunnel_bytes += n
        self.last_used = now
        self.urgent_at = len(self.backlog) + end - 1
        self.backlog += data
        if not self.blocked:
            self._flush(now)

    def deliver_fin(self) -> None:
        if self.backlog:
            self.fin_waits = True
        else:
            self._shutdown_write(self.peer.timers.now)

    def kept_alive(self, silence: float) -> None:
        idle = min(max(1, round(silence)), LONGEST_IDLE)
        if not 0.75 * self.kept <= idle <= 1.25 * self.kept:
            self._keep_alive(idle)

    def keep_half_closed(self) -> None:
        """It has lasted: both sides are probed from now on."""
        if not self.eof and not 0 < self.kept <= HALF_CLOSED_IDLE:
            self._keep_alive(HALF_CLOSED_IDLE)

    def _keep_alive(self, idle: int) -> None:
        if self.sock is not None:
            self.kept = idle
            self.sock.keep_alive(idle)

    def window_opened(self) -> None:
        if self.readable and not self.eof:
            self.peer.activate(self)

    def closed(self, reason: CloseReason) -> None:
        if self.stage == CLOSED:
            return
        self.peer.counts[f"tcp__closed__{reason.value}"] += 1
        if reason is CloseReason.FINISHED and self.backlog and self.sock is not None:
            self.stage = DRAINING
            self.peer.leave(self)
            self.peer.draining.add(self)
            self.peer.timers.arm(self, self.peer.timers.now + DRAIN_TIMEOUT)
            return
        self.dispose(abort=reason in (CloseReason.RESET, CloseReason.TIMED_OUT))

    # The peer's side.

    def end_batch(self, now: float) -> None:
        self.batched = False
        if self.stage >= DRAINING:
            return
        if self.passed:
            passed, self.passed = self.passed, 0
            self._passed_on(passed, now)
        if self.backlog and not self.blocked:
            self._flush(now)
        conn = self.conn
        if conn.ack_pending:
            if conn.ack_may_wait:
                self.peer.hold_ack(self, now)
            else:
                conn.flush_ack(now)
        self.settle(now)

    def flush_ack(self, now: float) -> None:
        """The ACK that was held has waited long enough; data may have taken it along."""
        if self.stage < DRAINING:
            self.conn.flush_ack(now)

    def settle(self, now: float) -> None:
        """After anything that moved the connection: sums, timer, what waits for room."""
        if self.stage >= DRAINING:
            return
        conn = self.conn
        peer = self.peer
        in_flight = conn.in_flight
        if in_flight != self.in_flight:
            peer.in_flight += in_flight - self.in_flight
            self.in_flight = in_flight
        due = conn.get_timer()
        if due is not None and due < self.timer:
            peer.timers.arm(self, due)
        if self.timer > self.last_used + self.idle_timeout:
            peer.timers.arm(self, self.last_used + self.idle_timeout)
        if conn.output_pending:
            peer.resending[self] = None
        if self.eof and conn.state >= State.CLOSING and not self.backlog:
            # Both directions are over as far as the socket is concerned: free the descriptor.
            self._release(abort=False)

    def due(self) -> float:
        if self.stage == DRAINING:
            return self.last_used + DRAIN_TIMEOUT
        if self.stage == CLOSED:
            return NEVER
        due = self.conn.get_timer()
        return min(NEVER if due is None else due, self.last_used + self.idle_timeout)

    def handle_timer(self, now: float) -> None:
        if self.stage == DRAINING:
            if now >= self.last_used + DRAIN_TIMEOUT:
                self.peer.counts["tcp__drain__timed_out"] += 1
                self.dispose(abort=True)
            return
        self.conn.handle_timer(now)
        if self.stage == OPEN and now >= self.last_used + self.idle_timeout:
            # Once in good order; who does not close in its turn is reset.
            self.last_used = now
            if self.eof:
                self.shut(now)
            else:
                self._network_finished(now)
        self.settle(now)

    def shut(self, now: float) -> None:
        self._release(abort=True)
        self.conn.abort(now)
        self.dispose(abort=True)

    def vanish(self) -> None:
        """No word into the tunnel, whose side has gone or will ask again; RST to the socket's."""
        self.conn.drop()
        self.dispose(abort=True)

    def dispose(self, abort: bool) -> None:
        """Leave every table and queue."""
        if self.stage == CLOSED:
            return
        peer = self.peer
        if self.stage == DRAINING:
            peer.draining.discard(self)
        else:
            peer.leave(self)
        self.stage = CLOSED
        self.timer = NEVER
        if peer.paced_windows is not None:
            peer.paced_windows.forget(self)
        peer.in_flight -= self.in_flight
        self.in_flight = 0
        # Not cleared: the failed `send` that led here may still have it in its hands.
        self.backlog = bytearray()
        self._release(abort)

    def _release(self, abort: bool) -> None:
        sock = self.sock
        if sock is None:
            return
        self.sock = None
        self.eof = True
        if abort:
            sock.abort()
        else:
            sock.close()
        self.peer.released()

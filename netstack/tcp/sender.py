"""The sending half: what was sent, what may be sent, and when to send it again.

         una                      nxt              una + wnd
          |------------------------|------------------|
            in flight: kept in       usable window
            chunks until acknowledged

The user's bytes arrive in `SendBuffer`s and leave at once: there is no queue of
unsent data, because the user asks `room` first and leaves in its socket what
does not fit. So `nxt` is also the end of all data. A FIN is the one thing that
may wait here, for the peer's window to open.

How much may be in flight is bounded by the peer's window, by
`config.max_in_flight` and, on a lossy link, by the congestion window. On a
reliable link there is no congestion control and no round-trip measurement;
the timer is a slow watchdog over a peer that dropped what it had been given.

One deadline serves three purposes that exclude each other:
- bytes are in flight: the retransmission time-out (or the watchdog);
- nothing is in flight and the window is closed: the zero-window probe;
- retransmissions found the link's queue full: try again.
"""

from __future__ import annotations

from netstack.tcp.buffers import SendBuffer
from netstack.tcp.config import TcpConfig
from netstack.tcp.congestion import CongestionControl, congestion_control
from netstack.tcp.constants import (
    DUP_THRESH,
    INITIAL_RTO,
    MASK,
    MIN_MSS,
    MIN_PERSIST,
    OUTPUT_RETRY,
    SURELY_WORTH,
    SUSPICION,
    TIMESTAMPS_LENGTH,
    WAKE_OFFLOAD,
    WAKE_PLAIN,
)
from netstack.tcp.errors import LocalMisuse
from netstack.tcp.flight import Flight
from netstack.tcp.receiver import Receiver
from netstack.tcp.recovery import Recovery
from netstack.tcp.rtt import RttEstimator
from netstack.tcp.sequence import unwrap
from netstack.tcp.writer import SegmentWriter
from netstack.tcp_segment import ACK, TcpSegment


class Sender:
    """SND.* of one connection (RFC 9293, 3.3.1), in unwrapped sequence numbers."""

    __slots__ = (
        "_config",
        "_reply",
        "_suspected",
        "_timed",
        "_timed_at",
        "_writer",
        "backoff",
        "congestion",
        "deadline",
        "fin",
        "fin_waiting",
        "flight",
        "idle_since",
        "max_wnd",
        "mss",
        "nxt",
        "open",
        "output_pending",
        "peer_mss",
        "progress_at",
        "recovery",
        "reliable",
        "rtt",
        "sack",
        "shift",
        "starved",
        "una",
        "wl_ack",
        "wl_seq",
        "wnd",
    )

    def __init__(
        self, config: TcpConfig, writer: SegmentWriter, receiver: Receiver, iss: int
    ) -> None:
        self._config = config
        self._writer = writer
        self._reply = receiver
        """Whose acknowledgement and window every segment carries."""
        self.una = self.nxt = iss
        self.wnd = 0
        self.max_wnd = 0
        self.wl_seq = self.wl_ack = 0
        self.shift = 0
        """How far the peer's window fields are shifted."""
        self.peer_mss = 0
        self.mss = 0
        """Payload of a full segment: what peer and link take, less the options."""
        self.sack = False
        self.reliable = config.reliable
        self.open = False
        """The state lets data be sent."""
        self.flight = Flight(writer, receiver)
        self.fin: int | None = None
        """Sequence number of our FIN once it was sent."""
        self.fin_waiting = False
        """The user has closed, the FIN waits for the window to open."""
        self.starved = False
        """`room` said 0: the user waits to be woken."""
        self.output_pending = False
        self.deadline: float | None = None
        self.backoff = 0
        self.progress_at = 0.0
        """When the oldest byte in flight became that."""
        self.idle_since = 0.0
        """When something was last sent."""
        self.congestion: CongestionControl | None = None
        self.rtt: RttEstimator | None = None
        self.recovery: Recovery | None = None
        self._timed: int | None = None
        """A round trip is being timed until this is acknowledged, finer than timestamps can; not
        across retransmissions (Karn)."""
        self._timed_at = 0.0
        self._suspected = False
        """What is at `una` was repeated out of suspicion already."""

    # --- sending -----------------------------------------------------------------------------

    def fit_mss(self) -> None:
        """Compute the segment size from the peer's MSS and the link's MTU."""
        writer = self._writer
        if self.peer_mss and writer.out is not None:
            headers = writer.ip_header + 20
            fitting = min(self.peer_mss, writer.out.mtu - headers) - (writer.header - headers)
            self.mss = max(fitting, MIN_MSS - TIMESTAMPS_LENGTH)
            if self.congestion is not None:
                self.congestion.mss = self.mss

    def room(self) -> int:
        """Bytes that may be sent now; 0 if so few that waiting is better."""
        usable = self._usable()
        if usable >= SURELY_WORTH or (usable > 0 and usable >= self._worthwhile()):
            return usable
        self.starved = True
        return 0

    def _usable(self) -> int:
        """Bytes that every limit leaves."""
        out = self._writer.out
        if not self.open or self.fin_waiting or out is None or self.output_pending:
            return 0
        window = self.wnd
        if window > self._config.max_in_flight:
            window = self._config.max_in_flight
        usable = window - (self.nxt - self.una)
        if self.congestion is not None:
            # The pipe leaves out what duplicate ACKs report as arrived, so that each of them
            # lets a new segment go, as limited transmit (RFC 3042) wants.
            usable = min(usable, int(self.congestion.cwnd) - self._pipe())
        return usable

    def _worthwhile(self) -> int:
        """The least that is worth a packet (RFC 9293, 3.8.6.2.1; Nagle's second condition)."""
        least = self.max_wnd >> 1
        if self.reliable and self.nxt != self.una:
            out = self._writer.out
            wake = WAKE_OFFLOAD if out is not None and out.offload else WAKE_PLAIN
            return min(least, wake, self._config.max_in_flight >> 1)
        return min(least, self.mss)

    def _pipe(self) -> int:
        recovery = self.recovery
        if recovery is None:
            return self.nxt - self.una
        return recovery.pipe(self.una, self.nxt, self.mss, self.sack)

    def send(self, buf: SendBuffer, length: int, now: float) -> None:
        """Send the first `length` bytes of `buf` and keep them until acknowledged."""
        if not 0 < length <= len(buf.view) or length > self._usable():
            raise LocalMisuse("more sent than sendable")
        seq = self.nxt
        end = seq + length
        chunk = self.flight.keep(buf, seq, end)
        if seq == self.una:
            self._begin_flight(now)
        self.nxt = end
        if self.congestion is not None:
            sacked = self.recovery.sacked.total if self.recovery is not None else 0
            self.congestion.on_sent(end, self.una + sacked, now)
        self.flight.emit(chunk, seq, end, self.una, self.mss, now)
        if self._timed is None and self.rtt is not None:
            self._timed, self._timed_at = end, now
        self.idle_since = now

    def _begin_flight(self, now: float) -> None:
        """Nothing was in flight and something is about to be."""
        self.progress_at = now
        self.backoff = 0
        if not self.reliable:
            if self.rtt is None:
                self.rtt = RttEstimator(self._config.min_rto, self._config.max_rto)
            if self.congestion is None:
                self.congestion = congestion_control(self._config.congestion, self.mss)
            elif now - self.idle_since > self.rtt.rto:
                self.congestion.on_idle()
        self.deadline = now + self._timeout()

    def try_fin(self, now: float) -> bool:
        """Send the waiting FIN if the window has a number for it."""
        if not self.fin_waiting or self.nxt - self.una >= self.wnd:
            return False
        self.fin_waiting = False
        self.fin = self.nxt
        if self.nxt == self.una:
            self._begin_flight(now)
        self.nxt += 1
        self.flight.emit_fin(self.fin, now)
        return True

    # --- acknowledgements --------------------------------------------------------------------

    def advance(self, ack: int, echo: int, now: float) -> None:
        """Everything before `ack`, una < ack <= nxt, has arrived. The way of every good ACK.

        `echo` is its TSecr; 0: it has none (RFC 7323, 3.2).
        """
        flight = self.nxt - self.una
        acked = ack - self.una
        self.una = ack
        self.flight.acknowledged(ack)
        self.progress_at = now
        self.backoff = 0
        self._suspected = False
        if self.rtt is not None:
            self._measure(ack, echo, now)
        recovery = self.recovery
        if recovery is not None:
            recovery.acknowledged(ack, acked, self.mss, self.sack)
        if self.congestion is not None and self.rtt is not None:
            sacked = recovery.sacked.total if recovery is not None else 0
            rtt = self.rtt.latest
            self.congestion.on_ack(acked, ack, self.nxt, sacked, flight, now, rtt)
        if ack == self.nxt:
            self.deadline = None
        elif not self.reliable:
            self.deadline = now + self._timeout()
        if recovery is not None:
            if recovery.point is not None:
                self.retransmit(now)
                return
            self.output_pending = False
            if recovery.idle:
                self.recovery = None

    def _measure(self, ack: int, echo: int, now: float) -> None:
        """Take a round-trip sample if this ACK holds one."""
        assert self.rtt is not None
        if self._timed is not None and ack >= self._timed:
            self.rtt.sample(now - self._timed_at)
            self._timed = None
        elif self._writer.stamped and echo:
            elapsed = (self._writer.stamp(now) - echo) & MASK
            if elapsed < 1 << 24:
                self.rtt.sample((elapsed + 0.5) / 1000)

    def evidence(self, seg: TcpSegment, duplicate: bool, now: float) -> None:
        """Weigh what the ACK says beside its number: SACK blocks, or being a duplicate."""
        if self.nxt == self.una:
            return
        recovery = self.recovery
        if recovery is None:
            recovery = self.recovery = Recovery(self.una)
        if self.sack:
            blocks = [(unwrap(start, self.una), unwrap(end, self.una)) for start, end in seg.sack]
            if recovery.sack(blocks, self.una, self.nxt):
                recovery.dup_acks += 1
            lost = recovery.judge(self.una, self.mss, self.reliable)
            if not lost and recovery.dup_acks >= DUP_THRESH and recovery.sacked:
                recovery.first_lost(self.una, self.mss)
                lost = True
        else:
            recovery.dup_acks += duplicate
            lost = recovery.dup_acks >= DUP_THRESH
            if lost and recovery.point is None:
                recovery.first_lost(self.una, self.mss)
        if recovery.point is None:
            if not lost:
                if recovery.idle:
                    self.recovery = None
                return
            if self.congestion is not None:
                self.congestion.on_loss(self.nxt - self.una, self.nxt)
            self._config.count("tcp__recovery__fast_retransmit")
            recovery.enter(self.una, self.nxt)
            self._timed = None
            self.retransmit(now, at_least_one=True)
        else:
            self.retransmit(now)

    def update_window(self, seg: TcpSegment, seq: int, ack: int) -> None:
        """Take the window of a segment that is not older than the last that gave one."""
        if seq > self.wl_seq or (seq == self.wl_seq and ack >= self.wl_ack):
            self.wl_seq = seq
            self.wl_ack = ack
            self.wnd = wnd = seg.window << self.shift
            if wnd > self.max_wnd:
                self.max_wnd = wnd

    def watch_window(self, now: float) -> None:
        """Arm or disarm the zero-window probe after the window or `una` has changed.

        Whether the user has anything to send is not known here, so that a closed window is
        probed in any case.
        """
        if self.nxt != self.una:
            return
        if self.wnd < min(self.mss, self.max_wnd >> 1) or not self.wnd:
            if self.deadline is None and (self.open or self.fin_waiting):
                self.backoff = 0
                self.deadline = now + self._persist_interval()
        else:
            self.deadline = None

    # --- again -------------------------------------------------------------------------------

    def retransmit(self, now: float, at_least_one: bool = False) -> None:
        """Send again what is lost, as far as congestion window and link allow."""
        recovery = self.recovery
        out = self._writer.out
        if recovery is None or out is None or recovery.point is None:
            return
        if self.output_pending:
            self.output_pending = False
            self.deadline = now + self._timeout()
        congestion = self.congestion
        pipe = self._pipe() if congestion is not None else 0
        first = at_least_one
        while (piece := recovery.next_piece(self.una, self.nxt)) is not None:
            if congestion is not None and not first and pipe and pipe + self.mss > congestion.cwnd:
                return
            if out.room() <= 0:
                self.output_pending = True
                self.deadline = now + OUTPUT_RETRY
                return
            first = False
            start, end = self._resend(*piece, now)
            recovery.sent(start, end, self.nxt)
            if congestion is not None:
                pipe += end - start
                congestion.on_resent(end - start)
            if self.deadline is None or self.una == start:
                self.deadline = now + self._timeout()

    def _resend(self, start: int, end: int, now: float) -> tuple[int, int]:
        """Send again the head of [start, end); returns what was sent."""
        if start == self.fin:
            self.flight.emit_fin(start, now)
            return start, start + 1
        chunk = self.flight.find(start)
        end = min(end, chunk.end)
        if self.congestion is not None:
            end = min(end, start + self.mss)
        self.flight.emit(chunk, start, end, self.una, self.mss, now)
        self.idle_since = now
        return start, end

    def resume(self, now: float, reliable: bool) -> None:
        """The link was broken: everything unacknowledged goes out again."""
        self.reliable = reliable
        self.fit_mss()
        self.output_pending = False
        self.backoff = 0
        self.deadline = None
        self._timed = None
        self.progress_at = self.idle_since = now
        self.recovery = None
        self.congestion = None
        self.rtt = None
        if self.nxt == self.una:
            self.watch_window(now)
            return
        self._begin_flight(now)
        self.recovery = Recovery(self.una)
        self.recovery.enter_loss(self.una, self.nxt)
        self.retransmit(now)

    # --- time --------------------------------------------------------------------------------

    def _timeout(self) -> float:
        """Seconds until what is in flight counts as lost."""
        if self.reliable:
            return min(
                self._config.stall_timeout * (1 << min(self.backoff, 16)), self._config.user_timeout
            )
        if self.rtt is None:
            return min(INITIAL_RTO * (1 << min(self.backoff, 16)), self._config.max_rto)
        if self._suspecting:
            return min(2 * self.rtt.srtt + SUSPICION, self.rtt.rto)
        return self.rtt.backed_off(self.backoff)

    @property
    def _suspecting(self) -> bool:
        """A retransmission that is not acknowledged in two round trips is repeated, once, before
        the time-out proper."""
        recovery = self.recovery
        return (
            recovery is not None
            and recovery.point is not None
            and not recovery.loss
            and not self._suspected
            and self.rtt is not None
            and self.rtt.srtt > 0
        )

    def _persist_interval(self) -> float:
        base = self.rtt.rto if self.rtt is not None else MIN_PERSIST
        return min(max(base, MIN_PERSIST) * (1 << min(self.backoff, 16)), self._config.max_rto)

    def arm_handshake(self, now: float) -> None:
        """Our SYN or SYN-ACK was just sent (again)."""
        self.deadline = now + self._timeout()

    def expired(self, now: float, heard_at: float) -> bool:
        """The deadline has passed; False if the peer has been silent for too long."""
        if self.output_pending:
            self.retransmit(now)
            return True
        self.deadline = None
        if self.nxt == self.una:
            return self._probe(now, heard_at)
        if self.reliable and now < self.progress_at + self._timeout():
            self.deadline = self.progress_at + self._timeout()
            return True
        # A peer that answers with a closed window is alive, however long it stays closed.
        if now - (self.progress_at if self.wnd else heard_at) >= self._config.user_timeout:
            return False
        out = self._writer.out
        if self.reliable and out is not None and out.room() <= 0:
            # The link itself is behind: what is in flight may not even have left.
            self.deadline = now + self._timeout()
            return True
        if self._suspecting:
            assert self.recovery is not None
            self._suspected = True
            self.recovery.suspect(self.una)
            self.retransmit(now, at_least_one=True)
            self.deadline = now + self._timeout()
            return True
        self._config.count("tcp__recovery__timeout")
        if self.recovery is None:
            self.recovery = Recovery(self.una)
        if self.congestion is not None:
            self.congestion.on_timeout(self.nxt - self.una, self.nxt, self.backoff > 0)
        self.backoff += 1
        self._timed = None
        self.recovery.enter_loss(self.una, self.nxt)
        self.retransmit(now, at_least_one=True)
        if self.deadline is None:
            self.deadline = now + self._timeout()
        return True

    def _probe(self, now: float, heard_at: float) -> bool:
        """Ask for the window (RFC 9293, 3.8.6.1) by an old number, which must be answered."""
        if not (self.open or self.fin_waiting):
            return True
        if self.backoff and now - heard_at >= self._config.user_timeout:
            return False
        self.probe(now)
        self.backoff += 1
        self.deadline = now + self._persist_interval()
        return True

    def probe(self, now: float) -> None:
        """Emit a segment that any living peer answers by an ACK (RFC 9293, 3.8.4)."""
        reply = self._reply
        window = reply.advertise()
        self._writer.control(self.una - 1, reply.nxt, ACK, window, now, reply.ts_recent)

    def clear(self) -> None:
        """The connection has ended: give everything back."""
        self.flight.clear()
        self.open = False
        self.fin_waiting = self.output_pending = False
        self.deadline = None
        self.recovery = None
        self.congestion = None
        self.rtt = None

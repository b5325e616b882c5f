"""A TCP connection in user space (RFC 9293), without a clock and without I/O.

One `TcpConnection` is one end. In the gateway it stands for an Internet host
toward the client; its user joins it to a real socket of that host.

    tunnel --segment_arrived, predicted--> connection --deliver, deliver_fin--> user
    tunnel <--out (PacketOut)-- connection <--send, send_fin, consumed-- user

What moves it:
- segments (`segment_arrived`), judged in `arrival`, but for the two kinds that
  make up bulk transfers, the next data and the next ACK: these are read out of
  the packet and dealt with here at once (`predicted`, header prediction);
- the user's calls;
- time: `get_timer` says when `handle_timer` wants to be called. There are no
  ticks: an idle open connection has the keep-alive's hours and nothing else.

Where things are: the state table in `states`; what came and what is to be
acknowledged in `receiver`; what was sent, its retransmission and window in
`sender`, with the bytes in `flight` and the scoreboard in `recovery`; SYNs in
`handshake`; how long a state lasts in `lifetime`; packing in `writer`. These
work on the connection's attributes; its user has no business with them.

ACKs are not sent per segment. A segment that wants one sets `ack_pending`, and
`flush_ack` after each batch of segments sends one for all of them; data and
window updates sent meanwhile carry it along.

A broken link (`out` is None) stops the connection where it is: nothing is
emitted, no timer runs, nothing is forgotten. `link_resumed` sends everything
unacknowledged again, on whatever kind of link there is now.
"""

from __future__ import annotations

from struct import Struct

from netstack.out import PacketOut
from netstack.tcp import arrival, handshake, lifetime
from netstack.tcp.buffers import SendBuffer
from netstack.tcp.config import CloseReason, TcpConfig, TcpUser
from netstack.tcp.constants import (
    CHALLENGE_INTERVAL,
    HALF,
    MASK,
)
from netstack.tcp.errors import LocalMisuse
from netstack.tcp.receiver import Receiver
from netstack.tcp.sender import Sender
from netstack.tcp.states import Event, State, next_state
from netstack.tcp.writer import MAX_POINTER, SegmentWriter
from netstack.tcp_segment import (
    ACK,
    HEADER,
    NOP_NOP_TIMESTAMPS,
    PSH,
    RST,
    STAMPED_HEADER,
    SYN,
    TcpSegment,
)

_stamped = Struct(">4xIIHH4xIII").unpack_from
"""Sequence number, acknowledgement, data offset with flags, window; the first word of the options,
TSval, TSecr."""
_bare = Struct(">4xIIHH").unpack_from
_STAMPED = STAMPED_HEADER >> 2 << 12 | PSH | ACK
_BARE = HEADER >> 2 << 12 | PSH | ACK
"""Data offset and flags of a running connection's segments: no reserved bit, no ECE, no CWR."""

_ESTABLISHED = State.ESTABLISHED
_OPEN = Event.OPEN
_SENDING = (State.ESTABLISHED, State.CLOSE_WAIT)
"""States in which the user's data may go out."""


class TcpConnection:
    """One end of a TCP connection: `local` is whom we are or impersonate, `remote` the peer.

    Addresses are packed bytes of the IP `version`'s length. `iss` is the initial send sequence
    number, to be unpredictable (RFC 9293, 3.4.1).
    """

    __slots__ = (
        "_challenged_at",
        "config",
        "deadline",
        "heard_at",
        "probes",
        "rcv",
        "scaled",
        "snd",
        "state",
        "user",
        "version",
        "writer",
    )

    state: State
    """Written by `move` and `drop` alone."""
    user: TcpUser

    def __init__(
        self,
        version: int,
        local: bytes,
        local_port: int,
        remote: bytes,
        remote_port: int,
        user: TcpUser,
        config: TcpConfig,
        iss: int,
        out: PacketOut | None = None,
        writer: SegmentWriter | None = None,
    ) -> None:
        """`writer` is there already where the SYN has left (`handshake.open_early`)."""
        self.state = State.LISTEN
        self.user = user
        self.config = config
        self.version = version
        self.writer = writer or SegmentWriter(
            version, local, local_port, remote, remote_port, config.ttl, iss ^ HALF
        )
        self.writer.out = out
        self.rcv = Receiver(config)
        self.snd = Sender(config, self.writer, self.rcv, iss & MASK)
        self.deadline: float | None = None
        """Of the state itself: hold, handshake, keep-alive, FIN-WAIT-2, TIME-WAIT."""
        self.heard_at = 0.0
        self.probes = 0
        self._challenged_at = -1.0
        self.scaled = False
        """Both sides agreed on window scaling."""

    def __repr__(self) -> str:
        snd, rcv = self.snd, self.rcv
        return (
            f"<TcpConnection {self.state.name} una={snd.una & MASK} in_flight={snd.nxt - snd.una} "
            f"wnd={snd.wnd} rcv={rcv.nxt & MASK} unread={rcv.unread}>"
        )

    # --- what the user sees ------------------------------------------------------------------

    @property
    def out(self) -> PacketOut | None:
        """Where packets go; None while the link is broken. Set again by `link_resumed`."""
        return self.writer.out

    @out.setter
    def out(self, out: PacketOut | None) -> None:
        self.writer.out = out
        self.snd.fit_mss()

    @property
    def ack_pending(self) -> bool:
        """Something is to be acknowledged: `flush_ack` is due at the end of the batch."""
        return self.rcv.ack_pending

    @property
    def output_pending(self) -> bool:
        """Retransmissions wait for room on the link: `output` is due when there is.

        A timer sees to it as well, slowly.
        """
        return self.snd.output_pending

    @property
    def in_flight(self) -> int:
        """Sequence numbers sent and not yet acknowledged."""
        return self.snd.nxt - self.snd.una

    @property
    def unread(self) -> int:
        """Bytes delivered and not yet consumed."""
        return self.rcv.unread

    @property
    def receive_limit(self) -> int:
        """What `set_receive_limit` has set, or the configuration's window at first."""
        return self.rcv.limit

    @property
    def receive_window(self) -> int:
        """Bytes that the peer may still send, by what was advertised."""
        return self.rcv.adv - self.rcv.nxt

    def packet_bytes(self, n: int) -> int:
        """Bytes of the IP packets that `n` payload bytes travel in, in full segments."""
        return n + -(-n // (self.snd.mss or self.config.mss)) * self.writer.header

    def full_segments(self, n: int) -> int:
        """The payload of as many full segments as fit in `n` bytes, but of one at least."""
        mss = self.snd.mss or self.config.mss
        return max(1, n // mss) * mss

    @property
    def srtt(self) -> float | None:
        """Smoothed round-trip time in s; None where it is not measured."""
        rtt = self.snd.rtt
        return rtt.srtt if rtt is not None and rtt.srtt else None

    # --- opening -----------------------------------------------------------------------------

    def syn_arrived(self, seg: TcpSegment, now: float) -> None:
        """Take the peer's SYN and hold it: LISTEN to SYN_HELD. Nothing is answered."""
        if seg.flags & (SYN | ACK | RST) != SYN:
            raise LocalMisuse("not a SYN")
        self.move(Event.SYN, now)
        self.heard_at = now
        handshake.take_syn(self, seg, now)

    def accept(self, now: float) -> None:
        """Answer the SYN that is held: SYN-ACK."""
        self.move(Event.ACCEPT, now)
        self.snd.nxt += 1
        self.snd.progress_at = now
        handshake.send_syn(self, now)

    def refuse(self, now: float) -> None:
        """Refuse the SYN that is held: RST. Ends with closed(REFUSED)."""
        if self.state is not State.SYN_HELD:
            raise LocalMisuse(f"refuse is not possible in {self.state.name}")
        self.writer.control(0, self.rcv.nxt, RST | ACK, 0, now)
        self.end(Event.ABORT, CloseReason.REFUSED, now)

    def connect(self, now: float, early: bool = False) -> None:
        """Open actively: SYN, unless that has left `early` (`handshake.open_early`)."""
        self.move(_OPEN, now)
        self.heard_at = now
        handshake.begin(self)
        self.snd.nxt += 1
        self.snd.progress_at = now
        if early:
            handshake.early_syn_left(self, now)
        else:
            handshake.send_syn(self, now)

    # --- data --------------------------------------------------------------------------------

    def predicted(
        self, buf: bytes | bytearray | memoryview, start: int, end: int, now: float
    ) -> bool:
        """Take the segment `buf[start:end]` of this connection, whose checksum is good, if it is
        the next data or the next ACK, in the layout that a running connection's segments have.

        False: it is none of these and nothing was done. It is to be parsed, and then to
        `segment_arrived`, which takes these as well, and slower.
        """
        if self.state is not _ESTABLISHED:
            return False
        size = end - start
        if size >= STAMPED_HEADER:
            seq, number, kind, window, word, value, echo = _stamped(buf, start)
        elif size >= HEADER:
            seq, number, kind, window = _bare(buf, start)
            word = value = echo = 0
        else:
            return False
        rcv, snd = self.rcv, self.snd
        stamped = self.writer.stamped
        if stamped:
            if (
                kind | PSH != _STAMPED
                or word != NOP_NOP_TIMESTAMPS
                or (value - rcv.ts_recent) & MASK >= HALF
            ):
                return False
            start += STAMPED_HEADER
        else:
            if kind | PSH != _BARE:
                return False
            start += HEADER
            echo = 0
        nxt = rcv.nxt
        una = snd.una
        ack = una + ((number - una) & MASK)
        length = end - start
        if (
            seq != nxt & MASK
            or ack > snd.nxt
            or length > rcv.adv - nxt
            or not (length or ack > una)
            # Something came ahead of a hole, data or not.
            or snd.wl_seq > nxt
            or rcv.fin is not None
            or rcv.up is not None
        ):
            return False
        self.heard_at = now
        if stamped and rcv.last_ack == nxt:
            rcv.ts_recent = value
            rcv.ts_recent_at = now
        snd.wl_seq = nxt
        snd.wl_ack = ack
        snd.wnd = wnd = window << snd.shift
        if wnd > snd.max_wnd:
            snd.max_wnd = wnd
        if ack > una:
            snd.advance(ack, echo, now)
        if (
            snd.starved
            or snd.fin_waiting
            # With a window that takes a segment and nothing armed there is nothing to watch.
            or (snd.nxt == snd.una and (snd.deadline is not None or wnd <= snd.mss))
        ):
            self.after_ack(now)
        if length:
            rcv.nxt = nxt + length
            rcv.unread += length
            rcv.ack_pending = True
            self.user.deliver(memoryview(buf)[start:end])
        return True

    def segment_arrived(self, seg: TcpSegment, now: float) -> None:
        """Take a segment of this connection. It is used during the call only."""
        arrival.process(self, seg, now)

    def sendable(self) -> int:
        """Payload bytes that may be sent now, by the peer's window, the congestion window and
        the bound on bytes in flight. When it has been 0, `window_opened` will be called."""
        return self.snd.room()

    def send(self, buf: SendBuffer, length: int, now: float) -> None:
        """Send the first `length` (1 to `sendable()`) payload bytes of `buf`.

        The buffer is given away: the connection releases it, at once or when acknowledged.
        """
        self.snd.send(buf, length, now)

    def urge(self, ahead: int, now: float) -> None:
        """The byte that `ahead` bytes go before is urgent (RFC 9293, 3.8.5).

        The peer is told at once if the pointer can express it, and with every segment until it
        has acknowledged the byte. A later call takes the place of an earlier one.
        """
        snd, rcv = self.snd, self.rcv
        snd.flight.up = snd.nxt + ahead + 1
        if snd.open and ahead < MAX_POINTER:
            window = rcv.advertise()
            self.writer.urgent(
                b"", 0, 0, 1, snd.nxt, rcv.nxt, ACK, window, now, rcv.ts_recent, snd.flight.up
            )

    def send_fin(self, now: float) -> None:
        """Close our direction: FIN after all that was sent. Doing so again changes nothing.

        Before the handshake is complete the FIN waits for that, and it waits for a closed window.
        """
        snd = self.snd
        if snd.fin is not None or snd.fin_waiting or self.state is State.CLOSED:
            return
        if self.state < State.SYN_HELD:
            raise LocalMisuse(f"nothing to close in {self.state.name}")
        snd.fin_waiting = True
        self.try_fin(now)
        snd.watch_window(now)

    def abort(self, now: float) -> None:
        """Give up: RST, and closed(ABORTED). Nothing happens if already closed."""
        if self.state is State.CLOSED:
            return
        self.send_reset(now)
        self.end(Event.ABORT, CloseReason.ABORTED, now)

    def drop(self) -> None:
        """Forget the connection without a word: no RST, no `closed`.

        For one whose SYN was answered by other means (an ICMP error), or whose peer is gone.
        """
        self.state = State.CLOSED
        self.deadline = None
        self.snd.clear()
        self.rcv.queue = None
        self.rcv.ack_pending = False

    def consumed(self, n: int, now: float) -> None:
        """The user has passed on `n` of the bytes delivered: the window may open again.

        If that is news that the peer waits for, it is told at once.
        """
        if self.rcv.consumed(n) and self.state >= State.ESTABLISHED:
            self.send_ack(now)

    def set_receive_limit(self, n: int) -> None:
        """Bound the advertised window to `n` bytes. What was advertised stays valid."""
        self.rcv.set_limit(min(n, self.config.max_receive_window))

    @property
    def ack_may_wait(self) -> bool:
        """The pending ACK has no news but fewer than two full segments in order.

        It may then wait for data to travel with (RFC 9293 section 3.8.6.3).
        """
        rcv = self.rcv
        return (
            self.state is _ESTABLISHED
            and rcv.queue is None
            and rcv.duplicate is None
            and rcv.fin is None
            and rcv.nxt - rcv.last_ack < 2 * rcv.mss
        )

    def flush_ack(self, now: float) -> None:
        """Send the ACK that is pending, if it still is."""
        if self.rcv.ack_pending:
            self.send_ack(now)

    def output(self, now: float) -> None:
        """Go on with retransmissions that had found the link's queue full."""
        if self.snd.output_pending:
            self.snd.retransmit(now)
            self.wake()

    def reusable_by(self, seg: TcpSegment) -> bool:
        """In TIME-WAIT: whether this SYN may begin a new connection (RFC 9293, 3.6.1; RFC 6191)."""
        if self.state is not State.TIME_WAIT or seg.flags & (SYN | ACK | RST) != SYN:
            return False
        rcv = self.rcv
        if self.writer.stamped and seg.has_timestamps and seg.ts_value != rcv.ts_recent:
            return (seg.ts_value - rcv.ts_recent) & MASK < HALF
        return rcv.unwrap(seg.seq) > rcv.nxt

    # --- link and time -----------------------------------------------------------------------

    def link_resumed(self, out: PacketOut, now: float, reliable: bool | None = None) -> None:
        """The link is back: send everything unacknowledged again.

        `reliable` says whether the new link is; by default as the configuration has it.
        """
        self.writer.out = out
        snd = self.snd
        self.heard_at = now
        self.probes = 0
        if self.state < State.SYN_SENT:
            return
        lifetime.arm(self, now)
        if self.state is State.TIME_WAIT:
            return
        if self.state < _ESTABLISHED:
            snd.reliable = self.config.reliable if reliable is None else reliable
            snd.progress_at = now
            snd.fit_mss()
            handshake.send_syn(self, now)
            return
        snd.resume(now, self.config.reliable if reliable is None else reliable)
        self.send_ack(now)
        self.try_fin(now)
        self.wake()

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called; None: not before something else happens.

        Deadlines move later all the time. It is enough to keep the earliest one told, and to
        ask again after having called `handle_timer` then.
        """
        if self.writer.out is None:
            return None
        ours, sender = self.deadline, self.snd.deadline
        if ours is None or (sender is not None and sender < ours):
            return sender
        return ours

    def handle_timer(self, now: float) -> None:
        """Do what is due at `now`, if anything is."""
        if self.writer.out is None:
            return
        snd = self.snd
        if snd.deadline is not None and snd.deadline <= now:
            if self.state < _ESTABLISHED:
                snd.backoff += 1
                self.config.count("tcp__handshake__sent_again")
                handshake.send_syn(self, now)
            elif snd.expired(now, self.heard_at):
                self.wake()
            else:
                lifetime.give_up(self, now)
        if self.deadline is not None and self.deadline <= now:
            lifetime.expired(self, now)

    # --- the inside: for `arrival`, not for the user -----------------------------------------

    def move(self, event: Event, now: float) -> None:
        """The only writer of `state`."""
        self.state = next_state(self.state, event)
        self.snd.open = self.state in _SENDING
        lifetime.arm(self, now)

    def end(self, event: Event, reason: CloseReason, now: float) -> None:
        """Move to CLOSED, give everything back, tell the user."""
        self.move(event, now)
        self._finish(reason)

    def _finish(self, reason: CloseReason) -> None:
        self.drop()
        self.user.closed(reason)

    def send_ack(self, now: float) -> None:
        """Send a pure ACK with the current window and what there is to report by SACK."""
        rcv, snd = self.rcv, self.snd
        options = b""
        if rcv.queue is not None or rcv.duplicate is not None:
            options = rcv.sack_option()
        window = rcv.advertise()
        rcv.ack_pending = False
        self.writer.control(snd.nxt, rcv.nxt, ACK, window, now, rcv.ts_recent, options)

    def challenge(self, now: float) -> None:
        """Send an ACK to a peer that may be confused or forged, but not too often (RFC 5961)."""
        if now - self._challenged_at < CHALLENGE_INTERVAL:
            self.config.count("tcp__challenge_ack__rate_limited")
            return
        self._challenged_at = now
        self.config.count("tcp__challenge_ack__sent")
        self.send_ack(now)

    def send_reset(self, now: float) -> None:
        """RST as the state allows it (RFC 9293, 3.10.5)."""
        if State.SYN_RECEIVED <= self.state < State.TIME_WAIT:
            self.writer.control(self.snd.nxt, self.rcv.nxt, RST | ACK, 0, now, self.rcv.ts_recent)
        elif self.state is State.SYN_HELD:
            self.writer.control(0, self.rcv.nxt, RST | ACK, 0, now)

    def after_ack(self, now: float) -> None:
        """`una` or the window has moved: what waited for it."""
        snd = self.snd
        if snd.fin_waiting:
            self.try_fin(now)
        if snd.nxt == snd.una:
            snd.watch_window(now)
        if snd.starved:
            self.wake()

    def try_fin(self, now: float) -> None:
        """Send the FIN that the user asked for if state and window let it go."""
        if self.state in _SENDING and self.snd.try_fin(now):
            self.move(Event.CLOSE, now)

    def wake(self) -> None:
        """Tell the user that it can send again, if it waits for that and it is true."""
        snd = self.snd
        if snd.starved:
            snd.starved = False
            if snd.room():
                self.user.window_opened()

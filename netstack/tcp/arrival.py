"""A segment arrives (RFC 9293, 3.10.7): the full judgement, in the order of the RFC.

`TcpConnection.predicted` takes the two common kinds of segments, and what it
leaves comes to `process`. Every rule is a function named for what it
checks; each either disposes of the segment or lets the next one look at it.

Acceptance is by the window and one number around it: a segment that ends
exactly at RCV.NXT is a duplicate of what was just acknowledged, but its ACK and
window are worth having, and one that begins at the right edge may be a probe of
a closed window, which must be answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.tcp import handshake, lifetime
from netstack.tcp.config import CloseReason
from netstack.tcp.constants import GARBAGE_SILENCE
from netstack.tcp.sequence import unwrap
from netstack.tcp.states import Event, State
from netstack.tcp_segment import ACK, FIN, RST, SYN, URG, TcpSegment

if TYPE_CHECKING:
    from netstack.tcp.connection import TcpConnection

_RECEIVING = (State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2)
"""States in which the peer has not closed its direction."""
# In each segment's way: a name of a module costs a fifth of a member of an Enum.
_CLOSED = State.CLOSED
_SYN_HELD = State.SYN_HELD
_SYN_SENT = State.SYN_SENT
_SYN_RECEIVED = State.SYN_RECEIVED
_FIN_WAIT_1 = State.FIN_WAIT_1
_CLOSING = State.CLOSING
_LAST_ACK = State.LAST_ACK
_TIME_WAIT = State.TIME_WAIT
_SYN_ACK = Event.SYN_ACK


def process(conn: TcpConnection, seg: TcpSegment, now: float) -> None:
    """Judge a segment in whatever state the connection is."""
    state = conn.state
    if state >= _SYN_RECEIVED:
        _synchronized(conn, seg, now)
    elif state is _SYN_HELD:
        _held(conn, seg, now)
    elif state is _SYN_SENT:
        _syn_sent(conn, seg, now)
    else:
        conn.config.count("tcp__closed__ignored")


def _held(conn: TcpConnection, seg: TcpSegment, now: float) -> None:
    """The peer waits for our answer: it may repeat its SYN, change its mind, or try anew."""
    if seg.flags & RST:
        if seg.seq in (conn.rcv.irs, conn.rcv.irs + 1):
            conn.end(Event.RESET, CloseReason.RESET, now)
    elif seg.flags & (SYN | ACK) == SYN:
        if seg.seq != conn.rcv.irs:
            conn.config.count("tcp__syn_held__replaced")
            conn.move(Event.SYN, now)
            handshake.take_syn(conn, seg, now)
    else:
        conn.config.count("tcp__syn_held__ignored")


def _syn_sent(conn: TcpConnection, seg: TcpSegment, now: float) -> None:
    """RFC 9293, 3.10.7.3."""
    snd, flags = conn.snd, seg.flags
    ack = unwrap(seg.ack, snd.una)
    acknowledged = bool(flags & ACK)
    if acknowledged and not snd.una < ack <= snd.nxt:
        if not flags & RST:
            conn.writer.control(ack, 0, RST, 0, now)
        return
    if flags & RST:
        if acknowledged:
            conn.end(Event.RESET, CloseReason.RESET, now)
        return
    if not flags & SYN:
        return
    conn.heard_at = now
    handshake.take_syn(conn, seg, now)
    if not acknowledged:
        conn.move(Event.SYN, now)
        handshake.send_syn(conn, now)
        return
    snd.advance(ack, seg.ts_echo if seg.has_timestamps else 0, now)
    conn.move(_SYN_ACK, now)
    if conn.config.open_lazily:
        conn.rcv.ack_pending = True
    else:
        conn.send_ack(now)
    conn.after_ack(now)


def _synchronized(conn: TcpConnection, seg: TcpSegment, now: float) -> None:
    """RFC 9293, 3.10.7.4: the states in which both sides know the other's numbers."""
    rcv = conn.rcv
    seq = rcv.unwrap(seg.seq)
    if not _timely(conn, seg, now) or not _acceptable(conn, seg, seq, now):
        return
    if seg.flags & RST:
        _reset(conn, seq, now)
        return
    if seg.flags & SYN:
        if conn.state is not _SYN_RECEIVED or seq != rcv.irs:
            # RFC 5961, 4: whoever really has restarted will answer the ACK by a RST.
            conn.challenge(now)
            return
        if not seg.flags & ACK:
            handshake.send_syn(conn, now)
            return
        seq += 1
    if not seg.flags & ACK:
        conn.config.count("tcp__no_ack__dropped")
        return
    heard_at, conn.heard_at = conn.heard_at, now
    if not _acknowledge(conn, seg, seq, now):
        return
    if conn.state in _RECEIVING:
        _text(conn, seg, seq, now)
    elif seg.span:
        rcv.ack_pending = True
        if conn.state is _TIME_WAIT:
            lifetime.arm_again(conn, now - heard_at, now)


def _timely(conn: TcpConnection, seg: TcpSegment, now: float) -> bool:
    """RFC 7323, 3.2 and 5.3: timestamps are there once agreed on, and not from the past."""
    if not conn.writer.stamped or seg.flags & RST:
        return True
    if not seg.has_timestamps:
        conn.config.count("tcp__timestamps__missing")
        return False
    if conn.rcv.too_old(seg, now):
        conn.config.count("tcp__paws__dropped")
        if seg.span:
            conn.rcv.ack_pending = True
        return False
    return True


def _acceptable(conn: TcpConnection, seg: TcpSegment, seq: int, now: float) -> bool:
    """Whether the segment lies in the window (3.4 and 3.10.7.4, first)."""
    rcv = conn.rcv
    last = seq + seg.span
    if seq + 1 == rcv.nxt < rcv.adv and _keeps_alive(conn, seg, now):
        silence, conn.heard_at = now - conn.heard_at, now
        conn.challenge(now)
        conn.user.kept_alive(silence)
        return False
    if seq <= rcv.adv and last >= rcv.nxt:
        return True
    if seg.flags & RST:
        conn.config.count("tcp__rst__outside_window")
    elif seg.span:
        # Old data are answered at the end of the batch, so that the peer learns where we are.
        if last <= rcv.nxt and seg.end > seg.start:
            rcv.duplicate = (seq, seq + seg.end - seg.start)
        rcv.ack_pending = True
        if conn.state is _TIME_WAIT and seg.flags & FIN:
            lifetime.arm_again(conn, now - conn.heard_at, now)
            conn.heard_at = now
        conn.config.count("tcp__segment__outside_window")
    else:
        conn.challenge(now)
    return False


def _keeps_alive(conn: TcpConnection, seg: TcpSegment, now: float) -> bool:
    """Whether a segment at the number before the next is a keep-alive probe (3.8.4).

    With our window closed it asks for the window.
    """
    if seg.flags & (SYN | FIN | RST):
        return False
    length = seg.end - seg.start
    return not length or (length == 1 and now - conn.heard_at >= GARBAGE_SILENCE)


def _reset(conn: TcpConnection, seq: int, now: float) -> None:
    """A RST is believed only at the very next number (RFC 5961, 3).

    In TIME-WAIT it comes from a peer that has forgotten a connection that both sides finished.
    """
    if seq == conn.rcv.nxt:
        finished = conn.state is _TIME_WAIT
        conn.end(Event.RESET, CloseReason.FINISHED if finished else CloseReason.RESET, now)
    else:
        conn.challenge(now)


def _acknowledge(conn: TcpConnection, seg: TcpSegment, seq: int, now: float) -> bool:
    """The ACK, the window and the timestamp; False if there is nothing further to look at."""
    snd = conn.snd
    ack = unwrap(seg.ack, snd.una)
    if conn.state is _SYN_RECEIVED:
        if not snd.una < ack <= snd.nxt:
            conn.config.count("tcp__syn_received__bad_ack")
            conn.writer.control(ack, 0, RST, 0, now)
            return False
        snd.wl_seq, snd.wl_ack = seq, ack
        conn.move(Event.ACK_OF_SYN, now)
    elif ack > snd.nxt or ack < snd.una - snd.max_wnd:
        # RFC 5961, 5: data not sent yet cannot have arrived, and very old ACKs are forged.
        conn.config.count("tcp__ack__out_of_range")
        conn.challenge(now)
        return False
    if conn.writer.stamped:
        conn.rcv.note_timestamp(seg, seq, now)
    window = snd.wnd
    snd.update_window(seg, seq, ack)
    if ack > snd.una:
        snd.advance(ack, seg.ts_echo if seg.has_timestamps else 0, now)
        duplicate = False
    else:
        duplicate = ack == snd.una and not seg.span and snd.wnd == window
    if seg.sack or duplicate:
        snd.evidence(seg, duplicate, now)
    if snd.fin is not None and snd.una > snd.fin and not _fin_acknowledged(conn, now):
        return False
    conn.after_ack(now)
    return conn.state is not _CLOSED


def _fin_acknowledged(conn: TcpConnection, now: float) -> bool:
    """Our FIN has arrived; False if that ends the connection."""
    if conn.state is _LAST_ACK:
        conn.end(Event.ACK_OF_FIN, CloseReason.FINISHED, now)
        return False
    if conn.state is _FIN_WAIT_1 or conn.state is _CLOSING:
        conn.move(Event.ACK_OF_FIN, now)
    return True


def _text(conn: TcpConnection, seg: TcpSegment, seq: int, now: float) -> None:
    """Payload and FIN, while the peer's direction is open."""
    rcv = conn.rcv
    last = seq + seg.end - seg.start
    if seg.flags & URG:
        rcv.announce(seq, seg.urgent)
    if seg.flags & FIN and rcv.fin is None and last <= rcv.adv:
        rcv.fin = last
    if rcv.fin is not None and last > rcv.fin and seg.end > seg.start:
        conn.config.count("tcp__data__after_fin")
        rcv.ack_pending = True
        return
    ahead = False
    if seg.end > seg.start:
        ahead = rcv.take(seg, seq, conn.user)
        if conn.state is _CLOSED:
            return
    elif seg.flags & FIN:
        rcv.ack_pending = True
        ahead = seq > rcv.nxt
    if rcv.fin == rcv.nxt:
        rcv.nxt += 1
        rcv.adv = max(rcv.adv, rcv.nxt)
        conn.move(Event.FIN, now)
        conn.user.deliver_fin()
    elif ahead and not rcv.sack:
        # Without SACK it is the number of duplicate ACKs that tells the peer of a loss.
        conn.send_ack(now)

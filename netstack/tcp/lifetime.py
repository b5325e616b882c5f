"""How long a connection may stay in a state, and what happens then.

Each state has at most one deadline of its own, beside the sender's:

    SYN_HELD                hold_timeout         nobody answered for the host we stand for
    SYN_SENT, SYN_RECEIVED  handshake_timeout
    ESTABLISHED             keepalive_idle       then probes, then the peer is gone
    CLOSE_WAIT              half_closed_idle     likewise
    FIN_WAIT_2              fin_wait_2_timeout   of silence
    TIME_WAIT               time_wait            2 MSL, and all is well

FIN_WAIT_1, CLOSING and LAST_ACK wait for an acknowledgement, which is the
sender's business: its user time-out ends them.

Where silence counts, segments do not move the deadline. It fires, finds that
something was heard meanwhile, and is set anew: one wake-up in a period instead
of bookkeeping for every segment.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING

from netstack.tcp.config import CloseReason, TcpConfig
from netstack.tcp.states import Event, State

if TYPE_CHECKING:
    from netstack.tcp.connection import TcpConnection

_BACKED_OFF = 3


_DEADLINES: dict[State, Callable[[TcpConfig], float]] = {
    State.SYN_HELD: attrgetter("hold_timeout"),
    State.SYN_SENT: attrgetter("handshake_timeout"),
    State.SYN_RECEIVED: attrgetter("handshake_timeout"),
    State.ESTABLISHED: attrgetter("keepalive_idle"),
    State.CLOSE_WAIT: attrgetter("half_closed_idle"),
    State.FIN_WAIT_2: attrgetter("fin_wait_2_timeout"),
    State.TIME_WAIT: attrgetter("time_wait"),
}
"""What the configuration allows each state that has a deadline."""


def allowed(state: State, config: TcpConfig) -> float:
    """Seconds until the deadline of a state that was just entered; 0: it has none."""
    seconds_of = _DEADLINES.get(state)
    return seconds_of(config) if seconds_of is not None else 0.0


def arm(conn: TcpConnection, now: float) -> None:
    """The state was just entered, or what it waits for begins anew."""
    seconds = allowed(conn.state, conn.config)
    conn.deadline = now + seconds if seconds else None


def arm_again(conn: TcpConnection, silence: float, now: float) -> None:
    """A FIN has come again after `silence`, so its acknowledgement was lost, and may be once
    more: TIME_WAIT lasts until the next one, which comes after twice that time."""
    conn.deadline = now + max(conn.config.time_wait, _BACKED_OFF * silence)


def expired(conn: TcpConnection, now: float) -> None:
    """The state's deadline has passed."""
    match conn.state:
        case State.TIME_WAIT:
            conn.end(Event.TIMEOUT, CloseReason.FINISHED, now)
        case State.SYN_HELD:
            conn.config.count("tcp__syn_held__timed_out")
            conn.end(Event.TIMEOUT, CloseReason.TIMED_OUT, now)
        case State.SYN_SENT | State.SYN_RECEIVED:
            give_up(conn, now)
        case State.FIN_WAIT_2:
            due = conn.heard_at + conn.config.fin_wait_2_timeout
            if due <= now:
                give_up(conn, now)
            else:
                conn.deadline = due
        case _:
            _keep_alive(conn, now)


def _keep_alive(conn: TcpConnection, now: float) -> None:
    """Probe a silent peer (RFC 9293, 3.8.4); one that still does not answer is gone."""
    config = conn.config
    due = conn.heard_at + allowed(conn.state, config)
    if now < due:
        conn.probes = 0
        conn.deadline = due
    elif conn.probes >= config.keepalive_probes:
        give_up(conn, now)
    else:
        conn.probes += 1
        conn.deadline = now + config.keepalive_interval
        if conn.snd.nxt == conn.snd.una:
            conn.snd.probe(now)


def give_up(conn: TcpConnection, now: float) -> None:
    """The peer is taken for dead: RST in case it is not."""
    conn.config.count(f"tcp__{conn.state.name.lower()}__timed_out")
    conn.send_reset(now)
    conn.end(Event.TIMEOUT, CloseReason.TIMED_OUT, now)

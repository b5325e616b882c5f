"""The connection state machine of RFC 9293 (3.3.2), and nothing else.

The table below is the whole truth about which state follows which event.
Nothing in the project writes a connection's state but through `next_state`.
An event that a state does not list is a mistake of the caller: `next_state`
raises and nothing has changed.

Beside the RFC's states there is one of our own. A connection that impersonates
an Internet host answers a SYN only after it has reached that host, so between
the SYN and the answer it is in SYN_HELD: the SYN has been seen, nothing has
been sent. `ACCEPT` answers and moves on to the RFC's SYN-RECEIVED.

    LISTEN --SYN--> SYN_HELD --ACCEPT--> SYN_RECEIVED --ACK_OF_SYN--> ESTABLISHED
    CLOSED --OPEN--> SYN_SENT --SYN_ACK--> ESTABLISHED   (SYN alone: SYN_RECEIVED)

Segments that do not move the machine (duplicates, data, window updates) are
not events of the table; which of them a state takes is judged in `arrival`.
"""

from __future__ import annotations

from enum import IntEnum, unique

from netstack.tcp.errors import IllegalTransition


@unique
class State(IntEnum):
    """Where a connection is (RFC 9293, 3.3.2). In order: `<` means earlier."""

    CLOSED = 0
    LISTEN = 1
    SYN_HELD = 2
    SYN_SENT = 3
    SYN_RECEIVED = 4
    ESTABLISHED = 5
    FIN_WAIT_1 = 6
    FIN_WAIT_2 = 7
    CLOSE_WAIT = 8
    CLOSING = 9
    LAST_ACK = 10
    TIME_WAIT = 11


@unique
class Event(IntEnum):
    """What moves a connection."""

    OPEN = 0
    """The user opens actively."""
    SYN = 1
    """The peer's SYN without ACK."""
    ACCEPT = 2
    """The user lets the held SYN be answered."""
    SYN_ACK = 3
    """The peer's SYN that acknowledges ours."""
    ACK_OF_SYN = 4
    """The peer acknowledged our SYN of the answer."""
    CLOSE = 5
    """The user has no more to send and our FIN goes out."""
    FIN = 6
    """The peer's FIN, in sequence."""
    ACK_OF_FIN = 7
    """The peer acknowledged our FIN."""
    RESET = 8
    """The peer's RST, judged genuine."""
    ABORT = 9
    """The user gives up (refuses, aborts)."""
    TIMEOUT = 10
    """The state's own time-out passed (in TIME-WAIT: 2 MSL)."""


_ENDINGS = {Event.RESET: State.CLOSED, Event.ABORT: State.CLOSED, Event.TIMEOUT: State.CLOSED}

TRANSITIONS: dict[State, dict[Event, State]] = {
    State.CLOSED: {
        Event.OPEN: State.SYN_SENT,
    },
    State.LISTEN: {
        Event.OPEN: State.SYN_SENT,
        Event.SYN: State.SYN_HELD,
        Event.ABORT: State.CLOSED,
    },
    State.SYN_HELD: {
        Event.SYN: State.SYN_HELD,
        Event.ACCEPT: State.SYN_RECEIVED,
        **_ENDINGS,
    },
    State.SYN_SENT: {
        Event.SYN: State.SYN_RECEIVED,
        Event.SYN_ACK: State.ESTABLISHED,
        **_ENDINGS,
    },
    State.SYN_RECEIVED: {
        Event.ACK_OF_SYN: State.ESTABLISHED,
        **_ENDINGS,
    },
    State.ESTABLISHED: {
        Event.CLOSE: State.FIN_WAIT_1,
        Event.FIN: State.CLOSE_WAIT,
        **_ENDINGS,
    },
    State.FIN_WAIT_1: {
        Event.ACK_OF_FIN: State.FIN_WAIT_2,
        Event.FIN: State.CLOSING,
        **_ENDINGS,
    },
    State.FIN_WAIT_2: {
        Event.FIN: State.TIME_WAIT,
        **_ENDINGS,
    },
    State.CLOSE_WAIT: {
        Event.CLOSE: State.LAST_ACK,
        **_ENDINGS,
    },
    State.CLOSING: {
        Event.ACK_OF_FIN: State.TIME_WAIT,
        **_ENDINGS,
    },
    State.LAST_ACK: {
        Event.ACK_OF_FIN: State.CLOSED,
        **_ENDINGS,
    },
    State.TIME_WAIT: {
        **_ENDINGS,
    },
}


def next_state(state: State, event: Event) -> State:
    """The state after `event`; raises IllegalTransition where the table has none."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(state.name, event.name) from None

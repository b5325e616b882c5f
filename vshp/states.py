"""The session's states, and every way from one to another.

Rule one: whatever decides about states is in this file. Rule two: this file
knows no bytes. A table per role says which step leads where; a step that the
state does not have raises and changes nothing. Which frame may arrive in which
state stands with the roles' handlers.

Client:   HANDSHAKE -> WAITING -> (PENDING ->) OPEN -> CLOSED
          with XX: HANDSHAKE -> CODE -> CONSENT -> PENDING -> OPEN -> CLOSED
Gateway:  PREAMBLE -> HANDSHAKE -> DECIDING -> (PENDING ->) OPEN -> CLOSED
          with XX a CODE state lies between HANDSHAKE and DECIDING
"""

from __future__ import annotations

from enum import Enum, auto

from sealing.errors import LocalMisuse


class State(Enum):
    PREAMBLE = auto()
    """Gateway: nothing or half a preamble has come."""
    HANDSHAKE = auto()
    """Noise messages are under way."""
    CODE = auto()
    """Keys are agreed on; the shares of the pairing code are exchanged."""
    CONSENT = auto()
    """Client: the digits are shown, and its own user has not said yes to them."""
    WAITING = auto()
    """Client: said HELLO, nothing heard yet."""
    DECIDING = auto()
    """Gateway: HELLO is with our own side."""
    PENDING = auto()
    """The owner is being asked."""
    OPEN = auto()
    """There is a lease; packets flow."""
    CLOSED = auto()


class Step(Enum):
    PREAMBLE_READ = auto()
    CODE_STARTED = auto()
    CODE_DONE = auto()
    AGREED = auto()
    """The client's own user said yes to the digits."""
    GREETED = auto()
    """HELLO was sent (client) or read (gateway) and keys or a decision follow."""
    ASKED = auto()
    GRANTED = auto()
    ENDED = auto()


class Role(Enum):
    CLIENT = auto()
    GATEWAY = auto()


TABLE: dict[Role, dict[State, dict[Step, State]]] = {
    Role.CLIENT: {
        State.HANDSHAKE: {
            Step.GREETED: State.WAITING,
            Step.CODE_STARTED: State.CODE,
            Step.ENDED: State.CLOSED,
        },
        State.CODE: {Step.CODE_DONE: State.CONSENT, Step.ENDED: State.CLOSED},
        State.CONSENT: {
            Step.ASKED: State.CONSENT,
            Step.AGREED: State.PENDING,
            Step.ENDED: State.CLOSED,
        },
        State.WAITING: {
            Step.ASKED: State.PENDING,
            Step.GRANTED: State.OPEN,
            Step.ENDED: State.CLOSED,
        },
        State.PENDING: {
            Step.ASKED: State.PENDING,
            Step.GRANTED: State.OPEN,
            Step.ENDED: State.CLOSED,
        },
        State.OPEN: {Step.GRANTED: State.OPEN, Step.ENDED: State.CLOSED},
        State.CLOSED: {},
    },
    Role.GATEWAY: {
        State.PREAMBLE: {Step.PREAMBLE_READ: State.HANDSHAKE, Step.ENDED: State.CLOSED},
        State.HANDSHAKE: {
            Step.GREETED: State.DECIDING,
            Step.CODE_STARTED: State.CODE,
            Step.ENDED: State.CLOSED,
        },
        State.CODE: {Step.CODE_DONE: State.DECIDING, Step.ENDED: State.CLOSED},
        State.DECIDING: {
            Step.ASKED: State.PENDING,
            Step.GRANTED: State.OPEN,
            Step.ENDED: State.CLOSED,
        },
        State.PENDING: {
            Step.ASKED: State.PENDING,
            Step.GRANTED: State.OPEN,
            Step.ENDED: State.CLOSED,
        },
        State.OPEN: {Step.GRANTED: State.OPEN, Step.ENDED: State.CLOSED},
        State.CLOSED: {},
    },
}

INITIAL = {Role.CLIENT: State.HANDSHAKE, Role.GATEWAY: State.PREAMBLE}


def after(role: Role, state: State, step: Step) -> State:
    """The state that `step` leads to; LocalMisuse when there is no such way."""
    try:
        return TABLE[role][state][step]
    except KeyError:
        raise LocalMisuse("state", f"{step.name} in {state.name}") from None

"""The state table: every state with every event."""

from __future__ import annotations

import itertools

import pytest

from netstack.tcp.errors import IllegalTransition, LocalMisuse
from netstack.tcp.states import TRANSITIONS, Event, State, next_state
from tests.netstack.tcp.dialogue import BUILDERS, picture

DIAGRAM = """
    CLOSED       OPEN        SYN_SENT
    LISTEN       OPEN        SYN_SENT
    LISTEN       SYN         SYN_HELD
    LISTEN       ABORT       CLOSED
    SYN_HELD     SYN         SYN_HELD
    SYN_HELD     ACCEPT      SYN_RECEIVED
    SYN_SENT     SYN         SYN_RECEIVED
    SYN_SENT     SYN_ACK     ESTABLISHED
    SYN_RECEIVED ACK_OF_SYN  ESTABLISHED
    ESTABLISHED  CLOSE       FIN_WAIT_1
    ESTABLISHED  FIN         CLOSE_WAIT
    FIN_WAIT_1   ACK_OF_FIN  FIN_WAIT_2
    FIN_WAIT_1   FIN         CLOSING
    FIN_WAIT_2   FIN         TIME_WAIT
    CLOSE_WAIT   CLOSE       LAST_ACK
    CLOSING      ACK_OF_FIN  TIME_WAIT
    LAST_ACK     ACK_OF_FIN  CLOSED
"""
"""RFC 9293, figure 5, with the SYN that is held; each line is an arrow."""

ARROWS = {
    (State[state], Event[event]): State[follower]
    for state, event, follower in (line.split() for line in DIAGRAM.split("\n") if line.strip())
}
for _state in State:
    if _state not in (State.CLOSED, State.LISTEN):
        for _event in (Event.RESET, Event.ABORT, Event.TIMEOUT):
            ARROWS[_state, _event] = State.CLOSED


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize(("state", "event"), itertools.product(State, Event))
def test_every_event_in_every_state(state: State, event: Event) -> None:
    """A legal event follows its arrow; an illegal one raises and changes nothing."""
    dialogue = BUILDERS[state]()
    before = picture(dialogue)
    assert before["state"] is state
    if (state, event) in ARROWS:
        assert next_state(state, event) is ARROWS[state, event]
    else:
        with pytest.raises(IllegalTransition, match=f"{event.name} is not possible in"):
            dialogue.conn.move(event, dialogue.now)
        assert picture(dialogue) == before
        dialogue.silent()


@pytest.mark.parametrize("state", [s for s in State if s is not State.SYN_HELD])
def test_only_a_held_syn_is_accepted_or_refused(state: State) -> None:
    dialogue = BUILDERS[state]()
    before = picture(dialogue)
    with pytest.raises(LocalMisuse):
        dialogue.conn.accept(dialogue.now)
    with pytest.raises(LocalMisuse):
        dialogue.conn.refuse(dialogue.now)
    assert picture(dialogue) == before
    dialogue.silent()


@pytest.mark.parametrize("state", list(State))
def test_abort_ends_every_state_once(state: State) -> None:
    dialogue = BUILDERS[state]()
    already = list(dialogue.reasons)
    dialogue.conn.abort(dialogue.now)
    dialogue.conn.abort(dialogue.now)
    assert dialogue.state is State.CLOSED
    assert len(dialogue.reasons) == 1
    assert dialogue.reasons[: len(already)] == already
    resets = [seg for seg in dialogue.heard() if seg.flags & 4]
    told = state in (State.SYN_HELD,) or State.SYN_RECEIVED <= state < State.TIME_WAIT
    assert len(resets) == told
    assert dialogue.conn.get_timer() is None

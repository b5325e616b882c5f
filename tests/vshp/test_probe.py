"""A look at a gateway's key: what it sends, what it takes, and that the gateway asks nobody."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealing.errors import AuthFailed, PeerViolation, ProtocolError
from sealing.identity import generate_identity, public_key
from vshp.config import CloseReason, Suite
from vshp.constants import MAX_HANDSHAKE_MESSAGE
from vshp.datagram_listener import DatagramListener
from vshp.datagram_session import HEAD, DatagramGatewaySession, refusal
from vshp.errors import Refused
from vshp.pairing import OneTimeSecrets
from vshp.probe import DatagramKeyProbe, KeyProbe
from vshp.session import GatewaySession
from vshp.states import State

IDENTITY = generate_identity()


def gateway(identity: bytes = IDENTITY) -> GatewaySession:
    secrets = OneTimeSecrets(public_key(identity))
    return GatewaySession(identity, lambda name: secrets.lookup(name, 0.0), 0.0)


def asked(session: GatewaySession, question: bytes) -> bytes:
    """What a gateway answers."""
    buffer = session.receive_buffer()
    buffer[: len(question)] = question
    session.received(len(question), time.monotonic())
    session.writer.flush()
    return bytes(session.writer.output())


@pytest.mark.parametrize("suite", list(Suite))
def test_the_key_is_shown_and_the_gateway_is_told_nothing(suite: Suite) -> None:
    probe, session = KeyProbe(suite), gateway()
    assert probe.received(asked(session, probe.question)) == public_key(IDENTITY)
    assert session.state is State.HANDSHAKE and session.next_event() is None
    assert session.peer_key is None
    assert session.counters["handshake__key__shown"] == 1


def test_an_answer_may_come_byte_by_byte() -> None:
    probe = KeyProbe()
    answer = asked(gateway(), probe.question)
    said = [probe.received(answer[at : at + 1]) for at in range(len(answer))]
    assert said[:-1] == [None] * (len(answer) - 1) and said[-1] == public_key(IDENTITY)


def test_no_two_looks_are_alike() -> None:
    """So nobody can tell that the same device looks twice."""
    one, two = KeyProbe().question, KeyProbe().question
    assert len(one) == len(two) and one[11:] != two[11:] and one[:11] == two[:11]


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (b"H", PeerViolation, "message_unknown"),
        (b"HTTP/1.1 400\r\n", PeerViolation, "message_unknown"),
        (b"\x01\xff\xff", PeerViolation, "handshake_message_too_long"),
        (b"\x01" + (MAX_HANDSHAKE_MESSAGE + 1).to_bytes(2, "little"), PeerViolation,
         "handshake_message_too_long"),
        (b"\x02\x02\x00ab", PeerViolation, "refusal_size"),
        (b"\x02\x01\x00\x0e", Refused, "busy"),
        (b"\x02\x01\x00\xfe", Refused, "protocol_error"),
        (b"\x01\x00\x00", AuthFailed, "handshake_failed"),
        (b"\x01\x60\x00" + bytes(96), AuthFailed, "handshake_failed"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_named(answer: bytes, error: type[ProtocolError], reason: str) -> None:
    with pytest.raises(error) as raised:
        KeyProbe().received(answer)
    assert raised.value.reason == reason


def test_a_flipped_bit_is_no_key() -> None:
    for at in range(3, 99):
        probe = KeyProbe()
        answer = bytearray(asked(gateway(), probe.question))
        answer[at] ^= 1
        with pytest.raises(AuthFailed):
            probe.received(bytes(answer))


@given(st.lists(st.binary(max_size=64), max_size=64))
def test_junk_ends_by_name_or_waits(pieces: list[bytes]) -> None:
    probe = KeyProbe()
    try:
        for piece in pieces:
            assert probe.received(piece) is None
    except (PeerViolation, AuthFailed, Refused):
        pass


# --- over datagrams ------------------------------------------------------------------------------


def told(question: bytes) -> tuple[DatagramGatewaySession, bytes]:
    """The session that a question begins at a gateway, and its answer."""
    secrets = OneTimeSecrets(public_key(IDENTITY))
    listener = DatagramListener(IDENTITY, lambda name: secrets.lookup(name, 0.0), 0.0)
    session = listener.receive_datagram(memoryview(bytearray(question)), ("192.0.2.7", 1), 0.0)
    assert session is not None
    session.writer.flush()
    [(answer, _)] = [(bytes(data), size) for data, size in session.datagrams_to_send()]
    return session, answer


@pytest.mark.parametrize("suite", list(Suite))
def test_by_datagram_the_gateway_is_told_as_little(suite: Suite) -> None:
    probe = DatagramKeyProbe(suite)
    session, answer = told(probe.question)
    assert probe.received(answer) == public_key(IDENTITY)
    assert session.state is State.HANDSHAKE and session.next_event() is None
    assert session.peer_key is None


def test_answers_to_other_questions_are_passed_over() -> None:
    probe = DatagramKeyProbe()
    question = probe.question
    _, answer = told(DatagramKeyProbe().question)
    _, mine = told(question)
    index = HEAD.unpack_from(question)[3]
    others = (answer, b"", mine[:7], mine[:-1], mine + b"x", HEAD.pack(3, 0, 0, index),
              refusal(CloseReason.BUSY, index ^ 1))  # fmt: skip
    assert [probe.received(each) for each in others] == [None] * len(others)
    assert probe.question == question
    assert probe.received(mine) == public_key(IDENTITY)


def test_a_refusal_by_datagram_is_named() -> None:
    probe = DatagramKeyProbe()
    index = HEAD.unpack_from(probe.question)[3]
    with pytest.raises(Refused) as raised:
        probe.received(refusal(CloseReason.BUSY, index))
    assert raised.value.reason == "busy"


@given(st.binary(max_size=200), st.booleans())
def test_junk_by_datagram_ends_by_name_or_waits(junk: bytes, addressed: bool) -> None:
    probe = DatagramKeyProbe()
    index = probe.question[4:8]
    try:
        assert probe.received(junk[:4] + index + junk[4:] if addressed else junk) is None
    except (PeerViolation, AuthFailed, Refused):
        pass

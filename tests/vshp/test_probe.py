"""A look at a gateway's key: what it sends, what it takes, and that the gateway asks nobody."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealing.errors import AuthFailed, PeerViolation, ProtocolError
from sealing.identity import generate_identity, public_key
from vshp.config import Suite
from vshp.constants import MAX_HANDSHAKE_MESSAGE
from vshp.errors import Refused
from vshp.pairing import OneTimeSecrets
from vshp.probe import KeyProbe
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

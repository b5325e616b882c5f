"""The four formats: round trip, every wrong size, and junk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealing.errors import PeerViolation
from wireguard.constants import (
    COOKIE_REPLY,
    COOKIE_REPLY_SIZE,
    DATA,
    INITIATION,
    INITIATION_SIZE,
    RESPONSE,
    RESPONSE_SIZE,
)
from wireguard.messages import (
    CookieReply,
    Initiation,
    Response,
    kind_of,
    parse_cookie_reply,
    parse_initiation,
    parse_response,
)

INDEX = st.integers(0, 2**32 - 1)
SIZES = {INITIATION: INITIATION_SIZE, RESPONSE: RESPONSE_SIZE, COOKIE_REPLY: COOKIE_REPLY_SIZE}


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


@given(INDEX, exactly(32), exactly(48), exactly(28))
def test_initiations(sender: int, point: bytes, static: bytes, stamp: bytes) -> None:
    message = Initiation(sender, point, static, stamp)
    wire = message.encode() + bytes(32)
    assert kind_of(wire) == INITIATION
    assert parse_initiation(wire) == message
    assert wire[:8] == b"\x01\0\0\0" + sender.to_bytes(4, "little")


@given(INDEX, INDEX, exactly(32), exactly(16))
def test_responses(sender: int, receiver: int, point: bytes, empty: bytes) -> None:
    message = Response(sender, receiver, point, empty)
    wire = message.encode() + bytes(32)
    assert kind_of(wire) == RESPONSE
    assert parse_response(wire) == message


@given(INDEX, exactly(24), exactly(32))
def test_cookie_replies(receiver: int, nonce: bytes, cookie: bytes) -> None:
    message = CookieReply(receiver, nonce, cookie)
    wire = message.encode()
    assert kind_of(wire) == COOKIE_REPLY
    assert parse_cookie_reply(wire) == message


@pytest.mark.parametrize("kind", SIZES)
def test_no_other_size_is_taken(kind: int) -> None:
    for size in range(4, 400):
        wire = kind.to_bytes(4, "little") + bytes(size - 4)
        if size == SIZES[kind]:
            assert kind_of(wire) == kind
        else:
            with pytest.raises(PeerViolation):
                kind_of(wire)


def test_data_is_at_least_its_header_and_tag() -> None:
    head = DATA.to_bytes(4, "little")
    for size in range(4, 32):
        with pytest.raises(PeerViolation):
            kind_of(head + bytes(size - 4))
    assert kind_of(head + bytes(28)) == DATA
    assert kind_of(head + bytes(1400)) == DATA


@given(st.binary(max_size=200))
def test_junk_has_no_kind_or_the_size_of_its_kind(junk: bytes) -> None:
    try:
        kind = kind_of(junk)
    except PeerViolation as error:
        assert error.reason == "datagram_malformed"
    else:
        assert junk[:4] == kind.to_bytes(4, "little")
        assert len(junk) == SIZES.get(kind, len(junk))
        assert kind in SIZES or len(junk) >= 32


@pytest.mark.parametrize("kind", [*SIZES, DATA])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_the_reserved_bytes_are_part_of_the_type(kind: int, at: int) -> None:
    wire = bytearray(SIZES.get(kind, 64))
    wire[0] = kind
    assert kind_of(bytes(wire)) == kind
    wire[at] = 1
    with pytest.raises(PeerViolation):
        kind_of(bytes(wire))

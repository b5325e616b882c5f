"""STUN's Binding: the RFC's own vectors, what servers may and must not say, and the transaction."""

from __future__ import annotations

import struct
import zlib
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack import stun
from netstack.stun import (
    Binding,
    NotStun,
    NotUnderstood,
    OtherTransaction,
    Refused,
    StunError,
    answered,
    request,
)
from tests.fakes.stun import address_value, attribute, message, success

ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
# RFC 5769 sections 2.2 and 2.3.
V4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220"
    "002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
V6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf1"
    "1784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
SEEN = ip_address("192.0.2.1"), 32853


def test_the_vectors_of_rfc_5769() -> None:
    assert answered(V4, ID) == SEEN
    assert answered(V6, ID) == (ip_address("2001:db8:1234:5678:11:2233:4455:6677"), 32853)


def test_a_request_is_a_header_and_a_fingerprint() -> None:
    made = request(ID)
    assert made[:20] == bytes.fromhex("000100082112a442") + ID
    assert made[20:24] == bytes.fromhex("80280004")
    assert struct.unpack("!I", made[24:])[0] == zlib.crc32(made[:20]) ^ 0x5354554E
    assert len(made) == 28
    with pytest.raises(ValueError, match="12 bytes"):
        request(ID[1:])


@pytest.mark.parametrize("wire", [V4[:-1], V4 + b"\0", V4 + bytes(4), V4[:19], b""])
def test_a_message_of_another_length_than_it_says_is_none(wire: bytes) -> None:
    with pytest.raises(NotStun):
        answered(wire, ID)


def test_a_message_longer_than_any_is_not_read() -> None:
    room = stun.MAX_MESSAGE - 20 - 12
    answered(message(0x0101, ID, V4[36:48] + attribute(0x8022, bytes(room - 4))), ID)
    with pytest.raises(NotStun):
        answered(message(0x0101, ID, V4[36:48] + attribute(0x8022, bytes(room))), ID)


def test_each_byte_that_is_changed_is_noticed() -> None:
    type_of_fingerprint = (len(V4) - 8, len(V4) - 7)
    for at in range(len(V4)):
        if at in type_of_fingerprint:
            continue  # It is another attribute then, and there is no fingerprint.
        broken = bytearray(V4)
        broken[at] ^= 1
        with pytest.raises(StunError):
            answered(bytes(broken), ID)


def test_cut_anywhere_it_is_no_message() -> None:
    for end in range(len(V6)):
        with pytest.raises(NotStun):
            answered(V6[:end], ID)
        # With a length that agrees, too: the address is left out with what is cut off.
        if end >= 20:
            cut = V6[:2] + struct.pack("!H", end - 20) + V6[4:end]
            if end < 60:
                with pytest.raises(NotStun):
                    answered(cut, ID)


def test_the_address_of_an_old_server_counts_where_there_is_no_other() -> None:
    plain = attribute(0x0001, address_value("198.51.100.4", 9))
    assert answered(message(0x0101, ID, plain), ID) == (ip_address("198.51.100.4"), 9)
    both = plain + V4[36:48]
    assert answered(message(0x0101, ID, both), ID) == SEEN


def test_the_first_of_two_addresses_counts() -> None:
    second = attribute(0x0020, address_value("198.51.100.4", 9))
    assert answered(message(0x0101, ID, V4[36:48] + second), ID) == SEEN


@pytest.mark.parametrize(
    ("wire", "kind"),
    [
        (success(bytes(12), "192.0.2.1", 1), OtherTransaction),
        (request(ID), OtherTransaction),
        (message(0x0101, ID, attribute(0x7FFF, b"") + V4[36:48]), NotUnderstood),
        (message(0x0101, ID, b""), NotStun),
        (message(0x0101, ID, attribute(0x0020, b"\0\3\0\0" + bytes(4))), NotStun),
        (message(0x0101, ID, attribute(0x0020, b"\0\2\0\0" + bytes(4))), NotStun),
        (message(0x0101, ID, attribute(0x0020, b"\0\1")), NotStun),
        (message(0x0101, ID, attribute(0x8028, bytes(4)) + V4[36:48]), NotStun),
        (message(0x0101, ID, struct.pack("!HH", 0x0020, 12) + bytes(8)), NotStun),
        (message(0x0111, ID, b""), NotStun),
        (message(0x0111, ID, attribute(0x0009, b"\0\0\7\0")), NotStun),
        (message(0x0111, ID, attribute(0x0009, b"\0\0\4\x64")), NotStun),
    ],
)  # fmt: skip
def test_what_is_no_usable_answer(wire: bytes, kind: type[StunError]) -> None:
    with pytest.raises(kind):
        answered(wire, ID)


def test_something_behind_the_fingerprint_is_none_of_the_message() -> None:
    wire = success(ID, "192.0.2.1", 1, fingerprint=True)
    answered(wire, ID)
    longer = wire[:2] + struct.pack("!H", len(wire) - 20 + 8) + wire[4:]
    crc = zlib.crc32(longer[:-4][: len(wire) - 8]) ^ 0x5354554E
    longer = longer[:-4] + struct.pack("!I", crc) + attribute(0x8022, b"abcd")
    with pytest.raises(NotStun, match="follows"):
        answered(longer, ID)


def test_a_refusal_has_its_code_and_no_more_of_its_reason_than_is_allowed() -> None:
    value = b"\0\0\4\x14" + "Unauthorized\u20ac".encode() + b"\xff" * 300
    with pytest.raises(Refused) as caught:
        answered(message(0x0111, ID, attribute(0x0009, value)), ID)
    assert caught.value.code == 420
    assert caught.value.reason.startswith("Unauthorized\u20ac")
    assert len(caught.value.reason) == stun.MAX_REASON


@given(st.binary(max_size=200))
def test_junk_is_an_answer_to_nothing(junk: bytes) -> None:
    with pytest.raises(StunError):
        answered(junk, ID)


@given(st.binary(max_size=120), st.sampled_from((0x0101, 0x0111)))
def test_junk_with_our_id_is_read_or_refused(junk: bytes, kind: int) -> None:
    body = junk[: len(junk) & ~3]
    try:
        address, port = answered(message(kind, ID, body), ID)
    except StunError:
        return
    assert address.version in (4, 6) and 0 <= port < 65536


@given(st.one_of(st.ip_addresses()), st.integers(0, 65535), st.binary(min_size=12, max_size=12))
def test_what_a_server_writes_is_read(address: object, port: int, id: bytes) -> None:
    assert answered(success(id, str(address), port), id) == (address, port)


def test_a_transaction_is_sent_again_and_given_up() -> None:
    binding = Binding(ID)
    sent = []
    now = 100.0
    while not binding.lost(now):
        if binding.send(now) is not None:
            sent.append(now)
        assert binding.send(now) is None, "once each time"
        now = binding.due
    assert sent == [100.0, 100.5, 101.5] and now == 103.5
    assert not binding.over and binding.send(now) is None


def test_a_transaction_waits_past_what_is_no_answer() -> None:
    binding = Binding(ID)
    binding.send(0.0)
    for wire in (b"", request(ID), success(bytes(12), "192.0.2.9", 1), V4[:-1]):
        binding.take(wire)
    assert not binding.over and binding.strange == 4
    binding.take(V4)
    assert binding.over and binding.mapped == SEEN
    binding.take(success(ID, "192.0.2.9", 1))
    assert binding.mapped == SEEN, "who answers second changes nothing"
    assert binding.send(99.0) is None and not binding.lost(99.0)


def test_a_refused_transaction_is_over() -> None:
    binding = Binding(ID)
    binding.send(0.0)
    binding.take(message(0x0111, ID, attribute(0x0009, b"\0\0\5\0busy")))
    assert binding.over and binding.refused is not None
    assert str(binding.refused) == "error 500 busy"

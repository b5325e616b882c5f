"""Messages as transfers: what ends where, and what a phone may not send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reach.adb_wire import (
    HEADER,
    MAX_EMPTY,
    MAX_PAYLOAD,
    MAX_STALE,
    Command,
    Incoming,
    Message,
    Violation,
    checksum,
    transfers,
)

PACKETS = st.sampled_from((64, 512, 1024))
WORD = st.integers(0, 0xFFFFFFFF)


def header(
    size: int, command: int = Command.WRTE, magic: int | None = None, summed: int = 0
) -> bytes:
    word = command ^ 0xFFFFFFFF if magic is None else magic
    return HEADER.pack(command, 1, 2, size, summed, word)


def greeted(packet: int = 512) -> Incoming:
    incoming = Incoming(packet)
    incoming.greeted = True
    return incoming


def take(incoming: Incoming, *blocks: bytes) -> list[Message | None]:
    return [incoming.take(memoryview(block)) for block in blocks]


@given(PACKETS, WORD, WORD, st.binary(max_size=3000), st.booleans())
def test_what_is_sent_is_what_comes(
    packet: int, arg0: int, arg1: int, payload: bytes, checked: bool
) -> None:
    incoming = greeted(packet)
    incoming.checked = checked
    first, *rest = transfers(Message(Command.WRTE, arg0, arg1, payload), packet, checked)
    assert incoming.want == packet
    message = incoming.take(memoryview(first))
    if payload:
        assert message is None and incoming.midway
        assert incoming.want % packet == 0 and 0 <= incoming.want - len(payload) < packet
        message = incoming.take(memoryview(rest[0]))
    assert message is not None and not incoming.midway
    assert (message.command, message.arg0, message.arg1) == (Command.WRTE, arg0, arg1)
    assert bytes(message.payload) == payload


@given(PACKETS, st.integers(0, 4096))
def test_every_transfer_ends_with_a_packet_that_is_not_full(packet: int, size: int) -> None:
    sent = transfers(Message(Command.WRTE, 1, 1, bytes(size)), packet, False)
    assert len(sent[-1]) % packet or not sent[-1]
    assert sum(len(transfer) for transfer in sent) == HEADER.size + size
    assert len(sent) == 1 + bool(size) + (size > 0 and size % packet == 0)


@given(PACKETS, st.binary(min_size=2000, max_size=6000), st.data())
def test_a_transfer_that_was_given_up_between_packets_goes_on(
    packet: int, payload: bytes, data: st.DataObject
) -> None:
    incoming = greeted(packet)
    take(incoming, header(len(payload)))
    cut = packet * data.draw(st.integers(1, (len(payload) - 1) // packet))
    [nothing, message] = take(incoming, payload[:cut], payload[cut:])
    assert nothing is None and message is not None and bytes(message.payload) == payload


@pytest.mark.parametrize(
    ("blocks", "name"),
    [
        ((bytes(23),), "header_size"),
        ((bytes(25),), "header_size"),
        ((bytes(512),), "header_size"),
        ((header(0, magic=0),), "header_magic"),
        ((header(MAX_PAYLOAD + 1),), "payload_too_long"),
        ((header(0xFFFFFFFF),), "payload_too_long"),
        ((header(100), bytes(99)), "payload_cut_short"),
        ((header(1000), bytes(512), b""), "payload_cut_short"),
        ((header(1000), bytes(512), bytes(487)), "payload_cut_short"),
        ((header(100), bytes(101)), "payload_overrun"),
        ((header(1000), bytes(512), bytes(489)), "payload_overrun"),
        ((b"",) * (MAX_EMPTY + 1), "empty_transfers"),
    ],
)
def test_lies_about_lengths_are_named(blocks: tuple[bytes, ...], name: str) -> None:
    incoming = greeted()
    with pytest.raises(Violation) as caught:
        take(incoming, *blocks)
    assert caught.value.name == name


def test_a_wrong_sum_is_named_while_sums_are_looked_at() -> None:
    incoming = greeted()
    incoming.checked = True
    assert take(incoming, header(3, summed=6), b"\1\2\3")[-1] is not None
    with pytest.raises(Violation, match="checksum"):
        take(incoming, header(3, summed=7), b"\1\2\3")
    incoming.checked = False
    assert take(incoming, header(3, summed=7), b"\1\2\3")[-1] is not None
    assert checksum(b"\xff" * 10) == 2550


def test_what_a_killed_session_left_is_skipped_until_the_greeting() -> None:
    incoming = Incoming(512)
    greeting = header(5, Command.CNXN)
    left = (bytes(512), bytes(488), b"", header(10), bytes(9), header(4), bytes(7), bytes(23))
    assert take(incoming, *left, greeting, b"hello")[-1] == Message(Command.CNXN, 1, 2, b"hello")
    assert incoming.stale == 5


def test_a_greeting_in_the_place_of_a_payload_is_heard() -> None:
    """The session that was killed had announced it; the rest went with the session."""
    incoming = Incoming(512)
    assert take(incoming, header(9000), header(0, Command.CNXN))[-1] is not None


def test_what_is_left_without_end_is_not_skipped_without_end() -> None:
    incoming = Incoming(64)
    block = memoryview(bytes(64))
    with pytest.raises(Violation) as caught:
        for _ in range(MAX_STALE + 1):
            incoming.take(block)
    assert caught.value.name == "stale_without_end"


@given(PACKETS, st.booleans(), st.lists(st.binary(max_size=1100), max_size=30))
def test_junk_is_skipped_or_named_and_never_more_is_asked_for_than_the_longest_payload(
    packet: int, after_greeting: bool, blocks: list[bytes]
) -> None:
    incoming = Incoming(packet)
    incoming.greeted = after_greeting
    for block in blocks:
        try:
            incoming.take(memoryview(block[: incoming.want]))
        except Violation as violation:
            assert after_greeting and violation.name
            break
        assert packet <= incoming.want <= MAX_PAYLOAD + packet

"""The wire parser: what servers really write, and what they must not."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.dns import (
    MalformedMessage,
    error_reply,
    name_text,
    parse_answer,
    parse_query,
    truncated_reply,
)
from tests.netstack import wires

QUESTION = wires.question("www.Example.test", 28, edns=wires.opt(1400, do=True))
ANSWER = wires.reply(
    QUESTION,
    [
        wires.record(wires.CNAME, b"\x03cdn\xc0\x10", 600),
        wires.record(wires.AAAA, bytes(16), 30, owner=b"\xc0\x2e"),
    ],
    [wires.soa()],
    edns=wires.opt(4096),
)


def test_a_question() -> None:
    query = parse_query(QUESTION)
    assert (query.id, query.type, query.class_, query.plain) == (0x1234, 28, 1, True)
    assert QUESTION[12 : query.name_end] == wires.name("www.Example.test")
    assert query.edns is not None
    assert (query.edns.size, query.edns.dnssec) == (1400, True)


def test_a_signed_question_is_not_plain() -> None:
    signed = bytearray(wires.question("a.test") + wires.record(250, bytes(20), 0, b"\0"))
    signed[11] = 1
    assert not parse_query(bytes(signed)).plain
    assert not parse_query(wires.question("a.test") + b"trailing").plain


def test_an_answer() -> None:
    answer = parse_answer(ANSWER)
    assert answer.rcode == 0
    assert answer.ttl == 30
    assert [struct.unpack_from("!I", ANSWER, t)[0] for t in answer.ttls] == [600, 30, 900]
    assert answer.edns is not None and answer.edns.size == 4096


@pytest.mark.parametrize(
    ("reply", "ttl"),
    [
        (wires.reply(QUESTION, rcode=3, authority=[wires.soa(900, 60)]), 60),
        (wires.reply(QUESTION, rcode=3, authority=[wires.soa(20, 60)]), 20),
        (wires.reply(QUESTION, authority=[wires.soa(900, 60)]), 60),
        (wires.reply(QUESTION, rcode=3), -1),
        (wires.reply(QUESTION, authority=[wires.record(wires.NS, wires.name("n.test"))]), -1),
        (wires.reply(QUESTION, [wires.record(wires.A, bytes(4))], flags=0x8380), -1),
        (wires.reply(QUESTION, rcode=2), -1),
        (wires.reply(QUESTION, [wires.record(wires.A, bytes(4), 0xFFFFFFFF)]), 0),
    ],
)
def test_how_long_an_answer_may_be_kept(reply: bytes, ttl: int) -> None:
    assert parse_answer(reply).ttl == ttl


@pytest.mark.parametrize(
    "owner",
    [
        b"\xc0\x20",  # Points at itself (the record begins at 32).
        b"\x01a\xc0\x20",  # Points at its own beginning: a loop through a label.
        b"\xc0\x40",  # Points forward.
        b"\xc0\x02",  # Points into the header.
        b"\x40abc\0",  # A label type that is not in use.
        b"\x3f" + bytes(10),  # Longer than what is left.
    ],
)
def test_names_that_lead_nowhere(owner: bytes) -> None:
    asked = wires.question("abcdefgh.test4")
    assert wires.question_end(asked) == 32
    with pytest.raises(MalformedMessage):
        parse_answer(wires.reply(asked, [wires.record(wires.A, bytes(4), owner=owner)]))


def test_a_long_chain_of_pointers() -> None:
    """Each points further back, so it ends; but nobody honest writes it."""
    asked = wires.question("a.test")
    records = [wires.record(wires.TXT, bytes(2))]
    at = 12
    for _ in range(90):
        start = wires.question_end(asked) + sum(map(len, records))
        records.append(wires.record(wires.TXT, b"", owner=struct.pack("!H", 0xC000 | at)))
        at = start
    with pytest.raises(MalformedMessage, match="pointer"):
        parse_answer(wires.reply(asked, records))


def test_names_are_bounded_with_their_pointers_followed() -> None:
    long = ".".join(["x" * 60] * 4)
    asked = wires.question(long)
    with pytest.raises(MalformedMessage, match="long"):
        parse_answer(
            wires.reply(
                asked, [wires.record(wires.A, bytes(4), owner=b"\x1e" + b"y" * 30 + b"\xc0\x0c")]
            )
        )
    with pytest.raises(MalformedMessage, match="long"):
        parse_query(wires.question(".".join(["x" * 60] * 5)))


def test_cut_anywhere_only_our_error_comes_out() -> None:
    for whole, parse in ((QUESTION, parse_query), (ANSWER, parse_answer)):
        for end in range(len(whole)):
            with contextlib.suppress(MalformedMessage):
                parse(whole[:end])
    for end in range(len(ANSWER)):
        with pytest.raises(MalformedMessage):
            parse_answer(ANSWER[:end])


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.integers(0, len(ANSWER)), st.integers(0, 255))
def test_junk(junk: bytes, at: int, value: int) -> None:
    spoiled = bytearray(ANSWER)
    if at < len(spoiled):
        spoiled[at] = value
    for wire in (junk, ANSWER[:at] + junk, QUESTION[:at] + junk, bytes(spoiled)):
        for parse in (parse_query, parse_answer):
            with contextlib.suppress(MalformedMessage):
                parse(wire)
        reply = error_reply(wire, 1)
        assert reply is None or len(reply) <= max(12, len(wire))


def test_error_and_truncated_replies_repeat_the_question() -> None:
    refused = error_reply(QUESTION, 5)
    assert refused is not None
    assert refused[0:2] == QUESTION[0:2] and wires.rcode(refused) == 5
    assert wires.counts(refused) == (1, 0, 0, 1)
    assert parse_answer(refused).rcode == 5
    cut = truncated_reply(ANSWER, parse_answer(ANSWER).question_end, edns=True)
    assert parse_answer(cut).flags & 0x0200
    assert wires.counts(cut) == (1, 0, 0, 1)


def test_names_for_people() -> None:
    assert name_text(wires.question("a-b_c.Example")) == "a-b_c.Example"
    assert name_text(wires.question("")) == "."
    assert name_text(wires.question("\x1b[31m.x")) == "\\027\\09131m.x"

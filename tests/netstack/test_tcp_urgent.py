"""Urgent data (RFC 9293 3.8.5, RFC 6093): the pointer out and in, and the byte in its place."""

from __future__ import annotations

import random as random_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.tcp.config import TcpConfig
from netstack.tcp_segment import TcpSegment
from tests.netstack.tcp.dialogue import Dialogue, established

RELIABLE = TcpConfig()
LOSSY = TcpConfig(reliable=False, congestion="cubic")


def pointers(d: Dialogue) -> list[tuple[str, bytes, int]]:
    """Flags, payload and pointer of what was emitted."""
    return [
        (
            "".join(
                letter for bit, letter in ((0x20, "U"), (8, "P"), (16, "A")) if seg.flags & bit
            ),
            payload(seg),
            seg.urgent,
        )
        for seg in d.heard()
    ]


def payload(seg: TcpSegment) -> bytes:
    return bytes(memoryview(seg.buf)[seg.start : seg.end])


# --- sending -------------------------------------------------------------------------------------


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("stamps", [False, True])
def test_the_peer_is_told_at_once_and_with_each_segment_until_it_has_the_byte(
    offload: bool, stamps: bool
) -> None:
    d = established(config=RELIABLE, offload=offload, stamps=stamps, mss=1000 + 12 * stamps)
    d.conn.urge(1500, d.now)
    assert pointers(d) == [("UA", b"", 1501)]
    d.send(b"a" * 1500)
    d.send(b"!")
    d.send(b"after")
    assert pointers(d) == [
        ("UPA", b"a" * 1000, 1501),
        ("UPA", b"a" * 500, 501),
        ("UPA", b"!", 1),
        ("PA", b"after", 0),
    ]
    d.say("A", 0, 1501)
    d.send(b"b" * 2500)
    assert all(pointer == 0 for _, _, pointer in pointers(d))


def test_the_urgent_byte_may_be_within_a_piece() -> None:
    d = established(config=RELIABLE, mss=50)
    d.conn.urge(59, d.now)
    d.heard()
    data = bytes(range(120))
    d.send(data)
    assert pointers(d) == [
        ("UPA", data[:50], 60), ("UPA", data[50:100], 10), ("PA", data[100:], 0)
    ]  # fmt: skip


def test_it_is_told_again_with_what_is_sent_again() -> None:
    d = established(config=LOSSY)
    d.conn.urge(2, d.now)
    d.send(b"ab!")
    d.heard()
    d.wait(3)
    assert pointers(d)[0] == ("UPA", b"ab!", 3)
    d.conn.link_resumed(d.log, d.now, True)
    assert ("UPA", b"ab!", 3) in pointers(d)


def test_a_byte_too_far_ahead_is_told_when_a_pointer_reaches_it() -> None:
    d = established(config=RELIABLE, shift=4, window=60000, mss=1000)
    d.conn.urge(70_000, d.now)
    d.silent()
    d.send(b"a" * 6000)
    assert [pointer for _, _, pointer in pointers(d)] == [0] * 5 + [65_001]


def test_a_later_one_takes_the_place_of_an_earlier_one() -> None:
    d = established(config=RELIABLE)
    d.conn.urge(0, d.now)
    d.send(b"!")
    d.conn.urge(1, d.now)
    d.send(b"a!")
    assert pointers(d) == [
        ("UA", b"", 1), ("UPA", b"!", 1), ("UA", b"", 2), ("UPA", b"a!", 2)
    ]  # fmt: skip


# --- receiving -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stamps", [False, True])
def test_the_byte_is_delivered_in_its_place_and_as_urgent(stamps: bool) -> None:
    d = established(stamps=stamps)
    d.say("A", 0, 0, b"before")
    d.say("UA", 6, 0, b"ab!after", urgent=3)
    d.say("A", 14, 0, b"more")
    assert bytes(d.delivered) == b"beforeab!aftermore"
    assert d.marks == [9]
    assert d.conn.rcv.up is None


def test_the_pointer_may_come_long_before_the_byte() -> None:
    d = established()
    d.say("UA", 0, 0, urgent=7)
    d.say("A", 0, 0, b"abc")
    d.say("A", 3, 0, b"def!gh")
    assert bytes(d.delivered) == b"abcdef!gh"
    assert d.marks == [7]


def test_what_waits_for_a_hole_is_delivered_with_the_mark_where_it_belongs() -> None:
    d = established()
    d.say("UA", 3, 0, b"d!f", urgent=2)
    d.say("A", 6, 0, b"ghi")
    assert d.marks == []
    d.say("A", 0, 0, b"abc")
    assert bytes(d.delivered) == b"abcd!fghi"
    assert d.marks == [5]


def test_of_two_pointers_the_later_one_counts_and_old_ones_never() -> None:
    d = established()
    d.say("UA", 0, 0, urgent=2)
    d.say("UA", 0, 0, urgent=4)
    d.say("UA", 0, 0, urgent=3)
    d.say("A", 0, 0, b"abc!e")
    assert d.marks == [4]
    d.say("UA", 0, 0, b"abc!e", urgent=4)
    d.say("UA", 5, 0, b"f", urgent=0)
    d.say("A", 6, 0, b"g")
    assert (bytes(d.delivered), d.marks) == (b"abc!efg", [4])


def test_a_pointer_without_the_flag_means_nothing() -> None:
    d = established()
    d.say("A", 0, 0, b"abc", urgent=2)
    assert (bytes(d.delivered), d.marks) == (b"abc", [])


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12), st.sets(st.integers(1, 200)),
    st.randoms(use_true_random=False), st.booleans(),
)  # fmt: skip
def test_whatever_the_order_the_bytes_are_whole_and_the_last_mark_is_where_it_was_set(
    sizes: list[int], marks: set[int], random: random_module.Random, sack: bool
) -> None:
    data = bytes(range(256)) * 2
    total = sum(sizes)
    marks = {mark for mark in marks if mark <= total}
    segments = []
    at = 0
    for size in sizes:
        # As a kernel does: the pointer of a segment is to the last mark that it knows of, here
        # the last that is in the segment.
        ahead = [mark - at for mark in marks if at < mark <= at + size]
        segments.append((at, data[at : at + size], max(ahead, default=0)))
        at += size
    d = established(sack=sack)
    told = segments * 2
    random.shuffle(told)
    for seq, piece, pointer in told:
        d.say("UA" if pointer else "A", seq, 0, piece, urgent=pointer)
    assert bytes(d.delivered) == data[:total]
    assert d.marks == sorted(set(d.marks))
    assert set(d.marks) <= marks
    assert d.marks[-1:] == [max(marks)] if marks else not d.marks
    assert d.conn.rcv.up is None

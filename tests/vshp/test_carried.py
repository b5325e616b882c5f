"""Bytes of IP packets in frames: what a writer counts as it takes them, and off when it drops."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vshp.dialogue import LEASE, connected
from tests.vshp.lossy import connected as by_datagrams
from vshp.carried import carried
from vshp.config import Suite
from vshp.frames import FrameType
from vshp.writer import FrameWriter

PACKETS = st.tuples(
    st.integers(20, 60_000), st.sampled_from([0, 1, 536, 1448]), st.sampled_from([40, 52, 72])
)
"""Length, MSS (0: not to be cut), headers."""


def writing(offload: bool) -> FrameWriter:
    writer = FrameWriter({})
    writer.set_key(Suite.CHACHAPOLY_BLAKE2S, bytes(32))
    writer.widen()
    writer.offload = offload
    return writer


def by_hand(packets: list[tuple[int, int, int]], offload: bool) -> int:
    total = 0
    for length, mss, header in packets:
        pieces = max(1, -(-(length - header) // mss)) if mss and offload else 1
        total += length + (pieces - 1) * header
    return total


@settings(max_examples=50, deadline=None)
@given(st.lists(PACKETS, max_size=8), st.booleans(), st.integers(0, 40))
def test_what_is_in_frames_is_what_was_taken(
    packets: list[tuple[int, int, int]], offload: bool, control: int
) -> None:
    whole = []
    for length, mss, header in packets:
        writer = writing(offload)
        writer.frame(FrameType.PING, bytes(control))
        writer.reserve_packet(length, 1, mss if offload else 0, header)
        writer.frame(FrameType.PADDING, bytes(control))
        assert writer.batched
        whole.append(bytes(writer._batch[: writer._fill]))
        assert carried(whole[-1]) == writer.packet_bytes
    assert carried(b"".join(whole)) == by_hand(packets, offload)


@settings(max_examples=50, deadline=None)
@given(st.lists(PACKETS, max_size=8), st.booleans())
def test_what_comes_after_the_end_is_not_counted(
    packets: list[tuple[int, int, int]], sent: bool
) -> None:
    writer = writing(True)
    writer.shut()
    for length, mss, header in packets:
        if sent:
            writer.send_packet(bytearray(64 + length), 64, 64 + length, 1, mss, header)
        else:
            writer.reserve_packet(length, 1, mss, header)
    writer.flush()
    assert writer.packet_bytes == 0 and not writer.waiting


@pytest.mark.parametrize("datagrams", [False, True])
def test_after_the_end_nothing_is_read(datagrams: bool) -> None:
    def read(view: memoryview) -> int:
        raise AssertionError("where would it go?")

    writer = (by_datagrams() if datagrams else connected(LEASE)).client.writer
    writer.shut()
    assert writer.read_packets(read) == 0 and writer.packet_bytes == 0


@pytest.mark.parametrize("datagrams", [False, True])
def test_what_was_told_does_not_go_back(datagrams: bool) -> None:
    writer = (by_datagrams() if datagrams else connected(LEASE)).client.writer
    while not writer.counters.get("writer__queue_full__dropped"):
        writer.reserve_packet(1000)
        told = writer.packet_bytes
        writer.flush()
    for _ in range(3):
        writer.reserve_packet(500)
        writer.flush()
        assert writer.packet_bytes == told, "they are dropped, too"
    taken = writer.output()
    if not datagrams:
        assert isinstance(writer, FrameWriter)
        writer.consumed(len(taken))
    for size in (600, 300):
        writer.reserve_packet(size)
        assert writer.packet_bytes == told, "in place of those that were counted and dropped"
    writer.reserve_packet(400)
    assert writer.packet_bytes == told + 300

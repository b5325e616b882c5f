"""The writer's bookkeeping: room, order, bounds, and buffers that move under held views."""

from __future__ import annotations

import pytest

from netstack.out import HEADROOM, PacketOut
from sealing.errors import LocalMisuse
from tests.vshp.dialogue import LEASE, connected, drain, feed
from vshp.constants import MAX_OUTPUT, MAX_QUEUED, MAX_QUEUED_DATAGRAMS
from vshp.datagram_writer import DatagramWriter
from vshp.frames import FrameType
from vshp.writer import FrameWriter


def test_both_writers_are_what_the_stack_emits_through() -> None:
    outs: list[tuple[PacketOut, int]] = [
        (FrameWriter({}), MAX_QUEUED),
        (DatagramWriter({}), MAX_QUEUED_DATAGRAMS),
    ]
    for out, most in outs:
        assert out.room() == most
        assert not out.offload


def test_headroom_of_the_stack_is_enough() -> None:
    both = connected()
    buffer = bytearray(b"\xaa" * (HEADROOM + 5000))
    both.client.writer.send_packet(buffer, HEADROOM, HEADROOM + 5000)
    assert buffer[: HEADROOM - 14] == b"\xaa" * (HEADROOM - 14)
    assert buffer[HEADROOM:] == b"\xaa" * 5000


def test_room_counts_batch_and_output_and_comes_back() -> None:
    both = connected()
    writer = both.client.writer
    assert writer.room() == MAX_QUEUED
    writer.reserve_packet(96)
    assert writer.room() == MAX_QUEUED - 100
    assert writer.batched
    writer.flush()
    assert writer.room() == MAX_QUEUED - 120
    writer.consumed(50)
    assert writer.room() == MAX_QUEUED - 70
    writer.consumed(70)
    assert writer.room() == MAX_QUEUED


def test_order_is_kept_between_small_large_and_control() -> None:
    both = connected()
    writer = both.client.writer
    sizes = []
    for n in range(30):
        size = 5000 if n % 3 == 0 else 40 + n
        writer.send_packet(bytearray(64 + size), 64, 64 + size)
        if n % 7 == 0:
            writer.frame(FrameType.PADDING, b"x")
        sizes.append(size)
    writer.flush()
    both.exchange()
    assert [len(packet) for packet in both.at_gateway] == sizes
    assert writer.packet_bytes == sum(sizes)


def test_a_held_view_outlives_growth() -> None:
    """The driver may hold a view while the NAT goes on writing."""
    both = connected()
    writer = both.client.writer
    first = writer.output()
    writer.send_packet(bytearray(64 + 60000), 64, 60064)
    held = writer.output()
    taken = bytes(held)
    for _ in range(6):
        writer.send_packet(bytearray(64 + 60000), 64, 60064)
    assert bytes(held) == taken
    assert len(first) == 0
    feed(both.gateway, drain(both.client))
    assert len(both.at_gateway) == 7


def test_partial_consumption_in_odd_pieces() -> None:
    both = connected()
    writer = both.client.writer
    for n in range(40):
        writer.send_packet(bytearray(64) + bytes((n,)) * 30000, 64, 30064)
        output = writer.output()
        take = min(len(output), 29_997)
        feed(both.gateway, bytes(output[:take]))
        writer.consumed(take)
    both.exchange()
    assert both.at_gateway == [bytes((n,)) * 30000 for n in range(40)]


def test_a_reader_who_stops_costs_a_bounded_queue() -> None:
    both = connected()
    writer = both.client.writer
    for _ in range(100):
        writer.send_packet(bytearray(64 + 60000), 64, 60064)
        writer.reserve_packet(1000)
        writer.frame(FrameType.PADDING, bytes(500))
    writer.flush()
    assert writer.room() < 0
    assert len(writer.output()) < MAX_OUTPUT + 300_000
    assert writer.counters["writer__queue_full__dropped"] > 0
    assert writer.counters["writer__control_queue_full__dropped"] > 0
    both.exchange()
    assert not both.gateway.closed
    assert writer.packet_bytes == sum(map(len, both.at_gateway))
    assert writer.room() == MAX_QUEUED
    assert len(writer._out) <= 256 * 1024


def test_misuse_is_named() -> None:
    with pytest.raises(LocalMisuse, match="seal_without_key"):
        writer = FrameWriter({})
        writer.reserve_packet(40)
        writer.flush()
    with pytest.raises(LocalMisuse, match="rekey_without_key"):
        FrameWriter({}).rekey()
    with pytest.raises(LocalMisuse, match="frame_too_long"):
        FrameWriter({}).reserve_packet(4000)
    both = connected()
    with pytest.raises(LocalMisuse, match="frame_too_long"):
        both.client.writer.frame(FrameType.PADDING, bytes(200_000))
    assert both.client.lease == LEASE


def test_a_super_segment_counts_as_the_packets_that_a_card_makes_of_it() -> None:
    writer = connected().client.writer
    writer.offload = True
    writer.reserve_packet(52 + 2 * 1448 + 1, 1, 1448, 52, 20, 16)
    assert writer.packet_bytes == 3 * 52 + 2 * 1448 + 1
    writer.reserve_packet(52 + 1448, 1, 1448, 52, 20, 16)
    assert writer.packet_bytes == 4 * 52 + 3 * 1448 + 1

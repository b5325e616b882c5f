"""Datagrams that arrive joined are dealt with as one by one, whatever lies between them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealing.errors import PeerViolation
from tests.gro import joined
from tests.vshp.dialogue import LEASE
from tests.vshp.lossy import World, connected, split
from vshp.config import CloseReason
from vshp.datagram import RowHandler
from vshp.frames import FrameType, encode_close

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("packet"), st.sampled_from([20, 300, 1300, 1300, 1300])),
        st.tuples(st.sampled_from(["ping", "rekey", "flip", "repeat", "junk", "pair"]), st.just(0)),
    ),
    max_size=30,
)


def sealed(world: World, operations: list[tuple[str, int]]) -> list[bytes]:
    """What a client sends that does so much, and what somebody on the path adds."""
    client = world.client
    found: list[bytes] = []
    for number, (what, size) in enumerate(operations):
        match what:
            case "packet" | "pair":
                for _ in range(1 if what == "packet" else 2):
                    data = bytearray(64) + bytes([number] * (size or 100))
                    client.writer.send_packet(data, 64, len(data))
                client.writer.flush()
            case "ping":
                client.ping(world.now)
            case "rekey":
                client.writer.rekey()
                client.ping(world.now)  # Each epoch is heard of.
            case "flip" if found:
                found.append(found[-1][:-1] + bytes([found[-1][-1] ^ 1]))
            case "repeat" if found:
                found.append(found[-1])
            case "junk":
                found.append(bytes([6, 0, 0, 0]) + bytes(1300))
        found += split(client.datagrams_to_send())
    return found


def in_rows(world: World) -> RowHandler:
    def take(buf: memoryview, start: int, size: int, stride: int, count: int) -> None:
        for at in range(start, start + count * stride, stride):
            world.at_gateway.append(bytes(buf[at : at + size]))

    return take


@settings(max_examples=60, deadline=None)
@given(OPERATIONS, st.booleans())
def test_joined_or_one_by_one_it_is_the_same(operations: list[tuple[str, int]], rows: bool) -> None:
    told = []
    for together in (False, True):
        world = connected(World(lease=replace(LEASE, mtu=1400)))
        datagrams = sealed(world, operations)
        session = world.session
        if rows:
            session.on_row = in_rows(world)
        pieces = joined(datagrams) if together else [(data, len(data)) for data in datagrams]
        for data, segment in pieces:
            session.receive_datagrams(memoryview(data), segment, world.address, world.now)
        answers = len(split(session.datagrams_to_send()))
        world.pump()
        told.append(
            (world.at_gateway, session.counters, session.records, answers, world.gateway_events)
        )
    assert told[0] == told[1]
    assert len(told[0][0]) == sum({"packet": 1, "pair": 2}.get(what, 0) for what, _ in operations)


def test_a_violation_in_the_middle_of_a_run_ends_the_session() -> None:
    world = connected(World(lease=replace(LEASE, mtu=1400)))
    client = world.client
    found = sealed(world, [("packet", 1300)] * 3)
    client.writer.frame(FrameType.CONFIG, bytes(1300))
    client.writer.flush()
    found += split(client.datagrams_to_send()) + sealed(world, [("packet", 1300)])
    assert len({len(data) for data in found}) == 1
    with pytest.raises(PeerViolation, match="frame_not_reliable"):
        world.session.receive_datagrams(
            memoryview(b"".join(found)), len(found[0]), world.address, world.now
        )
    assert len(world.at_gateway) == 3 and world.session.closed


def test_a_run_from_elsewhere_does_not_move_the_peer() -> None:
    world = connected(World(lease=replace(LEASE, mtu=1400)))
    found = sealed(world, [("packet", 1300)] * 5)
    before = world.session.address
    world.session.receive_datagrams(
        memoryview(b"".join(found)), len(found[0]), ("10.9.9.9", 1), world.now
    )
    assert world.session.address == before
    assert world.session.counters["datagram__address__challenged"] >= 1
    assert len(world.at_gateway) == 5


def test_packets_of_a_run_are_handed_over_together() -> None:
    world = connected(World(lease=replace(LEASE, mtu=1400)))
    found = sealed(world, [("packet", 1300)] * 7)
    rows: list[tuple[int, int]] = []
    world.session.on_row = lambda buf, start, size, stride, count: rows.append((size, count))
    run = memoryview(b"".join(found))
    world.session.receive_datagrams(run, len(found[0]), world.address, world.now)
    assert rows == [(1300, 7)] and world.at_gateway == []
    assert world.session.records >= 7


def test_what_follows_a_close_in_a_run_goes_nowhere() -> None:
    world = connected(World(lease=replace(LEASE, mtu=1400)))
    client = world.client
    found = sealed(world, [("packet", 1300)] * 2)
    size = len(found[0])
    client.writer.frame(FrameType.CLOSE, encode_close(CloseReason.SHUTDOWN))
    client.writer.frame(FrameType.PROBE, bytes(1300 - 4 - len(encode_close(CloseReason.SHUTDOWN))))
    client.writer.flush()
    found += split(client.datagrams_to_send()) + sealed(world, [("packet", 1300)] * 2)
    assert {len(data) for data in found} == {size}
    run = memoryview(b"".join(found))
    world.session.receive_datagrams(run, size, world.address, world.now)
    assert len(world.at_gateway) == 2 and world.session.closed

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
from vshp.frames import FrameType

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("packet"), st.sampled_from([20, 300, 1300, 1300, 1300])),
        st.tuples(st.sampled_from(["ping", "rekey", "flip", "repeat", "junk", "pair"]), st.just(0)),
    ),
    max_size=30,
)


def sealed(world: World, operations: list[tuple[str, int]]) -> list[bytes]:
    """What a client sends that does so much, and what somebody on the path adds."""
    client, found = world.client, []
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


@settings(max_examples=60, deadline=None)
@given(OPERATIONS)
def test_joined_or_one_by_one_it_is_the_same(operations: list[tuple[str, int]]) -> None:
    told = []
    for together in (False, True):
        world = connected(lease=replace(LEASE, mtu=1400))
        datagrams = sealed(world, operations)
        session = world.session
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
    world = connected(lease=replace(LEASE, mtu=1400))
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
    world = connected(lease=replace(LEASE, mtu=1400))
    found = sealed(world, [("packet", 1300)] * 5)
    before = world.session.address
    world.session.receive_datagrams(
        memoryview(b"".join(found)), len(found[0]), ("10.9.9.9", 1), world.now
    )
    assert world.session.address == before
    assert world.session.counters["datagram__address__challenged"] >= 1
    assert len(world.at_gateway) == 5

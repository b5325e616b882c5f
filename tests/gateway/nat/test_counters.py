"""Counters of a device: they are the gateway's, too, and stay there when the device goes."""

from __future__ import annotations

from gateway.nat.counters import FROM_TUNNEL, Counters
from tests.gateway.nat.world import World


def test_what_a_part_counts_is_counted_once() -> None:
    gateway = Counters()
    one, other = gateway.part(), gateway.part()
    one.counts["udp__no_route__dropped"] += 2
    other.counts["udp__no_route__dropped"] += 3
    gateway.counts["session__opened"] += 1
    one.counts[FROM_TUNNEL] += 2
    assert one.snapshot() == {FROM_TUNNEL: 2, "udp__no_route__dropped": 2}
    whole = {"session__opened": 1, FROM_TUNNEL: 2, "udp__no_route__dropped": 5}
    assert gateway.snapshot() == whole and gateway.balance() == (2, 0, 0, 5)
    gateway.take_in(one)
    assert gateway.snapshot() == whole
    one.counts["udp__no_route__dropped"] += 1
    assert gateway.snapshot() == whole, "it is no part any more"


def test_a_client_that_is_gone_is_no_part_and_nothing_is_lost() -> None:
    world = World()
    world.peer.counts["udp__no_route__dropped"] += 4
    world.nat.remove_peer(world.peer, world.now)
    assert world.counters.counts["udp__no_route__dropped"] == 4
    # What comes too late for it, such as an answer of the resolver's.
    world.peer.counts["udp__no_route__dropped"] += 1
    assert world.count("udp__no_route__dropped") == 5

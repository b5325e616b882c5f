"""A day of two peers over a bad path: traffic never stops longer than the timers explain.

The path loses, doubles and reorders; now and then one end forgets its sessions, as a restart
has it. The suite's day has one packet a second. The long form has ten, for so many hours:

    VPNSHARE_WIREGUARD_DAY=24 python -m pytest -s tests/wireguard/test_day.py
"""

from __future__ import annotations

import os
import random

import pytest

from tests.wireguard.pipe import Pair, Side, packet
from wireguard.constants import (
    INITIATION,
    KEEPALIVE_TIMEOUT,
    MAX_JITTER,
    REKEY_TIMEOUT,
)

HOURS = float(os.environ.get("VPNSHARE_WIREGUARD_DAY", "24"))
RATE = 10.0 if "VPNSHARE_WIREGUARD_DAY" in os.environ else 1.0
LOSS = 0.05
ROUNDS_LOST = 8
"""Handshakes (three datagrams, each lost one time in twenty) that fail one after the other: not
once in a million days."""
MAX_STALL = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + ROUNDS_LOST * (REKEY_TIMEOUT + MAX_JITTER)


class BadPath:
    """Loses, doubles and delays."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self.random = random.Random(seed)
        self.pair = pair

    def __call__(self, sender: Side, datagram: bytes) -> list[float]:
        if self.random.random() < LOSS:
            return []
        copies = 2 if self.random.random() < 0.05 else 1
        return [self.random.choice((0.01, 0.01, 0.02, 0.3)) for _ in range(copies)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_day_over_a_bad_path(seed: int) -> None:
    pair = Pair(seed=seed)
    pair.connect()
    path = BadPath(pair, seed)
    pair.path = path
    rng = random.Random(seed + 100)
    heard = dict.fromkeys(("client", "gateway"), pair.now)
    worst = dict.fromkeys(("client", "gateway"), 0.0)
    arrived = sent = 0
    step = 1.0 / RATE
    while pair.now < HOURS * 3600:
        # Sometimes only one end has anything to say, sometimes nobody for a while.
        phase = rng.random()
        busy = [s for s in pair.sides if phase < 0.6 or (phase < 0.8) is (s is pair.client)]
        if phase > 0.95:
            busy = []
            pair.run(rng.choice((30.0, 150.0, 400.0, 700.0)))
        if phase % 0.1 < 0.02:
            rng.choice(pair.sides).peer.wipe()
        for _ in range(int(rng.uniform(5, 120) * RATE)):
            for side in busy:
                pair.send(side, packet(2 if side is pair.client else 1))
                sent += 1
            pair.run(step)
            for side in pair.sides:
                other = pair.other(side)
                if other not in busy:
                    heard[side.name] = pair.now
                    continue
                if side.packets:
                    arrived += len(side.packets)
                    side.packets.clear()
                    heard[side.name] = pair.now
                worst[side.name] = max(worst[side.name], pair.now - heard[side.name])
            check_bounds(pair)
        pair.log.clear()
    longest = max(worst.values())
    print(f"\n{HOURS:g} hours, {sent} packets, {arrived / sent:.3f} of them arrived; silent for"
          f" {longest:.1f} s at most, of {MAX_STALL:.1f}")  # fmt: skip
    assert longest <= MAX_STALL, worst
    assert arrived > 0.9 * sent
    for side in pair.sides:
        # A handshake every two minutes of traffic, a few more for those that were lost.
        assert side.device.counters["initiation__sent"] < HOURS * 3600 / 60
    assert {"silent"}.isdisjoint(pair.client.news + pair.gateway.news)


def check_bounds(pair: Pair) -> None:
    for side in pair.sides:
        device = side.device
        assert len(device.pairs) <= 3
        assert len(device.pending) <= 1
        assert len(side.peer.pairs.all()) == len(device.pairs)
        assert all(device.pairs[p.index] is p for p in side.peer.pairs.all())
        assert len(side.peer.writer.buffer) < 10_000
        assert len(side.peer.writer._runs.buffer) < 300_000
        assert device._messages == []


def test_after_an_outage_of_any_length_traffic_is_back_within_seconds() -> None:
    pair = Pair(seed=3)
    path = BadPath(pair, 3)
    pair.connect()
    for outage in (1.0, 14.0, 16.0, 60.0, 95.0, 130.0, 190.0, 600.0):
        pair.path = lambda sender, datagram: []
        end = pair.now + outage
        while pair.now < end:
            pair.send(pair.client, packet(2))
            pair.send(pair.gateway, packet(1))
            pair.run(1.0)
        pair.path = path
        pair.client.packets.clear()
        pair.gateway.packets.clear()
        since = pair.now
        while not (pair.client.packets and pair.gateway.packets):
            pair.send(pair.client, packet(2))
            pair.send(pair.gateway, packet(1))
            pair.run(0.1)
        assert pair.now - since < 4 * (REKEY_TIMEOUT + MAX_JITTER), outage


def test_nobody_speaks_so_nobody_is_woken() -> None:
    """A device that has nothing to say costs nothing: no datagram, and no timer at last."""
    pair = Pair()
    pair.connect()
    pair.run(KEEPALIVE_TIMEOUT + 1)
    pair.log.clear()
    pair.run(24 * 3600.0)
    assert pair.log == []
    assert all(side.device.get_timer() is None for side in pair.sides)
    assert pair.send(pair.client, packet(2)) is False
    pair.run(0.1)
    assert pair.send(pair.client, packet(2))
    assert len(pair.sent("client", INITIATION)) == 1

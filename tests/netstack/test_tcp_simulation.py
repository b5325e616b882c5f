"""Two of our endpoints over a seeded link that loses, reorders, duplicates and delays."""

from __future__ import annotations

import hashlib
import random

import pytest

from netstack.tcp.config import CloseReason, TcpConfig
from tests.netsim.simulation import Direction, Host, Simulation


def transfer(
    size: int,
    *,
    seed: int = 1,
    loss: float = 0.0,
    version: int = 4,
    offload: bool = False,
    reliable: bool = False,
    iss: int | None = None,
    config: TcpConfig | None = None,
    rate: float = 0.0,
) -> tuple[Simulation, Host, Host]:
    """Send `size` bytes each way, close both directions, check that all arrived."""
    link = Direction(loss=loss, reorder=0.02 * bool(loss), duplicate=0.01 * bool(loss), rate=rate)
    back = Direction(loss=loss, reorder=0.02 * bool(loss), duplicate=0.01 * bool(loss), rate=rate)
    sim = Simulation(seed, link, back)
    config = config or TcpConfig(reliable=reliable)
    data = random.Random(seed).randbytes(2 * size)
    options = {"version": version, "offload": offload}
    if iss is not None:
        options["iss"] = iss
    a = sim.add(config, data[:size], **options)
    b = sim.add(config, data[size:], **options)
    sim.open()
    sim.run()
    assert b.digest.digest() == hashlib.sha256(data[:size]).digest()
    assert a.digest.digest() == hashlib.sha256(data[size:]).digest()
    for host in (a, b):
        assert host.fin_seen
        assert host.reason is CloseReason.FINISHED
        assert host.pool.taken == 0
    return sim, a, b


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("reliable", [False, True])
def test_clean_link(version: int, offload: bool, reliable: bool) -> None:
    sim, _a, _b = transfer(400_000, version=version, offload=offload, reliable=reliable)
    assert sim.ab.lost == sim.ba.lost == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("loss", [0.01, 0.05, 0.2])
def test_lossy_link(loss: float, seed: int) -> None:
    sim, _a, _b = transfer(200_000, loss=loss, seed=seed)
    assert sim.ab.lost + sim.ba.lost > 0

"""Mixed load for a while: memory settles, and nothing stays when the clients leave.

The suite runs a short form. The long one, in which the gateway's memory at the end is
compared with that after a minute:

    VPNSHARE_SOAK_SECONDS=300 python -m pytest -s tests/netns/test_soak.py
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import pytest

from tests.netns.processes import Process, wait_for
from tests.netns.product import Client, Gateway
from tests.netns.world import SERVER, SERVER6, World

SECONDS = float(os.environ.get("VPNSHARE_SOAK_SECONDS", "20"))
SETTLING = min(60.0, SECONDS / 2)
GROWTH = 1.10
LOADS = (
    f"while :; do curl -s -o /dev/null http://{SERVER}:8000/bytes/20000000; done",
    "while :; do head -c 20000000 /dev/zero |"
    f" curl -s -T - -o /dev/null 'http://[{SERVER6}]:8000/up'; done",
    f"while :; do echo x | nc -N -w 2 {SERVER6} 7 >/dev/null; done",
    f"while :; do echo x | nc -u -w 1 {SERVER} 7 >/dev/null; done",
    "while :; do dig +tries=1 server.test AAAA >/dev/null; dig none.test A >/dev/null; done",
    f"ping -i 0.05 {SERVER} >/dev/null & exec ping -i 0.05 {SERVER6} >/dev/null",
    f"while :; do nc -w 1 -z {SERVER} 4444; curl -s -m 1 http://{SERVER}:8000/slow/9000; done",
)


def memory(service: Process) -> float:
    """Resident bytes, the median of a second: a moment's bulk in the queues is none of it."""
    samples = []
    for _ in range(10):
        time.sleep(0.1)
        samples.append(service.rss())
    return statistics.median(samples)


def steady(read: Callable[[], int], seconds: float) -> int:
    """What is read once it has been the same for so long: announcements, for one, begin by
    themselves after sharing has."""
    found, since = read(), time.monotonic()

    def same() -> bool:
        nonlocal found, since
        if (now := read()) != found:
            found, since = now, time.monotonic()
        return time.monotonic() - since >= seconds

    wait_for(same, "the same number", 30.0)
    return found


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
def test_memory_settles_and_nothing_stays(fresh_world: World) -> None:
    world = fresh_world
    with world.serving(), Gateway(world) as gateway, Client(world) as client:
        gateway.share()
        service = gateway.process
        assert service is not None
        idle = steady(service.descriptors, 2.0)
        client.start()
        client.join(gateway)
        loads = [world.client.start(["sh", "-c", load]) for load in LOADS]
        time.sleep(SETTLING - 1.0)
        settled = memory(service)
        time.sleep(SECONDS - SETTLING - 1.0)
        grown = memory(service) / settled
        print(f"\n{settled / 2**20:.1f} MiB, {grown:.3f} times that at the end", flush=True)
        assert grown < GROWTH
        assert gateway.status()["flows"] > 0
        for load in loads:
            load.kill()
        client.command("disconnect")
        client.stop()
        wait_for(lambda: gateway.peek()["flows"] == 0, "every flow to be closed", 30.0)
        wait_for(lambda: service.descriptors() <= idle, "every descriptor", 10.0)

"""Slow readers on either side of large transfers do not fill the gateway's memory."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.netns.conftest import Tunnel, connected, opened
from tests.netns.processes import Process
from tests.netns.servers import FILE_NAME, FILE_SIZE
from tests.netns.world import SERVER, SERVER6, World

GROWTH_LIMIT = 16 << 20
WATCHED_SECONDS = 8.0


@pytest.fixture(scope="module")
def lone_tunnel() -> Iterator[Tunnel]:
    """A pair that nothing else has used, so that its memory is what this test made it."""
    with opened() as world, connected(world) as pair:
        yield pair


def largest_rss(process: Process, seconds: float) -> int:
    """The largest resident memory of `process` during the next seconds."""
    largest, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        largest = max(largest, process.rss())
        time.sleep(0.1)
    return largest


def slow_readers(world: World) -> Iterator[Process]:
    """One each way and family: a client that takes its time, and a server that does."""
    for server, host in ((SERVER, SERVER), (SERVER6, f"[{SERVER6}]")):
        yield world.client.start(
            ["curl", "-sS", "-N", "--limit-rate", "1K", "-o", "/dev/null",
             f"http://{host}:8000/bytes/{FILE_SIZE}"]
        )  # fmt: skip
        file = world.directory / FILE_NAME
        yield world.client.start(["sh", "-c", f"exec nc {server} 8009 < {file}"])


def test_slow_readers_are_waited_for(lone_tunnel: Tunnel) -> None:
    """All at once, and together they stay below the limit of one."""
    gateway = lone_tunnel.gateway.process
    assert gateway is not None
    before = gateway.rss()
    transfers = list(slow_readers(lone_tunnel.world))
    try:
        largest = largest_rss(gateway, WATCHED_SECONDS)
        for transfer in transfers:
            assert transfer.running(), transfer.tail()
    finally:
        for transfer in transfers:
            transfer.kill()
    print(f"\n{(largest - before) >> 10} KiB more", flush=True)
    assert largest - before < GROWTH_LIMIT

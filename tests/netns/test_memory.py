"""A slow reader on either side of a large transfer does not fill the gateway's memory."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.netns.conftest import Tunnel, connected, opened
from tests.netns.processes import Process
from tests.netns.servers import FILE_NAME, FILE_SIZE

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


@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_slow_reader_is_waited_for(lone_tunnel: Tunnel, direction: str, server: str) -> None:
    world, gateway = lone_tunnel.world, lone_tunnel.gateway.process
    assert gateway is not None
    host = f"[{server}]" if ":" in server else server
    if direction == "down":
        argv = ["curl", "-sS", "-N", "--limit-rate", "1K", "-o", "/dev/null",
                f"http://{host}:8000/bytes/{FILE_SIZE}"]  # fmt: skip
    else:
        file = world.directory / FILE_NAME
        argv = ["sh", "-c", f"exec nc {server} 8009 < {file}"]
    before = gateway.rss()
    transfer = world.client.start(argv)
    try:
        largest = largest_rss(gateway, WATCHED_SECONDS)
        assert transfer.running(), transfer.tail()
    finally:
        transfer.kill()
    assert largest - before < GROWTH_LIMIT

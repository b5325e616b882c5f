"""Ports for services that a test starts, and for those that must not be there."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

_random = random.SystemRandom()
"""Of its own: Hypothesis seeds the shared one, and alike in each process that runs tests."""
TRIES = 100
_given: set[int] = set()
"""Ports that this process was told of: they may be taken only some time later."""


def _ours() -> list[int]:
    """The ports of this process, which no other that runs tests beside it hands out."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [port for port in range(1025, 65536) if not low <= port <= high]
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return ports[number :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses at the moment, neither over TCP nor over UDP.

    It is outside the range that outgoing connections take theirs from. Of those, any
    may be held for a minute by a connection that is over (TIME-WAIT), and a connect to
    one where nobody listens can meet itself.
    """
    ports = _ours()
    fresh = [port for port in ports if port not in _given]
    if len(fresh) < TRIES:
        _given.clear()
        fresh = ports
    for port in _random.sample(fresh, TRIES):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        ):
            try:
                stream.bind(("127.0.0.1", port))
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise AssertionError("no port of 127.0.0.1 is free")

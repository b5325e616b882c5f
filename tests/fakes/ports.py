"""Ports for services that a test starts, and for those that must not be there."""

from __future__ import annotations

import random
import socket
from pathlib import Path


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses at the moment, neither over TCP nor over UDP.

    It is outside the range that outgoing connections take theirs from. Of those, any
    may be held for a minute by a connection that is over (TIME-WAIT), and a connect to
    one where nobody listens can meet itself.
    """
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [port for port in range(1025, 65536) if not low <= port <= high]
    for port in random.sample(ports, 100):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        ):
            try:
                stream.bind(("127.0.0.1", port))
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port of 127.0.0.1 is free")

"""What a socket with UDP_GRO makes of datagrams of one sender."""

from __future__ import annotations


def joined(datagrams: list[bytes]) -> list[tuple[bytes, int]]:
    """Runs of datagrams of equal size, the last of each less, and that size (udp(7))."""
    found: list[tuple[bytes, int]] = []
    ended = True
    for data in datagrams:
        if ended or len(data) > found[-1][1]:
            found.append((data, len(data)))
            ended = False
        else:
            found[-1] = (found[-1][0] + data, found[-1][1])
            ended = len(data) < found[-1][1]
    return found

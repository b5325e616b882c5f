"""Who is logged in to this device from beyond its router: connections that came in before.

Read from /proc/net/tcp and tcp6 (proc(5)). The kernel does not say there who began a
connection; one whose port a program of root's listens on, and that is root's itself, came in: sshd
and its like. A program of a user may connect from the port that it listens on, so its
connections are not taken for any that came in: they would go on outside the tunnel.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_INBOUND = 16
"""Connections kept."""
MAX_LINES = 20_000
"""Of either file; a host with more is a server of many."""
_LISTEN, _ESTABLISHED = "0A", "01"
_ROOT = "0"


@dataclass(frozen=True, slots=True)
class Inbound:
    """One TCP connection, by its two ends."""

    local: str
    local_port: int
    peer: str
    peer_port: int

    @property
    def family(self) -> int:
        return 6 if ":" in self.local else 4


def inbound(folder: Path) -> tuple[Inbound, ...]:
    """The connections of root's services, from `tcp` and `tcp6` in this folder; none where
    these cannot be read."""
    listening: set[int] = set()
    found: list[Inbound] = []
    for name in ("tcp", "tcp6"):
        try:
            with open(folder / name) as file:
                lines = [line for line, _ in zip(file, range(MAX_LINES), strict=False)][1:]
        except OSError:
            continue
        for state, local, peer in _roots(lines):
            if state == _LISTEN:
                listening.add(local[1])
            elif state == _ESTABLISHED:
                found.append(Inbound(*local, *peer))
    came = [one for one in found if one.local_port in listening]
    return tuple(one for one in came if not ipaddress.ip_address(one.local).is_loopback)


def _roots(lines: list[str]) -> Iterator[tuple[str, tuple[str, int], tuple[str, int]]]:
    """State, local and far end of each socket of root's."""
    for line in lines:
        fields = line.split()
        if len(fields) > 7 and fields[7] == _ROOT:
            yield fields[3], _end(fields[1]), _end(fields[2])


def _end(text: str) -> tuple[str, int]:
    """An address, in 32-bit words of the host's byte order, and a port; IPv4 is never mapped."""
    words, _, port = text.partition(":")
    raw = bytes.fromhex(words)
    packed = struct.pack(f"={len(raw) // 4}I", *struct.unpack(f">{len(raw) // 4}I", raw))
    address = ipaddress.ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), int(port, 16)

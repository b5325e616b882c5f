"""Whom an address may be counted with, and who has been here lately.

One machine has as many IPv6 addresses as it likes, all of one /64: they count as one.
A newcomer, from where nobody has come for a while, is preferred to who comes again and
again; so whoever holds many places cannot hold them against everybody else.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

PREFIX = 64
"""RFC 4291 section 2.5.1: what a host chooses by itself is the other half."""


def neighbourhood(address: str) -> str:
    """What an address counts as: itself with IPv4 (also mapped), with IPv6 its /64."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, PREFIX), strict=False))


class Visitors:
    """How often each neighbourhood has come to nothing, for `seconds` after the last time."""

    def __init__(self, seconds: float, most: int) -> None:
        """At most `most` are remembered; the one seen longest ago goes first."""
        self._seconds = seconds
        self._most = most
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def times(self, neighbours: str, now: float) -> int:
        """0 for a newcomer."""
        count, at = self._known.get(neighbours, (0, now))
        return count if now - at < self._seconds else 0

    def note(self, neighbours: str, now: float) -> None:
        """Once more."""
        count = self.times(neighbours, now) + 1
        self._known.pop(neighbours, None)
        self._known[neighbours] = count, now
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def forgive(self, neighbours: str) -> None:
        """Somebody from there is welcome."""
        self._known.pop(neighbours, None)

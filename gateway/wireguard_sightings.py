"""Where each WireGuard device was when it was heard last, kept over restarts of the gateway.

WireGuard's own timers bring a device that lost its session back within minutes. A gateway that
has just started need not wait: it knocks where the device was, if that is not long ago and the
way there is still ours. Interfaces are kept by name, for their numbers change when devices come
and go.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

from gateway.datagram_socket import Where
from gateway.model import GatewayStore, Sighting
from gateway.wireguard_link import Spot

KNOCK_AGE = 600.0
"""Seconds since a device was heard within which it is looked for after a start."""


class Sightings:
    """The sightings of a gateway, by the devices' public keys."""

    def __init__(self, store: GatewayStore) -> None:
        self._store = store
        self._all = store.sightings()

    def get(self, public: bytes) -> Sighting | None:
        """None of a device that was neither handed a config nor heard."""
        return self._all.get(public)

    def told(self, public: bytes, endpoint: str) -> None:
        """A device is let in whose config names this endpoint, `host:port`."""
        self._save(public, Sighting(endpoint))

    def see(self, public: bytes, spot: Spot, unix: float) -> None:
        """A device was heard here; written when that is news."""
        before = self._all.get(public, Sighting(""))
        try:
            interface = socket.if_indextoname(spot.where.interface)
        except OSError:
            interface = ""
        family = socket.AF_INET if len(spot.where.local) == 4 else socket.AF_INET6
        local = socket.inet_ntop(family, spot.where.local)
        seen = Sighting(before.told, spot.host, spot.port, interface, local, unix)
        if replace(before, heard=unix) != seen or unix - before.heard > KNOCK_AGE / 2:
            self._save(public, seen)

    def recent(self, unix: float) -> Iterator[tuple[bytes, Sighting]]:
        """Keys and sightings of devices that are worth a knock."""
        for public, sighting in self._all.items():
            if unix - sighting.heard <= KNOCK_AGE:
                yield public, sighting

    def _save(self, public: bytes, sighting: Sighting) -> None:
        self._all[public] = sighting
        self._store.save_sighting(public, sighting)


def way_to(sighting: Sighting) -> Where | None:
    """Where a device was, as long as the way there is still ours."""
    if not sighting.host:
        return None
    six = ":" in sighting.host
    try:
        interface = socket.if_nametoindex(sighting.interface)
        local = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, sighting.local)
    except OSError:
        return None
    address = (sighting.host, sighting.port, 0, 0) if six else (sighting.host, sighting.port)
    return Where(address, interface, local)

"""Where WireGuard apps knock: the doors at all addresses, open while there is anybody to open for.

Theory of operation. There is one door a listening address, all of one port and all of one
`Device`: all are open or none. They are open once a device is let in or holds a config,
whether or not the owner's wish for them came before. What cannot be opened is tried again by
`alarm`, with growing pauses; nothing else suffers meanwhile. Sessions are the device's, not a
socket's: peers that were heard by a door that is closed go on by the new one of their family.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from eventloop.poller import NEVER, Poller
from gateway.listeners import ListenError
from gateway.nat.counters import Counters
from gateway.places import REOPEN_FIRST, REOPEN_MAX
from gateway.sieve import Budget
from gateway.wireguard_link import Spot, WireguardDoor, spot_of
from wireguard.device import Device
from wireguard.peer import Peer
from wireguard.profile import spell_endpoint

_log = logging.getLogger(__name__)


class DoorsOwner(Protocol):
    """What the doors tell whoever keeps the devices. None of these may raise."""

    @property
    def wanted(self) -> bool:
        """Whether there is anybody to listen for."""

    def received(self, data: memoryview, segment: int, spot: Spot, now: float) -> None:
        """A run of datagrams has come, of `segment` bytes each but the last."""

    def turned(self, now: float) -> None:
        """What came at once has been told."""

    def drained(self, now: float) -> None:
        """A door that was full has room again."""

    def adopted(self, peer: Peer) -> None:
        """This peer is sent to by another door."""


class WireguardDoors:
    """All doors of a gateway for WireGuard apps."""

    def __init__(
        self,
        owner: DoorsOwner,
        device: Device,
        port: int,
        counters: Counters,
        poller: Poller,
        now: float,
    ) -> None:
        """Nothing is open before `listen`."""
        self.port = port
        self.alarm = NEVER
        """When to try again to open what could not be opened."""
        self.budget = Budget(now)
        """What strangers may cost at all doors together."""
        self._owner = owner
        self._device = device
        self._counters = counters
        self._poller = poller
        self._doors: list[WireguardDoor] = []
        self._hosts: tuple[str, ...] = ()
        self._pause = REOPEN_FIRST
        self._named = 0
        """Indices of sessions that the sieves know, see `Device.indices`."""

    @property
    def listening(self) -> list[str]:
        """At which addresses and port, spelled; without doors that the system has closed."""
        return [spell_endpoint(door.host, door.port) for door in self._doors if not door.closed]

    def listen(self, hosts: Sequence[str], now: float, anew: bool = False) -> None:
        """Listen at these addresses, once there is anybody to listen for.

        Raises ListenError, and goes on trying.
        """
        wanted = tuple(dict.fromkeys(hosts))
        if wanted != self._hosts or anew:
            self.close()
            self._hosts = wanted
        try:
            self.open()
        except ListenError:
            self.alarm = now + self._pause
            raise

    def open(self, early: bool = False) -> None:
        """Open all or none, unless they are open or nobody is listened for. Raises ListenError.

        With `early` also at addresses that are not there just now.
        """
        if self._doors or not self._owner.wanted:
            return
        try:
            for host in self._hosts:
                self._doors.append(self._door(host, early))
        except ListenError:
            self.close()
            raise
        self.alarm, self._pause = NEVER, REOPEN_FIRST
        for peer in self._device.peers.values():
            self._adopt(peer)

    def handle_timer(self, now: float) -> bool:
        """At `alarm`: what could not be opened may be by now; true if it is."""
        if self.alarm > now:
            return False
        self.alarm = NEVER
        if not self._owner.wanted:
            return False
        try:
            self.open(early=True)
        except ListenError as error:
            _log.warning("%s", error)
            self._counters.counts["wireguard__listen__failed"] += 1
            self._pause = min(2 * self._pause, REOPEN_MAX)
            self.alarm = now + self._pause
            return False
        self._counters.counts["wireguard__listen__reopened"] += 1
        return True

    def close(self) -> None:
        """Listen no more."""
        self.alarm = NEVER
        for door in self._doors:
            door.close()
        self._doors = []

    def facing(self, host: str) -> WireguardDoor | None:
        """A door of the family of that address."""
        six = ":" in host
        return next((door for door in self._doors if (":" in door.host) is six), None)

    def send_messages(self) -> None:
        """Send what handshakes have to say, each by the door of its peer."""
        if self._device.indices != self._named:
            # Before anybody can answer to one.
            self._named = self._device.indices
            for door in self._doors:
                door.strangers.name_anew()
        for message, spot in self._device.take_messages():
            if not spot.door.closed:
                where = spot.where
                spot.door.send(message, len(message), where.address, where.control())

    # --- inside ------------------------------------------------------------------------------

    def _door(self, host: str, early: bool) -> WireguardDoor:
        return WireguardDoor(
            host,
            self.port,
            self._poller,
            self._counters,
            self._device,
            self.budget,
            self._owner.received,
            self._owner.turned,
            self._owner.drained,
            early,
        )

    def _adopt(self, peer: Peer) -> None:
        """Go on by one of the new sockets with a peer that was heard by an old one."""
        if peer.endpoint is None:
            return
        where = spot_of(peer).where
        heir = self.facing(where.host)
        if heir is not None:
            peer.endpoint = Spot(where, heir)
            self._owner.adopted(peer)

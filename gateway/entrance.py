"""The gateway's entrance: where clients come in, and who is in.

It owns the places that are listened on (TCP and UDP on the same port of each
address), the links that are open, and the count of who came in by which of our
addresses, which is how `doctor` knows whether clients can reach this device at
all.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from eventloop.poller import Poller
from gateway.datagram_link import DatagramDoor
from gateway.link import Link, LinkOwner, SessionLink
from gateway.listeners import Doorman, StreamListener, spell
from gateway.nat.counters import Counters
from gateway.places import ALL, Address, Places
from gateway.records import Knocks
from gateway.stream_link import StreamLink
from gateway.vpn.detector import VpnDetector
from vshp.config import CloseReason
from vshp.datagram_listener import DatagramListener
from vshp.gateway_role import SecretLookup
from vshp.session import GatewaySession

MAX_KNOCKS = 64
"""Local addresses of which it is remembered whether somebody came in by them."""


_NEAR = ("127.", "169.254.", "fe80:", "::1")


class Entrance:
    """Listeners and open links."""

    def __init__(
        self,
        owner: LinkOwner,
        poller: Poller,
        counters: Counters,
        identity: bytes,
        secret: SecretLookup,
        clock: Callable[[], float],
    ) -> None:
        self.links: dict[int, Link] = {}
        """Open links, by `id`."""
        self.datagram_counters: dict[str, int] = {}
        """What became of the datagrams that began no session, at all doors there have been."""
        self.doorman = Doorman(counters, clock())
        self._owner = owner
        self._poller = poller
        self._counters = counters
        self._identity = identity
        self._secret = secret
        self._clock = clock
        self.places = Places(self._open_stream, self._open_door, counters)
        """Where clients knock."""
        self._knocks: dict[tuple[str, str], Knocks] = {}

    def listen(self, addresses: Sequence[Address], anew: bool = False) -> None:
        """Listen at these addresses; with `anew` by new sockets throughout.

        Links stay, but for those over UDP that cannot; see `gateway/places.py`. Raises
        ListenError, and nothing is changed then.
        """
        self.places.change(addresses, self._clock(), anew)

    def drop(self) -> None:
        """Close all links; devices come back by themselves."""
        now = self._clock()
        for link in list(self.links.values()):
            link.close(CloseReason.LISTENER_CLOSED, now)

    def _open_stream(self, host: str, port: int, early: bool) -> StreamListener:
        return StreamListener(host, port, self._poller, self._accepted, early, self.doorman.budget)

    def _open_door(self, host: str, port: int, early: bool) -> DatagramDoor:
        listener = DatagramListener(self._identity, self._secret, self._clock())
        listener.counters = self.datagram_counters
        return DatagramDoor(
            host,
            port,
            self._poller,
            listener,
            self.doorman,
            self._counters,
            self._owner,
            self._entered,
            early,
        )

    def close(self) -> None:
        """Listen no more. Open links are their owner's to close first."""
        self.places.close()

    def left(self, link: Link) -> None:
        """The link is closed."""
        self.links.pop(id(link), None)
        self.doorman.leave(id(link))

    def admitted(self, link: Link) -> None:
        """He who came by this link is no stranger any more: he has a lease or waits for one."""
        self.doorman.leave(id(link))

    def listening(self) -> list[str]:
        """The addresses, as `host:port`."""
        return [spell(host, port) for host, port in self.places.addresses()]

    def knocks(self) -> list[Knocks]:
        """By which local addresses somebody has come in so far."""
        return list(self._knocks.values())

    def endpoints(self, detector: VpnDetector) -> list[tuple[str, int]]:
        """Where clients can reach the listeners, the likeliest first; none without a network."""
        attached = detector.attached()
        vpn = detector.network.addresses
        own = [host for host in map(_text, attached.own) if not host.startswith(_NEAR)]
        # Where there is a link and nothing else, its addresses will do.
        own += [host for host in map(_text, attached.link_local) if host != detector.link_local]
        found: list[tuple[str, int]] = []
        for bound, port in self.places.addresses():
            if bound not in ALL:
                found.append((bound, port))
                continue
            found.extend(
                (host, port) for host in own if (":" in host) is (":" in bound) and host not in vpn
            )
        return sorted(found, key=lambda endpoint: (is_link_local(endpoint[0]), ":" in endpoint[0]))

    def _accepted(self, sock: socket.socket, address: tuple[str, int], now: float) -> None:
        if not self.doorman.admit(address[0], now):
            sock.close()
            return
        session = GatewaySession(self._identity, self._secret, now)
        self._entered(StreamLink(self._owner, self._poller, sock, address, session, now), now)

    def _entered(self, link: SessionLink, now: float) -> None:
        """A stranger's link: he holds a place until he has a lease, waits for one, or goes."""
        self.links[id(link)] = link
        host, doorman = link.host, self.doorman
        link.limit_codes(lambda now: doorman.admit_code(host, now))
        place = link.transport, link.local
        knocks = self._knocks.get(place)
        self._knocks[place] = Knocks(*place, 1 if knocks is None else knocks.count + 1, now)
        while len(self._knocks) > MAX_KNOCKS:
            del self._knocks[next(iter(self._knocks))]
        self.doorman.enter(id(link), link.host, lambda: link.close(CloseReason.BUSY, self._clock()))


def is_link_local(host: str) -> bool:
    """Whether an address reaches no further than the link."""
    return host.startswith(("169.254.", "fe80:"))


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)

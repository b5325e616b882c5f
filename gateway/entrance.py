"""The gateway's entrance: where clients of VSHP come in.

It owns the places that are listened on (TCP and UDP on the same port of each
address), and makes a link of whoever is let in by one of them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from eventloop.poller import Poller
from gateway.datagram_link import DatagramDoor
from gateway.link import LinkOwner
from gateway.listeners import StreamListener, spell, spell_address
from gateway.nat.counters import Counters
from gateway.open_links import OpenLinks
from gateway.places import ALL, Address, Places
from gateway.stream_link import StreamLink
from gateway.vpn.detector import VpnDetector
from vshp.datagram_listener import DatagramListener
from vshp.gateway_role import SecretLookup
from vshp.session import GatewaySession

_NEAR = ("127.", "169.254.", "fe80:", "::1")


class Entrance:
    """Listeners, and the links that come of them."""

    def __init__(
        self,
        owner: LinkOwner,
        links: OpenLinks,
        poller: Poller,
        counters: Counters,
        identity: bytes,
        secret: SecretLookup,
        clock: Callable[[], float],
    ) -> None:
        self.links = links
        """Who is in."""
        self.datagram_counters: dict[str, int] = {}
        """What became of the datagrams that began no session, at all doors there have been."""
        self._owner = owner
        self._poller = poller
        self._counters = counters
        self._identity = identity
        self._secret = secret
        self._clock = clock
        self.places = Places((self._open_stream, self._open_datagrams), counters)
        """Where clients knock."""

    def listen(self, addresses: Sequence[Address], anew: bool = False) -> None:
        """Listen at these addresses; with `anew` by new sockets throughout.

        Links stay, but for those over UDP that cannot; see `gateway/places.py`. Raises
        ListenError, and nothing is changed then.
        """
        self.places.change(addresses, self._clock(), anew)

    def _open_stream(self, host: str, port: int, early: bool) -> StreamListener:
        return StreamListener(
            host, port, self._poller, self._accepted, early, self.links.doorman.budget
        )

    def _open_datagrams(self, host: str, port: int, early: bool) -> DatagramDoor:
        listener = DatagramListener(self._identity, self._secret, self._clock())
        listener.counters = self.datagram_counters
        return DatagramDoor(
            host,
            port,
            self._poller,
            listener,
            self.links.doorman,
            self._counters,
            self._owner,
            self.links.entered,
            early,
        )

    def close(self) -> None:
        """Listen no more. Open links are their owner's to close first."""
        self.places.close()

    def listening(self) -> list[str]:
        """The addresses, as `host:port`."""
        return [spell(host, port) for host, port in self.places.addresses()]

    def endpoints(self, detector: VpnDetector) -> list[tuple[str, int]]:
        """Where clients can reach the listeners, the likeliest first; none without a network."""
        attached = detector.attached()
        vpn = detector.network.addresses
        own = [host for host in map(spell_address, attached.own) if not host.startswith(_NEAR)]
        # Where there is a link and nothing else, its addresses will do.
        own += [
            host for host in map(spell_address, attached.link_local) if host != detector.link_local
        ]
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
        if not self.links.doorman.admit(address[0], now):
            sock.close()
            return
        session = GatewaySession(self._identity, self._secret, now)
        link = StreamLink(self._owner, self._poller, sock, address, session, now)
        self.links.entered(link, now)


def is_link_local(host: str) -> bool:
    """Whether an address reaches no further than the link."""
    return host.startswith(("169.254.", "fe80:"))

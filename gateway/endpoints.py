"""Where the gateway can be reached, for each of those who want to know.

The entrance says where it listens and what the host is attached to; here it is put into the
words of a pairing URI, of a lease, of an announcement, and of a WireGuard app's config.
"""

from __future__ import annotations

from gateway.entrance import Entrance
from gateway.vpn.detector import VpnDetector
from vshp.endpoints import Endpoint


class Endpoints:
    """Of one gateway, as things are when it is asked."""

    def __init__(self, entrance: Entrance, detector: VpnDetector) -> None:
        self._entrance = entrance
        self._detector = detector

    def likeliest(self, most: int) -> tuple[Endpoint, ...]:
        """Where clients can reach the listeners, up to so many, the likeliest first."""
        # A scope (fe80::1%wlan0) means something on this device only: clients have their own.
        places = dict.fromkeys((host.partition("%")[0], port) for host, port in self._found())
        return tuple(Endpoint.of("any", host, port) for host, port in [*places][:most])

    def over_a_cable(self) -> tuple[Endpoint, ...]:
        """Where a client on the cable finds us: its other end is our loopback."""
        ports = [port for _, port in self._entrance.places.addresses()]
        return tuple(Endpoint.of("any", "127.0.0.1", port) for port in ports[:1])

    def on_networks(self) -> tuple[int, tuple[str, ...]]:
        """The port, and the addresses outside the VPN, that clients can reach; IPv4 first."""
        found = [
            (host, port)
            for host, port in self._found()
            if "%" not in host and not host.startswith(("127.", "::1", "fe80:"))
        ]
        port = found[0][1] if found else 0
        return port, tuple(host for host, own_port in found if own_port == port)

    def host(self) -> str:
        """Our address that a config shall name: IPv4 where there is one, for it is shorter."""
        return next((host for host, _ in self._found() if "%" not in host), "127.0.0.1")

    def _found(self) -> list[tuple[str, int]]:
        return self._entrance.endpoints(self._detector)

"""The default router as the gateway: on a phone's hotspot, and on its cable, it is.

Theory of operation. A hotspot that was switched off and on comes back with another subnet, so
no address that is known of the gateway leads there; but whoever shares a network this way is
the default router of its guests. So the router of each link on which a gateway may sit is tried
for a gateway whose key is known, beside the endpoints that are known of it. It is a guess, and
the guess costs a stranger's router one handshake: a connect that is refused is the end of it.

What a stranger learns: that a device here speaks VSHP, and how long its first message is. That
message hides who asks and whom it looks for (Noise's IK: an ephemeral key, then ciphertext under
the gateway's static key). Who took the connection and was not the gateway is left alone for a
while (`client/strangers.py`).
"""

from __future__ import annotations

from pathlib import Path

from client.judgement import HostFacts, Router
from client.kinds import kind_of
from client.model import TransportEndpoint
from client.system.interfaces import Nature, nature

MAX_ROUTERS = 4
"""Links whose router is tried."""


def router_endpoints(
    facts: HostFacts, port: int, transport: str = "auto", system: Path = Path("/")
) -> tuple[TransportEndpoint, ...]:
    """Where the gateway is if it is a default router, one place a link; guesses.

    By a stream, unless `transport` is `udp`: a stranger who does not listen refuses it at
    once, and is asked nothing. With `usb` there are none.
    """
    carrier = {"auto": "tcp", "tcp": "tcp", "udp": "udp"}.get(transport)
    if carrier is None:
        return ()
    links: dict[str, Router] = {}
    # An IPv4 router first: tethering is always IPv4, and its other address is the same host.
    for router in sorted(facts.defaults, key=lambda r: r.address.version):
        links.setdefault(router.interface, router)
    hosts = [
        (_host(router), router)
        for router in facts.defaults
        if links[router.interface] is router
        and router.address not in facts.own
        and nature(router.interface, system) is not Nature.NONE
    ]
    return tuple(
        TransportEndpoint(carrier, host, port, kind_of(host, facts, system), guessed=True)
        for host, _ in hosts[:MAX_ROUTERS]
    )


def _host(router: Router) -> str:
    address = router.address
    scoped = address.version == 6 and address.is_link_local
    return f"{address}%{router.interface}" if scoped else str(address)

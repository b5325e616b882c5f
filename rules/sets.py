"""Sets of destinations that are shipped, to be named in an entry: `deny set mail`."""

from __future__ import annotations

from ipaddress import ip_network

from rules.resolvers import ADDRESSES, NAMES
from rules.value import Destination, Protocol, Target

_PRIVATE = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  # RFC 1918
    "100.64.0.0/10",  # shared by a provider's customers (RFC 6598)
    "169.254.0.0/16", "fe80::/10",  # link-local (RFC 3927, RFC 4291)
    "fc00::/7",  # unique local (RFC 4193)
)  # fmt: skip

SETS: dict[str, tuple[Target, ...]] = {
    "private": tuple(Target(ip_network(text)) for text in _PRIVATE),
    "mail": (Target(protocol=Protocol.TCP, ports=((25, 25), (465, 465), (587, 587))),),
    "web": (Target(ports=((80, 80), (443, 443))),),
    "dns": (Target(ports=((53, 53), (853, 853))),),
    "encrypted-dns": (
        Target(ports=((853, 853),)),  # TLS (RFC 7858), and QUIC (RFC 9250)
        *(Target(name=name) for name in NAMES),
        # Over HTTPS (RFC 8484) it is like the web everywhere but at these.
        *(Target(ip_network(text), ports=((443, 443),)) for text in ADDRESSES),
    ),
}
ABOUT = {
    "private": "addresses of private and local networks",
    "mail": "sending mail: TCP ports 25, 465 and 587",
    "web": "web sites: TCP and UDP ports 80 and 443",
    "dns": "resolvers besides the gateway's, by their ports: 53 and 853",
    "encrypted-dns": "encrypted DNS: port 853, names and HTTPS addresses of well-known resolvers",
}
"""What each is, for people."""


def targets(entry: Destination) -> tuple[Target, ...]:
    """All that an entry fits. Raises KeyError where its set is none."""
    return SETS[entry.shipped] if entry.shipped else (entry.target,)

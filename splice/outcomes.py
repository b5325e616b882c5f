"""What the operating system's errors mean to a client, per family.

An `errno` from an outward socket becomes an `Outcome`: its name goes into a
counter, and it says which ICMP error (or RST) lets the client's application
see the same failure that a program on the gateway would have seen. Sources:
RFC 792, RFC 1812 5.2.7.1, RFC 4443 3.1, and what Linux turns these codes
into (`icmp_err_convert`, `icmpv6_err_convert`).
"""

from __future__ import annotations

import errno
from enum import Enum

from netstack import icmp


class Outcome(Enum):
    """Name, and ICMP destination-unreachable codes (IPv4, IPv6); None: TCP answers with RST."""

    REFUSED = ("refused", icmp.PORT_UNREACHABLE, icmp.PORT_UNREACHABLE6)
    HOST_UNREACHABLE = ("host_unreachable", icmp.HOST_UNREACHABLE, icmp.ADDRESS_UNREACHABLE6)
    NET_UNREACHABLE = ("net_unreachable", icmp.NET_UNREACHABLE, icmp.NO_ROUTE6)
    PROHIBITED = ("prohibited", icmp.ADMIN_PROHIBITED, icmp.ADMIN_PROHIBITED6)
    TIMED_OUT = ("timed_out", icmp.HOST_UNREACHABLE, icmp.ADDRESS_UNREACHABLE6)
    RESET = ("reset", icmp.PORT_UNREACHABLE, icmp.PORT_UNREACHABLE6)
    NO_DESCRIPTORS = ("no_descriptors", icmp.ADMIN_PROHIBITED, icmp.ADMIN_PROHIBITED6)
    FAILED = ("failed", icmp.HOST_UNREACHABLE, icmp.ADDRESS_UNREACHABLE6)

    def __init__(self, label: str, code4: int, code6: int) -> None:
        self.label = label
        self.code4 = code4
        self.code6 = code6

    def code(self, version: int) -> int:
        return self.code4 if version == 4 else self.code6

    @property
    def resets(self) -> bool:
        """Whether a TCP connection attempt is answered with RST rather than with ICMP."""
        return self in (Outcome.REFUSED, Outcome.RESET)


_BY_ERRNO = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.EHOSTUNREACH: Outcome.HOST_UNREACHABLE,
    errno.EHOSTDOWN: Outcome.HOST_UNREACHABLE,
    errno.ENETUNREACH: Outcome.NET_UNREACHABLE,
    errno.ENETDOWN: Outcome.NET_UNREACHABLE,
    errno.ENODEV: Outcome.NET_UNREACHABLE,
    errno.ENXIO: Outcome.NET_UNREACHABLE,
    errno.EADDRNOTAVAIL: Outcome.NET_UNREACHABLE,
    errno.EAFNOSUPPORT: Outcome.NET_UNREACHABLE,
    errno.EACCES: Outcome.PROHIBITED,
    errno.EPERM: Outcome.PROHIBITED,
    errno.ETIMEDOUT: Outcome.TIMED_OUT,
    errno.ECONNRESET: Outcome.RESET,
    errno.ECONNABORTED: Outcome.RESET,
    errno.EPIPE: Outcome.RESET,
    errno.EMFILE: Outcome.NO_DESCRIPTORS,
    errno.ENFILE: Outcome.NO_DESCRIPTORS,
    errno.ENOBUFS: Outcome.NO_DESCRIPTORS,
    errno.ENOMEM: Outcome.NO_DESCRIPTORS,
}


def outcome_of(error: OSError | int | None) -> Outcome:
    """The outcome of a failed call, or of an SO_ERROR value."""
    number = error.errno if isinstance(error, OSError) else error
    return _BY_ERRNO.get(number or 0, Outcome.FAILED)

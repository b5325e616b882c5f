"""The addresses of a tunnel: one end's and the other's, in both families."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a lease says of who is who in the tunnel. 4 and 16 bytes, in network order; empty
    where a family has none."""

    ipv4: bytes
    """The device's; likewise `ipv6`."""
    ipv6: bytes
    gateway_ipv4: bytes
    """The gateway's, where the resolver of the lease answers; likewise `gateway_ipv6`."""
    gateway_ipv6: bytes

    def own(self, version: int) -> bytes:
        """The device's, in a family."""
        return self.ipv4 if version == 4 else self.ipv6

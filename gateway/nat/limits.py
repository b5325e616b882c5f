"""Bounds on everything that a client can make the NAT hold.

They are derived from how many descriptors the process may open, because a
flow is a descriptor; memory bounds are fixed. One peer never gets more than
its share, so that a second one always finds room; `shares.py` sees to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from splice.limits import LinkLimits

RESERVED_DESCRIPTORS = 128
"""Kept for listeners, links, DNS, the store and the control socket."""


@dataclass(frozen=True, slots=True)
class Limits(LinkLimits):
    """See `limits_for`; the defaults suit the common RLIMIT_NOFILE of 32768."""

    flows: int = 30_000
    """Sockets of all peers together."""
    flows_per_peer: int = 22_500
    half_open_per_peer: int = 512
    """TCP connects under way; further ones wait their turn."""
    connects_waiting_per_peer: int = 1_024
    """TCP connects that wait. Beyond, a SYN is dropped and comes again."""
    udp_per_peer: int = 4_096
    """UDP mappings. The longest idle gives way to the newest."""
    echo_per_peer: int = 128
    """Ping identifiers in use. The longest idle gives way."""
    remotes_per_mapping: int = 4_096
    """Destinations remembered of one UDP mapping; the oldest gives way."""
    icmp_errors_per_second: int = 1_000
    """ICMP errors and resets toward one peer (RFC 1812 4.3.2.8)."""
    dns_per_peer: int = 256
    """DNS questions in the resolver's hands."""
    fragments_per_peer: int = 1024 * 1024
    """Bytes held in reassembly (RFC 815); the oldest datagram gives way."""

    @property
    def reserve(self) -> int:
        """Sockets of `flows` that are for peers with few only."""
        return self.flows // 16


@dataclass(frozen=True, slots=True)
class NatConfig:
    """Settings of the whole NAT."""

    limits: Limits = field(default_factory=Limits)
    address_dependent_filtering: bool = True
    """UDP: take datagrams only from hosts that the client has sent to (RFC 4787 5)."""


def limits_for(max_descriptors: int) -> Limits:
    """Limits for a process that may open `max_descriptors` files (RLIMIT_NOFILE, soft)."""
    flows = max(64, max_descriptors - RESERVED_DESCRIPTORS)
    per_peer = max(32, flows - flows // 4)
    return Limits(
        flows=flows,
        flows_per_peer=per_peer,
        half_open_per_peer=min(512, max(16, per_peer // 4)),
        connects_waiting_per_peer=min(1_024, max(32, per_peer // 2)),
        udp_per_peer=min(4_096, max(16, per_peer // 2)),
        echo_per_peer=min(128, max(8, per_peer // 16)),
    )

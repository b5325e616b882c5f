"""The NAT: every IP packet of every client comes in here, and finds its flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.nat.counters import Counters
from gateway.nat.flows import FlowInfo
from gateway.nat.limits import Limits
from gateway.nat.policy import EgressPolicy
from gateway.nat.ports import DnsPort, Outward
from netstack.out import PacketOut


@dataclass(frozen=True, slots=True)
class NatConfig:
    """Settings of the whole NAT."""

    limits: Limits = field(default_factory=Limits)
    address_dependent_filtering: bool = False
    """UDP: take datagrams only from hosts that the client has sent to (RFC 4787 5)."""
    lossy: bool = False


class TunnelPeer:
    """One client's side of the NAT: its addresses, its flows, its queue to the link."""

    id: str
    ipv4: bytes
    ipv6: bytes
    out: PacketOut | None
    from_tunnel_bytes: int
    to_tunnel_bytes: int
    flow_count: int

    def from_tunnel(
        self, buf: bytearray | memoryview, start: int, end: int, offload: bool, now: float
    ) -> None:
        """Take one IP packet `buf[start:end]`, after a 10-byte offload header if `offload`."""
        raise NotImplementedError

    def end_batch(self, now: float) -> None:
        """After a batch of `from_tunnel` calls: coalesced ACKs, batched sends."""
        raise NotImplementedError

    def pull(self, now: float) -> bool:
        """Fill the link's queue from readable sockets, fairly; True if more is ready."""
        raise NotImplementedError

    def set_out(self, out: PacketOut | None, now: float) -> None:
        """The link broke (None) or is back: TCP then resends what is unacknowledged."""
        raise NotImplementedError


class Nat:
    """All peers. Pure: sockets through `Outward`, time as a parameter."""

    on_output: Callable[[TunnelPeer], None]
    """Called when a peer that had nothing to send gets something (a readable socket, a packet)."""

    def __init__(
        self,
        config: NatConfig,
        outward: Outward,
        dns: DnsPort,
        policy: EgressPolicy,
        counters: Counters,
    ) -> None:
        raise NotImplementedError

    def add_peer(
        self,
        peer_id: str,
        ipv4: bytes,
        ipv6: bytes,
        gateway_ipv4: bytes,
        gateway_ipv6: bytes,
        mtu: int,
        out: PacketOut | None,
        now: float,
    ) -> TunnelPeer:
        raise NotImplementedError

    def remove_peer(self, peer: TunnelPeer, now: float) -> None:
        """Close its flows silently: the client has gone."""
        raise NotImplementedError

    def close_flows(self, reason: str, now: float, v4: bool = True, v6: bool = True) -> None:
        """The VPN is lost: RST to clients' TCP, sockets closed. `reason` goes into the counter."""
        raise NotImplementedError

    def close_flow(self, flow_id: int, now: float) -> bool:
        """Close one flow by the owner's wish; False if there is none of that id."""
        raise NotImplementedError

    def set_available(self, ipv4: bool, ipv6: bool) -> None:
        """Which families have a way out; packets of the other are answered by ICMP at once."""
        raise NotImplementedError

    def policy_changed(self, now: float) -> None:
        """The policy's networks were replaced: forget verdicts, close flows now refused."""
        raise NotImplementedError

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called next."""
        raise NotImplementedError

    def handle_timer(self, now: float) -> None:
        raise NotImplementedError

    def flows(self, peer: TunnelPeer | None = None) -> list[FlowInfo]:
        """Snapshots for the control API."""
        raise NotImplementedError

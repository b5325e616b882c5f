"""The NAT: all clients, the timers of all flows, and what they share.

Theory of operation. The gateway calls `TunnelPeer.from_tunnel` for
each packet, `end_batch` after each read of the link, and `pull` when the link
has room; sockets call their flows' `ready`. A peer that gets something to send
wakes the link that carries it (`set_out`). All of it happens in one thread,
no call blocks, time comes as a parameter.

Clients and flows share one heap of timers (`splice/timers.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from gateway.nat.admission import slow_path
from gateway.nat.admit_tcp import syn_in_time_wait
from gateway.nat.counters import Counters
from gateway.nat.icmp import EchoSession
from gateway.nat.limits import NatConfig
from gateway.nat.peer import TunnelPeer
from gateway.nat.policy import EgressPolicy
from gateway.nat.ports import DnsPort, Outward
from gateway.nat.shares import LITTLE
from gateway.nat.side import ClientSide
from gateway.nat.tcp import TcpFlow
from gateway.nat.udp import UdpMapping
from gateway.nat.verdicts import forbidden
from netstack.addresses import Addresses
from netstack.emission import BUFFER
from netstack.tcp_segment import TcpSegment
from rules.destinations import AddressRules
from splice.flow import Flow, FlowInfo
from splice.timers import Timers

__all__ = ["FlowInfo", "Nat", "NatConfig", "TunnelPeer"]


def _no_meter(_peer: ClientSide, _now: float) -> None:
    """A stop that nobody has set."""


class Nat:
    """All peers. Pure: sockets through `Outward`, time as a parameter."""

    on_metered: Callable[[ClientSide, float], None]
    """Called with the time when a peer has come to its `up_stop`, or near its `down_stop`, before
    it goes on: to move them, or to shut it out. It may come again while neither is done."""

    def __init__(
        self,
        config: NatConfig,
        outward: Outward,
        dns: DnsPort,
        policy: EgressPolicy,
        counters: Counters,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.config = config
        self.outward = outward
        self.dns = dns
        self.policy = policy
        self.counters = counters
        self.on_metered = _no_meter
        self.timers = Timers()
        self.get_timer: Callable[[], float | None] = self.timers.get_timer
        """When `handle_timer` wants to be called next; it may have moved earlier by any call."""
        self.peers: dict[str, TunnelPeer] = {}
        self.sockets = 0
        """Open sockets of all peers."""
        self.segment = TcpSegment()
        """Scratch: the segment being taken in."""
        self.datagram_buffer = bytearray(BUFFER + 65536)
        """Scratch: the datagram being read from a socket, with room for its headers in front."""
        self.datagram_view = memoryview(self.datagram_buffer)[BUFFER:]
        self._random_bytes = random_bytes
        self._ident = int.from_bytes(random_bytes(4), "big")
        self._flow_id = 0
        self._available = [True, True]

    # Peers.

    def add_peer(
        self,
        peer_id: str,
        addresses: Addresses,
        mtu: int,
        now: float,
    ) -> TunnelPeer:
        """A client with a lease, which no link carries yet (`set_out`). The id must be new."""
        if peer_id in self.peers:
            raise ValueError(f"peer {peer_id} is there already")
        self.timers.now = now
        peer = TunnelPeer(
            self,
            slow_path,
            syn_in_time_wait,
            peer_id,
            addresses,
            mtu,
            now,
        )
        self.peers[peer_id] = peer
        return peer

    def remove_peer(self, peer: TunnelPeer, now: float) -> None:
        """Close its flows: not a word to the client, RST to the hosts."""
        self.timers.now = now
        peer.close_all(now)
        if self.peers.get(peer.id) is peer:
            del self.peers[peer.id]
            self.counters.take_in(peer.counters)
            # Such as an answer of the resolver's, which comes too late.
            peer.counts = self.counters.counts

    def shut_out(self, peer: TunnelPeer, now: float) -> None:
        """Its gate closes: RST both ways, all sockets closed, and what it tries is answered by
        ICMP. It goes on asking the resolver at its gateway's address, which refuses."""
        self.timers.now = now
        peer.shut_out = True
        own = (peer.gateway_ipv4, peer.gateway_ipv6)
        for flow in peer.all_flows():
            if not (isinstance(flow, TcpFlow) and flow.host in own):
                peer.counts["flows__closed__gate"] += 1
                flow.shut(now)
        peer.wake()

    def let_in(self, peer: TunnelPeer) -> None:
        """Its gate is open again."""
        peer.shut_out = False

    def share(self) -> int:
        """Sockets that one peer may have now."""
        limits = self.config.limits
        fair = max(LITTLE, limits.flows // max(1, len(self.peers)))
        return min(limits.flows_per_peer, fair)

    # The way out.

    def available(self, version: int) -> bool:
        return self._available[version == 6]

    def set_available(self, ipv4: bool, ipv6: bool) -> None:
        """Which families have a way out; packets of the other are answered by ICMP at once.

        The flows of a family that is lost are for `close_flows`.
        """
        self._available = [ipv4, ipv6]

    def close_flows(self, reason: str, now: float, v4: bool = True, v6: bool = True) -> None:
        """The VPN is lost: RST to clients' TCP, all sockets closed. `reason` names a counter."""
        self.timers.now = now
        for peer in list(self.peers.values()):
            for flow in peer.all_flows():
                if (flow.version == 4 and v4) or (flow.version == 6 and v6):
                    peer.counts[f"flows__closed__{reason}"] += 1
                    flow.shut(now)
            peer.wake()

    def close_flow(self, flow_id: int, now: float) -> bool:
        """Close one flow by the owner's wish; False if there is none of that id."""
        self.timers.now = now
        for peer in self.peers.values():
            for flow in peer.all_flows():
                if flow.id == flow_id:
                    peer.counts["flows__closed__by_owner"] += 1
                    flow.shut(now)
                    peer.wake()
                    return True
        return False

    def policy_changed(self, now: float) -> None:
        """The policy's networks were replaced: close what it refuses now."""
        self.timers.now = now
        verdict = self.policy.verdict
        for peer in list(self.peers.values()):
            own = (peer.gateway_ipv4, peer.gateway_ipv6)
            for flow in peer.all_flows():
                if isinstance(flow, UdpMapping):
                    flow.forget_verdicts(lambda host, _port: not verdict(host))
                elif isinstance(flow, TcpFlow) and flow.host not in own and verdict(flow.host):
                    peer.counts["flows__closed__policy"] += 1
                    flow.shut(now)
            peer.wake()

    def set_rules(
        self, peer: TunnelPeer, destinations: AddressRules | None, max_flows: int | None, now: float
    ) -> None:
        """What a client's owner allows it from now on; what runs and is forbidden ends.

        TCP is reset both ways. Of a UDP port only the destinations that are refused end, and the
        next datagram to them is answered by ICMP; likewise of a ping session. Above `max_flows`
        the longest idle give way.
        """
        self.timers.now = now
        peer.destinations = destinations
        peer.max_flows = max_flows
        counts = peer.counts
        if destinations is not None:
            own = (peer.gateway_ipv4, peer.gateway_ipv6)
            rules = destinations
            for flow in peer.all_flows():
                if isinstance(flow, UdpMapping):
                    counts["udp__remotes__refused_rules"] += flow.forget_verdicts(
                        lambda host, port: not forbidden(rules, host, "udp", port)
                    )
                elif isinstance(flow, EchoSession):
                    flow.forget_verdicts(lambda host: not forbidden(rules, host, "icmp", 0))
                elif (
                    isinstance(flow, TcpFlow)
                    and flow.host not in own
                    and forbidden(rules, flow.host, "tcp", flow.port)
                ):
                    counts["flows__closed__rules"] += 1
                    flow.shut(now)
        while max_flows is not None and peer.sockets > max_flows:
            spare = peer.spares.take(now)
            if spare is None:
                break
            counts["flows__closed__rules"] += 1
            spare.give_way(now)
        peer.wake()

    # Timers.

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self.timers.handle_timer(now)
        for peer in self.peers.values():
            # What was sent again, say, is on no link yet.
            peer.end_batch(now)

    # What flows use.

    def next_flow_id(self) -> int:
        self._flow_id += 1
        return self._flow_id

    def next_ident(self) -> int:
        """A fragment identification, 32 bits."""
        self._ident = (self._ident + 1) & 0xFFFFFFFF
        return self._ident

    def initial_sequence(self) -> int:
        return int.from_bytes(self._random_bytes(4), "big")

    # For people.

    def flows(self, peer: TunnelPeer | None = None) -> list[FlowInfo]:
        """Snapshots of the open flows, of one peer or of all."""
        return [flow.info() for flow in self.open_flows(peer)]

    def open_flows(self, peer: TunnelPeer | None = None) -> list[Flow]:
        """The open flows themselves, to be read only."""
        peers = [peer] if peer is not None else list(self.peers.values())
        return [flow for one in peers for flow in one.all_flows()]

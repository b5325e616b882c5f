"""Destinations and flows of devices, as their owner bounds them: carried to NAT and resolver.

A device's list is compiled when its tunnel is opened and when its rules change, and only then;
a change of other rules costs nothing here. What is compiled belongs to the tunnel: it goes with
it, and comes with the next one before its first packet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.dns.forwarder import DnsForwarder
from gateway.nat.router import Nat, TunnelPeer
from gateway.peers import PeerRegistry
from rules.destinations import compile_addresses, compile_names
from rules.value import NO_RULES, Rules

if TYPE_CHECKING:
    from gateway.tunnels import Tunnel, Tunnels


@dataclass(slots=True)
class _Bound:
    """A device's tunnel, and by which rules it runs."""

    nat_peer: TunnelPeer
    rules: Rules = NO_RULES


class Destinations:
    """Of all devices that have a tunnel; it needs nothing but to be made."""

    def __init__(
        self,
        nat: Nat,
        names: DnsForwarder,
        registry: PeerRegistry,
        tunnels: Tunnels,
        clock: Callable[[], float],
    ) -> None:
        """`clock` is the NAT's."""
        self._nat = nat
        self._names = names
        self._registry = registry
        self._clock = clock
        self._bound: dict[bytes, _Bound] = {}
        """By the device's public key."""
        tunnels.on_enter.append(self._enter)
        tunnels.on_leave.append(self._leave)
        registry.on_rules.append(self._changed)

    def _enter(self, tunnel: Tunnel, now: float) -> None:
        """A tunnel begins: its device's rules are in force when this returns."""
        key = tunnel.public_key
        bound = self._bound[key] = _Bound(tunnel.nat_peer)
        self._carry_out(bound, self._registry.rules(key), now)

    def _leave(self, tunnel: Tunnel) -> None:
        """The tunnel has ended."""
        bound = self._bound.pop(tunnel.public_key, None)
        if bound is not None:
            self._names.set_rules(bound.nat_peer.id, None)

    def _changed(self, public_key: bytes, rules: Rules) -> None:
        """A device's rules are others from now on. Nothing happens where it has no tunnel."""
        bound = self._bound.get(public_key)
        if bound is not None:
            self._carry_out(bound, rules, self._clock())

    def _carry_out(self, bound: _Bound, rules: Rules, now: float) -> None:
        before, bound.rules = bound.rules, rules
        nat_peer = bound.nat_peer
        refused = nat_peer.destinations
        if rules.destinations != before.destinations:
            refused = compile_addresses(rules.destinations)
            self._names.set_rules(nat_peer.id, compile_names(rules.destinations))
        elif rules.max_flows == before.max_flows:
            return
        self._nat.set_rules(nat_peer, refused, rules.max_flows, now)

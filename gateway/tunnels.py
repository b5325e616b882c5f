"""Tunnels: what an approved device holds while it is, or may soon be, connected.

Theory of operation. A tunnel is a peer's lease, its side of the NAT with all
flows, and the link that carries them at the moment. A lease is sent in the
answer to HELLO, but takes effect only when the client has spoken under the
session's keys, so that a replayed first message changes nothing. The link may
break: the tunnel then waits, flows and all, until its grace time is over, and
the next link of the same device that shows a good ticket takes it over. A
device has one tunnel at most; a session without a ticket replaces it.

A lease ends; while its device is connected it is renewed in time, by a CONFIG
delta, and its ticket with it. A device that is away loses it with the grace time,
which is shorter.

A tunnel lives in this process only, so everything about it is judged by the
monotonic clock: tickets, too, whose seconds are Unix time as it was at the start
plus what has passed since. Somebody who sets the wall clock ends no session.

    (none) --lease granted and confirmed--> CONNECTED --link broken--> WAITING
    WAITING --another link resumes--> CONNECTED      WAITING --grace over--> (none)
    CONNECTED --another link resumes--> CONNECTED    any --ended, replaced--> (none)
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import takewhile

from eventloop.clock import Clock
from eventloop.poller import NEVER
from gateway.gates import Gates
from gateway.journal import Journal
from gateway.leases import LEASE_SECONDS, AddressPool, PoolError
from gateway.link import Link, SessionLink
from gateway.model import TunnelLease, peer_id
from gateway.nat.counters import Counters
from gateway.nat.router import Nat, TunnelPeer
from gateway.peers import PeerRegistry
from gateway.rates import RateMeter
from rules.value import Rules
from vshp.config import Capability, CloseReason, LeaseConfig, Resume
from vshp.constants import DATAGRAM_OVERHEAD, MIN_MTU
from vshp.endpoints import Endpoint
from vshp.errors import Refused
from vshp.events import HelloReceived
from vshp.tickets import Ticket, TicketBook


@dataclass(slots=True)
class Tunnel:
    """One device's tunnel. Times are monotonic seconds."""

    public_key: bytes
    """Whose it is; what is known of the device, the registry tells."""
    lease: TunnelLease
    config: LeaseConfig | None
    """The lease as a VSHP client was told it last, the base of a CONFIG delta; None where the
    device has its addresses from elsewhere."""
    nat_peer: TunnelPeer
    up_rate: RateMeter
    down_rate: RateMeter
    link: Link | None = None
    waits_until: float = 0.0
    """End of the grace time, while there is no link."""
    connected_at: float = 0.0
    generation: int = 0
    """Of the newest ticket that the client is known to hold."""
    renews_at: float = 0.0
    """When the lease is half over, which is the time to renew it; never where it has no end."""
    rtt: float | None = None
    """Seconds, smoothed."""
    asked_at: float = float("-inf")
    """When the round trip was asked for, because somebody looked."""

    @property
    def connected(self) -> bool:
        return self.link is not None and self.link.live

    @property
    def session_id(self) -> bytes | None:
        return None if self.config is None else self.config.session_id


@dataclass(slots=True)
class _Granted:
    """A lease sent to a client that has not confirmed it yet."""

    link: SessionLink
    public_key: bytes
    lease: TunnelLease
    config: LeaseConfig
    generation: int
    """Of the ticket in `config`."""


class Tunnels:
    """All tunnels: gives leases, resumes, opens and closes accounts in the books."""

    def __init__(
        self,
        nat: Nat,
        pool: AddressPool,
        registry: PeerRegistry,
        tickets: TicketBook,
        counters: Counters,
        journal: Journal,
        gates: Gates,
        clock: Clock,
        name: str,
        mtu: int,
        grace: float,
        lease: float = LEASE_SECONDS,
    ) -> None:
        """`mtu` bounds the leases' MTU; `grace` is how long a broken link is waited for;
        `lease` is how long a lease is good. Seconds."""
        self.pool = pool
        self.mtu = mtu
        self.grace = grace
        self.seconds = lease
        self._nat = nat
        self._registry = registry
        self._tickets = tickets
        self._counters = counters
        self._journal = journal
        self.gates = gates
        self._clock = clock
        self._epoch = clock.epoch()
        """Unix time when the monotonic clock began, as it looked when this process did."""
        self.name = name
        self.endpoints: tuple[Endpoint, ...] = ()
        """Where the gateway listens, as clients are told; see `tell_endpoints`."""
        self.on_enter: list[Callable[[Tunnel, float], None]] = []
        """Called with each tunnel that begins, before its first packet."""
        self.on_leave: list[Callable[[Tunnel], None]] = []
        """Called with each that has ended."""
        self.wake_by: Callable[[float], None] = lambda at: None
        """Called with a moment at which `handle_timer` is to be called at the latest."""
        self._by_key: dict[bytes, Tunnel] = {}
        self._granted: dict[int, _Granted] = {}
        """By their link's id, the oldest first."""
        self._ended_up = 0
        self._ended_down = 0

    # --- look-ups ----------------------------------------------------------------------------

    def all(self) -> list[Tunnel]:
        return list(self._by_key.values())

    def of_key(self, public_key: bytes) -> Tunnel | None:
        return self._by_key.get(public_key)

    def of_link(self, link: Link) -> Tunnel | None:
        """The tunnel that this link carries now."""
        key = link.public_key
        tunnel = None if key is None else self._by_key.get(key)
        return tunnel if tunnel is not None and tunnel.link is link else None

    def connected(self) -> int:
        return sum(tunnel.connected for tunnel in self._by_key.values())

    def totals(self) -> tuple[int, int]:
        """Bytes from and to all tunnels since the start, ended ones included."""
        up, down = self._ended_up, self._ended_down
        for tunnel in self._by_key.values():
            up += tunnel.nat_peer.from_tunnel_bytes
            down += tunnel.nat_peer.to_tunnel_bytes
        return up, down

    # --- leases ------------------------------------------------------------------------------

    def grant(
        self,
        link: SessionLink,
        hello: HelloReceived,
        ipv6_internet: bool,
        now: float,
    ) -> bool:
        """Send the device its lease; True when it took effect at once (see `confirmed`)."""
        key = hello.public_key
        tunnel = self._by_key.get(key)
        base = None
        generation = 0
        if hello.resume is not None:
            ticket = self._open_ticket(hello.resume, key, now)
            if ticket is not None and tunnel is not None and ticket.session_id == tunnel.session_id:
                base, generation = tunnel.config, ticket.generation
        networks = [(network.address, network.prefix) for network in hello.networks]
        pool = self.pool.beside(networks, b"" if base is None else base.ipv4)
        try:
            addresses = pool.addresses(self._registry.lease_number(key))
        except PoolError:
            link.close(CloseReason.BUSY, now, "no lease address is left")
            return False
        if base is not None and base.ipv4 != addresses.ipv4:
            # The device has come to a network with the addresses it had: its flows are of no use.
            self._counters.counts["session__addresses__not_resumed"] += 1
            base, generation = None, 0
        session_id = secrets.token_bytes(16) if base is None else base.session_id
        offload = link.offload and bool(hello.capabilities & Capability.OFFLOAD)
        config = LeaseConfig(
            session_id=session_id,
            ipv4=addresses.ipv4,
            ipv6=addresses.ipv6,
            gateway_ipv4=addresses.gateway_ipv4,
            gateway_ipv6=addresses.gateway_ipv6,
            prefix_ipv4=pool.ipv4.prefixlen,
            prefix_ipv6=pool.ipv6.prefixlen,
            mtu=MIN_MTU if link.searches_path else min(self.mtu, hello.mtu),
            offload=offload,
            offload_udp=offload and bool(hello.capabilities & Capability.OFFLOAD_UDP),
            expires_in=int(self.seconds),
            name=self.name,
            ticket=self._tickets.issue(session_id, key, self._epoch + now, generation),
            ipv6_internet=ipv6_internet,
            resumed=base is not None,
            endpoints=self.endpoints,
        )
        lease = TunnelLease(
            id=session_id.hex()[:8],
            peer_id=peer_id(key),
            addresses=addresses,
            mtu=config.mtu,
            offload=offload,
            expires=now + self.seconds,
        )
        self._granted[id(link)] = _Granted(link, key, lease, config, generation + 1)
        link.grant(config, base, now)
        return link.confirmed and self.confirmed(link, now)

    def confirmed(self, link: SessionLink, now: float) -> bool:
        """The client speaks under the session's keys: a lease it was given takes effect.

        Leases that the device was given before, on other links, can take effect no more: it
        has gone on to this one, and what it had said there may arrive late.
        """
        granted = self._granted.get(id(link))
        if granted is None:
            return False
        for outdated in self._outdated_by(granted):
            outdated.close(CloseReason.REPLACED, now)
        del self._granted[id(link)]
        tunnel = self._by_key.get(granted.public_key)
        earlier = None if tunnel is None else tunnel.link
        if tunnel is not None and granted.config.session_id == tunnel.session_id:
            tunnel.config = granted.config
            tunnel.lease = granted.lease
            self._counters.counts["session__resumed"] += 1
        else:
            if tunnel is not None:
                self.end(tunnel, now)
            tunnel = self._open(granted, now)
        tunnel.generation = granted.generation
        self._tickets.confirm(granted.config.session_id, granted.generation)
        tunnel.renews_at = now + self.seconds / 2
        self.wake_by(tunnel.renews_at)
        self._put(tunnel, link, now)
        if earlier is not None and earlier is not link:
            earlier.detach()
            earlier.close(CloseReason.REPLACED, now)
        return True

    def carry(self, link: Link, public_key: bytes, lease: TunnelLease, now: float) -> None:
        """A device that has its addresses already speaks, by this link: open its tunnel, or go on
        with the one that waits."""
        tunnel = self._by_key.get(public_key)
        if tunnel is None:
            tunnel = self._enter(public_key, lease, None, now)
            tunnel.renews_at = NEVER
        else:
            self._counters.counts["session__resumed"] += 1
        self._put(tunnel, link, now)

    def _put(self, tunnel: Tunnel, link: Link, now: float) -> None:
        """The tunnel's packets go by this link from now on."""
        before, device = tunnel.link, self._registry.device(tunnel.public_key)
        if not tunnel.connected_at:
            self._journal.connected(device, link, now)
        elif before is None:
            self._journal.resumed(device, link, now)
        elif before is not link:
            self._journal.moved(device, link, now)
        if not tunnel.connected_at:
            self.gates.enter(tunnel, now)
        tunnel.link = link
        tunnel.connected_at = now
        link.attach(tunnel.nat_peer)
        tunnel.nat_peer.set_out(link.out, link.wake, now, link.reliable)

    def _outdated_by(self, granted: _Granted) -> list[SessionLink]:
        """The links on which this device was given a lease earlier and has not confirmed it."""
        key = granted.public_key
        before = takewhile(lambda other: other is not granted, self._granted.values())
        return [other.link for other in before if other.public_key == key]

    def path_found(self, link: Link, payload: int, now: float) -> None:
        """The path of a datagram link was probed: widen (or narrow) the lease's MTU."""
        tunnel = self.of_link(link)
        if tunnel is None or tunnel.config is None:
            return
        mtu = max(MIN_MTU, min(self.mtu, payload - DATAGRAM_OVERHEAD))
        if mtu != tunnel.config.mtu:
            tunnel.config = replace(tunnel.config, mtu=mtu)
            tunnel.lease = replace(tunnel.lease, mtu=mtu)
            tunnel.nat_peer.set_mtu(mtu)
            link.change(tunnel.config, now)

    def tell_endpoints(self, endpoints: tuple[Endpoint, ...], now: float) -> None:
        """The gateway listens at these now: tell connected clients, and whoever comes."""
        self.endpoints = endpoints
        for tunnel in self._by_key.values():
            link, config = tunnel.link, tunnel.config
            if link is not None and config is not None and config.endpoints != endpoints:
                tunnel.config = replace(config, endpoints=endpoints)
                link.change(tunnel.config, now)

    def renew(self, now: float) -> None:
        """Lengthen the leases of connected devices that are half over."""
        for tunnel in self._by_key.values():
            link, config = tunnel.link, tunnel.config
            if tunnel.renews_at > now or config is None or link is None:
                continue
            tunnel.renews_at = now + self.seconds / 2
            tunnel.lease = replace(tunnel.lease, expires=now + self.seconds)
            # A link may outlast its ticket: the same generation, issued anew.
            ticket = self._tickets.issue(
                config.session_id,
                tunnel.public_key,
                self._epoch + now,
                tunnel.generation - 1,
            )
            tunnel.config = replace(config, expires_in=int(self.seconds), ticket=ticket)
            self._counters.counts["session__lease__renewed"] += 1
            link.change(tunnel.config, now)

    def _open_ticket(self, resume: Resume, key: bytes, now: float) -> Ticket | None:
        """The ticket, if it is good: a bad one costs its holder only the old session."""
        try:
            return self._tickets.open(resume.ticket, resume.session_id, key, self._epoch + now)
        except Refused as refused:
            self._counters.counts[f"session__{refused.reason}__not_resumed"] += 1
            return None

    def _open(self, granted: _Granted, now: float) -> Tunnel:
        config = replace(granted.config, resumed=False)
        return self._enter(granted.public_key, granted.lease, config, now)

    def _enter(
        self, public_key: bytes, lease: TunnelLease, config: LeaseConfig | None, now: float
    ) -> Tunnel:
        nat_peer = self._nat.add_peer(
            lease.peer_id,
            lease.addresses,
            lease.mtu,
            now,
        )
        rules = self._registry.rules(public_key)
        nat_peer.set_speed_limits(rules.limit_up, rules.limit_down, now)
        tunnel = Tunnel(public_key, lease, config, nat_peer, RateMeter(now), RateMeter(now))
        self._by_key[public_key] = tunnel
        self._registry.books.open(public_key, nat_peer)
        self._counters.counts["session__opened"] += 1
        for told in self.on_enter:
            told(tunnel, now)
        return tunnel

    def limit(self, public_key: bytes, rules: Rules, now: float) -> None:
        """The device's speed limits are these now, on what it has running as well."""
        tunnel = self._by_key.get(public_key)
        if tunnel is not None:
            tunnel.nat_peer.set_speed_limits(rules.limit_up, rules.limit_down, now)

    # --- the end -----------------------------------------------------------------------------

    def link_gone(self, link: Link, now: float) -> bool:
        """The link closed; True when it carried a tunnel, which now waits."""
        self._granted.pop(id(link), None)
        tunnel = self.of_link(link)
        if tunnel is None:
            return False
        tunnel.link = None
        tunnel.waits_until = now + self.grace
        self.wake_by(tunnel.waits_until)
        tunnel.nat_peer.link_lost(now)
        return True

    def end(self, tunnel: Tunnel, now: float) -> None:
        """Close the flows and forget the tunnel; its link, if any, is the caller's to close."""
        if tunnel.link is not None:
            tunnel.link.detach()
            tunnel.link = None
        self._nat.remove_peer(tunnel.nat_peer, now)
        self._ended_up += tunnel.nat_peer.from_tunnel_bytes
        self._ended_down += tunnel.nat_peer.to_tunnel_bytes
        self._registry.books.close(tunnel.public_key, self._clock.wall())
        if tunnel.session_id is not None:
            self._tickets.forget(tunnel.session_id)
        del self._by_key[tunnel.public_key]
        for told in self.on_leave:
            told(tunnel)
        self.gates.leave(tunnel)

    def get_timer(self) -> float | None:
        """When the next waiting tunnel's grace time is over, or a lease is to be renewed."""
        earliest: float | None = None
        for tunnel in self._by_key.values():
            at = tunnel.waits_until if tunnel.link is None else tunnel.renews_at
            if at < NEVER and (earliest is None or at < earliest):
                earliest = at
        return earliest

    def handle_timer(self, now: float) -> bool:
        """True when a tunnel has ended."""
        over = self.expire(now)
        self.renew(now)
        return over

    def expire(self, now: float) -> bool:
        """End the tunnels that were waited for in vain; True when there were any."""
        over = [t for t in self._by_key.values() if t.link is None and t.waits_until <= now]
        for tunnel in over:
            self._counters.counts["session__grace__expired"] += 1
            self.end(tunnel, now)
            self._journal.given_up(self._registry.device(tunnel.public_key), now)
        return bool(over)

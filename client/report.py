"""What the client can say about itself: the fields of a snapshot, kept up to date."""

from __future__ import annotations

import ipaddress

from client.driver import LinkDriver
from client.guard import GuardSnapshot
from client.model import ClientSnapshot, ClientState, LeaseSnapshot
from client.rates import RateMeter
from vshp.config import GatewayStatus, LeaseConfig


class Report:
    """Owned by the client; links add their counters when they end."""

    def __init__(self, label: str = "", fingerprint: str = "") -> None:
        self.label = label
        self.fingerprint = fingerprint
        self.error: str | None = None
        self.reason: str | None = None
        self.code: str | None = None
        self.rtt: float | None = None
        self._gateway: str | None = None
        self._gateway_fingerprint: str | None = None
        self._interface: str | None = None
        self._lease: LeaseConfig | None = None
        self._leased_at = 0.0
        self._connected_at: float | None = None
        self._sharing: str | None = None
        self._shut_out = ""
        self._quota_left: int | None = None
        self._reconnects = 0
        self._from_tunnel = 0
        self._to_tunnel = 0
        self._counters: dict[str, int] = {}
        self._from_rate = RateMeter()
        self._to_rate = RateMeter()

    def begin(self, gateway: str, gateway_fingerprint: str | None, interface: str) -> Report:
        """The report of a new run toward a gateway: nothing of this one is true any more."""
        fresh = Report(self.label, self.fingerprint)
        fresh._gateway = gateway or None
        fresh._gateway_fingerprint = gateway_fingerprint
        fresh._interface = interface
        return fresh

    def met(self, gateway_fingerprint: str) -> None:
        """A first contact has shown the gateway's key."""
        self._gateway_fingerprint = gateway_fingerprint

    def leased(self, lease: LeaseConfig, interface: str, now: float) -> None:
        """A lease is in force, or changed."""
        if self._connected_at is None:
            self._connected_at = now
        self._lease, self._leased_at = lease, now
        self._gateway = lease.name or self._gateway
        self._interface = interface
        self.error = self.reason = self.code = None

    def status(self, status: GatewayStatus) -> bool:
        """The gateway spoke of itself; whether it said something new."""
        before = (self._sharing, self._shut_out, self._quota_left)
        if not status.sharing:
            self._sharing = "off"
        else:
            self._sharing = "on" if status.vpn_up else "unavailable"
        self._shut_out, self._quota_left = status.shut_out, status.quota_left
        return (self._sharing, self._shut_out, self._quota_left) != before

    def broken(self) -> None:
        """The link broke; the lease stays for the next one."""
        self._reconnects += 1
        self._connected_at = None
        self.rtt = None

    def end(self) -> None:
        """The run is over; counters stay for reading."""
        self._lease = self._interface = self._sharing = self._connected_at = None
        self._shut_out, self._quota_left = "", None
        self.error = self.reason = self.code = self.rtt = None

    def count(self, name: str) -> None:
        """Something happened that no link counts."""
        self._counters[name] = self._counters.get(name, 0) + 1

    def add(self, link: LinkDriver | None) -> None:
        """A link has ended: keep its counts."""
        if link is None:
            return
        self._from_tunnel += link.received_packets_bytes
        self._to_tunnel += link.sent_packets_bytes
        for name, count in link.counters.items():
            self._counters[name] = self._counters.get(name, 0) + count

    @property
    def gateway(self) -> str:
        """Its name, or where it was looked for."""
        return self._gateway or ""

    @property
    def sharing(self) -> str | None:
        """As the gateway's STATUS said last; None without one."""
        return self._sharing

    @property
    def shut_out(self) -> str:
        """Why the gateway's owner does not let this device use the tunnel now; empty if he does."""
        return self._shut_out

    @property
    def addresses(self) -> tuple[str, ...]:
        """The tunnel's addresses on this host; none without a lease."""
        lease = self._lease
        if lease is None:
            return ()
        held = (address for address in (lease.ipv4, lease.ipv6) if any(address))
        return tuple(str(ipaddress.ip_address(address)) for address in held)

    def snapshot(
        self, state: ClientState, link: LinkDriver | None, guard: GuardSnapshot, now: float
    ) -> ClientSnapshot:
        """Everything at this moment; `link` is the running one."""
        from_tunnel, to_tunnel = self._from_tunnel, self._to_tunnel
        counters = dict(self._counters)
        if link is not None:
            from_tunnel += link.received_packets_bytes
            to_tunnel += link.sent_packets_bytes
            for name, count in link.counters.items():
                counters[name] = counters.get(name, 0) + count
        return ClientSnapshot(
            state=state,
            label=self.label,
            fingerprint=self.fingerprint,
            reason=self.reason,
            error=self.error,
            code=self.code,
            gateway=self._gateway,
            gateway_fingerprint=self._gateway_fingerprint,
            endpoint=str(link.endpoint) if link is not None else None,
            transport=link.endpoint.transport if link is not None else None,
            interface=self._interface,
            lease=self._lease_snapshot(now),
            sharing=self._sharing,
            shut_out=self._shut_out,
            quota_left=self._quota_left,
            connected_for=None if self._connected_at is None else now - self._connected_at,
            reconnects=self._reconnects,
            rtt_ms=None if self.rtt is None else self.rtt * 1000,
            from_tunnel_bytes=from_tunnel,
            to_tunnel_bytes=to_tunnel,
            from_tunnel_rate=self._from_rate.sample(from_tunnel, now),
            to_tunnel_rate=self._to_rate.sample(to_tunnel, now),
            counters=counters,
            guard=guard,
        )

    def _lease_snapshot(self, now: float) -> LeaseSnapshot | None:
        lease = self._lease
        if lease is None:
            return None
        gateways = tuple(
            str(ipaddress.ip_address(address))
            for address in (lease.gateway_ipv4, lease.gateway_ipv6)
            if any(address)
        )
        return LeaseSnapshot(
            ipv4=str(ipaddress.ip_address(lease.ipv4)),
            ipv6=str(ipaddress.ip_address(lease.ipv6)),
            gateway_ipv4=str(ipaddress.ip_address(lease.gateway_ipv4)),
            gateway_ipv6=str(ipaddress.ip_address(lease.gateway_ipv6)),
            dns=gateways,
            mtu=lease.mtu,
            offload=lease.offload,
            expires_in=max(0.0, self._leased_at + lease.expires_in - now),
        )

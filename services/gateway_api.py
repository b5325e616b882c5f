"""The gateway in the control API's words: methods to calls, domain objects to records.

Nothing is decided here, and nothing is computed but what somebody looks at.
"""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from control import methods as m
from control import schema as s
from control.errors import Code, ControlError
from control.registry import Handler, Registry
from control.traffic import INTERVAL, Counts, Reading
from gateway.gates import Gates
from gateway.gateway import Gateway
from gateway.listeners import ListenError
from gateway.model import PairingRequest, PeerDevice, VpnNetwork, fingerprint
from gateway.pairing import NoSuchRequest
from gateway.peers import NoSuchPeer
from gateway.proof import EgressReport
from gateway.tunnels import Tunnel
from gateway.vpn.snapshot import Interface
from services import interfaces
from services.check.check import Checker, of_gateway
from services.counted import refusals
from services.doctor.doctor import Doctor
from services.events import EventBook
from services.flow_pages import FlowPages
from services.logs import Ring, clean
from services.rules_api import RulesApi
from services.sampling import Sampler
from services.settings import Settings
from services.usage_api import usage
from services.version import running
from services.wake import WakeLock
from services.wireguard_api import add_device, invite_device, renew_device, wireguard_state
from vshp.constants import DEFAULT_PORT

MAX_LABEL = 64
"""Characters of a device's name, as in HELLO."""
SHOWN = 4
"""Devices that are named where one is meant."""
NO_NETWORK = (
    "This device is on no network where another could be: turn on its hotspot or Wi-Fi, or plug "
    "in a cable, and ask for a new code. Over USB this one works."
)


class GatewayApi:
    """Handlers for every method of the gateway's table."""

    def __init__(
        self,
        gateway: Gateway,
        ring: Ring,
        shut_down: Callable[[], None],
        settings: Settings,
        wake: WakeLock,
        doctor: Doctor,
        told: Callable[[], list[s.Unwritten]] = list,
        events: EventBook | None = None,
    ) -> None:
        """`told`: what is in force and not stored (`StoreKeeper.told`); `events`: what happened."""
        self._gateway = gateway
        self._clock = gateway.clock
        self._told = told
        self._events = events or EventBook(None, "gateway")
        self._settings = settings
        self._wake = wake
        self._doctor = doctor
        self._checker = Checker(partial(of_gateway, gateway, settings))
        self._ring = ring
        self._shut_down = shut_down
        self._pages = FlowPages(self._name_of)
        self._rules = RulesApi(gateway.registry, settings, gateway.clock)
        self.traffic_history = Sampler(self._counts, gateway.clock.now)
        """For the service to start and stop."""

    def _name_of(self, peer_id: str, address: bytes, began: float) -> str:
        return self._gateway.snapshots.name_of(peer_id, address, began)

    def registry(self) -> Registry:
        handlers: dict[str, Handler] = {
            "status": lambda _: self.status(),
            "share": self.share,
            "unshare": self.unshare,
            "relisten": self.relisten,
            "pair": self.pair,
            "offers": self.offers,
            "requests": self.requests,
            "approve": self.approve,
            "deny": self.deny,
            "undeny": self.undeny,
            "peers": self.peers,
            "revoke": self.revoke,
            "rename": self.rename,
            "rules": self.rules,
            "set_rules": self.set_rules,
            "templates": lambda _: self._rules.templates(),
            "set_template": self._rules.set_template,
            "leases": self.leases,
            "flows": self.flows,
            "close_flow": self.close_flow,
            "dns": lambda _: self.dns(),
            "traffic": self.traffic,
            "usage": self.usage,
            "counters": self.counters,
            "wireguard": lambda _: wireguard_state(self._gateway),
            "wireguard_add": self.wireguard_add,
            "wireguard_invite": self.wireguard_invite,
            "wireguard_renew": self.wireguard_renew,
            "settings": lambda _: self._settings.read(),
            "set": self._settings.set,
            "doctor": lambda _: self._doctor.run(),
            "check": self._checker.run,
            "logs": lambda p: self._ring.page(p).lines,
            "log": self._ring.page,
            "events": self._events.page,
            "shutdown": self.shutdown,
        }
        return Registry("gateway", running(), m.GATEWAY, handlers)

    # The session

    def status(self) -> s.GatewayStatus:
        gateway, now = self._gateway, self._gateway.snapshots.status()
        return s.GatewayStatus(
            pid=os.getpid(),
            version=running(),
            api=s.API_VERSION,
            role="gateway",
            name=gateway.owner.config.name,
            fingerprint=gateway.fingerprint,
            sharing=now.sharing,
            vpn=_vpn(now.vpn, now.guard, gateway.detector.interfaces),
            listen=now.listen,
            uptime=now.uptime,
            peers=now.peers,
            connected=now.connected,
            requests=now.requests,
            flows=now.flows,
            from_tunnel_bytes=now.from_tunnel_bytes,
            to_tunnel_bytes=now.to_tunnel_bytes,
            from_tunnel_rate=now.from_tunnel_rate,
            to_tunnel_rate=now.to_tunnel_rate,
            counters=now.counters,
            alarms=now.alarms,
            bypass=now.bypass,
            egress=_egress(now.egress, self._clock.now()),
            wake_lock=self._wake.state,
            unwritten=self._told(),
        )

    def share(self, _: m.NoParams) -> s.GatewayStatus:
        self._gateway.owner.share()
        return self.status()

    def unshare(self, _: m.NoParams) -> s.GatewayStatus:
        self._gateway.owner.unshare()
        return self.status()

    def relisten(self, params: m.RelistenParams) -> s.GatewayStatus:
        try:
            self._gateway.owner.relisten(params.drop)
        except ListenError as exc:
            raise cannot_listen(exc) from None
        return self.status()

    def shutdown(self, _: m.NoParams) -> m.Done:
        self._shut_down()
        return m.Done()

    # Pairing

    def pair(self, params: m.PairParams) -> s.PairOffer:
        offer = self._gateway.owner.pair(params.seconds)
        return s.PairOffer(
            uri=offer.uri,
            expires_in=offer.expires_in,
            name=self._gateway.owner.config.name,
            endpoints=list(offer.endpoints),
            fingerprint=self._gateway.fingerprint,
            id=offer.id,
            note="" if offer.endpoints else NO_NETWORK,
            address=next(iter(offer.endpoints), "").removesuffix(f":{DEFAULT_PORT}"),
        )

    def offers(self, _: m.NoParams) -> list[s.OfferState]:
        # To a tenth of a second: the difference of the two clocks is not quite steady.
        now, wall = self._clock.now(), self._clock.wall()
        return [
            s.OfferState(
                each.id, each.state(now), round(wall + each.expires - now, 1), each.used_by
            )
            for each in self._gateway.offers.read()
        ]

    def requests(self, _: m.NoParams) -> list[s.Request]:
        now = self._clock.now()
        return [_request(request, now) for request in self._gateway.snapshots.requests()]

    def approve(self, params: m.ApproveParams) -> m.Done:
        try:
            rules = self._rules.approving(
                self._gateway.snapshots.request(params.id).public_key, params
            )
            return self._done(self._gateway.owner.approve(params.id, rules))
        except NoSuchRequest:
            raise self._no_request(params.id) from None

    def deny(self, params: m.IdParams) -> m.Done:
        try:
            request = self._gateway.owner.deny(params.id)
        except NoSuchRequest:
            raise self._no_request(params.id) from None
        return m.Done(request.id, request.label)

    def undeny(self, params: m.UndenyParams) -> m.Done:
        try:
            request = self._gateway.owner.undeny(params.id)
        except NoSuchRequest:
            what = "No denial" if params.id is None else f"No denial of a request {params.id!r}"
            raise ControlError(
                Code.NOT_FOUND,
                f"{what} can be taken back: it may be over, or the device may ask already.",
                "A device that asks again is in: vpnshare requests",
            ) from None
        return m.Done(request.id, request.label)

    def _no_request(self, id: str) -> ControlError:
        if sum(request.id.startswith(id) for request in self._gateway.snapshots.requests()) > 1:
            return ControlError(Code.CONFLICT, f"Several requests begin with {id!r}.")
        return ControlError(
            Code.NOT_FOUND,
            f"No request {id!r} is waiting; it may have expired or been answered.",
            "See: vpnshare requests",
        )

    def wireguard_add(self, params: m.WireguardAddParams) -> s.WireguardConfig:
        _check_label(params.label)
        return add_device(self._gateway, params)

    def wireguard_invite(self, params: m.WireguardInviteParams) -> s.WireguardConfig:
        _check_label(params.label)
        return invite_device(self._gateway, params)

    def wireguard_renew(self, params: m.WireguardRenewParams) -> s.WireguardConfig:
        try:
            return renew_device(self._gateway, params)
        except NoSuchPeer:
            raise self._no_peer(params.id) from None

    # Devices

    def peers(self, _: m.NoParams) -> list[s.Peer]:
        tunnels = {tunnel.public_key: tunnel for tunnel in self._gateway.snapshots.tunnels()}
        return [
            self._peer(peer, tunnels.get(peer.public_key))
            for peer in self._gateway.snapshots.peers()
        ]

    def _peer(self, peer: PeerDevice, tunnel: Tunnel | None) -> s.Peer:
        books = self._gateway.books
        up, down = books.total(peer.public_key)
        up_today, down_today = books.today(peer.public_key, self._clock.wall())
        gates = self._gateway.gates
        if tunnel is None:
            verdict, shut_out = gates.away(peer.public_key)
        else:
            verdict, shut_out = gates.read(tunnel)
        return s.Peer(
            id=peer.id,
            label=peer.label,
            platform=peer.platform,
            fingerprint=fingerprint(peer.public_key),
            first_seen_at=peer.first_seen,
            last_seen_at=peer.last_seen,
            revoked=peer.revoked,
            connected=tunnel is not None and tunnel.connected,
            from_tunnel_bytes=up,
            to_tunnel_bytes=down,
            from_tunnel_today=up_today,
            to_tunnel_today=down_today,
            kind=str(peer.kind),
            rules=self._rules.line(peer.public_key),
            gate=verdict.state,
            shut_out=shut_out,
            quota_left=verdict.left,
        )

    def rules(self, params: m.IdParams) -> s.DeviceRules:
        return self._rules.show(self._device(params.id))

    def counters(self, params: m.IdParams) -> s.DeviceCounters:
        peer = self._device(params.id)
        counts = self._gateway.snapshots.counted_of(peer.public_key)
        return s.DeviceCounters(peer.id, peer.label, counts, refusals(counts))

    def set_rules(self, params: m.SetRulesParams) -> s.DeviceRules:
        peer = self._device(params.id)
        self._gateway.owner.set_rules(peer, self._rules.judged(peer.public_key, params))
        return replace(self._rules.show(peer), unwritten=self._told())

    def _device(self, id: str) -> PeerDevice:
        try:
            return self._gateway.registry.find(id)
        except NoSuchPeer:
            raise self._no_peer(id) from None

    def revoke(self, params: m.IdParams) -> m.Done:
        try:
            return self._done(self._gateway.owner.revoke(params.id))
        except NoSuchPeer:
            raise self._no_peer(params.id) from None

    def rename(self, params: m.RenameParams) -> m.Done:
        _check_label(params.label)
        try:
            return self._done(self._gateway.owner.rename(params.id, params.label))
        except NoSuchPeer:
            raise self._no_peer(params.id) from None

    def _done(self, peer: PeerDevice) -> m.Done:
        return m.Done(peer.id, peer.label, self._told())

    def _no_peer(self, id: str) -> ControlError:
        fitting = [
            p for p in self._gateway.snapshots.peers() if p.id.startswith(id) or p.label == id
        ]
        if len(fitting) > 1:
            each = ", ".join(f"{peer.id} ({clean(peer.label)})" for peer in fitting[:SHOWN])
            more = "..." if len(fitting) > SHOWN else ""
            return ControlError(
                Code.CONFLICT, f"Several devices go by {id!r}: {each}{more}.",
                "Give the id, or more of it.",
            )  # fmt: skip
        return ControlError(Code.NOT_FOUND, f"No device goes by {id!r}.", "See: vpnshare peers")

    def leases(self, _: m.NoParams) -> list[s.Lease]:
        gateway, now = self._gateway, self._clock.now()
        gateway.snapshots.ask_round_trips()
        return [
            _lease(
                tunnel,
                gateway.registry.device(tunnel.public_key).label,
                gateway.gates,
                now,
            )
            for tunnel in gateway.snapshots.tunnels()
        ]

    # Flows

    async def flows(self, params: m.FlowsParams) -> s.Flows:
        try:
            flows = self._gateway.snapshots.flows(params.peer)
        except NoSuchPeer:
            raise self._no_peer(params.peer or "") from None
        labels = {peer.id: peer.label for peer in self._gateway.snapshots.peers()}
        return await self._pages.page(flows, labels, params, self._clock.now())

    def close_flow(self, params: m.FlowParams) -> m.Done:
        if not self._gateway.owner.close_flow(params.id):
            raise ControlError(Code.NOT_FOUND, f"There is no flow {params.id} any more.")
        return m.Done(str(params.id))

    # What went through

    def traffic(self, params: m.PeerTrafficParams) -> s.Traffic:
        device = None
        if params.peer is not None:
            try:
                device = self._gateway.registry.find(params.peer).id
            except NoSuchPeer:
                raise self._no_peer(params.peer) from None
        newest, samples = self.traffic_history.read(device, params.limit)
        return s.Traffic(
            INTERVAL, newest, [up for up, _ in samples], [down for _, down in samples], device
        )

    def usage(self, params: m.UsageParams) -> s.Usage:
        try:
            return usage(self._gateway.registry, params, self._clock.wall())
        except NoSuchPeer:
            raise self._no_peer(params.peer or "") from None

    def _counts(self) -> Reading:
        tunnels = self._gateway.snapshots.tunnels()
        return Reading(
            Counts(*self._gateway.snapshots.totals()),
            [
                (t.lease.peer_id, Counts(t.nat_peer.from_tunnel_bytes, t.nat_peer.to_tunnel_bytes))
                for t in tunnels
            ],
            any(tunnel.connected for tunnel in tunnels),
        )

    # The resolver

    def dns(self) -> s.Dns:
        gateway, now = self._gateway, self._clock.now()
        counters, sizes = gateway.snapshots.dns_state()
        labels = {peer.id: peer.label for peer in gateway.snapshots.peers()}
        return s.Dns(
            resolvers=list(gateway.snapshots.resolvers()),
            entries=sizes["dns_cache_entries"],
            bytes=sizes["dns_cache_bytes"],
            in_flight=sizes["dns_in_flight"],
            queries=sum(n for name, n in counters.items() if name.startswith("dns__query__")),
            hits=counters.get("dns__query__hit", 0),
            counters=dict(sorted(counters.items())),
            recent_limit=gateway.owner.config.dns.kept,
            recent=[
                s.DnsQuestion(
                    age=now - question.at,
                    client=question.client,
                    label=labels.get(question.client, question.client),
                    name=question.name,
                    type=_DNS_TYPES.get(question.type, f"TYPE{question.type}"),
                    outcome=question.outcome,
                )
                for question in reversed(gateway.snapshots.recent_questions())
            ],
            names=gateway.owner.config.dns.names,
        )


_DNS_TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV",
    35: "NAPTR", 39: "DNAME", 43: "DS", 44: "SSHFP", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY",
    52: "TLSA", 64: "SVCB", 65: "HTTPS", 99: "SPF", 255: "ANY", 256: "URI", 257: "CAA",
}  # fmt: skip
"""The IANA names of what is asked often."""


def _check_label(label: str) -> None:
    if len(label) > MAX_LABEL or not label.isprintable():
        raise ControlError(
            Code.INVALID_PARAMS, f"A name has at most {MAX_LABEL} printable characters."
        )


def cannot_listen(error: ListenError) -> ControlError:
    """The answer to who wanted to change where the gateway listens."""
    text = clean(str(error))
    sentence = f"{text[:1].upper()}{text[1:]} It listens as before."
    return ControlError(Code.FAILED, sentence, name="cannot_listen")


def _egress(report: EgressReport, now: float) -> s.Egress:
    return s.Egress(
        looks=report.looks,
        age=None if report.at is None else max(0.0, now - report.at),
        interface_sent=report.interface_sent,
        interface_received=report.interface_received,
        sent=report.sent,
        received=report.received,
        alarms=list(report.alarms),
    )


def _vpn(network: VpnNetwork, guard: str, there: Sequence[Interface]) -> s.Vpn:
    reason = network.reason
    if network.unnamed and there:
        reason = f"{reason} {interfaces.sentence(there)}"
    return s.Vpn(
        state=network.state.value,
        interface=network.interface,
        kind=network.kind,
        addresses=list(network.addresses),
        ipv4=network.ipv4,
        ipv6=network.ipv6,
        guard=guard,
        reason=reason,
    )


def _request(request: PairingRequest, now: float) -> s.Request:
    return s.Request(
        id=request.id,
        label=request.label,
        platform=request.platform,
        code=request.code,
        via=request.via.value,
        address=request.address,
        fingerprint=fingerprint(request.public_key),
        age=now - request.created,
        expires_in=max(0.0, request.expires - now),
    )


def _lease(tunnel: Tunnel, label: str, gates: Gates, now: float) -> s.Lease:
    lease, link, nat_peer = tunnel.lease, tunnel.link, tunnel.nat_peer
    addresses = lease.addresses
    resolvers = (addresses.gateway_ipv4, addresses.gateway_ipv6)
    up, down = nat_peer.from_tunnel_bytes, nat_peer.to_tunnel_bytes
    verdict, shut_out = gates.read(tunnel)
    endpoint = None if link is None else _host_port(link.host, link.port)
    return s.Lease(
        id=lease.id,
        peer_id=lease.peer_id,
        label=label,
        ipv4=str(ipaddress.ip_address(addresses.ipv4)),
        ipv6=str(ipaddress.ip_address(addresses.ipv6)),
        dns=[str(ipaddress.ip_address(address)) for address in resolvers],
        mtu=lease.mtu,
        offload=lease.offload,
        expires_in=None if lease.expires == math.inf else max(0.0, lease.expires - now),
        connected=tunnel.connected,
        transport=None if link is None else link.via,
        endpoint=endpoint,
        rtt_ms=None if tunnel.rtt is None else tunnel.rtt * 1000,
        from_tunnel_bytes=up,
        to_tunnel_bytes=down,
        from_tunnel_rate=tunnel.up_rate.read(up, now),
        to_tunnel_rate=tunnel.down_rate.read(down, now),
        flows=nat_peer.flow_count,
        gate=verdict.state,
        shut_out=shut_out,
        opens_at=verdict.opens,
        quota_left=verdict.left,
    )


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

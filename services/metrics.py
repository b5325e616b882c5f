"""What the services say of themselves, as metrics in the conventions of Prometheus.

Each metric is one entry of `METRICS`: name, type, labels, help, and how it is read from what
the control API answers. The product's own counters, as `status --json` has them, are metrics by
the registry that says what each of them counts (`services.counted`); what is in no pattern of it
comes as `vpnshare_other_total`, so none can be left out. `docs/metrics.md` is made from all that.

prometheus_client is imported where it is used: who wants no metrics needs no package.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from control.schema import ClientStatus, Dns, GatewayStatus, Lease, Peer
from services.counted import REGISTRY, counted

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.registry import Collector

MAX_DEVICES = 100
"""Devices with metrics of their own: those that were there last. A label is a series for ever."""
MAX_LABEL = 64
"""Characters of a device's name."""

MAX_KINDS = 100
"""Values of the label `what`, of one metric and role; those beyond come together as `OTHER`.
They are names from the code: this bounds what a service of another version may hold."""
OTHER = "other"

Sample = tuple[tuple[str, ...], float]
"""The labels' values and the metric's."""


@dataclass(frozen=True, slots=True)
class State:
    """What was read, at one moment; None: that service does not run."""

    gateway: GatewayStatus | None = None
    client: ClientStatus | None = None
    peers: list[Peer] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    dns: Dns | None = None
    _counters: dict[str | None, list[tuple[str, str, int]]] = field(default_factory=dict)

    def services(self) -> Iterator[tuple[str, GatewayStatus | ClientStatus]]:
        """Those that run, each with its role."""
        for role, status in (("gateway", self.gateway), ("client", self.client)):
            if status is not None:
                yield role, status

    def counters(self, pattern: str | None) -> Iterator[tuple[str, str, int]]:
        """Role, what stands for `*`, and count of those of one pattern; None: of none."""
        if not self._counters:
            self._counters[None] = []
            for role, status in self.services():
                for name, count in status.counters.items():
                    found = counted(name)
                    key, what = (found[0].pattern, found[1]) if found else (None, name)
                    self._counters.setdefault(key, []).append((role, what, count))
        yield from self._counters.get(pattern, ())

    def shown(self) -> list[Peer]:
        """The devices that have metrics."""
        there = [peer for peer in self.peers if not peer.revoked]
        return sorted(there, key=lambda peer: -peer.last_seen_at)[:MAX_DEVICES]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: `counter` only grows while its service runs, `gauge` is what is now."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    read: Callable[[State], Iterable[Sample]]


def label(text: str) -> str:
    """A name from elsewhere as a label's value: printable, and bounded."""
    kept = "".join(
        c if c.isprintable() and unicodedata.category(c) != "Cf" else "\ufffd" for c in text
    )
    return kept[:MAX_LABEL]


def _of_gateway(read: Callable[[GatewayStatus], float]) -> Callable[[State], Iterable[Sample]]:
    return lambda state: [((), read(state.gateway))] if state.gateway is not None else []


def _of_client(read: Callable[[ClientStatus], float]) -> Callable[[State], Iterable[Sample]]:
    return lambda state: [((), read(state.client))] if state.client is not None else []


def _of_dns(read: Callable[[Dns], float]) -> Callable[[State], Iterable[Sample]]:
    return lambda state: [((), read(state.dns))] if state.dns is not None else []


def _up(state: State) -> Iterator[Sample]:
    for role, status in (("gateway", state.gateway), ("client", state.client)):
        yield (role,), float(status is not None)


def _bytes(state: State) -> Iterator[Sample]:
    """Up is what devices send, on either side: a client writes it to the tunnel."""
    if state.gateway is not None:
        yield ("gateway", "up"), state.gateway.from_tunnel_bytes
        yield ("gateway", "down"), state.gateway.to_tunnel_bytes
    if state.client is not None:
        yield ("client", "up"), state.client.to_tunnel_bytes
        yield ("client", "down"), state.client.from_tunnel_bytes


def _plain(pattern: str) -> Callable[[State], Iterable[Sample]]:
    return lambda state: [((role,), n) for role, _, n in state.counters(pattern)]


def _by_kind(pattern: str | None) -> Callable[[State], Iterable[Sample]]:
    def read(state: State) -> Iterable[Sample]:
        found: dict[tuple[str, ...], float] = {}
        kinds: Counter[str] = Counter()
        for role, what, count in state.counters(pattern):
            if (role, label(what)) not in found:
                kinds[role] += 1
            key = (role, label(what) if kinds[role] <= MAX_KINDS else OTHER)
            found[key] = found.get(key, 0) + count
        return list(found.items())

    return read


def _of_registry() -> Iterator[Metric]:
    for each in REGISTRY:
        labels = ("role", "what") if each.labelled else ("role",)
        read = _by_kind(each.pattern) if each.labelled else _plain(each.pattern)
        yield Metric(each.metric, "counter", labels, each.help, read)


def _device_bytes(state: State) -> Iterator[Sample]:
    for peer in state.shown():
        yield (peer.id, label(peer.label), "up"), peer.from_tunnel_bytes
        yield (peer.id, label(peer.label), "down"), peer.to_tunnel_bytes


def _device_flows(state: State) -> Iterator[Sample]:
    ids = {peer.id for peer in state.shown()}
    for lease in state.leases:
        if lease.peer_id in ids:
            yield (lease.peer_id, label(lease.label)), lease.flows


def _device_round_trips(state: State) -> Iterator[Sample]:
    ids = {peer.id for peer in state.shown()}
    for lease in state.leases:
        if lease.peer_id in ids and lease.rtt_ms is not None:
            yield (lease.peer_id, label(lease.label)), lease.rtt_ms / 1000


_DEVICE = ("id", "device")

METRICS: tuple[Metric, ...] = (
    Metric("vpnshare_up", "gauge", ("role",), "1 where the service runs, else 0.", _up),
    Metric("vpnshare_info", "gauge", ("role", "version"), "1, with the service's version.",
           lambda s: [((role, status.version), 1.0) for role, status in s.services()]),
    Metric("vpnshare_uptime_seconds", "gauge", (), "How long the gateway has been running.",
           _of_gateway(lambda status: status.uptime)),
    Metric("vpnshare_sharing", "gauge", (), "1 while the gateway shares, else 0.",
           _of_gateway(lambda status: float(status.sharing == "on"))),
    Metric("vpnshare_vpn_active", "gauge", (), "1 while the gateway's VPN can be used, else 0.",
           _of_gateway(lambda status: float(status.vpn.state == "active"))),
    Metric("vpnshare_alarms", "gauge", (), "Alarms that stand: something left outside the VPN.",
           _of_gateway(lambda status: len(status.alarms))),
    Metric("vpnshare_devices_approved", "gauge", (), "Devices that may use the VPN.",
           _of_gateway(lambda status: status.peers)),
    Metric("vpnshare_devices_connected", "gauge", (), "Devices that are connected.",
           _of_gateway(lambda status: status.connected)),
    Metric("vpnshare_requests", "gauge", (), "Devices that wait for approval.",
           _of_gateway(lambda status: status.requests)),
    Metric("vpnshare_flows", "gauge", (), "Connections through the gateway.",
           _of_gateway(lambda status: status.flows)),
    Metric("vpnshare_bytes_total", "counter", ("role", "direction"),
           "Bytes through the tunnel since the service began; up is away from the devices.",
           _bytes),
    Metric("vpnshare_device_connected", "gauge", _DEVICE, "1 while the device is connected.",
           lambda s: [((p.id, label(p.label)), float(p.connected)) for p in s.shown()]),
    Metric("vpnshare_device_bytes_total", "counter", (*_DEVICE, "direction"),
           "Bytes of the device since it was paired.", _device_bytes),
    Metric("vpnshare_device_flows", "gauge", _DEVICE, "Connections of the device.",
           _device_flows),
    Metric("vpnshare_device_round_trip_seconds", "gauge", _DEVICE,
           "Round trip of the device's link, as it was measured last.", _device_round_trips),
    Metric("vpnshare_dns_cache_entries", "gauge", (), "Answers in the resolver's cache.",
           _of_dns(lambda dns: dns.entries)),
    Metric("vpnshare_dns_cache_bytes", "gauge", (), "What they take.",
           _of_dns(lambda dns: dns.bytes)),
    Metric("vpnshare_dns_questions_total", "counter", (), "Questions that devices have asked.",
           _of_dns(lambda dns: dns.queries)),
    Metric("vpnshare_dns_hits_total", "counter", (), "Questions that the cache has answered.",
           _of_dns(lambda dns: dns.hits)),
    Metric("vpnshare_client_connected", "gauge", (), "1 while the client is connected, else 0.",
           _of_client(lambda status: float(status.state == "connected"))),
    Metric("vpnshare_client_reconnects_total", "counter", (), "How often the client came back.",
           _of_client(lambda status: status.reconnects)),
    Metric("vpnshare_client_round_trip_seconds", "gauge", (), "Round trip of the client's link.",
           lambda s: [((), s.client.rtt_ms / 1000)]
           if s.client is not None and s.client.rtt_ms is not None else []),
    *_of_registry(),
    Metric("vpnshare_other_total", "counter", ("role", "what"),
           "Counters that are in none of the other metrics.", _by_kind(None)),
)  # fmt: skip


def exposition(state: State) -> bytes:
    """The state in the text format. Raises `ImportError` without prometheus_client."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(cast("Collector", _Once(state)))
    text: bytes = generate_latest(registry)
    return text


class _Once:
    """A collector, as prometheus_client asks for one, of one state."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Family]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for metric in METRICS:
            family: CounterMetricFamily | GaugeMetricFamily = (
                CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            )(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.read(self._state):
                family.add_metric(labels, value)
            if family.samples:
                yield family


def table() -> str:
    """All metrics in Markdown, for the document."""
    lines = ["| Metric | Type | Labels | Meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{name}`" for name in metric.labels) or "-"
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")

"""The rows of Peers: a device with its lease and what is known of its WireGuard app. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from control import schema, words
from tui import formats
from tui.widgets.columns import Cell, Column


@dataclass(frozen=True, slots=True)
class PeerRow:
    """A device with the lease it holds, if it holds one."""

    peer: schema.Peer
    lease: schema.Lease | None
    wall: float
    """Unix time of the look, for ages."""
    wireguard: schema.WireguardDevice | None = None
    """What is known of a device with a WireGuard app."""
    trouble: schema.WireguardTrouble | None = None

    @property
    def state(self) -> Cell:
        if self.peer.revoked:
            return "✗ revoked", "bad"
        if self.trouble is not None:
            return "▲ trouble", "warn"
        if self.shut:
            return f"▲ {self.shut}", "warn"
        if self.peer.connected:
            return "● here", "ok"
        return "○ away", "quiet"

    @property
    def shut(self) -> str:
        """In a word, why it may not use the tunnel now; empty while it may."""
        word, tone = words.allowed(self.peer)
        return word if tone == "warn" else ""

    @property
    def transport(self) -> str:
        via = (self.lease.transport or "") if self.lease else ""
        return formats.transport(via or ("wireguard" if self.peer.kind == "wireguard" else ""))

    @property
    def rtt(self) -> str:
        if self.lease is None or self.lease.rtt_ms is None:
            return ""
        return f"{self.lease.rtt_ms:.0f} ms"

    @property
    def today(self) -> int:
        return self.peer.from_tunnel_today + self.peer.to_tunnel_today

    @property
    def total(self) -> int:
        return self.peer.from_tunnel_bytes + self.peer.to_tunnel_bytes


def rows(
    peers: list[schema.Peer],
    leases: list[schema.Lease],
    wall: float,
    wireguard: schema.Wireguard | None = None,
) -> list[PeerRow]:
    """Devices with their leases: those that are here first, then by name."""
    held = {lease.peer_id: lease for lease in leases}
    by_app = {} if wireguard is None else {each.id: each for each in wireguard.devices}
    stuck = {} if wireguard is None else {each.device: each for each in wireguard.troubles}
    made = [
        PeerRow(peer, held.get(peer.id), wall, by_app.get(peer.id), stuck.get(peer.id))
        for peer in peers
    ]
    made.sort(key=lambda row: (row.peer.revoked, not row.peer.connected, row.peer.label.lower()))
    return made


def _label(row: PeerRow) -> Cell:
    return formats.clean(row.peer.label) or "(no name)", "quiet" if row.peer.revoked else "strong"


def row_text(row: PeerRow) -> str:
    """What a filter looks in."""
    lease = row.lease
    held = (lease.ipv4, lease.ipv6, lease.endpoint or "") if lease is not None else ()
    return " ".join((
        row.peer.label, row.state[0], row.transport, row.peer.platform, row.peer.fingerprint,
        row.peer.rules, *held,
    ))  # fmt: skip


_STATES = ("● here", "▲ trouble", "▲", "○ away", "✗ revoked")
"""In the order in which they are sorted; `▲`: shut out by its rules."""


def _state_order(row: PeerRow) -> int:
    state = row.state[0]
    return _STATES.index(state if state in _STATES else state[:1])


def _address(row: PeerRow) -> tuple[int, ...] | None:
    """A lease's address for sorting: by its numbers."""
    if row.lease is None:
        return None
    return tuple(int(part) if part.isdecimal() else -1 for part in row.lease.ipv4.split("."))


COLUMNS = (
    Column[PeerRow]("label", "Device", 12, _label, flex=2),
    Column[PeerRow]("state", "State", 9, lambda row: row.state,
                    by=_state_order),
    Column[PeerRow]("via", "Via", 4, lambda row: (row.transport, "quiet")),
    Column[PeerRow]("rtt", "RTT", 7, lambda row: (row.rtt, "quiet"), right=True, tier=1,
                    by=lambda row: row.lease.rtt_ms if row.lease else None),
    Column[PeerRow]("today", "Today", 7, lambda row: (formats.size(row.today), "plain"),
                    right=True, by=lambda row: row.today, greatest_first=True),
    Column[PeerRow]("total", "In all", 8, lambda row: (formats.size(row.total), "quiet"),
                    right=True, tier=1, by=lambda row: row.total, greatest_first=True),
    Column[PeerRow]("seen", "Seen", 8, lambda row: (
        "now" if row.peer.connected else formats.ago(row.wall - row.peer.last_seen_at), "quiet"),
                    right=True, tier=1, by=lambda row: (
        0.0 if row.peer.connected else row.wall - row.peer.last_seen_at)),
    Column[PeerRow]("rules", "Rules", 8, lambda row: (formats.clean(row.peer.rules, 60), "quiet"),
                    flex=1, tier=1),
    Column[PeerRow]("ipv4", "Lease", 15, lambda row: (
        formats.clean(row.lease.ipv4, 15) if row.lease else "-", "quiet"), tier=2,
                    by=_address),
    Column[PeerRow]("platform", "Platform", 10, lambda row: (
        formats.clean(row.peer.platform, 12), "quiet"), flex=1, tier=2),
)  # fmt: skip

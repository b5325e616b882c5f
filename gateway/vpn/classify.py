"""Which network is the VPN: a judgement over a snapshot, pure.

Without a name from the owner, the VPN is an interface of a tunnel's kind that
takes *all* Internet traffic of this process: the question "where would a packet
to the far end of the Internet go" has been put to the system (the kernel's
route look-up walks rules, marks, users and tables, better than any reading of
tables does), and the interface it names is the VPN if it is a tunnel. So a
default route, two halves of one, and a long list of prefixes with holes for
the LAN all count; a tunnel to one office network does not.

With a name, that interface is the VPN whatever its kind, once it exists, is
running and has an address.

A family is available when the interface has an address of it that is valid
beyond the link, and a route. What is not available is refused at once, never
sent elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.model import VpnNetwork, VpnState
from gateway.vpn.snapshot import INET, INET6, Interface, Snapshot

KINDS = {
    "tun": "tun",
    "wireguard": "wireguard",
    "amneziawg": "wireguard",
    "ovpn": "tun",
    "ovpn-dco": "tun",
    "ppp": "ppp",
    "xfrm": "ipsec",
    "vti": "ipsec",
    "vti6": "ipsec",
}
"""The kernel's link kinds that are tunnels of a VPN, and what we call them."""

NAMES = (
    (re.compile(r"(?:u?tun|tap|vpn|proton|gpd|cscotun|ovpn|outline|mullvad)[\w-]*\Z"), "tun"),
    (re.compile(r"(?:wg|nordlynx|awg)[\w.-]*\Z"), "wireguard"),
    (re.compile(r"(?:ppp|l2tp|sstp|pptp)[\w-]*\Z"), "ppp"),
    (re.compile(r"(?:ipsec|xfrm|ip_?vti|vti|st)\d[\w-]*\Z"), "ipsec"),
)
"""Names that give a tunnel away where the kernel does not tell the kind (and on Android)."""

CARRIERS = re.compile(r"(?:v4-|rmnet|ccmni|pdp|clat|seth_|dummy)")
"""Tunnel-like names of a phone's own uplinks (464XLAT, modems): never a VPN."""

NO_VPN = "No VPN is up: connect it, or name its interface with --vpn-interface."


@dataclass(frozen=True, slots=True)
class Verdict:
    """The network as everyone sees it, and the interface's index for those who bind."""

    network: VpnNetwork
    index: int | None = None
    link_local: str | None = None
    """The interface's own IPv6 link-local address."""


def tunnel_kind(interface: Interface) -> str | None:
    """What kind of VPN tunnel the interface is, or None if it is none."""
    if interface.loopback or CARRIERS.match(interface.name):
        return None
    if interface.kind:
        return KINDS.get(interface.kind)
    return next((kind for names, kind in NAMES if names.match(interface.name)), None)


def judge(snapshot: Snapshot, name: str | None = None, current: int | None = None) -> Verdict:
    """Find the VPN: the interface `name` says, or the tunnel all traffic goes into.

    `current` is the index of the VPN so far: of two that serve one family each, it stays.
    """
    if name is not None:
        return _judge_named(snapshot, name)
    chosen = sorted(
        set(snapshot.default.values()),
        key=lambda index: (index != current, -sum(i == index for i in snapshot.default.values())),
    )
    for index in chosen:
        interface = snapshot.indexed(index)
        kind = None if interface is None else tunnel_kind(interface)
        if interface is None or kind is None or not interface.running:
            continue
        ipv4 = snapshot.default.get(INET) == index and bool(interface.sources(INET))
        ipv6 = snapshot.default.get(INET6) == index and bool(interface.sources(INET6))
        if ipv4 or ipv6:
            return _active(interface, kind, ipv4, ipv6)
    return Verdict(_explain_absence(snapshot))


def _judge_named(snapshot: Snapshot, name: str) -> Verdict:
    interface = snapshot.named(name)
    if interface is None:
        reason = f"There is no interface {name}: connect the VPN, or name another one."
        return Verdict(VpnNetwork(VpnState.ABSENT, reason=reason, unnamed=True))
    if not interface.running:
        return _absent(f"The interface {name} is down: connect the VPN.")
    ipv4 = _reaches(snapshot, interface, INET)
    ipv6 = _reaches(snapshot, interface, INET6)
    if not interface.sources(INET) and not interface.sources(INET6):
        return _absent(f"The interface {name} has no address yet.")
    if not ipv4 and not ipv6:
        return _absent(f"The interface {name} has no route: is the VPN still connecting?")
    return _active(interface, "named", ipv4, ipv6)


def _reaches(snapshot: Snapshot, interface: Interface, version: int) -> bool:
    """An address and a way: a route to the far end, or at least neighbours on the link."""
    sources = interface.sources(version)
    if not sources:
        return False
    if (version, interface.index) in snapshot.reaches:
        return True
    return any(a.prefix < len(a.packed) * 8 for a in sources)


def _explain_absence(snapshot: Snapshot) -> VpnNetwork:
    """Tell an owner who believes that the VPN is on why it does not count."""
    for interface in snapshot.interfaces:
        if tunnel_kind(interface) is None or not interface.running:
            continue
        if not interface.sources(INET) and not interface.sources(INET6):
            continue
        if interface.index in snapshot.elsewhere:
            return VpnNetwork(
                VpnState.EXCLUDED,
                interface=interface.name,
                kind=tunnel_kind(interface),
                reason=f"A VPN is up ({interface.name}), but not for this app: "
                "include the app in the VPN's settings (split tunnelling, per-app VPN).",
            )
        return VpnNetwork(
            VpnState.ABSENT,
            reason=f"The tunnel {interface.name} does not take all Internet traffic: "
            f"to share it as it is, name it with --vpn-interface {interface.name}.",
        )
    return VpnNetwork(VpnState.ABSENT, reason=NO_VPN, unnamed=True)


def _absent(reason: str) -> Verdict:
    return Verdict(VpnNetwork(VpnState.ABSENT, reason=reason))


def _active(interface: Interface, kind: str, ipv4: bool, ipv6: bool) -> Verdict:
    addresses = (*interface.sources(INET), *interface.sources(INET6))
    network = VpnNetwork(
        VpnState.ACTIVE,
        interface=interface.name,
        kind=kind,
        addresses=tuple(str(a) for a in addresses),
        ipv4=ipv4,
        ipv6=ipv6,
    )
    local = (str(a) for a in interface.addresses if a.version == INET6 and a.scoped and a.usable)
    return Verdict(network, interface.index, next(local, None))

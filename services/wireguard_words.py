"""What is wrong with a WireGuard device, as one sentence, and the one thing to do about it."""

from __future__ import annotations

import shlex
from typing import NamedTuple

from gateway.wireguard_diagnosis import Cause, Trouble
from services.doctor.system import System
from services.logs import clean
from wireguard.profile import short_key

SWITCHES = (
    ("Mullvad", "Settings > VPN settings > Local network sharing"),
    ("Proton VPN", "Settings > Advanced > Allow LAN connections, and Allow direct connections"),
    ("WireGuard", "edit the tunnel > Exclude private IPs"),
    ("OpenVPN for Android", "the profile > Routing > Bypass VPN for local networks"),
    ("NordVPN", "Settings > Local network discovery"),
)
"""Where common VPN apps let the local network in."""
LAN_PERMISSION_API = 37
"""Android's API level from which apps need a permission to speak to the local network."""
ANEW = "vpnshare wireguard add NAME"


class Said(NamedTuple):
    found: str
    advice: str


def say(trouble: Trouble, port: int, system: System) -> Said:
    """`port` is the UDP port that is listened on, `system` the one that shares."""
    who, host = clean(trouble.label) or "a device", clean(trouble.host)
    match trouble.cause:
        case Cause.SHARED:
            return Said(
                f"The config of {who} is used in two places in turn: {host} and "
                f"{clean(trouble.other)}. They push each other out.",
                f"Delete it on one of them, and make that one its own: {ANEW}",
            )
        case Cause.CLOCK:
            return Said(
                f"The clock of {who} went back by {_span(trouble.seconds)}: its handshakes look "
                "like old ones and are refused.",
                f"Set the date and time of {who}, by the network if it can.",
            )
        case Cause.UNCONFIRMED:
            return Said(
                f"{who} was answered {_times(trouble.count)} at {host} and never confirmed: the "
                "answers do not arrive.",
                f"{_lan_open(system)} On the device, let UDP from this gateway through its "
                "firewall, and turn other VPNs off.",
            )
        case Cause.ENDPOINT:
            return Said(
                f"The config of {who} names {clean(trouble.told)}, an address that this machine "
                "does not have.",
                f"Edit the tunnel in its app: Endpoint = {clean(trouble.other)}"
                + _or_renew(trouble),
            )
        case Cause.GATEWAY_KEY:
            return Said(
                f"{host} has knocked {_times(trouble.count)} with another gateway's key: its "
                "config is not of this gateway.",
                f"Delete the tunnel there, and make a new one: {ANEW}",
            )
        case Cause.UNKNOWN_KEY:
            assert trouble.key is not None
            return Said(
                f"{host} knocks with a key that is not let in, {short_key(trouble.key)}: its "
                "config was denied, or not used in time.",
                f"Delete the tunnel there, and make a new one: {ANEW}",
            )
        case Cause.REVOKED:
            return Said(
                f"{who} was revoked, and has knocked {_times(trouble.count)} since, from {host}.",
                f"Turn the tunnel off there; or, to let it in again: {ANEW}",
            )
        case Cause.SILENCE if trouble.reached:
            return Said(
                f"{who} has not come in the {_span(trouble.seconds)} since its config was made; "
                "others have.",
                "Turn the tunnel on there, in a network of this machine. Where its Wi-Fi has no "
                "Internet, turn mobile data off: it may look for the gateway there.",
            )
        case Cause.SILENCE:
            return Said(
                f"Nothing at all has come in on UDP port {port} in the {_span(trouble.seconds)} "
                f"since the config of {who} was made.",
                f"Turn the tunnel on there, in a network of this machine. {_lan_open(system)}",
            )


def _or_renew(trouble: Trouble) -> str:
    """The other way to a config that names the right address; a device that nobody has let in yet
    has none but a new one.
    """
    label = clean(trouble.label)
    if not (trouble.let_in and label):
        return ""
    return f". Or give it another config: vpnshare wireguard renew {shlex.quote(label)}"


def _lan_open(system: System) -> str:
    """What this machine may have against the local network."""
    if not system.termux:
        return "Here, let UDP through the firewall, and the local network past the VPN's lock."
    level = system.android_api()
    if level is not None and level >= LAN_PERMISSION_API:
        return (
            "Here, give Termux the permission Nearby devices, and allow the local network in the "
            "VPN app."
        )
    switches = "; ".join(f"{app}: {where}" for app, where in SWITCHES)
    return f"Here, allow the local network in the VPN app ({switches})."


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _span(seconds: float) -> str:
    whole = int(seconds)
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if whole >= 2 * length:
            return f"{whole // length} {unit}"
    return f"{max(whole, 1)} seconds" if whole != 1 else "1 second"

"""States and destinations in words: the same in the command and in the console."""

from __future__ import annotations

from typing import Literal

from control.schema import Check, ClientStatus, Flow, GatewayStatus, KillSwitch, Peer

Tone = Literal["ok", "busy", "warn", "danger", "bad", "off"]
"""How well it is; `busy`: under way; `danger`: it works, and should not be like this."""

SHARING: dict[str, tuple[str, Tone]] = {
    "on": ("sharing", "ok"),
    "unavailable": ("waiting for VPN", "warn"),
    "off": ("not sharing", "off"),
}
"""By the name in the control API."""

_CLIENT: dict[str, tuple[str, Tone]] = {
    "idle": ("idle", "off"),
    "connecting": ("connecting", "busy"),
    "asked": ("compare the digits", "warn"),
    "waiting": ("waiting for approval", "warn"),
    "connected": ("connected", "ok"),
    "reconnecting": ("reconnecting", "warn"),
    "failed": ("failed", "bad"),
}


GATES = {
    "paused": "paused",
    "ended": "ended",
    "outside_hours": "not now",
    "quota_spent": "used up",
}
"""What a device may not do by its rules, in a word; by the gate's name in the control API."""


def allowed(peer: Peer) -> tuple[str, Tone]:
    """In a word, whether a device has rules, and whether they shut it out now."""
    if peer.revoked or (peer.gate == "open" and not peer.rules):
        return "", "off"
    return ("limited", "off") if peer.gate == "open" else (GATES.get(peer.gate, "shut"), "warn")


def sharing(status: GatewayStatus) -> tuple[str, Tone]:
    """Whether the gateway shares."""
    return SHARING.get(status.sharing, (status.sharing, "warn"))


def vpn(status: GatewayStatus) -> tuple[str, Tone]:
    """Which VPN there is, as the interface is called, or why there is none."""
    if status.bypass or status.vpn.kind == "bypass":
        return "BYPASS", "danger"
    if status.vpn.state == "active":
        return status.vpn.interface or "VPN", "ok"
    if status.vpn.state == "excluded":
        return "VPN excludes us", "warn"
    return "no VPN", "bad"


def client(status: ClientStatus) -> tuple[str, Tone]:
    """What the client does; a link to a gateway that forwards nothing is no more than that."""
    if status.state == "connected" and status.shut_out:
        return "connected, shut out", "warn"
    if status.state == "connected" and status.sharing == "unavailable":
        return "connected, no VPN there", "warn"
    if status.state == "connected" and status.sharing == "off":
        return "connected, not sharing", "warn"
    return _CLIENT.get(status.state, (status.state, "busy"))


def destination(flow: Flow) -> str:
    """Where a flow goes: with its name in the place of the address, if that is known."""
    if not flow.name:
        return flow.destination
    if flow.protocol == "icmp":
        return flow.name
    return f"{flow.name}:{flow.destination.rpartition(':')[2]}"


ASIDE = {
    "proxy": "The proxy changes nothing on this machine; only programs that use it go through the "
    "tunnel.",
    "namespace": "Nothing else on this machine is changed; only programs that are started in "
    "there go through the tunnel.",
}
"""By a client's outlet, where that is not the machine's own NIC: why routes, resolver and kill
switch do not apply."""


def outlet(status: ClientStatus) -> str:
    """Where packets leave the tunnel on this device; empty while that is nowhere."""
    if status.outlet == "proxy":
        return f"proxy at {status.proxy}" if status.proxy else ""
    return status.interface or ""


def kill_switch(switch: KillSwitch) -> tuple[str, Tone]:
    """Whether traffic is kept from leaving outside the tunnel, and whether there is one."""
    if switch.state == "armed":
        return "armed", "ok"
    if switch.state == "holding":
        return "holding: nothing leaves", "warn"
    return switch.state, "off"


def held_by(strict: bool) -> str:
    """What the kill switch holds with: routes always, the firewall with `client.kill_switch`."""
    return "routes and firewall" if strict else "routes"


CHECK: dict[str, tuple[str, Tone]] = {
    "good": ("good", "ok"),
    "broken": ("broken", "bad"),
    "unknown": ("cannot tell", "warn"),
}
"""Verdicts of a check, by their names in the control API."""


def check_facts(check: Check) -> list[tuple[str, str]]:
    """What each server has said, by whom and about what."""
    family = {"ipv4": "IPv4", "ipv6": "IPv6"}
    facts = [
        (
            f"{family.get(each.family, each.family)} exit",
            _said(each.server, each.address or "", each.problem),
        )
        for each in check.exits
    ]
    for asker in check.askers:
        how = f"{asker.name} at {asker.server}" if asker.server else asker.name
        title = "Asked directly" if asker.server else "Asks names"
        facts.append((title, _said(how, ", ".join(asker.addresses), asker.problem)))
    return facts


def _said(who: str, seen: str, problem: str) -> str:
    return f"{seen or problem} ({who})"

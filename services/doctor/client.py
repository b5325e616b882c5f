"""Checks of the receiving side: rights, link, routes, resolver, kill switch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from client.model import ClientSnapshot, ClientState
from client.outlet.outlet import OutletKind
from client.system.resolv_conf import LOST, is_ours, nameservers
from client.system.routes import PROTOCOL
from client.system.run import is_busybox
from control import words
from control.words import held_by
from reach.cable import LACKS, STATES, Phone, PhoneState, advice, nearest
from services.doctor.checks import Checks, Outcome, broken, ok, skipped, warn
from services.doctor.machine import Machine

TUN = "/dev/net/tun"
RESOLV_CONF = "/etc/resolv.conf"
ELSEWHERE = {"ipv4": "192.0.2.1", "ipv6": "2001:db8::1"}
"""Addresses that are nobody's (RFC 5737, RFC 3849): where would they be sent?"""
RESOLVED_STUBS = ("127.0.0.53", "127.0.0.54")


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """What the checks look at: a client, running (`now`) or not (None)."""

    machine: Machine
    now: ClientSnapshot | None = None
    routes: bool = True
    """The settings; likewise the other three."""
    resolver: bool = True
    kill_switch: bool = False
    mtu: int | None = None
    phones: tuple[Phone, ...] | None = ()
    """On the cable; None: nothing here speaks to phones."""
    undone: bool | None = True
    """Whether nothing of an earlier run is left to be undone; None: it cannot be told."""
    outlet: OutletKind = OutletKind.NIC
    """Of the client that runs, or would by the settings."""

    @property
    def connected(self) -> bool:
        return self.now is not None and self.now.state is ClientState.CONNECTED


CHECKS: Checks[ClientFacts] = Checks("client")


def _aside(facts: ClientFacts) -> Outcome | None:
    """Of what is about the whole machine's network, where that is left alone."""
    why = words.ASIDE.get(facts.outlet.value)
    return None if why is None else skipped(f"Does not apply. {why}")


@CHECKS.check("tun", "Virtual NIC")
def tun(facts: ClientFacts) -> Outcome:
    system = facts.machine.system
    if facts.outlet is OutletKind.PROXY and (aside := _aside(facts)):
        return aside
    if system.termux:
        return broken(
            "Android lets VPN apps only open a virtual NIC.",
            "Use this device as the gateway (vpnshare up), or receive by a proxy: vpnshare client "
            "--proxy",
        )
    if facts.now is not None and facts.now.interface:
        return ok(f"{facts.now.interface} is there.")
    if not system.exists(TUN):
        return broken(
            f"{TUN} is not there.", "sudo modprobe tun (in a container: pass the device in)"
        )
    if not system.usable(TUN):
        return broken(
            f"{TUN} may not be opened by this user.",
            "It asks for root's rights by itself: vpnshare join",
        )
    return ok(f"{TUN} can be opened.")


@CHECKS.check("privileges", "Privileges")
def privileges(facts: ClientFacts) -> Outcome:
    if aside := _aside(facts):
        return aside
    if facts.machine.system.net_admin():
        return ok("Network interfaces may be set up (CAP_NET_ADMIN).")
    return broken(
        "This user may not set up network interfaces (CAP_NET_ADMIN).",
        "It asks for them by itself: vpnshare join. To have it start with the system: sudo "
        "vpnshare service install --role client",
    )


@CHECKS.check("own-network", "Without root")
async def own_network(facts: ClientFacts) -> Outcome:
    system = facts.machine.system
    if system.termux:
        return skipped("Android lets VPN apps only open a virtual NIC.")
    refused = await system.own_network()
    if refused is not None:
        return warn(f"vpnshare run is not possible here. {refused.message}", refused.hint)
    return ok("vpnshare run can give a command a network of its own.")


@CHECKS.check("tools", "System tools")
def tools(facts: ClientFacts) -> Outcome:
    system = facts.machine.system
    if aside := _aside(facts):
        return aside
    if system.which("ip") is None:
        return broken("ip is missing: no addresses, no routes.", "apt install iproute2")
    if is_busybox(system.which("ip") or ""):
        return broken(
            "ip is BusyBox's, which knows neither tables nor rules by mark.",
            "Install iproute2: apk add iproute2, or: apt install iproute2",
        )
    if system.which("nft") is None:
        if facts.kill_switch:
            return broken(
                "nft is missing: the kill switch cannot hold by the firewall "
                "(client.kill_switch), by routes alone.",
                "apt install nftables",
            )
        return warn(
            "nft is missing: the kill switch can hold by routes alone.", "apt install nftables"
        )
    return ok("ip and nft are there.")


@CHECKS.check("link", "Connection")
def link(facts: ClientFacts) -> Outcome:
    now = facts.now
    if now is None:
        return skipped("The client service does not run.")
    if now.state is ClientState.CONNECTED:
        rtt = "" if now.rtt_ms is None else f", {now.rtt_ms:.1f} ms"
        return ok(f"Connected to {now.gateway} by {now.transport} ({now.endpoint}{rtt}).")
    if now.state is ClientState.IDLE:
        return skipped("Not connected, and not asked to be.")
    if now.state is ClientState.FAILED:
        return broken(now.reason or "The connection failed.", _after(now.error))
    if now.state is ClientState.ASKED:
        return warn(
            "Nobody has said here yet that both sides show the same digits.",
            "Compare them, and confirm here: vpnshare connect --code DIGITS",
        )
    if now.state is ClientState.WAITING:
        return warn(
            "The gateway's owner has not answered yet.",
            "Approve this device there: vpnshare requests, vpnshare approve ID",
        )
    return warn(now.reason or "The gateway is being reached for.", _after(now.error))


@CHECKS.check("cable", "Phones on USB")
def cable(facts: ClientFacts) -> Outcome:
    if facts.phones is None:
        return warn("Nothing here can speak to a phone on USB.", LACKS["usb_absent"])
    phone = nearest(list(facts.phones))
    if phone is None:
        return skipped("None is on the cable.")
    name = phone.model or phone.serial
    if phone.state is PhoneState.READY:
        return ok(f"{name} can be reached by the cable.")
    return warn(f"{name} cannot be reached by the cable: {STATES[phone.state]}.", advice(phone))


def _after(error: str | None) -> str:
    """What to do about a named failure."""
    if error in ("version_unsupported", "suite_unsupported", "pattern_unsupported"):
        return "Bring both sides to the same version of VPN Share."
    if error in ("denied", "revoked", "not_paired"):
        return "Pair again. On the gateway: vpnshare pair; here: vpnshare connect -"
    if error == "lease_clashes":
        return (
            "On the gateway, addresses that are free here: vpnshare set gateway.pool_ipv4 NETWORK"
        )
    if error == "lease_forbidden":
        return "Do not use this gateway: vpnshare forget GATEWAY, and ask its owner."
    if error in LACKS:
        return "Then it goes on by itself, or: vpnshare connect usb"
    if error is not None and error.startswith("secret_"):
        return "Show a new code on the gateway (vpnshare pair), and connect with it."
    return (
        "See whether both are in the same network and the gateway runs; on the gateway: "
        "vpnshare doctor"
    )


@CHECKS.check("gateway-sharing", "Sharing by the gateway")
def gateway_sharing(facts: ClientFacts) -> Outcome:
    now = facts.now
    if not facts.connected or now is None:
        return skipped("Not connected.")
    if now.shut_out:
        return warn(now.shut_out, "What this device may do is the gateway's owner's to change.")
    if now.sharing == "off":
        return warn("The gateway does not share now.", "On the gateway: vpnshare share")
    if now.sharing == "unavailable":
        return warn("The gateway has no VPN: it forwards nothing.", "Turn the VPN on there.")
    return ok("The gateway shares its VPN.")


@CHECKS.check("routes", "Routes")
async def routes(facts: ClientFacts) -> Outcome:
    now = facts.now
    if now is not None and now.state is ClientState.FAILED and now.guard.guards.rules:
        return warn(
            "This device's network is closed: it was to be connected, and that was refused.",
            "Open it: vpnshare disconnect",
        )
    if apart := _aside(facts):
        return apart
    if not facts.connected or now is None:
        return skipped("Not connected.")
    if not facts.routes:
        return skipped("client.routes is off: only the addresses are set.")
    into = []
    for family, address in ELSEWHERE.items():
        name = {"ipv4": "IPv4", "ipv6": "IPv6"}[family]
        said = await facts.machine.system.said("ip", "-j", "route", "get", address)
        device = _device(said)
        if device is not None and device == now.interface:
            into.append(name)
        elif device is not None:
            return broken(
                f"{name} goes to {device} and not into the tunnel ({now.interface}).",
                "Connect again (vpnshare disconnect, vpnshare connect); if it stays so, another "
                "VPN or network manager sets routes here: stop it.",
            )
    if not into:
        return skipped("ip shows no route, neither for IPv4 nor for IPv6.")
    beside = now.guard.guards.beside
    aside = f"{len(beside)} go beside it: {', '.join(beside)}" if beside else "nothing is local"
    seen = f"{' and '.join(into)} {'go' if len(into) > 1 else 'goes'} into {now.interface}"
    return ok(f"{seen}{'' if len(into) > 1 else '; the other shows no route'}; {aside}.")


@CHECKS.check("promise", "Promise")
def promise(facts: ClientFacts) -> Outcome:
    now = facts.now
    if aside := _aside(facts):
        return aside
    if now is not None and now.guard.open_on_failure:
        return warn(
            "Weakened (--open-on-failure): when the link stays away or is refused, traffic leaves "
            "outside the VPN.",
            "Take it back: vpnshare set client.open_on_failure false, then connect again.",
        )
    if now is None:
        return skipped("The client service does not run: see what it has left, below.")
    if not now.guard.guards.rules:
        return skipped("Nothing is in force.")
    before = [name for name in now.guard.guards.beside if name.startswith("ip -")]
    if before and not now.guard.guards.strict:
        return warn(
            f"Rules of other programs decide before this client's: {', '.join(before)}. What they "
            "send elsewhere leaves outside the VPN.",
            "Remove them (see: ip rule), or have the firewall hold it: vpnshare set "
            "client.kill_switch true, then start the client anew.",
        )
    return ok("The network stays closed until you disconnect, whatever becomes of the link.")


def _device(said: str | None) -> str | None:
    """The device of `ip -j route get`; None where there is no route."""
    try:
        found: Any = json.loads(said or "[]")
        return str(found[0]["dev"])
    except (ValueError, LookupError, TypeError):
        return None


@CHECKS.check("resolver", "Resolver")
async def resolver(facts: ClientFacts) -> Outcome:
    now = facts.now
    system = facts.machine.system
    text = system.read(RESOLV_CONF)
    aside = _aside(facts)
    if now is None or now.state is ClientState.IDLE or aside is not None:
        return _left_resolver(text or "") or aside or skipped("Not connected.")
    if not facts.connected or now.lease is None:
        return skipped("Not connected.")
    if not facts.resolver:
        return skipped("client.dns is off: the resolver is left alone.")
    if text is None:
        return skipped(f"{RESOLV_CONF} cannot be read.")
    servers = nameservers(text)
    if any(server in RESOLVED_STUBS for server in servers):
        said = await system.said("resolvectl", "dns", now.interface or "")
        if said is None:
            return skipped("systemd-resolved does not say whom it asks (resolvectl).")
        servers = said.split(":", 1)[-1].split()
    if not set(servers) & set(now.lease.dns) and is_ours(text):
        return broken(
            f"Names are asked of {', '.join(servers) or 'nobody'}: {RESOLV_CONF} is another "
            "instance's of VPN Share, or was left by an earlier run.",
            "Disconnect the other (VPNSHARE_HOME=FOLDER vpnshare disconnect), or connect again.",
        )
    if not set(servers) & set(now.lease.dns):
        return broken(
            f"Names are asked of {', '.join(servers) or 'nobody'}, not of the gateway "
            f"({', '.join(now.lease.dns)}).",
            "Connect again (vpnshare disconnect, vpnshare connect); if it stays so, a network "
            f"manager rewrites {RESOLV_CONF}.",
        )
    return ok(f"Names are asked of the gateway ({', '.join(now.lease.dns)}).")


def _left_resolver(text: str) -> Outcome | None:
    """The resolver's file while this client does not use it, where something is wrong with it."""
    if is_ours(text):
        return broken(
            f"{RESOLV_CONF} was left by a connection of VPN Share that is over: names are asked of "
            f"{', '.join(nameservers(text)) or 'nobody'}.",
            "Start the client service, which puts back what was there (sudo vpnshare client); if "
            "it stays so, connect to your network anew.",
        )
    if text == LOST:
        return broken(
            f"{RESOLV_CONF} names no server: what was there before VPN Share is lost.",
            "Connect to your network anew, or write into it: nameserver ADDRESS",
        )
    return None


@CHECKS.check("kill-switch", "Kill switch")
async def kill_switch(facts: ClientFacts) -> Outcome:
    if facts.now is None:
        return _aside(facts) or skipped("The client service does not run.")
    guard = facts.now.guard
    if not guard.guards.rules and (aside := _aside(facts)):
        return aside
    if not guard.guards.rules:
        return skipped("Off: nothing is in force. It is there by itself once you are connected.")
    state, strict = guard.state.value.capitalize(), guard.guards.strict
    if not facts.kill_switch and not strict:
        return ok(
            f"{state}, by {held_by(False)}. With client.kill_switch the firewall holds what "
            "routes cannot."
        )
    said = await facts.machine.system.said("nft", "list", "tables")
    if said is None:
        return skipped("The firewall's tables cannot be listed by this user.")
    if "inet vpnshare_" not in said:
        return broken(
            f"{state}, by routes alone: the firewall's part (client.kill_switch) is not loaded. "
            "Something flushed the firewall.",
            "Connect again: vpnshare disconnect, vpnshare connect",
        )
    return ok(f"{state}, by {held_by(True)}.")


@CHECKS.check("client-mtu", "Packet size")
def client_mtu(facts: ClientFacts) -> Outcome:
    now = facts.now
    if not facts.connected or now is None or now.lease is None:
        return skipped("Not connected.")
    if now.lease.mtu < 1280:
        return warn(
            f"The lease's packets hold {now.lease.mtu} bytes; IPv6 needs 1280.",
            "On the gateway: vpnshare set gateway.mtu 1500, then connect again",
        )
    offload = ", with segmentation offload" if now.lease.offload else ""
    return ok(f"{now.lease.mtu} bytes{offload}.")


async def _block_stands(facts: ClientFacts) -> bool:
    """Whether the kernel has rules that only a client of ours makes."""
    said = await facts.machine.system.said("ip", "-N", "-j", "rule", "show")
    try:
        found: Any = json.loads(said or "[]")
        return any(str(rule.get("protocol")) == PROTOCOL for rule in found)
    except (ValueError, AttributeError, TypeError):
        return False


@CHECKS.check("leftovers", "Changes to the system")
async def leftovers(facts: ClientFacts) -> Outcome:
    now = facts.now
    if now is not None and now.state is ClientState.IDLE and now.guard.guards.rules:
        return broken(
            "Disconnected, but not all was undone, and this device's network is still closed: "
            f"{'; '.join(now.guard.guards.rules)}.",
            "See why: vpnshare logs. Then say it again: vpnshare disconnect",
        )
    aside = _aside(facts)
    if now is not None and now.state is not ClientState.IDLE and aside is None:
        return ok("Those of this connection; they are undone when you disconnect.")
    if await _block_stands(facts):
        return warn(
            "This device's network is closed: a client was connected, and did not end on purpose.",
            "Start it, it goes on where it was: sudo vpnshare client. To open the network then: "
            "vpnshare disconnect",
        )
    if facts.undone is None:
        return skipped("The journal of changes cannot be read by this user.")
    if not facts.undone:
        return warn(
            "Something of an earlier connection was not undone.",
            "Start the client service again: it undoes what it finds (sudo vpnshare client)",
        )
    return aside or ok("None is left.")

"""Checks of the sharing side: VPN, guard, who can reach us, DNS, MTU."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.model import VpnNetwork, VpnState
from gateway.proof import EgressReport
from gateway.records import Knocks
from gateway.vpn.snapshot import Interface
from gateway.wireguard_diagnosis import Trouble
from reach.cable import PHONE_SHELL
from services.doctor.checks import Checks, Outcome, broken, ok, skipped, warn
from services.doctor.machine import Machine
from services.interfaces import sentence
from services.wireguard_words import SWITCHES, say

LEAST_MTU = 1280
"""What IPv6 asks of every link (RFC 8200 5)."""
FEW_DESCRIPTORS = 1024

Ask = Callable[[], Awaitable[str]]
"""Ask the resolver a question: the answer's RCODE by name, or `silence`."""
Hear = Callable[[Interface, str, int], Awaitable[bool | None]]


@dataclass(frozen=True, slots=True)
class WireguardFacts:
    """WireGuard's side of a gateway."""

    port: int = 0
    """0: off, or nobody runs."""
    listen: tuple[str, ...] = ()
    known: int = 0
    """Devices that were let in."""
    offered: int = 0
    """Devices that were made, and have not been let in."""
    connected: int = 0
    troubles: tuple[Trouble, ...] = ()
    """The likeliest first."""


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """What the checks look at: a running gateway at one moment. Times are its clock's."""

    machine: Machine
    now: float
    vpn: VpnNetwork
    guard: str
    streams: str
    bypass: bool
    sharing: str
    egress: EgressReport
    countable: bool
    """Whether the VPN interface's counters can be read."""
    listen: tuple[tuple[str, int], ...]
    interfaces: tuple[Interface, ...]
    knocks: tuple[Knocks, ...]
    resolvers: tuple[str, ...]
    vpn_mtu: int | None
    lease_mtu: int
    descriptors: int
    version_refused: int
    """Clients that were turned away because they speak another protocol version."""
    wake_lock: str
    slept: float
    """Seconds that the machine slept while the service ran."""
    ask: Ask
    hear: Hear
    wireguard: WireguardFacts = WireguardFacts()

    def outside(self) -> list[Interface]:
        """Running interfaces by which devices may come: neither loopback nor the VPN."""
        return [
            each
            for each in self.interfaces
            if each.running and not each.loopback and each.name != self.vpn.interface
            and any(not a.scoped for a in each.addresses)
        ]  # fmt: skip

    def interface_of(self, address: str) -> str | None:
        """The name of the interface that has the address."""
        for each in self.interfaces:
            if any(str(a) == address for a in each.addresses):
                return each.name
        return None


CHECKS: Checks[GatewayFacts] = Checks("gateway")


@CHECKS.check("vpn", "VPN")
def vpn(facts: GatewayFacts) -> Outcome:
    network = facts.vpn
    if network.state is not VpnState.ACTIVE and facts.bypass:
        return skipped("Bypass is on: no VPN is asked for, and none was found.")
    if network.state is VpnState.ACTIVE:
        kind = f" ({network.kind})" if network.kind else ""
        return ok(f"The VPN is {network.interface}{kind}, and this app's traffic goes into it.")
    if network.state is VpnState.EXCLUDED:
        return broken(
            network.reason or "There is a VPN, but not for this app.",
            "In the VPN app's split tunnelling, let Termux use the VPN."
            if facts.machine.system.termux
            else "Let this user's traffic use the VPN, or name the interface: "
            "vpnshare set gateway.vpn_interface NAME",
        )
    there = f" {sentence(facts.interfaces)}" if network.unnamed and facts.interfaces else ""
    return broken(
        f"{network.reason or 'There is no VPN.'}{there}",
        "Turn the VPN on; if it is on, name it: vpnshare set gateway.vpn_interface NAME",
    )


@CHECKS.check("families", "IPv4 and IPv6")
def families(facts: GatewayFacts) -> Outcome:
    network = facts.vpn
    if not network.usable:
        return skipped("There is no VPN to look at.")
    if network.ipv4 and network.ipv6:
        return ok("The VPN carries both.")
    if not network.ipv4 and not network.ipv6:
        return broken(
            "The VPN carries neither IPv4 nor IPv6.", "Reconnect the VPN, or try another server."
        )
    has, lacks = ("IPv4", "IPv6") if network.ipv4 else ("IPv6", "IPv4")
    return warn(
        f"The VPN carries {has} only; devices are told at once that {lacks} is not there.",
        f"Turn {lacks} on in the VPN, if it has it; nothing else is needed.",
    )


@CHECKS.check("bypass", "Bypass")
def bypass(facts: GatewayFacts) -> Outcome:
    if facts.bypass:
        return warn(
            "Bypass is on: devices' traffic may leave outside the VPN.",
            "vpnshare set gateway.bypass off",
        )
    return ok("Off: nothing leaves outside the VPN.")


@CHECKS.check("guard", "Egress guard")
def guard(facts: GatewayFacts) -> Outcome:
    if facts.bypass:
        return skipped("Bypass is on.")
    if facts.guard == "device":
        return ok("Every socket is tied to the VPN's device.")
    newer = "A kernel of 5.7 or newer ties them to the device."
    if facts.guard == "unicast-if" and facts.streams == "scope":
        return ok("Sockets are tied to the VPN's interface by its index.")
    if facts.guard == "unicast-if":
        return warn(
            "This kernel cannot hold TCP over IPv6 inside the VPN: devices use IPv4 for it.", newer
        )
    return warn(
        "This kernel can hold TCP over IPv4 inside the VPN only: UDP, ping and IPv6 are refused.",
        newer,
    )


@CHECKS.check("egress", "Egress proof")
def egress(facts: GatewayFacts) -> Outcome:
    report = facts.egress
    if report.alarms:
        return broken(
            f"The VPN's interface carried less than was sent or received: "
            f"{', '.join(report.alarms)}. Sharing was stopped.",
            "Reconnect the VPN, look where traffic goes (vpnshare flows), then: vpnshare share",
        )
    if facts.bypass:
        return skipped("Bypass is on.")
    if not facts.countable:
        return skipped("The interface's counters cannot be read here.")
    if report.looks < 2:
        return skipped("Nothing to compare yet.")
    return ok(
        f"{report.looks} looks: the interface carried all that was sent and received "
        f"({report.sent + report.received:,} bytes)."
    )


@CHECKS.check("sharing", "Sharing")
def sharing(facts: GatewayFacts) -> Outcome:
    if facts.sharing == "on":
        return ok("On.")
    if facts.sharing == "off":
        return warn("Off: devices stay connected, but have no Internet.", "vpnshare share")
    if facts.sharing == "stopped":
        return skipped("The gateway service does not run.")
    return skipped("Wanted; it begins when there is a VPN.")


@CHECKS.check("listeners", "Listening")
def listeners(facts: GatewayFacts) -> Outcome:
    if not facts.listen:
        return broken("No address is listened on.", "vpnshare set gateway.listen 0.0.0.0,::")
    spelled = ", ".join(f"{host} port {port}" for host, port in facts.listen)
    if all(ipaddress.ip_address(host).is_loopback for host, _ in facts.listen):
        return warn(
            f"Only this machine (and a USB cable) is listened to: {spelled}.",
            "vpnshare set gateway.listen 0.0.0.0,::",
        )
    own = {str(address) for each in facts.interfaces for address in each.addresses}
    lost = [
        host
        for host, _ in facts.listen
        if not ipaddress.ip_address(host).is_unspecified and host not in own
    ]
    if own and lost:
        return broken(
            f"{lost[0]} is no address of this machine any more.",
            "vpnshare set gateway.listen 0.0.0.0,::",
        )
    if facts.sharing == "stopped":
        return skipped(f"The gateway service does not run: nobody listens at {spelled}.")
    return ok(f"{spelled}.")


@CHECKS.check("reachable", "Reachable by devices")
async def reachable(facts: GatewayFacts) -> Outcome:
    """Did anybody come in, and by which listener and interface; else, can we hear anybody?"""
    came = [each for each in facts.knocks if not ipaddress.ip_address(each.local).is_loopback]
    if came:
        last = max(came, key=lambda each: each.last)
        name = facts.interface_of(last.local) or "an interface that is gone"
        return ok(
            f"Devices came in by {last.transport} to {last.local} ({name}), "
            f"{facts.now - last.last:.0f} s ago."
        )
    cable = "use a USB cable; on the device: vpnshare join usb"
    outside = facts.outside()
    if not outside:
        return warn(
            "This machine is in no network beside the VPN.",
            f"Join the device's Wi-Fi, turn on the hotspot, or {cable}.",
        )
    heard: bool | None = None
    for each in outside:
        own = next((a for a in each.addresses if a.version == 4 and not a.scoped), None)
        if own is not None:
            answer = await facts.hear(each, str(own), own.prefix)
            if answer and facts.sharing == "stopped":
                return skipped(
                    f"Devices on {each.name} can be heard, but the gateway service does not run."
                )
            if answer:
                return ok(f"Devices on {each.name} can be heard; none has come in yet.")
            heard = heard if answer is None else False
    names = ", ".join(each.name for each in outside)
    if heard is None:
        return skipped(f"None has come in yet, and {names} could not be tried.")
    if facts.machine.system.termux and facts.vpn.usable:
        switches = "; ".join(f"{app}: {where}" for app, where in SWITCHES)
        return warn(
            f"Nothing from {names} reaches this app. A VPN that takes all traffic makes Android "
            "deaf to the local network.",
            f"Allow the local network in the VPN app ({switches}), or {cable}.",
        )
    ports = ", ".join(str(port) for port in sorted({port for _, port in facts.listen}))
    return warn(
        f"None has come in yet, and nobody answered on {names}.",
        f"Let TCP and UDP port {ports} through the firewall, and turn the VPN's lock on the local "
        "network off.",
    )


@CHECKS.check("wireguard", "WireGuard devices")
def wireguard(facts: GatewayFacts) -> Outcome:
    """Of all that may be wrong, the first: the rest is in `vpnshare wireguard`."""
    own = facts.wireguard
    if facts.sharing == "stopped":
        return skipped("The gateway service does not run.")
    if not own.port:
        return skipped("Off.")
    if own.known + own.offered == 0:
        if not own.troubles:
            return skipped("None was made.")
    elif not own.listen:
        return broken(
            f"UDP port {own.port} cannot be listened on: no device can come.",
            "End the program that has it (ss -ulpn), then: vpnshare relisten",
        )
    if own.troubles:
        said = say(own.troubles[0], own.port, facts.machine.system)
        more = len(own.troubles) - 1
        also = f" {more} more: vpnshare wireguard." if more else ""
        return warn(f"{said.found}{also}", said.advice)
    waiting = f", {own.offered} made and not let in yet" if own.offered else ""
    return ok(f"{own.connected} of {own.known} connected{waiting}.")


@CHECKS.check("dns", "DNS")
async def dns(facts: GatewayFacts) -> Outcome:
    if not facts.vpn.usable:
        return skipped("There is no VPN to ask through.")
    if not facts.resolvers:
        return broken(
            "The VPN names no resolver, and none outside it is ever asked.",
            "vpnshare set dns.servers 9.9.9.9",
        )
    whom = ", ".join(facts.resolvers)
    answer = await facts.ask()
    if answer in ("NOERROR", "NXDOMAIN"):
        return ok(f"A question was answered through the VPN (by {whom}).")
    said = "do not answer" if answer == "silence" else f"answer {answer}"
    return broken(f"The resolvers ({whom}) {said}.", "vpnshare set dns.servers 9.9.9.9")


@CHECKS.check("mtu", "Packet size")
def mtu(facts: GatewayFacts) -> Outcome:
    if not facts.vpn.usable:
        return skipped("There is no VPN to look at.")
    if facts.vpn_mtu is None:
        return skipped("The VPN's packet size cannot be read here.")
    if facts.vpn_mtu < LEAST_MTU and facts.vpn.ipv6:
        return warn(
            f"The VPN's packets hold {facts.vpn_mtu} bytes; IPv6 needs {LEAST_MTU}.",
            "Raise the VPN's MTU to 1280 or more.",
        )
    if facts.vpn_mtu < 576:
        return broken(
            f"The VPN's packets hold {facts.vpn_mtu} bytes, less than any host may assume.",
            "Raise the VPN's MTU to 1280 or more.",
        )
    return ok(
        f"The VPN's packets hold {facts.vpn_mtu} bytes, leases' {facts.lease_mtu}; TCP is cut "
        "anew, and larger datagrams are answered by Packet Too Big."
    )


@CHECKS.check("descriptors", "Open files")
def descriptors(facts: GatewayFacts) -> Outcome:
    if facts.descriptors < FEW_DESCRIPTORS:
        return warn(
            f"This process may open {facts.descriptors} files, and each connection is one.",
            "Raise the limit (ulimit -Hn, or LimitNOFILE= in the unit), and restart.",
        )
    return ok(f"This process may open {facts.descriptors:,}.")


@CHECKS.check("client-versions", "Versions of devices")
def client_versions(facts: GatewayFacts) -> Outcome:
    if facts.sharing == "stopped":
        return skipped("The gateway service does not run.")
    if facts.version_refused:
        return warn(
            f"{facts.version_refused} connections were refused: the device speaks another version "
            "of the protocol.",
            "Bring both sides to the same version of VPN Share.",
        )
    return ok("No device was refused for its version.")


@CHECKS.check("wake-lock", "Wake lock")
def wake_lock(facts: GatewayFacts) -> Outcome:
    if facts.sharing == "stopped":
        return skipped("The gateway service does not run.")
    if facts.wake_lock == "none":
        return skipped("Phones only.")
    if facts.sharing == "off":
        return ok("Not needed while sharing is off.")
    if facts.wake_lock == "held":
        return ok("Held.")
    if facts.wake_lock == "free":
        return warn(
            "Not held: the phone will sleep while sharing.", "vpnshare set gateway.wake_lock on"
        )
    return warn(
        f"It cannot be held: {facts.wake_lock}.", "pkg install termux-tools, then share again"
    )


@CHECKS.check("battery", "Battery optimisation")
def battery(facts: GatewayFacts) -> Outcome:
    if not facts.machine.system.termux:
        return skipped("Phones only.")
    if facts.sharing == "stopped":
        return skipped("The gateway service does not run.")
    if facts.slept > 5.0 and facts.wake_lock == "held":
        return warn(
            f"The phone slept for {facts.slept:.0f} s in spite of the wake lock.",
            "Settings > Apps > Termux > Battery > Unrestricted.",
        )
    return ok("The phone has not slept while it should not.")


@CHECKS.check("phantom", "Phantom-process limit")
async def phantom(facts: GatewayFacts) -> Outcome:
    system = facts.machine.system
    api = system.android_api()
    if not system.termux or api is None or api < 31:
        return skipped("Android 12 and newer only.")
    said = await system.said(
        "getprop", "persist.sys.fflag.override.settings_enable_monitor_phantom_procs"
    )
    if said is not None and said.strip() == "false":
        return ok("Android does not end processes for their number.")
    return warn(
        "Android ends apps that have many processes, this service among them.",
        "Developer options > Disable child process restrictions; before Android 14: "
        f"{PHONE_SHELL} settings put global settings_enable_monitor_phantom_procs false",
    )


@CHECKS.check("termux-api", "Notification")
def termux_api(facts: GatewayFacts) -> Outcome:
    system = facts.machine.system
    if not system.termux:
        return skipped("Phones only.")
    if system.which("termux-notification") is None:
        return warn(
            "Termux:API is missing: no notification, and no stop button, while sharing.",
            "pkg install termux-api, and install the Termux:API app",
        )
    return ok("Termux:API is there.")

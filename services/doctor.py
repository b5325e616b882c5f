"""What a machine needs for VPN Share, as a list of checks.

A check looks at one thing and answers with a finding: good, worse, or missing,
and then the fix. Checks register themselves by the decorator and run in the
order they stand here; none changes anything, and none raises: a check that
fails unexpectedly is a finding, too.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from services import paths
from services.control.errors import ControlError, ServiceUnavailable
from services.control.oneshot import OneShot
from services.control.schema import ClientStatus, GatewayStatus


class Verdict(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Something smaller works; nothing needed is missing."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `side` is who cares: `gateway`, `client` or `both`."""

    check: str
    side: str
    verdict: Verdict
    message: str
    fix: str | None = None


Check = Callable[[], Iterator[Finding]]
_CHECKS: list[tuple[str, str, Check]] = []


def check(name: str, side: str) -> Callable[[Check], Check]:
    """Register a check under `name`."""

    def register(function: Check) -> Check:
        _CHECKS.append((name, side, function))
        return function

    return register


def run_all() -> list[Finding]:
    """Run every check."""
    findings: list[Finding] = []
    for name, side, function in _CHECKS:
        try:
            findings.extend(function())
        except Exception as exc:
            text = f"The check itself failed: {type(exc).__name__}: {exc}"
            findings.append(Finding(name, side, Verdict.NOTE, text))
    return findings


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@check("python", "both")
def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "both", Verdict.OK, f"Python {version} on {sys.platform}.")


@check("packages", "both")
def _packages() -> Iterator[Finding]:
    for module, fix in (
        ("cryptography", "pip install cryptography (Termux: pkg install python-cryptography)"),
        ("noise", "pip install noiseprotocol"),
    ):
        if not _has(module):
            text = f"{module} is not installed: no tunnel can be made."
            yield Finding("packages", "both", Verdict.FAIL, text, fix)
    optional = (
        ("textual", "both", "no console", "pip install textual"),
        ("qrcode", "gateway", "no QR code, the URI only", "pip install qrcode"),
        ("uvloop", "both", "the standard event loop is used", "pip install uvloop"),
    )
    for module, side, effect, fix in optional:
        if _has(module):
            yield Finding("packages", side, Verdict.OK, f"{module} is installed.")
        else:
            text = f"{module} is not installed: {effect}."
            yield Finding("packages", side, Verdict.NOTE, text, fix)


@check("gateway service", "gateway")
def _gateway() -> Iterator[Finding]:
    name, side = "gateway service", "gateway"
    try:
        with OneShot(str(paths.find().socket("gateway")), "gateway", timeout=3.0) as service:
            status: GatewayStatus = service.call("status")
    except ServiceUnavailable as exc:
        yield Finding(name, side, Verdict.NOTE, exc.message, exc.hint)
        return
    except ControlError as exc:
        yield Finding(name, side, Verdict.FAIL, exc.message, exc.hint)
        return
    text = f"The gateway service answers; sharing is {status.sharing}."
    yield Finding(name, side, Verdict.OK, text)
    vpn = status.vpn
    if vpn.state == "active":
        families = " and ".join(n for n, on in (("IPv4", vpn.ipv4), ("IPv6", vpn.ipv6)) if on)
        text = f"The VPN is {vpn.interface} and carries {families or 'nothing'}."
        yield Finding("vpn", side, Verdict.OK, text)
    else:
        fix = None if vpn.reason else "Turn the VPN on, or name it with --vpn-interface."
        yield Finding("vpn", side, Verdict.FAIL, vpn.reason or "There is no VPN.", fix)
    if status.bypass:
        text = "Bypass is on: traffic may leave outside the VPN."
        yield Finding("vpn", side, Verdict.NOTE, text, "Turn gateway.bypass off.")
    if vpn.guard not in ("device", "none"):
        text = f"Sockets are held to the VPN by {vpn.guard} only; TCP over IPv6 is refused."
        fix = "A kernel of 5.7 or newer lets them be tied to the VPN's device."
        yield Finding("guard", side, Verdict.NOTE, text, fix)


@check("client service", "client")
def _client() -> Iterator[Finding]:
    name, side = "client service", "client"
    try:
        with OneShot(str(paths.find().socket("client")), "client", timeout=3.0) as service:
            status: ClientStatus = service.call("status")
    except ServiceUnavailable as exc:
        yield Finding(name, side, Verdict.NOTE, exc.message, exc.hint)
        return
    except ControlError as exc:
        yield Finding(name, side, Verdict.FAIL, exc.message, exc.hint)
        return
    text = f"The client service answers; it is {status.state}."
    yield Finding(name, side, Verdict.OK, text)
    if status.state == "failed" and status.reason:
        yield Finding(name, side, Verdict.FAIL, status.reason)


@check("virtual NIC", "client")
def _nic() -> Iterator[Finding]:
    name, side = "virtual NIC", "client"
    if paths.is_termux():
        text = "Android lets no app but a VPN app open one: this device can be the gateway only."
        yield Finding(name, side, Verdict.NOTE, text)
        return
    device = "/dev/net/tun"
    if not os.path.exists(device):
        fix = "sudo modprobe tun (in a container: pass the device in)"
        yield Finding(name, side, Verdict.FAIL, f"{device} is not there.", fix)
        return
    if not os.access(device, os.R_OK | os.W_OK):
        text = f"{device} may not be opened by this user."
        yield Finding(
            name, side, Verdict.NOTE, text, "Run the client as root: sudo vpnshare client"
        )
        return
    if not has_net_admin():
        text = "This user may not set up network interfaces (CAP_NET_ADMIN)."
        yield Finding(
            name, side, Verdict.NOTE, text, "Run the client as root: sudo vpnshare client"
        )
        return
    yield Finding(name, side, Verdict.OK, "A virtual NIC can be opened.")


@check("tools", "client")
def _tools() -> Iterator[Finding]:
    if paths.is_termux():
        return
    for program, effect in (
        ("ip", "the client cannot set addresses and routes"),
        ("nft", "there is no kill switch"),
    ):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            yield Finding("tools", "client", Verdict.OK, f"{program} is there.")
        else:
            verdict = Verdict.FAIL if program == "ip" else Verdict.NOTE
            package = {"ip": "iproute2", "nft": "nftables"}[program]
            text = f"{program} is not there: {effect}."
            yield Finding("tools", "client", verdict, text, f"apt install {package}")


@check("termux", "gateway")
def _termux() -> Iterator[Finding]:
    if not paths.is_termux():
        return
    if shutil.which("termux-notification"):
        yield Finding("termux", "gateway", Verdict.OK, "Termux:API is there.")
    else:
        text = "Termux:API is not there: no notification while sharing."
        fix = "pkg install termux-api, and the Termux:API app"
        yield Finding("termux", "gateway", Verdict.NOTE, text, fix)
    text = "Android may end background processes."
    fix = "termux-wake-lock, and no battery optimisation for Termux"
    yield Finding("termux", "gateway", Verdict.NOTE, text, fix)


def has_net_admin() -> bool:
    """Whether this process may set up interfaces: CAP_NET_ADMIN is effective."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("CapEff:"):
                    return bool(int(line.split()[1], 16) >> 12 & 1)
    except OSError:
        pass
    return os.geteuid() == 0

"""`vpnshare discover`: gateways on the local networks that announce themselves, and routers.

Needs no service: it listens for a moment, by mDNS, on this machine's own
networks, and meanwhile asks its default routers for a gateway's key, which is
no request at anybody's desk. Phones on a cable need no network.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from client import nearby
from client.nearby import Nearby
from client.system.facts import FactsReader
from client.system.run import SystemRunner
from control.calling import command
from control.errors import Code, ControlError
from control.exits import Exit
from control.lacking import install
from control.output import Column, complain, print_json, print_table, printable
from control.paths import find
from reach.cable import Phone, PhoneState
from reach.mdns import Announcement, DiscoveryUnavailable, browse
from reach.usb import system_cable

_OTHERWISE = "By its address: vpnshare join HOST; or by a pairing URI: vpnshare join -"
_NO_LAN = ("lo", "vshp", "tun", "tap", "wg", "ppp", "docker", "virbr", "br-")
"""Beginnings of names of interfaces behind which no phone sits."""


def discover(args: argparse.Namespace) -> int:
    (found, problem), routers, phones = asyncio.run(_look_around(args.seconds))
    if args.json:
        print_json(
            {
                "gateways": [
                    {**asdict(a), "targets": [_target(host, a.port) for host in a.addresses]}
                    for a in found
                ],
                "routers": [{"target": r.target, "fingerprint": r.fingerprint} for r in routers],
                "phones": [{"serial": p.serial, "model": p.model} for p in phones],
            }
        )
    else:
        columns = (Column("NAME"), Column("CONNECT WITH"), Column("FINGERPRINT"))
        rows = [
            (
                printable(a.name) or "-",
                command(f"join {_target(a.addresses[0], a.port)}"),
                a.fingerprint,
            )
            for a in found
        ]
        announced = {a.fingerprint for a in found}
        rows += [
            ("this network's router", command(f"join {r.target}"), r.fingerprint)
            for r in routers
            if r.fingerprint not in announced
        ]
        rows += [
            (printable(p.model) or "phone", command(f"join usb:{p.serial}"), "") for p in phones
        ]
        if rows or problem is None:
            print_table(columns, rows, "No gateway is found here.")
    if problem:
        complain(*problem)
        return Exit.FAILED
    return Exit.OK


def _target(host: str, port: int) -> str:
    """An address as `vpnshare connect` takes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _look_around(
    seconds: float,
) -> tuple[tuple[list[Announcement], tuple[str, str] | None], list[Nearby], list[Phone]]:
    """What is announced, or why nobody has listened; routers that are gateways; phones."""
    return await asyncio.gather(_look(seconds), _routers(), _phones())


async def _routers() -> list[Nearby]:
    reader = FactsReader(SystemRunner(), Path("/etc/resolv.conf"))
    facts = await asyncio.to_thread(reader.read, None)
    return await nearby.routers(facts, 0)


async def _look(seconds: float) -> tuple[list[Announcement], tuple[str, str] | None]:
    """What was found; or why nobody has looked, and what to do about it."""
    addresses = own_addresses()
    if not addresses:
        return [], ("This machine is on no local network.", _OTHERWISE)
    try:
        return await browse(addresses, seconds), None
    except DiscoveryUnavailable as error:
        return [], (str(error), install(error.lacks) if error.lacks else _OTHERWISE)


async def _phones() -> list[Phone]:
    try:
        return [
            p for p in await system_cable(find().state_dir).phones() if p.state is PhoneState.READY
        ]
    except OSError:
        return []


def own_addresses() -> list[str]:
    """IPv4 addresses of the interfaces that lead to local networks, by `ip`."""
    try:
        answer = subprocess.run(
            ["ip", "-j", "-4", "addr", "show", "up"], capture_output=True, check=True, timeout=5
        )
        links: list[dict[str, Any]] = json.loads(answer.stdout or b"[]")
    except FileNotFoundError:
        raise ControlError(
            Code.FAILED, "The program ip is not installed: it tells the local networks.",
            "Install the package iproute2.",
        ) from None  # fmt: skip
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    return [
        info["local"]
        for link in links
        if "POINTOPOINT" not in link["flags"] and not link["ifname"].startswith(_NO_LAN)
        for info in link["addr_info"]
    ]

"""`vpnshare connect` and `disconnect`: the receiving side's two verbs."""

from __future__ import annotations

import argparse
import sys
import time

from services.cli.exits import Exit
from services.cli.output import complain, paint, print_json, printable
from services.cli.services import dial
from services.control.errors import ServiceUnavailable
from services.control.oneshot import OneShot
from services.control.schema import ClientStatus

DEFAULT_WAIT = 60.0
"""Seconds to connect when --wait does not say."""
APPROVAL_WAIT = 150.0
"""Seconds while the owner is asked: a request waits for 120 s at the gateway."""
START_WAIT = 5.0
"""Seconds for the client service to appear: `vpnshare client &` and this may be one script."""
_INTERVAL = 0.2

_REFUSALS = ("denied", "revoked", "secret_unknown", "secret_used", "secret_expired")


def connect(args: argparse.Namespace) -> int:
    params = {"transport": args.transport}
    target = _target(args.target)
    with _dial(args.wait) as service:
        if target is None and sys.stdin.isatty() and not service.call("gateways"):
            target = _ask()
        if target is not None:
            from vshp.uri import is_uri

            params["uri" if is_uri(target) else "gateway"] = target
        status: ClientStatus = service.call("connect", **params)
        if args.wait != 0:
            status = _wait(service, status, args.wait, quiet=args.json)
    if args.json:
        print_json(status)
    return _outcome(status, args)


def _target(words: list[str]) -> str | None:
    """What to connect to; a URI may have been typed without quotes around its blanks."""
    if not words:
        return None
    if words == ["-"]:
        return _ask()
    from services.cli.asking import hide_from_others
    from vshp.uri import is_uri

    target = " ".join(words)
    if is_uri(target):
        for word in words:
            hide_from_others(word)
        if sys.stderr.isatty():
            complain(
                "The URI's secret stands in the shell's history now, and others could read it.",
                "vpnshare connect - asks for the URI instead.",
            )
    return target


def _ask() -> str:
    from services.cli.asking import ask_for_uri

    return ask_for_uri()


def _dial(wait: float | None) -> OneShot:
    """The client service; one that was started a moment ago gets the time to come up."""
    deadline = time.monotonic() + min(START_WAIT, START_WAIT if wait is None else wait)
    while True:
        try:
            return dial("client")
        except ServiceUnavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


def _wait(service: OneShot, status: ClientStatus, limit: float | None, quiet: bool) -> ClientStatus:
    """Follow the client's state until it is decided, or the time is over."""
    begin = time.monotonic()
    shown: tuple[str, str | None] | None = None
    deadline = begin + (APPROVAL_WAIT if limit is None else limit)
    for status in service.watch("status", _INTERVAL, deadline):
        if (status.state, status.code) != shown and not quiet:
            shown = (status.state, status.code)
            _progress(status)
        if status.state in ("connected", "failed", "idle"):
            break
        waiting = status.state == "waiting"
        if limit is None and not waiting and time.monotonic() > begin + DEFAULT_WAIT:
            break
    return status


def _progress(status: ClientStatus) -> None:
    gateway = printable(status.gateway or "the gateway")
    if status.state == "connecting":
        text = f"Connecting to {gateway}..."
    elif status.state == "waiting":
        text = f"Waiting for {gateway}'s owner to approve."
        if status.code:
            text += f" Both sides show the code {paint(status.code, 'bold', stream=sys.stderr)}."
    elif status.state == "reconnecting":
        text = f"Trying again: {printable(status.reason or 'the link broke')}"
    else:
        return
    print(text, file=sys.stderr, flush=True)


def _outcome(status: ClientStatus, args: argparse.Namespace) -> int:
    gateway = printable(status.gateway or "the gateway")
    if status.state == "connected":
        if not args.json:
            lease = status.lease
            addresses = f", {lease.ipv4} and {lease.ipv6}" if lease else ""
            print(f"Connected to {gateway}: {status.interface}{addresses}.")
            if status.sharing not in (None, "on"):
                complain(
                    f"The gateway shares no Internet now (sharing is {status.sharing}).",
                    "It begins by itself when the gateway has its VPN and its owner shares.",
                )
        return Exit.OK
    if status.state in ("failed", "idle"):
        complain(status.reason or "The connection was given up.")
        return Exit.REFUSED if status.error in _REFUSALS else Exit.FAILED
    if args.wait == 0:
        if not args.json:
            print(f"Connecting to {gateway}. See: vpnshare status")
        return Exit.OK
    complain(
        f"Not connected yet: {status.reason or status.state}.",
        "The client keeps trying; vpnshare disconnect stops it.",
    )
    return Exit.TIMED_OUT


def disconnect(args: argparse.Namespace) -> int:
    with dial("client") as service:
        status = service.call("disconnect")
    if args.json:
        print_json(status)
    else:
        print("Disconnected; all changes to the system are undone.")
    return Exit.OK

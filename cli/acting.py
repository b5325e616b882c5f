"""Commands that change something by one call: share, unshare, relisten, approve, revoke..."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from cli.pairing import describe
from cli.rules import change_of
from cli.services import dial
from control.errors import Code, ControlError
from control.exits import Exit
from control.output import complain, print_json, printable, tell
from control.schema import Request

SHOWN = 4
"""Waiting devices that are named when there are several."""


def share(args: argparse.Namespace) -> int:
    with dial("gateway") as service:
        status = service.call("share")
    if args.json:
        print_json(status)
    elif status.sharing == "on":
        by = "any interface (bypass is on)" if status.bypass else status.vpn.interface
        tell(f"Sharing is on, through {by}. Let a device in: vpnshare pair")
    else:
        print("Sharing is wanted; it begins when the VPN is there.")
        complain(status.vpn.reason or "There is no VPN.", "Find out more with: vpnshare doctor")
    return Exit.OK


def unshare(args: argparse.Namespace) -> int:
    with dial("gateway") as service:
        status = service.call("unshare")
    if args.json:
        print_json(status)
    else:
        print("Sharing is off.")
    return Exit.OK


def relisten(args: argparse.Namespace) -> int:
    with dial("gateway") as service:
        status = service.call("relisten", drop=args.drop)
    if args.json:
        print_json(status)
    else:
        print(f"Listening on {', '.join(status.listen)}.")
    return Exit.OK


def approve(args: argparse.Namespace) -> int:
    if args.id is None and not _the_one(args, "approve"):
        return Exit.REFUSED
    given = {"template": args.template, "change": change_of(args)}
    rules = {name: value for name, value in given.items() if value}
    return _change("gateway", "approve", args, "{label} may use the VPN now.", **rules)


def deny(args: argparse.Namespace) -> int:
    if args.undo:
        if args.all:
            raise ControlError(
                Code.INVALID_PARAMS, "One denial at a time can be taken back.", "Leave out --all."
            )
        return _change("gateway", "undeny", args, "{label} may ask again.")
    if not args.all:
        if args.id is None:
            _the_one(args, "deny")
        return _change("gateway", "deny", args, "{label} was turned away.")
    with dial("gateway") as service:
        denied = []
        for request in service.call("requests"):
            try:
                denied.append(service.call("deny", id=request.id))
            except ControlError:
                # It has given up, or somebody else was quicker.
                continue
    if args.json:
        print_json(denied)
    else:
        print(f"{len(denied)} devices were turned away." if denied else "No device is waiting.")
    return Exit.OK


def _the_one(args: argparse.Namespace, verb: str) -> bool:
    """Put the id of the only device that waits into `args`; whether the person here means it.

    Digits that nobody has compared are asked about where somebody can be asked.
    Raises `ControlError` when none waits, or several.
    """
    with dial("gateway") as service:
        waiting: list[Request] = service.call("requests")
    if not waiting:
        raise ControlError(
            Code.NOT_FOUND, "No device is waiting.",
            "On the device: vpnshare join. See who has asked: vpnshare logs",
        )  # fmt: skip
    if len(waiting) > 1:
        each = ", ".join(f"{r.code or r.id} ({r.label})" for r in waiting[:SHOWN])
        raise ControlError(
            Code.CONFLICT, f"{len(waiting)} devices are waiting: {each}.",
            f"Name the one: vpnshare {verb} {waiting[0].code or waiting[0].id}",
        )  # fmt: skip
    request = waiting[0]
    args.id = request.id
    if verb != "approve" or not request.code or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    sys.stderr.write(f"{describe(request)} asks. Does it show the same digits? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def revoke(args: argparse.Namespace) -> int:
    return _change("gateway", "revoke", args, "{label} is revoked: it must be paired again.")


def rename(args: argparse.Namespace) -> int:
    return _change("gateway", "rename", args, "It is called {label} now.", label=args.label)


def forget(args: argparse.Namespace) -> int:
    return _change("client", "forget", args, "{label} is forgotten.")


def _change(role: str, method: str, args: argparse.Namespace, text: str, **params: Any) -> int:
    with dial(role) as service:
        done = service.call(method, id=args.id, **params)
    if args.json:
        print_json(done)
    else:
        print(text.format(label=printable(done.label or args.id)))
    for each in done.unwritten:
        complain(each.found, each.advice)
    return Exit.OK

"""Commands that change something by one call: share, unshare, relisten, approve, revoke..."""

from __future__ import annotations

import argparse

from services.cli.exits import Exit
from services.cli.output import complain, print_json, printable
from services.cli.services import dial
from services.control.errors import ControlError


def share(args: argparse.Namespace) -> int:
    with dial("gateway") as service:
        status = service.call("share")
    if args.json:
        print_json(status)
    elif status.sharing == "on":
        print(f"Sharing is on, through {status.vpn.interface}. Let a device in: vpnshare pair")
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
    return _change("gateway", "approve", args, "{label} may use the VPN now.")


def deny(args: argparse.Namespace) -> int:
    if not args.all:
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


def revoke(args: argparse.Namespace) -> int:
    return _change("gateway", "revoke", args, "{label} is revoked: it must be paired again.")


def rename(args: argparse.Namespace) -> int:
    return _change("gateway", "rename", args, "It is called {label} now.", label=args.label)


def forget(args: argparse.Namespace) -> int:
    return _change("client", "forget", args, "{label} is forgotten.")


def _change(role: str, method: str, args: argparse.Namespace, text: str, **params: str) -> int:
    with dial(role) as service:
        done = service.call(method, id=args.id, **params)
    if args.json:
        print_json(done)
    else:
        print(text.format(label=printable(done.label or args.id)))
    for each in done.unwritten:
        complain(each.found, each.advice)
    return Exit.OK

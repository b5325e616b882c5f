"""`vpnshare pair`: the code on the screen, and, with --wait, the approval too."""

from __future__ import annotations

import argparse
import sys
import time

from cli.qr import screen
from cli.services import dial
from control.errors import ControlError
from control.exits import Exit
from control.oneshot import OneShot
from control.output import complain, digits, paint, print_json, printable, tell
from control.schema import PairOffer, Request


def pair(args: argparse.Namespace) -> int:
    with dial("gateway") as service:
        if args.json and not args.wait:
            print_json(service.call_raw("pair", seconds=args.seconds))
            return Exit.OK
        known = {peer.id for peer in service.call("peers") if not peer.revoked}
        offer: PairOffer = service.call("pair", seconds=args.seconds)
        deadline = time.monotonic() + offer.expires_in
        if args.json:
            print_json(offer)
        else:
            _show(offer, args.no_qr)
        if not args.wait:
            tell(f"Valid once, for {offer.expires_in:.0f} s. Then: vpnshare requests")
            return Exit.OK
        return _wait(service, known, deadline, offer.id)


def _show(offer: PairOffer, no_qr: bool) -> None:
    if not no_qr:
        lines, need = screen(offer.uri)
        if lines:
            print("\n".join(lines))
        else:
            complain(f"The terminal is too narrow for the code ({need} columns).")
    print(offer.uri)
    tell("Scan it, or paste the URI on the device into: vpnshare join -", "dim")
    if offer.address:
        tell(f"Or compare a code: vpnshare join {printable(offer.address)}", "dim")
    print(f"{printable(offer.name)}  {paint(offer.fingerprint, 'dim')}")
    if offer.note:
        complain(offer.note)


def _wait(service: OneShot, known: set[str], deadline: float, offer: str) -> int:
    """Until a device was let in, denied, or the code's time is over."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    told: set[str] = set()
    while (left := deadline - time.monotonic()) > 0:
        if interactive:
            sys.stdout.write(f"\rWaiting for a device, {left:.0f} s left. Ctrl-C ends. ")
            sys.stdout.flush()
        if offer and (label := _used_by(service, offer)) is not None:
            print(f"\nThe code was used by {printable(label)}.", flush=True)
            offer = ""
        for request in service.call("requests"):
            if request.id in told:
                continue
            told.add(request.id)
            if interactive:
                answer = _ask(service, request)
                if answer is not None:
                    return answer
            else:
                tell(f"{describe(request)} waits: vpnshare approve {request.id}")
        new = [p for p in service.call("peers") if p.id not in known and not p.revoked]
        if new:
            print(f"\n{printable(new[0].label)} may use the VPN now.")
            return Exit.OK
        time.sleep(min(0.5, max(0.0, left)))
    print()
    complain("No device was let in before the code expired.", "Show a new one: vpnshare pair")
    return Exit.TIMED_OUT


def _used_by(service: OneShot, offer: str) -> str | None:
    """Who has used the code, if somebody has."""
    return next((each.used_by for each in service.call("offers") if each.id == offer), None)


def describe(request: Request) -> str:
    """Who asks: the device's name, where it comes from, its code."""
    code = f", code {digits(request.code)}" if request.code else ""
    return f"{printable(request.label)} ({request.via}, {request.address}{code})"


def _ask(service: OneShot, request: Request) -> int | None:
    """The owner's decision; None when the request was gone by then."""
    try:
        answer = input(f"\n{describe(request)} asks to be let in. Approve? [y/N] ")
    except EOFError:
        answer = ""
    approved = answer.strip().lower() in ("y", "yes")
    try:
        service.call("approve" if approved else "deny", id=request.id)
    except ControlError as exc:
        complain(exc.message, exc.hint)
        return None
    print("Approved." if approved else "Turned away.")
    return Exit.OK if approved else Exit.REFUSED

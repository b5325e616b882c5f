"""`vpnshare check`: whether traffic leaves by the VPN, the verdict first, then what was seen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from cli.reading import state_word
from cli.services import running
from control.calling import spoken
from control.exits import Exit
from control.output import paint, print_facts, print_json, printable, tell
from control.schema import Check
from control.words import CHECK, check_facts

SECONDS = 30.0
"""For a service to answer; it gives up on whom it asks before."""
_EXITS = {"good": Exit.OK, "broken": Exit.FAILED}


def check(args: argparse.Namespace) -> int:
    services = running(args.role, SECONDS)
    try:
        if sys.stderr.isatty() and not args.json:
            tell("Asking servers on the other side of the VPN; takes some seconds.", "dim",
                 stream=sys.stderr)  # fmt: skip
        wanted = {"ipv4": not args.ipv6, "ipv6": not args.ipv4}
        found = {each.role: spoken(Check, each.call("check", **wanted)) for each in services}
    finally:
        for service in services:
            service.close()
    if args.json:
        print_json(found if len(found) > 1 else next(iter(found.values())))
    else:
        for number, each in enumerate(found.values()):
            if number:
                print()
            _tell(each, named=len(found) > 1)
    return _worst(_EXITS.get(each.state, Exit.UNTOLD) for each in found.values())


def _worst(exits: Iterable[Exit]) -> Exit:
    """What is broken weighs more than what cannot be told."""
    found = set(exits)
    return next(e for e in (Exit.FAILED, Exit.UNTOLD, Exit.OK) if e in found)


def _tell(found: Check, named: bool) -> None:
    if named:
        print(paint(printable(found.side.capitalize()), "bold"))
    head = state_word(CHECK.get(found.state, (found.state, "warn")))
    print(f"{head}  {printable(found.sentence)}")
    if found.advice:
        tell(printable(found.advice), "dim")
    for note in found.notes:
        print(printable(note.sentence))
    facts = [(printable(name), printable(value)) for name, value in check_facts(found)]
    if facts:
        print()
        print_facts(facts)

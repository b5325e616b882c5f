"""`vpnshare rules`, `vpnshare templates`, and the options of `approve` that say the same."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from cli.services import dial
from control.codec import MAX_REQUEST
from control.errors import Code, ControlError
from control.exits import Exit
from control.output import (
    Column,
    complain,
    print_facts,
    print_json,
    print_table,
    printable,
    size,
    tell,
)
from control.schema import DeviceRules

NONE = "none"
"""The word that takes a rule away."""
_OPTIONS = {
    "quota": "quota", "limit_up": "limit_up", "limit_down": "limit_down", "length": "for",
    "until": "until", "hours": "hours", "flows": "max_flows", "paused": "paused",
}  # fmt: skip
"""Options by destination, and the rule that each is."""
_TITLES = {
    "paused": "now", "quota": "quota", "limit_up": "up at most", "limit_down": "down at most",
    "until": "end", "hours": "hours", "max_flows": "at a time",
}  # fmt: skip


def rules(args: argparse.Namespace) -> int:
    change = change_of(args)
    asked = bool(change) or args.clear or args.template is not None
    with dial("gateway") as service:
        if asked:
            found = service.call(
                "set_rules", id=args.id, change=change, template=args.template, clear=args.clear
            )
        else:
            found = service.call("rules", id=args.id)
        asks = "quota" in found.rules and not args.json
        peers = service.call("peers") if asks else []
    if args.json:
        print_json(found)
    else:
        _print(found, next((each.quota_left for each in peers if each.id == found.id), None))
    for each in found.unwritten:
        complain(each.found, each.advice)
    return Exit.OK


def templates(args: argparse.Namespace) -> int:
    change = change_of(args)
    if args.name is None and (change or args.remove):
        raise ControlError(Code.INVALID_PARAMS, "Which template?", "See: vpnshare templates")
    with dial("gateway") as service:
        if args.name is None:
            found = service.call("templates")
        elif args.remove:
            found = service.call("set_template", name=args.name, rules=None)
        elif not change:
            found = [each for each in service.call("templates") if each.name == args.name]
            if not found:
                raise ControlError(
                    Code.NOT_FOUND, f"There is no template {args.name[:60]!r}.",
                    "See: vpnshare templates",
                )  # fmt: skip
        else:
            there = {each.name: each.rules for each in service.call("templates")}
            whole = there.get(args.name, {}) | change
            kept = {name: value for name, value in whole.items() if value is not None}
            found = service.call("set_template", name=args.name, rules=kept)
    if args.json:
        print_json(found)
        return Exit.OK
    print_table(
        [Column("NAME"), Column("RULES", shrink=True), Column("", 1)],
        (
            (each.name, each.reason or each.line, "as shipped" if each.shipped else "yours")
            for each in found
        ),
        "There are none.",
    )
    return Exit.OK


def change_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the options say, as a change. Raises `ControlError`."""
    change: dict[str, Any] = {}
    for option, field in _OPTIONS.items():
        value = getattr(args, option, None)
        if value is not None:
            change[field] = None if value in (NONE, [NONE]) else value
    if change.get("for", "") is None:
        change["until"] = None  # what a length has become
    named, file = args.destinations, args.file
    if sum((named is not None, file is not None, args.no_destinations)) > 1:
        raise ControlError(
            Code.INVALID_PARAMS, "Destinations come from options, from a file, or are none.",
            "Give one of the three.",
        )  # fmt: skip
    if args.no_destinations:
        change["destinations"] = None
    elif named is not None:
        change["destinations"] = named
    elif file is not None:
        change["destinations"] = _listed(file)
    return change


def _listed(file: str) -> list[str]:
    """The lines of a file that say something. Raises `ControlError`."""
    try:
        if file == "-":
            text = sys.stdin.read(MAX_REQUEST + 1)
        else:
            with open(file, encoding="utf-8") as stream:
                text = stream.read(MAX_REQUEST + 1)
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text in UTF-8"
        raise ControlError(Code.FAILED, f"{file} cannot be read: {why}.") from None
    if len(text) > MAX_REQUEST:
        raise ControlError(Code.INVALID_PARAMS, f"{file} is larger than {MAX_REQUEST} bytes.")
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _print(found: DeviceRules, quota_left: int | None) -> None:
    if not found.rules:
        tell(f"{printable(found.label)} may do everything. Rules to begin with: vpnshare templates")
        return
    texts = dict(found.texts)
    if quota_left is not None and "quota" in texts:
        texts["quota"] += f", {size(quota_left)} left"
    facts = [(_TITLES[name], text) for name, text in texts.items() if name in _TITLES]
    destinations = found.rules.get("destinations", [])
    titles = ["destinations", *[""] * len(destinations)]
    print_facts([("device", found.label), *facts, *zip(titles, destinations, strict=False)])

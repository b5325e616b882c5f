"""`vpnshare doctor`: each side examines itself if it runs, or is looked at from outside."""

from __future__ import annotations

import argparse
import asyncio
import os

from cli.services import dial
from control import paths
from control.calling import spoken
from control.errors import ServiceUnavailable
from control.exits import Exit
from control.output import paint, print_json, printable, tell
from control.schema import Finding
from control.versions import differ
from services import account
from services.version import running

_MARKS = {
    "broken": ("✗", "red"),
    "warn": ("▲", "yellow"),
    "ok": ("●", "green"),
    "skipped": ("○", "dim"),
}
"""By status, in the order in which findings are told: the worst first."""


def doctor(args: argparse.Namespace) -> int:
    findings = sorted(spoken(list[Finding], _examine(args.role)), key=_rank)
    if args.json:
        print_json(findings)
    else:
        _tell(findings)
    return Exit.FAILED if any(f.status == "broken" for f in findings) else Exit.OK


def _examine(role: str | None) -> list[Finding]:
    """The findings of the services that run; of both sides from outside if none does."""
    found: dict[str, list[Finding]] = {}
    roles = (role,) if role else paths.ROLES
    for each in roles:
        try:
            with dial(each) as service:
                found[each] = service.call("doctor")
                if told := differ(each, service.hello.version, running()):
                    found[each].append(Finding("command-version", "Command", each, "warn", *told))
        except ServiceUnavailable:
            continue
    for each in roles if not found else ():
        if each == "client" and paths.is_termux() and role is None:
            continue
        if role is None and _only_the_other(each):
            found[each] = [_stranger(each)]
            continue
        found[each] = _outside(each, must=role is not None)
    merged: dict[tuple[str, str], Finding] = {}
    for findings in found.values():
        for finding in findings:
            # What concerns both sides is of both files: the worse of two counts.
            place = finding.side, finding.id
            if place not in merged or merged[place].status == "ok":
                merged[place] = finding
    return list(merged.values())


def _outside(role: str, must: bool) -> list[Finding]:
    """Look at a side whose service does not run; `must`: its user has asked for just this side."""
    from services.doctor.doctor import outside
    from services.doctor.machine import Machine

    start = "vpnshare up" if role == "gateway" else "vpnshare join"
    absent = _absent(role, "does not run: seen from outside", start)
    with account.instance(role) as place:
        findings = asyncio.run(outside(Machine(role, place)))
    if not must and role == "client":
        # Not every machine is to be a client.
        findings = [_softened(f) for f in findings]
    return [absent, *findings]


def _absent(role: str, how: str, advice: str) -> Finding:
    title = f"{role.capitalize()} service"
    found = f"The {role} service {how}."
    return Finding(f"{role}-service", title, role, "skipped", found, advice)


def _stranger(role: str) -> Finding:
    how = "has never run here: its side was not looked at"
    return _absent(role, how, f"vpnshare doctor --role {role}")


def _only_the_other(role: str) -> bool:
    """Whether this machine has been the other side, and never this one."""
    there = {
        each
        for each in paths.ROLES
        if any(os.path.exists(place.store(each)) for place in account.places(each))
    }
    return bool(there) and role not in there


def _softened(finding: Finding) -> Finding:
    if finding.status != "broken" or finding.side == "both":
        return finding
    return Finding(finding.id, finding.title, finding.side, "warn", finding.found, finding.advice)


def _rank(finding: Finding) -> int:
    known = list(_MARKS)
    return known.index(finding.status) if finding.status in known else 0


def _tell(findings: list[Finding]) -> None:
    """Line by line; what was not looked at in a single one, at the end."""
    passed = [each for each in findings if each.status == "skipped" and not each.advice]
    folded = passed if len(passed) > 1 else []
    for finding in findings:
        if finding not in folded:
            _print(finding)
    if folded:
        titles = ", ".join(dict.fromkeys(each.title for each in folded))
        _print(Finding("", "Not looked at", "both", "skipped", f"{titles}.",
                       "The reason for each: vpnshare doctor --json"))  # fmt: skip


def _print(finding: Finding) -> None:
    mark, colour = _MARKS.get(finding.status, ("?", "bold"))
    title = paint(printable(finding.title), "bold")
    print(f"{paint(f'{mark} {finding.status:<7}', colour)} {title}: {printable(finding.found)}")
    if finding.advice:
        tell(f"            {printable(finding.advice)}", "dim")

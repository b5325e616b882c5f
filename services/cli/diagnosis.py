"""`vpnshare doctor`: prints the findings."""

from __future__ import annotations

import argparse

from services.cli.exits import Exit
from services.cli.output import paint, print_json, printable
from services.doctor import Finding, Verdict, run_all

_MARKS = {
    Verdict.OK: ("●", "green"),
    Verdict.NOTE: ("▲", "yellow"),
    Verdict.FAIL: ("✗", "red"),
}


def doctor(args: argparse.Namespace) -> int:
    findings = run_all()
    if args.json:
        print_json(findings)
    else:
        for finding in findings:
            _print(finding)
    return Exit.FAILED if any(f.verdict is Verdict.FAIL for f in findings) else Exit.OK


def _print(finding: Finding) -> None:
    mark, colour = _MARKS[finding.verdict]
    print(f"{paint(mark, colour)} {finding.verdict:<4} {printable(finding.message)}")
    if finding.fix:
        print(paint(f"         {printable(finding.fix)}", "dim"))

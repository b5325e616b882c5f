"""`vpnshare completion SHELL`: what a shell needs to complete this command line.

The files beside this one are made by `packages/completions.py`. They ask for the names of
things that exist by `--names`, while a person waits: whatever is in the way, nothing is said.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from pathlib import Path

from cli.services import dial
from control.errors import Code, ControlError
from control.exits import Exit

SHELLS = ("bash", "zsh", "fish")
KINDS = ("devices", "requests", "gateways", "templates")
TIMEOUT = 2.0
"""Seconds that a key press may take."""
_WORD = re.compile(r"[\w.@+-]+", re.ASCII)
"""A name that needs no quotes in any shell."""


def completion(args: argparse.Namespace) -> int:
    if args.names is not None:
        print("\n".join(_names(args.names)))
        return Exit.OK
    shell = args.shell or Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise ControlError(
            Code.INVALID_PARAMS, "For which shell?", "Name it: vpnshare completion bash"
        )
    folder = Path(__file__).resolve().parent / "completions"
    sys.stdout.write((folder / f"{shell}.txt").read_text(encoding="utf-8"))
    return Exit.OK


def _names(kind: str) -> list[str]:
    """What names each thing of that kind in one word: its name, where that is one, else its id."""
    try:
        if kind == "gateways":
            with dial("client", TIMEOUT) as service:
                found = [
                    (each.name, each.fingerprint.partition(" ")[0])
                    for each in service.call("gateways")
                ]
        elif kind == "requests":
            with dial("gateway", TIMEOUT) as service:
                return [each.id for each in service.call("requests")]
        elif kind == "templates":
            with dial("gateway", TIMEOUT) as service:
                return [each.name for each in service.call("templates")]
        else:
            with dial("gateway", TIMEOUT) as service:
                found = [(each.label, each.id) for each in service.call("peers")]
    except (ControlError, OSError):
        return []
    count = Counter(name for name, _ in found)
    return [
        name if count[name] == 1 and _WORD.fullmatch(name) and name[0] != "-" else id
        for name, id in found
    ]

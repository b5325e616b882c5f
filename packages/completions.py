"""What shells need to complete the command line, made from the commands' own parsers by shtab.

Run: .venv/bin/python -m packages.completions

The files are shipped as they are (cli/completions), so that whoever runs the program
needs no shtab. What names a thing that exists (a device, a request, a gateway) is asked of the
program when the key is pressed: `vpnshare completion --names KIND`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import shtab

from cli.commands import COMMANDS
from cli.completing import KINDS, SHELLS
from control.methods import CLIENT, GATEWAY
from control.registry import SESSION_METHODS
from services.config import SECTIONS, SETTINGS

FOLDER = Path(__file__).resolve().parents[1] / "cli/completions"
_METHODS = (GATEWAY | CLIENT).items()
_NAMES = {kind: f"vpnshare completion --names {kind} 2>/dev/null" for kind in KINDS}
ASKED = {
    ("approve", "id"): "requests", ("deny", "id"): "requests", ("revoke", "id"): "devices",
    ("rename", "id"): "devices",
    ("rules", "id"): "devices", ("rules", "template"): "templates",
    ("approve", "template"): "templates", ("templates", "name"): "templates",
    ("usage", "id"): "devices", ("flows", "peer"): "devices", ("logs", "device"): "devices",
    ("wireguard", "name"): "devices", ("connect", "target"): "gateways",
    ("join", "target"): "gateways", ("forget", "id"): "gateways",
}  # fmt: skip
"""What a word names, by command and destination."""
LISTED = {
    ("api", "method"): sorted(name for name, _ in _METHODS if name not in SESSION_METHODS),
    ("watch", "topic"): sorted(name for name, method in _METHODS if method.topic),
    ("get", "key"): [each.name for each in SETTINGS],
    ("set", "key"): [each.name for each in SETTINGS],
    ("settings", "key"): [*SECTIONS, *(each.name for each in SETTINGS)],
}
"""The words that there are, where the parser takes more than it knows."""
FILES = {
    ("wireguard", "conf"),
    ("wireguard", "png"),
    ("bundle", "file"),
    ("metrics", "token_file"),
    ("rules", "file"),
    ("approve", "file"),
    ("templates", "file"),
}
FOLDERS = {("service", "root")}


def parser() -> argparse.ArgumentParser:
    """All commands in one parser, as the command line has them."""
    whole = argparse.ArgumentParser(prog="vpnshare", description="Share this device's VPN.")
    whole.add_argument("-V", "--version", action="store_true", help="print the version")
    below = whole.add_subparsers()
    for command in COMMANDS:
        if not command.group:
            continue
        each = below.add_parser(command.name, help=command.help)
        command.options(each)
        for action in each._actions:
            _explain(command.name, action)
    return whole


def _explain(command: str, action: argparse.Action) -> None:
    place = command, action.dest
    if place in ASKED:
        vars(action)["complete"] = shtab.cmd(_NAMES[ASKED[place]])
    elif place in LISTED:
        action.choices = LISTED[place]
    elif place in FILES:
        vars(action)["complete"] = shtab.FILE
    elif place in FOLDERS:
        vars(action)["complete"] = shtab.DIRECTORY


def script(shell: str) -> str:
    """The file for a shell."""
    text = shtab.complete(parser(), shell=shell)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for shell in SHELLS:
        (FOLDER / f"{shell}.txt").write_text(script(shell))


if __name__ == "__main__":
    main()

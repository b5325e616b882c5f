"""The manual page vpnshare(1), from the commands' own descriptions: `vpnshare manual`."""

from __future__ import annotations

import argparse
import pydoc
import shutil
import subprocess
import sys
from collections.abc import Iterator

from cli.commands import COMMANDS, GROUPS, Command, parser_for
from control.exits import MEANINGS, Exit
from services.version import VERSION


def manual(args: argparse.Namespace) -> int:
    if not sys.stdout.isatty():
        sys.stdout.write(page())
    elif shutil.which("man"):
        # man-db and mandoc both read a page from standard input.
        subprocess.run(["man", "-l", "-"], input=page(), text=True, check=False)
    else:
        pydoc.pager("\n".join(parser_for(command).format_help() for command in COMMANDS))
    return Exit.OK


def _options(command: Command) -> Iterator[str]:
    """What it takes besides --help: a line each."""
    for action in parser_for(command)._actions:
        words = ", ".join(action.option_strings)
        if action.nargs != 0:
            choices = "|".join(map(str, action.choices or ()))
            words += f" {action.metavar or choices or action.dest.upper()}"
        if action.dest != "help":
            yield f"{words.strip()}: {action.help}" if action.help else words.strip()


def escaped(text: str) -> str:
    """As roff(7) takes it: no line begins with a control character."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in ".'" else line for line in text.split("\n"))


def page() -> str:
    """vpnshare(1), in roff(7)."""
    lines = [
        f'.TH VPNSHARE 1 "" "VPN Share {VERSION}" "User Commands"',
        ".SH NAME",
        "vpnshare \\- share this device's VPN with the devices beside it",
        ".SH SYNOPSIS",
        ".B vpnshare",
        ".I COMMAND",
        "[options]",
        ".SH DESCRIPTION",
        "On the device that has the VPN, and on the one that is to use it, the same command.",
        "Every command tells its options with \\-\\-help.",
    ]
    for group in GROUPS:
        lines.append(f".SS {group}")
        for command in COMMANDS:
            if command.group != group:
                continue
            lines += [".TP", f".B {escaped(command.name)}"]
            lines.append(escaped(f"{command.help[0].upper()}{command.help[1:]}."))
            if command.details:
                lines.append(escaped(command.details.replace("\n", " ")))
            for options in _options(command):
                lines += [".br", f"\\&{escaped(options)}"]
            for example in command.examples:
                lines += [".br", f"\\&\\fI{escaped(example)}\\fR"]
    lines.append(".SH EXIT STATUS")
    for code, meaning in MEANINGS.items():
        lines += [".TP", f".B {escaped(str(code))}", escaped(meaning)]
    lines += [
        ".SH ENVIRONMENT",
        ".TP",
        ".B VPNSHARE_HOME",
        "A folder that keeps configuration, state and sockets of an instance.",
        ".SH FILES",
        ".TP",
        ".I /etc/vpnshare/config.toml, ~/.config/vpnshare/config.toml",
        "The configuration, as `vpnshare settings` shows it.",
        ".TP",
        ".I /var/lib/vpnshare, ~/.local/state/vpnshare",
        "Keys, and who was approved.",
        ".TP",
        ".I /var/lib/vpnshare-gateway",
        "Both, of the gateway that runs as a service of the machine.",
    ]
    return "\n".join(lines) + "\n"

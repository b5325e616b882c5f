"""The manual page vpnshare(1), from the commands' own descriptions.

python3 -I packages/debian/manual.py TREE >vpnshare.1
"""

from __future__ import annotations

import sys


def escaped(text: str) -> str:
    """As roff(7) takes it: no line begins with a control character."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in ".'" else line for line in text.split("\n"))


def page() -> str:
    """The page."""
    from services.cli.commands import COMMANDS, GROUPS
    from services.cli.exits import MEANINGS
    from services.version import VERSION

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
        "The configuration; vpnshare settings tells it, vpnshare set changes it.",
        ".TP",
        ".I /var/lib/vpnshare, ~/.local/state/vpnshare",
        "Keys, and who was approved.",
        ".TP",
        ".I /var/lib/vpnshare-gateway",
        "Both, of the gateway that runs as a service of the machine.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    print(page(), end="")

"""Running the system's own tools (`ip`, `nft`, `resolvectl`), each call logged and bounded.

Everything the client changes on its host goes through a `Runner`, so that
tests can assert the exact commands.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Protocol

from client.model import ClientError

log = logging.getLogger(__name__)

COMMAND_TIMEOUT = 15.0
"""Seconds; these tools answer in milliseconds, `resolvectl` in a second when its bus starts."""

_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
"""Appended to PATH: a user's shell often lacks the sbin folders."""


class CommandError(ClientError):
    """A tool refused; `stderr` is what it said."""

    def __init__(self, name: str, message: str, hint: str = "", stderr: str = "") -> None:
        super().__init__(name, message, hint)
        self.stderr = stderr


class Runner(Protocol):
    """The way to the system's tools."""

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        """Run to the end and return standard output; raises CommandError."""

    def which(self, program: str) -> str | None:
        """The program's path, or None when it is not installed."""


class SystemRunner:
    """Runs the real tools."""

    def __init__(self) -> None:
        path = os.environ.get("PATH", "")
        self._environment = {"PATH": f"{path}:{_PATH}".lstrip(":"), "LC_ALL": "C"}

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        program = self.which(argv[0])
        if program is None:
            raise CommandError(
                "tool_missing",
                f"The program {argv[0]} is not installed.",
                f"Install {_PACKAGES.get(argv[0], argv[0])} with the system's package manager.",
            )
        log.debug("run %s%s", " ".join(argv), f" < {stdin!r}" if stdin else "")
        try:
            done = subprocess.run(
                [program, *argv[1:]],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT,
                env=self._environment,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(
                "tool_stuck", f"{' '.join(argv)} did not end within {COMMAND_TIMEOUT:.0f} seconds."
            ) from error
        if done.returncode != 0:
            stderr = done.stderr.strip()
            if stderr.startswith(_BUSYBOX):
                raise CommandError(
                    "tool_unsuitable",
                    f"The program {argv[0]} here is BusyBox's, which knows too little of it.",
                    f"Install {_PACKAGES.get(argv[0], argv[0])} with the system's package "
                    "manager (on Alpine: apk add iproute2).",
                    stderr,
                )
            log.info("%s said: %s", " ".join(argv), " ".join(stderr.split()) or done.returncode)
            raise _refusal(" ".join(argv), stderr)
        return done.stdout

    def which(self, program: str) -> str | None:
        return find_program(program, self._environment["PATH"])


def find_program(program: str, path: str) -> str | None:
    """Where a program is in PATH; one that is whole goes before BusyBox's, wherever they are."""
    found = None
    for folder in path.split(":"):
        there = shutil.which(program, path=folder) if folder else None
        if there is not None and not is_busybox(there):
            return there
        found = found or there
    return found


def is_busybox(program: str) -> bool:
    """Whether the program at this path is a name of BusyBox."""
    return os.path.basename(os.path.realpath(program)) == "busybox"


_BUSYBOX = "BusyBox v"
"""How its usage begins, which it says when it does not know an option."""
_CAUSES = (
    (
        ("Operation not permitted", "Permission denied"),
        "This process may not change the system's network settings",
        "Run the client as root: sudo vpnshare client. In a container: --cap-add NET_ADMIN.",
    ),
    (
        ("File exists", "already assigned", "already exists"),
        "Another program has set the like already",
        "See what is there: ip address; ip route show table all; ip rule",
    ),
    (
        ("Cannot find device", "No such device", "does not exist", "Unknown device"),
        "The network interface is not there",
        "See what is there: ip link",
    ),
    (
        ("invalid gateway", "Network is unreachable", "No route to host"),
        "The system has no way to the router that it is to use",
        "See the ways that it has: ip route",
    ),
    (
        ("IPv6 is disabled", "IPv6 not enabled"),
        "IPv6 is turned off on this system",
        "Turn it on: sysctl -w net.ipv6.conf.all.disable_ipv6=0",
    ),
    (
        ("not supported", "Unknown qdisc", "Invalid argument", "Could not process rule"),
        "This system's kernel, or its tool, lacks what is needed",
        "Update the kernel and the package {package}.",
    ),
    (
        ("Device or resource busy",),
        "Another program is using the same",
        "See what runs that changes the network: NetworkManager, another VPN.",
    ),
    (
        ("Cannot allocate memory", "No buffer space"),
        "The system is out of memory",
        "End other programs, or connect again later.",
    ),
)
"""Words of the tools, what they mean, and what to do."""


def _refusal(command: str, stderr: str) -> CommandError:
    """What a tool refused, in our words; the tool's own are for the log."""
    tool = command.split()[0]
    for number, (words, cause, fix) in enumerate(_CAUSES):
        if any(each in stderr for each in words):
            name = "tool_failed" if number else "not_permitted"
            fix = fix.format(package=_PACKAGES.get(tool, tool))
            return CommandError(name, f"{cause} (at: {command}).", fix, stderr)
    return CommandError(
        "tool_failed", f"The system refused: {command}.", f"See why, as root: {command}", stderr
    )


_PACKAGES = {"ip": "iproute2", "nft": "nftables"}

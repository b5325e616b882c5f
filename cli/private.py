"""`vpnshare run` and `shell`: a command whose network is the tunnel and nothing else, without root.

Theory of operation. A client service of this user holds the tunnel and the network
(`client --private`); one is started if none runs, and ends with the last command that was run in
it. This process talks as `join` does, until there is a connection. Then it enters the network and
the command takes its place (`client.outlet.namespace.enter`): nothing of ours stands between the
command and its terminal. Whatever goes wrong before, the command is not run.

Standard output is the command's: what this one has to say goes to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.connecting import choose_if_unknown, establish, follow, outcome, target_of
from cli.joining import running_service
from cli.running import refuse_on_phone
from cli.starting import start
from client.model import ClientError
from client.outlet.namespace.enter import Visit, become
from control import paths
from control.errors import Code, ControlError, ServiceUnavailable
from control.exits import Exit
from control.oneshot import OneShot
from control.output import complain, printable, tell
from control.schema import ClientStatus
from services.room import explain
from storage import own

INSIDE = "VPNSHARE_RUN"
"""The variable that a command in the network has: the gateway's name."""
SIGN = "(vpnshare) "
"""What a shell's prompt begins with."""
SHELLS = Path(__file__).with_name("shells")
_WITHOUT = ("idle", "failed")
_OTHERS = {
    "nic": ("the whole device uses its tunnel", "Run the command as it is"),
    "proxy": ("it is a proxy", "Have the command use that (see: vpnshare status)"),
}
"""By outlet: what a service without a network to enter is, and what it has for a command."""


def run(args: argparse.Namespace) -> int:
    """Be the command; returns only where it was not run."""
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not words:
        raise ControlError(
            Code.INVALID_PARAMS, "There is no command to run.", "Name one: vpnshare run -- COMMAND"
        )
    return _run(args, words)


def shell(args: argparse.Namespace) -> int:
    """The same with the user's shell."""
    chosen = os.environ.get("SHELL") or pwd.getpwuid(os.geteuid()).pw_shell or "/bin/sh"
    os.environ["VPNSHARE_SIGN"] = SIGN
    return _run(args, _with_sign(chosen))


def _with_sign(shell: str) -> list[str]:
    """The command line of a shell whose prompt begins with the sign, where it can be had."""
    match os.path.basename(shell):
        case "bash":
            return [shell, "--rcfile", os.fspath(SHELLS / "bash.txt")]
        case "zsh":
            if folder := os.environ.get("ZDOTDIR"):
                os.environ["VPNSHARE_ZDOTDIR"] = folder
            os.environ["ZDOTDIR"] = _folder_for_zsh()
            return [shell]
        case "fish":
            return [shell, "--init-command", f"source {SHELLS / 'fish.txt'}"]
        case _:
            os.environ["PS1"] = f"{SIGN}$ "
            return [shell]


def _folder_for_zsh() -> str:
    """Zsh takes no file by another name than its own: a folder with ours."""
    file = paths.find().run_dir / "zsh" / ".zshenv"
    descriptor = own.open_own(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, make=True)
    with os.fdopen(descriptor, "w") as copy:
        copy.write((SHELLS / "zsh.txt").read_text())
    return os.fspath(file.parent)


def _run(args: argparse.Namespace, words: Sequence[str]) -> int:
    refuse_on_phone()
    with contextlib.redirect_stdout(sys.stderr):
        visit = _join(args) if args.join else _connect(args)
    if isinstance(visit, int):
        return visit
    try:
        visit.go_in()
    except ClientError as error:
        raise ControlError(Code.FAILED, error.message, error.hint, error.name) from error
    sys.stderr.flush()
    if shutil.which(words[0]) is None and not os.path.exists(words[0]):
        complain(f"There is no command {words[0]}.")
        return Exit.NO_COMMAND
    try:
        become(words)
    except OSError as error:
        complain(*explain(error))
        return Exit.NOT_EXECUTABLE


def _join(args: argparse.Namespace) -> Visit:
    """Into the network of a service that runs, whatever has become of its tunnel."""
    service = running_service()
    if service is None:
        raise ServiceUnavailable(
            "No network of yours is there to join.", "Begin one: vpnshare run -- COMMAND"
        )
    with service:
        status: ClientStatus = service.call("status")
    os.environ[INSIDE] = printable(status.gateway or "")
    return _visit(service)


def _connect(args: argparse.Namespace) -> Visit | int:
    """A place in a network that is connected; or why there is none, as the exit code."""
    target = None if args.to is None else target_of([args.to], "run --to")
    service = running_service()
    started = service is None
    if service is None:
        tell("Starting a network of its own.", stream=sys.stderr)
        service = start("client", ["--private", "--while-used"], "vpnshare client --private")
    with service:
        visit = _visit(service)
        status = _talk(service, target, started, args)
        code = _said(status, args)
        if code:
            visit.close()
            return code
    os.environ[INSIDE] = printable(status.gateway or "")
    return visit


def _visit(service: OneShot) -> Visit:
    """Raises `ControlError` where the service has no network of its own."""
    try:
        return Visit(paths.find().door)
    except OSError:
        status: ClientStatus = service.call("status")
        what, instead = _OTHERS.get(status.outlet, _OTHERS["nic"])
        raise ControlError(
            Code.CONFLICT, f"A client service of yours (pid {status.pid}) runs, and {what}.",
            f"{instead}; or end that service first: vpnshare down --role client",
        ) from None  # fmt: skip


def _talk(
    service: OneShot, target: str | None, started: bool, args: argparse.Namespace
) -> ClientStatus:
    """Connect, or follow what is under way; the status in the end."""
    status: ClientStatus = service.call("status")
    told = argparse.Namespace(
        transport=args.transport, code=None, yes=args.yes, open_on_failure=False, wait=args.wait,
        json=False, target=[] if args.to in (None, "-") else [args.to],
    )  # fmt: skip
    if status.state in _WITHOUT or (started and target is not None):
        if target is None:
            target = choose_if_unknown(service, told, "run --to")
        return establish(service, target, told)
    if target is not None and target not in (status.gateway, status.gateway_fingerprint):
        raise ControlError(
            Code.CONFLICT,
            f"Your network is in use, and its gateway is {printable(status.gateway or 'another')}.",
            "Leave --to out; or take another gateway for all commands in it: vpnshare connect",
        )
    return status if status.state == "connected" else follow(service, status, told)


def _said(status: ClientStatus, args: argparse.Namespace) -> int:
    """Say what has become of it, where that is not a connection; the exit code."""
    if status.state == "connected":
        return Exit.OK
    if status.state == "asked":
        complain(
            "Not connected: nobody was asked here whether both sides show the same digits.",
            "Run it in a terminal, or pair by URI: vpnshare run --to - -- COMMAND",
        )
        return Exit.UNCONFIRMED
    told = argparse.Namespace(json=False, wait=args.wait, target=[])
    return outcome(status, told, "run") or Exit.TIMED_OUT

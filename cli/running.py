"""Commands that start and end things: gateway, client, up, down, console."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cli.services import dial, running, socket_of
from cli.starting import start, start_unit
from control import paths
from control.elsewhere import advice, owner
from control.encoding import can_show
from control.errors import Code, ControlError, ServiceUnavailable
from control.exits import Exit
from control.lacking import install
from control.oneshot import OneShot
from control.output import complain, print_json, printable, tell
from control.schema import GatewayStatus
from control.versions import differ
from services import account
from services.config import ConfigError, load
from services.console_settings import ConsoleSettings
from services.logs import keep_trace
from services.version import running as own_version

STOP_TIMEOUT = 25.0
"""Seconds until a service that `down` stops must be gone."""


def gateway(args: argparse.Namespace) -> int:
    from services.gatewayd import run

    return run(args)


def client(args: argparse.Namespace) -> int:
    if not args.proxy and not by_proxy():
        refuse_on_phone()
    from services.clientd import run

    return run(args)


def refuse_on_phone() -> None:
    """Raises `ControlError` where a device cannot be a client."""
    if paths.is_termux():
        raise ControlError(
            Code.FAILED,
            "Android lets only VPN apps open a virtual NIC, so Termux can be a client by a proxy "
            "alone.",
            "Start one: vpnshare client --proxy. This device can also share its VPN: vpnshare up",
        )


def by_proxy() -> bool:
    """Whether this user's client is a proxy by its settings. What is wrong with them is told by
    the service that needs them, which may be root's."""
    try:
        return bool(load(paths.find().config).text("client", "proxy"))
    except ConfigError:
        return False


def up(args: argparse.Namespace) -> int:
    """Have a sharing gateway service, then open the console."""
    try:
        service = dial("gateway")
        _tell_versions(service)
        if args.listen or args.vpn_interface or args.name:
            complain(
                "A gateway service runs already, with the options it was started with.",
                "To start it anew with these: vpnshare down, then vpnshare up",
            )
    except ServiceUnavailable:
        if user := owner("gateway"):
            complain(f"A gateway service runs here already, {user}'s.", advice("gateway", user))
        service = _start_gateway(args)
    with service:
        status: GatewayStatus = service.call("share")
    name = printable(status.name)
    if args.no_console or not on_terminal():
        print(f"Gateway {name} runs in the background (pid {status.pid}).")
        if status.sharing != "on":
            complain(status.vpn.reason or "There is no VPN.", "Sharing begins when it is there.")
        tell("Let a device in: vpnshare pair. Stop everything: vpnshare down")
        return Exit.OK
    if code := open_console(["gateway"], section="pair"):
        return code
    tell(f"Gateway {name} goes on in the background. Stop it with: vpnshare down")
    return Exit.OK


def _tell_versions(service: OneShot) -> None:
    """Say it when a service that runs already is of another version than this command."""
    if told := differ(service.role, service.hello.version, own_version()):
        complain(*told)


def _start_gateway(args: argparse.Namespace) -> OneShot:
    if account.installed():
        if args.listen or args.vpn_interface or args.name:
            complain(
                "The gateway of the whole machine is a unit, with options of its own.",
                "Set them: vpnshare set gateway.name NAME",
            )
        return start_unit()
    words = ["--share"]
    for option, values in (
        ("--listen", args.listen or []),
        ("--vpn-interface", [args.vpn_interface] if args.vpn_interface else []),
        ("--name", [args.name] if args.name else []),
    ):
        for value in values:
            words.append(f"{option}={value}")
    return start("gateway", words, "vpnshare gateway --share")


def down(args: argparse.Namespace) -> int:
    """Stop the services and wait until they have undone everything."""
    stopped: list[dict[str, object]] = []
    late: list[dict[str, object]] = []
    for service in running(args.role):
        with service:
            pid = service.hello.pid
            service.call("shutdown")
            ended = service.wait_closed(STOP_TIMEOUT)
        (stopped if ended else late).append({"role": service.role, "pid": pid})
    if args.json:
        print_json({"stopped": stopped, "late": late})
    else:
        for each in stopped:
            print(f"The {each['role']} service has stopped.")
    for each in late:
        complain(
            f"The {each['role']} service (pid {each['pid']}) is still stopping.",
            f"Give it a moment more, or end it by force: kill -9 {each['pid']}",
        )
    return Exit.TIMED_OUT if late else Exit.OK


def on_terminal() -> bool:
    """Whether a person can see what we show, and answer."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def need_terminal(instead: str) -> None:
    """Raises `ControlError` where the console has nowhere to be."""
    if not on_terminal():
        raise ControlError(
            Code.CONFLICT, "The console needs a terminal to be shown on, and keys.", instead
        )


def console(args: argparse.Namespace) -> int:
    if args.host:
        return _far_console(args)
    services = running(args.role)
    for service in services:
        service.close()
    return open_console([service.role for service in services], read_only=args.read_only)


def _keep_theme(path: Path, theme: str) -> None:
    """The theme that was chosen in the console is the one it begins with from now on."""
    from services.config import find
    from services.settings import write

    with contextlib.suppress(ControlError):  # a file that cannot be written: for this time only
        write(path, find("console.theme"), theme)


def open_console(
    roles: list[str],
    section: str | None = None,
    read_only: bool = False,
    services: Mapping[str, Any] | None = None,
) -> int:
    """The console on the first of these services; the second is one key away."""
    need_terminal("Without one: vpnshare status, vpnshare logs (both take --json)")
    place = paths.find()
    try:
        own = ConsoleSettings(place.config)
    except ConfigError as exc:
        raise ControlError(Code.FAILED, str(exc)) from None
    config = own.config
    try:
        from tui.app import run
    except ModuleNotFoundError as exc:
        if exc.name and exc.name.split(".")[0] in ("textual", "rich"):
            raise ControlError(
                Code.FAILED, f"The console needs {exc.name}.", install("textual")
            ) from None
        raise
    options: dict[str, Any] = {
        "section": section,
        "interval": config["console", "refresh"],
        "bell": config.flag("console", "bell"),
        "ascii": config.flag("console", "ascii") or not can_show("●", sys.stdout.encoding),
    }
    if theme := config.text("console", "theme"):
        options["theme"] = theme
    if keys := config["console", "keys"]:
        options["keymap"] = keys
    options["themes_dir"] = place.config_dir / "themes"
    options["on_theme"] = partial(_keep_theme, place.config)
    options["changes"] = own.look
    failures: list[Exception] = []
    options["on_failure"] = failures.append
    if services is None:
        options["version"] = own_version()
    if services is not None:
        options["by_ssh"] = True  # `--host`, the only other way
        code = _run_console(services, roles[0], options)
    else:
        other = socket_of(roles[1]) if len(roles) > 1 else None
        socket = socket_of(roles[0])
        code = run(socket, roles[0], other_socket=other, read_only=read_only, **options)
    for failure in failures[:1]:
        crash = place.crash("console")
        kept = keep_trace(crash, "the console failed", failure)
        complain(
            f"The console failed unexpectedly ({type(failure).__name__}). "
            "The services are not touched by that.",
            f"Details are in {crash}" if kept else None,
        )
    return code


def _run_console(services: Mapping[str, Any], role: str, options: dict[str, Any]) -> int:
    """The console on services that are reached in another way than by their socket here."""
    from tui.app import ConsoleApp

    app = ConsoleApp(services, role, **options)
    return int(app.run() or app.return_code or 0)


def _far_console(args: argparse.Namespace) -> int:
    from cli.remote import connectors, reach

    with reach(args.host) as (far, found):
        roles = [args.role] if args.role else found
        if args.role and args.role not in found:
            raise ServiceUnavailable(f"The {args.role} service does not run on {far.host}.")
        services = connectors(far, roles, args.read_only)
        return open_console(roles, services=services)

"""`vpnshare join` and `leave`: the device's counterpart of `up` and `down`, in one command each.

Theory of operation. The client service is root's, so a user's `join` runs itself again
through sudo, unless this user's own instance has a service: that one is used. A service
that `join` starts is noted (`client.joined`, with its pid), which is how `leave` knows
what it may end. Until it is connected, `join` owns what it began: Ctrl-C, an error or a
refusal takes that back. It does not own a wish that was there before, nor a network that
is kept closed: these are the user's, and stay until the user ends them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from cli.connecting import (
    choose_if_unknown,
    establish,
    follow,
    named,
    outcome,
    say_disconnected,
)
from cli.rights import become_root
from cli.running import (
    STOP_TIMEOUT,
    by_proxy,
    on_terminal,
    open_console,
    refuse_on_phone,
)
from cli.services import dial
from cli.starting import start
from control import calling, paths
from control.errors import Code, ControlError, ServiceUnavailable
from control.exits import Exit
from control.oneshot import OneShot
from control.output import complain, print_json, tell
from control.schema import ClientStatus
from services.ending import units
from storage import own


def join(args: argparse.Namespace) -> int:
    """Have a client service that is connected, then open the console."""
    service = running_service()
    if service is None and not by_proxy():
        refuse_on_phone()
        _become_root_to_join(args)
        service = running_service()
    target = named(args, "join")
    started, interrupts = service is None, list[int]()
    if service is None:
        with _noting(interrupts):
            service = _start(args)
    with service:
        before: ClientStatus = service.call("status")
        wished = before.state not in ("idle", "failed") or before.kill_switch.state != "off"
        try:
            if interrupts:
                raise KeyboardInterrupt
            status = _connect(service, before if wished else None, target, args)
        except BaseException as error:
            if not wished:
                _take_back(started)
            if isinstance(error, KeyboardInterrupt):
                left = "goes on as it was before" if wished else "is undone"
                sys.stderr.write(f"\nNot joined: what was begun {left}.\n")
            raise
    if args.json:
        print_json(status)
    code = outcome(status, args, "join")
    over = status.state in ("failed", "idle") and status.kill_switch.state == "off"
    if over and started and not wished:
        _take_back(started)
    if status.state == "connected" and not args.json:
        return _connected(status, args)
    return code


def _connect(
    service: OneShot, wish: ClientStatus | None, target: str | None, args: argparse.Namespace
) -> ClientStatus:
    """Connect, or follow what is under way already when nothing else is asked for."""
    if target is None and args.code is None:
        if wish is not None:
            return wish if wish.state == "connected" else follow(service, wish, args)
        target = choose_if_unknown(service, args, "join")
    return establish(service, target, args)


def _connected(status: ClientStatus, args: argparse.Namespace) -> int:
    if not args.no_console and on_terminal() and (code := open_console(["client"])):
        return code
    tell(f"It goes on in the background (pid {status.pid}). End it: vpnshare leave")
    if calling.came_by_sudo():
        tell("The service is root's. See it: vpnshare status")
    return Exit.OK


def leave(args: argparse.Namespace) -> int:
    """Disconnect, and end the service if `join` has started it."""
    service = running_service()
    if service is None and not by_proxy():
        refuse_on_phone()
        become_root(["leave", *["--json"] * args.json], "to end root's client service")
        service = running_service()
    if service is None:
        raise ServiceUnavailable(
            "No client service runs here: there is nothing to leave.",
            "Join with: vpnshare join",
        )
    with service:
        pid = service.hello.pid
        ours = noted() == pid
        status = service.call("disconnect")
        # One that has something left to undo is needed for it.
        ended = ours and not status.kill_switch.rules and _end(service)
    if args.json:
        print_json({"pid": pid, "ended": ended, "state": status.state})
    if not say_disconnected(status, args.json):
        return Exit.FAILED
    if ours and not ended:
        complain(
            f"The client service (pid {pid}) is still stopping.",
            f"Give it a moment more, or end it by force: sudo kill -9 {pid}",
        )
        return Exit.TIMED_OUT
    if not ours and not args.json:
        _say_who_runs_it(pid)
    return Exit.OK


def _say_who_runs_it(pid: int) -> None:
    """It was not started by `join`: by whom, and how to stop it."""
    try:
        within = units(Path(f"/proc/{pid}/cgroup").read_text())
    except OSError:
        within = frozenset()
    unit = next((name for name in within if name.startswith(paths.NAME)), None)
    if unit:
        who, stop = f"The system has started the service ({unit})", f"sudo systemctl stop {unit}"
    else:
        who = f"The service (pid {pid}) was not started by join"
        stop = "vpnshare down --role client"
    tell(f"{who}: it goes on, idle. Stop it: {stop}")


def running_service() -> OneShot | None:
    """The client service of this instance; None where there is none, or it is root's."""
    try:
        return dial("client")
    except ServiceUnavailable:
        return None
    except ControlError as error:
        if error.code == Code.REFUSED and os.geteuid() != 0:
            return None
        raise


def _become_root_to_join(args: argparse.Namespace) -> None:
    if os.geteuid() == 0:
        return
    from vshp.uri import is_uri

    words, secret = list(args.target), None
    if words != ["-"] and (target := named(args, "join")) and is_uri(target):
        words, secret = ["-"], target
    options = ["--transport", args.transport]
    if args.code is not None:
        options += ["--code", args.code]
    if args.wait is not None:
        options += ["--wait", str(args.wait)]
    for name in ("yes", "open_on_failure", "no_console", "json"):
        if getattr(args, name):
            options.append(f"--{name.replace('_', '-')}")
    become_root(
        ["join", *options, *words],
        "to make the network interface, and to set routes and the resolver",
        secret,
    )


def _start(args: argparse.Namespace) -> OneShot:
    if not args.json:
        print("Starting the client service in the background.", file=sys.stderr, flush=True)
    service = start("client", [], "sudo vpnshare client")
    note_started(service)
    return service


def note_started(service: OneShot) -> None:
    """Note that this service is the one that `leave` may end."""
    descriptor = own.open_own(_note(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{service.hello.pid}\n")


@contextlib.contextmanager
def _noting(interrupts: list[int]) -> Iterator[None]:
    """Ctrl-C is noted instead: a service that comes up may have a wish, which must not be lost."""
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _take_back(started: bool) -> None:
    """Undo what this command has begun: by another connection, as one may be in a call."""
    with contextlib.suppress(ControlError), dial("client") as service:
        if started:
            _end(service)
        else:
            service.call("disconnect")


def _end(service: OneShot) -> bool:
    """Stop the service; whether it is gone."""
    service.call("shutdown")
    ended = service.wait_closed(STOP_TIMEOUT)
    if ended:
        _note().unlink(missing_ok=True)
    return ended


def _note() -> Path:
    return paths.find().run_dir / "client.joined"


def noted() -> int | None:
    """The pid of the service that `join` has started last."""
    try:
        with os.fdopen(own.open_own(_note(), os.O_RDONLY), "r") as file:
            text = file.read(32).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None

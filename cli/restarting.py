"""`vpnshare restart`: the services end and begin anew, as what is installed now.

Theory of operation. Who has started a service has to start it again: a service manager
does that for its unit; one in the background begins anew from here, with the options it
was started with, less those that were changed since; one that a person runs in a terminal
is theirs. A service in the background is ended by SIGHUP, which is nobody's wish: the
client keeps its network closed and its session's ticket, and the next one resumes by it.
A state that this version cannot read is said before anything is ended.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from cli.joining import note_started, noted
from cli.running import STOP_TIMEOUT
from cli.services import dial, running
from cli.starting import START_TIMEOUT, start
from control import paths
from control.errors import Code, ControlError, ServiceUnavailable
from control.exits import Exit
from control.oneshot import OneShot
from control.output import complain, print_json, printable, tell
from control.schema import ClientStatus, GatewayStatus
from control.versions import differ, release
from services import account
from services.ending import units
from services.version import running as own_version
from storage import own

BACK_SECONDS = 30.0
"""For a client that was connected to be so again, before its state is told as it is."""

KEEPS_ITS_SESSION = (0, 2)
"""The release since which a client knows an end that is nobody's wish. One before it gives its
session up at every signal; killed, it leaves all that the next one undoes and resumes from."""

_PLACES = {
    "--listen": "gateway.listen", "--vpn-interface": "gateway.vpn_interface",
    "--name": "gateway.name", "--log-level": "logs.level", "--log-format": "logs.format",
    "--interface": "client.interface", "--label": "client.label",
    "--no-offload": "client.offload", "--no-dns": "client.dns", "--no-routes": "client.routes",
    "--kill-switch": "client.kill_switch", "--open-on-failure": "client.open_on_failure",
    "--proxy": "client.proxy", "--pac": "client.proxy_pac",
}  # fmt: skip
"""The setting that each option of a service stands for."""
_ALONE = frozenset({
    "--share", "--no-offload", "--no-dns", "--no-routes", "--kill-switch", "--open-on-failure",
    "--pac", "--private", "--while-used",
})  # fmt: skip
"""Options without a value."""
_ALWAYS = frozenset({"--private", "--while-used"})
"""Options that no setting stands for: they are what the service is."""
_PERHAPS = frozenset({"--proxy"})
"""Options whose value may be left out."""


@dataclass(frozen=True, slots=True)
class Keeper:
    """Who starts a service again: `unit`, `background` or `terminal`; and how, for a unit."""

    kind: str
    name: str = ""
    command: tuple[str, ...] = ()


def restart(args: argparse.Namespace) -> int:
    found = running(args.role)
    keepers: list[Keeper] = []
    for service in found:
        _check_state(service)
        keepers.append(_may(service))
    done = []
    for service, keeper in zip(found, keepers, strict=True):
        done.append(_restart(service, keeper, args.json))
    if args.json:
        print_json(done)
    return Exit.OK if all(each["back"] for each in done) else Exit.TIMED_OUT


def _check_state(service: OneShot) -> None:
    """Raises `ControlError` when what a newer version has written would be refused."""
    from services.store import newer_state

    role = service.role
    try:
        with account.instance(role, service.path) as place:
            sentence = newer_state(place.store(role), role)
    except PermissionError:  # the whole machine's, whose manager asks for more rights anyway
        return
    if sentence:
        raise ControlError(Code.CONFLICT, sentence, f"The {role} service goes on as it is.")


def _may(service: OneShot) -> Keeper:
    """Who keeps it. Raises `ControlError` when it is a person at a terminal."""
    pid = service.hello.pid
    keeper = keeper_of(pid)
    if keeper.kind == "terminal":
        raise ControlError(
            Code.CONFLICT,
            f"The {service.role} service (pid {pid}) runs in the foreground of a terminal "
            f"({keeper.name}).",
            "End it there with Ctrl-C, and start it again. Nothing was restarted.",
        )
    return keeper


def keeper_of(pid: int, proc: Path = Path("/proc")) -> Keeper:
    """Who has started the process."""
    folder = proc / str(pid)
    cgroup = _read(folder / "cgroup")
    unit = next((name for name in units(cgroup) if name.startswith(paths.NAME)), None)
    if unit is not None:
        user = ("--user",) if "user@" in cgroup else ()
        return Keeper("unit", unit, ("systemctl", *user, "restart", unit))
    # stat in proc(5): the name may hold anything, so what follows its last bracket is read.
    fields = _read(folder / "stat").rpartition(")")[2].split()
    parent, terminal = (int(fields[1]), int(fields[4])) if len(fields) > 4 else (0, 0)
    if _read(proc / str(parent) / "comm").strip() == "runsv":
        name = Path(_read(proc / str(parent) / "cmdline").split("\0")[1]).name
        return Keeper("unit", name, ("sv", "restart", name))
    if terminal:
        try:
            name = os.readlink(folder / "fd" / "0")
        except OSError:  # what holds keys shows its files to root alone
            name = f"number {terminal & 0xFF}"
        return Keeper("terminal", name)
    return Keeper("background")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _restart(service: OneShot, keeper: Keeper, quiet: bool) -> dict[str, object]:
    role, before, pid = service.role, service.hello.version, service.hello.pid
    status: GatewayStatus | ClientStatus = service.call("status")
    device = status if isinstance(status, ClientStatus) else None
    connected = device is not None and device.state == "connected"
    if keeper.kind == "unit":
        service.close()
        _by_its_manager(keeper)
        fresh = _dial_new(role, pid)
    else:
        words = _words(service, status)
        joined = role == "client" and noted() == pid
        _end(service, pid)
        # A person who looks for its words has them in the same file as before.
        fresh = start(role, words, f"vpnshare {role}")
        if joined:
            note_started(fresh)
    with fresh:
        if isinstance(status, GatewayStatus) and status.sharing != "off":
            # A unit begins as it was installed to, whatever its owner has wished since.
            fresh.call("share")
        if device is not None and device.state not in ("idle", "failed"):
            _wish_again(fresh, device)
        back = not connected or _connected_again(fresh)
        now: GatewayStatus | ClientStatus = fresh.call("status")
        done = {
            "role": role, "by": keeper.name or keeper.kind, "before": before,
            "version": fresh.hello.version, "pid": fresh.hello.pid, "back": back,
        }  # fmt: skip
        if not quiet:
            _tell(done, now, connected)
        if told := differ(role, fresh.hello.version, own_version()):
            # Its unit runs another copy of the program than this one.
            complain(told[0], _copy_hint(role))
    return done


def _tell(done: dict[str, object], now: GatewayStatus | ClientStatus, connected: bool) -> None:
    changed = done["before"] != done["version"]
    what = f"{done['before']} before, {done['version']} now" if changed else f"{done['version']}"
    tell(f"The {done['role']} service began anew: {what} (pid {done['pid']}).")
    if isinstance(now, GatewayStatus):
        if now.sharing != "off":
            tell("It shares again; devices come back by themselves.")
    elif connected and done["back"]:
        tell(f"Connected to {printable(now.gateway or 'the gateway')} again.")
    elif connected:
        complain(
            f"It is not connected again yet: {now.reason or now.state}",
            "It keeps trying. See: vpnshare status",
        )


def _copy_hint(role: str) -> str:
    return (
        "The unit runs another copy of the program. Bring it up to date: sudo vpnshare service "
        f"install --role {role} --copy"
    )


def _by_its_manager(keeper: Keeper) -> None:
    try:
        done = subprocess.run(
            keeper.command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as exc:
        raise ControlError(
            Code.FAILED, f"{keeper.command[0]} cannot be run: {exc.strerror}."
        ) from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ControlError(
            Code.FAILED,
            f"{keeper.name} was not restarted: {said[-1] if said else 'no reason was given'}",
            f"By hand: {' '.join(keeper.command)}",
        )


def _words(service: OneShot, status: GatewayStatus | ClientStatus) -> list[str]:
    """The service's options: as it was started, less what was set anew since."""
    given = _read(Path(f"/proc/{service.hello.pid}/cmdline")).split("\0")[:-1]
    after = given[given.index(service.role) + 1 :] if service.role in given else []
    by_option = {each.key for each in service.call("settings") if each.source == "option"}
    words = kept(after, by_option)
    if isinstance(status, GatewayStatus) and status.sharing != "off":
        words.append("--share")
    return words


def kept(words: list[str], by_option: set[str]) -> list[str]:
    """Those of a service's options that still count, by the keys of the settings they stand for."""
    found: list[str] = []
    left = deque(words)
    while left:
        name, equals, value = left.popleft().partition("=")
        lone = name in _PERHAPS and not (left and not left[0].startswith("-"))
        if name not in _ALONE and not equals and not lone:
            value = left.popleft() if left else ""
        if name in _ALWAYS or _PLACES.get(name) in by_option:
            bare = name in _ALONE or (lone and not equals)
            found.append(name if bare else f"{name}={value}")
    return found


def _end(service: OneShot, pid: int) -> None:
    """End it, keeping what it was to do; returns once the instance is free."""
    gives_up = service.role == "client" and release(service.hello.version) < KEEPS_ITS_SESSION
    try:
        os.kill(pid, signal.SIGKILL if gives_up else signal.SIGHUP)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise ControlError(
            Code.REFUSED, f"The {service.role} service (pid {pid}) is another user's.",
            "Run the command as the user who has started it.",
        ) from None  # fmt: skip
    ended = service.wait_closed(STOP_TIMEOUT)
    deadline = time.monotonic() + (2.0 if ended else 0.0)
    while not (ended := _free(service.role)) and time.monotonic() < deadline:
        time.sleep(0.02)
    if not ended:
        raise ControlError(
            Code.TIMED_OUT, f"The {service.role} service (pid {pid}) is still stopping.",
            f"Give it a moment more, or end it by force: kill -9 {pid}",
        )  # fmt: skip


def _free(role: str) -> bool:
    """Whether nobody holds the role's lock of this instance."""
    descriptor = own.open_own(paths.find().lock(role), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _dial_new(role: str, old: int) -> OneShot:
    """The service that its manager has started in place of process `old`."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(ServiceUnavailable):
            service = dial(role)
            if service.hello.pid != old:
                return service
            service.close()
        time.sleep(0.1)
    raise ControlError(
        Code.TIMED_OUT, f"The {role} service was not ready within {START_TIMEOUT:.0f} s.",
        f"See why: vpnshare doctor --role {role}",
    )  # fmt: skip


def _wish_again(service: OneShot, before: ClientStatus) -> None:
    """Have it connect as before where it has forgotten that: 0.1.0 keeps a session, but no wish."""
    if service.call("status").state == "idle":
        service.call("connect", gateway=before.gateway_fingerprint)


def _connected_again(service: OneShot) -> bool:
    """Follow the client until it is connected again, or that is decided otherwise."""
    for status in service.watch("status", 0.2, time.monotonic() + BACK_SECONDS):
        if status.state in ("connected", "failed", "idle"):
            return bool(status.state == "connected")
    return False

"""Checks of either side: packages, configuration, store, room and rights, clock, version."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control.lacking import install
from control.paths import Paths
from control.schema import Unwritten
from reach.cable import WITHOUT_USB_LIBRARY
from services import config
from services.doctor.checks import Checks, Outcome, broken, ok, skipped, warn
from services.doctor.system import System
from services.hooks import Hook, unfit
from services.version import running

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
LITTLE_ROOM = 16 * 1024 * 1024
"""Bytes: a state of months and a log fit into that."""
SLACK = 86400.0
"""Seconds that a clock may be behind what it has shown before: time zones are set wrong, too."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the checks of either side look at."""

    role: str
    paths: Paths
    system: System = field(default_factory=System)
    told: Callable[[], list[Unwritten]] | None = None
    """What the running service could not store (`StoreKeeper.told`); None: it does not run."""
    hook: Hook | None = None
    """The running service's."""


CHECKS: Checks[Machine] = Checks("both")

REQUIRED = {"cryptography": "cryptography", "h11": "h11", "noise": "noiseprotocol"}
"""Modules, and the packages that they are of; so below."""
EXTRAS = {
    "gateway": {
        "textual": ("there is no console", "textual"),
        "qrcode": ("pairing shows a URI and no QR code", "qrcode"),
        "png": ("WireGuard's QR codes cannot be written as pictures", "pypng"),
        "tomlkit": ("settings can be changed in the file only", "tomlkit"),
        "zeroconf": ("devices cannot find this gateway by themselves", "zeroconf"),
    },
    "client": {
        "textual": ("there is no console", "textual"),
        "tomlkit": ("settings can be changed in the file only", "tomlkit"),
        "zeroconf": ("gateways are not found by themselves", "zeroconf"),
        "aiodns": ("a gateway's name is asked of the system, before the tunnel only", "aiodns"),
        "usb": (WITHOUT_USB_LIBRARY, "pyusb libusb-package"),
    },
}
"""What is missed without a module, and the package that it is of."""


@CHECKS.check("packages", "Needed packages")
def packages(machine: Machine) -> Outcome:
    python = machine.system.python()
    if not OLDEST_PYTHON <= python <= NEWEST_PYTHON:
        return broken(
            f"Python {python[0]}.{python[1]} is not one that VPN Share is made for.",
            "Use Python 3.11 to 3.14.",
        )
    for module, package in REQUIRED.items():
        if not machine.system.has(module):
            return broken(f"{module} is not installed: no tunnel can be made.", install(package))
    return ok(f"Python {python[0]}.{python[1]}, and all that is needed.")


@CHECKS.check("extras", "Optional packages")
def extras(machine: Machine) -> Outcome:
    wanted = EXTRAS[machine.role]
    missing = [name for name in wanted if not machine.system.has(name)]
    if not missing:
        return ok("All are installed.")
    effects = "; ".join(f"without {name}, {wanted[name][0]}" for name in missing)
    packages = " ".join(wanted[name][1] for name in missing)
    return warn(f"{effects[0].upper()}{effects[1:]}.", install(packages))


@CHECKS.check("config", "Configuration file")
def configuration(machine: Machine) -> Outcome:
    path = machine.paths.config
    try:
        given = config.load(path).given
    except config.ConfigError as exc:
        return broken(str(exc), f"Mend that line of {path}.")
    mode = machine.system.mode(path) or 0
    kept = [each.name for each in config.SETTINGS if each.secret and _is_given(given, each)]
    if kept and mode & 0o044:
        # Root's file in a folder of the service's: with 0600 alone it could not read it any more.
        uid = machine.system.user()
        is_ours = machine.system.owner(path) == uid
        return broken(
            f"{path} holds {' and '.join(kept)}, and its mode, {mode:04o}, lets others read it.",
            f"chmod 600 {path}" if is_ours else f"sudo chown {uid} {path} && sudo chmod 600 {path}",
        )
    return ok(f"{path} is good." if given else "Everything is as by default.")


def _is_given(given: Mapping[tuple[str, str], Any], setting: config.Setting) -> bool:
    """Whether the file has a value for it, other than the one that it has without."""
    return bool(given.get((setting.section, setting.key), setting.default) != setting.default)


@CHECKS.check("store", "Stored state")
def store(machine: Machine) -> Outcome:
    path = machine.paths.store(machine.role)
    mode = machine.system.mode(path)
    if mode is None or not machine.system.size(path):
        return skipped("Nothing has been stored yet.")
    if mode & 0o077:
        return broken(f"Others may read {path}, which holds keys.", f"chmod 600 {path}")
    try:
        fault = _ask(path, "PRAGMA quick_check(1)")
    except sqlite3.DatabaseError as exc:
        if isinstance(exc, sqlite3.OperationalError):
            return skipped(f"{path} could not be looked at: {exc}.")
        fault = str(exc)
    if fault != "ok":
        return broken(
            f"{path} is damaged: {fault}.",
            f"Move {path} away while the service runs: it writes it anew, from memory."
            if machine.told is not None
            else f"Move {path} away, and pair the devices again; or put a back-up in its place.",
        )
    return ok(f"{path} is sound.")


@CHECKS.check("unwritten", "What waits to be stored")
def unwritten(machine: Machine) -> Outcome:
    if machine.told is None:
        return skipped(f"The {machine.role} service does not run.")
    waiting = machine.told()
    if waiting:
        return broken(" ".join(each.found for each in waiting), waiting[0].advice)
    return ok("Nothing: all that is in force is stored.")


@CHECKS.check("hook", "Program run for events")
def hook(machine: Machine) -> Outcome:
    if machine.hook is None or not machine.hook.path:
        return skipped("None is set.")
    path, state = machine.hook.path, machine.hook.state
    off = f"Mend it, or turn it off: vpnshare set {machine.role}.hook --default"
    why = unfit(path)
    if why is not None:
        return broken(why, off)
    counts = f"{state.done} events told, {state.failed} failed, {state.dropped} came too fast"
    if state.last:
        return warn(f"{state.last} ({counts}.)", off)
    return ok(f"{path}: {counts}.")


@CHECKS.check("room", "Room on disk")
def room_on_disk(machine: Machine) -> Outcome:
    paths = machine.paths
    least: tuple[int, Path] | None = None
    for folder in dict.fromkeys((paths.state_dir, paths.run_dir, paths.config_dir)):
        there = machine.system.room(folder)
        if there is None:
            return skipped(f"The file system under {folder} cannot be looked at.")
        if there.read_only and folder != paths.config_dir:
            return broken(
                f"The file system under {folder} is read-only.",
                "See why (dmesg), then mount it writable: mount -o remount,rw MOUNT-POINT",
            )
        if there.files == 0:
            return broken(
                f"The file system under {folder} can hold no more files.",
                f"Remove some: df -i {folder}",
            )
        if there.full:
            return broken(f"No space is left under {folder}.", f"Make room: df -h {folder}")
        if least is None or there.free < least[0]:
            least = there.free, folder
    assert least is not None
    free, folder = least[0] // 1024**2, least[1]
    if least[0] < LITTLE_ROOM:
        return warn(f"Only {free} MiB are left under {folder}.", f"Make room: df -h {folder}")
    return ok(f"{free:,} MiB are free under {folder}.")


@CHECKS.check("rights", "Rights to its files")
def rights(machine: Machine) -> Outcome:
    paths, system = machine.paths, machine.system
    folder = paths.state_dir
    own = (paths.store(machine.role), *paths.slates(machine.role), paths.config)
    looked = [path for path in (folder, *own) if system.mode(path) is not None]
    if folder not in looked:
        return skipped("Nothing has been stored yet.")
    for path in looked:
        if system.owner(path) not in (system.user(), 0):
            return broken(
                f"{path} belongs to another user, who can change what the service does.",
                f"Stop the service, then: chown $(id -u) {path}",
            )
        if (system.mode(path) or 0) & 0o022:
            return broken(f"Others may write {path}.", f"chmod go-w {path}")
        if path != paths.config and not system.usable(str(path)):
            return broken(
                f"This user may not read and write {path}.",
                f"Run it as the user whose it is, or give it back: chown -R $(id -u) {folder}",
            )
    return ok(f"{folder} and what is in it are this user's, and no other's to write.")


def _ask(path: Path, question: str) -> Any:
    """A single value of the store, without changing it. Raises `sqlite3.Error`."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=2.0)
    try:
        (said,) = connection.execute(question).fetchone()
    finally:
        connection.close()
    return said


@CHECKS.check("clock", "Clock")
def clock(machine: Machine) -> Outcome:
    now = machine.system.wall()
    seen = _last_seen(machine.paths.store(machine.role), machine)
    known = [time for time in (machine.system.installed_at(), seen) if time is not None]
    if now < max(known) - SLACK:
        return broken(
            "The clock is behind: it shows a time before this software was installed or a device "
            "was seen. Certificates and tickets will be refused.",
            "Set the date and time to automatic.",
        )
    since = "this software was installed" if seen is None else "the last device was seen"
    return ok(f"The clock shows a time after {since}.")


def _last_seen(path: Path, machine: Machine) -> float | None:
    """The newest time in the store; None if there is none or it cannot be read."""
    if machine.system.mode(path) is None:
        return None
    table = "peer" if machine.role == "gateway" else "gateway"
    try:
        newest = _ask(path, f"SELECT max(last_seen) FROM {table}")
    except sqlite3.Error:
        return None
    return None if newest is None else float(newest)


@CHECKS.check("version", "Version")
def version(machine: Machine) -> Outcome:
    installed = machine.system.installed()
    if installed is None:
        return skipped(f"VPN Share {running()}; what is installed could not be read.")
    if installed != running():
        return warn(
            f"The {machine.role} service runs {running()}, and {installed} is installed.",
            f"Have it change over: vpnshare restart --role {machine.role}",
        )
    return ok(f"VPN Share {running()}.")

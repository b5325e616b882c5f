"""Checks of either side: packages, configuration, store, clock, version."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from services import config
from services.doctor.checks import Checks, Outcome, broken, ok, skipped, warn
from services.doctor.system import System
from services.paths import Paths
from services.version import VERSION

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
SLACK = 86400.0
"""Seconds that a clock may be behind what it has shown before: time zones are set wrong, too."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the checks of either side look at."""

    role: str
    paths: Paths
    system: System = field(default_factory=System)


CHECKS: Checks[Machine] = Checks("both")

REQUIRED = {
    "cryptography": "pip install cryptography (Termux: pkg install python-cryptography)",
    "noise": "pip install noiseprotocol",
}
EXTRAS = {
    "gateway": {
        "textual": ("there is no console", "pip install textual"),
        "qrcode": ("pairing shows a URI and no QR code", "pip install qrcode"),
        "tomlkit": ("settings can be changed in the file only", "pip install tomlkit"),
        "zeroconf": ("devices cannot find this gateway by themselves", "pip install zeroconf"),
    },
    "client": {
        "textual": ("there is no console", "pip install textual"),
        "tomlkit": ("settings can be changed in the file only", "pip install tomlkit"),
        "zeroconf": ("gateways are not found by themselves", "pip install zeroconf"),
        "usb": ("USB accessories cannot be used", "pip install pyusb"),
    },
}
"""What is missed without a package, and how to get it."""


@CHECKS.check("packages", "Needed packages")
def packages(machine: Machine) -> Outcome:
    python = machine.system.python()
    if not OLDEST_PYTHON <= python <= NEWEST_PYTHON:
        return broken(
            f"Python {python[0]}.{python[1]} is not one that VPN Share is made for.",
            "Use Python 3.11 to 3.14.",
        )
    for module, fix in REQUIRED.items():
        if not machine.system.has(module):
            return broken(f"{module} is not installed: no tunnel can be made.", fix)
    return ok(f"Python {python[0]}.{python[1]}, and all that is needed.")


@CHECKS.check("extras", "Optional packages")
def extras(machine: Machine) -> Outcome:
    wanted = EXTRAS[machine.role]
    missing = [name for name in wanted if not machine.system.has(name)]
    if not missing:
        return ok("All are installed.")
    effects = "; ".join(f"without {name}, {wanted[name][0]}" for name in missing)
    return warn(f"{effects[0].upper()}{effects[1:]}.", wanted[missing[0]][1])


@CHECKS.check("config", "Configuration file")
def configuration(machine: Machine) -> Outcome:
    path = machine.paths.config
    try:
        given = config.load(path).given
    except config.ConfigError as exc:
        return broken(str(exc), f"Mend that line of {path}.")
    return ok(f"{path} is good." if given else "Everything is as by default.")


@CHECKS.check("store", "Stored state")
def store(machine: Machine) -> Outcome:
    path = machine.paths.store(machine.role)
    mode = machine.system.mode(path)
    if mode is None:
        return skipped("Nothing has been stored yet.")
    if mode & 0o077:
        return broken(f"Others may read {path}, which holds keys.", f"chmod 600 {path}")
    try:
        fault = _integrity(path)
    except sqlite3.Error as exc:
        fault = str(exc)
    if fault is not None:
        return broken(
            f"{path} is damaged: {fault}.",
            f"Stop the service, move {path} away, and pair the devices again.",
        )
    return ok(f"{path} is sound.")


def _integrity(path: Path) -> str | None:
    """What SQLite's own check says; None when all is well. Raises `sqlite3.Error`."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=2.0)
    try:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    finally:
        connection.close()
    return None if said == "ok" else str(said)


@CHECKS.check("clock", "Clock")
def clock(machine: Machine) -> Outcome:
    now = machine.system.wall()
    known = machine.system.installed_at(), _last_seen(machine.paths.store(machine.role), machine)
    if now < max(known) - SLACK:
        return broken(
            "The clock is behind: it shows a time before this software was installed or a device "
            "was seen. Certificates and tickets will be refused.",
            "Set the date and time to automatic.",
        )
    return ok("The clock is plausible.")


def _last_seen(path: Path, machine: Machine) -> float:
    """The newest time in the store, 0 if there is none."""
    if machine.system.mode(path) is None:
        return 0.0
    table = "peer" if machine.role == "gateway" else "gateway"
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=2.0)
        try:
            (newest,) = connection.execute(f"SELECT max(last_seen) FROM {table}").fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        return 0.0
    return float(newest or 0.0)


@CHECKS.check("version", "Version")
def version(machine: Machine) -> Outcome:
    text = machine.system.read(str(Path(config.__file__).with_name("version.py"))) or ""
    installed = re.search(r'^VERSION = "([^"]+)"$', text, re.MULTILINE)
    if installed is not None and installed[1] != VERSION:
        return warn(
            f"The {machine.role} service runs {VERSION}, and {installed[1]} is installed.",
            "Restart the service.",
        )
    return ok(f"VPN Share {VERSION}.")

"""What a person here types to run a command of this program: hints that can be pasted.

Theory of operation. Whoever writes a hint writes `vpnshare COMMAND`, and `sudo` where
the command needs root whatever runs: a service does not know how it is called, and a
room below knows no service. Where a person reads it, in the command's output and in
what the console is told, `pasted` puts in the name under which the program was called
(`./vpnshare` tells it in VPNSHARE_CALLED), and sudo where the service is root's and the
person is not. What a console elsewhere shows by ssh stays as it was written: it is meant
for the far machine.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import typing
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

from control import paths

CALLED = "VPNSHARE_CALLED"

RECEIVING = frozenset({
    "client", "connect", "disconnect", "endpoints", "forget", "gateways", "history", "usb",
})  # fmt: skip
"""Commands that talk to the client service; `join` and `leave` ask for rights by themselves."""
SHARING = frozenset({
    "approve", "deny", "gateway", "leases", "pair", "peers", "relisten", "rename", "requests",
    "revoke", "rules", "share", "templates", "unshare", "up", "usage", "wireguard",
})  # fmt: skip
EITHER = frozenset({
    "api", "bundle", "check", "completion", "console", "counters", "demo", "discover", "doctor",
    "down", "flows", "get", "join", "leave", "logs", "manual", "metrics", "restart", "run",
    "service", "set", "settings", "shell", "status", "version", "watch",
})  # fmt: skip

_VERBS = "|".join(sorted(RECEIVING | SHARING | EITHER))
COMMAND = re.compile(
    r"(?<![\w./~@'-])(?P<sudo>sudo )?(?P<home>VPNSHARE_HOME=(?:'[^']*'|\S+) )?"
    rf"vpnshare (?P<verb>{_VERBS}|COMMAND|--help)(?![\w])"
)
"""A command of this program in a text."""

SPOKEN = frozenset({"advice", "found", "message", "opened_by", "reason", "sentence"})
"""The fields of the control API's records that hold sentences for people."""


def name() -> str:
    """The program, as it was called: `vpnshare` where that is in PATH."""
    called = os.environ.get(CALLED, "")
    if not called or not called.isprintable() or shutil.which("vpnshare") == called:
        return "vpnshare"
    return shlex.quote(called)


def came_by_sudo() -> bool:
    """Whether we are root, and the person is not."""
    return os.geteuid() == 0 and os.environ.get("SUDO_UID", "0") != "0"


def command(words: str) -> str:
    """`vpnshare WORDS` as the person here types it."""
    return pasted(f"vpnshare {words}")


def pasted(text: str) -> str:
    """`text` with every command of this program as the person here types it."""
    if "vpnshare " not in text:
        return text
    return COMMAND.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    verb, home = found["verb"], found["home"] or ""
    if not (found["sudo"] and os.geteuid() != 0) and not _is_roots(verb):
        return f"{home}{name()} {verb}"
    ours = os.environ.get("VPNSHARE_HOME")
    if ours and not home:
        # sudo hands no variable on.
        home = f"VPNSHARE_HOME={shlex.quote(ours)} "
    return f"sudo {home}{name()} {verb}"


def _is_roots(verb: str) -> bool:
    """Whether that command needs root's rights, which the person here has by sudo only."""
    if os.geteuid() == 0:
        if not came_by_sudo():
            return False
        # On this machine, that is: a gateway's commands may be meant for another.
        ours = (paths.find(), paths.WHOLE) if paths.is_shared() else (paths.find(),)
        return verb not in SHARING or any(each.socket("gateway").exists() for each in ours)
    return verb in RECEIVING and not paths.find().socket("client").exists()


@functools.cache
def _speakers(kind: Any) -> Callable[[Any], Any] | None:
    """How the sentences in a value of that type are spelled; None where it holds none."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        item = _speakers(parts[0])
        return None if item is None else lambda values: [item(value) for value in values]
    if parts:
        inner = [found for found in map(_speakers, parts) if found is not None]
        return None if not inner else lambda value: None if value is None else inner[0](value)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return None
    hints = typing.get_type_hints(kind)
    ways: dict[str, Callable[[Any], Any]] = {}
    for field in fields(kind):
        way = _sentence if field.name in SPOKEN else _speakers(hints[field.name])
        if way is not None:
            ways[field.name] = way
    if not ways:
        return None

    def spell(record: Any) -> Any:
        changed = {}
        for name, way in ways.items():
            value = getattr(record, name)
            spelled = way(value)
            if spelled != value:
                changed[name] = spelled
        return replace(record, **changed) if changed else record

    return spell


def _sentence(value: Any) -> Any:
    return pasted(value) if isinstance(value, str) else value


def spoken(kind: Any, record: Any) -> Any:
    """A result of a method of that type, its sentences as the person here can paste them."""
    way = _speakers(kind)
    return record if way is None else way(record)

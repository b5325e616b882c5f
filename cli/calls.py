"""The control API from a shell: `vpnshare api METHOD [JSON]` and `vpnshare watch TOPIC [JSON]`."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterator
from typing import Any

from cli.services import dial, running
from control.codec import MAX_REQUEST
from control.errors import STOPPING, Code, ControlError, ServiceUnavailable
from control.exits import Exit
from control.methods import CLIENT, GATEWAY
from control.oneshot import OneShot
from control.output import (
    Column,
    complain,
    paint,
    pause,
    print_json,
    print_table,
    standard_output,
    tell,
)
from control.registry import SESSION_METHODS

TIMEOUT = 60.0
"""Seconds that a call may take: `doctor` asks other machines."""
AGAIN = 0.5
"""Seconds between looks for a service that has ended."""
_TABLES = {"gateway": GATEWAY, "client": CLIENT}


def api(args: argparse.Namespace) -> int:
    if args.method is None:
        for service in running(args.role):
            _show_methods(service)
        return Exit.OK
    params = _parameters(args.params)
    with _who_has(args.method, args.role) as service:
        print_json(service.call_raw(args.method, **params))
    return Exit.OK


def _show_methods(service: OneShot) -> None:
    print(paint(f"Methods of the {service.role}", "bold"))
    print_table(
        [Column("METHOD"), Column("WHAT", shrink=True), Column("MAY", 1), Column("TOPIC", 2)],
        (
            (method.name, method.help, method.permission.value, "topic" if method.topic else "")
            for method in sorted(_TABLES[service.role].values(), key=lambda method: method.name)
            if method.name not in SESSION_METHODS
        ),
        "None.",
    )


def _parameters(text: str) -> dict[str, Any]:
    """The parameters that were given. Raises `ControlError`."""
    if text == "-":
        text = sys.stdin.read(MAX_REQUEST + 1)
    try:
        params = json.loads(text) if len(text) <= MAX_REQUEST else None
    except (ValueError, RecursionError) as exc:
        why = f"The parameters are no JSON: {exc}."
        raise ControlError(Code.INVALID_PARAMS, why, EXAMPLE) from None
    if not isinstance(params, dict):
        why = f"The parameters are a JSON object of at most {MAX_REQUEST} bytes."
        raise ControlError(Code.INVALID_PARAMS, why, EXAMPLE)
    return params


EXAMPLE = "Like this: vpnshare api flows '{\"limit\":5}'"


def _who_has(name: str, role: str | None) -> OneShot:
    """The service that is meant: of `role`, else the one that runs. Raises `ControlError`."""
    if name in SESSION_METHODS:
        raise ControlError(
            Code.INVALID_PARAMS, f"{name} is about a connection, and this command's ends at once.",
            "To follow a topic: vpnshare watch status",
        )  # fmt: skip
    if role is not None:
        return dial(role, TIMEOUT)
    found = running()
    having = [service for service in found if name in _TABLES[service.role]]
    if len(having) > 1:
        raise ControlError(
            Code.CONFLICT, f"Both services run here, and both have {name}.",
            "Name one of them: --role gateway, or --role client",
        )  # fmt: skip
    if not having and len(found) > 1:
        names = {each for table in _TABLES.values() for each in table} - SESSION_METHODS
        near = difflib.get_close_matches(name, names, 1)
        raise ControlError(
            Code.METHOD_NOT_FOUND, f"No service has a method {name[:60]!r}.",
            f"Did you mean {near[0]}?" if near else "See: vpnshare api",
        )  # fmt: skip
    # One that is of another version than this command may have more than we know.
    service = (having or found)[0]
    for other in found:
        other.close()
    return dial(service.role, TIMEOUT)


def watch(args: argparse.Namespace) -> int:
    params = _parameters(args.params)
    with _who_has(args.topic, args.role) as service:
        role = service.role
    for data in _follow(role, args.topic, args.interval, params):
        sys.stdout.write(json.dumps(data, separators=(",", ":")) + "\n")
        sys.stdout.flush()
    return Exit.OK


def _follow(role: str, topic: str, interval: float, params: dict[str, Any]) -> Iterator[Any]:
    """What a topic shows, over restarts of the service.

    Raises `ControlError`, and `BrokenPipeError` when nobody reads any more.
    """
    reader = standard_output()
    service = dial(role)
    while True:
        try:
            with service:
                yield from service.watch_raw(topic, interval, None, reader, params)
        except ControlError as error:
            if not _ended(error):
                raise
            complain(error.message, "Waiting until it runs again.")
        service = _next(role, reader)
        tell(f"The {role} service runs again.", stream=sys.stderr)


def _ended(error: ControlError) -> bool:
    return isinstance(error, ServiceUnavailable) or error.name == STOPPING


def _next(role: str, reader: int | None) -> OneShot:
    """The next service of that role, however long it takes."""
    while True:
        pause(AGAIN, reader)
        try:
            return dial(role)
        except ControlError as error:
            if not _ended(error):
                raise

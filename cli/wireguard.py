"""`vpnshare wireguard`: devices with a WireGuard app, and making one."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec

from cli.qr import screen
from cli.services import dial
from control.exits import Exit
from control.lacking import install
from control.output import (
    Column,
    complain,
    duration,
    paint,
    print_facts,
    print_json,
    print_table,
    printable,
    size,
    tell,
)
from control.paths import is_termux
from control.pictures import OPENER, Fresh, missing_for_pictures, picture, refusal
from control.schema import Wireguard, WireguardConfig, WireguardDevice

UNDER_THE_CODE = 3
"""Lines that follow a code: what to do next, and the shell's own."""


def wireguard(args: argparse.Namespace) -> int:
    return _ACTIONS[args.action](args)


def show(args: argparse.Namespace) -> int:
    if args.name is not None:
        complain("To make a device: vpnshare wireguard add NAME")
        return Exit.USAGE
    with dial("gateway") as service:
        if args.json:
            print_json(service.call_raw("wireguard"))
            return Exit.OK
        state: Wireguard = service.call("wireguard")
    where = ", ".join(state.listen) or ("off" if not state.port else "not before the first device")
    print_facts([("Key", state.key), ("Listens on", where)])
    print()
    print_table(
        [
            Column("ID"),
            Column("DEVICE", shrink=True),
            Column("STATE"),
            Column("HANDSHAKE", 1),
            Column("ADDRESS", 2),
            Column("FROM", 3),
            Column("UP", 4, right=True),
            Column("DOWN", 4, right=True),
            Column("KEY", 5),
        ],
        (_row(device) for device in state.devices),
        "No device comes by WireGuard yet. Make one with: vpnshare wireguard add NAME",
    )
    for device in state.devices:
        for key in device.asking:
            asks = f"{printable(key)} asks to be {printable(device.label)}."
            print(f"\n{paint(asks, 'yellow')}")
            print("  Compare it with the public key that the device shows.")
    if any(device.asking for device in state.devices):
        tell("  Then let it in: vpnshare requests")
    for trouble in state.troubles:
        print(f"\n{paint(printable(trouble.found), 'yellow')}\n  {printable(trouble.advice)}")
    return Exit.OK


def _row(device: WireguardDevice) -> tuple[str, ...]:
    age = device.handshake_age
    return (
        device.id,
        device.label,
        device.state,
        "-" if age is None else f"{duration(age)} ago",
        device.ipv4,
        device.endpoint or "-",
        size(device.received_bytes),
        size(device.sent_bytes),
        device.key or "-",
    )


def add(args: argparse.Namespace) -> int:
    """A config for a new device, an invited one, or one that gets another key."""
    if not args.name:
        which = "Which device?" if args.action == "renew" else "What shall the device be called?"
        complain(which, f"vpnshare wireguard {args.action} NAME")
        return Exit.USAGE
    if args.action == "invite" and (args.png or args.key):
        complain("An invited device brings its own key: there is nothing to scan.",
                 "vpnshare wireguard invite NAME --conf FILE")  # fmt: skip
        return Exit.USAGE
    if args.png is not None and (missing := missing_for_pictures()):
        complain(f"{missing} is not installed: no picture can be made.", install(missing))
        return Exit.FAILED
    with ExitStack() as files:
        try:
            # Before the device is made, for its config cannot be had again.
            conf, png = (files.enter_context(Fresh(name)) for name in (args.conf, args.png))
        except OSError as error:
            complain(*refusal(error))
            return Exit.FAILED
        with dial("gateway") as service:
            made: WireguardConfig = service.call(f"wireguard_{args.action}", **_params(args))
        try:
            conf.keep(made.text.encode() + b"\n")
            if args.png is not None:
                png.keep(picture(made.text))
        except OSError as error:
            complain(*refusal(error))
            return Exit.FAILED
    if args.json:
        print_json(made)
        return Exit.OK
    if args.conf is None and args.png is None:
        _show_config(made, args.no_qr)
    for name in filter(None, (args.conf, args.png)):
        _tell_written(name)
    tell(_what_next(made, args.action))
    return Exit.OK


def _params(args: argparse.Namespace) -> dict[str, str | None]:
    """What `wireguard_add`, `_invite` or `_renew` is asked for."""
    who = {"id" if args.action == "renew" else "label": args.name, "endpoint": args.endpoint}
    return who if args.action == "invite" else who | {"key": args.key}


def _show_config(made: WireguardConfig, no_qr: bool) -> None:
    if "\nPrivateKey=\n" in made.text:
        print(made.text)
        print(paint("Put the device's own private key behind PrivateKey=.", "dim"))
        return
    lines: list[str] = []
    if not no_qr and find_spec("qrcode") is None:
        complain("qrcode is not installed: here is the text alone.", install("qrcode"))
    elif not no_qr:
        lines, said = _code(made.text)
        if not lines and sys.stdin.isatty() and sys.stdout.isatty():
            if _saved_meanwhile(made):
                return
            lines, said = _code(made.text)
        elif not lines:
            complain(
                f"The terminal is too small for the code, which needs {said}.",
                "Make a device that is a picture: vpnshare wireguard add NAME --png FILE",
            )
    print(made.text)
    print(paint("This holds the device's key: it is shown once, for one device only.", "dim"))
    # Last, for what stands above it may leave the screen.
    if lines:
        print("\n".join(lines))


def _code(text: str) -> tuple[list[str], str]:
    """The code's lines, none where the terminal is too small; what it needs, in words."""
    lines, columns = screen(text)
    rows = (columns + 1) // 2 + UNDER_THE_CODE
    if sys.stdout.isatty() and shutil.get_terminal_size().lines < rows:
        lines = []
    return lines, f"{columns} columns and {rows} lines"


def _saved_meanwhile(made: WireguardConfig) -> bool:
    """Wait until the terminal is large enough; True when a file has the code instead."""
    zoom = "pinch the screen" if is_termux() else "Ctrl and -"
    while True:
        lines, need = _code(made.text)
        if lines:
            return False
        here = shutil.get_terminal_size()
        question = (
            f"The code needs {need}; this terminal has {here.columns} and {here.lines}. Zoom out "
            f"({zoom}) and press Enter; or name a file for a picture of it ({made.tunnel}.png); "
            "or - for the text alone."
        )
        print(textwrap.fill(question, max(20, here.columns)))
        try:
            said = input("Enter, file or -: ").strip()
        except EOFError:
            return False
        if said == "-":
            return False
        if said and _save_picture(said, made.text):
            return True


def _save_picture(name: str, text: str) -> bool:
    """Write the code as a picture, and show it where the phone can."""
    if missing := missing_for_pictures():
        complain(f"{missing} is not installed: no picture can be made.", install(missing))
        return False
    try:
        with Fresh(os.path.expanduser(name)) as file:
            file.keep(picture(text))
    except OSError as error:
        complain(*refusal(error))
        return False
    _tell_written(name)
    return True


def _tell_written(name: str) -> None:
    print(f"{printable(name)} is written. Delete it once the device has it.")
    if is_termux():
        print(f"  To look at it: {OPENER} {shlex.quote(name)}; to send it: {OPENER} --send FILE")


def _what_next(made: WireguardConfig, action: str) -> str:
    name, left = printable(made.label), duration(made.expires_in)
    looks = f"{name} looks for {printable(made.endpoint)}."
    if action == "invite":
        return (
            f"{looks} Turn the tunnel on there within {left}; then compare the public key that it "
            "shows with the code in: vpnshare requests"
        )
    if action == "renew":
        looks += " Its present key is good until the new one is used."
    return f"{looks} Turn the tunnel on there within {left}, then: vpnshare requests"


_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "show": show,
    "add": add,
    "invite": add,
    "renew": add,
}

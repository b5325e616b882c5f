"""`vpnshare wireguard`: devices with a WireGuard app, and making one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack
from io import BytesIO
from typing import BinaryIO

from services.cli.exits import Exit
from services.cli.output import (
    Column,
    complain,
    duration,
    paint,
    print_facts,
    print_json,
    print_table,
    printable,
    size,
)
from services.cli.qr import matrix, screen
from services.cli.services import dial
from services.control.schema import Wireguard, WireguardConfig, WireguardDevice

SCALE = 8
"""Pixels a module of the picture."""


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
        device.key,
    )


def add(args: argparse.Namespace) -> int:
    if not args.name:
        complain("What shall the device be called?", "vpnshare wireguard add NAME")
        return Exit.USAGE
    with ExitStack() as files:
        try:
            # Before the device is made, for its config cannot be had again.
            conf, png = (files.enter_context(_Fresh(name)) for name in (args.conf, args.png))
        except OSError as error:
            complain(*_refusal(error))
            return Exit.FAILED
        with dial("gateway") as service:
            made: WireguardConfig = service.call(
                "wireguard_add", label=args.name, key=args.key, endpoint=args.endpoint
            )
        try:
            conf.keep(made.text.encode() + b"\n")
            png.keep(picture(made.text))
        except OSError as error:
            complain(*_refusal(error))
            return Exit.FAILED
    if args.json:
        print_json(made)
        return Exit.OK
    if args.conf is None and args.png is None:
        _show_config(made, args.no_qr)
    for name in filter(None, (args.conf, args.png)):
        print(f"{printable(name)} is written.")
    print(_what_next(made))
    return Exit.OK


def _show_config(made: WireguardConfig, no_qr: bool) -> None:
    if not no_qr:
        lines, need = screen(made.text)
        if lines:
            print("\n".join(lines))
        else:
            complain(
                f"The terminal is too narrow for the code ({need} columns).",
                "Make the letters smaller and add the device again, or write a picture: --png FILE",
            )
    print(made.text)
    print(paint("This holds the device's key: it is shown once, for one device only.", "dim"))


def _what_next(made: WireguardConfig) -> str:
    left = duration(made.expires_in)
    return (
        f"{printable(made.label)} looks for {printable(made.endpoint)}. Turn the tunnel on there "
        f"within {left}, then: vpnshare requests"
    )


def picture(text: str) -> bytes:
    """The QR code as a PNG: black on white, with a border that scanners take."""
    import png

    rows = [
        [0 if dark else 1 for dark in row for _ in range(SCALE)]
        for row in matrix(text, border=4)
        for _ in range(SCALE)
    ]
    out = BytesIO()
    png.Writer(len(rows[0]), len(rows), greyscale=True, bitdepth=1).write(out, rows)
    return out.getvalue()


class _Fresh:
    """A new file that only its owner may read; gone again unless it is kept."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self._kept = False
        self._file: BinaryIO | None = None

    def __enter__(self) -> _Fresh:
        """Raises `OSError`; what is there already stays as it is."""
        if self.name is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self.name, flags, 0o600), "wb")
        return self

    def keep(self, data: bytes) -> None:
        if self._file is not None:
            self._file.write(data)
            self._file.flush()
            self._kept = True

    def __exit__(self, *error: object) -> None:
        if self._file is not None and self.name is not None:
            self._file.close()
            if not self._kept:
                os.unlink(self.name)


def _refusal(error: OSError) -> tuple[str, str]:
    name = error.filename or "the file"
    if isinstance(error, FileExistsError):
        return f"{name} is there already.", "Choose another name, or move it away."
    return f"{name} cannot be written: {error.strerror or error}.", "Choose another place."


_ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {"show": show, "add": add}

"""`vpnshare bundle`: one file with which another machine sets up without a network."""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
import tempfile
from pathlib import Path

from control.errors import Code, ControlError
from control.exits import Exit
from control.output import print_json, printable
from control.paths import is_termux
from services import bundle
from services.version import PYTHONS

_PIECE = 1 << 20


def make(args: argparse.Namespace) -> int:
    machine = args.machine or ("x86_64" if is_termux() else platform.machine())
    target = bundle.Target(machine, tuple(args.python or PYTHONS))
    path = Path(args.file or target.name)
    if path.is_dir():
        path /= target.name
    if path.exists():
        raise ControlError(
            Code.FAILED, f"{path} is there already.", "Choose another name, or move it away."
        )
    teller = _Teller()
    unfinished: str | None = None
    try:
        # In the same folder, so that what has the name is always whole.
        descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            wheels = bundle.make(file, target, teller.tell)
        os.chmod(unfinished, 0o644)
        os.rename(unfinished, path)
        unfinished = None
    except bundle.BundleError as exc:
        raise ControlError(Code.FAILED, str(exc), exc.hint) from None
    except OSError as exc:
        why = f"{path} cannot be written: {exc.strerror or exc}."
        raise ControlError(Code.FAILED, why, "Choose another place.") from None
    finally:
        teller.clear()
        if unfinished is not None:
            os.unlink(unfinished)
    size, checksum = path.stat().st_size, _checksum(path)
    if args.json:
        print_json({
            "file": str(path), "bytes": size, "sha256": checksum, "machine": machine,
            "pythons": list(target.pythons), "wheels": wheels,
        })  # fmt: skip
        return Exit.OK
    folder = target.name.removesuffix(f"-{machine}.tar")
    print(f"{path}: {size / 1e6:.0f} MB, {wheels} packages; sha256 {checksum}")
    print(f"On the other machine ({machine}, Python {', '.join(target.pythons)}):")
    print(f"  tar xf {path.name} && cd {folder} && ./vpnshare join")
    return Exit.OK


class _Teller:
    """Says what is being done: in one line that changes, or where nobody watches in few lines."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def tell(self, what: str) -> None:
        if self._live:
            sys.stderr.write(f"\r\x1b[Kvpnshare: {printable(what)[:60]}")
            sys.stderr.flush()
        elif not what.startswith("Collecting "):
            sys.stderr.write(f"vpnshare: {printable(what)}\n")

    def clear(self) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[K")


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()

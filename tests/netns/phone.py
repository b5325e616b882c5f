"""A phone of the test world: a gateway in the jail of `phone_jail`, under netd's rules."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.netns import fake_netd, netd, phone_jail, phone_main
from tests.netns.processes import Process
from tests.netns.product import Gateway
from tests.netns.world import PROJECT, SERVER, World

REQUIRED = ("cryptography", "noiseprotocol", "textual", "rich", "qrcode")
APP = 10123
"""The user that Android has given the app."""


class Phone(Gateway):
    """The gateway of a phone."""

    def __init__(self, world: World, netd_folder: Path, old_kernel: bool = False) -> None:
        super().__init__(world, f"phone-{old_kernel}", user=APP)
        self._netd = netd_folder
        self._old_kernel = old_kernel
        self._site = required_packages(world.directory / "site")

    def _as_user(self, argv: Sequence[str]) -> list[str]:
        return self.jailed("vpnshare", *argv[1:])

    def jailed(self, program: str, *arguments: str) -> list[str]:
        """The command line that runs a program of ours in the jail, in the phone's namespace."""
        old = ["--old-kernel"] if self._old_kernel else []
        jail = [sys.executable, phone_jail.__file__, str(self._netd), str(APP), *old, "--"]
        inner = [phone_jail.PYTHON, "-I", "-S", phone_main.__file__, str(self._site), str(PROJECT)]
        return [*jail, *inner, program, *arguments]


def required_packages(folder: Path) -> Path:
    """A folder in which the required packages, and what they require, can be imported from."""
    if folder.exists():
        return folder
    folder.mkdir()
    pending, seen = list(REQUIRED), set()
    while pending:
        name = pending.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # For another system or an older Python.
        if distribution.name in seen:
            continue
        seen.add(distribution.name)
        for requirement in distribution.requires or []:
            if "extra ==" not in requirement:
                pending.append(re.split(r"[^\w.-]", requirement)[0])
        for file in distribution.files or []:
            top = file.parts[0]
            if top != ".." and top != "__pycache__" and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder


@contextlib.contextmanager
def resolver(world: World, folder: Path) -> Iterator[Process]:
    """netd's socket in `folder`."""
    folder.mkdir(exist_ok=True)
    argv = [sys.executable, fake_netd.__file__, str(folder), netd.VPN, SERVER]
    process = world.gateway.start(argv, name="netd")
    try:
        process.wait_for_log("ready")
        yield process
    finally:
        process.kill()

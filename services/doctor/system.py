"""What checks want to know of the system, in one place that tests can replace."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import socket
import struct
import sys
import time
from pathlib import Path

from client.model import ClientError
from client.outlet.namespace.network import try_to_make
from client.system.run import find_program
from control.paths import is_termux
from control.programs import ask
from services.room import Room, room
from services.start import own_network_maker
from services.version import installed

SEARCH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Appended to PATH: a user's shell often lacks the sbin folders."""
CAP_NET_ADMIN = 12
SIOCGIFMTU = 0x8921
MAX_FILE = 256 * 1024


class System:
    """This machine."""

    @property
    def termux(self) -> bool:
        return is_termux()

    def android_api(self) -> int | None:
        """The API level (33 is Android 13), or None elsewhere."""
        level = getattr(sys, "getandroidapilevel", None)
        return int(level()) if level is not None else None

    def python(self) -> tuple[int, int]:
        return sys.version_info[:2]

    def has(self, module: str) -> bool:
        return importlib.util.find_spec(module) is not None

    def which(self, program: str) -> str | None:
        return find_program(program, f"{os.environ.get('PATH', '')}:{SEARCH}")

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def usable(self, path: str) -> bool:
        """Whether this user may read and write it."""
        return os.access(path, os.R_OK | os.W_OK)

    async def own_network(self) -> ClientError | None:
        """Why this user can make no network of their own; None where one can be made."""
        try:
            await asyncio.to_thread(try_to_make, own_network_maker())
        except ClientError as error:
            return error
        return None

    def mode(self, path: Path) -> int | None:
        """The permission bits, or None if it is not there."""
        try:
            return path.stat().st_mode & 0o777
        except OSError:
            return None

    def size(self, path: Path) -> int:
        """Bytes of a file, 0 if it is not there."""
        try:
            return path.stat().st_size
        except OSError:
            return 0

    def owner(self, path: Path) -> int | None:
        """The user whose it is, or None if it is not there."""
        try:
            return path.stat().st_uid
        except OSError:
            return None

    def user(self) -> int:
        """Who this process is."""
        return os.geteuid()

    def room(self, folder: Path) -> Room | None:
        """Of the folder's file system; None where that cannot be told."""
        return room(folder)

    def installed(self) -> str | None:
        """The version that would run if the service were started now; None: unknown."""
        return installed()

    def read(self, path: str) -> str | None:
        """The beginning of a text file, or None."""
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read(MAX_FILE)
        except OSError:
            return None

    async def said(self, program: str, *args: str) -> str | None:
        """What a program prints, or None when it is missing, fails, or hangs."""
        path = self.which(program)
        if path is None:
            return None
        try:
            return await ask(path, *args, timeout=3.0)
        except (OSError, TimeoutError):
            return None

    def mtu(self, interface: str | None) -> int | None:
        """An interface's packet size, by the ioctl that apps may use on Android, too."""
        if interface is None:
            return None
        request = struct.pack("16si20x", interface.encode()[:15], 0)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                answer = fcntl.ioctl(sock, SIOCGIFMTU, request)
        except OSError:
            return None
        return int(struct.unpack_from("16xi", answer)[0])

    def wall(self) -> float:
        """Unix time."""
        return time.time()

    def installed_at(self) -> float:
        """Unix time since when this software has been on this machine."""
        return Path(__file__).stat().st_mtime

    def net_admin(self) -> bool:
        """Whether this process may set up interfaces: CAP_NET_ADMIN is effective."""
        for line in (self.read("/proc/self/status") or "").splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> CAP_NET_ADMIN & 1)
        return os.geteuid() == 0


class Awake:
    """Whether the machine slept since this was made: the clocks with and without sleep differ."""

    def __init__(self) -> None:
        self._start = self._asleep()

    @staticmethod
    def _asleep() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)

    def slept(self) -> float:
        """Seconds."""
        return max(0.0, self._asleep() - self._start)

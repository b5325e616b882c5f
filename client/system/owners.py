"""Which program holds a socket: inodes looked up in the processes' open files.

A socket's inode stands in the link's text of every descriptor that refers to
it (proc(5), /proc/PID/fd). There is no other way but to look at all of them,
so it is done for inodes never seen before only, seldom, and in small steps:
between two of them the loop carries packets. Other users' processes can be
looked into by root alone; a socket whose holder is not found has none here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

STEP = 32
"""Descriptors looked at before the loop gets its turn: some 100 microseconds."""
MAX_DESCRIPTORS = 20_000
"""Descriptors looked at in one search, so that it ends on any machine."""
PAUSE = 2.0
"""Seconds from one search to the next."""
MAX_KEPT = 8192
"""Inodes remembered; beyond that, all are forgotten and found anew."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds a socket."""

    pid: int
    program: str
    """Its name as the kernel keeps it, 15 bytes at most."""


class Owners:
    """Remembers whom it has found."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = str(proc)
        self._known: dict[int, Owner | None] = {}
        self._searched = float("-inf")

    def known(self, inode: int) -> Owner | None:
        """Who holds it, as far as was found out."""
        return self._known.get(inode)

    async def find(self, inodes: Iterable[int], now: float) -> None:
        """Search for those that were never searched for, if it is time; `now` is monotonic."""
        inodes = set(inodes) - {0}
        fresh = inodes - self._known.keys()
        if not fresh or now - self._searched < PAUSE:
            return
        self._searched = now
        if len(self._known) + len(fresh) > MAX_KEPT:
            self._known.clear()
            fresh = inodes
        found = await self._search(fresh)
        for inode in fresh:
            self._known[inode] = found.get(inode)

    async def _search(self, wanted: set[int]) -> dict[int, Owner]:
        names = {f"socket:[{inode}]": inode for inode in wanted}
        found: dict[int, Owner] = {}
        looked = 0
        for pid in sorted(_numbers(self._proc)):
            if looked >= MAX_DESCRIPTORS or len(found) == len(wanted):
                break
            folder = f"{self._proc}/{pid}/fd"
            owner: Owner | None = None
            for descriptor in _numbers(folder):
                looked += 1
                if looked % STEP == 0:
                    await asyncio.sleep(0)
                try:
                    inode = names.get(os.readlink(f"{folder}/{descriptor}"))
                except OSError:
                    continue
                if inode is not None:
                    owner = owner or Owner(pid, self._program(pid))
                    # Of several holders the one with the lowest number, hence mostly the oldest.
                    found.setdefault(inode, owner)
            await asyncio.sleep(0)
        return found

    def _program(self, pid: int) -> str:
        try:
            with open(f"{self._proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:
                return file.read(64).strip()
        except OSError:
            return ""


def _numbers(folder: str) -> Iterator[int]:
    """The entries of a folder that are numbers; none when it cannot be read.

    Read piece by piece: the kernel takes milliseconds to list some thousand descriptors.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.isdecimal():
                    yield int(entry.name)
    except OSError:
        return

"""News of one file: somebody has written or replaced it. By inotify; nothing ticks.

The folder is watched for a new file of that name, the file itself for writing
in place (where it is a mount point, or a program does not rename). Where
inotify cannot be had there is no news.

Source: inotify(7).
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

_CLOSE_WRITE = 0x8
_MOVED_TO = 0x80
_CREATE = 0x100
_ONLY_DIRECTORY = 0x01000000
_NONBLOCK = os.O_NONBLOCK
_CLOEXEC = os.O_CLOEXEC
_EVENT = struct.Struct("=iIII")
_PIECE = 16384


class FileWatch:
    """Calls `changed` on the loop when the file was written or another took its place."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        self._path = path
        self._changed = changed
        self._fd = -1
        self._file_watch = -1
        self._add: Callable[[int, bytes, int], int] = lambda fd, path, mask: -1

    def start(self) -> None:
        """Begin; a system without inotify is no error."""
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            self._fd = libc.inotify_init1(_NONBLOCK | _CLOEXEC)
            self._add = libc.inotify_add_watch
        except (OSError, AttributeError) as error:
            log.info("%s is not watched: %s", self._path, error)
            return
        folder = os.fsencode(self._path.parent)
        if self._fd < 0 or self._add(self._fd, folder, _MOVED_TO | _CREATE | _ONLY_DIRECTORY) < 0:
            log.info("%s is not watched: %s", self._path, os.strerror(ctypes.get_errno()))
            self.stop()
            return
        self._watch_file()
        asyncio.get_running_loop().add_reader(self._fd, self._ready)

    def stop(self) -> None:
        """Safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)

    def _watch_file(self) -> None:
        """The file that has the name now; there may be none."""
        self._file_watch = self._add(self._fd, os.fsencode(self._path), _CLOSE_WRITE)

    def _ready(self) -> None:
        news = False
        while True:
            try:
                data = os.read(self._fd, _PIECE)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                return
            at = 0
            while at + _EVENT.size <= len(data):
                watch, _, _, length = _EVENT.unpack_from(data, at)
                name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
                at += _EVENT.size + length
                if name == os.fsencode(self._path.name):
                    self._watch_file()
                    news = True
                elif watch == self._file_watch:
                    news = True
        if news:
            self._changed()

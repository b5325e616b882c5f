"""Revocations that the store could not take, in a file that needs no room to be written.

Theory of operation. Everything else that cannot be stored may be forgotten over a restart
at the price of asking the owner again. A revocation may not: the device would be let
in. So a file of one block is made and filled at start, while there is room, and written in
place when the store refuses: no block, no name and no longer file is needed for it, so a full
disk does not stand in the way. (A file system that never writes in place keeps a reserve for
the like; if it refuses, too, or is read-only, the next place is tried: the folder of the
sockets, which outlives the service, though not the machine.)

It holds what is not in the store, and is blank otherwise. A slate that is not whole may have
held a revocation, so it is one, of nobody knows whom: `SlateLost`, and sharing stays off. So
where a slate could not be made in time, an empty file in its place, which needs a name and no
room, still says so much.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Collection
from pathlib import Path

from storage import own

SIZE = 4096
"""Bytes: one block, so that one write is all of it."""
_HEAD = struct.Struct("<8sH")
_MAGIC = b"VSHslate"
_KEY = 32
_DIGEST = 16
MAX_KEYS = (SIZE - _HEAD.size - _DIGEST) // _KEY
"""Devices on a slate; with more than that the slate says so (`SlateLost`)."""
_TOO_MANY = MAX_KEYS + 1


class SlateLost(Exception):
    """A slate that is damaged, unreadable or was too small: some device was revoked on it."""


class Slate:
    """One such file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> frozenset[bytes]:
        """The devices' keys; none where there is no file. Raises `SlateLost`."""
        try:
            text = own.read(self.path, SIZE + 1)
        except FileNotFoundError:
            return frozenset()
        except OSError as exc:
            raise SlateLost(f"{self.path} cannot be read: {exc.strerror}") from exc
        body = text[:-_DIGEST]
        if len(text) != SIZE or not text.startswith(_MAGIC) or text[-_DIGEST:] != _digest(body):
            raise SlateLost(f"{self.path} is damaged")
        (_, count) = _HEAD.unpack_from(body)
        if count > MAX_KEYS:
            raise SlateLost(f"{self.path} was too small")
        at = [_HEAD.size + _KEY * number for number in range(count)]
        return frozenset(body[start : start + _KEY] for start in at)

    def prepare(self) -> None:
        """Make the file and take its room, if it is not there. Raises `OSError`."""
        if not self.path.exists():
            own.replace(self.path, _block(()))  # never there in part: that would mean something

    def write(self, keys: Collection[bytes]) -> None:
        """Have exactly these on it; on disk when it returns.

        Raises `OSError`; the slate may then be lost, which is told by `lost`.
        """
        descriptor = own.open_own(self.path, os.O_WRONLY | os.O_CREAT)
        try:
            if os.pwrite(descriptor, _block(keys), 0) != SIZE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lost(self) -> bool:
        """Whether the next start will find that a revocation stood here, but not whose."""
        try:
            self.read()
        except SlateLost:
            return True
        return False

    def blank(self) -> None:
        """Nothing is on it. Raises `OSError`."""
        if not self.path.exists():
            return
        try:
            self.write(())
        except OSError:
            self.path.unlink()


def _block(keys: Collection[bytes]) -> bytes:
    count = len(keys) if len(keys) <= MAX_KEYS else _TOO_MANY
    body = _HEAD.pack(_MAGIC, count) + b"".join(sorted(keys)[:MAX_KEYS])
    body = body.ljust(SIZE - _DIGEST, b"\0")
    return body + _digest(body)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2s(body, digest_size=_DIGEST).digest()

"""The state that outlives the services: a mirror in memory, and a file that follows it.

Theory of operation. What the file holds is read once, at start. From then on memory is
what is true: a call that changes something changes it there and gives the ledger a write
that makes the file's row equal to memory's (`services.ledger`). So a call here never fails and
never waits for more than one refusal: approving, revoking, coming back and going on with a
ticket do not depend on the disk, and what it could not take is told, kept, and written when
it can.

The one exception is what must not be forgotten: a revocation that the file did not take
is recorded on a slate (`services.slate`), and counts at the next start. Where even that
fails it is told as `unrecorded`; where a slate was lost, `held` keeps sharing off.

What devices have used is written often and matters less: its transactions may lose the last
seconds at a power cut.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from services.database import Database, refused, schema_of
from services.ledger import Key, Ledger
from services.migrations import MIGRATIONS

_log = logging.getLogger(__name__)

_WORDS = {
    "identity": "this device's identity",
    "ticket_key": "the key of resume tickets",
    "wanted": "the wish to be connected or not",
    "wireguard_key": "this device's WireGuard key",
    "wireguard_pool": "the addresses that WireGuard devices were told",
}
"""What the secrets are, for people."""


def newer_state(path: Path, role: str) -> str | None:
    """Why this version would not take the role's file, where a newer one has written it."""
    version, newest = schema_of(path), len(MIGRATIONS[role])
    return None if version is None or version <= newest else refused(path, version, newest)


class Store:
    """What both roles keep: the identity and named secrets."""

    role = ""

    def __init__(self, path: Path, ledger: Ledger | None = None) -> None:
        """Open or create. Raises `StoreError`."""
        self.path = path
        self.ledger = Ledger() if ledger is None else ledger
        self._file = Database(path, self.role, MIGRATIONS[self.role])
        self._secrets: dict[str, bytes] = {}
        try:
            for name, value in self._file.rows("SELECT name, value FROM secret"):
                self._secrets[name] = bytes(value)
            self._load()
        except BaseException:
            self._file.close()
            raise
        self._file.refill = self._write_all
        if self._file.fault is not None:
            # It was read only; told, and tried again, before anything has changed.
            self.ledger.put(self._key("file"), "what changes from now on", path, self._touch)

    def close(self) -> None:
        """Write what waits, if it can be written now, and let go of the file."""
        self.ledger.flush()
        self.settle()
        for place in self.ledger.unwritten:
            _log.error("stopped with this undone: %s", place.sentence)
        self._file.close()

    def alarms(self) -> list[tuple[str, str]]:
        """What the owner must know beside what the ledger tells: what is wrong, what to do."""
        return []

    def settle(self) -> None:
        """The ledger has tried: follow."""

    def identity(self) -> bytes | None:
        return self.secret("identity")

    def save_identity(self, private_key: bytes) -> None:
        self.save_secret("identity", private_key)

    def secret(self, name: str) -> bytes | None:
        return self._secrets.get(name)

    def save_secret(self, name: str, value: bytes) -> None:
        self._secrets[name] = value

        def write() -> None:
            with self._file.transaction() as db:
                self._write_secret(db, name)

        self.ledger.put(self._key("secret", name), _WORDS.get(name, name), self.path, write)

    def _touch(self) -> None:
        with self._file.transaction():
            pass

    def _key(self, *row: str | bytes) -> Key:
        return (self.path, *row)

    def _load(self) -> None:
        """Read the role's own tables."""

    def _write_all(self, db: sqlite3.Connection) -> None:
        """Into a file that is new (`Database.refill`)."""
        for name in self._secrets:
            self._write_secret(db, name)

    def _write_secret(self, db: sqlite3.Connection, name: str) -> None:
        db.execute("INSERT OR REPLACE INTO secret VALUES (?, ?)", (name, self._secrets[name]))

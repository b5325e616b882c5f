"""The SQLite file under a store: opening, checking, migrating, and what may go wrong with it.

Mode 0600 from its first byte on, as it holds private keys. Write-ahead logging with
`synchronous=FULL`: what a transaction has stored is there after a power cut.

A file that is no database, is damaged, belongs to the other role or was written by a newer
version is refused with a sentence and left untouched. One that can be read and not
written (no room even for SQLite's index, a read-only file system, another process that
keeps it locked) is read: as we alone serve this home (`services.daemon.single_instance`), that
needs no locks, and the index stays in memory. The first transaction that can opens it properly.

The file may go away under us, or be moved away because it is damaged: a transaction that
finds another file under the name, or none, opens that one, and `refill` writes into it what
the service has in memory.

`PRAGMA user_version` counts the schema; a migration is one transaction.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from services.ledger import Unwritable
from services.room import explain, refusal
from storage import own

APPLICATION_IDS = {"gateway": 0x56534847, "client": 0x56534843}
"""Tells the two roles' files apart ("VSHG" and "VSHC"), and both from other databases."""
START_WAIT = 2.0
"""Seconds to wait at start for another process that has the file: a back-up, say."""
BUSY_WAIT = 0.1
"""Likewise while serving, when packets wait, too."""

_OPEN_ANEW = ("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CANTOPEN")
"""Beginnings of the errors after which a connection is trusted no more."""


class StoreError(Exception):
    """The file cannot be used; the text says why and what to do."""


def schema_of(path: Path) -> int | None:
    """The schema that a file has, looked at without changing it; None where that cannot be told."""
    if not path.exists():
        return None
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        ) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return None
    return int(version)


def refused(path: Path, version: int, newest: int) -> str:
    """Why a file of a newer schema is not opened."""
    return (
        f"{path} was written by a newer VPN Share (its schema is {version}, this one "
        f"knows {newest}). Update VPN Share; the file was left as it is."
    )


class Database:
    """A role's file. All calls come from one thread."""

    def __init__(self, path: Path, role: str, migrations: list[str]) -> None:
        """Open or create. Raises `StoreError`."""
        self.path = path
        self.refill: Callable[[sqlite3.Connection], None] = lambda db: None
        """Writes all that is known into a file that is new."""
        self._role = role
        self._migrations = migrations
        self._file: tuple[int, int] | None = None
        self._db: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self.fault: Unwritable | None = None
        """Why it was opened for reading only, at start."""
        try:
            self._open(START_WAIT)
        except Unwritable as unwritable:
            self.fault = unwritable
            self._reader = self._open_to_read(unwritable)

    def close(self) -> None:
        for db in (self._db, self._reader):
            if db is not None:
                with contextlib.suppress(sqlite3.Error):
                    db.close()
        self._db = self._reader = self._file = None

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """What a question finds; nothing in a file that could not even be begun.

        Raises `StoreError`.
        """
        db = self._db or self._reader
        try:
            return [] if db is None else db.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise StoreError(f"{self.path} cannot be read: {exc}.") from exc

    @contextlib.contextmanager
    def transaction(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, on disk at its end (else, soon). Raises `Unwritable`."""
        db = self._writable()
        try:
            if not durable:
                db.execute("PRAGMA synchronous=NORMAL")
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except sqlite3.Error as exc:
            if _name(exc).startswith(_OPEN_ANEW):
                self.close()
            raise self._unwritable(exc) from exc
        finally:
            with contextlib.suppress(sqlite3.Error):
                if db.in_transaction:
                    db.execute("ROLLBACK")
                db.execute("PRAGMA synchronous=FULL")

    def _writable(self) -> sqlite3.Connection:
        """The connection, if it is to the file that has the name now; else a new one."""
        if self._db is None or _identity(self.path) != self._file:
            self.close()
            try:
                self._open(BUSY_WAIT)
            except StoreError as error:
                if not self.path.parent.exists():
                    fix = f"Make it again: mkdir -m 700 -p {self.path.parent}"
                    raise Unwritable("its folder is gone", fix) from error
                raise self._rewritable("it is damaged or somebody else's") from error
        assert self._db is not None
        return self._db

    # --- opening -----------------------------------------------------------------------------

    def _open(self, wait: float) -> None:
        """Open for writing. Raises `StoreError` (not ours to use) and `Unwritable`."""
        try:
            # SQLite gives its journal files the mode of the database: creating this one suffices.
            descriptor = own.open_own(self.path, os.O_RDWR | os.O_CREAT)
            os.fchmod(descriptor, own.FILE_MODE)
            os.close(descriptor)
        except (FileNotFoundError, own.NotOurs) as exc:
            raise StoreError(" ".join(filter(None, explain(exc)))) from exc
        except OSError as exc:
            raise Unwritable(*refusal(exc, self.path)) from exc
        try:
            db = sqlite3.connect(self.path, timeout=wait, isolation_level=None)
        except sqlite3.Error as exc:
            raise self._unwritable(exc) from exc
        try:
            self._check(db)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            self._migrate(db)
            db.execute(f"PRAGMA busy_timeout={int(BUSY_WAIT * 1000)}")
        except BaseException as exc:
            db.close()
            if isinstance(exc, sqlite3.Error):
                raise self._judged(exc) from exc
            raise
        self._db, self._file = db, _identity(self.path)

    def _open_to_read(self, cause: Unwritable) -> sqlite3.Connection | None:
        """Open and write nothing; None for a file with nothing in it. Raises `StoreError`."""
        try:
            if not self.path.stat().st_size:
                return None
        except OSError as exc:
            if isinstance(exc, FileNotFoundError):
                return None
            raise StoreError(f"{self.path} cannot be read: {exc.strerror}.") from exc
        uri = f"{self.path.resolve().as_uri()}?mode=ro&vfs=unix-none"
        db = sqlite3.connect(uri, uri=True, isolation_level=None)
        try:
            # Alone with the file, SQLite keeps the log's index in memory and needs no -shm file.
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._check(db)
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if 0 < version < len(self._migrations):
                raise StoreError(
                    f"{self.path} is of an older version and has to be rewritten, but "
                    f"{cause.why}. {cause.fix}"
                )
        except sqlite3.Error as exc:
            db.close()
            raise StoreError(
                f"{self.path} can be neither written ({cause.why}) nor read ({exc}). {cause.fix}"
            ) from exc
        except StoreError:
            db.close()
            raise
        if not version:
            db.close()
            return None
        return db

    def _check(self, db: sqlite3.Connection) -> None:
        """Refuse what is not ours before anything is written. Raises `StoreError`."""
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application != APPLICATION_IDS[self._role] and (application or version or tables):
            raise StoreError(
                f"{self.path} is a database of something else than the {self._role}. Move it away."
            )
        newest = len(self._migrations)
        if version > newest:
            raise StoreError(refused(self.path, version, newest))
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._damaged(verdict)

    def _migrate(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for number, script in enumerate(self._migrations[version:], start=version + 1):
            db.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, script.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA application_id={APPLICATION_IDS[self._role]}")
            db.execute(f"PRAGMA user_version={number}")
            if version == 0 and number == len(self._migrations):
                self.refill(db)
            db.execute("COMMIT")

    # --- what went wrong ---------------------------------------------------------------------

    def _judged(self, exc: sqlite3.Error) -> Exception:
        """An error of opening: the file's own fault, or that of its place."""
        if _name(exc).startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return self._damaged(str(exc))
        return self._unwritable(exc)

    def _damaged(self, what: str) -> StoreError:
        return StoreError(
            f"{self.path} is damaged or no database ({what}). It was left as it is: move it away "
            "to start anew (devices must then be paired again), or put a back-up in its place."
        )

    def _unwritable(self, exc: sqlite3.Error) -> Unwritable:
        name = _name(exc)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Unwritable(
                "another process keeps it locked", f"End that process: fuser -v {self.path}"
            )
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return self._rewritable(f"it is damaged ({exc})")
        if name == "SQLITE_FULL":
            return Unwritable(*refusal(OSError(errno.ENOSPC, str(exc)), self.path))
        return Unwritable(*refusal(exc, self.path))

    def _rewritable(self, why: str) -> Unwritable:
        fix = f"Move {self.path} away while the service runs: it is written anew, from memory."
        return Unwritable(why, fix)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file has the name now."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _name(exc: sqlite3.Error) -> str:
    """SQLite's name of the error: `SQLITE_FULL`, `SQLITE_IOERR_FSYNC`..."""
    return getattr(exc, "sqlite_errorname", None) or ""

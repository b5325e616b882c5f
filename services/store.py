"""The state that outlives the services, in SQLite.

One file for each role, mode 0600 from its first byte on, as it holds private
keys. Write-ahead logging with `synchronous=FULL`: what a call has stored is
there after a power cut, which pairing, revocation and single-use tickets need.
Usage counters are written often and matter less, so they go through with
`synchronous=NORMAL` (consistent, but the last seconds may be lost).

A file that is no database, is damaged, belongs to the other role or was
written by a newer version is refused with a sentence and left untouched.
`PRAGMA user_version` counts the schema; migrations run in one transaction.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from client.model import MAX_KNOWN_GATEWAYS, EndpointKind, KnownGateway, TransportEndpoint
from gateway.model import PeerDevice

_APPLICATION_IDS = {"gateway": 0x56534847, "client": 0x56534843}
"""Tells the two roles' files apart ("VSHG" and "VSHC"), and both from other databases."""
FIRST_LEASE_NUMBER = 2
"""Host numbers 0 and 1 of the pool are the network's and the gateway's own."""
BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process that has the file: a back-up, say."""

_COMMON = """
CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""

# The scripts by which each schema version is reached from the one before.
_MIGRATIONS: dict[str, list[str]] = {
    "gateway": [
        _COMMON
        + """
CREATE TABLE peer (
    public_key BLOB PRIMARY KEY,
    label TEXT NOT NULL,
    platform TEXT NOT NULL,
    first_seen REAL NOT NULL,
    last_seen REAL NOT NULL,
    revoked INTEGER NOT NULL,
    from_tunnel INTEGER NOT NULL,
    to_tunnel INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE lease_number (number INTEGER PRIMARY KEY, public_key BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE usage (
    public_key BLOB NOT NULL,
    day TEXT NOT NULL,
    from_tunnel INTEGER NOT NULL,
    to_tunnel INTEGER NOT NULL,
    PRIMARY KEY (public_key, day)
) STRICT, WITHOUT ROWID;
"""
    ],
    "client": [
        _COMMON
        + """
CREATE TABLE gateway (
    public_key BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    endpoints TEXT NOT NULL,
    last_seen REAL NOT NULL,
    resume BLOB
) STRICT, WITHOUT ROWID;
"""
    ],
}


class StoreError(Exception):
    """The file cannot be used; the text says why and what to do."""


class Store:
    """What both roles keep: the identity and named secrets."""

    role = ""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises `StoreError`."""
        self.path = path
        self._db = _open(path, self.role)

    def close(self) -> None:
        self._db.close()

    def identity(self) -> bytes | None:
        return self.secret("identity")

    def save_identity(self, private_key: bytes) -> None:
        self.save_secret("identity", private_key)

    def secret(self, name: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def save_secret(self, name: str, value: bytes) -> None:
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO secret VALUES (?, ?)", (name, value))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing, on disk at its end. Raises `StoreError`."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            raise StoreError(f"{self.path} cannot be written: {exc}.") from exc


class GatewayDatabase(Store):
    """The gateway's store (`gateway.model.GatewayStore`)."""

    role = "gateway"

    def peers(self) -> list[PeerDevice]:
        rows = self._db.execute(
            "SELECT public_key, label, platform, first_seen, last_seen, revoked,"
            " from_tunnel, to_tunnel FROM peer ORDER BY first_seen"
        )
        return [
            PeerDevice(bytes(key), label, platform, first, last, bool(revoked), up, down)
            for key, label, platform, first, last, revoked, up, down in rows
        ]

    def save_peer(self, peer: PeerDevice) -> None:
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO peer VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    peer.public_key,
                    peer.label,
                    peer.platform,
                    peer.first_seen,
                    peer.last_seen,
                    int(peer.revoked),
                    peer.from_tunnel_bytes,
                    peer.to_tunnel_bytes,
                ),
            )

    def lease_number(self, public_key: bytes) -> int:
        with self._transaction():
            row = self._db.execute(
                "SELECT number FROM lease_number WHERE public_key = ?", (public_key,)
            ).fetchone()
            if row is not None:
                return int(row[0])
            (top,) = self._db.execute("SELECT max(number) FROM lease_number").fetchone()
            number = FIRST_LEASE_NUMBER if top is None else int(top) + 1
            self._db.execute("INSERT INTO lease_number VALUES (?, ?)", (number, public_key))
            return number

    def add_usage(self, public_key: bytes, day: str, from_tunnel: int, to_tunnel: int) -> None:
        self._db.execute("PRAGMA synchronous=NORMAL")
        try:
            with self._transaction():
                self._db.execute(
                    "INSERT INTO usage VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " from_tunnel = from_tunnel + excluded.from_tunnel,"
                    " to_tunnel = to_tunnel + excluded.to_tunnel",
                    (public_key, day, from_tunnel, to_tunnel),
                )
                self._db.execute(
                    "UPDATE peer SET from_tunnel = from_tunnel + ?, to_tunnel = to_tunnel + ?"
                    " WHERE public_key = ?",
                    (from_tunnel, to_tunnel, public_key),
                )
        finally:
            self._db.execute("PRAGMA synchronous=FULL")

    def usage(self, public_key: bytes, day: str) -> tuple[int, int]:
        row = self._db.execute(
            "SELECT from_tunnel, to_tunnel FROM usage WHERE public_key = ? AND day = ?",
            (public_key, day),
        ).fetchone()
        return (0, 0) if row is None else (int(row[0]), int(row[1]))


class ClientDatabase(Store):
    """The client's store (`client.model.ClientStore`)."""

    role = "client"

    def gateways(self) -> list[KnownGateway]:
        rows = self._db.execute(
            "SELECT public_key, name, endpoints, last_seen, resume"
            " FROM gateway ORDER BY last_seen DESC"
        )
        return [
            KnownGateway(bytes(key), name, _endpoints(endpoints), seen, resume)
            for key, name, endpoints, seen, resume in rows
        ]

    def save_gateway(self, gateway: KnownGateway) -> None:
        endpoints = json.dumps([[e.transport, e.host, e.port, e.kind] for e in gateway.endpoints])
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO gateway VALUES (?, ?, ?, ?, ?)",
                (
                    gateway.public_key,
                    gateway.name,
                    endpoints,
                    gateway.last_seen,
                    gateway.resume,
                ),
            )
            self._db.execute(
                "DELETE FROM gateway WHERE public_key NOT IN"
                " (SELECT public_key FROM gateway ORDER BY last_seen DESC LIMIT ?)",
                (MAX_KNOWN_GATEWAYS,),
            )

    def forget_gateway(self, public_key: bytes) -> None:
        with self._transaction():
            self._db.execute("DELETE FROM gateway WHERE public_key = ?", (public_key,))


def _endpoints(text: str) -> tuple[TransportEndpoint, ...]:
    return tuple(
        TransportEndpoint(transport, host, port, EndpointKind(kind))
        for transport, host, port, kind in json.loads(text)
    )


def _open(path: Path, role: str) -> sqlite3.Connection:
    try:
        # SQLite gives its journal files the mode of the database, so creating this one suffices.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.chmod(path, 0o600)
    except OSError as exc:
        raise StoreError(f"{path} cannot be opened: {exc.strerror}.") from exc
    try:
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
    except sqlite3.Error as exc:
        raise StoreError(f"{path} cannot be opened: {exc}.") from exc
    try:
        _check(db, path, role)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        _migrate(db, role)
    except StoreError:
        db.close()
        raise
    except sqlite3.OperationalError as exc:
        db.close()
        raise StoreError(f"{path} cannot be used: {exc}.") from exc
    except sqlite3.DatabaseError as exc:
        db.close()
        raise StoreError(
            f"{path} is damaged or no database ({exc}). It was left as it is: move it away to "
            "start anew (devices must then be paired again), or put a back-up in its place."
        ) from exc
    return db


def _check(db: sqlite3.Connection, path: Path, role: str) -> None:
    """Refuse what is not ours before anything is written."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != _APPLICATION_IDS[role] and (application or version or tables):
        raise StoreError(f"{path} is a database of something else than the {role}. Move it away.")
    newest = len(_MIGRATIONS[role])
    if version > newest:
        raise StoreError(
            f"{path} was written by a newer VPN Share (its schema is {version}, this one knows "
            f"{newest}). Update VPN Share; the file was left as it is."
        )
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _migrate(db: sqlite3.Connection, role: str) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(_MIGRATIONS[role][version:], start=version + 1):
        db.executescript(
            f"BEGIN IMMEDIATE; {script} PRAGMA application_id={_APPLICATION_IDS[role]};"
            f" PRAGMA user_version={number}; COMMIT;"
        )

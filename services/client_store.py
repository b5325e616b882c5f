"""What the client keeps: the gateways that it knows, and the wish to be connected."""

from __future__ import annotations

import json
import logging
import sqlite3
from pathlib import Path

from client.model import MAX_KNOWN_GATEWAYS, EndpointKind, KnownGateway, TransportEndpoint
from services.ledger import Ledger
from services.store import Store

_log = logging.getLogger(__name__)


class ClientDatabase(Store):
    """The client's store (`client.model.ClientStore`)."""

    role = "client"

    def __init__(self, path: Path, ledger: Ledger | None = None) -> None:
        self._gateways: dict[bytes, KnownGateway] = {}
        super().__init__(path, ledger)

    def gateways(self) -> list[KnownGateway]:
        return sorted(self._gateways.values(), key=lambda known: known.last_seen, reverse=True)

    def save_gateway(self, gateway: KnownGateway) -> None:
        self._gateways[gateway.public_key] = gateway
        self._put(gateway.public_key, f"the way back to {gateway.name or gateway.fingerprint}")
        for stale in self.gateways()[MAX_KNOWN_GATEWAYS:]:
            self.forget_gateway(stale.public_key)

    def forget_gateway(self, public_key: bytes) -> None:
        known = self._gateways.pop(public_key, None)
        if known is not None:
            self._put(public_key, f"that {known.name or known.fingerprint} is forgotten")

    def wanted(self) -> str | None:
        value = self.secret("wanted")
        return value.decode() if value else None

    def save_wanted(self, wish: str | None) -> None:
        text = (wish or "").encode()
        if self.secret("wanted") != text:
            self.save_secret("wanted", text)

    def _put(self, key: bytes, what: str) -> None:
        def write() -> None:
            with self._file.transaction() as db:
                self._write_gateway(db, key)

        self.ledger.put(self._key("gateway", key), what, self.path, write)

    def _load(self) -> None:
        for key, name, endpoints, seen, resume in self._file.rows(
            "SELECT public_key, name, endpoints, last_seen, resume FROM gateway"
        ):
            try:
                ways = _endpoints(endpoints)
            except (ValueError, TypeError) as exc:
                _log.warning("%s: the endpoints of %r are not readable: %s", self.path, name, exc)
                ways = ()
            self._gateways[bytes(key)] = KnownGateway(bytes(key), name, ways, seen, resume)

    def _write_all(self, db: sqlite3.Connection) -> None:
        super()._write_all(db)
        for key in self._gateways:
            self._write_gateway(db, key)

    def _write_gateway(self, db: sqlite3.Connection, key: bytes) -> None:
        """The row as memory has it, which may be none."""
        known = self._gateways.get(key)
        if known is None:
            db.execute("DELETE FROM gateway WHERE public_key = ?", (key,))
            return
        endpoints = json.dumps([[e.transport, e.host, e.port, e.kind] for e in known.endpoints])
        db.execute(
            "INSERT OR REPLACE INTO gateway VALUES (?, ?, ?, ?, ?)",
            (known.public_key, known.name, endpoints, known.last_seen, known.resume),
        )


def _endpoints(text: str) -> tuple[TransportEndpoint, ...]:
    return tuple(
        TransportEndpoint(transport, host, port, EndpointKind(kind))
        for transport, host, port, kind in json.loads(text)
    )

"""What the gateway keeps: devices, their addresses, rules and books, and who was revoked.

A revocation that the file does not take stands on a slate, see `services.store`.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, replace
from itertools import islice
from pathlib import Path

from gateway.books import BookRow, BookSpan, Pair
from gateway.model import Kind, Offer, PeerDevice, Sighting, peer_id
from rules.encoding import from_json, to_json
from rules.spelling import RuleRefused
from rules.value import NO_RULES, Rules
from services.ledger import Ledger
from services.room import refusal
from services.slate import Slate, SlateLost
from services.store import Store

_log = logging.getLogger(__name__)

FIRST_LEASE_NUMBER = 2
"""Host numbers 0 and 1 of the pool are the network's and the gateway's own."""

MAX_BOOK_ROWS = 10_000
"""Rows of the books that may wait for a file; where more do, all are written anew."""

_SPANS = frozenset(BookSpan)


class GatewayDatabase(Store):
    """The gateway's store (`gateway.model.GatewayStore`)."""

    role = "gateway"

    def __init__(
        self, path: Path, ledger: Ledger | None = None, slates: Sequence[Path] = ()
    ) -> None:
        """`slates`: where revocations are recorded that the file does not take, in this order."""
        self._peers: dict[bytes, PeerDevice] = {}
        self._stored: dict[bytes, PeerDevice] = {}
        """The devices as the file has them."""
        self._numbers: dict[bytes, int] = {}
        self._sightings: dict[bytes, Sighting] = {}
        self._offers: dict[bytes, Offer] = {}
        self._rules: dict[bytes, Rules] = {}
        self._book_rows: dict[tuple[bytes, BookSpan, int], Pair | None] = {}
        """Rows of the books that are not in the file as they are."""
        self._books: Callable[[], Iterable[BookRow]] | None = None
        """Tells all of their rows, once somebody has asked for them."""
        self._slates = [Slate(slate) for slate in dict.fromkeys(slates)]
        self._recorded: frozenset[bytes] = frozenset()
        """What stands on a slate now."""
        self.unrecorded: frozenset[bytes] = frozenset()
        """Devices whose revocation stands nowhere but in memory."""
        self.marked = False
        """Whether at least that there is such a one is recorded: sharing stays off then."""
        self.held: str | None = None
        """Why sharing has to stay off until the owner has looked: a sentence."""
        super().__init__(path, ledger)
        self._read_slates()

    def peers(self) -> list[PeerDevice]:
        known = sorted(self._peers.values(), key=lambda peer: peer.first_seen)
        return [replace(peer) for peer in known]

    def save_peer(self, peer: PeerDevice) -> None:
        """Revocations that are not stored when it returns are on a slate, or `unrecorded`."""
        self._peers[peer.public_key] = replace(peer)

        def write() -> None:
            with self._file.transaction() as db:
                self._write_peer(db, peer.public_key)
            self._stored[peer.public_key] = replace(self._peers[peer.public_key])

        news = _news(self._stored.get(peer.public_key), peer)
        what = f"{news or 'the last visit'} of {peer.label} ({peer.id})"
        self.ledger.put(self._key("peer", peer.public_key), what, self.path, write, lesser=not news)
        self._note_revocations()

    def lease_number(self, public_key: bytes) -> int:
        number = self._numbers.get(public_key)
        if number is not None:
            return number
        number = max(self._numbers.values(), default=FIRST_LEASE_NUMBER - 1) + 1
        self._numbers[public_key] = number

        def write() -> None:
            with self._file.transaction() as db:
                self._write_number(db, public_key)

        key = self._key("lease_number", public_key)
        what = f"the address of {peer_id(public_key)}"
        self.ledger.put(key, what, self.path, write, lesser=True)
        return number

    def move_lease_number(self, old: bytes, new: bytes | None) -> None:
        number = self._numbers.pop(old, None)
        if number is None:
            return
        if new is not None:
            self._numbers[new] = number

        def write() -> None:
            with self._file.transaction() as db:
                db.execute("DELETE FROM lease_number WHERE public_key = ?", (old,))
                if new is not None and new in self._numbers:
                    self._write_number(db, new)

        # Under the key of the old row: what was to be written there is overtaken.
        what = f"the address of {peer_id(old)}"
        self.ledger.put(self._key("lease_number", old), what, self.path, write, lesser=True)

    def sightings(self) -> dict[bytes, Sighting]:
        return dict(self._sightings)

    def save_sighting(self, public_key: bytes, sighting: Sighting) -> None:
        self._sightings[public_key] = sighting

        def write() -> None:
            with self._file.transaction(durable=False) as db:
                self._write_sighting(db, public_key)

        key = self._key("sighting", public_key)
        what = f"where {peer_id(public_key)} is"
        self.ledger.put(key, what, self.path, write, lesser=True)

    def offers(self) -> list[Offer]:
        return list(self._offers.values())

    def save_offer(self, offer: Offer) -> None:
        self._offers[offer.public_key] = offer
        self._put_offer(offer)

    def forget_offer(self, public_key: bytes) -> None:
        offer = self._offers.pop(public_key, None)
        if offer is not None:
            self._put_offer(offer)

    def _put_offer(self, offer: Offer) -> None:
        def write() -> None:
            with self._file.transaction() as db:
                self._write_offer(db, offer.public_key)

        key = self._key("offer", offer.public_key)
        what = f"the config of {offer.label}"
        self.ledger.put(key, what, self.path, write, lesser=True)

    def rules(self) -> dict[bytes, Rules]:
        return dict(self._rules)

    def save_rules(self, public_key: bytes, rules: Rules) -> None:
        self._rules[public_key] = rules
        if rules == NO_RULES:
            del self._rules[public_key]

        def write() -> None:
            with self._file.transaction() as db:
                self._write_rules(db, public_key)

        peer = self._peers.get(public_key)
        of = peer_id(public_key) if peer is None else f"{peer.label} ({peer.id})"
        self.ledger.put(self._key("rules", public_key), f"the rules of {of}", self.path, write)

    def books(self, everything: Callable[[], Iterable[BookRow]]) -> list[BookRow]:
        self._books = everything
        rows = self._file.rows("SELECT public_key, span, at, from_tunnel, to_tunnel FROM book")
        return [
            BookRow(bytes(key), BookSpan(span), at, (up, down))
            for key, span, at, up, down in rows
            if span in _SPANS
        ]

    def write_books(self, rows: list[BookRow]) -> None:
        for row in rows:
            self._book_rows[row.public_key, row.span, row.at] = row.used

        def write() -> None:
            with self._file.transaction(durable=False) as db:
                if len(self._book_rows) > MAX_BOOK_ROWS:
                    self._write_books(db)
                else:
                    for (key, span, at), used in self._book_rows.items():
                        _write_book_row(db, BookRow(key, span, at, used))
            self._book_rows.clear()

        what = "what devices have used lately"
        self.ledger.put(self._key("books"), what, self.path, write, lesser=True)
        if len(self._book_rows) > MAX_BOOK_ROWS:
            # Which ones does not matter any more: all will be written.
            self._book_rows = dict(islice(self._book_rows.items(), MAX_BOOK_ROWS + 1))

    # --- revocations -------------------------------------------------------------------------

    def prepare(self) -> None:
        """Take the slates' room while there is some."""
        for slate in self._slates:
            try:
                slate.prepare()
            except OSError as exc:
                why, fix = refusal(exc, slate.path)
                _log.warning("%s cannot be made: %s. %s", slate.path, why, fix)

    def settle(self) -> None:
        """What the file has taken need not stand on a slate; where there is room, be ready."""
        self._note_revocations()
        if not self.ledger.unwritten:
            self.prepare()

    def alarms(self) -> list[tuple[str, str]]:
        found = []
        if self.held is not None:
            advice = "Look through the devices (vpnshare peers), then: vpnshare share"
            found.append((f"Sharing was not begun: {self.held}", advice))
        if self.unrecorded:
            names = ", ".join(self._peers[key].label for key in self.unrecorded)
            after = (
                "sharing stays off until you have looked"
                if self.marked
                else "the device would be let in again"
            )
            found.append(
                (
                    f"The revocation of {names} is in force, but could not be recorded: after a "
                    f"restart {after}.",
                    "Mend the disk before the service or the machine restarts.",
                )
            )
        return found

    def release(self) -> None:
        """The owner shares in spite of a lost slate: begin a new one."""
        if self.held is not None:
            self.held, self._recorded = None, frozenset({b""})
            self._note_revocations()

    def _read_slates(self) -> None:
        """Devices on a slate are revoked, whatever the file says."""
        for slate in self._slates:
            try:
                self._recorded |= slate.read()
            except SlateLost as lost:
                self.held = f"{lost}, and a device that was revoked may have stood there."
                _log.error("%s", self.held)
        for key in self._recorded:
            peer = self._peers.get(key)
            if peer is not None and not peer.revoked:
                self.save_peer(replace(peer, revoked=True))
        if self.held is None:
            self._note_revocations()

    def _note_revocations(self) -> None:
        """Have exactly those on a slate that wait for the file."""
        waiting = frozenset(
            key for key, peer in self._peers.items()
            if peer.revoked and self.ledger.waits(self._key("peer", key))
        )  # fmt: skip
        if waiting == self._recorded and not self.unrecorded:
            return
        self.unrecorded, self.marked = waiting, self.held is not None
        if self.held is not None:
            return  # the lost slate stays until the owner has looked, and says it for all
        for slate in self._slates:
            try:
                slate.write(waiting) if waiting else slate.blank()
            except OSError as exc:
                _log.warning("%s cannot be written: %s", slate.path, exc.strerror or exc)
                self.marked |= slate.lost()
            else:
                self._recorded, self.unrecorded = waiting, frozenset()
                if waiting:
                    break
        if self.unrecorded:
            for found, advice in self.alarms():
                _log.error("%s %s", found, advice)

    # --- rows --------------------------------------------------------------------------------

    def _load(self) -> None:
        for key, label, platform, first, last, revoked, kind in self._file.rows(
            "SELECT public_key, label, platform, first_seen, last_seen, revoked, kind FROM peer"
        ):
            self._peers[bytes(key)] = peer = PeerDevice(
                bytes(key), label, platform, first, last, bool(revoked), Kind(kind)
            )
            self._stored[peer.public_key] = replace(peer)
        for number, key in self._file.rows("SELECT number, public_key FROM lease_number"):
            self._numbers[bytes(key)] = int(number)
        for key, *rest in self._file.rows(
            "SELECT public_key, told, host, port, interface, local, heard FROM sighting"
        ):
            self._sightings[bytes(key)] = Sighting(*rest)
        for key, label, host, port, expires, renews, invites, approved in self._file.rows(
            "SELECT public_key, label, host, port, expires, renews, invites, approved FROM offer"
        ):
            old = None if renews is None else bytes(renews)
            self._offers[bytes(key)] = Offer(
                bytes(key), label, host, port, expires, old, bool(invites), bool(approved)
            )
        for key, value in self._file.rows("SELECT public_key, value FROM rules"):
            self._rules[bytes(key)] = self._readable(bytes(key), value)

    def _readable(self, key: bytes, value: str) -> Rules:
        """Rules as they are kept; where nobody can say what they are, the device has to wait."""
        try:
            return from_json(json.loads(value))
        except (RuleRefused, ValueError, RecursionError) as exc:
            advice = f"it is paused. Give it rules anew: vpnshare rules {peer_id(key)} --clear"
            _log.warning("the rules of %s are not readable (%s): %s", peer_id(key), exc, advice)
            return Rules(paused=True)

    def _write_all(self, db: sqlite3.Connection) -> None:
        super()._write_all(db)
        for key in self._peers:
            self._write_peer(db, key)
        for key in self._numbers:
            self._write_number(db, key)
        for key in self._sightings:
            self._write_sighting(db, key)
        for key in self._offers:
            self._write_offer(db, key)
        for key in self._rules:
            self._write_rules(db, key)
        self._write_books(db)

    def _write_peer(self, db: sqlite3.Connection, key: bytes) -> None:
        peer = self._peers[key]
        db.execute(
            "INSERT OR REPLACE INTO peer VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                peer.public_key,
                peer.label,
                peer.platform,
                peer.first_seen,
                peer.last_seen,
                int(peer.revoked),
                str(peer.kind),
            ),
        )

    def _write_sighting(self, db: sqlite3.Connection, key: bytes) -> None:
        row = (key, *astuple(self._sightings[key]))
        db.execute("INSERT OR REPLACE INTO sighting VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _write_offer(self, db: sqlite3.Connection, key: bytes) -> None:
        """The row as memory has it, which may be none."""
        offer = self._offers.get(key)
        if offer is None:
            db.execute("DELETE FROM offer WHERE public_key = ?", (key,))
            return
        db.execute("INSERT OR REPLACE INTO offer VALUES (?, ?, ?, ?, ?, ?, ?, ?)", astuple(offer))

    def _write_rules(self, db: sqlite3.Connection, key: bytes) -> None:
        """The row as memory has it, which may be none."""
        rules = self._rules.get(key)
        if rules is None:
            db.execute("DELETE FROM rules WHERE public_key = ?", (key,))
            return
        db.execute("INSERT OR REPLACE INTO rules VALUES (?, ?)", (key, json.dumps(to_json(rules))))

    def _write_number(self, db: sqlite3.Connection, key: bytes) -> None:
        db.execute("INSERT OR REPLACE INTO lease_number VALUES (?, ?)", (self._numbers[key], key))

    def _write_books(self, db: sqlite3.Connection) -> None:
        """All rows that there are, and no others."""
        if self._books is not None:
            db.execute("DELETE FROM book")
            for row in self._books():
                _write_book_row(db, row)


def _write_book_row(db: sqlite3.Connection, row: BookRow) -> None:
    place = (row.public_key, str(row.span), row.at)
    if row.used is None:
        db.execute("DELETE FROM book WHERE public_key = ? AND span = ? AND at = ?", place)
    else:
        db.execute("INSERT OR REPLACE INTO book VALUES (?, ?, ?, ?, ?)", (*place, *row.used))


def _news(stored: PeerDevice | None, peer: PeerDevice) -> str | None:
    """What of a device the file does not have yet, if it matters."""
    if peer.revoked and not (stored and stored.revoked):
        return "the revocation"
    if not peer.revoked and (stored is None or stored.revoked):
        return "the approval"
    return "the name" if stored and stored.label != peer.label else None

"""The store: what is saved is there after kill -9, and foreign files stay untouched."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pytest

import client.model as cm
import gateway.model as gm
from gateway.books import BookRow, Books, BookSpan
from rules.spelling import read_destination
from rules.value import NO_RULES, Period, Quota, Rules, Span
from services.client_store import ClientDatabase
from services.database import APPLICATION_IDS, StoreError
from services.gateway_store import MAX_BOOK_ROWS, GatewayDatabase
from services.migrations import MIGRATIONS

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Meter:
    from_tunnel_bytes: int = 0
    to_tunnel_bytes: int = 0


def a_peer(number: int) -> gm.PeerDevice:
    return gm.PeerDevice(bytes([number]) * 32, f"device {number}", "linux", 1000.0, 2000.0)


@pytest.fixture(params=["memory", "sqlite"])
def gateway_store(request: pytest.FixtureRequest, tmp_path: Path) -> gm.GatewayStore:
    return gm.MemoryStore() if request.param == "memory" else GatewayDatabase(tmp_path / "g.db")


@pytest.fixture(params=["memory", "sqlite"])
def client_store(request: pytest.FixtureRequest, tmp_path: Path) -> cm.ClientStore:
    return cm.MemoryStore() if request.param == "memory" else ClientDatabase(tmp_path / "c.db")


def test_gateway_contract(gateway_store: gm.GatewayStore) -> None:
    store = gateway_store
    assert store.identity() is None and store.secret("ticket_key") is None and store.peers() == []
    store.save_identity(b"\x01" * 32)
    store.save_secret("ticket_key", b"\x02" * 32)
    store.save_secret("ticket_key", b"\x03" * 32)
    assert (store.identity(), store.secret("ticket_key")) == (b"\x01" * 32, b"\x03" * 32)
    store.save_peer(a_peer(1))
    store.save_peer(a_peer(2))
    store.save_peer(replace(a_peer(1), label="TV", revoked=True))
    assert sorted(store.peers(), key=lambda p: p.public_key) == [
        replace(a_peer(1), label="TV", revoked=True),
        a_peer(2),
    ]
    numbers = [store.lease_number(bytes([n]) * 32) for n in (1, 2, 1, 3)]
    assert numbers == [2, 3, 2, 4]
    store.move_lease_number(b"\x03" * 32, None)
    store.move_lease_number(b"\x01" * 32, b"\x09" * 32)
    store.move_lease_number(b"unknown", b"\x08" * 32)
    assert [store.lease_number(bytes([n]) * 32) for n in (9, 2, 8)] == [2, 3, 4]
    seen = gm.Sighting("10.0.0.1:51820")
    store.save_sighting(b"\x09" * 32, replace(seen, host="10.0.0.7"))
    store.save_sighting(b"\x09" * 32, replace(seen, host="10.0.0.8", port=7, heard=5.0))
    assert store.sightings() == {b"\x09" * 32: replace(seen, host="10.0.0.8", port=7, heard=5.0)}
    offer = gm.Offer(b"\x07" * 32, "phone", "10.0.0.1", 51820, 5.0)
    renewal = gm.Offer(b"\x08" * 32, "TV", "::1", 1, 6.5, b"\x01" * 32, approved=True)
    for made in (replace(offer, label="tablet"), renewal, offer):
        store.save_offer(made)
    assert sorted(store.offers(), key=lambda made: made.public_key) == [offer, renewal]
    store.forget_offer(b"\x07" * 32)
    store.forget_offer(b"unknown")
    assert store.offers() == [renewal]
    for key, given in ((7, Rules(paused=True)), (8, Rules(max_flows=9)), (7, NO_RULES)):
        store.save_rules(bytes([key]) * 32, given)
    store.save_rules(b"unknown", NO_RULES)
    assert store.rules() == {b"\x08" * 32: Rules(max_flows=9)}
    assert list(store.books(list)) == []
    row = BookRow(b"\x01" * 32, BookSpan.DAY, 739_000, (5, 1 << 40))
    total = BookRow(b"\x01" * 32, BookSpan.TOTAL, 0, (6, 7))
    store.write_books([row, total, replace(row, public_key=b"\x02" * 32)])
    store.write_books([replace(row, used=(10, 1 << 41)), replace(row, public_key=b"\x02" * 32,
                       used=None), replace(row, at=1, used=None)])  # fmt: skip
    kept = sorted(store.books(list), key=lambda row: row.at)
    assert kept == [total, replace(row, used=(10, 1 << 41))]


def test_client_contract(client_store: cm.ClientStore) -> None:
    store = client_store
    endpoint = cm.TransportEndpoint("tcp", "192.168.43.1", 47800, cm.EndpointKind.HOTSPOT)
    six = cm.TransportEndpoint("udp", "fe80::1%wlan0", 47801)
    old = cm.KnownGateway(b"\x01" * 32, "phone", (endpoint, six), 10.0, b"resume")
    new = cm.KnownGateway(b"\x02" * 32, "laptop", (), 20.0)
    store.save_gateway(new)
    store.save_gateway(old)
    assert store.gateways() == [new, old]
    store.save_gateway(replace(old, resume=None, last_seen=30.0))
    assert store.gateways() == [replace(old, resume=None, last_seen=30.0), new]
    store.forget_gateway(new.public_key)
    store.forget_gateway(b"unknown")
    assert [g.name for g in store.gateways()] == ["phone"]
    for number in range(cm.MAX_KNOWN_GATEWAYS + 5):
        key = number.to_bytes(32, "big")
        store.save_gateway(cm.KnownGateway(key, "g", (), 100.0 + number))
    assert len(store.gateways()) == cm.MAX_KNOWN_GATEWAYS


def test_it_is_there_after_reopening_and_private(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    store = GatewayDatabase(path)
    store.save_identity(b"\x01" * 32)
    store.save_peer(a_peer(1))
    used = BookRow(a_peer(1).public_key, BookSpan.HOUR, 5, (7, 8))
    store.write_books([used])
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {0o600}
    store.close()
    store = GatewayDatabase(path)
    assert store.identity() == b"\x01" * 32
    assert store.peers() == [a_peer(1)]
    assert store.books(list) == [used]


def test_an_existing_file_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    ClientDatabase(path).close()
    path.chmod(0o644)
    ClientDatabase(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_wireguard_devices_outlive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    store = GatewayDatabase(path)
    one, other = b"\x01" * 32, b"\x02" * 32
    device = replace(a_peer(1), kind=gm.Kind.WIREGUARD)
    store.save_peer(device)
    assert (store.lease_number(one), store.lease_number(other)) == (2, 3)
    store.move_lease_number(one, None)
    store.move_lease_number(other, one)
    seen = gm.Sighting("10.0.0.1:51820", "10.0.0.7", 7, "wlan0", "10.0.0.1", 5.0)
    store.save_sighting(one, seen)
    offers = [
        gm.Offer(b"\x03" * 32, "phone", "10.0.0.1", 51820, 5.0),
        gm.Offer(b"\x04" * 32, "TV", "fd00::1", 51820, 6.5, renews=one, approved=True),
        gm.Offer(b"\x05" * 32, "guest", "10.0.0.1", 51820, 7.0, invites=True),
    ]
    for offer in [*offers, replace(offers[0], public_key=other)]:
        store.save_offer(offer)
    store.forget_offer(other)
    store.close()
    again = GatewayDatabase(path)
    assert again.peers() == [device] and again.sightings() == {one: seen}
    assert sorted(again.offers(), key=lambda offer: offer.public_key) == offers
    assert (again.lease_number(one), again.lease_number(other)) == (3, 4)
    again.close()


def test_rules_outlive_a_restart_and_those_that_nobody_can_read_pause(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    store = GatewayDatabase(path)
    rules = Rules(
        Quota(10**9, period=Period.MONTH, day=15),
        limit_down=20_000_000,
        until=1_800_000_000.25,
        hours=(Span((0, 1), 420, 1260),),
        destinations=(read_destination("deny name ads.example"), read_destination("deny udp")),
        max_flows=40,
    )
    one, other, third = (bytes([number]) * 32 for number in (1, 2, 3))
    store.save_rules(one, rules)
    store.save_rules(other, Rules(paused=True))
    store.save_rules(other, NO_RULES)
    store.save_rules(third, Rules(max_flows=1))
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE rules SET value = '{\"speed\": 1}' WHERE public_key = ?", (third,))
    db.close()
    again = GatewayDatabase(path)
    assert again.rules() == {one: rules, third: Rules(paused=True)}
    again.close()


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_file_of_an_earlier_version_is_brought_up(tmp_path: Path, version: int) -> None:
    path = tmp_path / "g.db"
    key, other = b"\x01" * 32, b"\x02" * 32
    with sqlite3.connect(path) as db:
        for script in MIGRATIONS["gateway"][:version]:
            db.executescript(script)
        kind = ", 'vshp'" if version > 1 else ""
        for public, up, down in ((key, 70, 80), (other, 0, 0)):
            row = f"(?, 'device 1', 'linux', 1.0, 2.0, 0, ?, ?{kind})"
            db.execute(f"INSERT INTO peer VALUES {row}", (public, up, down))
        days = [("2024-02-29", 1, 2), ("2026-01-31", 3, 1 << 50), ("1970-01-01", 5, 6)]
        db.executemany("INSERT INTO usage VALUES (?, ?, ?, ?)", [(key, *day) for day in days])
        db.execute("INSERT INTO usage VALUES (?, 'no day', 1, 1)", (key,))
        db.execute(f"PRAGMA application_id={APPLICATION_IDS['gateway']}")
        db.execute(f"PRAGMA user_version={version}")
    db.close()
    again = GatewayDatabase(path)
    device = gm.PeerDevice(key, "device 1", "linux", 1.0, 2.0)
    assert again.peers() == [device, replace(device, public_key=other)]
    assert again.sightings() == {}
    books = Books(again)
    assert books.total(key) == (70, 80) and books.total(other) == (0, 0)
    assert books.history(key, BookSpan.DAY) == {
        date.fromisoformat(day).toordinal(): (up, down) for day, up, down in sorted(days)
    }
    again.save_sighting(key, gm.Sighting("a:1"))
    again.save_offer(gm.Offer(key, "phone", "10.0.0.1", 51820, 5.0))
    again.save_rules(key, Rules(max_flows=5))
    again.close()
    newest = GatewayDatabase(path)
    assert len(newest.offers()) == 1 and newest.rules() == {b"\x01" * 32: Rules(max_flows=5)}


def test_books_that_waited_for_long_are_written_whole(tmp_path: Path) -> None:
    """Rows that wait are bounded; beyond that the file is made what memory is."""
    store = GatewayDatabase(tmp_path / "g.db")
    key = b"\x01" * 32
    stale = BookRow(key, BookSpan.HOUR, 5, (1, 1))
    everything = [BookRow(key, BookSpan.DAY, 7, (5, 6))]
    store.books(lambda: everything)
    store.write_books([stale])
    blocker = sqlite3.connect(tmp_path / "g.db")
    blocker.execute("BEGIN EXCLUSIVE")
    store.write_books(
        [BookRow(key, BookSpan.HOUR, 6 + n, (n, n)) for n in range(MAX_BOOK_ROWS + 9)]
    )
    store.write_books([replace(stale, used=(2, 2))])
    assert len(store._book_rows) == MAX_BOOK_ROWS + 1 and store.ledger.unwritten
    blocker.rollback()
    blocker.close()
    assert store.ledger.flush()
    assert store.books(list) == everything
    store.close()


def test_books_are_whole_in_a_file_that_was_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    store = GatewayDatabase(path)
    key, meter = b"\x01" * 32, Meter(3, 4)
    books = Books(store)
    books.open(key, meter)
    books.collect(5000.0)
    books.save()
    store.close()
    again = GatewayDatabase(path)
    kept = Books(again)
    for name in tmp_path.iterdir():
        name.unlink()
    again.save_identity(b"i" * 32)
    assert not again.ledger.unwritten
    again.close()
    anew = GatewayDatabase(path)
    assert sorted(anew.books(list), key=repr) == sorted(kept.rows(), key=repr)
    assert Books(anew).total(key) == (3, 4)
    anew.close()


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    db.close()


def newer(path: Path) -> None:
    GatewayDatabase(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()


def damaged(path: Path) -> None:
    store = GatewayDatabase(path)
    for number in range(100):
        store.save_peer(a_peer(number))
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xa5" * (size // 4))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: path.write_bytes(b"no database at all, just some text\n" * 40), "damaged"),
        (lambda path: ClientDatabase(path).close(), "something else"),
        (foreign, "something else"),
        (newer, "newer VPN Share"),
        (damaged, "damaged"),
    ],
)
def test_what_is_not_ours_is_refused_and_left_alone(
    tmp_path: Path, make: object, text: str
) -> None:
    path = tmp_path / "g.db"
    assert callable(make)
    make(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=text):
        GatewayDatabase(path)
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="it is not there"):
        GatewayDatabase(tmp_path / "nowhere" / "g.db")


WRITER = """
import sys
from pathlib import Path
from gateway.books import BookRow, BookSpan
from gateway.model import PeerDevice
from services.gateway_store import GatewayDatabase
store = GatewayDatabase(Path(sys.argv[1]))
for n in range(int(sys.argv[2]), 1 << 30):
    key = n.to_bytes(32, "big")
    store.save_peer(PeerDevice(key, "d", "linux", float(n), 0.0))
    store.write_books([BookRow(key, BookSpan.DAY, 739000, (1, 1))])
    print(n, store.lease_number(key), flush=True)
"""


def test_kill_9_at_any_moment_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    path = tmp_path / "g.db"
    moments = random.Random(7)
    first = 0
    answered: dict[int, int] = {}
    for _ in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(first)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        time.sleep(moments.random() * 0.05)
        os.kill(child.pid, signal.SIGKILL)
        lines += child.stdout.readlines()
        child.wait()
        for line in lines:
            if line.endswith("\n"):
                number, leased = line.split()
                answered[int(number)] = int(leased)
        store = GatewayDatabase(path)
        numbers = sorted(int.from_bytes(p.public_key, "big") for p in store.peers())
        # All that was answered, and at most the one in the making.
        assert numbers in (list(range(max(answered) + 1)), list(range(max(answered) + 2)))
        for seen, leased_number in answered.items():
            assert store.lease_number(seen.to_bytes(32, "big")) == leased_number
        store.close()
        first = max(answered) + 1
    assert sorted(answered) == list(range(first)) and len(set(answered.values())) == first

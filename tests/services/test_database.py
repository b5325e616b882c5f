"""A database that cannot be written, or read, or that goes away: what happens, and the way out."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.books import BookRow, BookSpan
from gateway.model import PeerDevice
from services.database import StoreError
from services.gateway_store import GatewayDatabase
from services.slate import Slate

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a file system")
ROOT = Path(__file__).resolve().parents[2]


def a_peer(number: int, revoked: bool = False) -> PeerDevice:
    return PeerDevice(bytes([number]) * 32, f"device {number}", "linux", 1.0, 2.0, revoked)


USED = BookRow(a_peer(2).public_key, BookSpan.DAY, 739_000, (5, 6))


def opened(folder: Path) -> GatewayDatabase:
    store = GatewayDatabase(folder / "gateway.db", slates=[folder / "gateway.slate"])
    store.prepare()
    return store


def told(store: GatewayDatabase) -> str:
    return " ".join(place.sentence for place in store.ledger.unwritten)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o700)
    size = "size=512k,mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "small", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    path = disk / "fill"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        path.unlink()


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True)


KILLED = """
import os, signal, sys
from pathlib import Path
from gateway.model import PeerDevice
from services.gateway_store import GatewayDatabase
store = GatewayDatabase(Path(sys.argv[1]) / "gateway.db")
store.save_identity(b"i" * 32)
for number in (1, 2):
    store.save_peer(PeerDevice(bytes([number]) * 32, f"device {number}", "linux", 1.0, 2.0))
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_in(folder: Path) -> None:
    """A service wrote here and was killed: all it wrote is in the log beside the database."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (folder / "gateway.db-wal").stat().st_size > 0
    (folder / "gateway.db-shm").unlink()


@NEEDS_ROOT
@pytest.mark.parametrize("how", ["full", "ro"])
def test_a_start_on_a_disk_that_takes_nothing_knows_all_that_was_written(
    disk: Path, how: str
) -> None:
    """No room even for the index of SQLite's log, and not a byte may change."""
    killed_in(disk)
    with contextlib.ExitStack() as undo:
        if how == "full":
            undo.enter_context(full(disk))
        else:
            remount(disk, "ro")
            undo.callback(remount, disk, "rw")
        before = [(disk / name).read_bytes() for name in ("gateway.db", "gateway.db-wal")]
        store = opened(disk)
        assert store.identity() == b"i" * 32
        assert store.peers() == [a_peer(1), a_peer(2)]
        assert ("no space is left" if how == "full" else "read-only") in told(store)
        store.save_peer(a_peer(1, revoked=True))
        store.write_books([USED])
        assert "the revocation of device 1" in told(store)
        assert store.unrecorded == {a_peer(1).public_key}, "there is no slate, nor room for one"
        ((found, _),) = store.alarms()
        if how == "full":
            assert "after a restart sharing stays off until you have looked" in found
            assert opened(disk).held is not None
        else:
            assert "after a restart the device would be let in again" in found
        after = [(disk / name).read_bytes() for name in ("gateway.db", "gateway.db-wal")]
        assert after == before
    assert store.ledger.flush() and told(store) == ""
    store.settle()
    assert not store.unrecorded and not store.alarms()
    store.close()
    again = opened(disk)
    assert [peer.revoked for peer in again.peers()] == [True, False]
    assert again.books(list) == [USED]
    again.close()


@NEEDS_ROOT
def test_the_first_start_of_all_on_a_full_disk(disk: Path) -> None:
    with full(disk):
        store = opened(disk)
        store.save_identity(b"i" * 32)
        store.save_peer(a_peer(1))
        assert store.peers() == [a_peer(1)] and "this device's identity" in told(store)
        assert not (disk / "gateway.slate").exists()
    assert store.ledger.flush()
    store.settle()
    assert Slate(disk / "gateway.slate").read() == frozenset()
    store.close()
    again = opened(disk)
    assert (again.identity(), again.peers()) == (b"i" * 32, [a_peer(1)])
    again.close()


@NEEDS_ROOT
def test_a_full_disk_takes_a_revocation_for_the_next_start(disk: Path) -> None:
    store = opened(disk)
    for number in (1, 2):
        store.save_peer(a_peer(number))
    with full(disk):
        store.save_peer(a_peer(1, revoked=True))
        assert "the revocation of device 1" in told(store) and not store.unrecorded
        store.save_peer(a_peer(2, revoked=True))
        store.save_peer(a_peer(2))
        store._file.close()  # as if killed
        next_one = opened(disk)
        assert [peer.revoked for peer in next_one.peers()] == [True, False]
        next_one._file.close()
    again = opened(disk)
    assert [peer.revoked for peer in again.peers()] == [True, False]
    assert told(again) == "" and Slate(disk / "gateway.slate").read() == frozenset()
    again.close()


def test_a_lost_slate_keeps_sharing_off_until_the_owner_has_looked(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.save_peer(a_peer(1))
    store.close()
    slate = tmp_path / "gateway.slate"
    slate.write_bytes(b"VSHslate" + bytes(10))
    slate.chmod(0o600)
    for _ in range(2):
        store = opened(tmp_path)
        assert store.held is not None
        ((found, advice),) = store.alarms()
        assert "Sharing was not begun" in found and "vpnshare peers" in advice
        store.save_peer(a_peer(2))
        store.close()
    store = opened(tmp_path)
    store.release()
    assert store.held is None and store.alarms() == []
    store.close()
    assert opened(tmp_path).held is None


def test_a_locked_database_costs_a_moment_and_nothing_else(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.save_peer(a_peer(1))
    with contextlib.closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        for number in range(2, 30):
            store.save_peer(a_peer(number))
        store.save_peer(a_peer(1, revoked=True))
        took = time.monotonic() - began
        assert "another process keeps it locked" in told(store)
        assert Slate(tmp_path / "gateway.slate").read() == {a_peer(1).public_key}
        db.execute("ROLLBACK")
    assert took < 2.0, "one refusal, and not one for each"
    assert store.ledger.flush()
    store.settle()
    assert Slate(tmp_path / "gateway.slate").read() == frozenset()
    store.close()
    assert len(opened(tmp_path).peers()) == 29


def test_a_locked_database_is_read_at_start(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.save_peer(a_peer(1))
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("BEGIN IMMEDIATE")
        store = opened(tmp_path)
        assert store.peers() == [a_peer(1)] and "keeps it locked" in told(store)
        db.execute("ROLLBACK")
    assert store.ledger.flush()
    store.close()


@pytest.mark.parametrize("what", ["removed", "damaged", "foreign"])
def test_the_file_is_written_anew_from_memory(tmp_path: Path, what: str) -> None:
    path = tmp_path / "gateway.db"
    store = opened(tmp_path)
    store.save_identity(b"i" * 32)
    store.save_peer(a_peer(1))
    number = store.lease_number(a_peer(1).public_key)
    store._file.close()
    if what == "removed":
        for name in ("gateway.db", "gateway.db-wal", "gateway.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
    else:
        path.write_bytes(b"\xa5" * 8192)
        if what == "foreign":
            path.unlink()
            with contextlib.closing(sqlite3.connect(path)) as db:
                db.execute("CREATE TABLE recipes (name TEXT)")
                db.commit()
            path.chmod(0o600)
    store.save_peer(a_peer(2))
    if what != "removed":
        assert "Move" in store.ledger.unwritten[0].fix and "from memory" in (
            store.ledger.unwritten[0].fix
        )
        path.rename(tmp_path / "aside")
        assert store.ledger.flush()
    store.close()
    again = opened(tmp_path)
    assert again.identity() == b"i" * 32 and again.peers() == [a_peer(1), a_peer(2)]
    assert again.lease_number(a_peer(1).public_key) == number
    again.close()


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    store = opened(folder)
    shutil.rmtree(folder)
    store.save_peer(a_peer(1))
    assert "its folder is gone" in told(store)
    folder.mkdir(mode=0o700)
    assert store.ledger.flush()
    store.close()
    assert opened(folder).peers() == [a_peer(1)]


def test_what_a_failing_disk_did_not_take_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fsync a connection is trusted no more: all is written by another."""
    store = opened(tmp_path)
    first = store._file._db
    failing = sqlite3.OperationalError("disk I/O error")
    failing.sqlite_errorname = "SQLITE_IOERR_FSYNC"

    def fail(*_: object) -> None:
        raise failing

    monkeypatch.setattr(store, "_write_peer", fail)
    store.save_peer(a_peer(1))
    assert "disk I/O error" in told(store)
    monkeypatch.undo()
    assert store.ledger.flush()
    assert store._file._db is not first
    store.close()
    assert opened(tmp_path).peers() == [a_peer(1)]


def test_a_file_that_can_be_neither_written_nor_read(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    path.write_bytes(b"no database at all, just some text\n" * 40)
    path.chmod(0o600)
    with pytest.raises(StoreError, match=r"damaged.*move it away"):
        opened(tmp_path)

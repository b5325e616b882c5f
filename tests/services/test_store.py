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
from dataclasses import replace
from pathlib import Path

import pytest

import client.model as cm
import gateway.model as gm
from rules.spelling import read_destination
from rules.value import NO_RULES, Period, Quota, Rules, Span
from services.store import ClientDatabase, GatewayDatabase, StoreError

ROOT = Path(__file__).resolve().parents[2]


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
    assert store.usage(b"\x01" * 32, "2026-01-31") == (0, 0)
    for _ in range(2):
        store.add_usage(b"\x01" * 32, "2026-01-31", 5, 1 << 40)
    store.add_usage(b"\x01" * 32, "2026-02-01", 1, 1)
    assert store.usage(b"\x01" * 32, "2026-01-31") == (10, 1 << 41)


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
    store.add_usage(a_peer(1).public_key, "2026-01-31", 7, 8)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {0o600}
    store.close()
    store = GatewayDatabase(path)
    assert store.identity() == b"\x01" * 32
    assert store.peers() == [replace(a_peer(1), from_tunnel_bytes=7, to_tunnel_bytes=8)]


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


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_file_of_an_earlier_version_is_brought_up(tmp_path: Path, version: int) -> None:
    path = tmp_path / "g.db"
    store = GatewayDatabase(path)
    store.save_peer(a_peer(1))
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE rules")
        if version < 3:
            db.execute("DROP TABLE offer")
        if version == 1:
            db.execute("ALTER TABLE peer DROP COLUMN kind")
            db.execute("DROP TABLE sighting")
        db.execute(f"PRAGMA user_version={version}")
    db.close()
    again = GatewayDatabase(path)
    assert again.peers() == [a_peer(1)] and again.sightings() == {}
    again.save_sighting(b"\x01" * 32, gm.Sighting("a:1"))
    again.save_offer(gm.Offer(b"\x01" * 32, "phone", "10.0.0.1", 51820, 5.0))
    again.save_rules(b"\x01" * 32, Rules(max_flows=5))
    again.close()
    newest = GatewayDatabase(path)
    assert len(newest.offers()) == 1 and newest.rules() == {b"\x01" * 32: Rules(max_flows=5)}


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
from gateway.model import PeerDevice
from services.store import GatewayDatabase
store = GatewayDatabase(Path(sys.argv[1]))
for n in range(int(sys.argv[2]), 1 << 30):
    key = n.to_bytes(32, "big")
    store.save_peer(PeerDevice(key, "d", "linux", float(n), 0.0))
    store.add_usage(key, "2026-01-31", 1, 1)
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

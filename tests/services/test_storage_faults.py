"""Every write of both services is refused in turn, and never stands in the way.

A scenario is run once to count its writes, then twice for each: that one is refused, and
that one with all that follow. After the scenario there is room again, and a service that starts
then finds what was in force.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.model import ClientState
from control.methods import IdParams, NoParams, RenameParams, SetParams
from control.paths import Paths
from gateway.gateway import Gateway
from services import settings as settings_module
from services.client_store import ClientDatabase
from services.config import Config, load
from services.database import Database
from services.doctor import machine
from services.doctor.machine import Machine
from services.gateway_store import GatewayDatabase
from services.gatewayd import GatewayService
from services.logs import Ring
from services.notify import Notifier
from services.settings import Settings
from services.slate import Slate
from services.store_keeper import StoreKeeper
from services.wake import WakeLock
from tests.client.gateway_double import GatewayDouble
from tests.client.test_client import Device as Laptop
from tests.fakes.ports import free_port
from tests.fakes.waiting import settle
from tests.gateway.devices import Device, paired
from vshp.config import CloseReason, LeaseConfig, Resume
from vshp.events import LeaseGranted, PeerClosed

PACKET = bytes.fromhex("4500001c00000000401100000a00000108080808") + bytes(8)


class Faults:
    """Counts the writes to disk, and refuses those that it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.refused = 0
        self.over = False
        self.refuses: Callable[[int], bool] = lambda number: False

    def refusal(self) -> bool:
        if self.over:
            return False
        number, self.count = self.count, self.count + 1
        self.refused += self.refuses(number)
        return self.refuses(number)

    def begin(self, refuses: Callable[[int], bool]) -> None:
        self.count, self.refused, self.refuses, self.over = 0, 0, refuses, False

    def room_again(self) -> None:
        self.over = True


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Below the store: at the end of each transaction, at each writing of a file."""
    faults = Faults()
    transaction, replace = Database.transaction, settings_module._replace
    prepare, write = Slate.prepare, Slate.write

    @contextlib.contextmanager
    def refusing(self: Database, durable: bool = True) -> Iterator[sqlite3.Connection]:
        with transaction(self, durable) as db:
            yield db
            if faults.refusal():
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorname = "SQLITE_FULL"
                raise error

    def full(path: Path, text: str, private: bool) -> None:
        if faults.refusal():
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(path, text, private)

    def full_slate(self: Slate, keys: frozenset[bytes]) -> None:
        if faults.refusal():
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, keys)

    def no_slate(self: Slate) -> None:
        if not self.path.exists() and faults.refusal():
            raise OSError(errno.ENOSPC, "No space left on device")
        prepare(self)

    monkeypatch.setattr(Slate, "prepare", no_slate)
    monkeypatch.setattr(Database, "transaction", refusing)
    monkeypatch.setattr(settings_module, "_replace", full)
    monkeypatch.setattr(Slate, "write", full_slate)
    return faults


# --- the gateway -------------------------------------------------------------------------------


class Shown(Notifier):
    """What the notification says."""

    text: str | None = None

    def show(self, text: str | None) -> None:
        self.text = text


class Phone:
    """A gateway service as it is run, but for the process around it."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(folder / "config", folder / "state", folder / "run")
        self.paths.make()
        self.store = GatewayDatabase(
            self.paths.store("gateway"), slates=self.paths.slates("gateway")
        )
        config = Config(
            {
                ("gateway", "listen"): [f"127.0.0.1:{free_port()}"],
                ("gateway", "vpn_interface"): "no-such-vpn0",
                ("gateway", "announce"): False,
            }
        )
        settings = Settings("gateway", self.paths.config, config, {}, self.store.ledger)
        self.notifier = Shown(None)
        self.service = GatewayService(
            self.paths, settings, self.store, self.notifier, WakeLock(False), Ring(),
            lambda: None, share=True,
        )  # fmt: skip
        self.gateway: Gateway = self.service._gateway
        self.api = self.service._api

    async def __aenter__(self) -> Phone:
        await self.service.start(lambda: None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.service.stop()

    @property
    def told(self) -> str:
        return " ".join(each.found for each in self.api.status().unwritten)


async def use(device: Device, gateway: Gateway) -> None:
    """Send a packet, so that there is usage to be written, and have it written."""
    device.session.writer.send_packet(bytearray(64) + PACKET, 64, 64 + len(PACKET))
    device.session.writer.flush()
    await device.alive()
    gateway.books.collect(time.time())
    gateway.books.save()


async def resumed(device: Device, lease: LeaseConfig, gateway: Gateway) -> Device:
    """The device's link breaks, and it comes back by its ticket."""
    connected = gateway.snapshots.status().connected
    await use(device, gateway)
    device.leave()
    await settle(lambda: gateway.snapshots.status().connected == connected - 1)
    again = Device(gateway, device.identity, resume=Resume(lease.session_id, lease.ticket, lease))
    granted = (await again.until(LeaseGranted)).lease
    assert granted.resumed and granted.session_id == lease.session_id
    await again.alive()
    return again


def restarted(phone: Phone, folder: Path) -> GatewayDatabase:
    """The store as a service finds it that starts after this one was killed now."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(mode=0o700)
    names = [path.name for path in phone.paths.slates("gateway")]
    for number, original in enumerate((phone.paths.state_dir, phone.paths.run_dir)):
        (copy / str(number)).mkdir(mode=0o700)
        for path in original.iterdir():
            if path.is_file() and not path.name.endswith("-shm"):
                shutil.copy(path, copy / str(number) / path.name)
    slates = [copy / str(number) / name for number, name in enumerate(names)]
    return GatewayDatabase(copy / "0" / "gateway.db", slates=slates)


async def a_day_of_a_gateway(phone: Phone, faults: Faults, folder: Path) -> None:
    gateway, api = phone.gateway, phone.api
    laptop, lease = await paired(gateway)
    laptop = await resumed(laptop, lease, gateway)
    tv, its_lease = await paired(gateway)
    ids = [peer.id for peer in sorted(gateway.snapshots.peers(), key=lambda peer: peer.first_seen)]
    lost, kept = ids
    api.rename(RenameParams(kept, "TV"))
    done = api._settings.set(SetParams("gateway.name", "attic"))
    assert done.value == gateway.owner.config.name == "attic"

    before = faults.refused
    answer = api.revoke(IdParams(lost))
    assert (await laptop.until(PeerClosed)).reason is CloseReason.REVOKED
    assert all(tunnel.lease.peer_id != lost for tunnel in gateway.snapshots.tunnels())
    again = Device(gateway, laptop.identity)
    assert (await again.until(PeerClosed)).reason is CloseReason.REVOKED
    if faults.refused > before:
        assert "the revocation of" in " ".join(each.found for each in answer.unwritten)
    if not phone.store.unrecorded:
        after = restarted(phone, folder)
        assert not [p for p in after.peers() if p.id == lost and not p.revoked]
        after.close()
    else:
        assert "a restart the device would be let in again" in phone.told

    tv = await resumed(tv, its_lease, gateway)
    assert [lease.label for lease in api.leases(NoParams())] == ["TV"]
    assert bool(phone.told) == bool(phone.store.ledger.unwritten)
    examined = Machine("gateway", phone.paths, told=phone.service._keeper.told)
    finding = await machine.CHECKS.run_one("unwritten", examined)
    assert finding.status == ("broken" if phone.told else "ok")
    await use(tv, gateway)
    tv.leave()
    laptop.leave()


async def live_a_gateway(folder: Path, faults: Faults) -> None:
    async with Phone(folder) as phone:
        await a_day_of_a_gateway(phone, faults, folder)
        faults.room_again()
        assert phone.store.ledger.flush() and not phone.told
        known = {peer.public_key: peer for peer in phone.gateway.snapshots.peers()}
        numbers = {key: phone.store.lease_number(key) for key in known}
    store = GatewayDatabase(phone.paths.store("gateway"), slates=phone.paths.slates("gateway"))
    assert {peer.public_key: peer for peer in store.peers()} == known
    assert sorted(peer.revoked for peer in known.values()) == [False, True]
    assert {key: store.lease_number(key) for key in known} == numbers
    assert store.identity() == phone.gateway._identity and store.secret("ticket_key")
    sums = {row.public_key: row.used for row in store.books(list) if row.span == "total"}
    assert all((sums[key] or (0, 0))[0] for key in known)
    assert load(phone.paths.config)["gateway", "name"] == "attic"
    assert store.held is None and all(not Slate(p).read() for p in phone.paths.slates("gateway"))
    store.close()


async def test_a_gateway_at_each_of_its_writes(tmp_path: Path, faults: Faults) -> None:
    await live_a_gateway(tmp_path / "whole", faults)
    writes = faults.count
    assert writes >= 15
    for number in range(writes):
        for refuses in (number.__eq__, number.__le__):
            faults.begin(refuses)
            await live_a_gateway(tmp_path / f"{number}-{refuses.__name__}", faults)
            assert faults.refused, number


async def test_the_notification_says_so_and_no_longer(tmp_path: Path, faults: Faults) -> None:
    said = "; changes cannot be stored (vpnshare doctor)"
    async with Phone(tmp_path) as phone:
        assert phone.notifier.text and said not in phone.notifier.text
        faults.refuses = lambda number: True
        device, _ = await paired(phone.gateway)
        assert phone.notifier.text.endswith(said)
        faults.room_again()
        assert phone.store.ledger.flush()
        assert said not in phone.notifier.text
        device.leave()


async def test_a_lost_slate_keeps_a_service_from_sharing_until_it_is_told_to(
    tmp_path: Path,
) -> None:
    async with Phone(tmp_path) as phone:
        assert phone.api.status().sharing == "unavailable", "wanted; there is no VPN"
        path = phone.store._slates[0].path
    path.write_bytes(b"")
    async with Phone(tmp_path) as phone:
        assert phone.api.status().sharing == "off" and "Sharing was not begun" in phone.told
        assert phone.api.share(NoParams()).sharing == "unavailable"
        assert phone.told == ""
    async with Phone(tmp_path) as phone:
        assert phone.api.status().sharing == "unavailable"


# --- the client --------------------------------------------------------------------------------


async def live_a_client(folder: Path, faults: Faults) -> None:
    Paths(folder, folder, folder).make()
    store = ClientDatabase(folder / "client.db")
    keeper = StoreKeeper(store)
    keeper.start(lambda: None)
    laptop = Laptop(folder, store)
    async with GatewayDouble() as phone, laptop:
        client = laptop.client
        await client.connect(phone.uri())
        assert (await client.wait(5)).state is ClientState.CONNECTED
        began = len(laptop.host.log)
        for number in (1, 2):
            phone.guests[-1].cut()
            await phone.heard(number + 1)
            await laptop.until(lambda: laptop.state is ClientState.CONNECTED)
            resume = phone.resumes[-1]
            assert resume is not None and resume.ticket == b"ticket-%d" % (number)
        since = set(laptop.host.log[began:])
        assert not since & {"undo", "enforce nothing"}, "the device was not opened"
        await client.disconnect()
        assert laptop.state is ClientState.IDLE and store.wanted() is None
        await client.connect("phone")
        assert (await client.wait(5)).state is ClientState.CONNECTED
        waiting = bool(store.ledger.unwritten)
        assert bool(keeper.told()) == waiting
        await client.disconnect()
        client.forget("phone")
        assert store.gateways() == []
        faults.room_again()
    keeper.close()
    assert not store.ledger.unwritten
    after = ClientDatabase(folder / "client.db")
    assert after.gateways() == [] and after.wanted() is None
    assert after.identity() == store.identity()
    after.close()


async def test_a_client_at_each_of_its_writes(tmp_path: Path, faults: Faults) -> None:
    await live_a_client(tmp_path / "whole", faults)
    writes = faults.count
    assert writes >= 8
    for number in range(writes):
        for refuses in (number.__eq__, number.__le__):
            faults.begin(refuses)
            await live_a_client(tmp_path / f"{number}-{refuses.__name__}", faults)
            assert faults.refused, number

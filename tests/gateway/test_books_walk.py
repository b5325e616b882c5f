"""Devices come, go on by other links, change keys, and the gateway is killed: the sums are equal.

The suite walks a few steps. A long walk:

    VPNSHARE_BOOK_STEPS=800 python -m pytest -s tests/gateway/test_books_walk.py
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from gateway.gateway import Gateway
from gateway.link import SessionLink
from services.gateway_store import GatewayDatabase
from tests.fakes.ports import free_port
from tests.fakes.waiting import settle
from tests.gateway.devices import CONFIG, Device, paired, public
from tests.gateway.wireguard_app import App, let_in, question
from vshp.config import CloseReason, LeaseConfig, Resume
from vshp.events import LeaseGranted

STEPS = int(os.environ.get("VPNSHARE_BOOK_STEPS", "24"))
DEADLINE = 10.0
Pair = tuple[int, int]


class House:
    """A gateway whose books are in a file, and what of them was written last."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gateway.db"
        self.config = replace(
            CONFIG, listen=(("127.0.0.1", free_port()),), wireguard=free_port(), grace=60.0
        )
        self.before: Pair = (0, 0)
        """All that the books had when this gateway began."""

    async def open(self) -> None:
        self.store = GatewayDatabase(self.path)
        self.gateway = Gateway(self.config, self.store)
        self.before = self.sum()
        await self.gateway.start()

    def sum(self) -> Pair:
        """Of all devices that there ever were."""
        used = [self.gateway.books.total(peer.public_key) for peer in self.gateway.registry.all()]
        return sum(up for up, _ in used), sum(down for _, down in used)

    def equal(self) -> None:
        up, down = self.sum()
        assert (up - self.before[0], down - self.before[1]) == self.gateway.snapshots.totals()
        status = self.gateway.snapshots.status()
        assert self.gateway.snapshots.totals() == (
            status.from_tunnel_bytes, status.to_tunnel_bytes,
        )  # fmt: skip

    def interval(self) -> None:
        """What the gateway does every 30 seconds."""
        self.gateway._collector.at = 0.0
        self.gateway._collector.handle_timer(asyncio.get_running_loop().time())
        assert not self.gateway.books.unsaved

    async def kill(self) -> None:
        """It is gone with all its sockets, and nothing of what it had in mind was written."""
        links = self.gateway._entrance.links.all()
        await self.gateway._close()
        self.gateway._wireguard.doors.close()
        for link in links:
            assert isinstance(link, SessionLink)
            link._let_go()
        self.store._file.close()


class Vshp:
    """A device with our client, and what it has sent and got itself."""

    def __init__(self, house: House, moments: random.Random) -> None:
        self.house, self.moments = house, moments
        self.figures: Pair = (0, 0)
        self.written: Pair = (0, 0)
        self.answers = 0

    async def begin(self) -> None:
        device, lease = await paired(self.house.gateway, udp=self.moments.random() < 0.5)
        self.key = public(device.identity)
        self._have(device, lease)

    def _have(self, device: Device, lease: LeaseConfig) -> None:
        self.device, self.lease = device, lease
        device.session.on_packet = self._got

    def _got(self, buf: memoryview, start: int, end: int, offload: bool) -> None:
        self.answers += 1
        self.figures = self.figures[0], self.figures[1] + end - start

    async def pump(self) -> None:
        await self.device.alive()

    async def use(self) -> None:
        wanted = self.answers + self.moments.randrange(1, 5)
        for _ in range(wanted - self.answers):
            packet = question(self.lease.ipv4, self.lease.gateway_ipv4)
            self.device.session.writer.send_packet(bytearray(64) + packet, 64, 64 + len(packet))
            self.figures = self.figures[0] + len(packet), self.figures[1]
        self.device.session.writer.flush()
        async with asyncio.timeout(DEADLINE):
            while self.answers < wanted:
                await self.pump()

    async def resume(self, *, ticket: bool = True, move: bool = False) -> None:
        before, lease = self.device, self.lease
        if not move:
            before.leave()
        way = Resume(lease.session_id, lease.ticket, lease) if ticket else None
        again = Device(self.house.gateway, before.identity, resume=way,
                       udp=self.moments.random() < 0.5)  # fmt: skip
        granted = (await again.until(LeaseGranted)).lease
        self._have(again, granted)
        await self.pump()
        before.leave()

    async def move(self) -> None:
        await self.resume(move=True)

    async def anew(self) -> None:
        await self.resume(ticket=False)

    async def rekey(self) -> None:
        self.device.session.writer.rekey()
        await self.use()

    async def goodbye(self) -> None:
        connected = self.house.gateway.snapshots.status().connected
        self.device.session.close(CloseReason.DISCONNECTED, self.device.loop.time())
        await self.device.flush()
        await settle(lambda: self.house.gateway.snapshots.status().connected < connected)
        await self.anew()

    def steps(self) -> list[Callable[[], Awaitable[None]]]:
        return [self.use, self.use, self.resume, self.resume, self.move, self.anew, self.rekey,
                self.goodbye]  # fmt: skip

    async def after_kill(self) -> None:
        self.figures = self.written
        await self.anew()


class Wireguard:
    """A device with a WireGuard app."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.earlier: Pair = (0, 0)
        """What it had by an app before this one."""
        self.written: Pair = (0, 0)

    async def begin(self) -> None:
        self._have(await let_in(self.house.gateway, "phone"))

    def _have(self, app: App) -> None:
        self.app, self.text = app, app.profile.text()
        self.got = sum(map(len, app.packets))
        app.peer.on_packet = self._take
        assert app.profile.private_key is not None
        self.key = public(app.profile.private_key)

    def _take(self, buf: memoryview, at: int, end: int) -> None:
        self.app.packets.append(bytes(buf[at:end]))
        self.got += end - at

    @property
    def figures(self) -> Pair:
        return self.earlier[0] + self.app.peer.writer.packet_bytes, self.earlier[1] + self.got

    async def pump(self) -> None:
        await self.app.listen(0.02)

    async def use(self) -> None:
        assert await self.app.asks(DEADLINE) is not None

    async def roam(self) -> None:
        self.app.move()
        await self.use()

    async def rekey(self) -> None:
        self.app.again()
        self.app.peer.begin(self.app.loop.time())
        self.app._flush()
        await self.use()

    async def renew(self) -> None:
        """Another key, which the owner made."""
        gateway = self.house.gateway
        fresh = App(gateway.owner.wireguard_renew("phone").profile.text())
        fresh.send(fresh.question())
        async with asyncio.timeout(DEADLINE):
            while not gateway.snapshots.requests():
                await fresh.listen(0.05)
        gateway.owner.approve(gateway.snapshots.requests()[0].id)
        before, old = self.figures, self.app
        fresh.again()
        assert await fresh.asks(DEADLINE) is not None
        old.close()
        self.earlier = before
        self._have(fresh)

    def steps(self) -> list[Callable[[], Awaitable[None]]]:
        return [self.use, self.use, self.roam, self.roam, self.rekey, self.renew]

    async def after_kill(self) -> None:
        self.app.close()
        self.earlier = self.written
        self._have(App(self.text))
        await self.use()


async def even(house: House, devices: list[Vshp | Wireguard], step: str) -> None:
    """What is on its way arrives; then each device's own figures are those of the books."""
    books = house.gateway.books
    end = time.monotonic() + DEADLINE
    for device in devices:
        while (told := books.total(device.key)) != device.figures:
            assert time.monotonic() < end, (step, device, told, device.figures)
            await device.pump()
    house.equal()


async def test_the_sums_are_equal_whatever_the_links_do(tmp_path: Path) -> None:
    moments = random.Random(17)
    house = House(tmp_path)
    await house.open()
    devices: list[Vshp | Wireguard] = [Vshp(house, moments), Vshp(house, moments), Wireguard(house)]
    for device in devices:
        await device.begin()
        await even(house, devices[: devices.index(device) + 1], "begin")
    kinds = [*["step"] * 8, "interval", "kill"]
    steps = [moments.choice(kinds) for _ in range(STEPS)]
    # Each at least once, however short the walk is.
    every = [step for device in devices[1:] for step in device.steps()]
    taken: Counter[str] = Counter()
    for number, what in enumerate([*steps, "interval", "step", "kill", "step"]):
        if what == "kill":
            await house.kill()
            await house.open()
            for device in devices:
                await device.after_kill()
        elif what == "interval":
            house.interval()
            for device in devices:
                device.written = device.figures
        else:
            step = every.pop() if every else moments.choice(moments.choice(devices).steps())
            what = getattr(step, "__name__", "")
            await step()
            if what == "renew":
                # With the change of keys, what is known is written.
                await even(house, devices, what)
                house.interval()
                for device in devices:
                    device.written = device.figures
        taken[what] += 1
        await even(house, devices, f"{number}: {what}")
    print(f"\n{dict(taken)}")
    for device in devices:
        (device.app.close if isinstance(device, Wireguard) else device.device.leave)()
    await house.gateway.stop()
    last = house.sum()
    house.store.close()
    store = GatewayDatabase(house.path)
    rows = [row.used for row in store.books(list) if row.span == "day" and row.used]
    assert (sum(up for up, _ in rows), sum(down for _, down in rows)) == last
    store.close()

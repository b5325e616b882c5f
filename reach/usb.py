"""The phones on this machine's USB: by adb's server where it answers, else spoken to directly.

Theory of operation. A program that has claimed a phone's interface has it alone, and an adb
server claims all there are. So its phones are asked for first, and a phone that it lists is
reached through it. The others, on a machine without one, are ours: each has a session
(`adb_session`) from the first stream that is asked for until `IDLE_SECONDS` after the last has
ended, so that another program can have the phone when it is not used. While the person at a
phone is asked, the session stays for `ALLOW_SECONDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from reach.adb_host import Signer
from reach.adb_key import forget_key, load_key
from reach.adb_server import AdbServer
from reach.adb_session import AdbSession
from reach.bus import Bus
from reach.cable import LACKS, MAX_PHONES, Cable, CableError, Phone, PhoneState
from reach.usb_bus import UsbBus

SERVER_PATIENCE = 0.5
"""Seconds for this machine's adb server to list its phones."""
IDLE_SECONDS = 5.0
"""For which a phone is kept that nobody uses."""
ALLOW_SECONDS = 120.0
"""For which a phone is kept whose person is asked, though nobody waits any more."""
COUNTED_AS = "cable__"
"""What the names of the sessions' counters begin with, where there are others beside them."""


class UsbCable:
    """See `Cable`."""

    def __init__(
        self,
        server: Cable,
        bus: Bus,
        signer: Callable[[], Signer],
        forget: Callable[[], object] = lambda: None,
    ) -> None:
        """`signer` gives the key that phones know this machine by, `forget` removes it; both may
        block, and raise OSError."""
        self._forget = forget
        self._counters: Counter[str] = Counter()
        """Of the sessions that are over."""
        self._server = server
        self._bus = bus
        self._signer = signer
        self._sessions: dict[str, AdbSession] = {}
        self._watchers: set[Callable[[], None]] = set()
        self._closed = False

    async def phones(self) -> list[Phone]:
        served = await self._served()
        own = await asyncio.to_thread(self._bus.phones)
        if served is None and not own and not self._bus.usable():
            raise OSError(errno.ENOSYS, LACKS["usb_absent"])
        found = {phone.serial: phone for phone in served or []}
        for phone in own:
            found.setdefault(phone.serial, self._known(phone))
        return list(found.values())[:MAX_PHONES]

    async def open_stream(self, serial: str, port: int) -> socket.socket:
        session = self._sessions.get(serial)
        if session is not None and session.closing:
            # The phone is being given back, and can be had again in a moment.
            await session.wait_closed()
        if session is None or session.over:
            if any(phone.serial == serial for phone in await self._served() or []):
                return await self._server.open_stream(serial, port)
            session = self._begin(serial)
        return await session.open_stream(port)

    async def track(self, changed: Callable[[], None]) -> None:
        plugged = asyncio.Event()

        def news() -> None:
            plugged.set()
            changed()

        self._watchers.add(changed)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._track_bus(news), name="usb-bus")
                tasks.create_task(self._track_server(plugged, changed), name="usb-server")
        finally:
            self._watchers.discard(changed)

    def counted(self) -> dict[str, int]:
        counts = self._counters.copy()
        for session in self._sessions.values():
            counts.update(session.counted())
        return {COUNTED_AS + name: count for name, count in counts.items()}

    async def forget(self) -> None:
        # The key goes first: who comes back when its session ends makes another.
        await asyncio.to_thread(self._forget)
        await self._end_sessions()

    async def _end_sessions(self) -> None:
        await asyncio.gather(*(s.wait_closed() for s in self._sessions.values()))

    async def close(self) -> None:
        self._closed = True
        await self._end_sessions()
        await self._server.close()

    async def _served(self) -> list[Phone] | None:
        """What adb's server lists; None where none answers, or what answers is none."""
        try:
            async with asyncio.timeout(SERVER_PATIENCE):
                return await self._server.phones()
        except (OSError, TimeoutError):
            return None

    async def _track_bus(self, news: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):
            await self._bus.track(news)

    async def _track_server(self, plugged: asyncio.Event, changed: Callable[[], None]) -> None:
        """A server that is not there may be at the next phone."""
        while True:
            with contextlib.suppress(OSError):
                await self._server.track(changed)
            plugged.clear()
            await plugged.wait()

    # --- sessions --------------------------------------------------------------------------

    def _known(self, phone: Phone) -> Phone:
        """A phone as the session knows it that speaks to it."""
        session = self._sessions.get(phone.serial)
        if session is None or session.over:
            return phone
        return replace(phone, state=session.state, detail="")

    def _begin(self, serial: str) -> AdbSession:
        if self._closed:
            raise CableError(errno.ESHUTDOWN, "this device's service is ending")
        session = AdbSession(
            lambda: self._bus.open(serial), self._signer, lambda: self._changed(serial)
        )
        self._sessions[serial] = session
        return session

    def _changed(self, serial: str) -> None:
        session = self._sessions.get(serial)
        if session is None:
            return
        if session.over:
            del self._sessions[serial]
            self._counters.update(session.counted())
        elif not session.streams:
            asked = session.state is PhoneState.NOT_ALLOWED
            wait = ALLOW_SECONDS if asked else IDLE_SECONDS
            asyncio.get_running_loop().call_later(wait, self._close_idle, session)
        for changed in list(self._watchers):
            changed()

    def _close_idle(self, session: AdbSession) -> None:
        if not session.streams and not session.over:
            session.close()


def system_cable(state: Path) -> UsbCable:
    """The cable of this machine. `state` is the folder that the key for phones lies in."""
    name = f"vpnshare@{socket.gethostname()}"
    return UsbCable(AdbServer(), UsbBus(), lambda: load_key(state, name), lambda: forget_key(state))

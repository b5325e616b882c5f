"""The gateway's announcement by mDNS while it shares or pairs, where `zeroconf` is installed.

`want` only notes on which addresses it should be heard; one task makes it so.
Its absence is no error: gateways are also reached by QR code and by address.
"""

from __future__ import annotations

import asyncio
import logging

from reach import mdns
from reach.mdns import Announcer, DiscoveryUnavailable
from services.lacking import install
from services.tasks import create_task

_log = logging.getLogger(__name__)

Place = tuple[str, int, tuple[str, ...]]
"""Name, port, own addresses, of which one at least is IPv4."""


class Announcing:
    """Announces while there is something to announce."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._enabled = True
        self._wanted: Place | None = None
        self._shown: Place | None = None
        self._announcer: Announcer | None = None
        self._task: asyncio.Task[None] | None = None
        self._impossible = False

    def enable(self, enabled: bool) -> None:
        """The owner's setting."""
        self._enabled = enabled
        self._follow()

    def want(self, place: Place | None) -> None:
        """Where it should be heard now; None: nowhere."""
        self._wanted = place
        self._follow()

    async def stop(self) -> None:
        """Take it back."""
        self._wanted = None
        self._follow()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _goal(self) -> Place | None:
        return self._wanted if self._enabled and not self._impossible else None

    def _follow(self) -> None:
        if self._task is None and self._goal() != self._shown:
            self._task = create_task(self._work(), "mdns announcement")

    async def _work(self) -> None:
        try:
            while (goal := self._goal()) != self._shown:
                if self._announcer is not None:
                    await self._announcer.stop()
                    self._announcer = None
                self._shown = goal
                if goal is None:
                    continue
                name, port, addresses = goal
                try:
                    # Importing the library takes longer than a packet can wait.
                    await asyncio.to_thread(mdns.load)
                    announcer = Announcer(name, self._fingerprint, port)
                    await announcer.start(addresses)
                except DiscoveryUnavailable as exc:
                    fix = f" Get it with: {install(exc.lacks)}" if exc.lacks else ""
                    _log.info("not announced: %s%s", exc, fix)
                    self._impossible = True
                    self._shown = None
                    return
                self._announcer = announcer
        finally:
            self._task = None

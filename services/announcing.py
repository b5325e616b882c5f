"""The gateway's announcement by mDNS while it shares or pairs, where `zeroconf` is installed.

`want` only notes on which addresses it should be heard; one task makes it so.
Its absence is no error: gateways are also reached by QR code and by address.

While somebody looks for the gateway it is said again and again, unasked: many phones do not get
multicast, so that they hear no question, and what they send arrives all the same. Somebody looks
while a pairing code is shown or a known device is away; else nothing is repeated, for a phone's
battery. A device that stays away is called ever more seldom, and no more after `CALLED`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum

from control.lacking import install
from eventloop.tasks import create_task
from reach import mdns
from reach.mdns import Announcer, DiscoveryUnavailable

_log = logging.getLogger(__name__)

Place = tuple[str, int, tuple[str, ...]]
"""Name, port, own addresses, of which one at least is IPv4."""


OFTEN = 5.0
"""Seconds between repetitions while somebody is likely to look at a screen."""
PATIENT = 60.0
"""Seconds for which a device that is away is called that often."""
SELDOM = 30.0
CALLED = 3600.0
"""Seconds after which a device that is away is not called any more."""


class Sought(Enum):
    """Whether somebody looks for the gateway."""

    NOT = "not"
    PAIRING = "pairing"
    """A pairing code is shown, or a device waits to be let in."""
    AWAY = "away"
    """A known device has lost its link."""


def next_repetition(sought: Sought, sought_for: float) -> float | None:
    """Seconds until it is said again when it was sought for so long; None for never."""
    match sought:
        case Sought.NOT:
            return None
        case Sought.PAIRING:
            return OFTEN
        case Sought.AWAY if sought_for < PATIENT:
            return OFTEN
        case _:
            return SELDOM if sought_for < CALLED else None


class Announcing:
    """Announces while there is something to announce."""

    def __init__(self, fingerprint: str, sought: Callable[[], Sought]) -> None:
        """`sought` is asked whenever `want` is called, and before each repetition."""
        self._fingerprint = fingerprint
        self._sought = sought
        self._sought_as, self._sought_since = Sought.NOT, 0.0
        self._again: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
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
        self._repeat_later()

    def _repeat_later(self) -> None:
        """Have it said again, if somebody looks for it and it is not to be already."""
        loop = asyncio.get_running_loop()
        sought = self._sought() if self._goal() is not None else Sought.NOT
        if sought is not self._sought_as:
            self._sought_as, self._sought_since = sought, loop.time()
            self._silence()
        if self._again is None:
            pause = next_repetition(sought, loop.time() - self._sought_since)
            if pause is not None:
                self._again = loop.call_later(pause, self._repeat)

    def _repeat(self) -> None:
        self._again = None
        if self._announcer is not None and self._sought() is not Sought.NOT:
            self._announcer.repeat()
        self._repeat_later()

    def _silence(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _forget_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    async def stop(self) -> None:
        """Take it back."""
        self._wanted = None
        self._silence()
        self._forget_retry()
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
                    self._impossible = exc.lacks is not None
                    self._shown = None
                    if not self._impossible and goal == self._goal():
                        # An address may be gone before it is told of, or not be ready yet.
                        self._forget_retry()
                        self._retry = asyncio.get_running_loop().call_later(OFTEN, self._follow)
                        return
                    continue
                self._announcer = announcer
        finally:
            self._task = None

"""One service as the console has it: what it told, who waits, what happened, what can be undone.

Pure. The console holds one of each service that it can reach, and what it knows of one stays
while it shows the other. `now` is monotonic seconds, `wall` Unix time.
"""

from __future__ import annotations

from typing import Any

from control.methods import Hello
from tui import formats
from tui.banners import Banner, Banners
from tui.link import Connect, is_read_only
from tui.store import LinkState, Store
from tui.undo import Undo
from tui.waiting import Waiting

MAX_SAID = 160
"""Characters of why it cannot be reached."""


class Service:
    """The service of a role; `connect`: how it is reached."""

    def __init__(self, role: str, connect: Connect) -> None:
        self.role = role
        self.connect = connect
        self.store = Store()
        self.waiting = Waiting()
        self.events = Banners(role)
        self._undo: Undo | None = None

    # What it tells

    def connecting(self) -> None:
        self.store.link.state = LinkState.CONNECTING

    def live(self, hello: Hello) -> None:
        """It is there."""
        link = self.store.link
        link.state = LinkState.LIVE
        link.message = link.hint = ""
        link.read_only = is_read_only(hello)
        link.version = hello.version

    def lost(self, message: str, hint: str, now: float) -> None:
        """It cannot be reached."""
        link = self.store.link
        if link.state is not LinkState.LOST:
            link.since = now
        link.state = LinkState.LOST
        link.message = formats.clean(message, MAX_SAID)
        link.hint = formats.clean(hint, MAX_SAID)
        self.store.remembers = False  # the next one may be of another version

    def put(self, topic: str, data: Any, now: float, wall: float) -> bool:
        """Take a snapshot. Whether a device has begun to wait."""
        self.store.put(topic, data, now)
        if topic == "requests":
            return self.waiting.put(self.store.requests, now)
        if topic == "events":
            self.events.put(self.store.events, now, wall)
        return False

    # What follows from it

    @property
    def is_live(self) -> bool:
        return self.store.link.state is LinkState.LIVE

    def banners(self, now: float) -> list[Banner]:
        """What has happened and is not well again, the gravest first."""
        if not self.is_live:
            return []
        status = self.store.gateway
        well = set()
        if status is not None and (status.sharing == "off" or status.vpn.state == "active"):
            well.add("vpn_lost")
        return self.events.standing(now, frozenset(well))

    def hide_banner(self, now: float) -> bool:
        """A person has seen the first of them. Whether there was one."""
        found = self.banners(now)
        if found:
            self.events.hide(found[0])
        return bool(found)

    @property
    def shown_code(self) -> str | None:
        """The digits of a first contact that wait for this device's user."""
        status = self.store.client
        return status.code if status is not None and status.state == "asked" else None

    # What can be taken back

    def offer_undo(self, undo: Undo) -> None:
        """In the place of the one before."""
        self._undo = undo

    def undo(self, now: float) -> Undo | None:
        """What can be taken back now."""
        undo = self._undo
        return undo if self.is_live and undo is not None and now < undo.until else None

    def take_undo(self, now: float) -> Undo | None:
        """The same, once: it is being taken back."""
        if (undo := self.undo(now)) is not None:
            self._undo = None
        return undo

    def drop_undo(self, now: float) -> bool:
        """Forget one that cannot be taken back any more. Whether there was one."""
        dropped = self._undo is not None and self.undo(now) is None
        if dropped:
            self._undo = None
        return dropped

"""What of the gateway is due next, and who is called then.

Theory of operation. Whose deadline moves with packets and who knows his earliest at once is
*asked* after every batch: the flows (`Nat`), WireGuard's sessions. Everybody else has an *entry*
in the agenda. He says when something of his comes earlier than he was told before (`wake_by`);
that it comes later costs nothing, for he is called too early then, does nothing, and is asked for
his next moment as after every call.

So it is with the links of VSHP. What brings a session's deadline nearer is that it was given
something, a packet to send or to take in, and its link says so once in a batch; when the batch
is over it is asked. The links at which nothing happened are not looked at, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from gateway.agenda import Agenda
from gateway.link import Link, SessionLink


class Timed(Protocol):
    """Who is called when something of his is due."""

    def get_timer(self) -> float | None:
        """When `handle_timer` is to be called."""

    def handle_timer(self, now: float) -> bool | None:
        """Do what is due, which may be nothing. True when something that the control API shows has
        changed in kind."""


class Timing:
    """One deadline for all, and the calls when it has come (`Pulse`'s)."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        """`on_change` is called when something that the control API shows has changed in kind."""
        self.links: Mapping[int, Link] = {}
        """The open links by `id`; whoever keeps them puts them here."""
        self._on_change = on_change
        self._agenda = Agenda()
        self._asked: list[Timed] = []
        self._entered: dict[str, Timed] = {}
        self._stirred: list[SessionLink] = []
        self.stirred: Callable[[SessionLink], None] = self._stirred.append
        """The link's session was given something (`LinkOwner.link_stirred`)."""

    def ask(self, who: Timed) -> None:
        """Ask for this one's deadline after every batch."""
        self._asked.append(who)

    def enter(self, name: str, who: Timed) -> Callable[[float], None]:
        """Call this one by what it names to the function returned: a moment at which
        `handle_timer` is to be called at the latest."""
        self._entered[name] = who
        return partial(self._agenda.by, name)

    def forget(self, link: Link) -> None:
        """The link is closed."""
        self._agenda.set(id(link), None)

    def deadline(self) -> float:
        """When anything is due next, or NEVER. To be asked after every batch."""
        agenda, stirred = self._agenda, self._stirred
        if stirred:
            for link in stirred:
                link.stirred = False
                if not link.closed:
                    agenda.by(id(link), link.get_timer())
            stirred.clear()
        at = agenda.deadline()
        for who in self._asked:
            other = who.get_timer()
            if other is not None and other < at:
                at = other
        return at

    def due(self, now: float) -> None:
        """Call everybody whose moment has come."""
        changed = False
        for who in self._asked:
            changed |= bool(who.handle_timer(now))
        for key in self._agenda.due(now):
            found = self.links.get(key) if isinstance(key, int) else self._entered[key]
            if found is not None:
                changed |= bool(found.handle_timer(now))
                self._agenda.by(key, found.get_timer())
        if changed:
            self._on_change()

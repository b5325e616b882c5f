"""A door: one listening socket of a place, whatever transport comes in by it.

A place opens its doors, closes them and opens them again, and knows no more of them than
this. Another transport at the same address and port is one more opener (`entrance`).

Links over a stream have sockets of their own: their door has none to give up. Those by
datagrams go through their door's socket, so another door has to adopt them when it closes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.link import Link


class Door(Protocol):
    """A listening socket. `close` may be called again."""

    host: str
    port: int
    """Where it listens: what was asked for, or what any port became."""
    on_dead: Callable[[float], None]
    """Called with the time when the system has ended the socket; it is closed then."""

    @property
    def closed(self) -> bool: ...

    def close(self) -> None: ...

    def links(self) -> Sequence[Link]:
        """The links through this socket, which outlive it until they are adopted or closed."""

    def adopt(self, link: Link) -> bool:
        """Carry another door's link from now on; False when it cannot go through this one."""


Opener = Callable[[str, int, bool], Door]
"""Opens a door at a host and port, with True also where the address is not there just now.
Raises ListenError."""

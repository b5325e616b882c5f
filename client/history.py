"""The links of the past: when each began, over what, why it ended, how long nothing carried.

Kept in memory, over runs, until the service ends. A link is in the history
from the moment it carries packets; attempts that led to none are counted with
the link that came after them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

from client.model import TransportEndpoint
from client.reconnect import sentence

MAX_LINKS = 64
"""Links kept: days of a quiet network, an hour of a cable with a loose contact."""
MOVED = "moved"
"""The end of a link that handed over to a better one."""
CLOSED_HERE = "closed_here"
"""The end of a link that this device's user closed."""
_SENTENCES = {
    MOVED: "A better way was found, and the tunnel moved over.",
    CLOSED_HERE: "This device disconnected.",
}


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """One link."""

    id: int
    """Counts from 1, in the order in which links began."""
    gateway: str
    endpoint: TransportEndpoint
    began: float
    """Unix time."""
    resumed: bool
    """Whether it went on with the session of the link before, its flows and all."""
    away: float | None
    """Seconds without a link before this one; None when it is a run's first."""
    attempts: int
    """Rounds since the link before that led to none."""
    seconds: float = 0.0
    """How long it carried packets; so far, while it does."""
    ended: str | None = None
    """The reason's stable name (see `client/reconnect.py`), `moved` or `closed_here`; None
    while it runs."""
    from_tunnel_bytes: int = 0
    to_tunnel_bytes: int = 0
    flows: int | None = None
    """With a resumed session: connections of this host that were still there when it went on."""

    @property
    def sentence(self) -> str | None:
        """Why it ended, for people; None while it runs."""
        if self.ended is None:
            return None
        return _SENTENCES.get(self.ended) or sentence(self.ended)


class Counted(Protocol):
    """What is asked of a link (`LinkDriver`) that is told of."""

    @property
    def endpoint(self) -> TransportEndpoint: ...

    @property
    def received_packets_bytes(self) -> int:
        """Bytes of IP packets taken out of the tunnel; likewise put into it."""

    @property
    def sent_packets_bytes(self) -> int: ...


class History:
    """Told by the client. `now` is monotonic seconds, `wall` Unix time."""

    def __init__(self) -> None:
        self._records: deque[LinkRecord] = deque(maxlen=MAX_LINKS)
        self._count = 0
        self._link: Counted | None = None
        self._since = 0.0
        self._lost: float | None = None
        self._attempts = 0

    def run_begins(self) -> None:
        """What was before is no pause of this run."""
        self._lost, self._attempts = None, 0

    def begun(self, link: Counted, gateway: str, resumed: bool, now: float, wall: float) -> bool:
        """The link carries packets; False when that was known, and nothing has changed."""
        if link is self._link:
            return False
        self._link, self._since = link, now
        self._count += 1
        away = None if self._lost is None else now - self._lost
        self._records.append(
            LinkRecord(self._count, gateway, link.endpoint, wall, resumed, away, self._attempts)
        )
        self._attempts = 0
        return True

    def ended(self, link: Counted | None, reason: str, now: float) -> None:
        """A link has ended, or (when it never carried anything) an attempt."""
        if link is None or link is not self._link:
            self._attempts += 1
            return
        self._records[-1] = replace(self._measured(self._records[-1], link, now), ended=reason)
        self._link, self._lost = None, now

    def kept(self, link: Counted, flows: int | None) -> None:
        """So many connections came over to this link."""
        if link is self._link:
            self._records[-1] = replace(self._records[-1], flows=flows)

    def read(self, now: float) -> tuple[LinkRecord, ...]:
        """All that are kept, the newest first."""
        records = list(self._records)
        if self._link is not None:
            records[-1] = self._measured(records[-1], self._link, now)
        return tuple(reversed(records))

    def _measured(self, record: LinkRecord, link: Counted, now: float) -> LinkRecord:
        return replace(
            record,
            seconds=now - self._since,
            from_tunnel_bytes=link.received_packets_bytes,
            to_tunnel_bytes=link.sent_packets_bytes,
        )

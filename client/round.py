"""One round: reach the gateway by some endpoint, and serve the link until it ends.

Endpoints are raced for the connect and tried one by one for the handshake. A
gateway that answers the connect but not the handshake (another device has its
old address now) is left after `PATIENCE` when other endpoints may still work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from client.dial import AllUnreachable, Race
from client.driver import LinkDriver
from client.link import TcpLink
from client.plan import Plan
from client.reconnect import REASONS, Ending, most_telling
from client.tunnel import Tunnel
from vshp.config import CloseReason, GatewayStatus, LeaseConfig
from vshp.events import (
    ApprovalPending,
    Event,
    Handshaken,
    LeaseChanged,
    LeaseGranted,
    RttMeasured,
    StatusReceived,
)
from vshp.session import ClientSession

PATIENCE = 3.0
"""Seconds for a handshake while other endpoints may answer."""
FRESH = 1.0
"""Seconds in which a connect is not hanging yet."""
MAX_NEWS = 64
"""Events of a gateway that wait for the host to be set up; a gateway that sends more misbehaves."""


class RoundOwner(Protocol):
    """What a round tells the client. Called on the loop; none of these may raise but `leased`."""

    def asked(self, code: str | None) -> None:
        """The gateway's owner is being asked; `code` is to be compared, if any."""

    def leased(self, link: LinkDriver, lease: LeaseConfig) -> None:
        """A lease came: what it needs must be durable before it is used."""

    def connected(self, link: LinkDriver, lease: LeaseConfig) -> None:
        """The host is set up and packets flow."""

    def status_received(self, status: GatewayStatus) -> None: ...

    def rtt(self, seconds: float) -> None: ...


class Round:
    """Owns at most one link at a time."""

    def __init__(
        self,
        owner: RoundOwner,
        plan: Plan,
        tunnel: Tunnel,
        make_session: Callable[[float], ClientSession],
        timeout: float,
    ) -> None:
        self._owner = owner
        self._plan = plan
        self._tunnel = tunnel
        self._make_session = make_session
        self._timeout = timeout
        self._news: asyncio.Queue[Event | Ending] = asyncio.Queue()
        self.link: LinkDriver | None = None
        self.granted = False
        """Whether a lease took effect in this round."""
        self._race: Race | None = None
        self._began = asyncio.get_running_loop().time()

    async def run(self) -> Ending:
        """How the round ended. Raises ClientError when the host cannot be set up."""
        race = self._race = Race(self._plan.endpoints, self._tunnel.mark, self._timeout)
        endings: list[Ending] = []
        try:
            while True:
                try:
                    sock, endpoint = await race.next()
                except AllUnreachable as error:
                    if not endings:
                        endings.append(Ending("unreachable", error.detail, False))
                    return most_telling(endings)
                self._news = asyncio.Queue()
                self.link = TcpLink(self, sock, endpoint, self._make_session)
                ending = await self._serve(self.link, race)
                if self.granted or (ending.authenticated and ending.reason in REASONS):
                    return ending
                endings.append(ending)
        finally:
            # A goodbye is said only where there is somebody to hear it; else it does nothing.
            if self.link is not None:
                self.link.close(CloseReason.DISCONNECTED)
            await race.close()

    def look_again(self) -> None:
        """The network has changed: a connect that has hung for a while is begun anew.

        Its packets may have left by a way that is no more; the kernel would
        try them again only after seconds.
        """
        hung = asyncio.get_running_loop().time() - self._began >= FRESH
        if self.link is None and self._race is not None and hung:
            self._race.give_up()

    async def _serve(self, link: LinkDriver, race: Race) -> Ending:
        """Until the link ends."""
        patience: float | None = PATIENCE if race.more else None
        while True:
            try:
                async with asyncio.timeout(patience):
                    news = await self._news.get()
            except TimeoutError:
                link.close(CloseReason.HANDSHAKE_TIMEOUT)
                return Ending("handshake_timeout", authenticated=False)
            patience = None
            match news:
                case Ending():
                    return news
                case Handshaken():
                    # The secret is spent now, whatever comes of it.
                    await race.close()
                case ApprovalPending(code=code):
                    self._owner.asked(code)
                case LeaseGranted(lease=lease) | LeaseChanged(lease=lease):
                    await self._use(link, lease)
                case _:
                    continue

    async def _use(self, link: LinkDriver, lease: LeaseConfig) -> None:
        self._owner.leased(link, lease)
        nic = await self._tunnel.apply(lease, link.endpoint.host)
        if self.granted:
            link.change(lease)
        else:
            link.attach(nic, lease)
        self.granted = True
        self._owner.connected(link, lease)

    # --- LinkOwner ---------------------------------------------------------------------------

    def link_event(self, link: LinkDriver, event: Event) -> None:
        """See `LinkOwner`: frequent news goes on at once, the rest waits its turn."""
        match event:
            case RttMeasured(smoothed=seconds):
                self._owner.rtt(seconds)
            case StatusReceived(status=status):
                self._owner.status_received(status)
            case _ if self._news.qsize() >= MAX_NEWS:
                link.close(CloseReason.PROTOCOL_ERROR)
                self._news.put_nowait(Ending("protocol_error", "too many changes at once"))
            case _:
                self._news.put_nowait(event)

    def link_over(self, link: LinkDriver, ending: Ending) -> None:
        """See `LinkOwner`."""
        if link is self.link:
            self._news.put_nowait(ending)

"""One round: reach the gateway by some endpoint, and serve the link until it ends.

Endpoints are raced for the connect and tried one by one for the handshake. A
gateway that answers the connect but not the handshake (another device has its
old address now) is left after `PATIENCE` when other endpoints may still work. What comes of a
guessed endpoint is nobody's word on the gateway, unless its key was proven there.

A better endpoint that appears while a link runs is tried beside it (`improve`).
Its session resumes with the ticket in hand; the moment the gateway grants it,
packets go over the new link, and the old one is closed. Until then the old one
carries everything, so a trial that fails costs nothing.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from client.datagram_link import DatagramLink
from client.dial import AllUnreachable, Race, open_datagram
from client.driver import LinkDriver, SessionMaker
from client.endpoints import Outcome
from client.model import TransportEndpoint
from client.outlet.outlet import Outlet
from client.plan import Plan
from client.reconnect import REASONS, Ending, most_telling
from client.strangers import Stranger, who_was_it
from client.stream_link import StreamLink
from eventloop.tasks import cancel, create_task
from reach.cable import Cable
from vshp.config import CloseReason, GatewayStatus, LeaseConfig
from vshp.events import (
    ApprovalPending,
    CodeShown,
    Event,
    Handshaken,
    LeaseChanged,
    LeaseGranted,
    RttMeasured,
    StatusReceived,
)

PATIENCE = 3.0
"""Seconds for a handshake while other endpoints may answer."""
DATAGRAM_PATIENCE = 1.2
"""The same over UDP, where nothing has answered yet: three tries of the first message."""
FRESH = 1.0
"""Seconds of a round in which a connect or a handshake is not hanging yet."""
TRIAL_ECHO = 15.0
"""Seconds after a trial began in which the gateway may say that it replaced our link."""
MAX_NEWS = 64
"""Events of a gateway that wait for the host to be set up; a gateway that sends more misbehaves."""

_NO_ANSWER = Ending("handshake_timeout", authenticated=False)
_CHANGED = Ending("unreachable", "the network changed", authenticated=False)
_OUTCOMES = {
    "handshake_timeout": Outcome.TIMED_OUT,
    "link_dead": Outcome.TIMED_OUT,
    "unreachable": Outcome.UNREACHABLE,
}
"""What the ending of an attempt says of its endpoint; any other: that somebody refused it."""


class _More:
    """More endpoints have joined the race."""


class RoundOwner(Protocol):
    """What a round tells the client. Called on the loop; none of these may raise but `leased`."""

    def tried(
        self, endpoint: TransportEndpoint, outcome: Outcome, why: str, seconds: float | None
    ) -> None:
        """What became of an endpoint (see `endpoints.Tell`)."""

    def stranger(self, endpoint: TransportEndpoint, stranger: Stranger) -> None:
        """Who took a connection at a guessed endpoint has not proven the gateway's key."""

    def met(self, gateway_key: bytes) -> Ending | None:
        """Keys are agreed on with the holder of this key; how it ends if that will not do."""

    def shown(self, code: str) -> bool:
        """First contact: these digits are to be compared with the gateway's; True when that is
        not to be waited for. Nothing is taken from the gateway before `Round.agree`."""

    def asked(self, code: str | None) -> None:
        """The gateway's owner is being asked; `code` is to be compared, if any."""

    async def judged(self, link: LinkDriver, lease: LeaseConfig) -> Ending | None:
        """A lease came: how the link ends, when this device does not take it."""

    def leased(self, link: LinkDriver, lease: LeaseConfig) -> None:
        """A gateway has granted a lease: what coming back needs must be durable now."""

    def connected(self, link: LinkDriver, lease: LeaseConfig) -> None:
        """The host is set up and packets flow."""

    def moved(self, link: LinkDriver) -> None:
        """This link has handed over to a better one and is closed."""

    def status_received(self, status: GatewayStatus) -> None: ...

    def rtt(self, seconds: float) -> None: ...

    def timed(self) -> None:
        """A link's timer was due."""


class Round:
    """Owns one link at a time, and perhaps a trial of a better one."""

    def __init__(
        self,
        owner: RoundOwner,
        plan: Plan,
        endpoints: tuple[TransportEndpoint, ...],
        outlet: Outlet,
        sessions: SessionMaker,
        timeout: float,
        cable: Cable | None = None,
        quiet: bool = False,
    ) -> None:
        """`quiet`: nothing is new since the last rounds, which were in vain (see `dial`)."""
        self._owner = owner
        self._plan = plan
        self._endpoints = endpoints
        self._outlet = outlet
        self._sessions = sessions
        self._timeout = timeout
        self._cable = cable
        self._quiet = quiet
        self._news: asyncio.Queue[tuple[LinkDriver, Event | Ending | _More]] = asyncio.Queue()
        self.link: LinkDriver | None = None
        self.granted = False
        """Whether a lease took effect in this round."""
        self._shaken = False
        """Whether the link's far end has proven its key."""
        self._doubt: asyncio.TimerHandle | None = None
        self._race: Race | None = None
        self._trial: asyncio.Task[None] | None = None
        self._candidate: LinkDriver | None = None
        self._candidate_over = asyncio.Event()
        self._candidate_ending = _NO_ANSWER
        self._tried_at = -TRIAL_ECHO
        self._replaced = False
        """The gateway has closed our link in favour of the candidate."""
        self._began = asyncio.get_running_loop().time()

    async def run(self) -> Ending:
        """How the round ended. Raises ClientError when the host cannot be set up."""
        race = self._race = self._start_race(self._endpoints, self._quiet)
        endings: list[Ending] = []
        try:
            while True:
                try:
                    sock, endpoint = await race.next()
                except AllUnreachable as error:
                    if not endings:
                        detail = error.detail if error.reason == "unreachable" else ""
                        endings.append(Ending(error.reason, detail, False))
                    return most_telling(endings)
                self._news = asyncio.Queue()
                self.link = self._open(sock, endpoint)
                ending = await self._serve(race)
                if endpoint.guessed and not self._shaken:
                    continue
                if self.granted or (ending.authenticated and ending.reason in REASONS):
                    return ending
                endings.append(ending)
        finally:
            if self._doubt is not None:
                self._doubt.cancel()
            await cancel(self._trial)
            # A goodbye is said only where there is somebody to hear it; else it does nothing.
            if self.link is not None:
                self.link.close(CloseReason.DISCONNECTED)
            await race.close()

    def agree(self, code: str) -> None:
        """This device's user says that the gateway shows these digits, too."""
        if self.link is not None:
            self.link.agree(code)

    def refuse(self) -> None:
        """... that they differ: the gateway is told, and the round is over."""
        if self.link is not None:
            self.link.close(CloseReason.CODE_REFUSED)
            self._news.put_nowait((self.link, Ending("code_refused")))

    def look_again(self) -> None:
        """The network has changed: a connect that has hung for a while is begun anew.

        Its packets may have left by a way that is no more; the kernel would
        try them again only after seconds.
        """
        hung = asyncio.get_running_loop().time() - self._began >= FRESH
        if self.link is None and self._race is not None and hung:
            self._race.give_up()

    def begin_anew(self) -> None:
        """This device is on other networks than when the round began: soon it is over, unless
        it has found the gateway by then, which may be where this round does not look."""
        if self._doubt is None:
            loop = asyncio.get_running_loop()
            self._doubt = loop.call_at(max(loop.time(), self._began + FRESH), self._begin_anew)

    def further(self, endpoints: tuple[TransportEndpoint, ...]) -> bool:
        """More places where the gateway may be have become known; False when it is too late to
        try them in this round."""
        if self._race is None or self._shaken:
            return False
        known = {str(endpoint) for endpoint in self._endpoints}
        fresh = tuple(e for e in endpoints if str(e) not in known)
        if fresh and not self._race.add(fresh):
            return False
        self._endpoints += fresh
        if fresh and self.link is not None:
            # Who is waited for now has others behind him.
            self._news.put_nowait((self.link, _More()))
        return True

    def _begin_anew(self) -> None:
        self._doubt = None
        if self._race is None or self._shaken:
            return
        self._race.give_up()
        if self.link is not None:
            self.link.close(CloseReason.HANDSHAKE_TIMEOUT)
            self._news.put_nowait((self.link, _CHANGED))

    def improve(self, endpoints: tuple[TransportEndpoint, ...]) -> None:
        """Try better endpoints beside the running link; move over when one grants the lease."""
        if self.granted and endpoints and (self._trial is None or self._trial.done()):
            self._trial = create_task(self._try(endpoints), "client-trial")

    def _open(self, sock: socket.socket, endpoint: TransportEndpoint) -> LinkDriver:
        if endpoint.transport == "udp":
            mark = self._outlet.mark
            return DatagramLink(
                self, sock, endpoint, self._sessions, lambda: open_datagram(endpoint, mark)
            )
        return StreamLink(self, sock, endpoint, self._sessions)

    def _start_race(self, endpoints: tuple[TransportEndpoint, ...], quiet: bool = False) -> Race:
        mark, told = self._outlet.mark, self._owner.tried
        return Race(endpoints, mark, self._timeout, told, self._cable, quiet)

    def _failed(self, race: Race, endpoint: TransportEndpoint, ending: Ending) -> None:
        """Tell how the attempt at an endpoint that was connected to came to nothing."""
        outcome = _OUTCOMES.get(ending.reason, Outcome.REFUSED)
        why = ending.detail or ending.reason.replace("_", " ")
        if endpoint.guessed and endpoint.transport != "udp" and ending is not _CHANGED:
            stranger = who_was_it(ending)
            why = stranger.words
            self._owner.stranger(endpoint, stranger)
        self._owner.tried(endpoint, outcome, why, race.seconds(endpoint))

    async def _serve(self, race: Race) -> Ending:
        """Until the link ends."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        patience = self._patience(race)
        self._shaken = False
        while True:
            try:
                async with asyncio.timeout_at(None if patience is None else began + patience):
                    sender, news = await self._news.get()
            except TimeoutError:
                assert self.link is not None
                self.link.close(CloseReason.HANDSHAKE_TIMEOUT)
                self._failed(race, self.link.endpoint, _NO_ANSWER)
                return _NO_ANSWER
            patience = None
            link = self.link
            if sender is not link:
                # Said by a link that has handed over meanwhile.
                continue
            match news:
                case _More():
                    if not self._shaken:
                        patience = self._patience(race)
                case Ending():
                    if not self._shaken:
                        self._failed(race, link.endpoint, news)
                    return news
                case Handshaken(gateway_key=key):
                    wrong = self._owner.met(key)
                    if wrong is not None:
                        link.close(CloseReason.HANDSHAKE_TIMEOUT)
                        self._failed(race, link.endpoint, wrong)
                        return wrong
                    self._shaken = True
                    seconds = race.seconds(link.endpoint)
                    self._owner.tried(link.endpoint, Outcome.WON, "", seconds)
                    # The secret is spent now, whatever comes of it.
                    await race.close(decided=True)
                case CodeShown(code=code):
                    if self._owner.shown(code):
                        link.agree(code)
                case ApprovalPending(code=code):
                    self._owner.asked(code)
                case LeaseGranted(lease=lease) | LeaseChanged(lease=lease):
                    refused = await self._use(link, lease)
                    if refused is not None:
                        link.close(CloseReason.DISCONNECTED)
                        return refused
                case _:
                    continue

    def _patience(self, race: Race) -> float | None:
        assert self.link is not None
        if self.link.endpoint.transport == "udp":
            return DATAGRAM_PATIENCE if race.more else max(DATAGRAM_PATIENCE, self._timeout)
        return PATIENCE if race.more or self.link.endpoint.guessed else None

    async def _use(self, link: LinkDriver, lease: LeaseConfig) -> Ending | None:
        """Have the host use the lease, unless it is refused."""
        refused = await self._owner.judged(link, lease)
        self._owner.leased(link, lease)
        if refused is not None:
            return refused
        link.attach(await self._outlet.apply(lease), lease)
        self.granted = True
        self._owner.connected(link, lease)
        return None

    # --- a better way ------------------------------------------------------------------------

    async def _try(self, endpoints: tuple[TransportEndpoint, ...]) -> None:
        """One after the other until one takes over."""
        race = self._start_race(endpoints)
        won = False
        try:
            while True:
                try:
                    sock, endpoint = await race.next()
                except AllUnreachable:
                    return
                self._candidate_over.clear()
                self._candidate_ending = _NO_ANSWER
                self._tried_at = asyncio.get_running_loop().time()
                candidate = self._candidate = self._open(sock, endpoint)
                try:
                    async with asyncio.timeout(PATIENCE):
                        await self._candidate_over.wait()
                except TimeoutError:
                    pass
                finally:
                    if self.link is not candidate:
                        candidate.close(CloseReason.HANDSHAKE_TIMEOUT)
                        self._give_up_candidate()
                if self.link is candidate:
                    won = True
                    self._owner.tried(endpoint, Outcome.WON, "", race.seconds(endpoint))
                    return
                self._failed(race, endpoint, self._candidate_ending)
        finally:
            await race.close(decided=won)

    def _tried(self) -> bool:
        """Whether a trial runs, or ended so lately that the gateway may still act on it."""
        return asyncio.get_running_loop().time() - self._tried_at < TRIAL_ECHO

    def _give_up_candidate(self) -> None:
        """If the gateway has dropped the running link for it already, that is over too."""
        self._candidate = None
        if self._replaced and self.link is not None:
            self._replaced = False
            self._news.put_nowait((self.link, Ending("link_lost", authenticated=False)))

    def _take_over(self, candidate: LinkDriver, lease: LeaseConfig) -> None:
        """The candidate was granted the lease: at once, so that no packet meets a closed door."""
        old, self.link = self.link, candidate
        self._candidate, self._replaced = None, False
        self._candidate_over.set()
        if old is not None:
            old.detach()
            old.close(CloseReason.REPLACED)
            self._owner.moved(old)
        self._news.put_nowait((candidate, LeaseGranted(lease)))

    # --- LinkOwner ---------------------------------------------------------------------------

    def link_event(self, link: LinkDriver, event: Event) -> None:
        """See `LinkOwner`: frequent news goes on at once, the rest waits its turn."""
        if link is self._candidate:
            if not isinstance(event, LeaseGranted):
                return
            self._take_over(link, event.lease)
            self._attach_early(link, event.lease)
            return
        match event:
            case RttMeasured(smoothed=seconds):
                self._owner.rtt(seconds)
            case StatusReceived(status=status):
                self._owner.status_received(status)
            case _ if self._news.qsize() >= MAX_NEWS:
                link.close(CloseReason.PROTOCOL_ERROR)
                self._news.put_nowait((link, Ending("protocol_error", "too many changes at once")))
            case _:
                if isinstance(event, LeaseGranted):
                    self._attach_early(link, event.lease)
                self._news.put_nowait((link, event))

    def link_timed(self) -> None:
        """See `LinkOwner`."""
        self._owner.timed()

    def _attach_early(self, link: LinkDriver, lease: LeaseConfig) -> None:
        """A resumed lease finds the host as it left it: its packets may be in this very read."""
        port = self._outlet.port
        if port is not None and self._outlet.fits(lease):
            link.attach(port, lease)

    def link_over(self, link: LinkDriver, ending: Ending) -> None:
        """See `LinkOwner`."""
        if link is self._candidate:
            self._candidate_ending = ending
            self._candidate_over.set()
        elif link is self.link:
            if ending.reason == CloseReason.REPLACED and self._tried():
                # By a candidate of ours: its grant is on its way, or came too late.
                if self._candidate is not None:
                    self._replaced = True
                    return
                ending = Ending("link_lost", authenticated=False)
            self._news.put_nowait((link, ending))

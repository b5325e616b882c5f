"""The proxy: where programs connect to use the tunnel, by SOCKS 5 or HTTP at one place.

Theory of operation. No root is needed and nothing of this device is changed: a program that is
told to use the proxy uses the tunnel, every other does not. What a program asks for is dialled
through the tunnel (`ports.py`) by the client's own TCP; the program's socket is then joined to
that connection and takes no more part here. Names are looked up at the lease's resolver alone.

Bounds (`limits.py`): connections in all; those whose request is not complete, of which the oldest
gives way; the time that a request may take. What is refused has a counter with the reason's name.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections import Counter, OrderedDict
from dataclasses import dataclass

from client.model import ClientError
from client.outlet.proxy.access import Access, Caller, Sockets, end_of
from client.outlet.proxy.asking import Destination
from client.outlet.proxy.associations import UdpAssociation
from client.outlet.proxy.flows import Entry, ProxyFlows
from client.outlet.proxy.limits import (
    LINGER_TIME,
    MAX_CONNECTIONS,
    MAX_SPEAKING,
    REST,
    SPEAKING_TIME,
)
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.place import ProxyPlace, listen, remove
from client.outlet.proxy.ports import Dialer, Dialing
from client.outlet.proxy.visitor import EVENTS, Visitor
from eventloop.poller import NEVER, running_poller

_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """How the proxy is set up."""

    place: ProxyPlace
    password: str
    """What others than this user's programs need, with the name `vpnshare`."""
    chosen: bool = False
    """The user has set the password; without that no other device is let in."""
    pac: bool = False
    """Whether browsers' configuration file is handed out."""


class ProxyServer:
    """Listens, and owns every connection that is not joined to the tunnel yet."""

    def __init__(self, dialer: Dialer, config: ProxyConfig) -> None:
        """Runs on a `PolledLoop`."""
        self.dialer = dialer
        self.config = config
        self.pac = config.pac
        self.poller = running_poller()
        self.flows = ProxyFlows()
        self.counts: Counter[str] = Counter()
        """By name; `counters` for a copy."""
        self.associations: set[UdpAssociation] = set()
        self.alarm_at = NEVER
        self._kernel = Sockets()
        self.access = Access(config.password, self._kernel.find)
        self._listener: socket.socket | None = None
        self._here: tuple[bytes, int] | None = None
        """Our end of every connection; None where they differ, or have no address."""
        self._rest: asyncio.TimerHandle | None = None
        self._visitors: set[Visitor] = set()
        self._speaking: OrderedDict[Visitor, float] = OrderedDict()
        """With their deadlines, which come in the order in which they were entered."""
        self._ending: OrderedDict[Visitor, float] = OrderedDict()
        self._kept_back: list[Visitor] = []
        """Who has something to say when the batch is over."""
        self._joined: set[Dialing] = set()
        """Connections that are the dialler's, and end with the proxy."""

    @property
    def address(self) -> str:
        """Where it listens, as people write it; empty while it does not."""
        return str(self.config.place) if self._listener is not None else ""

    @property
    def counters(self) -> dict[str, int]:
        """How often what has happened."""
        return dict(self.counts)

    def count(self, name: str) -> None:
        self.counts[name] += 1

    def start(self) -> None:
        """Listen. Raises ClientError."""
        place = self.config.place
        if not place.loopback and not self.config.chosen:
            raise ClientError(
                "proxy_open",
                f"At {place} other devices would reach the proxy, and no password is set.",
                "Set one (vpnshare set client.proxy_password -), or leave the address out, "
                "so that this device alone can use the proxy.",
            )
        self._listener = listen(place)
        if not place.path:
            host, port = end_of(self._listener.getsockname())
            self._here = (host, port) if any(host) else None
        self.poller.attach(self)
        self.poller.watch(self._listener.fileno(), self, select.EPOLLIN)

    def close(self) -> None:
        """End it with all of its connections. Safe to call twice."""
        if self._listener is None:
            return
        if self._rest is not None:
            self._rest.cancel()
        self.poller.detach(self)
        self.poller.unwatch(self._listener.fileno())
        self._listener.close()
        self._listener = None
        remove(self.config.place)
        now = self.poller.clock()
        for visitor in tuple(self._visitors):
            visitor.close(now)
        for dialing in tuple(self._joined):
            dialing.abort()
        self._kernel.close()

    # Coming in.

    def ready(self, mask: int, now: float) -> None:
        """Let one in: what it asks for leaves before the next, of whom the poller tells again."""
        del mask
        if self._listener is None:
            return
        try:
            sock, there = self._listener.accept()
        except OSError as error:
            if error.errno in _FULL:
                self.count("proxy__no_descriptors__waits")
                self._rest_a_while()
            return
        self._come_in(sock, there, now)

    def _rest_a_while(self) -> None:
        """Who knocks waits in the backlog, instead of waking us again and again."""
        assert self._listener is not None
        self.poller.unwatch(self._listener.fileno())
        self._rest = asyncio.get_running_loop().call_later(REST, self._go_on)

    def _go_on(self) -> None:
        self._rest = None
        if self._listener is not None:
            self.poller.watch(self._listener.fileno(), self, select.EPOLLIN)

    def _come_in(self, sock: socket.socket, there: object, now: float) -> None:
        if len(self._visitors) + len(self._joined) >= MAX_CONNECTIONS:
            self.count("proxy__full__closed")
            sock.close()
            return
        if len(self._speaking) >= MAX_SPEAKING:
            oldest = next(iter(self._speaking))
            self.count("proxy__speaking__oldest_closed")
            oldest.close(now)
        sock.setblocking(False)
        self.counts["proxy__connections"] += 1
        visitor = Visitor(self, sock, self.access.caller(sock, there, self._here))
        self._visitors.add(visitor)
        self._speaking[visitor] = now + SPEAKING_TIME
        if self.alarm_at == NEVER:
            self._set_alarm()
        # Its first words are mostly there already; what they ask for goes before all else.
        visitor.listen(now)
        if visitor.listens:
            self.poller.watch(sock.fileno(), visitor, EVENTS)

    # What visitors report.

    def spoken(self, visitor: Visitor) -> None:
        """Its request is complete, or it has ended."""
        self._speaking.pop(visitor, None)

    def speak_later(self, visitor: Visitor) -> None:
        """It has something to say behind what the dialler, an owner before us, sends."""
        self._kept_back.append(visitor)

    def ending(self, visitor: Visitor, now: float) -> None:
        """Its last answer was given."""
        self._ending[visitor] = now + LINGER_TIME
        self._set_alarm()

    def over(self, visitor: Visitor, now: float) -> None:
        """It is closed."""
        del now
        self._speaking.pop(visitor, None)
        self._ending.pop(visitor, None)
        self._visitors.discard(visitor)

    def handed_over(self, visitor: Visitor, dialing: Dialing, entry: Entry) -> None:
        """Its socket is the dialler's; the flow stays in the table until that says it is over."""
        self._visitors.discard(visitor)
        self._join(dialing, entry)

    def _join(self, dialing: Dialing, entry: Entry) -> None:
        self._joined.add(dialing)

        def over() -> None:
            self._joined.discard(dialing)
            self.flows.leave(entry)

        dialing.on_over = over

    async def open_stream(
        self, destination: Destination, caller: Caller
    ) -> socket.socket | Outcome:
        """A stream through the tunnel for requests that are passed on."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Outcome] = loop.create_future()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        theirs.setblocking(False)
        entry = self.flows.enter("tcp", destination, caller, self.poller.clock())

        def outcome(what: Outcome, local: tuple[bytes, int] | None) -> None:
            del local
            if what is Outcome.OPENED:
                self._join(dialing, entry)
            if not done.done():
                done.set_result(what)

        dialing = self.dialer.connect(theirs, destination.host, destination.port, outcome)
        entry.figures = dialing
        try:
            what = await done
        except asyncio.CancelledError:
            if done.done() and not done.cancelled() and done.result() is Outcome.OPENED:
                ours.close()
                raise
            dialing.cancel()
            self.flows.leave(entry)
            ours.close()
            theirs.close()
            raise
        self.count(f"proxy__connect__{what.label}")
        if what is Outcome.OPENED:
            return ours
        self.flows.leave(entry)
        ours.close()
        theirs.close()
        return what

    # Time.

    def _set_alarm(self) -> None:
        """The earliest deadline of the two queues, each of which is in order."""
        at = NEVER
        for queue in (self._speaking, self._ending):
            if queue:
                at = min(at, next(iter(queue.values())))
        self.alarm_at = at

    def alarm(self, now: float) -> None:
        for queue, name in (
            (self._speaking, "proxy__speaking__timed_out"),
            (self._ending, "proxy__ending__timed_out"),
        ):
            while queue:
                visitor, at = next(iter(queue.items()))
                if at > now:
                    break
                self.count(name)
                visitor.close(now)
        self._set_alarm()

    def after_batch(self, now: float) -> None:
        del now
        if self._kept_back:
            speaking, self._kept_back = self._kept_back, []
            for visitor in speaking:
                visitor.speak()

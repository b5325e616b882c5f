"""One program's connection to the proxy, from its first byte to its end or its hand-over.

Theory of operation. A connection *speaks* until its request is complete: its first byte tells SOCKS
from HTTP. Then it *dials*: nothing is read, so what the program sends meanwhile waits in the
kernel; only its hanging up is heard. When the far side has answered the program is told, and the
socket is the splice's from then on: nothing of this remains but the entry in the flow table. A
refusal is answered, and the connection *ends* when the program has taken the answer. Requests of
plain HTTP are *relayed* by a task, datagrams *associated*: for both the connection stays here.
"""

from __future__ import annotations

import asyncio
import select
import socket
from enum import IntEnum
from typing import TYPE_CHECKING

from client.outlet.proxy.access import Caller, end_of
from client.outlet.proxy.asking import Destination, Misspoken, unmapped
from client.outlet.proxy.associations import UdpAssociation
from client.outlet.proxy.http1 import FIRST_BYTES, Asked, HttpServer, Wish
from client.outlet.proxy.limits import LINGER_BYTES, MAX_ASSOCIATIONS, READ_SIZE
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.pac import TYPE, pac_file
from client.outlet.proxy.relay import HttpRelay
from client.outlet.proxy.socks5 import REPLIES, Command, Reply, Request, SocksServer
from eventloop.tasks import create_task

if TYPE_CHECKING:
    from client.outlet.proxy.flows import Entry
    from client.outlet.proxy.ports import Dialing
    from client.outlet.proxy.server import ProxyServer

EVENTS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
"""What is told of a connection's socket. Never that there is room: answers are short."""
_GONE = select.EPOLLHUP | select.EPOLLERR
_TLS, _SOCKS4, _SOCKS5 = 0x16, 4, 5


class Stage(IntEnum):
    """What the connection is doing."""

    SPEAKING = 0
    DIALLING = 1
    RELAYING = 2
    ASSOCIATED = 3
    ENDING = 4
    OVER = 5


# In each connection's way: a name of a module costs a fifth of a member of an Enum.
_SPEAKING, _DIALLING, _RELAYING, _ASSOCIATED, _ENDING, _OVER = Stage
_OPENED = Outcome.OPENED
_ASSOCIATE = Command.ASSOCIATE
_CONNECT_OPENED = f"proxy__connect__{_OPENED.label}"


class Visitor:
    """Handler of the connection's socket."""

    __slots__ = (
        "_association", "_caller", "_destination", "_dialing", "_entry", "_forgotten", "_http",
        "_relay", "_server", "_socks", "_unsaid", "sock", "stage",
    )  # fmt: skip

    def __init__(self, server: ProxyServer, sock: socket.socket, caller: Caller) -> None:
        self.sock = sock
        self.stage = _SPEAKING
        self._server = server
        self._caller = caller
        self._socks: SocksServer | None = None
        self._http: HttpServer | None = None
        self._destination: Destination | None = None
        self._dialing: Dialing | None = None
        self._entry: Entry | None = None
        self._relay: asyncio.Task[Asked | None] | None = None
        self._association: UdpAssociation | None = None
        self._forgotten = 0
        self._unsaid = b""
        """What goes before the next answer."""

    @property
    def listens(self) -> bool:
        """Whether it wants to be told of its socket: neither over nor in a relay's hands."""
        return self.stage is not _OVER and self.stage is not _RELAYING

    def ready(self, mask: int, now: float) -> None:
        stage = self.stage
        if stage is _SPEAKING:
            self.listen(now)
        elif stage is _DIALLING:
            if mask & _GONE:
                self._server.count("proxy__dialling__hung_up__closed")
                self.close(now)
        elif stage is _ASSOCIATED or stage is _ENDING:
            self._discard(now)

    def listen(self, now: float) -> None:
        """Read as long as there is no request."""
        while self.stage == _SPEAKING:
            try:
                data = self.sock.recv(READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._server.count("proxy__speaking__hung_up__closed")
                self.close(now)
                return
            try:
                self._heard(data, now)
            except Misspoken as error:
                self._refuse(error, now)

    def _heard(self, data: bytes, now: float) -> None:
        """Raises Misspoken."""
        server = self._server
        if self._socks is None and self._http is None:
            first = data[0]
            if first in (_SOCKS5, _SOCKS4):
                self._socks = SocksServer(self._caller.known, server.access.right)
            elif first in FIRST_BYTES:
                self._http = HttpServer(self._caller.known, server.access.right)
            else:
                raise Misspoken("tls_unsupported" if first == _TLS else "garbage")
        if self._socks is not None:
            request = self._socks.receive(data)
            self._unsaid += self._socks.output
            self._socks.output = b""
            if request is None:
                self.speak()
            else:
                self._requested(request, self._socks.early, now)
        elif self._http is not None:
            asked = self._http.receive(data)
            if asked is not None:
                self._asked(asked, now)

    def _requested(self, request: Request, early: bytes, now: float) -> None:
        assert self._socks is not None
        if request.command is _ASSOCIATE:
            self._associate(request.destination, now)
        else:
            self._server.counts["proxy__socks__connect__asked"] += 1
            self._dial(request.destination, early, now)
            if self._unsaid:
                # The program waits for the far host, so the SYN goes first.
                self._server.speak_later(self)

    def _asked(self, asked: Asked, now: float) -> None:
        assert self._http is not None
        match asked.wish:
            case Wish.STREAM:
                assert asked.destination is not None
                self._server.count("proxy__http__connect__asked")
                self._dial(asked.destination, self._http.early, now)
            case Wish.FILE:
                self._server.count("proxy__http__pac__answered")
                self._say(self._pac(self._http, asked))
                self.end(now)
            case Wish.ONWARD:
                self._pass_on(asked, now)

    def _pac(self, http: HttpServer, asked: Asked) -> bytes:
        if not self._server.pac or self.sock.family == socket.AF_UNIX:
            return http.answer(404, "Start the client with --pac to have this file.\n")
        host, port = end_of(self.sock.getsockname())
        place = str(Destination(host, port))
        return http.answer(200, pac_file(place), kind=TYPE, without_body=asked.without_body)

    # A connection through the tunnel.

    def _dial(self, destination: Destination, early: bytes, now: float) -> None:
        server = self._server
        server.spoken(self)
        self.stage = _DIALLING
        self._destination = destination
        self._dialing = server.dialer.connect(
            self.sock, destination.host, destination.port, self._outcome, early
        )
        self._entry = server.flows.enter("tcp", destination, self._caller, now)
        self._entry.figures = self._dialing

    def _outcome(self, outcome: Outcome, local: tuple[bytes, int] | None) -> None:
        server = self._server
        assert self._destination is not None and self._dialing is not None
        if outcome is not _OPENED:
            server.count(f"proxy__connect__{outcome.label}")
            if self._socks is not None:
                self._say(self._socks.answer(REPLIES[outcome]))
            elif self._http is not None:
                self._say(self._http.fail(outcome, self._destination))
            self.end(server.poller.clock())
            return
        if self._socks is not None:
            host, port = local or (bytes(4), 0)
            self._say(self._socks.answer(Reply.SUCCEEDED, host, port))
        elif self._http is not None:
            self._say(self._http.accept_stream())
        server.counts[_CONNECT_OPENED] += 1
        self.stage = _OVER
        assert self._entry is not None
        server.handed_over(self, self._dialing, self._entry)

    # Plain HTTP.

    def _pass_on(self, asked: Asked, now: float) -> None:
        assert self._http is not None
        server = self._server
        server.spoken(self)
        self.stage = _RELAYING
        server.poller.unwatch(self.sock.fileno())
        relay = HttpRelay(self.sock, self._http, self._open, server.count)
        self._relay = create_task(relay.run(asked), "proxy-http")
        self._relay.add_done_callback(self._relayed)

    async def _open(self, destination: Destination) -> socket.socket | Outcome:
        return await self._server.open_stream(destination, self._caller)

    def _relayed(self, task: asyncio.Task[Asked | None]) -> None:
        if self.stage != _RELAYING:
            # The loop has let go of the descriptor only now.
            self.sock.close()
            return
        now = self._server.poller.clock()
        asked = None if task.cancelled() or task.exception() is not None else task.result()
        self._relay = None
        self._server.poller.watch(self.sock.fileno(), self, EVENTS)
        if asked is None:
            self.end(now)
            return
        # A program may go on with CONNECT, or ask for our file, on a connection that it keeps.
        self._asked(asked, now)

    # Datagrams.

    def _associate(self, named: Destination, now: float) -> None:
        server, socks = self._server, self._socks
        assert socks is not None
        server.count("proxy__socks__associate__asked")
        if self.sock.family == socket.AF_UNIX:
            # Datagrams need an address, and this connection has none.
            self._say(socks.answer(Reply.COMMAND_UNKNOWN))
            self.end(now)
            return
        if len(server.associations) >= MAX_ASSOCIATIONS:
            server.count("proxy__socks__associations_full__refused")
            self._say(socks.answer(Reply.FAILED))
            self.end(now)
            return
        try:
            here, there = end_of(self.sock.getsockname()), end_of(self.sock.getpeername())
            self._association = UdpAssociation(
                server.dialer, server.poller, server.access, self._caller, here,
                (unmapped(there[0]), named.port), server.count, now,
            )  # fmt: skip
        except OSError:
            server.count("proxy__socks__associate__failed")
            self._say(socks.answer(Reply.FAILED))
            self.end(now)
            return
        server.spoken(self)
        self.stage = _ASSOCIATED
        server.associations.add(self._association)
        self._entry = server.flows.enter("udp", None, self._caller, now)
        self._entry.figures = self._association
        self._say(socks.answer(Reply.SUCCEEDED, *self._association.place))
        # It may have closed already, which is not told twice.
        self._discard(now)

    # The end.

    def _refuse(self, error: Misspoken, now: float) -> None:
        kind = "socks" if self._socks is not None else "http" if self._http is not None else "any"
        self._server.count(f"proxy__{kind}__{error.reason}__refused")
        if self._socks is not None:
            self._say(self._socks.output)
        elif self._http is not None:
            self._say(self._http.refuse(error))
        self.end(now)

    def speak(self) -> None:
        """Say what was kept back, if that was not said yet."""
        self._say(b"")

    def _say(self, data: bytes) -> None:
        """Send what fits; what does not was not read by a program that had all the room."""
        data, self._unsaid = self._unsaid + data, b""
        if not data or self.stage == _OVER:
            return
        try:
            sent = self.sock.send(data)
        except OSError:
            sent = 0
        if sent < len(data):
            self._server.count("proxy__answer__not_taken")

    def end(self, now: float) -> None:
        """Nothing more is said: let the program take what was."""
        self._server.spoken(self)
        self.stage = _ENDING
        self._leave_table()
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close(now)
            return
        self._server.ending(self, now)
        self._discard(now)

    def _discard(self, now: float) -> None:
        """Read and forget, until the program closes."""
        while self.stage in (_ENDING, _ASSOCIATED):
            try:
                data = self.sock.recv(READ_SIZE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self._forgotten += len(data)
            if not data or self._forgotten > LINGER_BYTES:
                self.close(now)

    def close(self, now: float) -> None:
        """Let go of everything at once. Safe to call twice."""
        if self.stage == _OVER:
            return
        if self.stage == _DIALLING and self._dialing is not None:
            self._dialing.cancel()
        self.stage = _OVER
        self._leave_table()
        if self._association is not None:
            self._association.close()
            self._server.associations.discard(self._association)
        if self._relay is not None:
            self._relay.cancel()
        else:
            self._server.poller.forget(self.sock.fileno())
            self.sock.close()
        self._server.over(self, now)

    def _leave_table(self) -> None:
        if self._entry is not None:
            self._server.flows.leave(self._entry)
            self._entry = None

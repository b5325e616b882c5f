"""Plain HTTP requests, passed on one after the other.

Theory of operation. The program's connection is kept, as it wishes; the origin's is kept for as
long as the next request goes to the same place. Bodies pass in pieces, each direction by itself:
what the other side does not take is not read. h11 keeps both ends' states, and frames anew what
it passes, since the two hops may differ (a length here, chunks there).

A program that closes its half while it waits for an answer is taken for gone, as web servers do:
nothing tells it from one that has ended, and the origin would go on for nobody.

An origin that answers before it has taken all of the request's body ends that: its answer is
passed on, and the connections close. One that was kept and has gone when the next request comes
costs the program a new connection, which it makes by itself: nothing is answered (RFC 9112, 9.3.1).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import h11

from client.outlet.proxy.asking import Destination, Misspoken
from client.outlet.proxy.http1 import MAX_HEAD, Asked, HttpServer, Wish, passed_on
from client.outlet.proxy.limits import IDLE_TIME, RELAY_SIZE, SPEAKING_TIME
from client.outlet.proxy.outcome import Outcome

Opened = Callable[[Destination], Awaitable[socket.socket | Outcome]]
"""Opens a stream through the tunnel."""


class _Origin:
    """A stream to where requests are passed on."""

    __slots__ = ("conn", "destination", "sock", "used")

    def __init__(self, destination: Destination, sock: socket.socket) -> None:
        self.destination = destination
        self.sock = sock
        self.conn = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self.used = False

    def reusable(self) -> bool:
        """Ready for a request: both ends are done, and nothing has come since."""
        if self.conn.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            return False
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self.conn.start_next_cycle()
            self.used = True
            return True
        except OSError:
            return False
        return False


class HttpRelay:
    """One program's connection, from its first request that is passed on."""

    def __init__(
        self, sock: socket.socket, server: HttpServer, opened: Opened, count: Callable[[str], None]
    ) -> None:
        """`sock` stays the caller's to close."""
        self._sock = sock
        self._server = server
        self._opened = opened
        self._count = count
        self._origin: _Origin | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self, asked: Asked) -> Asked | None:
        """Pass on `asked` and what follows; a request of another kind, or None: it is over.

        What is to be said last has been said then.
        """
        try:
            next_one: Asked | None = asked
            while next_one is not None and next_one.wish is Wish.ONWARD:
                if not await self._pass_on(next_one):
                    return None
                next_one = await self._next()
            return next_one
        except TimeoutError:
            self._count("proxy__http__idle__closed")
        except Misspoken as error:
            self._count(f"proxy__http__{error.reason}__refused")
            await self._say(self._server.refuse(error))
        except (OSError, h11.ProtocolError):
            self._count("proxy__http__broken__closed")
        finally:
            self._let_go()
        return None

    def _let_go(self) -> None:
        if self._origin is not None:
            self._origin.sock.close()
            self._origin = None

    async def _say(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(SPEAKING_TIME):
                await self._loop.sock_sendall(self._sock, data)

    async def _next(self) -> Asked | None:
        """The program's next request; None: it has closed. Raises TimeoutError, Misspoken."""
        server = self._server
        server.conn.start_next_cycle()
        asked = server.receive(b"")
        limit = IDLE_TIME
        until = self._loop.time() + SPEAKING_TIME
        while asked is None:
            async with asyncio.timeout(limit):
                data = await self._loop.sock_recv(self._sock, RELAY_SIZE)
            if not data:
                return None
            if limit == IDLE_TIME:
                until = self._loop.time() + SPEAKING_TIME
            limit = until - self._loop.time()
            asked = server.receive(data)
        return asked

    async def _pass_on(self, asked: Asked) -> bool:
        """One request and its answer; whether another may follow."""
        assert asked.destination is not None and asked.onward is not None
        origin = self._origin
        if origin is None or origin.destination != asked.destination or not origin.reusable():
            self._let_go()
            opened = await self._opened(asked.destination)
            if isinstance(opened, Outcome):
                await self._say(self._server.fail(opened, asked.destination))
                return False
            origin = self._origin = _Origin(asked.destination, opened)
        self._count("proxy__http__request__forwarded")
        answer = asyncio.ensure_future(self._take_answer(origin, asked))
        sending = asyncio.ensure_future(self._send_request(origin, asked.onward, answer))
        try:
            await asyncio.wait([answer])
            if answer.cancelled():
                self._count("proxy__http__hung_up__closed")
                return False
            if not answer.result():
                return False
            if origin.conn.our_state is not h11.DONE:
                # The origin has said its last word, and does not wait for the rest of the body.
                return False
            await sending
        finally:
            self._loop.remove_reader(self._sock)
            for each in (sending, answer):
                each.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError, h11.ProtocolError):
                    await each
        states = self._server.conn.states
        return states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}

    async def _send_request(
        self, origin: _Origin, onward: h11.Request, answer: asyncio.Future[bool]
    ) -> None:
        loop, ours, theirs = self._loop, self._server.conn, origin.conn
        await loop.sock_sendall(origin.sock, theirs.send(onward) or b"")
        while True:
            event = ours.next_event()
            if event is h11.NEED_DATA:
                data = await loop.sock_recv(self._sock, RELAY_SIZE)
                ours.receive_data(data)
            elif isinstance(event, h11.Data):
                await loop.sock_sendall(origin.sock, theirs.send(h11.Data(data=event.data)) or b"")
            else:
                if isinstance(event, h11.EndOfMessage):
                    end = h11.EndOfMessage(headers=event.headers)
                    await loop.sock_sendall(origin.sock, theirs.send(end) or b"")
                    loop.add_reader(self._sock, self._heard_behind, answer)
                return

    def _heard_behind(self, answer: asyncio.Future[bool]) -> None:
        """Something came behind the request: the next one, which waits, or the end."""
        self._loop.remove_reader(self._sock)
        try:
            gone = not self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            gone = True
        if gone:
            answer.cancel()

    async def _take_answer(self, origin: _Origin, asked: Asked) -> bool:
        """Pass the answer on; False when there was none, or it was not whole."""
        loop, ours, theirs = self._loop, self._server.conn, origin.conn
        begun = False
        while True:
            try:
                event = theirs.next_event()
            except h11.RemoteProtocolError:
                self._count("proxy__http__origin_malformed__closed")
                if not begun:
                    await self._say(self._server.answer(
                        502, f"{asked.destination} does not answer as a web server does.\n",
                        without_body=asked.without_body,
                    ))  # fmt: skip
                return False
            if event is h11.NEED_DATA:
                theirs.receive_data(await loop.sock_recv(origin.sock, RELAY_SIZE))
                continue
            if isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                return False
            passed = self._onward(event)
            if passed is None:
                continue
            begun = begun or isinstance(event, h11.Response)
            data = ours.send(passed)
            if data:
                await loop.sock_sendall(self._sock, data)
            if isinstance(event, h11.EndOfMessage):
                return True

    def _onward(self, event: object) -> h11.Event | None:
        """An event of the origin's as the program gets it; None: it does not."""
        match event:
            case h11.InformationalResponse():
                older = self._server.conn.their_http_version in (b"1.0", None)
                if older or event.status_code == 101:
                    return None
                return h11.InformationalResponse(
                    status_code=event.status_code, headers=passed_on(event.headers),
                    reason=event.reason,
                )  # fmt: skip
            case h11.Response():
                return h11.Response(
                    status_code=event.status_code, headers=passed_on(event.headers),
                    reason=event.reason,
                )  # fmt: skip
            case h11.Data():
                return h11.Data(data=event.data)
            case h11.EndOfMessage():
                return h11.EndOfMessage(headers=event.headers)
        return None

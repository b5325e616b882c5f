"""One question to the VPN's resolvers, until one answers: the wire side of the forwarder.

Theory of operation. An `Exchange` asks servers in order, each attempt over a
fresh UDP socket from the guard, so that every attempt has a random source
port, a random ID and, where the server keeps it, a random spelling of the name
(0x20): what an off-path attacker must guess. An attempt stays open while the
next ones run, since a late answer is as good; the first that proves itself
ends the exchange.

An answer proves itself by its sender's address, the ID, and the question
repeated to the letter. Others are counted and dropped; after `MAX_JUNK` of
them, and also when just the letters' case differs, the same server is asked
over TCP, which cannot be answered from off the path. A server whose TCP
answers too change the case `CASE_PROOFS` times in a row is no longer asked
with mixed case.

A truncated answer is asked again over TCP. SERVFAIL and REFUSED try the next
server first, and are passed on when none does better. Everything else a server
says is the answer.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable

from gateway.dns.message import (
    FLAG_TC,
    HEADER_SIZE,
    REFUSED,
    SERVFAIL,
    Answer,
    MalformedMessage,
    Query,
    parse_answer,
)
from gateway.dns.streams import StreamAttempt, length_prefixed
from gateway.dns.upstreams import Server, Upstreams
from gateway.vpn.guard import EgressGuard

ATTEMPTS = (1.0, 1.5, 2.0, 2.0)
"""Seconds that each attempt has alone; the servers take turns."""
TCP_TIMEOUT = 4.0
DEADLINE = 6.0
"""Seconds for all of it: clients' own resolvers give up after 5 to 10."""
MAX_JUNK = 16
"""Datagrams in one exchange that are not the answer, before UDP is distrusted."""
CASE_PROOFS = 3
RECEIVE_SIZE = 65535

Done = Callable[[bytes | None, Answer | None], None]


class Relay:
    """Opens exchanges; what they share."""

    def __init__(self, guard: EgressGuard, upstreams: Upstreams, counters: dict[str, int]) -> None:
        self.guard = guard
        self.upstreams = upstreams
        self._counters = counters

    def ask(self, wire: bytes, query: Query, done: Done) -> Exchange | None:
        """Ask; `done` gets the answer with its own question's ID and spelling restored, or None.

        None is returned at once when there is nobody to ask; `done` is then not called.
        """
        now = asyncio.get_running_loop().time()
        servers = self.upstreams.servers(now)
        if not servers:
            self.count("dns__upstream__none")
            return None
        exchange = Exchange(self, servers, wire, query, done)
        exchange.start()
        return exchange

    def describe(self) -> tuple[str, ...]:
        now = asyncio.get_running_loop().time()
        return tuple(str(server) for server in self.upstreams.servers(now))

    def count(self, name: str) -> None:
        self._counters[name] = self._counters.get(name, 0) + 1


class Exchange:
    """One question on its way. Ends by `done`, or by `close`."""

    __slots__ = (
        "_best",
        "_datagrams",
        "_deadline",
        "_distrusted",
        "_done",
        "_junk",
        "_loop",
        "_over_tcp",
        "_pending",
        "_query",
        "_relay",
        "_servers",
        "_streams",
        "_timer",
        "_tries",
        "_wire",
    )

    def __init__(
        self, relay: Relay, servers: tuple[Server, ...], wire: bytes, query: Query, done: Done
    ) -> None:
        self._relay = relay
        self._servers = servers
        self._wire = wire
        self._query = query
        self._done: Done | None = done
        self._loop = asyncio.get_running_loop()
        self._datagrams: list[_Datagram] = []
        self._streams: list[StreamAttempt] = []
        self._over_tcp: set[Server] = set()
        self._distrusted: set[Server] = set()
        self._pending = 0
        self._tries = 0
        self._junk = 0
        self._best: tuple[bytes, Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = self._loop.call_later(DEADLINE, self._on_deadline)

    def start(self) -> None:
        # From the loop, so that `done` is never called before `ask` has returned.
        self._timer = self._loop.call_later(0, self._next)

    def close(self) -> None:
        """Give up without a word."""
        self._done = None
        self._release()

    def _release(self) -> None:
        self._deadline.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for datagram in self._datagrams:
            datagram.close()
        for stream in self._streams:
            stream.close()

    def _finish(self, wire: bytes | None, answer: Answer | None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        self._release()
        if wire is not None:
            restored = bytearray(wire)
            restored[0:2] = self._wire[0:2]
            restored[HEADER_SIZE : self._query.name_end] = self._wire[
                HEADER_SIZE : self._query.name_end
            ]
            wire = bytes(restored)
        done(wire, answer)

    def _on_deadline(self) -> None:
        if self._best is None:
            self._relay.count("dns__upstream__timeout")
            self._finish(None, None)
        else:
            self._finish(*self._best)

    def _next(self) -> None:
        """The next attempt; when there are none left, the wait for those under way."""
        self._timer = None
        while self._tries < len(ATTEMPTS):
            number, self._tries = self._tries, self._tries + 1
            server = self._servers[number % len(self._servers)]
            if number >= len(self._servers):
                self._relay.upstreams.failed(server, self._loop.time())
            if server in self._over_tcp:
                continue
            if self._ask_datagram(server):
                self._timer = self._loop.call_later(ATTEMPTS[number], self._next)
                return
        if not self._pending and not any(d.open for d in self._datagrams):
            self._give_up()
        elif not self._pending:
            self._timer = self._loop.call_later(ATTEMPTS[-1], self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        for server in self._servers:
            self._relay.upstreams.failed(server, self._loop.time())
        self._on_deadline()

    def _hurry(self) -> None:
        """This attempt failed by word, not by silence: the next one need not wait."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(0, self._next)

    def _message(self, server: Server) -> bytes:
        """The question with a random ID and, unless it must stay as it is, random case."""
        message = bytearray(self._wire)
        message[0:2] = secrets.token_bytes(2)
        if self._query.plain and not self._lowers_case(server):
            mix_case(message, self._query.name_end)
        return bytes(message)

    def _lowers_case(self, server: Server) -> bool:
        return self._relay.upstreams.health(server).lowers_case >= CASE_PROOFS

    def _open(self, server: Server, kind: int) -> socket.socket | None:
        try:
            if server.loopback:
                return self._relay.guard.loopback_socket(server.family, kind)
            return self._relay.guard.open(server.family, kind)
        except OSError:
            self._relay.count("dns__upstream__no_socket")
            return None

    def _ask_datagram(self, server: Server) -> bool:
        sock = self._open(server, socket.SOCK_DGRAM)
        if sock is None:
            return False
        message = self._message(server)
        try:
            sock.sendto(message, (server.address, server.port))
        except OSError:
            self._relay.count("dns__upstream__send_failed")
            sock.close()
            return False
        self._datagrams.append(_Datagram(self, sock, server, message))
        self._relay.count("dns__upstream__sent")
        return True

    def from_network(self, datagram: _Datagram, wire: bytes, sender: tuple[str, int]) -> None:
        """A datagram came: it ends the exchange, or is dropped."""
        if sender != (datagram.server.address, datagram.server.port):
            self._drop("wrong_sender", datagram)
            return
        if wire[0:2] != datagram.message[0:2]:
            self._drop("wrong_id", datagram)
            return
        try:
            answer = parse_answer(wire)
        except MalformedMessage:
            self._drop("malformed", datagram)
            return
        name = slice(HEADER_SIZE, self._query.name_end)
        question = slice(HEADER_SIZE, self._query.question_end)
        if wire[question] != datagram.message[question]:
            same = wire[name].lower() == datagram.message[name].lower()
            if (
                same
                and wire[name.stop : question.stop] == datagram.message[name.stop : question.stop]
            ):
                if self._lowers_case(datagram.server):
                    self._judge(datagram.server, wire, answer)
                    return
                self._relay.count("dns__answer__wrong_case")
                self._ask_stream(datagram.server)
            else:
                self._drop("wrong_question", datagram)
            return
        if answer.flags & FLAG_TC:
            self._relay.count("dns__answer__truncated")
            self._best = self._best or (wire, answer)
            datagram.close()
            self._ask_stream(datagram.server)
            return
        self._judge(datagram.server, wire, answer)

    def _drop(self, why: str, datagram: _Datagram) -> None:
        self._relay.count(f"dns__answer__{why}")
        self._junk += 1
        if self._junk >= MAX_JUNK:
            self._relay.count("dns__answer__distrusted")
            datagram.close()
            self._ask_stream(datagram.server)

    def _judge(self, server: Server, wire: bytes, answer: Answer) -> None:
        """A proven answer: the end, unless another server may do better."""
        self._relay.upstreams.answered(server)
        if answer.rcode in (SERVFAIL, REFUSED) and self._tries < len(self._servers):
            self._best = (wire, answer)
            self._hurry()
            return
        self._relay.count("dns__upstream__answered")
        self._finish(wire, answer)

    def _ask_stream(self, server: Server) -> None:
        """Ask a server over TCP, once."""
        if server in self._over_tcp:
            return
        self._over_tcp.add(server)
        sock = self._open(server, socket.SOCK_STREAM)
        if sock is None:
            self._hurry()
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(TCP_TIMEOUT, self._next)
        message = self._message(server)
        self._pending += 1
        self._relay.count("dns__upstream__sent_tcp")
        self._streams.append(
            StreamAttempt(
                sock,
                (server.address, server.port),
                len(message).to_bytes(2, "big") + message,
                length_prefixed,
                lambda wire: self._from_stream(server, message, wire),
            )
        )

    def _from_stream(self, server: Server, message: bytes, wire: bytes | None) -> None:
        self._pending -= 1
        question = slice(HEADER_SIZE, self._query.question_end)
        name = slice(HEADER_SIZE, self._query.name_end)
        try:
            if wire is None:
                raise MalformedMessage("no answer")
            answer = parse_answer(wire)
            kept = wire[question] == message[question]
            if wire[0:2] != message[0:2] or (
                not kept
                and wire[name].lower() + wire[name.stop : question.stop]
                != message[name].lower() + message[name.stop : question.stop]
            ):
                raise MalformedMessage("not the answer to this question")
        except MalformedMessage:
            self._relay.count("dns__upstream__tcp_failed")
            self._hurry()
            return
        if message[name] != message[name].lower() and not self._lowers_case(server):
            health = self._relay.upstreams.health(server)
            health.lowers_case = 0 if kept else health.lowers_case + 1
        self._judge(server, wire, answer)


class _Datagram:
    """One attempt's socket."""

    __slots__ = ("_exchange", "_sock", "message", "server")

    def __init__(
        self, exchange: Exchange, sock: socket.socket, server: Server, message: bytes
    ) -> None:
        self._exchange = exchange
        self._sock: socket.socket | None = sock
        self.server = server
        self.message = message
        exchange._loop.add_reader(sock.fileno(), self._on_readable)

    @property
    def open(self) -> bool:
        return self._sock is not None

    def close(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            self._exchange._loop.remove_reader(sock.fileno())
            sock.close()

    def _on_readable(self) -> None:
        for _ in range(MAX_JUNK):
            if self._sock is None:
                return
            try:
                wire, sender = self._sock.recvfrom(RECEIVE_SIZE)
            except OSError:
                return
            self._exchange.from_network(self, wire, (sender[0], sender[1]))


def mix_case(message: bytearray, name_end: int) -> None:
    """Spell the question's letters by random bits (draft-vixie-dnsext-dns0x20)."""
    bits = secrets.randbits(8 * (name_end - HEADER_SIZE))
    offset = HEADER_SIZE
    while message[offset]:
        after = offset + 1 + message[offset]
        for at in range(offset + 1, after):
            if 0x41 <= message[at] & 0xDF <= 0x5A:
                message[at] ^= (bits & 1) << 5
                bits >>= 1
        offset = after

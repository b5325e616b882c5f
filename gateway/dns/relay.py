"""One question to the VPN's resolvers, until one answers: the wire side of the forwarder.

Theory of operation. An `Exchange` asks servers in order, each attempt over a
fresh UDP socket from the guard, so that every attempt has a random source
port, a random ID and a random spelling of the name (0x20): what an off-path
attacker must guess. An attempt stays open while the next ones run, since a
late answer is as good; the first that proves itself ends the exchange.

An answer proves itself by its sender's address, the ID, and the question
repeated to the letter. Others are counted and dropped; after `MAX_JUNK` of
them the same server is asked over TCP, which cannot be answered from off the
path.

Honest servers fall short of that, so there are ways back, none of which an
attacker off the path can take:

- Short of proof is an answer in other letters' case, an error without the
  question, and whatever answers a question in lower case. It sends the question
  to TCP; where that fails, or keeps silent for `HEAD_START`, the same is asked
  again over a new socket, and the `PROOFS`th such answer counts. A forger would
  have to guess port and ID as many times in a row, before the first true answer.
- A name that a server denies, or fails at, in mixed case is asked for in lower
  case. The same word again confirms the first; another is short of proof.
- A server that is silent is asked in lower case in later attempts.

What is remembered of a server, so that later questions need no way back, is
`upstreams.Health`.

A truncated answer is asked again over TCP. An error tries the next server
first, and is passed on when none does better. Everything else a server says is
the answer.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from enum import Enum

from gateway.dns.proof import Proof, examine, spelled
from gateway.dns.streams import StreamAttempt, length_prefixed
from gateway.dns.upstreams import NO_TCP_TIME, Health, Server, Upstreams
from gateway.vpn.guard import EgressGuard
from netstack.dns import (
    FORMERR,
    HEADER_SIZE,
    NOERROR,
    NOTIMP,
    REFUSED,
    SERVFAIL,
    Answer,
    Query,
    parse_answer,
    truncated_reply,
    whole_error,
)

ATTEMPTS = (1.0, 1.5, 2.0, 2.0)
"""Seconds that each attempt has alone; the servers take turns."""
MIXED_ATTEMPTS = 2
"""Attempts, and at least one at each server, before a silent one is asked in lower case."""
TCP_TIMEOUT = 4.0
HEAD_START = 1.0
"""Seconds that TCP has where there is another way to prove an answer."""
CONFIRM_TIME = 1.0
"""Seconds to confirm a denial in lower case; after that it stands."""
DEADLINE = 6.0
"""Seconds for all of it: clients' own resolvers give up after 5 to 10."""
MAX_JUNK = 16
"""Datagrams in one exchange that are not the answer, before UDP is distrusted."""
PROOFS = 3
"""Answers over sockets of their own that together prove what each alone does not."""
MAX_DATAGRAMS = 16
"""Sent in one exchange."""
RECEIVE_SIZE = 65535

FAILURES = frozenset((FORMERR, SERVFAIL, NOTIMP, REFUSED))
"""Errors after which another server may do better."""

Done = Callable[[bytes | None, Answer | None], None]


class Spelling(Enum):
    """How a question was spelled."""

    AS_IS = "as it is"
    """There is nothing to vary, or the server is known to need it so."""
    MIXED = "mixed"
    LOWER = "lower"
    """As a way back from mixed case."""


ENOUGH = {
    Proof.WHOLE: (Spelling.AS_IS, Spelling.MIXED),
    Proof.RESPELLED: (Spelling.AS_IS,),
}
"""What a datagram has to show, by how the question was spelled, to count alone."""


class Tcp(Enum):
    """How far a server was asked over TCP."""

    NOT_ASKED = "not asked"
    ASKED = "asked"
    LATE = "late"
    """Silent for so long that the question goes on elsewhere; an answer still counts."""
    FAILED = "failed"


class Relay:
    """Opens exchanges; what they share."""

    def __init__(self, guard: EgressGuard, upstreams: Upstreams, counters: dict[str, int]) -> None:
        self.guard = guard
        self.upstreams = upstreams
        self._counters = counters

    def ask(self, wire: bytes, query: Query, done: Done) -> Exchange | None:
        """Ask; `done` gets the answer with its own question's ID and spelling restored, or None.

        A plain question is in lower case. None is returned at once when there is nobody to
        ask; `done` is then not called.
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


class _Trial:
    """What one exchange has had of one server."""

    __slots__ = ("denial", "spelling", "tcp", "unproven")

    def __init__(self) -> None:
        self.tcp = Tcp.NOT_ASKED
        self.unproven = 0
        """Answers short of proof."""
        self.spelling = Spelling.MIXED
        """Of the question that was last so answered."""
        self.denial: tuple[bytes, Answer] | None = None
        """Proven, but for that the name was in mixed case."""


class Exchange:
    """One question on its way. Ends by `done`, or by `close`."""

    __slots__ = (
        "_best",
        "_datagrams",
        "_deadline",
        "_done",
        "_junk",
        "_loop",
        "_pending",
        "_query",
        "_relay",
        "_servers",
        "_streams",
        "_timer",
        "_trials",
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
        self._trials = {server: _Trial() for server in servers}
        self._pending = 0
        self._tries = 0
        self._junk = 0
        self._best: tuple[bytes, Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = self._loop.call_later(DEADLINE, self._on_deadline)

    def start(self) -> None:
        # From the loop, so that `done` is never called before `ask` has returned.
        self._wait(0, self._next)

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
        if wire is not None and answer is not None:
            end = self._query.question_end
            if answer.bare:
                wire = whole_error(wire, self._wire[HEADER_SIZE:end])
                answer = parse_answer(wire)
            wire = self._wire[0:2] + wire[2:HEADER_SIZE] + self._wire[HEADER_SIZE:end] + wire[end:]
        done(wire, answer)

    def _on_deadline(self) -> None:
        if self._best is None:
            self._relay.count("dns__upstream__timeout")
            self._finish(None, None)
        else:
            self._finish(*self._best)

    # ---- what is done next

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        """What happens if nothing comes for so long."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, then)

    def _next(self) -> None:
        """The next attempt; when there are none left, the wait for those under way."""
        while self._tries < len(ATTEMPTS):
            number, self._tries = self._tries, self._tries + 1
            server = self._servers[number % len(self._servers)]
            if number >= len(self._servers):
                self._relay.upstreams.failed(server, self._loop.time())
            trial = self._trials[server]
            if trial.tcp is Tcp.ASKED or (trial.tcp is not Tcp.NOT_ASKED and not trial.unproven):
                continue
            way_back = number >= max(MIXED_ATTEMPTS, len(self._servers))
            if self._ask_datagram(server, Spelling.LOWER if way_back else trial.spelling):
                self._wait(ATTEMPTS[number], self._next)
                return
        if not self._pending and not any(d.open for d in self._datagrams):
            self._give_up()
        elif not self._pending:
            self._wait(ATTEMPTS[-1], self._give_up)

    def _give_up(self) -> None:
        for server in self._servers:
            self._relay.upstreams.failed(server, self._loop.time())
        self._on_deadline()

    def _hurry(self) -> None:
        """This attempt failed by word, not by silence: the next one need not wait."""
        self._wait(0, self._next)

    def _again(self, server: Server) -> None:
        """Ask for the next of the answers that only together prove something."""
        if self._ask_datagram(server, self._trials[server].spelling):
            self._wait(ATTEMPTS[0], self._next)
        else:
            self._hurry()

    # ---- questions

    def _health(self, server: Server) -> Health:
        return self._relay.upstreams.health(server)

    def _message(self, server: Server, spelling: Spelling) -> tuple[bytes, Spelling]:
        """The question with a random ID, and spelled so, where it may be and that makes a
        difference."""
        wire, end = self._wire, self._query.name_end
        name = wire[HEADER_SIZE:end]
        if not self._query.plain or self._health(server).plain_until > self._loop.time():
            spelling = Spelling.AS_IS
        elif spelling is Spelling.MIXED:
            mixed = spelled(name, secrets.randbits(8 * len(name)))
            spelling = Spelling.AS_IS if mixed == name else Spelling.MIXED
            name = mixed
        elif name == name.upper():
            spelling = Spelling.AS_IS
        return secrets.token_bytes(2) + wire[2:HEADER_SIZE] + name + wire[end:], spelling

    def _open(self, server: Server, kind: int) -> socket.socket | None:
        try:
            if server.loopback:
                return self._relay.guard.loopback_socket(server.family, kind)
            return self._relay.guard.open(server.family, kind)
        except OSError:
            self._relay.count("dns__upstream__no_socket")
            return None

    def _ask_datagram(self, server: Server, spelling: Spelling) -> bool:
        if len(self._datagrams) >= MAX_DATAGRAMS:
            return False
        sock = self._open(server, socket.SOCK_DGRAM)
        if sock is None:
            return False
        message, spelling = self._message(server, spelling)
        try:
            sock.sendto(message, (server.address, server.port))
        except OSError:
            self._relay.count("dns__upstream__send_failed")
            sock.close()
            return False
        self._datagrams.append(_Datagram(self, sock, server, message, spelling))
        self._relay.count("dns__upstream__sent")
        return True

    def _ask_stream(
        self,
        server: Server,
        spelling: Spelling,
        patience: float = TCP_TIMEOUT,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Ask a server over TCP, once."""
        trial = self._trials[server]
        if trial.tcp is not Tcp.NOT_ASKED:
            return
        trial.tcp = Tcp.ASKED
        sock = self._open(server, socket.SOCK_STREAM)
        if sock is None:
            self._no_stream(server)
            return
        self._wait(patience, then or self._next)
        message, spelling = self._message(server, spelling)
        self._pending += 1
        self._relay.count("dns__upstream__sent_tcp")
        self._streams.append(
            StreamAttempt(
                sock,
                (server.address, server.port),
                len(message).to_bytes(2, "big") + message,
                length_prefixed,
                lambda wire: self._from_stream(server, message, spelling, wire),
            )
        )

    # ---- what comes

    def from_network(self, datagram: _Datagram, wire: bytes, sender: tuple[str, int]) -> None:
        """A datagram came: it ends the exchange, leads on, or is dropped."""
        if sender != (datagram.server.address, datagram.server.port):
            self._drop("wrong_sender", datagram)
            return
        server = datagram.server
        proof, answer = examine(datagram.message, self._query, wire)
        if answer is None or proof is Proof.WRONG_QUESTION:
            self._drop(proof.value, datagram)
            return
        if proof is not Proof.WHOLE:
            self._relay.count(f"dns__answer__{proof.value}")
        if proof is Proof.CUT:
            self._best = self._best or (_cut(wire, self._query), answer)
            datagram.close()
            self._ask_stream(server, datagram.spelling)
            return
        if datagram.spelling in ENOUGH.get(proof, ()):
            self._judge(server, datagram.spelling, wire, answer)
        else:
            self._weigh(datagram, proof, wire, answer)

    def _drop(self, why: str, datagram: _Datagram) -> None:
        self._relay.count(f"dns__answer__{why}")
        self._junk += 1
        if self._junk >= MAX_JUNK:
            self._relay.count("dns__answer__distrusted")
            datagram.close()
            self._ask_stream(datagram.server, datagram.spelling)

    def _weigh(self, datagram: _Datagram, proof: Proof, wire: bytes, answer: Answer) -> None:
        """An answer short of proof: look for a better one, or enough of its like."""
        server, trial = datagram.server, self._trials[datagram.server]
        datagram.close()
        if datagram.spelling is Spelling.LOWER and trial.denial is not None:
            denied = trial.denial[1]
            if answer.rcode == denied.rcode and not answer.records:
                self._conclude(server, *trial.denial)
                return
        trial.unproven += 1
        if trial.unproven >= PROOFS:
            if proof is Proof.RESPELLED and datagram.spelling is Spelling.MIXED:
                self._health(server).lowers_case(self._loop.time())
            lower = datagram.spelling is Spelling.LOWER
            self._judge(server, Spelling.LOWER if lower else Spelling.AS_IS, wire, answer)
            return
        trial.spelling = datagram.spelling
        if trial.tcp in (Tcp.LATE, Tcp.FAILED):
            self._again(server)
        elif trial.tcp is Tcp.NOT_ASKED:
            if self._health(server).no_tcp_until > self._loop.time():
                trial.tcp = Tcp.FAILED
                self._again(server)
            else:
                self._ask_stream(
                    server, datagram.spelling, HEAD_START, lambda: self._stream_late(server)
                )

    def _stream_late(self, server: Server) -> None:
        self._trials[server].tcp = Tcp.LATE
        self._health(server).no_tcp_until = self._loop.time() + NO_TCP_TIME
        self._again(server)

    def _no_stream(self, server: Server) -> None:
        trial = self._trials[server]
        late, trial.tcp = trial.tcp is Tcp.LATE, Tcp.FAILED
        self._health(server).no_tcp_until = self._loop.time() + NO_TCP_TIME
        if not trial.unproven:
            self._hurry()
        elif not late:
            self._again(server)

    def _from_stream(
        self, server: Server, message: bytes, spelling: Spelling, wire: bytes | None
    ) -> None:
        self._pending -= 1
        proof, answer = examine(message, self._query, wire or b"")
        if wire is None or answer is None or proof is Proof.WRONG_QUESTION:
            self._relay.count("dns__upstream__tcp_failed")
            self._no_stream(server)
            return
        self._health(server).no_tcp_until = 0.0
        if proof is Proof.RESPELLED and spelling is Spelling.MIXED:
            self._health(server).lowers_case(self._loop.time())
        if proof is Proof.CUT:
            wire = _cut(wire, self._query)
        # Where the case was changed it cannot have been minded.
        self._judge(server, spelling if proof is Proof.WHOLE else Spelling.AS_IS, wire, answer)

    def _judge(self, server: Server, spelling: Spelling, wire: bytes, answer: Answer) -> None:
        """A proven answer: the end, unless lower case or another server may do better."""
        self._relay.upstreams.answered(server)
        health, trial = self._health(server), self._trials[server]
        found = answer.rcode == NOERROR and answer.records > 0
        if spelling is Spelling.MIXED and not answer.bare:
            health.keeps_case(found)
            if answer.rcode != NOERROR or not (found or health.found_mixed):
                self._confirm(server, wire, answer)
                return
        elif spelling is Spelling.LOWER and found:
            health.finds_lower_only(self._loop.time())
        elif trial.denial is not None and not found:
            wire, answer = trial.denial
        self._conclude(server, wire, answer)

    def _confirm(self, server: Server, wire: bytes, answer: Answer) -> None:
        """See whether lower case makes a difference to a denial."""
        trial = self._trials[server]
        if trial.denial is not None:
            return  # That is under way.
        trial.denial = (wire, answer)
        self._best = trial.denial
        if self._ask_datagram(server, Spelling.LOWER):
            self._relay.count("dns__upstream__confirmed")
            self._wait(CONFIRM_TIME, lambda: self._conclude(server, wire, answer))
        else:
            self._conclude(server, wire, answer)

    def _conclude(self, server: Server, wire: bytes, answer: Answer) -> None:
        if answer.rcode in FAILURES and self._tries < len(self._servers):
            self._best = (wire, answer)
            self._hurry()
            return
        self._relay.count("dns__upstream__answered")
        self._finish(wire, answer)


def _cut(wire: bytes, query: Query) -> bytes:
    """A truncated answer as it is passed on where nobody has the whole."""
    return truncated_reply(wire, query.question_end, query.edns is not None)


class _Datagram:
    """One attempt's socket."""

    __slots__ = ("_exchange", "_sock", "message", "server", "spelling")

    def __init__(
        self,
        exchange: Exchange,
        sock: socket.socket,
        server: Server,
        message: bytes,
        spelling: Spelling,
    ) -> None:
        self._exchange = exchange
        self._sock: socket.socket | None = sock
        self.server = server
        self.message = message
        self.spelling = spelling
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

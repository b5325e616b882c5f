"""Names, asked at the lease's resolver over the stack: pure.

Theory of operation. A question for a name is two, A and AAAA, sent at once from the resolver's
UDP port (RFC 8305, section 3: an answer is used when it comes, not when both have). One that is
not answered is sent again, to the lease's two resolver addresses in turn; while there is no link
it waits. An answer counts if it has the id and the very question, and comes from whom was asked.
One that is truncated is asked again by TCP (RFC 7766), over a connection of the stack's own.

What comes of each half is told once: addresses, that there are none, or that nobody knew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from client.outlet.proxy.outcome import Outcome
from netstack.dns import (
    ADDRESS_SIZES,
    FLAG_TC,
    HEADER_SIZE,
    NOERROR,
    NXDOMAIN,
    TYPE_A,
    TYPE_AAAA,
    MalformedMessage,
    address_question,
    parse_answer,
    wire_name,
)
from splice.timers import NEVER

if TYPE_CHECKING:
    from client.outlet.proxy.outgoing import Outgoing
    from client.outlet.proxy.stack import Stack

DNS_PORT = 53
RETRANSMIT = (1.0, 2.0, 3.0, 4.0)
"""Seconds after each sending until the next one; after the last the question is given up."""
MAX_QUESTIONS = 1_024
"""Halves of questions that are out at a time."""
MAX_ADDRESSES = 16
"""Addresses of a half that are used: nobody tries more."""
MAX_TCP_ANSWER = 65535

OnHalf = Callable[[int, Outcome, list[bytes]], None]
"""Told the version (4, 6), and OPENED with addresses, or NO_SUCH_NAME or NAMES_FAILED."""


class Half:
    """One question, for the addresses of one family."""

    __slots__ = (
        "_id",
        "_on_half",
        "_question",
        "_resolver",
        "_sent",
        "_tcp",
        "_tries",
        "timer",
        "version",
    )

    def __init__(
        self, resolver: Resolver, ident: int, question: bytes, version: int, on_half: OnHalf
    ) -> None:
        self._resolver = resolver
        self._id = ident
        self._question = question
        self._on_half: OnHalf | None = on_half
        self._tries = 0
        self._sent = 0.0
        self._tcp: Outgoing | None = None
        self.version = version
        self.timer = NEVER

    @property
    def ident(self) -> bytes:
        """The id, as it begins the message."""
        return self._question[:2]

    def ask(self, now: float) -> None:
        """Send it, for the first time or again."""
        self._resolver.send(self._question, self._tries)
        self._tries += 1
        self._sent = now

    def due(self) -> float:
        if self._on_half is None:
            return NEVER
        return self._sent + RETRANSMIT[self._tries - 1]

    def handle_timer(self, now: float) -> None:
        if self._on_half is None or now < self.due():
            return
        if self._tries >= len(RETRANSMIT):
            self._over(Outcome.NAMES_FAILED, [])
        elif self._tcp is not None:
            # The connection has timers of its own; only the patience is ours.
            self._tries += 1
            self._sent = now
        else:
            self.ask(now)

    def answered(self, wire: bytes, by_tcp: bool, now: float) -> None:
        """An answer with this id has come, from whom was asked."""
        end = len(self._question)
        if wire[HEADER_SIZE:end].lower() != self._question[HEADER_SIZE:].lower():
            return
        try:
            answer = parse_answer(wire)
        except MalformedMessage:
            return
        if answer.flags & FLAG_TC and not by_tcp:
            self._ask_by_tcp(now)
            return
        if answer.rcode == NXDOMAIN:
            self._over(Outcome.NO_SUCH_NAME, [])
            return
        if answer.rcode != NOERROR:
            self._over(Outcome.NAMES_FAILED, [])
            return
        wanted = TYPE_A if self.version == 4 else TYPE_AAAA
        found = [
            wire[start:stop]
            for additional, kind, start, stop in answer.addresses
            if not additional and kind == wanted and stop - start == ADDRESS_SIZES[wanted]
        ][:MAX_ADDRESSES]
        self._over(Outcome.OPENED if found else Outcome.NO_SUCH_NAME, found)

    def _ask_by_tcp(self, now: float) -> None:
        if self._tcp is not None:
            return
        stack = self._resolver.stack
        host = self._resolver.servers()[0]
        flow = stack.connect(host, DNS_PORT, self._connected, now)
        if flow is None:
            self._over(Outcome.NAMES_FAILED, [])
            return
        self._tcp = flow

    def _connected(self, flow: Outgoing, outcome: Outcome, now: float) -> None:
        if self._on_half is None:
            flow.abandon(now)
        elif outcome is Outcome.OPENED:
            length = len(self._question).to_bytes(2, "big")
            flow.begin(_Exchange(length + self._question, self, self._resolver.stack), now)
        else:
            self._tcp = None
            self._over(Outcome.NAMES_FAILED, [])

    def broken(self) -> None:
        """The TCP connection ended without an answer."""
        self._over(Outcome.NAMES_FAILED, [])

    def cancel(self) -> None:
        """Nobody wants to know any more. Safe to call twice."""
        self._on_half = None
        self._end()

    def _over(self, outcome: Outcome, found: list[bytes]) -> None:
        told, self._on_half = self._on_half, None
        if told is not None:
            self._end()
            told(self.version, outcome, found)

    def _end(self) -> None:
        self._resolver.forget(self._id)
        self.timer = NEVER
        tcp, self._tcp = self._tcp, None
        if tcp is not None:
            tcp.abandon(self._resolver.stack.timers.now)


class Resolver:
    """All questions that are out."""

    __slots__ = ("_asked", "_random_bytes", "_udp", "stack")

    def __init__(self, stack: Stack, random_bytes: Callable[[int], bytes]) -> None:
        self.stack = stack
        self._random_bytes = random_bytes
        self._asked: dict[int, Half] = {}
        udp = stack.open_udp(self._arrived, self._failed)
        assert udp is not None, "the stack's first port"
        self._udp = udp

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, name: bytes, version: int, on_half: OnHalf, now: float) -> Half | None:
        """Ask for the addresses of `name` (as on the wire); None when a bound is reached."""
        if len(self._asked) >= MAX_QUESTIONS:
            return None
        while True:
            ident = int.from_bytes(self._random_bytes(2), "big")
            if ident not in self._asked:
                break
        question = address_question(ident, name, TYPE_A if version == 4 else TYPE_AAAA)
        half = self._asked[ident] = Half(self, ident, question, version, on_half)
        half.ask(now)
        self.stack.timers.arm(half, half.due())
        return half

    def servers(self) -> list[bytes]:
        """The lease's resolver, at both of its addresses."""
        addresses = self.stack.addresses
        return [host for host in (addresses.gateway_ipv4, addresses.gateway_ipv6) if host]

    def send(self, question: bytes, tries: int) -> None:
        servers = self.servers()
        if servers:
            self._udp.send(servers[tries % len(servers)], DNS_PORT, question)

    def forget(self, ident: int) -> None:
        self._asked.pop(ident, None)

    def _arrived(self, host: bytes, port: int, payload: memoryview) -> None:
        half = None
        if len(payload) >= HEADER_SIZE and port == DNS_PORT and host in self.servers():
            half = self._asked.get(int.from_bytes(payload[:2], "big"))
        if half is None:
            self.stack.counts["names__answer__not_asked"] += 1
            return
        half.answered(bytes(payload), False, self.stack.timers.now)

    def _failed(self, host: bytes, port: int, outcome: Outcome) -> None:
        """The resolver's port is not there: the next sending asks its other address."""


class _Exchange:
    """A stream (see `splice.ports`) that says one question and takes one answer, as on TCP."""

    __slots__ = ("_answer", "_half", "_question", "_stack")

    device: str | None = None

    def __init__(self, question: bytes, half: Half, stack: Stack) -> None:
        self._question = question
        self._answer = bytearray()
        self._half: Half | None = half
        self._stack = stack

    def recv_into(self, buffer: Any, nbytes: int = 0, /) -> int:
        size = min(len(self._question), nbytes or len(buffer))
        if not size:
            raise BlockingIOError
        buffer[:size] = self._question[:size]
        self._question = self._question[size:]
        return size

    def send(self, data: Any, /) -> int:
        self._answer += data
        if len(self._answer) >= 2:
            length = int.from_bytes(self._answer[:2], "big")
            half = self._half
            if len(self._answer) >= 2 + length and half is not None:
                self._half = None
                wire = bytes(self._answer[2 : 2 + length])
                if wire[:2] == half.ident:
                    half.answered(wire, True, self._stack.timers.now)
                half.broken()
            elif len(self._answer) > 2 + MAX_TCP_ANSWER:
                raise ConnectionResetError("more than was asked for")
        return len(data)

    def urgent_ahead(self) -> int | None:
        return None

    def send_urgent(self, data: Any, /) -> int:
        return self.send(data)

    def connect_error(self) -> int:
        return 0

    def keep_alive(self, idle: int) -> None:
        """It does not last that long."""

    def shutdown_write(self) -> None:
        self._ended()

    def close(self) -> None:
        self._ended()

    def abort(self) -> None:
        self._ended()

    def _ended(self) -> None:
        half, self._half = self._half, None
        if half is not None:
            half.broken()

    def local(self) -> tuple[bytes, int] | None:
        return None


def asked_name(text: str) -> bytes:
    """A name as it is asked. Raises MalformedMessage for one that is none or is never asked.

    `localhost` and what ends in it is this host (RFC 6761, 6.3), which is not beyond the tunnel.
    """
    name = wire_name(text)
    if name.lower().endswith(b"\x09localhost\0"):
        raise MalformedMessage("localhost is not beyond the tunnel")
    return name

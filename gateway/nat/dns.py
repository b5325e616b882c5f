"""The resolver at the lease's gateway address: questions over UDP and over TCP.

Over TCP the NAT ends the connection as any other, but splices it to a
`DnsStream`, an in-process object with a socket's manners, which cuts the
stream into length-prefixed messages (RFC 1035 4.2.2, RFC 7766) and joins the
answers into one. Pipelining is bounded, by not taking more of the stream, so
that TCP's own window tells the client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from splice.ports import PEER_CLOSED, READABLE, WRITABLE, ReadyHandler

if TYPE_CHECKING:
    from gateway.nat.side import ClientSide

DNS_HEADER = 12
MAX_PIPELINED = 16
"""Questions of one TCP connection in the resolver's hands at once."""
MAX_UNREAD = 256 * 1024
"""Answers that wait for the client to read them, beyond which its questions wait."""
ANSWER_TIMEOUT = 15.0
"""Seconds after which a question that got no answer no longer counts against the bound."""


class Questions:
    """How many questions a peer has in the resolver's hands: a bound that forgets."""

    __slots__ = ("_asked", "_limit", "_next")

    def __init__(self, limit: int) -> None:
        self._asked: dict[int, float] = {}
        self._limit = limit
        self._next = 0

    def __len__(self) -> int:
        return len(self._asked)

    def take(self, now: float) -> int | None:
        """A place for one more question, or None when all are taken."""
        if len(self._asked) >= self._limit:
            for place, at in list(self._asked.items()):
                if at + ANSWER_TIMEOUT > now:
                    break
                del self._asked[place]
            if len(self._asked) >= self._limit:
                return None
        self._next += 1
        self._asked[self._next] = now
        return self._next

    def done(self, place: int) -> bool:
        """The answer is there; False if it came too late or twice."""
        return self._asked.pop(place, None) is not None


class DnsStream:
    """A stream socket (see ports.py) whose far side is the resolver."""

    __slots__ = (
        "_answers",
        "_closed",
        "_finished",
        "_handler",
        "_input",
        "_open",
        "_peer",
        "_stopped",
    )

    device: str | None = None

    def __init__(self, peer: ClientSide) -> None:
        self._peer = peer
        self._handler: ReadyHandler | None = None
        self._input = bytearray()
        self._answers = bytearray()
        self._open = 0
        self._stopped = False
        """The last `send` took less than it was offered."""
        self._finished = False
        self._closed = False

    def attach(self, handler: ReadyHandler) -> None:
        """Set who hears of answers; once, before anything is sent."""
        self._handler = handler

    def recv_into(self, buffer: Any, nbytes: int = 0, /) -> int:
        size = min(len(buffer), nbytes or len(buffer), len(self._answers))
        if not size:
            if self._finished and not self._open:
                return 0
            raise BlockingIOError
        buffer[:size] = self._answers[:size]
        del self._answers[:size]
        self._resume()
        return size

    def send(self, data: Any, /) -> int:
        taken = 0
        view = memoryview(data)
        while taken < len(view):
            if self._full():
                self._stopped = True
                break
            need = self._missing()
            piece = view[taken : taken + need]
            self._input += piece
            taken += len(piece)
            if len(piece) == need and len(self._input) > 2:
                self._ask()
        if not taken and len(view):
            raise BlockingIOError
        return taken

    def send_urgent(self, data: Any, /) -> int:
        return self.send(data)

    def urgent_ahead(self) -> int | None:
        return None

    def _full(self) -> bool:
        return self._open >= MAX_PIPELINED or len(self._answers) >= MAX_UNREAD

    def _missing(self) -> int:
        """Bytes until the length, or the message, is complete."""
        if len(self._input) < 2:
            return 2 - len(self._input)
        length = int.from_bytes(self._input[:2], "big")
        if length < DNS_HEADER:
            self._peer.counts["dns__tcp__malformed"] += 1
            raise ConnectionResetError("a DNS message cannot be that short")
        return 2 + length - len(self._input)

    def _ask(self) -> None:
        wire = bytes(self._input[2:])
        self._input.clear()
        place = self._peer.questions.take(self._peer.timers.now)
        if place is None:
            self._peer.counts["dns__tcp__too_many"] += 1
            raise ConnectionResetError("too many questions")
        self._open += 1
        self._peer.counts["dns__tcp__asked"] += 1
        self._peer.ask(wire, True, self._reply_to(place))

    def _reply_to(self, place: int) -> Callable[[bytes], None]:
        def reply(answer: bytes) -> None:
            if not self._peer.questions.done(place) or self._closed:
                return
            self._open -= 1
            self._answers += len(answer).to_bytes(2, "big") + answer
            # Says that the end is near, lest the flow stop reading before it has seen it.
            over = self._finished and not self._open
            self._tell(READABLE | PEER_CLOSED if over else READABLE)
            self._resume()

        return reply

    def _resume(self) -> None:
        if self._stopped and not self._full():
            self._stopped = False
            self._tell(WRITABLE)

    def _tell(self, mask: int) -> None:
        if self._handler is not None and not self._closed:
            self._handler.ready(mask, self._peer.timers.now)

    def connect_error(self) -> int:
        return 0

    def keep_alive(self, idle: int) -> None:
        """The resolver is always there; silence ends by `idle_timeout`."""

    def shutdown_write(self) -> None:
        self._finished = True
        if not self._open:
            self._tell(READABLE | PEER_CLOSED)

    def close(self) -> None:
        self._closed = True

    def abort(self) -> None:
        self._closed = True

    def local(self) -> tuple[bytes, int] | None:
        return None

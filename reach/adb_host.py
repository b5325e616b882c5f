"""The host's end of an ADB session with one phone: greeting, authorization, streams. Pure.

Theory of operation. The owner moves transfers (`adb_wire`): it asks the phone
for `want` bytes, hands in what came (`receive`), and sends what `outgoing`
gives. Time is a parameter; `get_timer` says when `handle_timer` is due.

The session's states, and what the phone's messages do in them:

    state       CNXN        AUTH token              silence
    GREETING    -> ONLINE   sign it   -> SIGNED     greet once more, then SILENT
    SIGNED      -> ONLINE   offer key -> OFFERED    SILENT
    OFFERED     -> ONLINE   counted                 a person is being asked: waits
    ONLINE      see below   see below               waits
    SILENT      the owner resets the port, and begins anew

Anything else before ONLINE is an earlier session's, and is skipped. The greeting,
too, may have been an earlier session's: until a stream was opened the phone may greet
or ask once more, and is followed. Later either means that it has begun anew.

A stream is OPENING until the phone has answered, then OPEN. Flow control is one
of two. Without `delayed_ack` each way has one WRTE at a time, and OKAY asks for
the next. With it OPEN and OKAY grant bytes: the phone grants 32 MiB, of which
no more than `MAX_OUTSTANDING` are ever used, so that what waits for a slow
reader waits in the owner's socket and not in the phone; we grant `WINDOW`, and
give it back as the reader takes it (`consumed`). What a phone sends beyond that
is a violation, so no stream holds more than a window in memory, and none can
hold up another.

Sources: AOSP packages/modules/adb, docs/dev/protocol.md, delayed_ack.md,
sockets.cpp; for the key, `adb_key`.
"""

from __future__ import annotations

import struct
from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from reach.adb_wire import (
    MAX_PAYLOAD,
    MIN_PAYLOAD,
    VERSION,
    VERSION_CHECKED,
    Command,
    Incoming,
    Message,
    Transfers,
    Violation,
    transfers,
)

FEATURES = ("shell_v2", "cmd", "delayed_ack")
"""What we say that we can; without the first two, phones take a host for one of 2015."""
AUTH_TOKEN, AUTH_SIGNATURE, AUTH_KEY = 1, 2, 3
TOKEN_SIZE = 20

MAX_STREAMS = 16
WINDOW = 512 * 1024
"""Bytes that a stream may send before we have taken some."""
MAX_OUTSTANDING = 512 * 1024
"""Bytes of a stream on their way to the phone's reader: a tenth of a second of USB 2."""
CHUNK = 256 * 1024
"""The longest payload we send."""
MAX_TOKENS = 8
"""Tokens that a phone may send while its person is asked."""
MAX_REFUSALS = 64
"""Streams of the phone's own that wait to be refused."""
GREETING_PAUSE = 1.5
"""Seconds until a phone that says nothing is greeted once more: it has taken the first
greeting for the rest of a message that a killed session had begun."""
GREETINGS = 2
SIGNED_SECONDS = 5.0
"""For a phone to look a signature up."""
PAYLOAD_SECONDS = 5.0
"""For a payload that was announced to come."""
SERVICE_SIZE = 256

_ACK = struct.Struct("<i")
_MOST = 2**31 - 1
_WORD = 0xFFFFFFFF


class Signer(Protocol):
    """The key that phones know this machine by."""

    def sign(self, token: bytes) -> bytes:
        """PKCS #1 v1.5, the token taken for a SHA-1 digest."""

    def public_key(self) -> bytes:
        """As Android writes it, with the name that its owner is shown."""


class State(StrEnum):
    """See the table above."""

    GREETING = "greeting"
    SIGNED = "signed"
    OFFERED = "offered"
    ONLINE = "online"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Online:
    """The phone has let us in; `banner` is what it says of itself."""

    banner: str


@dataclass(frozen=True, slots=True)
class AskedAtPhone:
    """The person at the phone is being asked whether this machine may come in."""


@dataclass(frozen=True, slots=True)
class Opened:
    stream: int


@dataclass(frozen=True, slots=True)
class Writable:
    """A stream that had no room has some."""

    stream: int


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes of a stream, good until the next transfer; `consumed` gives their room back."""

    stream: int
    data: bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Ended:
    """The phone has closed a stream; `refused`: it never was one."""

    stream: int
    refused: bool


Event = Online | AskedAtPhone | Opened | Writable | Received | Ended


@dataclass(slots=True)
class _Stream:
    """One stream; the sums are in bytes."""

    service: bytes
    remote: int = 0
    """The phone's number for it; 0 while it is OPENING."""
    abandoned: bool = False
    """We gave it up before the phone had answered."""
    ready: bool = False
    """Without delayed_ack: the phone asks for the next WRTE."""
    credit: int = 0
    """What the phone grants."""
    outstanding: int = 0
    """Sent, and not yet taken by its reader."""
    granted: int = 0
    """What the phone may still send."""
    unread: int = 0
    """Handed out, and not yet consumed."""
    ack: int = 0
    """Consumed, and not yet told."""
    owed: bool = False
    """Without delayed_ack: the phone waits for our OKAY."""


class AdbHost:
    """One session with one phone. Every method may raise Violation, which ends it."""

    def __init__(
        self, signer: Signer, packet_size: int, counters: Counter[str] | None = None
    ) -> None:
        """`counters`: those that it counts in."""
        self.state = State.GREETING
        self.counters: Counter[str] = Counter() if counters is None else counters
        self.max_payload = MIN_PAYLOAD
        self.delayed = False
        """Whether flow control is by bytes."""
        self._signer = signer
        self._packet = packet_size
        self._incoming = Incoming(packet_size)
        self._checked = True
        self._greetings = 0
        self._tokens = 0
        self._proven = False
        """A stream was opened: the greeting was to us."""
        self._timer: float | None = None
        self._payload_due: float | None = None
        self._streams: dict[int, _Stream] = {}
        self._last = 0
        self._queue: deque[Message] = deque()
        """Bounded: by the states, by MAX_STREAMS, by MAX_REFUSALS."""
        self._refusals = 0

    # --- time ------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Greet."""
        self._greet(now)

    def get_timer(self) -> float | None:
        """When `handle_timer` is due."""
        if self._timer is None or self._payload_due is None:
            return self._timer if self._payload_due is None else self._payload_due
        return min(self._timer, self._payload_due)

    def handle_timer(self, now: float) -> None:
        """The phone has said nothing for too long."""
        if self._payload_due is not None and now >= self._payload_due:
            self._payload_due = None
            if self.state is State.ONLINE:
                raise self._counted(Violation("payload_missing", "a payload does not come"))
        if self._timer is None or now < self._timer:
            return
        self._timer = None
        if self.state is State.GREETING and self._greetings < GREETINGS:
            self.counters["greeting__repeated"] += 1
            self._greet(now)
        else:
            self.state = State.SILENT

    def _greet(self, now: float) -> None:
        self._greetings += 1
        banner = b"host::features=" + ",".join(FEATURES).encode()
        self._queue.append(Message(Command.CNXN, VERSION, MAX_PAYLOAD, banner))
        self._timer = now + GREETING_PAUSE

    # --- transfers -------------------------------------------------------------------------

    @property
    def want(self) -> int:
        """How many bytes to ask the phone for."""
        return self._incoming.want

    def receive(self, transfer: memoryview, now: float) -> list[Event]:
        """A transfer has come."""
        try:
            message = self._incoming.take(transfer)
            if message is not None:
                self._payload_due = None
                return self._take(message, now)
            if self._incoming.midway and self._payload_due is None:
                self._payload_due = now + PAYLOAD_SECONDS
            return []
        except Violation as violation:
            raise self._counted(violation) from None

    def _counted(self, violation: Violation) -> Violation:
        self.counters[f"violation__{violation.name}"] += 1
        return violation

    @property
    def due(self) -> bool:
        """Whether `outgoing` has something."""
        return bool(self._queue) or any(
            stream.ack or (stream.owed and not stream.unread) for stream in self._streams.values()
        )

    def outgoing(self) -> Transfers | None:
        """The transfers of the next message that is due, but data; None when there is none."""
        message = self._next()
        return None if message is None else self._transfers(message)

    def _transfers(self, message: Message) -> Transfers:
        return transfers(message, self._packet, self._checked)

    def _next(self) -> Message | None:
        if self._queue:
            message = self._queue.popleft()
            if message.command == Command.CLSE and message.arg0 == 0:
                self._refusals -= 1
            return message
        if self.state is not State.ONLINE:
            return None
        for number, stream in self._streams.items():
            if stream.ack and stream.remote:
                told, stream.ack = stream.ack, 0
                stream.granted += told
                return Message(Command.OKAY, number, stream.remote, _ACK.pack(told))
            if stream.owed and not stream.unread:
                stream.owed = False
                return Message(Command.OKAY, number, stream.remote)
        return None

    # --- streams ---------------------------------------------------------------------------

    @property
    def streams(self) -> int:
        """How many there are."""
        return len(self._streams)

    def open(self, service: str) -> int:
        """Ask the phone for a stream to one of its services, `tcp:PORT`; the stream's number.

        An event follows. Raises ValueError when MAX_STREAMS are open.
        """
        if len(self._streams) >= MAX_STREAMS:
            raise ValueError("too many streams are open")
        name = service.encode()
        if len(name) >= SERVICE_SIZE or b"\0" in name:
            raise ValueError("no service has such a name")
        self._last = self._last % _WORD + 1
        self._streams[self._last] = stream = _Stream(name)
        if self.state is State.ONLINE:
            self._ask_for(self._last, stream)
        return self._last

    def _ask_for(self, number: int, stream: _Stream) -> None:
        window = WINDOW if self.delayed else 0
        stream.granted = window
        self._queue.append(Message(Command.OPEN, number, window, stream.service + b"\0"))

    def room(self, number: int) -> int:
        """How many bytes may be written to a stream now."""
        stream = self._streams.get(number)
        if stream is None or not stream.remote or stream.abandoned:
            return 0
        most = min(CHUNK, self.max_payload)
        if self.delayed:
            return max(0, min(most, stream.credit, MAX_OUTSTANDING - stream.outstanding))
        return most if stream.ready else 0

    def write(self, number: int, data: bytes | bytearray | memoryview) -> Transfers:
        """The transfers that carry `data` (1 to `room` bytes) to the phone."""
        stream = self._streams[number]
        assert 0 < len(data) <= self.room(number)
        if self.delayed:
            stream.credit -= len(data)
            stream.outstanding += len(data)
        else:
            stream.ready = False
        return self._transfers(Message(Command.WRTE, number, stream.remote, data))

    def consumed(self, number: int, size: int) -> None:
        """The reader has taken `size` bytes of what came."""
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.unread -= size
        if self.delayed:
            stream.ack += size

    def close(self, number: int) -> None:
        """Give a stream up; of an unknown one nothing is said."""
        stream = self._streams.get(number)
        if stream is None:
            return
        if stream.remote:
            del self._streams[number]
            self._queue.append(Message(Command.CLSE, number, stream.remote))
        elif self.state is State.ONLINE:
            stream.abandoned = True
        else:
            del self._streams[number]

    # --- what the phone says ---------------------------------------------------------------

    def _take(self, message: Message, now: float) -> list[Event]:
        match self.state, message.command:
            case State.ONLINE, Command.OKAY:
                return self._okay(message)
            case State.ONLINE, Command.WRTE:
                return self._received(message)
            case State.ONLINE, Command.CLSE:
                return self._closed(message)
            case State.ONLINE, Command.OPEN:
                self._refuse(message)
            case State.ONLINE, Command.CNXN if not self._proven:
                self.counters["greeting__stale"] += 1
            case State.ONLINE, Command.AUTH if not self._proven:
                self.counters["greeting__stale"] += 1
                self.state, self._incoming.greeted = State.GREETING, False
                self._queue.clear()
                return self._asked(message, now)
            case State.ONLINE, Command.CNXN:
                raise Violation("greeted_again", "it has begun anew")
            case State.ONLINE, Command.AUTH:
                raise Violation("let_out", "it does not let this machine in any more")
            case State.ONLINE, _:
                raise Violation("unknown_command", f"it says {message.command:#010x}")
            case _, Command.CNXN:
                return self._greeted(message)
            case _, Command.AUTH if message.arg0 == AUTH_TOKEN:
                return self._asked(message, now)
            case _, Command.STLS:
                raise Violation("tls_on_usb", "it asks for TLS, which USB has not")
            case _:
                self.counters["stale__skipped"] += 1
        return []

    def _asked(self, message: Message, now: float) -> list[Event]:
        if len(message.payload) != TOKEN_SIZE:
            raise Violation("token_size", f"its token is of {len(message.payload)} bytes")
        match self.state:
            case State.GREETING | State.SILENT:
                self.state, self._timer = State.SIGNED, now + SIGNED_SECONDS
                signature = self._signer.sign(bytes(message.payload))
                self._queue.append(Message(Command.AUTH, AUTH_SIGNATURE, 0, signature))
            case State.SIGNED:
                self.state, self._timer = State.OFFERED, None
                key = self._signer.public_key() + b"\0"
                self._queue.append(Message(Command.AUTH, AUTH_KEY, 0, key))
                return [AskedAtPhone()]
            case _:
                self._tokens += 1
                self.counters["token__repeated"] += 1
                if self._tokens > MAX_TOKENS:
                    raise Violation("tokens_without_end", "it does not stop asking who we are")
        return []

    def _greeted(self, message: Message) -> list[Event]:
        if message.arg0 < VERSION_CHECKED:
            raise Violation("version", f"it speaks version {message.arg0:#x}")
        if message.arg1 < MIN_PAYLOAD:
            raise Violation("payload_limit", f"it takes {message.arg1} bytes at most")
        if len(message.payload) > MIN_PAYLOAD:
            raise Violation("banner_size", f"its greeting is of {len(message.payload)} bytes")
        banner = bytes(message.payload).rstrip(b"\0").decode(errors="replace")
        self.state, self._timer = State.ONLINE, None
        self.max_payload = min(message.arg1, MAX_PAYLOAD)
        self._checked = message.arg0 < VERSION
        self.delayed = "delayed_ack" in features(banner)
        self.counters["stale__skipped"] += self._incoming.stale
        self._incoming.greeted, self._incoming.checked = True, self._checked
        self._queue.clear()
        for number, stream in self._streams.items():
            self._ask_for(number, stream)
        return [Online(banner)]

    def _mine(self, message: Message) -> _Stream | None:
        """The stream that a message is about; None for one that is over, which may cross."""
        stream = self._streams.get(message.arg1)
        if stream is None or (stream.remote and message.arg0 not in (0, stream.remote)):
            self.counters["stream__unknown"] += 1
            return None
        return stream

    def _okay(self, message: Message) -> list[Event]:
        if len(message.payload) != (_ACK.size if self.delayed else 0):
            raise Violation("ack_size", f"an acknowledgement has {len(message.payload)} bytes")
        stream = self._mine(message)
        if stream is None:
            return []
        if not message.arg0:
            raise Violation("stream_number", "a stream has the number 0")
        opened = not stream.remote
        full = not self.room(message.arg1)
        self._proven = True
        stream.remote = message.arg0
        if self.delayed:
            (acknowledged,) = _ACK.unpack(message.payload)
            stream.credit = max(-_MOST, min(_MOST, stream.credit + acknowledged))
            if not opened:
                stream.outstanding = max(0, stream.outstanding - max(0, acknowledged))
        else:
            stream.ready = True
        if not opened:
            return [Writable(message.arg1)] if full and self.room(message.arg1) else []
        if stream.abandoned:
            self.close(message.arg1)
            return []
        return [Opened(message.arg1)]

    def _received(self, message: Message) -> list[Event]:
        size = len(message.payload)
        stream = self._mine(message)
        if stream is None or not size:
            return []
        if not stream.remote:
            raise Violation("data_too_early", "it sends on a stream that it has not opened")
        if self.delayed:
            if size > stream.granted:
                raise Violation(
                    "window", f"it sends {size} bytes, and {stream.granted} are granted"
                )
            stream.granted -= size
        else:
            if stream.owed:
                raise Violation("write_before_okay", "it sends before it was asked to")
            stream.owed = True
        stream.unread += size
        return [Received(message.arg1, message.payload)]

    def _closed(self, message: Message) -> list[Event]:
        stream = self._mine(message)
        if stream is None:
            return []
        del self._streams[message.arg1]
        return [] if stream.abandoned else [Ended(message.arg1, not stream.remote)]

    def _refuse(self, message: Message) -> None:
        """A stream that the phone wants to us: there is nothing here for it."""
        self.counters["open__refused"] += 1
        self._refusals += 1
        if self._refusals > MAX_REFUSALS:
            raise Violation("opens_without_end", "it does not stop asking for streams")
        self._queue.append(Message(Command.CLSE, 0, message.arg0))


def features(banner: str) -> frozenset[str]:
    """The features in a greeting: `device::NAME=VALUE;...;features=A,B`."""
    for part in banner.rpartition("::")[2].split(";"):
        name, _, value = part.partition("=")
        if name == "features":
            return frozenset(value.split(","))
    return frozenset()

"""What all sessions share, whatever their role and whatever carries them.

A session class is made of three parts: this core (state, events, timers, the
frames both sides know), a role (`client_role`, `gateway_role`: the dialogue)
and a transport (`stream`, `datagram`: bytes to frames and back). The methods at
the end of `SessionCore` are what a transport provides.

Whatever a peer does wrong ends in `_fail`: the session is closed, a CLOSE with
the error's name is queued when there are keys to say it under, and the error is
raised to the driver.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from sealing.errors import LocalMisuse, PeerViolation, ProtocolError
from vshp.config import CloseReason, LeaseConfig, Suite
from vshp.constants import (
    KEEPALIVE_DATAGRAM,
    KEEPALIVE_STREAM,
    REKEY_AFTER_SECONDS,
    SESSION_ID_SIZE,
)
from vshp.errors import FrameMisplaced, Refused
from vshp.events import Event, LinkDead, PeerClosed, RttMeasured
from vshp.frames import (
    FrameType,
    decode_close,
    decode_ping,
    encode_close,
    encode_ping,
    require_known,
)
from vshp.handshake import NoiseHandshake
from vshp.liveness import Liveness
from vshp.states import INITIAL, Role, State, Step, after

PacketHandler = Callable[[memoryview, int, int, bool], None]
"""(buf, start, end, offload): `buf[start:end]` is an IP packet.

With `offload`, `buf[start - 10:start]` is its virtio header. The view is
writable and valid only during the call. It must not raise.
"""
PacketsHandler = Callable[[memoryview, int, int], int]
"""(buf, at, end) -> at: of the frames in `buf[at:end]` those that are packets, one behind the
other, as far as the driver knows what to do with them; where it stopped, at a frame's beginning.

The frames are not checked yet. Up to MAX_PEEK bytes from any frame's beginning can be read. It
must not raise. What it leaves goes to the session, and the packets in it to `on_packet`.
"""
Random = Callable[[int], bytes]
"""n -> n unpredictable bytes."""
Handler = tuple[frozenset[State], Callable[[Any, bytes, float], None]]
"""The states in which a frame may come, and who takes it."""

CLOSED = State.CLOSED
"""For the packet path: a name of a module costs a fifth of a member of an Enum."""
MAX_EVENTS = 64
"""Events waiting to be taken: RTT samples beyond are dropped, other news is a flood."""
KEYED = frozenset(
    {State.CODE, State.CONSENT, State.WAITING, State.DECIDING, State.PENDING, State.OPEN}
)
"""States in which records can be exchanged."""


def drop_packet(buf: memoryview, start: int, end: int, offload: bool) -> None:
    """Where packets go until the driver sets `on_packet`."""


class SessionCore:
    """State, events, timers and common frames of one session."""

    role: ClassVar[Role]
    handlers: ClassVar[dict[int, Handler]]
    datagram: ClassVar[bool]
    _handshake: NoiseHandshake | None = None

    def __init__(self, now: float, rng: Random) -> None:
        self.on_packet: PacketHandler = drop_packet
        self.on_packets: PacketsHandler | None = None
        """A stream's records are shown to it first. It goes by the lease's `offload`, so when that
        changes it is None until the driver sets it again."""
        self.counters: dict[str, int] = {}
        """Named by path and outcome."""
        self.lease: LeaseConfig | None = None
        self.peer_key: bytes | None = None
        """The peer's static public key, once proven."""
        self.suite: Suite = Suite.CHACHAPOLY_BLAKE2S
        self.state = INITIAL[self.role]
        self._rng = rng
        self._events: deque[Event] = deque()
        self._deadline: float | None = None
        """When the present state has lasted long enough."""
        self._deadline_reason = CloseReason.HANDSHAKE_TIMEOUT
        self._liveness: Liveness | None = None
        self._answers = 0
        """Records that only answer: they expect nothing back, so liveness does not count them."""
        self._sent_when_heard = 0
        """Records sealed, but for answers, when the peer was last heard."""
        self._keyed_at = now
        self._records_at_rekey = 0
        self._keyed = False

    # --- the verbs ---------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self.state is CLOSED

    @property
    def rtt(self) -> float:
        """Smoothed round-trip time in seconds, 0 until measured."""
        return self._liveness.rtt.smoothed if self._liveness else 0.0

    def next_event(self) -> Event | None:
        """The oldest piece of news, None when there is none."""
        return self._events.popleft() if self._events else None

    def get_timer(self) -> float | None:
        """When `handle_timer` is due; cheap, to be asked after every call in here or the writer."""
        if self.state is CLOSED:
            return None
        deadline = self._deadline
        liveness = self._liveness
        if liveness is None:
            return deadline
        at = liveness.next_tick
        if at is None:
            at = liveness.timer(self._unanswered())
        return at if deadline is None or at < deadline else deadline

    def handle_timer(self, now: float) -> None:
        """Time has passed. Being called early does no harm."""
        if self.state is CLOSED:
            return
        if self._deadline is not None and now >= self._deadline:
            self._event(PeerClosed(self._deadline_reason))
            self.close(self._deadline_reason, now)
            return
        liveness = self._liveness
        if liveness is None:
            return
        ask, silent = liveness.check(now, self._unanswered(), self._received_records())
        if silent:
            self._count("session__link_dead__closed")
            self._event(LinkDead(silent))
            # Perhaps only the way to us is broken: then the peer learns it at once.
            self._over(CloseReason.LINK_DEAD)
        elif ask:
            self.ping(now)
        if now - self._keyed_at >= REKEY_AFTER_SECONDS and self._used_key():
            self._rekey()
            self._keyed_at = now
            self._records_at_rekey = self._sent_records()

    def ping(self, now: float) -> None:
        """Ask for a sign of life now (after a network change, say)."""
        if self._liveness is None or self.state not in KEYED:
            raise LocalMisuse("state", f"ping in {self.state.name}")
        self._send_ping(FrameType.PING, self._liveness.pinged(now))
        self._flush(now)

    def close(self, reason: CloseReason, now: float, detail: str = "") -> None:
        """Say why and end; idempotent."""
        if self.state is not CLOSED:
            self._over(reason, detail)

    # --- for roles and transports ------------------------------------------------------------

    def _move(self, step: Step) -> None:
        self.state = after(self.role, self.state, step)

    def _event(self, event: Event) -> None:
        """Queue news. Raises PeerViolation when the peer makes more than anybody takes."""
        if len(self._events) >= MAX_EVENTS and not isinstance(event, PeerClosed | LinkDead):
            raise PeerViolation("events_flooded")
        self._events.append(event)

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

    def _keys_agreed(self, tx: bytes, rx: bytes, now: float) -> None:
        interval = KEEPALIVE_DATAGRAM if self.datagram else KEEPALIVE_STREAM
        self._liveness = Liveness(now, interval, initiates=self.role is Role.CLIENT)
        self._keyed_at = now
        self._keyed = True
        self._install(self.suite, tx, rx, now)

    def _over(self, reason: CloseReason | None, detail: str = "") -> None:
        """To CLOSED; the peer is told when there is a reason and there are keys."""
        if reason is not None and self._keyed:
            self._send_frame(FrameType.CLOSE, encode_close(reason, detail))
        self.state = after(self.role, self.state, Step.ENDED)
        self._deadline = None
        self._shut()

    def _used_key(self) -> bool:
        """Whether anything was sealed since the last change by time: an idle side stays silent."""
        return self._keyed and self._sent_records() > self._records_at_rekey

    def _unanswered(self) -> bool:
        return self._sent_records() - self._answers > self._sent_when_heard

    def _fail(self, error: ProtocolError) -> None:
        """The peer is at fault: close, tell it, count it. The caller raises."""
        self._count(f"session__{error.reason}__closed")
        if self.state is CLOSED:
            return
        if isinstance(error, Refused):
            self._turn_away(CloseReason(error.reason))
        reason = CloseReason.PROTOCOL_ERROR if isinstance(error, PeerViolation) else None
        self._over(reason, error.reason)

    def _turn_away(self, reason: CloseReason) -> None:
        """The gateway's transports say a refusal in clear."""

    def _on_frame(self, kind: int, body: bytes, now: float) -> None:
        """One control frame. Raises the frame errors; changes nothing then."""
        entry = self.handlers.get(kind)
        if entry is None:
            if require_known(kind):
                raise FrameMisplaced("frame_misplaced", FrameType(kind).name)
            self._count("frame__unknown_optional__skipped")
            return
        states, handler = entry
        if self.state not in states:
            raise FrameMisplaced("frame_misplaced", f"{FrameType(kind).name} in {self.state.name}")
        handler(self, body, now)

    # --- common frames -----------------------------------------------------------------------

    def _send_ping(self, kind: FrameType, number: int) -> None:
        session_id = self.lease.session_id if self.lease else bytes(SESSION_ID_SIZE)
        body = encode_ping(session_id, number, self._sent_records(), self._received_records())
        self._send_frame(kind, body)

    def _ping_for_us(self, body: bytes) -> int | None:
        """The number in a PING or PONG of this session, None when it speaks of another."""
        session_id, number, _, _ = decode_ping(body)
        if self.lease and session_id not in (self.lease.session_id, bytes(SESSION_ID_SIZE)):
            self._count("ping__other_session__ignored")
            return None
        return number

    def _on_ping(self, body: bytes, now: float) -> None:
        number = self._ping_for_us(body)
        if number is None:
            return
        if self._congested():
            # Somebody who pings and does not read gets no queue of answers.
            self._count("ping__queue_full__ignored")
            return
        if not self._batched():
            self._answers += 1
        self._send_ping(FrameType.PONG, number)

    def _on_pong(self, body: bytes, now: float) -> None:
        number = self._ping_for_us(body)
        if number is None or self._liveness is None:
            return
        rtt = self._liveness.ponged(number, now)
        if rtt is None:
            self._count("pong__unasked__ignored")
        elif len(self._events) < MAX_EVENTS:
            self._event(RttMeasured(rtt, self._liveness.rtt.smoothed))

    def _on_close(self, body: bytes, now: float) -> None:
        reason, detail = decode_close(body)
        self._event(PeerClosed(reason, detail))
        self._over(None)

    def _on_rekey(self, body: bytes, now: float) -> None:
        raise FrameMisplaced("frame_misplaced", "REKEY is the stream's own")

    def _on_padding(self, body: bytes, now: float) -> None:
        """Padding means nothing."""

    # --- what the transport provides ---------------------------------------------------------

    def _install(self, suite: Suite, tx: bytes, rx: bytes, now: float) -> None:
        raise NotImplementedError

    def _send_frame(self, kind: int, body: bytes) -> None:
        raise NotImplementedError

    def _flush(self, now: float) -> None:
        raise NotImplementedError

    def _rekey(self) -> None:
        raise NotImplementedError

    def _shut(self) -> None:
        """Seal what is queued and take no more."""
        raise NotImplementedError

    def _widen(self, lease: LeaseConfig) -> None:
        """There is a lease: full-sized packets from here on."""
        raise NotImplementedError

    def _send_handshake(self, message: bytes) -> None:
        """A Noise message of ours, in the transport's envelope."""
        raise NotImplementedError

    def _batched(self) -> bool:
        """Whether the next record already has something in it."""
        raise NotImplementedError

    def _congested(self) -> bool:
        raise NotImplementedError

    def _sent_records(self) -> int:
        raise NotImplementedError

    def _received_records(self) -> int:
        raise NotImplementedError


COMMON_HANDLERS: dict[int, Handler] = {
    FrameType.PING: (KEYED, SessionCore._on_ping),
    FrameType.PONG: (KEYED, SessionCore._on_pong),
    FrameType.CLOSE: (KEYED, SessionCore._on_close),
    FrameType.PADDING: (KEYED, SessionCore._on_padding),
}

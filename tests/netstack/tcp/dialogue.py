"""Dialogues with one connection: say a segment, hear what it answers.

The peer in these tests is the test itself. Numbers are relative: our first data
byte is 0 and so is the peer's, so that `seq=0, ack=0` is where both stand after
the handshake.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import pack
from typing import Any

from netstack import checksum
from netstack.tcp.buffers import SendBufferPool
from netstack.tcp.config import CloseReason, TcpConfig
from netstack.tcp.connection import TcpConnection
from netstack.tcp.constants import MASK
from netstack.tcp.states import State
from netstack.tcp_segment import ACK, FIN, PSH, RST, SYN, URG, TcpSegment, parse_tcp
from tests.netsim.out import PacketLog
from tests.netsim.simulation import segment_of

LOCAL, REMOTE = bytes((192, 0, 2, 1)), bytes((10, 99, 0, 2))
LOCAL_PORT, REMOTE_PORT = 443, 40000
ISS = 0xFFFF_FF00
IRS = 0xFFFF_FFF0
"""Both wrap soon."""
START = 1000.0
LETTERS = {"S": SYN, "A": ACK, "F": FIN, "R": RST, "P": PSH, "U": URG}


def flags_of(text: str) -> int:
    """ "SA" is SYN and ACK."""
    return sum(LETTERS[letter] for letter in text)


@dataclass
class Dialogue:
    """One connection, its user and its peer."""

    config: TcpConfig = field(default_factory=lambda: TcpConfig(reliable=False, congestion="cubic"))
    mss: int = 1460
    shift: int = 0
    window: int = 60000
    stamps: bool = False
    sack: bool = True
    offload: bool = False

    def __post_init__(self) -> None:
        self.now = START
        self.iss = ISS
        self.stamp = 5000
        self.log = PacketLog(self.offload)
        self.pool = SendBufferPool()
        self.conn = TcpConnection(
            4, LOCAL, LOCAL_PORT, REMOTE, REMOTE_PORT, self, self.config, ISS, self.log
        )
        self.delivered = bytearray()
        self.marks: list[int] = []
        """How many bytes were delivered with each urgent byte."""
        self.probed: list[float] = []
        self.fins = 0
        self.opened = 0
        self.reasons: list[CloseReason] = []
        self.consume = True

    # --- TcpUser -----------------------------------------------------------------------------

    def deliver(self, data: memoryview) -> None:
        self.delivered += data
        if self.consume:
            self.conn.consumed(len(data), self.now)

    def deliver_urgent(self, data: memoryview, end: int) -> None:
        self.marks.append(len(self.delivered) + end)
        self.deliver(data)

    def deliver_fin(self) -> None:
        self.fins += 1

    def kept_alive(self, silence: float) -> None:
        self.probed.append(silence)

    def window_opened(self) -> None:
        self.opened += 1

    def closed(self, reason: CloseReason) -> None:
        self.reasons.append(reason)

    # --- the peer ----------------------------------------------------------------------------

    def segment(
        self,
        flags: str,
        seq: int = 0,
        ack: int | None = None,
        data: bytes = b"",
        *,
        window: int | None = None,
        sack: tuple[tuple[int, int], ...] = (),
        stamp: int | None = None,
        echo: int = 0,
        urgent: int = 0,
    ) -> TcpSegment:
        """A segment of the peer's, built as bytes and parsed; `ack` None: what we have sent."""
        options = b""
        if "S" in flags:
            options += b"\x02\x04" + pack(">H", self.mss) + b"\x01\x03\x03" + bytes((self.shift,))
            if self.sack:
                options += b"\x01\x01\x04\x02"
        if self.stamps and stamp != -1:
            stamp = self.stamp if stamp is None else stamp
            options += b"\x01\x01\x08\x0a" + pack(">II", stamp, echo)
        if sack:
            options += b"\x01\x01\x05" + bytes((2 + 8 * len(sack),))
            for start, end in sack:
                options += pack(">II", (ISS + 1 + start) & MASK, (ISS + 1 + end) & MASK)
        number = (IRS + 1 + seq) & MASK
        acked = 0
        if "A" in flags:
            acked = self.conn.snd.nxt & MASK if ack is None else (ISS + 1 + ack) & MASK
        header = pack(
            ">HHIIHHHH", REMOTE_PORT, LOCAL_PORT, number, acked,
            (20 + len(options)) << 10 | flags_of(flags),
            self.window if window is None else window, 0, urgent,
        )  # fmt: skip
        packet = bytearray(header + options + data)
        pseudo = checksum.pseudo_header(REMOTE, LOCAL, 6, len(packet))
        packet[16:18] = pack(">H", checksum.finish(pseudo + checksum.add(packet)))
        return parse_tcp(packet, 0, len(packet), pseudo)

    def say(self, flags: str, seq: int = 0, ack: int | None = None, data: bytes = b"",
            **options: Any) -> None:  # fmt: skip
        """The peer sends a segment; the batch ends with it."""
        self.arrive(self.segment(flags, seq, ack, data, **options))
        self.conn.flush_ack(self.now)

    def arrive(self, seg: TcpSegment) -> None:
        """A segment of the peer's arrives, as all of a packet's payload; the batch goes on."""
        if not self.conn.predicted(seg.buf, 0, len(seg.buf), self.now):
            self.conn.segment_arrived(seg, self.now)

    def heard(self) -> list[TcpSegment]:
        """What the connection has emitted since last asked."""
        return [segment_of(packet) for packet in self.log.take()]

    def hear(self, flags: str, seq: int | None = None, ack: int | None = None,
             data: bytes | None = None) -> TcpSegment:  # fmt: skip
        """The connection has emitted exactly this one segment; what is None may be anything."""
        segments = self.heard()
        assert len(segments) == 1, segments
        return self.check(segments[0], flags, seq, ack, data)

    @staticmethod
    def check(seg: TcpSegment, flags: str, seq: int | None, ack: int | None,
              data: bytes | None) -> TcpSegment:  # fmt: skip
        """Compare a segment with what is expected, in relative numbers."""
        assert seg.flags == flags_of(flags), seg
        if seq is not None:
            assert seg.seq == (ISS + 1 + seq) & MASK, seg
        if ack is not None:
            assert seg.ack == (IRS + 1 + ack) & MASK, seg
        if data is not None:
            assert bytes(memoryview(seg.buf)[seg.start : seg.end]) == data
        return seg

    def silent(self) -> None:
        """The connection has emitted nothing."""
        assert self.heard() == []

    # --- the user ----------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """The user sends what must fit."""
        assert self.conn.sendable() >= len(data), self.conn
        buf = self.pool.take()
        buf.view[: len(data)] = data
        self.conn.send(buf, len(data), self.now)

    def fin(self) -> None:
        self.conn.send_fin(self.now)

    def wait(self, seconds: float) -> None:
        """Time passes, and with it every timer that comes due."""
        until = self.now + seconds
        while (due := self.conn.get_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.conn.handle_timer(self.now)
            self.conn.flush_ack(self.now)
        self.now = until

    @property
    def state(self) -> State:
        return self.conn.state


# --- builders: a dialogue in each state ---------------------------------------------------------


def listen(kind: type[Dialogue] = Dialogue, **options: Any) -> Dialogue:
    return kind(**options)


def syn_held(**options: Any) -> Dialogue:
    d = listen(**options)
    d.conn.syn_arrived(d.segment("S", -1), d.now)
    d.silent()
    return d


def syn_received(**options: Any) -> Dialogue:
    d = syn_held(**options)
    d.conn.accept(d.now)
    d.hear("SA", -1, 0)
    return d


def syn_sent(**options: Any) -> Dialogue:
    d = listen(**options)
    d.conn.connect(d.now)
    d.hear("S", -1)
    return d


def established(**options: Any) -> Dialogue:
    d = syn_received(**options)
    d.say("A", 0, 0)
    d.silent()
    return d


def close_wait(**options: Any) -> Dialogue:
    d = established(**options)
    d.say("FA", 0)
    d.hear("A", 0, 1)
    return d


def fin_wait_1(**options: Any) -> Dialogue:
    d = established(**options)
    d.fin()
    d.hear("FA", 0, 0)
    return d


def fin_wait_2(**options: Any) -> Dialogue:
    d = fin_wait_1(**options)
    d.say("A", 0, 1)
    d.silent()
    return d


def closing(**options: Any) -> Dialogue:
    d = fin_wait_1(**options)
    d.say("FA", 0, 0)
    d.hear("A", 1, 1)
    return d


def last_ack(**options: Any) -> Dialogue:
    d = close_wait(**options)
    d.fin()
    d.hear("FA", 0, 1)
    return d


def time_wait(**options: Any) -> Dialogue:
    d = fin_wait_2(**options)
    d.say("FA", 0)
    d.hear("A", 1, 1)
    return d


def closed(**options: Any) -> Dialogue:
    d = established(**options)
    d.say("R", 0)
    d.silent()
    return d


BUILDERS: dict[State, Callable[..., Dialogue]] = {
    State.CLOSED: closed,
    State.LISTEN: listen,
    State.SYN_HELD: syn_held,
    State.SYN_SENT: syn_sent,
    State.SYN_RECEIVED: syn_received,
    State.ESTABLISHED: established,
    State.FIN_WAIT_1: fin_wait_1,
    State.FIN_WAIT_2: fin_wait_2,
    State.CLOSE_WAIT: close_wait,
    State.CLOSING: closing,
    State.LAST_ACK: last_ack,
    State.TIME_WAIT: time_wait,
}


def picture(d: Dialogue) -> dict[str, object]:
    """The whole state of a connection, times aside: two that are equal behave alike."""
    conn = d.conn
    snd, rcv = conn.snd, conn.rcv
    return {
        "state": conn.state,
        "snd": (snd.una, snd.nxt, snd.wnd, snd.max_wnd, snd.shift, snd.mss, snd.fin),
        "waiting": (snd.open, snd.fin_waiting, snd.output_pending, snd.deadline is None),
        "recovery": (snd.recovery is None, snd.backoff, len(snd.flight)),
        "rcv": (rcv.nxt, rcv.adv, rcv.limit, rcv.unread, rcv.shift, rcv.fin),
        "acks": (rcv.ack_pending, rcv.duplicate, rcv.queue is None),
        "deadline": conn.deadline is None,
        "user": (d.fins, tuple(d.reasons), bytes(d.delivered)),
    }

"""The two ends agree: SYNs and their options, as sent and as understood.

An option of RFC 7323 or RFC 2018 is in use if both SYNs carried it. The active
side offers what its configuration allows, the passive side repeats what it was
offered and allows.

An active SYN depends on nothing but that, so it may go before its connection is
made (`open_early`): most of what a connection consists of is of use only when
the answer comes, and who opens one waits for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from netstack.tcp.constants import DEFAULT_MSS_V4, DEFAULT_MSS_V6, HALF, MIN_MSS
from netstack.tcp.receiver import MAX_UNSCALED, window_shift
from netstack.tcp.states import State
from netstack.tcp.writer import SegmentWriter
from netstack.tcp_segment import ACK, SYN, TcpSegment

if TYPE_CHECKING:
    from netstack.out import PacketOut
    from netstack.tcp.config import TcpConfig
    from netstack.tcp.connection import TcpConnection

_SYN_SENT = State.SYN_SENT
_SACK_PERMITTED = b"\x01\x01\x04\x02"
_WINDOW_SCALE = b"\x01\x03\x03"
_MSS = b"\x02\x04"


class Opening(NamedTuple):
    """A SYN that has left before its connection is made, and what that has to go on with."""

    config: TcpConfig
    writer: SegmentWriter


def open_early(
    version: int,
    local: bytes,
    local_port: int,
    remote: bytes,
    remote_port: int,
    config: TcpConfig,
    iss: int,
    out: PacketOut | None,
    now: float,
) -> Opening:
    """Send the SYN of a `TcpConnection` that is about to be made of the same, and connected."""
    writer = SegmentWriter(version, local, local_port, remote, remote_port, config.ttl, iss ^ HALF)
    writer.out = out
    writer.use_timestamps(config.timestamps)
    options = _options(config, config.sack, config.window_scaling, offered_shift(config))
    window = min(config.receive_window, MAX_UNSCALED)
    writer.control(iss, 0, SYN, window, now, 0, options)
    return Opening(config, writer)


def offered_shift(config: TcpConfig) -> int:
    """The window shift that we offer."""
    return window_shift(config.max_receive_window) if config.window_scaling else 0


def begin(conn: TcpConnection) -> None:
    """Prepare to offer what the configuration allows, before an active SYN."""
    conn.rcv.shift = offered_shift(conn.config)
    conn.writer.use_timestamps(conn.config.timestamps)


def take_syn(conn: TcpConnection, seg: TcpSegment, now: float) -> None:
    """What the peer's SYN says: its first number, its window and its options."""
    rcv, snd, config = conn.rcv, conn.snd, conn.config
    rcv.synchronize(seg.seq, now)
    default = DEFAULT_MSS_V4 if conn.version == 4 else DEFAULT_MSS_V6
    snd.peer_mss = max(seg.mss or default, MIN_MSS)
    snd.wnd = snd.max_wnd = seg.window
    snd.wl_seq, snd.wl_ack = seg.seq, snd.una
    rcv.sack = snd.sack = seg.sack_permitted and config.sack
    conn.scaled = seg.window_shift >= 0 and config.window_scaling
    snd.shift = seg.window_shift if conn.scaled else 0
    rcv.shift = offered_shift(config) if conn.scaled else 0
    rcv.set_limit(rcv.limit)
    conn.writer.use_timestamps(seg.has_timestamps and config.timestamps)
    rcv.ts_recent = seg.ts_value if conn.writer.stamped else 0
    snd.fit_mss()


def early_syn_left(conn: TcpConnection, now: float) -> None:
    """What `send_syn` does besides sending, of a SYN that `open_early` has sent."""
    conn.rcv.unscaled_window()
    conn.rcv.last_ack = conn.rcv.nxt
    conn.snd.arm_handshake(now)


def _options(config: TcpConfig, sack: bool, scaled: bool, shift: int) -> bytes:
    options = _MSS + config.mss.to_bytes(2, "big")
    if sack:
        options += _SACK_PERMITTED
    if scaled:
        options += _WINDOW_SCALE + bytes((shift,))
    return options


def send_syn(conn: TcpConnection, now: float) -> None:
    """Send our SYN (in SYN_SENT) or SYN-ACK (in SYN_RECEIVED), for the first time or again."""
    rcv, snd, config = conn.rcv, conn.snd, conn.config
    first = conn.state is _SYN_SENT
    sack, scaled = (config.sack, config.window_scaling) if first else (rcv.sack, conn.scaled)
    options = _options(config, sack, scaled, rcv.shift)
    window = rcv.unscaled_window()
    flags, ack = (SYN, 0) if first else (SYN | ACK, rcv.nxt)
    conn.writer.control(snd.una, ack, flags, window, now, rcv.ts_recent, options)
    rcv.last_ack = rcv.nxt
    rcv.ack_pending = False
    snd.arm_handshake(now)

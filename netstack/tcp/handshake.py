"""The two ends agree: SYNs and their options, as sent and as understood.

An option of RFC 7323 or RFC 2018 is in use if both SYNs carried it. The active
side offers what its configuration allows, the passive side repeats what it was
offered and allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netstack.tcp.constants import DEFAULT_MSS_V4, DEFAULT_MSS_V6, MIN_MSS
from netstack.tcp.receiver import window_shift
from netstack.tcp.states import State
from netstack.tcp_segment import ACK, SYN, TcpSegment

if TYPE_CHECKING:
    from netstack.tcp.config import TcpConfig
    from netstack.tcp.connection import TcpConnection

_SYN_SENT = State.SYN_SENT
_SACK_PERMITTED = b"\x01\x01\x04\x02"
_WINDOW_SCALE = b"\x01\x03\x03"
_MSS = b"\x02\x04"


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


def send_syn(conn: TcpConnection, now: float) -> None:
    """Send our SYN (in SYN_SENT) or SYN-ACK (in SYN_RECEIVED), for the first time or again."""
    rcv, snd, config = conn.rcv, conn.snd, conn.config
    first = conn.state is _SYN_SENT
    options = _MSS + config.mss.to_bytes(2, "big")
    if config.sack if first else rcv.sack:
        options += _SACK_PERMITTED
    if config.window_scaling if first else conn.scaled:
        options += _WINDOW_SCALE + bytes((rcv.shift,))
    window = rcv.unscaled_window()
    flags, ack = (SYN, 0) if first else (SYN | ACK, rcv.nxt)
    conn.writer.control(snd.una, ack, flags, window, now, rcv.ts_recent, options)
    rcv.last_ack = rcv.nxt
    rcv.ack_pending = False
    snd.arm_handshake(now)

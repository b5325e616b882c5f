"""Numbers of the TCP engine: what the specifications say, and what this implementation chose."""

from __future__ import annotations

# --- specification ---------------------------------------------------------------------------

MASK = 0xFFFF_FFFF
"""Sequence numbers and timestamps are 32 bits wide on the wire."""
HALF = 0x8000_0000
"""Half of that space: what is nearer than this, forwards, is later (RFC 9293, 3.4)."""

DEFAULT_MSS_V4 = 536
"""Of a peer that sends no MSS option (RFC 9293, 3.7.1)."""
DEFAULT_MSS_V6 = 1220
"""The same over IPv6."""
MIN_MSS = 48
"""The least that is believed of a peer, so that headers never outweigh the payload by far."""

INITIAL_RTO = 1.0
"""Seconds, before a round trip was measured (RFC 6298, 2.1)."""
DUP_THRESH = 3
"""Duplicate ACKs, or discontiguous SACKed runs, that prove a loss (RFC 5681, RFC 6675)."""
INITIAL_WINDOW_SEGMENTS = 10
"""RFC 6928."""
PAWS_IDLE = 24 * 24 * 3600.0
"""Seconds after which a remembered timestamp is too old to judge by (RFC 7323, 5.5)."""
TIMESTAMPS_LENGTH = 12
"""Bytes of NOP NOP TIMESTAMPS in every segment of a connection that uses them."""

# --- implementation --------------------------------------------------------------------------

MAX_REASSEMBLY_BLOCKS = 256
"""Holes a peer may leave in its sequence space at a time; the bytes are bounded by the window."""
MAX_SACKED_RANGES = 512
"""Runs remembered of what a peer has selectively acknowledged."""
MAX_SACK_BLOCKS = 3
"""Blocks in one ACK beside timestamps (RFC 2018, 3)."""

KEEP_WHOLE = 32 * 1024
"""Payload from which a send buffer is kept as it is until acknowledged. Below, its bytes are
copied and the buffer is free at once, so that small writes in flight do not hold 64 KiB each."""
WAKE_OFFLOAD = 32 * 1024
"""On a reliable link with data in flight, the window must have opened by this much before the
user is woken, so that bulk data go out in large pieces. An ACK is sure to come."""
WAKE_PLAIN = 16 * 1024
"""The same without offload."""
SURELY_WORTH = 0xFFFF
"""Bytes that are worth a packet whatever else holds: none is larger, nobody is woken for more."""

CHALLENGE_INTERVAL = 0.1
"""Seconds between challenge ACKs, and between ACKs of payloadless segments outside the window
(RFC 5961, 7, asks for some limit)."""
GARBAGE_SILENCE = 10.0
"""Seconds of silence after which an old byte is a keep-alive probe and no retransmission (the
garbage byte of RFC 9293, 3.8.4)."""
OUTPUT_RETRY = 0.1
"""Seconds until retransmissions that found the link's queue full are tried again."""
SUSPICION = 0.01
"""Seconds beyond two round trips after which a retransmission is taken for lost: the peer may
delay an ACK that long when segments come in bursts."""
MIN_PERSIST = 0.5
"""Shortest interval between zero-window probes. Linux answers no more than two in a second."""

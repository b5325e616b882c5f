"""Every number of WireGuard: first what its whitepaper fixes, then what is ours to choose.

Sizes are bytes, times seconds. Source: J. Donenfeld, "WireGuard: Next Generation
Kernel Network Tunnel", revision of 2020-06-01, sections 5 and 6.
"""

from __future__ import annotations

# --- specification ---------------------------------------------------------------------------

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
LABEL_MAC1 = b"mac1----"
LABEL_COOKIE = b"cookie--"

INITIATION = 1
RESPONSE = 2
COOKIE_REPLY = 3
DATA = 4

INITIATION_SIZE = 148
RESPONSE_SIZE = 92
COOKIE_REPLY_SIZE = 64
DATA_HEADER_SIZE = 16
"""type u32, receiver index u32, counter u64."""
DATA_OVERHEAD = 32
"""Header and tag: what is left of a datagram without a packet, the keepalive."""
MAC_SIZE = 16
MACS_SIZE = 32
"""mac1 and mac2, at the end of both handshake messages."""
TIMESTAMP_SIZE = 12
XNONCE_SIZE = 24
NO_PSK = bytes(32)
"""Stands in the handshake where the two have no preshared key."""
PADDING = 16
"""Packets are padded to multiples of this, but never beyond the MTU."""

REKEY_AFTER_MESSAGES = 2**60
REJECT_AFTER_MESSAGES = 2**64 - 2**13 - 1
REKEY_AFTER_TIME = 120.0
"""Who began a session begins the next one when he sends after this age."""
REJECT_AFTER_TIME = 180.0
"""Nothing is sent or taken under keys of this age."""
REKEY_ATTEMPT_TIME = 90.0
"""An initiation is repeated for so long."""
REKEY_TIMEOUT = 5.0
"""An initiation is repeated after this time, and never sooner."""
KEEPALIVE_TIMEOUT = 10.0
"""Whoever has received and sent nothing for so long says that he is there."""
COOKIE_LIFETIME = 120.0

# --- implementation ----------------------------------------------------------------------------

MAX_JITTER = 0.334
"""Added to times at which both ends might otherwise begin at once."""
MAX_ATTEMPTS = int(REKEY_ATTEMPT_TIME / REKEY_TIMEOUT)
KEYS_FORGOTTEN_AFTER = 3 * REJECT_AFTER_TIME
"""Age of the last session at which all keys of a silent peer are forgotten."""
MIN_INITIATION_INTERVAL = 0.02
"""Initiations of one peer that come closer than this are dropped."""
HANDSHAKES_PER_SECOND = 20.0
"""Initiations that one address may send, sustained, and in a burst."""
HANDSHAKE_BURST = 40.0
ALL_HANDSHAKES_PER_SECOND = 100.0
"""Initiations in all that are answered without a cookie: a fiftieth of a core."""
ALL_HANDSHAKE_BURST = 150.0
TIMESTAMP_GRAIN = 1 << 24
"""Nanoseconds (about 17 ms) to which our timestamps are rounded down, so that they tell no more
of our clock than they must."""
MAX_QUEUED = 60 * 1024
"""Sealed and unsealed bytes the writer takes before `room()` is used up: what goes out at once,
by one call (UDP_SEGMENT takes 64 KiB at most). A receiver whose socket has Linux' default buffer
(212,992 bytes) holds some ninety full datagrams, twice as many; bursts of several times this lose
their ends there."""
MAX_PEERS = 1024
MTU = 1420
"""Of the tunnel over a path of 1500 bytes, by IPv6 too."""

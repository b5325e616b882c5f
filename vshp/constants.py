"""Every number of the protocol: first what the specification fixes, then what is ours to choose.

Changing a number of the first group makes another protocol (docs/vshp.md lists
them); the second group may differ between two implementations that still talk.
Sizes are bytes, times seconds, unless a name says otherwise.
"""

from __future__ import annotations

from sealing.records import TAG_SIZE

# --- specification ---------------------------------------------------------------------------

MAGIC = b"VSHP"
VERSION = 1

PREAMBLE_SIZE = 8
"""magic 4, version 1, pattern 1, suite 1, flags 1; the prologue of the handshake."""
SECRET_ID_SIZE = 8
"""Follows the preamble when the pattern is IKpsk1, and is part of the prologue."""
FLAG_DATAGRAM = 0x01
"""Preamble flag: the session's records are datagrams."""
KNOWN_FLAGS = FLAG_DATAGRAM

DEFAULT_PORT = 47800
"""Where a gateway listens, and what an address without a port means."""
SECRET_SIZE = 16
"""A one-time secret, as it stands in a pairing URI."""
SESSION_ID_SIZE = 16
COMMIT_SIZE = 32
NONCE_SIZE = 32
"""Each side's share of the pairing code."""
CODE_DIGITS = 6

MESSAGE_HEADER_SIZE = 3
"""Handshake message on a stream: kind u8, length u16."""
MESSAGE_NOISE = 1
MESSAGE_REFUSED = 2

MAX_HANDSHAKE_MESSAGE = 1120
"""A Noise message with its payload; with the datagram header and cookie it fits 1200 bytes."""

RECORD_HEADER_SIZE = 4
"""Stream record: u32 length of the ciphertext that follows, tag included."""
MAX_RECORD_PLAINTEXT = 128 * 1024
"""One record; so a receiver's buffer of twice that always holds a whole one."""
MAX_EARLY_RECORD_PLAINTEXT = 1536
"""The same before there is a lease: strangers get no large buffer."""

FRAME_HEADER_SIZE = 4
"""type u8, length u24."""
FRAME_HEADER = "<BHB"
"""The same for `struct`: type, and the length's low 16 bits and high 8 bits."""
MAX_PEEK = 64
"""So much may be read from where a frame begins, in one go with its header, whether or not the
frame or the record is that long."""
FRAME_OPTIONAL = 0x80
"""Bit of a frame type or field tag: who does not know it skips it."""
OFFLOAD_HEADER_SIZE = 10
"""Linux's `virtio_net_hdr` without `num_buffers`, little-endian."""
MAX_PACKET = 65535
MIN_PACKET = 20
"""An IPv4 header; anything shorter cannot be an IP packet."""

MAX_LABEL = 64
MAX_PLATFORM = 32
MAX_NAME = 64
"""Labels, platforms and names: bytes of UTF-8."""
MAX_DETAIL = 128
"""The sentence in a CLOSE frame, bytes of UTF-8."""
MAX_TICKET = 192
MAX_ROUTES = 16
MAX_ENDPOINTS = 8
"""Of a gateway, in a pairing URI or in CONFIG."""
MAX_FIELDS = 32
"""Tagged fields in one frame."""
MIN_MTU = 1280
"""RFC 8200 section 5: no IPv6 link may have less."""
MAX_MTU = 65535

# Datagrams.
DATAGRAM_INITIATION = 1
DATAGRAM_RESPONSE = 2
DATAGRAM_FINISH = 3
DATAGRAM_COOKIE = 4
DATAGRAM_REFUSED = 5
DATAGRAM_DATA = 6
DATA_HEADER_SIZE = 16
"""type u8, epoch u8, reserved u16, receiver index u32, counter u64; authenticated."""
INITIATION_SIZE = 1200
"""An initiation is padded to this, so an answer is never larger than its question."""
CHALLENGE_SIZE = 8
"""The token that a new address has to send back."""

# --- implementation ----------------------------------------------------------------------------

RECEIVE_BUFFER = 256 * 1024
RECEIVE_BUFFER_MIN_FREE = 64 * 1024
"""What the driver always gets to receive into, once there is a lease."""
MAX_EARLY_RECORDS = 1024
"""Records that a peer may send before there is a lease: some minutes of PINGs, and no flood."""
EARLY_RECEIVE_BUFFER = 2048
"""Before a lease: one handshake message or one early record."""

MAX_QUEUED = 128 * 1024
"""Sealed and unsealed bytes the writer takes before `room()` is used up; keeps the queue short."""
MAX_QUEUED_DATAGRAMS = 60 * 1024
"""The same over UDP, which does not push back: what leaves in one go, by one call (UDP_SEGMENT
takes 64 KiB at most), and so what a small answer waits for. A socket with Linux' default buffer
holds some ninety full datagrams, twice as many."""
MAX_OUTPUT = 1024 * 1024
"""Hard bound of the writer's sealed bytes; what comes beyond is dropped and counted."""
SEAL_DIRECTLY_FROM = 4096
"""Packets at least this long are sealed from the caller's buffer; shorter ones are batched."""

HANDSHAKE_TIMEOUT = 10.0
"""From the first byte to HELLO (gateway) or to the gateway's answer (client)."""
DECISION_TIMEOUT = 30.0
"""How long the gateway's own code may sit on a HELLO before the session gives up."""
CONSENT_SECONDS = 120.0
"""How long a device that the owner has approved may wait for its own user's yes to the digits."""

SILENCE_BEFORE_PING = 2.0
"""Traffic goes out and nothing comes back for this long: ask."""
SILENCE_BEFORE_DEAD = 5.0
"""... and for this long, asked at least twice: the link is dead."""
LIVENESS_TICK = 0.5
"""How often silence is looked at while traffic flows; idle sessions do not tick."""
KEEPALIVE_STREAM = 240.0
KEEPALIVE_DATAGRAM = 25.0
"""An idle client pings this often (NATs forget UDP after ~30 s, TCP after minutes)."""
IDLE_PERIODS_BEFORE_DEAD = 3
"""A gateway that hears nothing for this many keep-alive intervals gives the link up."""

REKEY_AFTER_SECONDS = 900.0
REKEY_AFTER_BYTES = 32 * 1024**3
"""Far below AES-GCM's bound for one key (RFC 8446 section 5.5: 2^24.5 records of 16 KiB)."""
REKEY_AFTER_RECORDS = 1 << 26
OLD_KEY_SECONDS = 10.0
"""How long a datagram under the previous key is still taken after the first under the next."""

SECRET_LIFETIME = 120.0
MAX_SECRETS = 16
"""One-time secrets alive at once; the oldest goes first."""
MAX_SPENT_SECRETS = 64
"""Ids of used and expired secrets kept, so that each gets its own error."""

TICKET_LIFETIME = 30 * 24 * 3600.0
"""A ticket older than this is refused; a new one comes with every resume."""
MAX_TICKET_SESSIONS = 1024
"""Sessions whose newest ticket generation is remembered."""

HANDSHAKE_RETRY = 0.5
"""First retransmission of a datagram handshake message; doubles each time."""
MAX_HANDSHAKE_RETRY = 4.0
CHALLENGE_RETRY = 0.25
"""Seconds before the same address is asked again whether the peer is there."""
CONTROL_RETRY = 0.3
"""First retransmission of control frames on datagrams; doubles each time."""
MAX_CONTROL_RETRY = 3.0
MAX_CONTROL_QUEUE = 32
"""Control frames waiting for an acknowledgement."""
COOKIE_PERSON = b"VSHPcky1"
COOKIE_LIFETIME = 120.0
"""A cookie is accepted for this long to twice this long."""
DATAGRAM_OVERHEAD = DATA_HEADER_SIZE + FRAME_HEADER_SIZE + TAG_SIZE
"""What a datagram adds to the one IP packet in it."""
MIN_PATH_PAYLOAD = MIN_MTU + DATAGRAM_OVERHEAD
"""UDP payload that the smallest lease MTU needs; assumed to pass until the path is probed."""
MAX_PATH_PAYLOAD = 1500 - 28
"""UDP payload over IPv4 on Ethernet and Wi-Fi; the most that is probed."""
MAX_HALF_OPEN = 64
"""Datagram handshakes a listener holds at once; the oldest goes first."""
LOAD_HALF_OPEN = 16
"""Half-open handshakes from which on cookies are asked for."""

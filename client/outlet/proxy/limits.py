"""What programs, and whoever else reaches the proxy, may cost. Times are in seconds."""

from __future__ import annotations

MAX_CONNECTIONS = 8192
"""Connections in all, of every kind. Each takes a descriptor and some kilobytes."""
MAX_SPEAKING = 256
"""Connections whose request is not complete; the oldest gives way."""
SPEAKING_TIME = 20.0
"""For a request to be complete, from the first byte of the connection or since the last answer:
a byte now and then does not lengthen it."""
IDLE_TIME = 90.0
"""An HTTP connection with nothing asked: browsers keep theirs for about as long."""
LINGER_TIME = 2.0
"""After the last answer, for the program to take it: what it still sends is read and forgotten, for
a reset would take the answer away from it (RFC 9112, 9.6)."""
LINGER_BYTES = 1024 * 1024
READ_SIZE = 16 * 1024
"""Bytes of one read before there is a request."""
RELAY_SIZE = 64 * 1024
"""Bytes of one read of a message that is passed on."""
REST = 0.1
"""Without accepting, when there are no descriptors left."""

MAX_ASSOCIATIONS = 256
"""Programs with a UDP port."""
DATAGRAMS_PER_TURN = 64
"""Datagrams taken from a program before others have their turn."""
MAX_DATAGRAM = 65535
MAX_NAMES = 64
"""Names whose addresses an association remembers; the oldest gives way."""
NAME_TIME = 60.0
"""How long it does."""
MAX_WAITING_DATAGRAMS = 16
"""Datagrams that wait for their names to be looked up, of an association."""

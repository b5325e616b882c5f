"""A speed limit: how many bytes of one device may pass in one direction now.

Theory of operation. Nothing waits in a queue behind a limit. Toward the device
it is a bound on how much is read from sockets (`LinkPeer.pull`), so that a
TCP connection's bulk waits where it comes from, held back by the host's own
window; from the device it is how fast our TCP's windows open again
(`windows.PacedWindows`). Datagrams have no window: those beyond the limit are
dropped, and counted.

Credit is earned at the limit's rate and spent on IP bytes. There are two pots,
for *streams* (TCP) and for *datagrams* (UDP, ping), so that a flood of
datagrams, which asks nobody, cannot take what streams wait for. Each earns one
half, and what a full pot cannot hold goes to the other: who is alone has all.
A pot may be overdrawn by the last piece, and by what goes first, and pays that
back before anything else passes, so that the limit is held in the long run
whatever the sizes of pieces are.

*What goes first.* While its pot is overdrawn, by no more than a burst, a stream
that was idle is still read for a turn, and a flow of datagrams that sends little
(`Meter.sparse`) still passes. So the first bytes of a flow, a keystroke, a
name's answer and an echo do not wait behind the device's own bulk.

*What is not counted:* TCP segments without data (SYN, ACK, FIN, RST), which are
never held back either, and what is sent again because a link has lost it.
"""

from __future__ import annotations

from netstack.tcp.buffers import CAPACITY

BURST = 0.05
"""Seconds of the rate that a pot holds, and that it may be overdrawn by."""
LEAST_BURST = 3_000
"""Bytes that it holds at any rate: two full packets."""
DEBT = 2.0
"""Seconds of the rate beyond which what was overdrawn is forgiven."""
STEP = 0.005
"""Seconds of the rate in which who waits for credit is served."""
TURN = 0.0025
"""Seconds of the rate that one flow is served for, before the next one is."""
LEAST_TURN = 1_500
"""Bytes of the shortest turn."""
SPARSE = 1 / 16
"""Of the rate: what a flow of datagrams may use and still go first."""
LEAST_RATE = 8_000
"""Bits a second: no limit is lower. A full packet then takes more than a second."""
STAMPED_HEADERS = 52
"""Bytes of the headers of a TCP segment with timestamps over IPv4."""


class Meter:
    """What one flow of datagrams has used lately, one way."""

    __slots__ = ("_at", "_used")

    def __init__(self) -> None:
        self._used = 0.0
        self._at = 0.0

    def sparse(self, n: int, rate: float, now: float) -> bool:
        """Count `n` bytes that are offered; whether the flow uses little of `rate` bytes/s."""
        bound = max(LEAST_BURST, rate * SPARSE * BURST)
        used = max(0.0, self._used - (now - self._at) * rate * SPARSE)
        self._at = now
        self._used = min(used + n, 2 * bound)
        return used < bound


class Throttle:
    """One device's limit in one direction. Time is a parameter, in seconds."""

    __slots__ = ("_at", "_burst", "_datagrams", "_rate", "_streams", "bits")

    def __init__(self, bits: int, now: float) -> None:
        """`bits` a second, of IP packets; below LEAST_RATE it is that."""
        self.bits = bits
        self._rate = max(LEAST_RATE, bits) / 8
        self._burst = max(LEAST_BURST, self._rate * BURST)
        self._streams = 0.0
        self._datagrams = self._burst
        self._at = now

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self._rate

    @property
    def turn(self) -> int:
        """Bytes for which one flow is served before the next one is."""
        return max(LEAST_TURN, int(self._rate * TURN))

    def read_size(self, mtu: int) -> int:
        """The largest piece to read from a socket: full segments, as far as a turn has any."""
        segment = max(1, mtu - STAMPED_HEADERS)
        return min(CAPACITY, max(1, self.turn // segment) * segment)

    def _earn(self, now: float) -> None:
        elapsed = now - self._at
        if elapsed <= 0:
            return
        self._at = now
        half = elapsed * self._rate / 2
        burst = self._burst
        streams = self._streams + half
        datagrams = self._datagrams + half
        if streams > burst:
            datagrams += streams - burst
            streams = burst
        if datagrams > burst:
            streams = min(burst, streams + datagrams - burst)
            datagrams = burst
        self._streams = streams
        self._datagrams = datagrams

    # Streams.

    def streams(self, now: float) -> bool:
        """Whether a stream in its turn may pass something."""
        self._earn(now)
        return self._streams > 0

    @property
    def newcomers(self) -> bool:
        """Whether a stream that was idle may, where `streams` says no."""
        return self._streams > -self._burst

    def charge(self, n: int) -> None:
        """A stream has passed, or was allowed, `n` bytes; given back if negative."""
        self._streams = max(self._streams - n, -self._rate * DEBT)

    def delay(self) -> float:
        """Seconds until streams have a step's credit, as of the last look."""
        return max(0.001, (self._rate * STEP - self._streams) / self._rate)

    # Datagrams.

    def admit(self, meter: Meter, count: int, size: int, now: float) -> int:
        """How many of `count` datagrams, packets of `size` bytes, may pass, and charge for them."""
        self._earn(now)
        least = -self._burst if meter.sparse(count * size, self._rate, now) else 0.0
        room = self._datagrams - least
        if room <= 0:
            return 0
        admitted = min(count, int(room // size) + 1)
        self._datagrams -= admitted * size
        return admitted

"""How much may wait in the queue to a link: about a hundredth of a second of it.

What is sealed and queued can no longer be overtaken, so on a slow link a full
queue is delay for everybody's next packet, whatever the scheduler does. The
link says how much room there is, in bytes; this says how much of it to use,
from how fast the link was seen to take what was queued.

The rate is sampled over windows of at least SAMPLE seconds in which the queue
was never seen empty: only then was the link, and not its feeding, the limit.
A queue that is found empty means that the link takes more than it was given:
the estimate doubles. So a fast link is soon not bounded at all, and one that
becomes slow is found out in a few samples.
"""

from __future__ import annotations

from netstack.tcp.buffers import CAPACITY

TARGET = 0.010
"""Seconds of the link that may be queued."""
SAMPLE = 0.005
"""Shortest time over which a rate is taken."""
LEAST = 16 * 1024
"""Bytes that may always be queued: below, the cost per read tells on any link."""
LEAST_READ = 8 * 1024
"""Smallest piece that sockets are read in."""
SLOWEST = LEAST / TARGET / 1024
"""Bytes a second: a stuck link is not taken for slower, so that it is found out when it goes on."""
UNBOUNDED = 1e9
"""Bytes a second from which on the link's own bound is enough."""


class QueuePace:
    """The pace of one link; another link gets another one."""

    __slots__ = ("_drained", "_left", "_rate", "_room", "_since")

    def __init__(self) -> None:
        self._rate = UNBOUNDED
        self._room = 0
        """The most room that was ever seen: that of an empty queue."""
        self._left = 0
        """What was queued when last seen."""
        self._since = 0.0
        self._drained = 0

    def allowance(self, room: int, now: float) -> int:
        """Bytes that may be queued now, given the room that the link says it has."""
        if room > self._room:
            self._room = room
        queued = self._room - room
        if queued <= 0:
            if self._left and self._rate < UNBOUNDED:
                self._rate *= 2
            self._since = now
            self._drained = 0
        else:
            # Frames that are not packets may have joined the queue meanwhile.
            self._drained += max(0, self._left - queued)
            elapsed = now - self._since
            if elapsed >= SAMPLE:
                self._rate = max(SLOWEST, (self._rate + self._drained / elapsed) / 2)
                self._since = now
                self._drained = 0
        target = self._rate * TARGET
        if target >= self._room:
            return room
        return min(room, max(LEAST, int(target)) - queued)

    def resume(self, room: int, now: float) -> None:
        """The queue was not looked at for a while, as there was nothing to fill it with: what it
        did meanwhile is no sample. A queue that has emptied says as much as if it had been seen."""
        self._since = now
        self._drained = 0
        queued = self._room - room
        if 0 < queued < self._left:
            self._left = queued

    def filled(self, room: int) -> None:
        """The room that is left after the queue was filled."""
        self._left = max(0, self._room - room)

    def read_size(self, allowance: int) -> int:
        """The largest piece to read from a socket when `allowance` may be queued."""
        return min(CAPACITY, max(LEAST_READ, allowance))

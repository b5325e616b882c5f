"""What a flood may cost: a budget of CPU time, and a filter in the kernel for when it is used up.

Theory of operation. Links over UDP share their door's socket with everybody who sends
anything there, so datagrams of strangers cannot be left unread without leaving the links'
unread, too. Looking at one costs some microseconds in Python. When strangers have used up
their budget the door puts a filter (`bpf`) on the socket: the kernel then drops at once
whatever names no session of ours, but for what may begin one; if that is the flood, it lets
ever less of it through (the door's own program says what at which level). After a while the
sieve is made finer by one step, to see whether the flood goes on: each such look costs what the
strangers may have for a second, so while the flood goes on each look comes twice as late as the
one before (`Sifting`).

A door tells its `Strangers` of each run that it takes: `known`, or `stranger`. Where the kernel
has no such filters, what is beyond the budget is read and thrown away.
"""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from collections.abc import Callable, Collection
from time import thread_time

from gateway import bpf
from gateway.bpf import Program
from vshp.constants import DATAGRAM_DATA, DATAGRAM_FINISH, DATAGRAM_INITIATION, MAGIC

SHARE = 0.05
"""Of one core, for strangers; with what it costs to wake up for them, a tenth."""
SAVED_SECONDS = 0.25
"""CPU seconds that may be saved up, so that a burst of newcomers is served at once."""
MAX_DEBT = 0.04
"""CPU seconds: after half a second without strangers the next one is served, whatever was."""
SIEVE_SECONDS = 1.0
"""How long the sieve is on before the flood is looked for again; twice as long after each look
that finds it, until `MAX_SIEVE_SECONDS`."""
MAX_SIEVE_SECONDS = 8.0
SETTLE_SECONDS = 0.1
"""For so long what comes was in the socket before the sieve was on, and says nothing of it."""
MAX_INDICES = 1500
"""Sessions that a filter names; kernels take programs of 4096 instructions."""

COARSE = 2
"""The level at which most first messages are dropped, too."""
_INDEX_AT = bpf.UDP_HEADER + 4
_MAGIC_AT = bpf.UDP_HEADER + 24
_ONE_IN = 1024


class Budget:
    """CPU seconds for strangers: `SHARE` of each second, saved up to `SAVED_SECONDS`."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = SAVED_SECONDS
        self._at = now

    def charge(self, seconds: float, now: float) -> bool:
        """Strangers have cost so much; whether something is left."""
        left = min(SAVED_SECONDS, self._left + (now - self._at) * SHARE) - seconds
        self._left = max(left, -MAX_DEBT)
        self._at = now
        return self._left > 0

    def forgo(self, now: float) -> None:
        """Give up what is saved beyond a second's share: it would go to a flood at one look."""
        self.charge(0.0, now)
        self._left = min(self._left, SHARE)

    def wait(self) -> float:
        """Seconds until something is left again, as of the last charge."""
        return max(0.0, -self._left) / SHARE


class Sifting:
    """How coarse the sieve has to be, and when to look whether it still has to.

    A table of three events. `overspent`: one step coarser, unless that was done a moment ago; if
    this is what a look found, the next look comes twice as late. `look`, when `at` has come: one
    step finer, and what comes until the next look is what it found; when a look has found
    nothing, the next ones come sooner again. With nothing to look for, `at` is None.
    """

    __slots__ = ("_changed", "_hold", "_looking", "_most", "at", "level")

    def __init__(self, most: int = COARSE) -> None:
        """`most` is the coarsest level of the program."""
        self._most = most
        self.level = 0
        """0 off, 1 strangers' garbage is dropped, from 2 on most first messages, too."""
        self.at: float | None = None
        """When to `look`."""
        self._hold = SIEVE_SECONDS
        self._looking = False
        """The sieve was made finer, and nothing has come of it so far."""
        self._changed = float("-inf")

    def overspent(self, now: float) -> bool:
        """Strangers have used up what they may; whether the sieve gets coarser by it."""
        if self.level == self._most or now - self._changed < SETTLE_SECONDS:
            return False
        self._hold = min(2 * self._hold, MAX_SIEVE_SECONDS) if self._looking else SIEVE_SECONDS
        self._looking = False
        self.level += 1
        self._changed = now
        self.at = now + self._hold
        return True

    def look(self, now: float) -> bool:
        """`at` has come; whether the sieve gets finer by it."""
        if self._looking:
            self._hold = max(self._hold / 2, SIEVE_SECONDS)
        if not self.level:
            self._looking = False
            self.at = None
            return False
        self._looking = True
        self.level -= 1
        self.at = now + self._hold
        return True


def program(indices: Collection[int], few_firsts: bool) -> Program:
    """VSHP's: lets sessions' datagrams and well-formed first messages pass; with `few_firsts`
    one in 1024 of the latter. Too many sessions to name are let pass all."""
    first = [
        bpf.load_word(_MAGIC_AT),
        bpf.if_equal(int.from_bytes(MAGIC, "big"), 0, 1),
        bpf.ACCEPT,
        bpf.DROP,
    ]
    if few_firsts:
        first = [bpf.BY_CHANCE, bpf.if_any_bit(_ONE_IN - 1, 3 + 1, 0), *first]
    return [
        bpf.load_byte(bpf.UDP_HEADER),
        bpf.if_equal(DATAGRAM_INITIATION, 0, len(first)),
        *first,
        bpf.if_equal(DATAGRAM_DATA, 2, 0),
        bpf.if_equal(DATAGRAM_FINISH, 1, 0),
        bpf.DROP,
        bpf.load_word(_INDEX_AT),
        *named(indices),
    ]


def named(indices: Collection[int]) -> Program:
    """Ends a program: accepts if the word that was loaded is one of these, little-endian."""
    if len(indices) > MAX_INDICES:
        return [bpf.ACCEPT]
    found = [
        each for index in indices for each in (bpf.if_equal(bpf.swapped(index), 0, 1), bpf.ACCEPT)
    ]
    return [*found, bpf.DROP]


class Sieve:
    """The filter on one UDP socket: off, or of some level."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.level = 0

    def set(self, level: int, program: Program) -> None:
        """Put the filter on (anew), or take it off."""
        try:
            if level:
                bpf.attach(self._sock, program)
            elif self.level:
                bpf.detach(self._sock)
        except OSError:
            # Not allowed here: everything is read.
            return
        self.level = level


class Strangers:
    """What they cost at one socket, and the sieve that follows from it."""

    __slots__ = (
        "_began",
        "_budget",
        "_clock",
        "_counts",
        "_name",
        "_program",
        "_relief",
        "_runs",
        "_sieve",
        "_sifting",
        "_strange",
        "spent",
    )

    def __init__(
        self,
        sock: socket.socket,
        budget: Budget,
        clock: Callable[[], float],
        counts: defaultdict[str, int],
        name: str,
        program: Callable[[int], Program],
        most: int = COARSE,
    ) -> None:
        """`program` makes the sieve's of a level up to `most`; counters begin with `name`."""
        self._sieve = Sieve(sock)
        self._sifting = Sifting(most)
        self._budget = budget
        self._clock = clock
        self._counts = counts
        self._name = name
        self._program = program
        self._runs = self._strange = 0
        """Runs of datagrams in this turn since the first stranger's, and those of strangers."""
        self._began = 0.0
        """The thread's CPU time then: links alone pay for no look at that clock."""
        self._relief: asyncio.TimerHandle | None = None
        self.spent = False
        """They have used up their CPU time, as of the beginning of this turn."""

    @property
    def level(self) -> int:
        """Of the sieve."""
        return self._sieve.level

    def turn(self, now: float) -> None:
        """Runs are going to be taken."""
        self._runs = self._strange = 0
        if self.spent:
            # While the kernel drops the others, there may be something for who comes now.
            self.spent = not self._budget.charge(0.0, now)

    def known(self) -> None:
        """A run is a session's."""
        self._runs += self._strange > 0

    def stranger(self) -> bool:
        """A run is a stranger's; whether it may be looked at."""
        if not self._strange:
            self._began = thread_time()
        self._strange += 1
        self._runs += 1
        if self.spent:
            # What is still in the socket from before the sieve; or there is none here.
            self._counts[f"{self._name}__flood__dropped"] += 1
        return not self.spent

    def turned(self, now: float) -> None:
        """All runs of the turn were taken: strangers' part of the time is charged; beyond their
        budget they are sifted."""
        if not self._strange:
            return
        seconds = (thread_time() - self._began) * self._strange / self._runs
        self.spent = not self._budget.charge(seconds, now)
        if self.spent and self._sifting.overspent(now):
            first = "first_" if self._sifting.level > 1 else ""
            self._counts[f"{self._name}__flood__{first}sifted"] += 1
            self._sift(now)

    def name_anew(self) -> None:
        """There is another session, which the sieve has to let pass."""
        if self._sieve.level:
            self._sieve.set(self._sieve.level, self._program(self._sieve.level))

    def close(self) -> None:
        """The socket is going to be closed."""
        if self._relief is not None:
            self._relief.cancel()
            self._relief = None

    def _sift(self, now: float) -> None:
        """Drop in the kernel what no session is named by, more or less of it, for a while."""
        level = self._sifting.level
        self._sieve.set(level, self._program(level) if level else [])
        self.close()
        if self._sifting.at is not None:
            loop = asyncio.get_running_loop()
            self._relief = loop.call_later(self._sifting.at - now, self._relieve)

    def _relieve(self) -> None:
        """See whether the flood has ended: a step back at a time."""
        self._relief = None
        self.spent = False
        now = self._clock()
        if self._sifting.look(now):
            self._budget.forgo(now)
        self._sift(now)

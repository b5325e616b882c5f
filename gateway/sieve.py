"""What a flood may cost: a budget of CPU time, and a filter in the kernel for when it is used up.

Theory of operation. Links over UDP share their door's socket with everybody who sends
anything there, so datagrams of strangers cannot be left unread without leaving the links'
unread, too. Looking at one costs some microseconds in Python. When strangers have used up
their budget the door puts a classic BPF program on the socket (SO_ATTACH_FILTER, socket(7),
which needs no privilege): the kernel then drops at once whatever names no session of ours,
but for well-formed first messages; if those are the flood, it lets one in 1024 of them through,
by chance. After a while the sieve is taken off, or made finer by one step, to see whether
the flood goes on: each such look costs what the strangers may have for a second, so while the
flood goes on each look comes twice as late as the one before (`Sifting`).

Where the kernel has no such filters everything is read as before.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection

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
SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27

# linux/filter.h
_LOAD_BYTE, _LOAD_WORD = 0x30, 0x20
_JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x15, 0x45, 0x06
_RANDOM = 0xFFFFF000 + 56
"""SKF_AD_OFF + SKF_AD_RANDOM: a random word in the place of the packet's."""
_ALL = 0xFFFFFFFF
_UDP_HEADER = 8
_INDEX_AT = _UDP_HEADER + 4
_MAGIC_AT = _UDP_HEADER + 24
_ONE_IN = 1024

_instruction = struct.Struct("=HBBI").pack
Instruction = tuple[int, int, int, int]
"""code, offset if true, offset if not, operand."""


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

    __slots__ = ("_changed", "_hold", "_looking", "at", "level")

    def __init__(self) -> None:
        self.level = 0
        """0 off, 1 strangers' garbage is dropped, `COARSE` most first messages, too."""
        self.at: float | None = None
        """When to `look`."""
        self._hold = SIEVE_SECONDS
        self._looking = False
        """The sieve was made finer, and nothing has come of it so far."""
        self._changed = float("-inf")

    def overspent(self, now: float) -> bool:
        """Strangers have used up what they may; whether the sieve gets coarser by it."""
        if self.level == COARSE or now - self._changed < SETTLE_SECONDS:
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


def program(indices: Collection[int], few_firsts: bool) -> list[Instruction]:
    """Lets sessions' datagrams and well-formed first messages pass; with `few_firsts`
    one in 1024 of the latter. Too many sessions to name are let pass all."""
    first: list[Instruction] = [
        (_LOAD_WORD, 0, 0, _MAGIC_AT),
        (_JUMP_EQUAL, 0, 1, int.from_bytes(MAGIC, "big")),
        (_RETURN, 0, 0, _ALL),
        (_RETURN, 0, 0, 0),
    ]
    if few_firsts:
        by_chance = [(_LOAD_WORD, 0, 0, _RANDOM), (_JUMP_ANY_BIT, 3 + 1, 0, _ONE_IN - 1)]
        first = [*by_chance, *first]
    known: list[Instruction] = []
    if len(indices) <= MAX_INDICES:
        for index in indices:
            # The index is little-endian on the wire, and BPF loads big-endian.
            word = int.from_bytes(index.to_bytes(4, "little"), "big")
            known += [(_JUMP_EQUAL, 0, 1, word), (_RETURN, 0, 0, _ALL)]
        known.append((_RETURN, 0, 0, 0))
    else:
        known.append((_RETURN, 0, 0, _ALL))
    return [
        (_LOAD_BYTE, 0, 0, _UDP_HEADER),
        (_JUMP_EQUAL, 0, len(first), DATAGRAM_INITIATION),
        *first,
        (_JUMP_EQUAL, 2, 0, DATAGRAM_DATA),
        (_JUMP_EQUAL, 1, 0, DATAGRAM_FINISH),
        (_RETURN, 0, 0, 0),
        (_LOAD_WORD, 0, 0, _INDEX_AT),
        *known,
    ]


class Sieve:
    """The filter on one UDP socket: off, fine, or coarse."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.level = 0
        """0 off, 1 strangers' garbage is dropped, `COARSE` most first messages, too."""

    def set(self, level: int, indices: Collection[int]) -> None:
        """Put the filter on (anew), or take it off."""
        try:
            if level:
                wire = b"".join(_instruction(*each) for each in program(indices, level == COARSE))
                held = ctypes.create_string_buffer(wire, len(wire))
                described = struct.pack("@HP", len(wire) // 8, ctypes.addressof(held))
                self._sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, described)
            elif self.level:
                self._sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        except OSError:
            # Not allowed here: everything is read.
            return
        self.level = level

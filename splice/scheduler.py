"""Who is read next when the link has room: deficit round robin, newcomers first.

The queue to a client's link is kept short by not reading from sockets, so the
backlog of each flow waits in its own socket, and this queue only orders the
flows. It is FQ-CoDel's scheduler (RFC 8290 4.1 and 4.2) without CoDel. A flow
that becomes readable after a pause is *new* and is served before all *old*
ones, for one quantum: so a keystroke or a DNS answer overtakes a bulk
transfer. A flow that runs dry while new takes a place in the old list and
keeps its debt, so that becoming readable again and again gains nothing over
the flows that wait there.
"""

from __future__ import annotations

from collections import deque

QUANTUM = 64 * 1024
"""Bytes a flow may be read for in a round: about what one read gives at most."""

_OUT, _NEW, _OLD = range(3)


class Member:
    """A flow that may be in a FairQueue. The fields belong to the queue alone."""

    __slots__ = ("backlogged", "deficit", "place")

    def __init__(self) -> None:
        self.deficit = 0
        self.place = _OUT
        self.backlogged = False


class FairQueue:
    """An order over members that have something to be read."""

    __slots__ = ("_new", "_old", "prompt", "quantum", "waiting")

    def __init__(self, quantum: int = QUANTUM) -> None:
        self._new: deque[Member] = deque()
        self._old: deque[Member] = deque()
        self.quantum = quantum
        """Bytes of a round. It may be set at any time."""
        self.prompt = False
        """Whether who ran dry and has not used up its round is *new* again when it is readable,
        for the rest of it. A round of many flows is long where a speed limit makes it so."""
        self.waiting = 0
        """Members that have something to be read."""

    def add(self, member: Member) -> None:
        """`member` has something to be read (again)."""
        if member.backlogged:
            return
        member.backlogged = True
        self.waiting += 1
        if member.place == _OUT:
            member.place = _NEW
            member.deficit = self.quantum
            self._new.append(member)
        elif self.prompt and member.place == _OLD and member.deficit > 0:
            self._old.remove(member)
            member.place = _NEW
            self._new.append(member)

    def idle(self, member: Member) -> None:
        """`member` has nothing to be read; it leaves when its turn comes."""
        if member.backlogged:
            member.backlogged = False
            self.waiting -= 1

    def next(self) -> Member | None:
        """Whose turn it is. Say with `charge` what it used; ask again for the one after."""
        if not self.waiting:
            # Those who ran dry would only be looked at to be let go: their debts are forgiven
            # too, as nobody waited for them.
            self._forget()
            return None
        if self._new:
            newcomer = self.newcomer()
            if newcomer is not None:
                return newcomer
        while True:
            member = self._old[0]
            if not member.backlogged:
                self._old.popleft()
                member.place = _OUT
                continue
            if member.deficit > 0:
                return member
            member.deficit += self.quantum
            self._old.rotate(-1)

    def newcomer(self) -> Member | None:
        """Whose turn it is of those who were idle before; None: only old ones wait."""
        while self._new:
            member = self._new[0]
            if member.backlogged and member.deficit > 0:
                return member
            self._new.popleft()
            member.place = _OLD
            self._old.append(member)
            if member.deficit <= 0:
                member.deficit += self.quantum
        return None

    def is_new(self, member: Member) -> bool:
        """Whether `member` is served first, as it was idle before."""
        return member.place == _NEW

    def charge(self, member: Member, used: int) -> None:
        """`member` was read for `used` bytes."""
        member.deficit -= used

    def remove(self, member: Member) -> None:
        """`member` is no more."""
        self.idle(member)
        if member.place == _NEW:
            self._new.remove(member)
        elif member.place == _OLD:
            self._old.remove(member)
        member.place = _OUT

    def _forget(self) -> None:
        for members in (self._new, self._old):
            for member in members:
                member.place = _OUT
            members.clear()

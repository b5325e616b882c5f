"""A bounded stock that several parties take from, shared by need: pure.

Whoever asks is served while there is room. Once there is none, the richest gives back to
who has less, until all who want more hold the same (max-min fairness): so nobody can hold
everything, and a place not wanted by others is nobody's reserve but free to use.
"""

from __future__ import annotations


class Shares:
    """What each party holds of `total`. The caller frees what a `richest` must give back."""

    __slots__ = ("_held", "taken", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken = 0
        self._held: dict[str, int] = {}

    def held(self, party: str) -> int:
        return self._held.get(party, 0)

    @property
    def full(self) -> bool:
        return self.taken >= self.total

    def add(self, party: str, amount: int = 1) -> None:
        self._held[party] = self._held.get(party, 0) + amount
        self.taken += amount

    def remove(self, party: str, amount: int = 1) -> None:
        """Give back. Raises ValueError, and changes nothing, if the party does not hold as much."""
        left = self._held.get(party, 0) - amount
        if left < 0:
            raise ValueError(f"{party!r} does not hold that much")
        self.taken -= amount
        if left:
            self._held[party] = left
        else:
            del self._held[party]

    def clear(self) -> None:
        self._held.clear()
        self.taken = 0

    def richest(self) -> str | None:
        """Who holds most; None when nobody holds anything."""
        return max(self._held, key=self._held.__getitem__, default=None)

    def gives_way_to(self, party: str) -> str | None:
        """Who has to give one back so that `party` may have one more; None: nobody has to.

        Nobody has to where the party itself would then be the richer.
        """
        richest = self.richest()
        if richest is None or self._held[richest] < self.held(party) + 2:
            return None
        return richest

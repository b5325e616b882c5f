"""Counters named by path and outcome, `tcp__no_flow__rst_sent`.

The last part of a name says what became of the packet. Of every packet from
the tunnel exactly one such name is counted, so that always

    packets from the tunnel = forwarded + answered + dropped

Names whose last part is none of `FORWARDED`, `ANSWERED` and `DROPPED` count
other things (flows opened, packets from the network) and are not in that sum.
"""

from __future__ import annotations

from collections import defaultdict

FROM_TUNNEL = "tunnel__packets"
"""Every packet that came from a client, whatever became of it."""

FORWARDED = frozenset({"forwarded", "held"})
"""Went on to the network (or waits in the reassembly for the rest of its datagram)."""
ANSWERED = frozenset({"answered", "icmp_sent", "rst_sent"})
"""The NAT answered it itself."""
DROPPED = frozenset({"dropped"})


class Counters:
    """A dictionary of ints, open to increments: `counters.counts[name] += 1`.

    A device has its own, a part of the gateway's: what is counted there is counted once, and
    added up by who reads.
    """

    __slots__ = ("_parts", "counts")

    def __init__(self) -> None:
        self.counts: defaultdict[str, int] = defaultdict(int)
        """Without those of the parts."""
        self._parts: set[Counters] = set()

    def part(self) -> Counters:
        """Others, whose counts are among these."""
        part = Counters()
        self._parts.add(part)
        return part

    def take_in(self, part: Counters) -> None:
        """The part has come to its end; what it has counted stays."""
        self._parts.remove(part)
        for name, n in part.counts.items():
            self.counts[name] += n

    def total(self) -> defaultdict[str, int]:
        """These and those of all parts."""
        total = self.counts.copy()
        for part in self._parts:
            for name, n in part.counts.items():
                total[name] += n
        return total

    def snapshot(self) -> dict[str, int]:
        """All counters that are not zero, sorted by name."""
        return {name: n for name, n in sorted(self.total().items()) if n}

    def balance(self) -> tuple[int, int, int, int]:
        """Packets from the tunnel, and of these forwarded, answered and dropped."""
        forwarded = answered = dropped = 0
        total = self.total()
        for name, n in total.items():
            outcome = name.rpartition("__")[2]
            if outcome in FORWARDED:
                forwarded += n
            elif outcome in ANSWERED:
                answered += n
            elif outcome in DROPPED:
                dropped += n
        return total[FROM_TUNNEL], forwarded, answered, dropped

"""The sieve of a WireGuard door (`sieve` says what it is for).

Theory of operation. Data, responses and cookie replies name an index of ours, so of those only
what is ours passes at any level. Initiations are what floods are made of: whoever has seen a
config can make them by the thousand. Who is in the middle of a flood, though, are devices that
begin their next session, and newcomers, and an app has one way only, and tries every five seconds.
So the levels tell them apart, as long as that helps:

    1  all initiations pass
    2  but those from where most of them come (`Loud`)
    3  of the others some, by chance; all where the flood is not: from where a device of ours is,
    .. or with a mac2, which who heard a cookie of ours has; ever fewer by chance
    6  one in 1024, whatever they look like: the flood is made to look like devices
"""

from __future__ import annotations

import socket
from collections.abc import Collection

from gateway import bpf
from gateway.bpf import Program
from gateway.sieve import named
from wireguard.constants import COOKIE_REPLY, DATA, INITIATION, INITIATION_SIZE, MAC_SIZE, RESPONSE

LEVELS = 6
LOUD_FROM = 2
CHANCES = {3: 2, 4: 5, 5: 8, 6: 10}
"""By level: of 2 to this power, one passes."""
MAX_ADDRESSES = 100
"""That a filter names, of the loud and of devices each: with its indices the program is less than
4096 instructions long."""
LOUD = 30
"""Initiations of one sender in two seconds that are more than a household behind one address
begins with, all their retries."""
MAX_SENDERS = 4096
"""That are told apart; a flood of more has no loud ones."""

_BODY = bpf.UDP_HEADER
_MAC2_AT = _BODY + INITIATION_SIZE - MAC_SIZE
_SOURCE4, _SOURCE6 = bpf.NETWORK + 12, bpf.NETWORK + 8

Sender = bytes
"""What an address counts as (`neighbours`): 4 bytes, or the first 8 of an IPv6 one."""


def sender_of(host: str) -> Sender:
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8]
    return socket.inet_aton(host)


class Loud:
    """Where most of what strangers send comes from."""

    __slots__ = ("_before", "_counts", "_since", "senders")

    def __init__(self) -> None:
        self._counts: dict[Sender, int] = {}
        """Of this second."""
        self._before: dict[Sender, int] = {}
        """Of the one before."""
        self._since = 0.0
        self.senders: set[Sender] = set()

    def note(self, sender: Sender, now: float) -> None:
        """A run of datagrams came from there."""
        if now - self._since >= 1.0:
            self._before = self._counts if now - self._since < 2.0 else {}
            self._counts = {}
            self._since = now
        counts = self._counts
        if sender in counts or len(counts) < MAX_SENDERS:
            counts[sender] = counts.get(sender, 0) + 1

    def judge(self) -> None:
        """Strangers have used up what they may: add those that are loud now."""
        known = {*self._counts, *self._before} - self.senders
        sums = [(self._counts.get(s, 0) + self._before.get(s, 0), s) for s in known]
        found = sorted((each for each in sums if each[0] >= LOUD), reverse=True)
        self.senders.update(s for _, s in found[: MAX_ADDRESSES - len(self.senders)])

    def forget(self) -> None:
        """The flood has ended."""
        self.senders.clear()


def program(
    level: int, indices: Collection[int], loud: Collection[Sender], devices: Collection[Sender]
) -> Program:
    """`indices` are ours; `devices` are where those that are let in were heard."""
    firsts: Program = []
    if level >= LOUD_FROM:
        firsts += _from(loud, bpf.DROP)
    if level in CHANCES:
        if level < LEVELS:
            firsts += _from(devices, bpf.ACCEPT)
            for word in range(0, MAC_SIZE, 4):
                firsts += [bpf.load_word(_MAC2_AT + word), bpf.if_equal(0, 1, 0), bpf.ACCEPT]
        firsts += [bpf.BY_CHANCE, bpf.if_any_bit((1 << CHANCES[level]) - 1, 0, 1), bpf.DROP]
    others = [
        bpf.if_equal(bpf.swapped(DATA), 3, 0),
        bpf.if_equal(bpf.swapped(COOKIE_REPLY), 2, 0),
        bpf.if_equal(bpf.swapped(RESPONSE), 3, 0),
        bpf.DROP,
        bpf.load_word(_BODY + 4),
        bpf.jump(1),
        bpf.load_word(_BODY + 8),
        *named(indices),
    ]
    first = bpf.if_equal(bpf.swapped(INITIATION), 0, 1)
    return [bpf.load_word(_BODY), first, bpf.jump(len(others)), *others, *firsts, bpf.ACCEPT]


def _from(senders: Collection[Sender], verdict: bpf.Instruction) -> Program:
    """What is to become of datagrams from there; the first `MAX_ADDRESSES` of them."""
    found: Program = []
    for sender in list(senders)[:MAX_ADDRESSES]:
        words = [int.from_bytes(sender[at : at + 4], "big") for at in range(0, len(sender), 4)]
        at = _SOURCE4 if len(words) == 1 else _SOURCE6
        for n, word in enumerate(words):
            behind = 2 * (len(words) - n - 1) + 1
            found += [bpf.load_word(at + 4 * n), bpf.if_equal(word, 0, behind)]
        found.append(verdict)
    return found

"""Key pairs: what one handshake leaves, and how they follow each other (whitepaper 6.3).

Theory of operation. A peer has up to three:

    next       we answered an initiation; nothing is sent under it before something of the
               peer's has authenticated under it, for the initiation may have been a replay
    current    everything is sent under this one
    previous   what is still under way may arrive

    event                        next      current   previous
    we answered (`respond`)      the new   stays     dropped
    confirmed  (`confirm`)       none      the next  the current
    we began and were answered
      (`complete`), no next      none      the new   the current
      with a next                none      the new   the next
    wiped      (`clear`)         none      none      none

Confirming what is not `next` is a misuse and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sealing.errors import LocalMisuse
from sealing.records import Cipher, RecordKey
from sealing.replay import ReplayWindow
from sealing.runs import SealingKey
from wireguard.constants import DATA, REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME
from wireguard.noise import TransportKeys

if TYPE_CHECKING:
    from wireguard.peer import Peer


class KeyPair:
    """One key for each direction, the two indices, the counters."""

    __slots__ = (
        "born",
        "decrypt_into",
        "index",
        "initiator",
        "nonce",
        "peer",
        "sealing",
        "window",
    )

    def __init__(
        self,
        peer: Peer,
        index: int,
        remote: int,
        keys: TransportKeys,
        initiator: bool,
        now: float,
    ) -> None:
        send, receive = (RecordKey(Cipher.CHACHAPOLY, key) for key in keys)
        self.peer = peer
        self.index = index
        """Ours: how the peer's datagrams are found."""
        self.initiator = initiator
        """Whether the handshake was begun here."""
        self.born = now
        self.sealing = SealingKey(DATA, remote, send.encrypt_into, send.nonce, bound=False)
        """What is sent carries the peer's index."""
        self.window = ReplayWindow()
        self.nonce = receive.nonce
        self.decrypt_into = receive.decrypt_into

    def usable(self, now: float) -> bool:
        """Whether something may still be sent under it."""
        return now - self.born < REJECT_AFTER_TIME and self.sealing.counter < REJECT_AFTER_MESSAGES


class KeyPairs:
    """The three of one peer; `dropped` is called with each that is not needed any more."""

    __slots__ = ("_dropped", "current", "next", "previous")

    def __init__(self, dropped: Callable[[KeyPair], None]) -> None:
        self._dropped = dropped
        self.previous: KeyPair | None = None
        self.current: KeyPair | None = None
        self.next: KeyPair | None = None

    def respond(self, pair: KeyPair) -> None:
        """We answered an initiation."""
        self._set(next_=pair, current=self.current, previous=None)

    def confirm(self, pair: KeyPair) -> None:
        """The peer speaks under it. Raises LocalMisuse unless it is `next`."""
        if pair is not self.next:
            raise LocalMisuse("keypair_not_next")
        self._set(next_=None, current=pair, previous=self.current)

    def complete(self, pair: KeyPair) -> None:
        """The peer answered an initiation of ours."""
        self._set(next_=None, current=pair, previous=self.next or self.current)

    def clear(self) -> None:
        """Forget all keys."""
        self._set(next_=None, current=None, previous=None)

    def all(self) -> list[KeyPair]:
        """Those that are there, the oldest first."""
        return [p for p in (self.previous, self.current, self.next) if p is not None]

    def _set(
        self, next_: KeyPair | None, current: KeyPair | None, previous: KeyPair | None
    ) -> None:
        before = self.all()
        self.next, self.current, self.previous = next_, current, previous
        kept = self.all()
        for pair in before:
            if pair not in kept:
                self._dropped(pair)

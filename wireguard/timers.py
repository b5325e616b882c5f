"""The timers of one peer (whitepaper section 6).

Theory of operation. Five deadlines, each set and taken back by what is sent and heard:

    deadline    set when                              taken back when           then
    keepalive   data came, none of ours went since    anything was sent         say we are there
    silence     data went, nothing came since         anything authentic came   begin a handshake
    retry       an initiation went                    a handshake is complete   again, up to
                                                                                `MAX_ATTEMPTS` times
    expire      a session carries what is sent        (moved by the next one)   send nothing more
    forget      a session was made                    (moved by the next one)   wipe all keys

Data that comes while a keepalive is due asks for another one behind it. `earliest` is
never later than the first deadline; it may be earlier, when one was taken back.
"""

from __future__ import annotations

import math
from enum import Enum, auto

from wireguard.constants import (
    KEEPALIVE_TIMEOUT,
    KEYS_FORGOTTEN_AFTER,
    REJECT_AFTER_TIME,
    REKEY_TIMEOUT,
)

NEVER = math.inf


class Due(Enum):
    """What a deadline that has passed asks for."""

    KEEPALIVE = auto()
    SILENCE = auto()
    RETRY = auto()
    EXPIRE = auto()
    FORGET = auto()


class Timers:
    """The deadlines; all methods take and give monotonic seconds."""

    __slots__ = ("_another_keepalive", "expire", "forget", "keepalive", "retry", "silence")

    def __init__(self) -> None:
        self.keepalive = self.silence = self.retry = self.expire = self.forget = NEVER
        self._another_keepalive = False

    @property
    def earliest(self) -> float:
        return min(self.keepalive, self.silence, self.retry, self.expire, self.forget)

    def heard(self, data: bool, now: float) -> None:
        """Something of the peer's authenticated: data, or only a keepalive."""
        self.silence = NEVER
        if data:
            if self.keepalive == NEVER:
                self.keepalive = now + KEEPALIVE_TIMEOUT
            else:
                self._another_keepalive = True

    def sent(self, data: bool, now: float, jitter: float) -> None:
        """Something sealed went out: data, or only a keepalive."""
        self.keepalive = NEVER
        if data:
            self._another_keepalive = False
            if self.silence == NEVER:
                self.silence = now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter
        elif self._another_keepalive:
            self._another_keepalive = False
            self.keepalive = now + KEEPALIVE_TIMEOUT

    def initiated(self, now: float, jitter: float) -> None:
        """An initiation went out."""
        self.retry = now + REKEY_TIMEOUT + jitter

    def derived(self, now: float) -> None:
        """A session was made; the one who answered waits for its confirmation."""
        self.forget = now + KEYS_FORGOTTEN_AFTER

    def confirmed(self, born: float) -> None:
        """A session that was made at `born` carries what is sent from now on."""
        self.retry = NEVER
        self.expire = born + REJECT_AFTER_TIME

    def gave_up(self, now: float) -> None:
        """Nobody answered for `REKEY_ATTEMPT_TIME`."""
        self.keepalive = self.retry = NEVER
        if self.forget == NEVER:
            self.forget = now + KEYS_FORGOTTEN_AFTER

    def clear(self) -> None:
        self.keepalive = self.silence = self.retry = self.expire = self.forget = NEVER
        self._another_keepalive = False

    def due(self, now: float) -> list[Due]:
        """What has come due; those deadlines are taken back."""
        passed = []
        if self.keepalive <= now:
            self.keepalive = NEVER
            passed.append(Due.KEEPALIVE)
        if self.silence <= now:
            self.silence = NEVER
            passed.append(Due.SILENCE)
        if self.retry <= now:
            self.retry = NEVER
            passed.append(Due.RETRY)
        if self.expire <= now:
            self.expire = NEVER
            passed.append(Due.EXPIRE)
        if self.forget <= now:
            self.forget = NEVER
            passed.append(Due.FORGET)
        return passed

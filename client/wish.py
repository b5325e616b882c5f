"""The user's wish to be connected, as the store remembers it over the end of the process.

It is a note for the next run, nothing more: where it could not be written, the
wish holds all the same, and the block that stands in the kernel tells the next
run that there is one. The weaker promise has no block there without a tunnel: not
written, it ends with the process, and the network is open as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

_LAST = "last"
_OPEN_ON_FAILURE = "open-on-failure"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wished for."""

    gateway: str | None = None
    """The gateway's fingerprint; None for the one seen last."""
    open_on_failure: bool = False

    def text(self) -> str:
        """For the store: a word for the gateway, and one for the weaker promise."""
        return " ".join([self.gateway or _LAST, *[_OPEN_ON_FAILURE] * self.open_on_failure])

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """The wish that the store has, if any; of what cannot be read, that there is one."""
        if text is None:
            return None
        words = text.split()
        gateway = words[0] if words and words[0] != _LAST else None
        return cls(gateway, _OPEN_ON_FAILURE in words[1:])

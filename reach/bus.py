"""The port to a USB bus: which phones hang on it, and the pipes of one's debugging interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from reach.cable import Phone


class Pipes(Protocol):
    """An interface that was claimed. `read` and `write` may be called by two threads at once."""

    packet_size: int
    """Bytes of a full packet: 64, 512 or 1024."""

    def read(self, size: int, timeout: float) -> memoryview:
        """One transfer of at most `size` bytes (whole packets), good until the next.

        What has come when `timeout` seconds are over is returned; raises TimeoutError when that
        is nothing, OSError when the phone is gone, or sends more than `size`.
        """

    def write(self, data: bytes | bytearray | memoryview, timeout: float) -> None:
        """One transfer, empty perhaps. Raises OSError, TimeoutError included."""

    def reset(self) -> None:
        """Reset the port: the phone begins anew, and is found again. Raises OSError."""

    def close(self) -> None:
        """Give the interface back. Raises nothing."""


class Bus(Protocol):
    """This machine's USB. The methods may take milliseconds, and ask no phone anything."""

    def usable(self) -> bool:
        """Whether phones can be spoken to: the library is there."""

    def phones(self) -> list[Phone]:
        """Phones, with debugging on or off; MAX_PHONES at most."""

    def open(self, serial: str) -> Pipes:
        """Claim a phone. Raises CableError."""

    async def track(self, changed: Callable[[], None]) -> None:
        """Call `changed` when something is plugged in or out; until cancelled. Raises OSError."""

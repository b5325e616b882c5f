"""What speaks to the phones on this machine's USB."""

from __future__ import annotations

from reach.adb_server import AdbServer
from reach.cable import Cable


def system_cable() -> Cable:
    """The cable of this machine."""
    return AdbServer()

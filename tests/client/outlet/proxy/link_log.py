"""The writer of a link whose outlet has no NIC: what is put into it is kept."""

from __future__ import annotations

from collections.abc import Callable

from tests.netsim.out import PacketLog


class LinkLog(PacketLog):
    """A `PacketWriter`."""

    def read_packets(self, read: Callable[[memoryview], int]) -> int:
        raise AssertionError("packets are read from a NIC, and here is none")

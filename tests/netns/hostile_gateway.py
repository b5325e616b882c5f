"""A gateway that lies: real sessions at an address of a test world, without a NAT behind them.

Its owner has been paired with (the device scanned its code), and now it grants leases of its
choice, changes them, names places, and puts any packet into the device.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Self, TypeVar

from scapy.packet import Packet

from tests.client.gateway_double import LEASE, GatewayDouble
from tests.netns.hosts import Host
from vshp.config import LeaseConfig

T = TypeVar("T")

HONEST = replace(LEASE, offload=False)


class HostileGateway:
    """Runs on a thread of the test, listening in a host of the world."""

    def __init__(self, host: Host, address: str, port: int) -> None:
        self._sock = host.inside(lambda: socket.create_server((address, port)))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._double = GatewayDouble()
        self._double.lease = HONEST

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._double.listen(self._sock))
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._double.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def uri(self) -> str:
        return self._call(self._double.uri)

    def grants(self, lease: LeaseConfig) -> None:
        """From now on to who comes."""
        self._double.lease = lease

    def change(self, lease: LeaseConfig) -> None:
        """By a delta to the newest guest, and to who comes."""
        self.grants(lease)
        self._call(lambda: self._double.guests[-1].change(lease))

    def send(self, packet: Packet) -> None:
        """Into the device."""
        self._call(lambda: self._double.guests[-1].send_packet(bytes(packet)))

    def heard(self) -> list[bytes]:
        """The packets out of the device so far."""
        return [packet for _, packet in self._double.packets]

    def hellos(self) -> int:
        return len(self._double.resumes)

    def cut(self) -> None:
        self._call(lambda: self._double.guests[-1].cut())

    def _call(self, action: Callable[[], T]) -> T:
        async def body() -> T:
            return action()

        return self._run(body())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

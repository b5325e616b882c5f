"""What it costs a client to look at each packet before it enters the device.

Prints microseconds a packet from the session's callback to the NIC (/dev/null in its place),
by kind of packet. Where the checkout has no such look the same figures are without it, so
two checkouts can be compared by running them in turn:

    for turn in 1 2 3 4 5; do (cd OLD && python -m benchmarks.ingress_micro); \
        (cd NEW && python -m benchmarks.ingress_micro); done
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from typing import Any, cast

from client.driver import LinkOwner
from client.link import Link
from client.model import TransportEndpoint
from eventloop.poller import PolledLoop
from tests.client.gateway_double import LEASE
from vshp.session import ClientSession

ROUNDS = 15
COUNT = 20_000
HEADER = 10
FAR4 = bytes((192, 0, 2, 1))
FAR6 = bytes.fromhex("20010db8000000000000000000000001")


class DevNull:
    """A NIC that takes everything."""

    name, vnet_header, offload_udp = "null", True, True

    def __init__(self) -> None:
        self._fd = os.open("/dev/null", os.O_WRONLY)

    def fileno(self) -> int:
        return self._fd

    def set_offload(self, tcp: bool, udp: bool) -> None: ...
    def set_mtu(self, mtu: int) -> None: ...
    def close(self) -> None: ...


def link(session: Any) -> Link:
    """A link that was attached to a NIC, but for the poller, to which /dev/null is no file."""
    made = Link(cast(LinkOwner, None), TransportEndpoint("tcp", "10.0.0.1", 1), session, "")
    made._poller = cast(Any, type("NoPoller", (), {"watch": lambda *_: None})())
    more = []
    if "ingress" in inspect.signature(made.attach).parameters:
        from client.ingress import Ingress
        from client.judgement import HostFacts

        ingress = Ingress()
        ingress.admit(LEASE, HostFacts())
        more.append(ingress)
    made.attach(cast(Any, DevNull()), LEASE, *more)
    return made


def packets() -> dict[str, tuple[memoryview, int]]:
    """Kinds of packet, each behind a virtio header, with their sizes."""
    ipv4 = b"\x45" + bytes(11) + FAR4 + LEASE.ipv4
    ipv6 = b"\x60" + bytes(7) + FAR6 + LEASE.ipv6
    kinds = {"IPv4, 60": (ipv4, 60), "IPv6, 60": (ipv6, 60), "IPv4, 65000": (ipv4, 65000)}
    return {
        name: (memoryview(bytearray(bytes(HEADER) + head + bytes(size - len(head)))), size)
        for name, (head, size) in kinds.items()
    }


async def main() -> None:
    identity = bytes(31) + b"\x01"
    from vshp.config import Hello

    session = ClientSession(identity, None, Hello("bench", "linux"), now=time.monotonic())
    made = link(session)
    figures = []
    for name, (buf, size) in packets().items():
        best = float("inf")
        for _ in range(ROUNDS):
            deliver = session.on_packet
            began = time.perf_counter()
            for _ in range(COUNT):
                deliver(buf, HEADER, HEADER + size, True)
            best = min(best, (time.perf_counter() - began) / COUNT)
        figures.append(f"{name}: {best * 1e6:.3f} us")
    if made.counters:
        raise SystemExit(f"packets were lost: {made.counters}")
    print("; ".join(figures))
    made._closed = True


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=PolledLoop) as runner:
        runner.run(main())

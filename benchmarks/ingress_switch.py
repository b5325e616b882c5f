"""The client, with a switch on its look at each packet from the gateway: for `ingress.py` alone.

Runs `vpnshare ARGUMENTS`. SIGUSR2 (`OFF`) has links write to the NIC whatever comes, SIGUSR1
(`ON`) as they are.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

from client.link import _ZERO_HEADER, Link
from client.nic import VNET_HEADER_SIZE
from vshp.core import PacketHandler

ON, OFF = signal.SIGUSR1, signal.SIGUSR2


def blind(link: Link) -> PacketHandler:
    """`Link._into_nic` without the look: as little as can be between session and NIC."""
    write, writev, fd, vnet_header = os.write, os.writev, link._nic_fd, link._vnet_header

    def packet(buf: memoryview, start: int, end: int, offload: bool) -> None:
        link.received_packets_bytes += end - start
        try:
            if offload:
                write(fd, buf[start - VNET_HEADER_SIZE : end])
            elif vnet_header:
                writev(fd, (_ZERO_HEADER, buf[start:end]))
            else:
                write(fd, buf[start:end])
        except BlockingIOError:
            link._count("nic__queue_full__dropped")
        except OSError:
            link._count("nic__write_refused__dropped")

    return packet


def main() -> int:
    """The command; the exit code."""
    looking = Link._into_nic
    links: list[Link] = []

    way: Callable[[Link], PacketHandler] = looking

    def into_nic(link: Link) -> PacketHandler:
        links[:] = [each for each in links if not each._closed and each is not link] + [link]
        return way(link)

    def switch(number: int, _: FrameType | None) -> None:
        nonlocal way
        way = looking if number == ON else blind
        for link in links:
            if link._nic is not None:
                # Between packets, not in one.
                link._loop.call_soon_threadsafe(renew, link)

    def renew(link: Link) -> None:
        if link._nic is not None:
            link.session.on_packet = link._into_nic()

    cast(Any, Link)._into_nic = into_nic
    for number in (ON, OFF):
        signal.signal(number, switch)
    from services.cli.main import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())

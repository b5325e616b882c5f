"""The client, with a switch on its look at each packet from the gateway: for `ingress.py` alone.

Runs `vpnshare ARGUMENTS`. SIGUSR2 (`OFF`) has links write to the NIC whatever comes, SIGUSR1
(`ON`) as they are.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from types import FrameType
from typing import Any, cast

from client.link import Link
from client.nic import VNET_HEADER_SIZE
from client.walk import ZERO_HEADER
from vshp.constants import FRAME_HEADER, FRAME_HEADER_SIZE, MIN_PACKET
from vshp.core import PacketHandler, PacketsHandler
from vshp.frames import FrameType as Kind

frame_header = struct.Struct(FRAME_HEADER).unpack_from
IP_PACKET = Kind.IP_PACKET.value

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
                writev(fd, (ZERO_HEADER, buf[start:end]))
            else:
                write(fd, buf[start:end])
        except BlockingIOError:
            link._count("nic__queue_full__dropped")
        except OSError:
            link._count("nic__write_refused__dropped")

    return packet


def blind_to_all(link: Link) -> PacketsHandler:
    """`Link._known_into_nic` without the look."""
    write, writev, fd, vnet_header = os.write, os.writev, link._nic_fd, link._vnet_header

    def packets(buf: memoryview, at: int, end: int) -> int:
        carried = 0
        while at < end:
            kind, size, high = frame_header(buf, at)
            start = at + FRAME_HEADER_SIZE
            tail = start + size
            if kind != IP_PACKET or size < MIN_PACKET or tail > end or high:
                break
            try:
                if vnet_header:
                    writev(fd, (ZERO_HEADER, buf[start:tail]))
                else:
                    write(fd, buf[start:tail])
            except BlockingIOError:
                link._count("nic__queue_full__dropped")
            except OSError:
                link._count("nic__write_refused__dropped")
            carried += size
            at = tail
        link.received_packets_bytes += carried
        return at

    return packets


def main() -> int:
    """The command; the exit code."""
    looking, looking_at_all = Link._into_nic, Link._known_into_nic
    links: list[Link] = []
    on = True

    def into_nic(link: Link) -> PacketHandler:
        links[:] = [each for each in links if not each._closed and each is not link] + [link]
        return looking(link) if on else blind(link)

    def known_into_nic(link: Link) -> PacketsHandler:
        return looking_at_all(link) if on else blind_to_all(link)

    def switch(number: int, _: FrameType | None) -> None:
        nonlocal on
        on = number == ON
        for link in links:
            if link._nic is not None:
                # Between packets, not in one.
                link._loop.call_soon_threadsafe(renew, link)

    def renew(link: Link) -> None:
        if link._nic is not None:
            link.session.on_packet = link._into_nic()
            link.session.on_packets = link._known_into_nic()

    cast(Any, Link)._into_nic, cast(Any, Link)._known_into_nic = into_nic, known_into_nic
    for number in (ON, OFF):
        signal.signal(number, switch)
    from services.cli.main import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())

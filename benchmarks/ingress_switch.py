"""The client, with a switch on its look at each packet from the gateway: for `ingress.py` alone.

Runs `vpnshare ARGUMENTS`. SIGUSR2 (`OFF`) has links write to the NIC whatever comes, SIGUSR1
(`ON`) as they are.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from dataclasses import replace
from types import FrameType
from typing import Any, cast

from client.link import Link
from client.outlet.nic.nic import VNET_HEADER_SIZE
from client.outlet.nic.pump import NicPort
from client.outlet.nic.walk import ZERO_HEADER
from client.outlet.port import Carrier, Intake
from vshp.config import LeaseConfig
from vshp.constants import FRAME_HEADER, FRAME_HEADER_SIZE, MIN_PACKET
from vshp.core import PacketHandler, PacketsHandler
from vshp.frames import FrameType as Kind

frame_header = struct.Struct(FRAME_HEADER).unpack_from
IP_PACKET = Kind.IP_PACKET.value

ON, OFF = signal.SIGUSR1, signal.SIGUSR2


def blind(port: NicPort, link: Carrier) -> PacketHandler:
    """`NicPort._into_nic` without the look: as little as can be between session and NIC."""
    write, writev, fd, vnet_header = os.write, os.writev, port._fd, port._nic.vnet_header

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
            link.count("nic__queue_full__dropped")
        except OSError:
            link.count("nic__write_refused__dropped")

    return packet


def blind_to_all(port: NicPort, link: Carrier) -> PacketsHandler:
    """`known_into_nic` without the look."""
    write, writev, fd, vnet_header = os.write, os.writev, port._fd, port._nic.vnet_header

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
                link.count("nic__queue_full__dropped")
            except OSError:
                link.count("nic__write_refused__dropped")
            carried += size
            at = tail
        link.received_packets_bytes += carried
        return at

    return packets


def main() -> int:
    """The command; the exit code."""
    looking = NicPort.attach
    attached: dict[NicPort, tuple[Link, LeaseConfig]] = {}
    on = True

    def attach(port: NicPort, link: Link, lease: LeaseConfig) -> Intake:
        attached.clear()
        attached[port] = link, lease
        intake = looking(port, link, lease)
        if on:
            return intake
        return replace(intake, packet=blind(port, link), packets=blind_to_all(port, link))

    def switch(number: int, _: FrameType | None) -> None:
        nonlocal on
        on = number == ON
        for port, (link, lease) in attached.items():
            # Between packets, not in one.
            link._loop.call_soon_threadsafe(renew, port, link, lease)

    def renew(port: NicPort, link: Link, lease: LeaseConfig) -> None:
        if port._link is link:
            link.attach(port, lease)

    cast(Any, NicPort).attach = attach
    for number in (ON, OFF):
        signal.signal(number, switch)
    from cli.main import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())

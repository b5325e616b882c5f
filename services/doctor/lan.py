"""Can this process hear anybody on the local network?

A VPN app that takes everything makes Android drop what arrives for an app by
any interface other than the VPN's and loopback (the app may still send). The
phone cannot see that filter; it can ask a neighbour something and listen. Asked
are the two usual addresses of a router (a DNS question for the root) and, by
multicast, everybody (an mDNS question that asks for a unicast answer, RFC 6762
5.4). Any datagram that comes back proves that devices can be heard; silence
proves nothing by itself.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from contextlib import suppress

SECONDS = 1.5
IP_UNICAST_IF = 50
_ROOT_NS = bytes.fromhex("5653 0100 0001 0000 0000 0000 00 0002 0001".replace(" ", ""))
_SERVICES = (
    bytes.fromhex("0000 0000 0001 0000 0000 0000".replace(" ", ""))
    + b"\x09_services\x07_dns-sd\x04_udp\x05local\x00"
    + bytes.fromhex("000c8001")
)


async def hears(interface: str, index: int, address: str, prefix: int) -> bool | None:
    """Whether anybody answers on this interface; None when nothing could be asked.

    `address` is our own IPv4 address there.
    """
    network = ipaddress.IPv4Network(f"{address}/{prefix}", strict=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            _tie(sock, interface, index)
            sock.bind((address, 0))
        except OSError:
            return None
        targets = [("224.0.0.251", 5353, _SERVICES)]
        if network.num_addresses > 2:
            ends = (network.network_address + 1, network.broadcast_address - 1)
            targets += [(str(end), 53, _ROOT_NS) for end in ends if str(end) != address]
        asked = False
        for host, port, question in targets:
            with suppress(OSError):
                sock.sendto(question, (host, port))
                asked = True
        if not asked:
            return None
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(SECONDS):
                await loop.sock_recv(sock, 512)
                return True
        return False


def _tie(sock: socket.socket, interface: str, index: int) -> None:
    """To the interface, lest the question go into the VPN."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    except PermissionError:
        sock.setsockopt(socket.IPPROTO_IP, IP_UNICAST_IF, struct.pack("!I", index))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)

"""Hearing the gateway's announcement while there is no link to it.

Theory of operation. A gateway announces itself when it comes onto a network, and repeats that
while a device that it knows is away. So a client without a link listens on the links that it
has, and asks once a round. The kernel drops what is no gateway's announcement
(`announced.FILTER`), so that mDNS of others wakes nobody; and after each that is heard nothing
is listened to for `DEAF` seconds, so that nobody can keep the client busy. The socket takes
multicast alone: answers for another responder of this machine do not come here.

Sources: ip(7) (IP_ADD_MEMBERSHIP, IP_MULTICAST_ALL), socket(7) (SO_ATTACH_FILTER), RFC 6762.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from client.judgement import HostFacts
from client.system.interfaces import Nature, nature
from reach.announced import FILTER, GROUP, PORT, QUERY, Place, read

log = logging.getLogger(__name__)

DEAF = 1.0
"""Seconds after something was heard."""
MAX_EARS = 8
"""Links listened on."""
_DATAGRAM = 9000
_SO_ATTACH_FILTER = 26
_IP_MULTICAST_ALL = 49
_HOP_LIMIT = 255
"""RFC 6762 section 11."""

Ear = tuple[str, str]
"""An own IPv4 address, and the interface that has it."""


def ears(facts: HostFacts, system: Path = Path("/")) -> tuple[Ear, ...]:
    """Where a gateway may be heard. `system` is the root of sysfs."""
    found: dict[str, Ear] = {}
    for attached in facts.attached:
        for address in sorted(facts.own, key=str):
            near = address.version == 4 and address in attached.network
            if near and nature(attached.interface, system) is not Nature.NONE:
                found.setdefault(attached.interface, (str(address), attached.interface))
    return tuple(found.values())[:MAX_EARS]


class Listener:
    """Calls `heard` with each place that is announced, and asks for announcements."""

    def __init__(self, heard: Callable[[Place, str], None]) -> None:
        """`heard` gets the sender's address beside the place; called on the loop."""
        self._heard = heard
        self._socket: socket.socket | None = None
        self._ears: tuple[Ear, ...] = ()
        self._again: asyncio.TimerHandle | None = None

    def listen(self, on: tuple[Ear, ...], mark: int) -> None:
        """Listen on these links from now on, and ask who is there. `mark` is for the socket.

        Where that cannot be had nothing is heard, which is no error.
        """
        if on != self._ears or self._socket is None:
            self.stop()
            self._ears = on
            if not on:
                return
            try:
                self._socket = _open(on, mark)
            except OSError as error:
                log.info("announcements are not heard: %s", error)
                return
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._ready)
        self._ask()

    def stop(self) -> None:
        """Hear nothing more. Safe to call twice."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        sock, self._socket, self._ears = self._socket, None, ()
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()

    def _ask(self) -> None:
        assert self._socket is not None
        for address, _ in self._ears:
            try:
                self._socket.setsockopt(
                    socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address)
                )
                self._socket.sendto(QUERY, (GROUP, PORT))
            except OSError as error:
                log.debug("nobody is asked by %s: %s", address, error)

    def _ready(self) -> None:
        sock = self._socket
        assert sock is not None
        try:
            data, (sender, _) = sock.recvfrom(_DATAGRAM)
        except OSError:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock.fileno())
        self._again = loop.call_later(DEAF, self._listen_again)
        for place in read(data, sender):
            self._heard(place, sender)

    def _listen_again(self) -> None:
        self._again = None
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._ready)


def _open(on: tuple[Ear, ...], mark: int) -> socket.socket:
    sock = socket.socket(
        socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    try:
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *s) for s in FILTER))
        program = struct.pack("HL", len(FILTER), ctypes.addressof(code))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        # Other programs of this machine listen there, too.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _HOP_LIMIT)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        sock.bind((GROUP, PORT))
        for address, interface in on:
            member = struct.pack(
                "4s4si",
                socket.inet_aton(GROUP),
                socket.inet_aton(address),
                socket.if_nametoindex(interface),
            )
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    except BaseException:
        sock.close()
        raise
    return sock

"""The server's side of SOCKS 5 (RFC 1928, RFC 1929), pure.

Theory of operation. A program offers methods, one is chosen, with a password it is checked, and
one request follows. Bytes go in by `receive`, which says at most once what was asked for; what
is to be sent back gathers in `output`. What came behind the request is the connection's own
(`early`): a program need not wait for the answer. After the answer (`answer`) the machine has
no part in the connection any more.

Each message tells its own length within its first bytes, and is at most 513 bytes long; nothing
more is ever kept but what came in the same read.

The request's answer has the code that fits best what became of it (`REPLIES`). A program that
speaks SOCKS 4 is told in its own protocol that it is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from client.outlet.proxy.asking import Destination, Misspoken, parse_host, unmapped
from client.outlet.proxy.outcome import Outcome

VERSION = 5
NO_PASSWORD, PASSWORD, NO_METHOD = 0x00, 0x02, 0xFF
_PASSWORD_VERSION = 1
_PASSWORD_RIGHT, _PASSWORD_WRONG = b"\x01\x00", b"\x01\x01"
_SOCKS4_REFUSED = bytes((0, 0x5B, 0, 0, 0, 0, 0, 0))
IPV4, NAME, IPV6 = 0x01, 0x03, 0x04
_PORT = struct.Struct("!H")


class Command(IntEnum):
    """What SOCKS knows; BIND is not served, for nothing comes in by a VPN's NAT."""

    CONNECT = 1
    BIND = 2
    ASSOCIATE = 3


class Reply(IntEnum):
    """RFC 1928, 6."""

    SUCCEEDED = 0
    FAILED = 1
    NOT_ALLOWED = 2
    NET_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    EXPIRED = 6
    COMMAND_UNKNOWN = 7
    ADDRESS_UNKNOWN = 8


REPLIES = {
    Outcome.OPENED: Reply.SUCCEEDED,
    Outcome.REFUSED: Reply.REFUSED,
    Outcome.HOST_UNREACHABLE: Reply.HOST_UNREACHABLE,
    Outcome.NET_UNREACHABLE: Reply.NET_UNREACHABLE,
    Outcome.PROHIBITED: Reply.NOT_ALLOWED,
    Outcome.TIMED_OUT: Reply.EXPIRED,
    Outcome.NO_SUCH_NAME: Reply.HOST_UNREACHABLE,
    Outcome.NAMES_FAILED: Reply.FAILED,
    Outcome.AWAY: Reply.NET_UNREACHABLE,
    Outcome.BUSY: Reply.FAILED,
}
"""What each outcome is in SOCKS. "Expired" is what others say of a host that does not answer."""


class Request(NamedTuple):
    """What was asked for."""

    command: Command
    destination: Destination
    """With ASSOCIATE the port alone counts: where datagrams come from, or 0."""


class State(IntEnum):
    """Which message is next."""

    METHODS = 0
    PASSWORD = 1
    REQUEST = 2
    ASKED = 3
    OVER = 4


# In each connection's way: a name of a module costs a fifth of a member of an Enum.
_METHODS, _PASSWORD, _REQUEST, _ASKED, _OVER = State
_CONNECT, _ASSOCIATE = Command.CONNECT, Command.ASSOCIATE


class SocksServer:
    """One program's connection up to its request's answer."""

    __slots__ = ("_data", "_known", "_right", "output", "state")

    def __init__(self, known: bool, right: Callable[[bytes, bytes], bool]) -> None:
        """`known`: who asks may do so without a password. `right`: is this name and password?"""
        self.state = _METHODS
        self.output = b""
        """What is to be sent now; whoever sends it empties it."""
        self._data = b""
        self._known = known
        self._right = right

    @property
    def early(self) -> bytes:
        """What came behind the request."""
        return self._data if self.state == _ASKED else b""

    def receive(self, data: bytes) -> Request | None:
        """Take what the program sent; the request, once it is complete.

        Raises Misspoken when it cannot go on: then `output` is the last word.
        """
        self._data += data
        while True:
            state = self.state
            if state is _METHODS:
                moved = self._methods()
            elif state is _REQUEST:
                return self._request()
            elif state is _PASSWORD:
                moved = self._password()
            else:
                return None
            if not moved:
                return None

    def answer(self, reply: Reply, host: bytes = bytes(4), port: int = 0) -> bytes:
        """The answer to the request; `host` and `port` are our own end's, where there is one."""
        self.state = _OVER
        kind = IPV4 if len(host) == 4 else IPV6
        return bytes((VERSION, reply, 0, kind)) + host + _PORT.pack(port)

    def _fail(self, reason: str, last: bytes = b"") -> Misspoken:
        self.state = _OVER
        self.output += last
        self._data = b""
        return Misspoken(reason)

    def _methods(self) -> bool:
        """VER, NMETHODS, METHODS."""
        data = self._data
        if data and data[0] != VERSION:
            if data[0] == 4:
                raise self._fail("socks4_unsupported", _SOCKS4_REFUSED)
            raise self._fail("version_unknown")
        if len(data) < 2 or len(data) < (size := 2 + data[1]):
            return False
        methods, self._data = data[2:size], data[size:]
        if self._known and NO_PASSWORD in methods:
            self.output += bytes((VERSION, NO_PASSWORD))
            self.state = _REQUEST
        elif PASSWORD in methods:
            self.output += bytes((VERSION, PASSWORD))
            self.state = _PASSWORD
        else:
            raise self._fail("password_missing", bytes((VERSION, NO_METHOD)))
        return True

    def _password(self) -> bool:
        """VER, ULEN, UNAME, PLEN, PASSWD (RFC 1929)."""
        data = self._data
        if data and data[0] != _PASSWORD_VERSION:
            raise self._fail("password_version_unknown", _PASSWORD_WRONG)
        if len(data) < 2 or len(data) < 3 + data[1]:
            return False
        name = data[1]
        size = 3 + name + data[2 + name]
        if len(data) < size:
            return False
        self._data = data[size:]
        if not self._right(data[2 : 2 + name], data[3 + name : size]):
            raise self._fail("password_wrong", _PASSWORD_WRONG)
        self.output += _PASSWORD_RIGHT
        self.state = _REQUEST
        return True

    def _request(self) -> Request | None:
        """VER, CMD, RSV, ATYP, DST.ADDR, DST.PORT."""
        data = self._data
        if data and data[0] != VERSION:
            raise self._fail("version_unknown", self.answer(Reply.FAILED))
        if len(data) < 5:
            return None
        size = address_size(data, 3)
        if size is None:
            raise self._fail("address_type_unknown", self.answer(Reply.ADDRESS_UNKNOWN))
        if len(data) < 3 + size:
            return None
        command = data[1]
        if command not in (_CONNECT, _ASSOCIATE):
            raise self._fail("command_unsupported", self.answer(Reply.COMMAND_UNKNOWN))
        self._data = data[3 + size :]
        if command == _ASSOCIATE:
            # An address is not looked at: programs write what they like there (PySocks the name
            # "0"), and datagrams come from where the connection does.
            (port,) = _PORT.unpack_from(data, size + 1)
            self.state = _ASKED
            return Request(_ASSOCIATE, Destination(bytes(4), port))
        try:
            destination = read_address(data, 3, size)
        except Misspoken as error:
            raise self._fail(error.reason, self.answer(Reply.FAILED)) from None
        if not destination.port:
            raise self._fail("port_zero", self.answer(Reply.FAILED))
        self.state = _ASKED
        return Request(_CONNECT, destination)


def address_size(data: bytes | memoryview, at: int) -> int | None:
    """Bytes of ATYP, address and port at `at`, by the first two of them; None: no such type."""
    match data[at]:
        case 0x01:
            return 7
        case 0x03:
            return 4 + data[at + 1]
        case 0x04:
            return 19
    return None


def read_address(data: bytes | memoryview, at: int, size: int) -> Destination:
    """What `address_size` has measured, which is all there. Raises Misspoken."""
    (port,) = _PORT.unpack_from(data, at + size - 2)
    if data[at] == IPV4:
        return Destination(bytes(data[at + 1 : at + 5]), port)
    if data[at] == IPV6:
        return Destination(unmapped(bytes(data[at + 1 : at + size - 2])), port)
    try:
        text = bytes(data[at + 2 : at + size - 2]).decode("ascii")
    except UnicodeDecodeError:
        raise Misspoken("name_malformed") from None
    return Destination(parse_host(text), port)


def read_datagram(data: bytes | memoryview) -> tuple[Destination, int]:
    """Where a program's datagram is to go, and where its payload begins (RFC 1928, 7).

    Raises Misspoken: pieces (FRAG) are not put together, as the RFC allows.
    """
    if len(data) < 5:
        raise Misspoken("datagram_truncated")
    if data[0] or data[1]:
        raise Misspoken("datagram_reserved")
    if data[2]:
        raise Misspoken("datagram_fragment")
    size = address_size(data, 3)
    if size is None:
        raise Misspoken("datagram_address_type_unknown")
    if len(data) < 3 + size:
        raise Misspoken("datagram_truncated")
    destination = read_address(data, 3, size)
    if not destination.port:
        raise Misspoken("datagram_port_zero")
    return destination, 3 + size


def datagram_header(host: bytes, port: int) -> bytes:
    """What stands before the payload of a datagram that came from `host`."""
    return bytes((0, 0, 0, IPV4 if len(host) == 4 else IPV6)) + host + _PORT.pack(port)

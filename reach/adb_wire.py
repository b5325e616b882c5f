"""ADB's messages, and how they travel as transfers of two USB bulk pipes. Pure.

A message is a header of 24 bytes, six little-endian words, and a payload:

    command  arg0  arg1  payload's length  checksum  command ^ 0xffffffff

On USB each of the two is a transfer of its own. A bulk transfer ends with the
first packet that is not full, so its end shows only where its size is no
multiple of the packet size. The host ends a payload that is one by a
zero-length transfer; the phone never does, and the host asks for exactly what
is announced, rounded up to whole packets: less would be an overflow on the
bus, more would wait for ever.

What a session left that was killed comes first: a host skips whatever is no
header until the phone has greeted (`Incoming.greeted`). From then on a transfer
that does not fit what was announced is a violation, and the session is over.

Sources: AOSP packages/modules/adb, docs/dev/protocol.md, adb.h, daemon/usb.cpp
and client/usb_libusb.cpp; USB 2.0, 5.8.3 (bulk transfers).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct("<6I")
VERSION = 0x01000001
"""From this version on nobody looks at checksums (AOSP: A_VERSION_SKIP_CHECKSUM)."""
VERSION_CHECKED = 0x01000000
"""The version that is spoken before the phone has named its own."""
MIN_PAYLOAD = 4096
"""The least that any phone takes, and the most of any message before both have greeted."""
MAX_PAYLOAD = 256 * 1024
"""The most we take. AOSP's own is 1 MiB, which holds USB 2 for 25 ms against every other stream."""
MAX_STALE = 1 << 16
"""Transfers of an earlier session that are skipped: 32 MiB in packets, all that a window held."""
MAX_EMPTY = 64
"""Zero-length transfers in a row that are skipped."""

_WORD = 0xFFFFFFFF


class Command(IntEnum):
    """The words of the protocol: four letters, read as a little-endian number."""

    CNXN = 0x4E584E43
    AUTH = 0x48545541
    OPEN = 0x4E45504F
    OKAY = 0x59414B4F
    WRTE = 0x45545257
    CLSE = 0x45534C43
    STLS = 0x534C5453


class Violation(Exception):
    """The phone broke the protocol: `name` is stable, and counted; the text says how."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


@dataclass(slots=True)
class Message:
    """One message. `payload` of a received one is good until the next transfer is taken."""

    command: int
    arg0: int
    arg1: int
    payload: bytes | bytearray | memoryview = b""


Transfers = tuple[bytes | bytearray | memoryview, ...]


def checksum(payload: bytes | bytearray | memoryview) -> int:
    """The sum of the bytes, which AOSP calls a CRC."""
    return sum(payload) & _WORD


def transfers(message: Message, packet_size: int, checked: bool) -> Transfers:
    """A message as the transfers that carry it to the phone; `checked`: with its checksum."""
    payload = message.payload
    size = len(payload)
    header = HEADER.pack(
        message.command,
        message.arg0,
        message.arg1,
        size,
        checksum(payload) if checked and size else 0,
        message.command ^ _WORD,
    )
    if not size:
        return (header,)
    return (header, payload) if size % packet_size else (header, payload, b"")


class Incoming:
    """Transfers from the phone, joined to messages."""

    __slots__ = (
        "_empty",
        "_got",
        "_header",
        "_packet",
        "_size",
        "checked",
        "greeted",
        "limit",
        "stale",
    )

    def __init__(self, packet_size: int) -> None:
        self._packet = packet_size
        self._header: tuple[int, ...] | None = None
        self._size = 0
        self._got = bytearray()
        self._empty = 0
        self.greeted = False
        """Whether the phone has greeted: then nothing of an earlier session can come."""
        self.checked = False
        """Whether payloads carry checksums."""
        self.limit = MAX_PAYLOAD
        """The longest payload that is taken."""
        self.stale = 0
        """Transfers that were skipped."""

    @property
    def want(self) -> int:
        """How many bytes the next transfer has to ask for: whole packets."""
        if self._header is None:
            return self._packet
        return -(-(self._size - len(self._got)) // self._packet) * self._packet

    @property
    def midway(self) -> bool:
        """Whether a payload was announced that has not come."""
        return self._header is not None

    def take(self, transfer: memoryview) -> Message | None:
        """One transfer has come, whole or as far as it got; a message, if it ended one.

        Raises Violation.
        """
        if self._header is None:
            return self._take_header(transfer)
        return self._take_payload(transfer)

    def _take_header(self, transfer: memoryview) -> Message | None:
        size = len(transfer)
        if not size:
            self._empty += 1
            if self._empty > MAX_EMPTY:
                raise Violation("empty_transfers", "it sends empty transfers without end")
            return None
        self._empty = 0
        if size != HEADER.size:
            self._skip("header_size", f"a header of {size} bytes came")
            return None
        header = HEADER.unpack(transfer)
        if header[0] ^ _WORD != header[5]:
            self._skip("header_magic", "a header came that is none")
            return None
        if header[3] > self.limit:
            self._skip("payload_too_long", f"a payload of {header[3]} bytes is announced")
            return None
        if not header[3]:
            return Message(header[0], header[1], header[2])
        self._header, self._size = header, header[3]
        return None

    def _take_payload(self, transfer: memoryview) -> Message | None:
        header = self._header
        assert header is not None
        got = len(self._got) + len(transfer)
        if got < self._size:
            if len(transfer) and len(transfer) % self._packet == 0:
                # Full packets: the transfer was given up in between, and goes on.
                self._got += transfer
                return None
            self._header, self._got = None, bytearray()
            if not self.greeted and len(transfer) == HEADER.size:
                # The rest of a payload went with the session it was of.
                return self._take_header(transfer)
            self._skip("payload_cut_short", f"{got} bytes came, and {self._size} were announced")
            return None
        if got > self._size:
            self._header, self._got = None, bytearray()
            self._skip("payload_overrun", f"{got} bytes came, and {self._size} were announced")
            return None
        payload: bytearray | memoryview = transfer
        if self._got:
            self._got += transfer
            payload = self._got
        self._header, self._got = None, bytearray()
        if self.checked and checksum(payload) != header[4]:
            self._skip("checksum", "a payload's checksum is wrong")
            return None
        return Message(header[0], header[1], header[2], payload)

    def _skip(self, name: str, text: str) -> None:
        if self.greeted:
            raise Violation(name, text)
        self.stale += 1
        if self.stale > MAX_STALE:
            raise Violation("stale_without_end", "it does not stop sending what is no greeting")

"""A double of adbd, the phone's end: over TCP, where the real adb can be put at its other end, and
over a model of two USB bulk pipes.

The model (`UsbWire`) keeps the bus's rules for the end of a transfer, since breaking one of them
is the mistake that a plainer double would hide: see `UsbWire`. The double is strict: what a host
does against the protocol is a line in `violations`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

HEADER = struct.Struct("<6I")
NAMES = {
    int.from_bytes(name, "little"): name.decode()
    for name in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE", b"STLS")
}
WORDS = {name: word for word, name in NAMES.items()}
VERSION = 0x01000001
OLD_VERSION = 0x01000000
MIB = 1 << 20
SEND_BUFFER = 32 * MIB
"""What adbd grants a stream with delayed_ack."""
PIECE = 16384
"""The most that adbd reads and writes at a time."""


def decode_android_key(text: bytes) -> rsa.RSAPublicKey:
    """A public key as a host sends it; AssertionError when its numbers do not agree."""
    raw = base64.b64decode(text.split(b" ")[0], validate=True)
    assert len(raw) == 524
    words, inverse = struct.unpack_from("<II", raw)
    n, square = int.from_bytes(raw[8:264], "little"), int.from_bytes(raw[264:520], "little")
    assert words == 64 and (inverse * n + 1) % 2**32 == 0 and square == pow(2, 4096, n)
    return rsa.RSAPublicNumbers(struct.unpack_from("<I", raw, 520)[0], n).public_key()


class Gone(Exception):
    """The other end, or the cable."""


class Wire(Protocol):
    def read(self) -> tuple[tuple[int, ...], bytes]: ...
    def write(self, head: bytes, data: bytes = b"") -> None: ...
    def close(self) -> None: ...


class TcpWire:
    """As adb speaks to a phone by Wi-Fi."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def _exactly(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            piece = self._sock.recv(size - len(got))
            if not piece:
                raise Gone
            got += piece
        return bytes(got)

    def read(self) -> tuple[tuple[int, ...], bytes]:
        head = HEADER.unpack(self._exactly(24))
        return head, self._exactly(head[3]) if head[3] else b""

    def write(self, head: bytes, data: bytes = b"") -> None:
        self._sock.sendall(head + data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


class UsbWire:
    """Two bulk pipes between a host's controller and adbd, which outlive the host's programs.

    - A transfer of the host's ends in the device's buffer with a packet that is not full, or when
      16 KiB are there: a payload that is a multiple of the packet size and has no zero-length
      transfer behind it is not delivered, and the next message is taken for its rest.
    - What the device writes comes in one transfer of the host's until a packet is not full; a
      host that asks for no multiple of the packet size, and is sent more, has an overflow.
    """

    def __init__(self, packet_size: int = 512) -> None:
        self.packet_size = packet_size
        self._cond = threading.Condition()
        self._partial = bytearray()
        self._done: list[bytes] = []
        self._in: list[tuple[bytes, int]] = []
        self._in_bytes = 0
        self._unplugged = False
        self._header: tuple[int, ...] | None = None
        self._payload = bytearray()
        self.broken = ""
        self.resets = 0
        self.on_reset: Callable[[], None] = lambda: None
        self.cut_after: int | None = None
        """The cable is pulled when so many more transfers have begun."""

    # --- the host's controller

    def _one_less(self) -> None:
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after < 0:
                self._unplugged = True
                self._cond.notify_all()

    def host_out(self, data: bytes, timeout: float = 5.0) -> int:
        """One transfer of the host's; raises Gone, TimeoutError."""
        end = time.monotonic() + timeout
        with self._cond:
            self._one_less()
            while len(self._done) > 64 and not self._unplugged:
                if not self._cond.wait(end - time.monotonic()):
                    raise TimeoutError
            if self._unplugged:
                raise Gone
            offset = 0
            if not data:
                self._complete()
            while offset < len(data):
                piece = data[offset : offset + PIECE - len(self._partial)]
                self._partial += piece
                offset += len(piece)
                if len(self._partial) == PIECE:
                    self._complete()
            if data and len(data) % self.packet_size and self._partial:
                self._complete()
            self._cond.notify_all()
            return len(data)

    def _complete(self) -> None:
        self._done.append(bytes(self._partial))
        self._partial.clear()

    def host_in(self, size: int, timeout: float) -> bytes:
        """One transfer to the host; raises Gone, TimeoutError, OverflowError."""
        got = bytearray()
        end = time.monotonic() + timeout
        with self._cond:
            self._one_less()
            while True:
                while not self._in and not self._unplugged:
                    left = end - time.monotonic()
                    if left <= 0:
                        if got:
                            return bytes(got)
                        raise TimeoutError
                    self._cond.wait(left)
                if self._unplugged:
                    raise Gone
                written, offset = self._in[0]
                room = size - len(got)
                take = min(room, len(written) - offset)
                if take < len(written) - offset and room % self.packet_size:
                    raise OverflowError
                got += written[offset : offset + take]
                self._in_bytes -= take
                self._cond.notify_all()
                if offset + take == len(written):
                    self._in.pop(0)
                    if len(written) % self.packet_size or not written:
                        return bytes(got)
                else:
                    self._in[0] = (written, offset + take)
                if len(got) == size:
                    return bytes(got)

    def reset(self) -> None:
        """The port is reset: adbd begins anew."""
        with self._cond:
            self.resets += 1
            self._partial.clear()
            self._done.clear()
            self._in.clear()
            self._in_bytes = 0
            self._header = None
            self._payload.clear()
            self._cond.notify_all()
        self.on_reset()

    def unplug(self) -> None:
        with self._cond:
            self._unplugged = True
            self._cond.notify_all()

    # --- adbd

    def read(self) -> tuple[tuple[int, ...], bytes]:
        """A message, as AOSP's daemon/usb.cpp puts it together."""
        while True:
            with self._cond:
                while not self._done and not self._unplugged:
                    self._cond.wait()
                if self._unplugged:
                    raise Gone
                block = self._done.pop(0)
                self._cond.notify_all()
                if not block:
                    continue
                if self._header is None:
                    if len(block) != HEADER.size:
                        self._break("received packet of unexpected length while reading header")
                        continue
                    self._header = HEADER.unpack(block)
                    self._payload.clear()
                else:
                    if len(self._payload) + len(block) > self._header[3]:
                        self._break("received too many bytes while waiting for payload")
                        continue
                    self._payload += block
                if len(self._payload) == self._header[3]:
                    header, self._header = self._header, None
                    return header, bytes(self._payload)

    def _break(self, why: str) -> None:
        """adbd ends its session, and waits for a new one on the same pipes."""
        self.broken = why
        self._header = None
        self._partial.clear()
        self._done.clear()

    def write(self, head: bytes, data: bytes = b"") -> None:
        with self._cond:
            for part in (head, *(data[i : i + PIECE] for i in range(0, len(data), PIECE))):
                while self._in_bytes > 8 * PIECE and not self._unplugged:
                    self._cond.wait()
                if self._unplugged:
                    raise Gone
                self._in.append((part, 0))
                self._in_bytes += len(part)
                self._cond.notify_all()

    def write_raw(self, *blocks: bytes) -> None:
        """What no adbd writes."""
        with self._cond:
            for block in blocks:
                self._in.append((block, 0))
                self._in_bytes += len(block)
            self._cond.notify_all()

    @property
    def unread(self) -> int:
        """Bytes that the host has not fetched."""
        with self._cond:
            return self._in_bytes

    def close(self) -> None:
        self.unplug()


@dataclass(eq=False)
class _Stream:
    sock: socket.socket
    remote: int
    credit: int
    cond: threading.Condition = field(default_factory=threading.Condition)
    inbox: queue.Queue[bytes | None] = field(default_factory=queue.Queue)
    open: bool = True
    wait: bool = False
    queued: int = 0
    most: int = 0


class Adbd:
    """The phone. `run` serves until the wire is gone; each stream has two threads."""

    def __init__(
        self,
        wire: Wire,
        *,
        approve: Callable[[bytes], bool] | None = None,
        keys: list[bytes] | None = None,
        delayed: bool = True,
        auth: bool = True,
        version: int = VERSION,
        max_payload: int = MIB,
    ) -> None:
        """`approve` is the person: called with a new key; None: nobody looks at the phone."""
        self.wire = wire
        self.keys = [] if keys is None else keys
        self.violations: list[str] = []
        self.log: list[str] = []
        self.greetings = 0
        self.asked = threading.Event()
        self.most_queued = 0
        """Of one stream, on its way to its reader."""
        self._approve = approve
        self._features = "shell_v2,cmd" + (",delayed_ack" if delayed else "")
        self._auth, self._version, self._max = auth, version, max_payload
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._online = False
        self._delayed = False
        self._host_max = 4096
        self._host_version = 0
        self._token = b""
        self._write_lock = threading.Lock()
        self._thread = threading.Thread(target=self.run, name="adbd", daemon=True)

    def start(self) -> Adbd:
        self._thread.start()
        return self

    def stop(self) -> None:
        self.wire.close()
        self._thread.join(10)

    def run(self) -> None:
        with contextlib.suppress(Gone, OSError):
            while True:
                header, data = self.wire.read()
                self._take(header, data)
        self._drop()

    def _drop(self) -> None:
        for number in list(self._streams):
            self._close(number, tell=False)

    def _send(self, name: str, arg0: int, arg1: int, data: bytes = b"") -> None:
        word = WORDS[name]
        both = min(self._host_version, self._version)
        checksum = sum(data) & 0xFFFFFFFF if both < VERSION else 0
        with self._write_lock:
            head = HEADER.pack(word, arg0, arg1, len(data), checksum, word ^ 0xFFFFFFFF)
            self.wire.write(head, data)

    def _take(self, header: tuple[int, ...], data: bytes) -> None:
        word, arg0, arg1, size, checksum, magic = header
        if magic != word ^ 0xFFFFFFFF or word not in NAMES:
            self.violations.append(f"no header: {header}")
            return
        if size > (self._max if self._online else 4096):
            self.violations.append(f"too long: {size}")
        both = min(self._host_version, self._version)
        if self._host_version and both < VERSION and checksum != sum(data) & 0xFFFFFFFF:
            self.violations.append("checksum")
        if NAMES[word] != "WRTE":
            self.log.append(NAMES[word])
        handler = getattr(self, f"_on_{NAMES[word].lower()}")
        handler(arg0, arg1, data)

    def _on_cnxn(self, arg0: int, arg1: int, data: bytes) -> None:
        self._online = False
        self._drop()
        self.greetings += 1
        self._host_version, self._host_max = arg0, min(arg1, self._max)
        self._delayed = b"delayed_ack" in data and "delayed_ack" in self._features
        if self._auth:
            self._ask()
        else:
            self._go_online()

    def _ask(self) -> None:
        self._token = os.urandom(20)
        self._send("AUTH", 1, 0, self._token)

    def _go_online(self) -> None:
        self._online = True
        banner = f"device::ro.product.name=double;ro.product.model=Double;features={self._features}"
        self._send("CNXN", self._version, self._max, banner.encode())

    def _on_auth(self, arg0: int, arg1: int, data: bytes) -> None:
        if arg0 == 2:
            for key in self.keys:
                with contextlib.suppress(InvalidSignature):
                    scheme = utils.Prehashed(hashes.SHA1())
                    decode_android_key(key).verify(data, self._token, padding.PKCS1v15(), scheme)
                    self._go_online()
                    return
            self._ask()
        elif arg0 == 3:
            if not data.endswith(b"\0"):
                self.violations.append("a public key without NUL")
            key = data.rstrip(b"\0")
            decode_android_key(key)
            self.asked.set()
            if self._approve is not None and self._approve(key):
                self.allow(key)

    def allow(self, key: bytes) -> None:
        """The person presses Allow."""
        self.keys.append(key)
        self._go_online()

    def _on_stls(self, *_: object) -> None:
        self.violations.append("STLS")

    def _on_open(self, arg0: int, arg1: int, data: bytes) -> None:
        if not self._online:
            return
        if bool(arg1) != self._delayed or not data.endswith(b"\0"):
            self.violations.append(f"OPEN with {arg1}")
            self._send("CLSE", 0, arg0)
            return
        name = data.rstrip(b"\0").decode()
        try:
            sock = socket.create_connection(("127.0.0.1", int(name.removeprefix("tcp:"))), 2)
        except (OSError, ValueError):
            self._send("CLSE", 0, arg0)
            return
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number, self._next = self._next, self._next + 1
        stream = self._streams[number] = _Stream(sock, arg0, arg1)
        self._send("OKAY", number, arg0, struct.pack("<I", SEND_BUFFER) if self._delayed else b"")
        for pump in (self._to_host, self._to_phone):
            threading.Thread(target=pump, args=(number, stream), daemon=True).start()

    def _to_host(self, number: int, stream: _Stream) -> None:
        with contextlib.suppress(OSError, Gone):
            while True:
                with stream.cond:
                    while stream.open and (stream.credit <= 0 if self._delayed else stream.wait):
                        stream.cond.wait()
                    if not stream.open:
                        return
                    # The real one sends what it has read, into debt if need be; a host that
                    # grants little is asked to be right about that, too.
                    room = min(self._host_max, stream.credit) if self._delayed else self._host_max
                data = stream.sock.recv(room)
                if not data:
                    break
                with stream.cond:
                    stream.credit -= len(data)
                    stream.wait = True
                self._send("WRTE", number, stream.remote, data)
        self._close(number)

    def _to_phone(self, number: int, stream: _Stream) -> None:
        while (data := stream.inbox.get()) is not None:
            try:
                stream.sock.sendall(data)
                stream.queued -= len(data)
                ack = struct.pack("<i", len(data)) if self._delayed else b""
                self._send("OKAY", number, stream.remote, ack)
            except (OSError, Gone):
                self._close(number)
                return
        stream.sock.close()

    def _on_wrte(self, arg0: int, arg1: int, data: bytes) -> None:
        stream = self._streams.get(arg1)
        if stream is None:
            return
        if not self._delayed and stream.queued:
            self.violations.append("WRTE before OKAY")
        stream.queued += len(data)
        self.most_queued = max(self.most_queued, stream.queued)
        stream.inbox.put(data)

    def _on_okay(self, arg0: int, arg1: int, data: bytes) -> None:
        stream = self._streams.get(arg1)
        if stream is None:
            return
        if len(data) != (4 if self._delayed else 0):
            self.violations.append(f"OKAY with {len(data)} bytes")
            return
        with stream.cond:
            if self._delayed:
                stream.credit += struct.unpack("<i", data)[0]
            stream.wait = False
            stream.cond.notify_all()

    def _on_clse(self, arg0: int, arg1: int, data: bytes) -> None:
        self._close(arg1)

    def _close(self, number: int, tell: bool = True) -> None:
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        with stream.cond:
            stream.open = False
            stream.cond.notify_all()
        stream.inbox.put(None)
        with contextlib.suppress(OSError):
            stream.sock.shutdown(socket.SHUT_RD)
        if tell:
            with contextlib.suppress(OSError, Gone):
                self._send("CLSE", number, stream.remote)

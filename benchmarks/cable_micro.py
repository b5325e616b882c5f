"""Our ADB session alone, over pyusb, beside a bare pair of sockets: in turns, in one process.

The phone answers at once and copies nothing, so what is measured is the session: its two threads,
the protocol machine, pyusb above its backend, and the socket of the stream. The baseline is the
same reader and writer on a socket pair without a session between.

    python -m benchmarks.cable_micro [--megabytes 300] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import socket
import statistics
import struct
import threading
import time
from typing import Any

from reach.adb_session import SOCKET_BUFFER, AdbSession
from reach.adb_wire import HEADER, MAX_PAYLOAD, VERSION, Command
from reach.usb_pipes import UsbPipes
from tests.fakes.usb_backend import FakeBackend

PIECE = 65536
"""Bytes that the writer hands over at a time."""
_NUMBER = 7
"""The phone's number for the stream."""
_GRANTED = 32 << 20


class QuickPhone:
    """`BulkPipes`: takes all, and sends as much as it is granted (`source`)."""

    def __init__(self, source: bool) -> None:
        self.packet_size = 512
        self._source = source
        self._payload = bytes(MAX_PAYLOAD)
        self._to_host: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._header: tuple[int, ...] | None = None
        self._got = 0
        self._host = 0
        self._granted = 0

    def host_out(self, data: Any, timeout: float = 0.0) -> int:
        size = len(data)
        if self._header is None:
            header = HEADER.unpack(data)
            if header[3]:
                self._header, self._got = header, 0
            else:
                self._take(header, b"")
            return size
        self._got += size
        if size % self.packet_size or not size:
            header, self._header = self._header, None
            self._take(header, data)
        return size

    def host_in(self, size: int, timeout: float) -> bytes:
        try:
            return self._to_host.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None

    def reset(self) -> None:
        self._header = None

    def _take(self, header: tuple[int, ...], last: Any) -> None:
        command, arg0, arg1, size = header[:4]
        match command:
            case Command.CNXN:
                self._say(Command.CNXN, VERSION, 1 << 20, b"device::features=delayed_ack")
            case Command.OPEN:
                self._host = arg0
                self._say(Command.OKAY, _NUMBER, arg0, struct.pack("<I", _GRANTED))
                self._grant(arg1)
            case Command.OKAY:
                self._grant(struct.unpack("<i", bytes(last))[0])
            case Command.WRTE:
                self._say(Command.OKAY, _NUMBER, self._host, struct.pack("<i", size))

    def _grant(self, size: int) -> None:
        self._granted += size
        while self._source and self._granted >= MAX_PAYLOAD:
            self._granted -= MAX_PAYLOAD
            self._say(Command.WRTE, _NUMBER, self._host, self._payload)

    def _say(self, command: int, arg0: int, arg1: int, payload: bytes) -> None:
        head = HEADER.pack(command, arg0, arg1, len(payload), 0, command ^ 0xFFFFFFFF)
        self._to_host.put(head)
        if payload:
            self._to_host.put(payload)


class QuickBackend(FakeBackend):
    """pyusb's backend on a quick phone."""

    def __init__(self, phone: QuickPhone) -> None:
        super().__init__(phone)
        self.phone = phone

    def bulk_write(self, dev_handle: Any, ep: int, intf: int, data: Any, timeout: int) -> int:
        return self.phone.host_out(data)

    def bulk_read(self, dev_handle: Any, ep: int, intf: int, buff: Any, timeout: int) -> int:
        import usb.core

        try:
            got = self.phone.host_in(len(buff), timeout / 1000)
        except TimeoutError:
            raise usb.core.USBTimeoutError("timed out", -7, 110) from None
        memoryview(buff)[: len(got)] = memoryview(got)
        return len(got)


class NoKey:
    """The phone asks for none."""

    def sign(self, token: bytes) -> bytes:
        return b""

    def public_key(self) -> bytes:
        return b""


async def move(sock: socket.socket, size: int, source: bool) -> float:
    """Seconds for `size` bytes to come (`source`) or to go."""
    loop = asyncio.get_running_loop()
    moved, buffer, piece = 0, bytearray(1 << 18), bytes(PIECE)
    began = time.monotonic()
    while moved < size:
        if source:
            moved += await loop.sock_recv_into(sock, buffer)
        else:
            await loop.sock_sendall(sock, piece)
            moved += PIECE
    return time.monotonic() - began


async def session(size: int, source: bool) -> float:
    backend = QuickBackend(QuickPhone(source))
    cable = AdbSession(lambda: UsbPipes(backend, 1, 2), NoKey, lambda: None)
    with await cable.open_stream(1) as sock:
        took = await move(sock, size, source)
    await cable.wait_closed()
    return took


async def bare(size: int, source: bool) -> float:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    ours.setblocking(False)
    # It is told when to end by the connection.
    other = threading.Thread(target=_feed if source else _drain, args=(theirs,), daemon=True)
    other.start()
    with ours:
        took = await move(ours, size, source)
    other.join()
    return took


def _feed(sock: socket.socket) -> None:
    payload = bytes(MAX_PAYLOAD)
    with sock:
        try:
            while True:
                sock.sendall(payload)
        except OSError:
            return


def _drain(sock: socket.socket) -> None:
    buffer = bytearray(MAX_PAYLOAD)
    with sock:
        while sock.recv_into(buffer):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cable_micro",
                                     description=(__doc__ or "").split("\n", 1)[0])  # fmt: skip
    parser.add_argument("--megabytes", type=int, default=300, help="each way and round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size = options.megabytes * 1_000_000
    print(f"{'':6}{'bare MB/s':>12}{'session MB/s':>14}{'ratio':>8}{'session s/GB':>14}")
    for direction, source in (("down", True), ("up", False)):
        rounds = []
        for _ in range(options.rounds):
            plain = asyncio.run(bare(size, source))
            before = time.process_time()
            own = asyncio.run(session(size, source))
            rounds.append((plain, own, time.process_time() - before))
        middle = [statistics.median(values) for values in zip(*rounds, strict=True)]
        ratio = statistics.median(plain / own for plain, own, _ in rounds)
        print(f"{direction:6}{size / middle[0] / 1e6:12.0f}{size / middle[1] / 1e6:14.0f}"
              f"{ratio:8.2f}{middle[2] * 1e9 / size:14.2f}")  # fmt: skip


if __name__ == "__main__":
    main()

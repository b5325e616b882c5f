"""A phone's bulk pipes for another process: the bus outlives who uses it, as a real one does.

Each of a program's two pipes is a connection of its own to a Unix socket, a third is for the
port. A program that is killed in the middle of a transfer leaves the phone as it is.

    python tests/fakes/remote_usb.py SOCKET       the phone, until it is ended
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fakes.adbd import Adbd, Gone, UsbWire

OUT, IN, PORT = b"o", b"i", b"p"
_SIZES = struct.Struct("<II")
_RESULT = struct.Struct("<i")
TIMED_OUT, OVERFLOW, GONE = -1, -2, -3


def _exactly(sock: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        piece = sock.recv(size - len(got))
        if not piece:
            raise Gone
        got += piece
    return bytes(got)


class Controller:
    """The bus's side: serves the pipes of one phone to whatever programs come."""

    def __init__(self, wire: UsbWire, path: Path) -> None:
        self._wire = wire
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()

    def serve(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        serve = {OUT: self._out, IN: self._in, PORT: self._port}
        with contextlib.suppress(Gone, OSError), sock:
            kind = _exactly(sock, 1)
            sock.sendall(_RESULT.pack(self._wire.packet_size))
            while True:
                serve[kind](sock)

    def _out(self, sock: socket.socket) -> None:
        size, timeout = _SIZES.unpack(_exactly(sock, _SIZES.size))
        data = _exactly(sock, size)
        try:
            result = self._wire.host_out(data, timeout / 1000)
        except TimeoutError:
            result = TIMED_OUT
        except Gone:
            result = GONE
        sock.sendall(_RESULT.pack(result))

    def _in(self, sock: socket.socket) -> None:
        size, timeout = _SIZES.unpack(_exactly(sock, _SIZES.size))
        data = b""
        try:
            data = self._wire.host_in(size, timeout / 1000)
            result = len(data)
        except TimeoutError:
            result = TIMED_OUT
        except OverflowError:
            result = OVERFLOW
        except Gone:
            result = GONE
        sock.sendall(_RESULT.pack(result) + data)

    def _port(self, sock: socket.socket) -> None:
        _exactly(sock, 1)
        self._wire.reset()
        sock.sendall(_RESULT.pack(0))


class RemoteWire:
    """The program's side: `BulkPipes` for `FakeBackend`."""

    def __init__(self, path: Path) -> None:
        self._out = self._connect(path, OUT)
        self._in = self._connect(path, IN)
        self._port = self._connect(path, PORT)

    def _connect(self, path: Path, kind: bytes) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        sock.sendall(kind)
        (self.packet_size,) = _RESULT.unpack(_exactly(sock, _RESULT.size))
        return sock

    def host_out(self, data: bytes, timeout: float) -> int:
        self._out.sendall(_SIZES.pack(len(data), int(timeout * 1000)) + data)
        return self._result(self._out)

    def host_in(self, size: int, timeout: float) -> bytes:
        self._in.sendall(_SIZES.pack(size, int(timeout * 1000)))
        return _exactly(self._in, self._result(self._in))

    def reset(self) -> None:
        self._port.sendall(b"r")
        self._result(self._port)

    @staticmethod
    def _result(sock: socket.socket) -> int:
        (result,) = _RESULT.unpack(_exactly(sock, _RESULT.size))
        if result == TIMED_OUT:
            raise TimeoutError
        if result == OVERFLOW:
            raise OverflowError
        if result == GONE:
            raise Gone
        return int(result)


def main() -> None:
    wire = UsbWire()
    phone = Adbd(wire, approve=lambda key: True)

    def begin_anew() -> None:
        print(f"reset {wire.resets}", flush=True)

    wire.on_reset = begin_anew
    phone.start()
    controller = Controller(wire, Path(sys.argv[1]))
    print("plugged in", flush=True)
    controller.serve()


if __name__ == "__main__":
    main()

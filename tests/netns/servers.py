"""The Internet of the test world: small servers in one process, a thread a connection.

    7     echo, TCP and UDP               8000  HTTP
    9     discard                         8443  HTTP over TLS
    19    sends without end               8009  reads 1 KiB a second
    3478  STUN binding (UDP)              8013  says whom it sees, and closes
    8014  reads to the end of input, then answers with its SHA-256
    8015  sends ten bytes and resets the connection
    8016  sends 1 MiB, ends its side, then reads on; /digest tells what came

HTTP: `GET /bytes/N` is the first N bytes of `random.bin`; `GET /slow/N` sends
N bytes, 1 KiB a second; PUT and POST answer with the SHA-256 of what came, or
with 413 after 1 MiB when the path is /refuse; `GET /digest` see above.

TCP is served on all addresses, UDP on each address by a socket of its own, so
that answers come from the address that was asked.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

FILE_NAME = "random.bin"
FILE_SIZE = 200 * 1024 * 1024
UDP_ADDRESSES = ("10.9.0.1", "10.9.0.2", "fd09::1", "fd09::2")
SLOW_RATE = 1024
REFUSED_AFTER = 1024 * 1024
HALF_CLOSE_SIZE = 1024 * 1024
STUN_MAGIC = 0x2112A442

Handler = Callable[[socket.socket], None]


# ---- plain TCP services


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def discard(connection: socket.socket) -> None:
    buffer = bytearray(1 << 18)
    while connection.recv_into(buffer):
        pass


def source(connection: socket.socket) -> None:
    block = os.urandom(1 << 16)
    while True:
        connection.sendall(block)


def slow_reader(connection: socket.socket) -> None:
    while connection.recv(SLOW_RATE):
        time.sleep(1.0)


def who(connection: socket.socket) -> None:
    connection.sendall(f"{connection.getpeername()[0].removeprefix('::ffff:')}\n".encode())


def digest_after_end(connection: socket.socket) -> None:
    digest = hashlib.sha256()
    while data := connection.recv(65536):
        digest.update(data)
    connection.sendall(digest.hexdigest().encode() + b"\n")


def reset(connection: socket.socket) -> None:
    connection.sendall(b"0123456789")
    time.sleep(0.2)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class EndFirst:
    """Ends its own side first and keeps what arrives afterwards for /digest."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self.digest = "nothing"

    def __call__(self, connection: socket.socket) -> None:
        self.digest = "unfinished"
        with open(self._path, "rb") as file:
            connection.sendall(file.read(HALF_CLOSE_SIZE))
        connection.shutdown(socket.SHUT_WR)
        digest = hashlib.sha256()
        while data := connection.recv(65536):
            digest.update(data)
        self.digest = digest.hexdigest()


# ---- HTTP


class _Input(io.RawIOBase):
    """The receiving half of a connection as a raw stream."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._connection.recv_into(buffer)


class Http:
    """HTTP/1.1, as much as curl needs."""

    def __init__(self, directory: Path, end_first: EndFirst) -> None:
        self._path = directory / FILE_NAME
        self._end_first = end_first

    def __call__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with io.BufferedReader(_Input(connection), 1 << 16) as stream:
            while self._request(connection, stream):
                pass

    def _request(self, connection: socket.socket, stream: io.BufferedReader[_Input]) -> bool:
        """Serve one request; whether another may follow."""
        words = stream.readline(8192).split()
        if len(words) < 3:
            return False
        method, path = words[0].decode(), words[1].decode()
        headers: dict[str, str] = {}
        while (line := stream.readline(8192)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if method in ("PUT", "POST"):
            return self._upload(connection, stream, path, headers)
        kind, _, size = path.partition("?")[0].strip("/").partition("/")
        if kind == "bytes" and size.isdigit():
            _head(connection, "200 OK", int(size))
            if method == "GET":
                with open(self._path, "rb") as file:
                    connection.sendfile(file, 0, int(size))
        elif kind == "slow" and size.isdigit():
            _head(connection, "200 OK", int(size))
            for _ in range(0, int(size), SLOW_RATE):
                connection.sendall(bytes(SLOW_RATE))
                time.sleep(1.0)
        elif kind == "digest":
            _answer(connection, "200 OK", self._end_first.digest)
        else:
            _answer(connection, "404 Not Found", "no such path")
        return headers.get("connection", "").lower() != "close"

    def _upload(
        self,
        connection: socket.socket,
        stream: io.BufferedReader[_Input],
        path: str,
        headers: dict[str, str],
    ) -> bool:
        if headers.get("expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        limit = REFUSED_AFTER if path == "/refuse" else None
        digest, seen = hashlib.sha256(), 0
        remaining = int(headers.get("content-length", 0))
        while remaining:
            data = stream.read(min(remaining, 1 << 18))
            if not data:
                return False
            digest.update(data)
            seen += len(data)
            remaining -= len(data)
            if limit is not None and seen >= limit:
                _answer(connection, "413 Content Too Large", "enough", close=True)
                connection.shutdown(socket.SHUT_WR)
                while stream.read1(1 << 18):
                    pass
                return False
        _answer(connection, "200 OK", digest.hexdigest())
        return True


def _head(connection: socket.socket, status: str, size: int, close: bool = False) -> None:
    end = "Connection: close\r\n" if close else ""
    connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{end}\r\n".encode())


def _answer(connection: socket.socket, status: str, text: str, close: bool = False) -> None:
    _head(connection, status, len(text), close)
    connection.sendall(text.encode())


def tls(context: ssl.SSLContext, inner: Handler, connection: socket.socket) -> None:
    with context.wrap_socket(connection, server_side=True) as secured:
        inner(secured)


# ---- UDP


def udp_echo(listener: socket.socket) -> None:
    while True:
        data, sender = listener.recvfrom(65535)
        try:
            listener.sendto(data, sender)
        except OSError:
            continue  # The sender has closed its port: its ICMP error ends here.


def stun(listener: socket.socket) -> None:
    """Binding responses with XOR-MAPPED-ADDRESS (RFC 8489, sections 5 and 14.2)."""
    while True:
        data, sender = listener.recvfrom(2048)
        if len(data) < 20:
            continue
        kind, _, magic, transaction = struct.unpack_from("!HHI12s", data)
        if kind != 0x0001 or magic != STUN_MAGIC:
            continue
        address = socket.inet_pton(listener.family, sender[0])
        mask = struct.pack("!I", STUN_MAGIC) + transaction
        hidden = bytes(a ^ b for a, b in zip(address, mask, strict=False))
        family = 1 if listener.family == socket.AF_INET else 2
        value = struct.pack("!BBH", 0, family, sender[1] ^ (STUN_MAGIC >> 16)) + hidden
        attribute = struct.pack("!HH", 0x0020, len(value)) + value
        header = struct.pack("!HHI12s", 0x0101, len(attribute), STUN_MAGIC, transaction)
        listener.sendto(header + attribute, sender)


# ---- running them


def serve_tcp(port: int, handler: Handler) -> None:
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    listener.listen(1024)

    def one(connection: socket.socket) -> None:
        try:
            handler(connection)
        except OSError:
            pass  # The client went away, which is its right.
        finally:
            connection.close()

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def serve_udp(address: str, port: int, handler: Handler) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    listener.bind((address, port))
    threading.Thread(target=handler, args=(listener,), daemon=True).start()


def make_file(path: Path, size: int) -> None:
    """Random content, rounded up: no part of it can stand for another unnoticed."""
    with open(path, "wb") as file:
        for _ in range(0, size, 1 << 22):
            file.write(os.urandom(1 << 22))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--certificate", type=Path)
    options = parser.parse_args()
    if not (options.directory / FILE_NAME).exists():
        make_file(options.directory / FILE_NAME, FILE_SIZE)
    end_first = EndFirst(options.directory)
    http = Http(options.directory, end_first)
    services: dict[int, Handler] = {
        7: echo, 9: discard, 19: source, 8000: http, 8009: slow_reader, 8013: who,
        8014: digest_after_end, 8015: reset, 8016: end_first,
    }  # fmt: skip
    if options.key:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
        services[8443] = partial(tls, context, http)
    for port, handler in services.items():
        serve_tcp(port, handler)
    for address in UDP_ADDRESSES:
        serve_udp(address, 7, udp_echo)
        serve_udp(address, 3478, stun)
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()

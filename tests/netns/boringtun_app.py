"""A WireGuard app without any rights: boringtun and smoltcp in one process, told by a config.

Run as a program, by whomever, in a host of the test world:

    python -m tests.netns.boringtun_app CONFIG SERVER FILE SIZE [SERVER6]

Takes `SIZE` bytes from the server's HTTP and gives it as many of FILE, by IPv4, then a tenth of
that by each of the other addresses; resolves a name; has datagrams echoed. Says `up` when the
first packet was answered, and at the end prints what it saw as JSON. `wireguard-requests` (PyPI)
has no ICMP, so nothing is pinged.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from typing import Any

CHUNK = 1 << 16
UDP_SIZES = (1, 1200, 1372)
"""The last is the most that the tunnel takes whole by IPv6: smoltcp sends no fragments."""
CONNECT_SECONDS = 20.0


class Stream:
    """One HTTP exchange over the tunnel."""

    def __init__(self, tunnel: Any, server: str, request: bytes) -> None:
        self._stream = tunnel.create_stream(server, 8000)
        self._stream.set_timeout(30.0)
        self._stream.sendall(request)

    def send(self, data: bytes) -> None:
        self._stream.sendall(data)

    def body(self) -> tuple[int, str]:
        """Size and SHA-256 of what is answered."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, data = data.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-len")]
        size, got = int(lengths[0].split(b":")[1]), 0
        digest = hashlib.sha256()
        self.text = b""
        while True:
            digest.update(data)
            got += len(data)
            self.text = (self.text + data)[-64:]
            if got >= size:
                return got, digest.hexdigest()
            data = self._receive()

    def _receive(self) -> bytes:
        data = bytes(self._stream.recv(CHUNK))
        if not data:
            raise ConnectionError("the server's answer ends early")
        return data

    def close(self) -> None:
        self._stream.close()


def download(tunnel: Any, server: str, size: int) -> tuple[int, str]:
    stream = Stream(tunnel, server, f"GET /bytes/{size} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    try:
        return stream.body()
    finally:
        stream.close()


def upload(tunnel: Any, server: str, path: str, size: int) -> str:
    """What the server says that it got."""
    head = f"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    stream = Stream(tunnel, server, head)
    try:
        with open(path, "rb") as file:
            while size:
                data = file.read(min(CHUNK, size))
                stream.send(data)
                size -= len(data)
        stream.body()
        return stream.text.decode()
    finally:
        stream.close()


def echo(tunnel: Any, server: str) -> list[int]:
    """Sizes of datagrams that came back as they went."""
    sock = tunnel.create_udp_socket()
    sock.set_timeout(5.0)
    whole = []
    for size in UDP_SIZES:
        data = os.urandom(size)
        sock.send_to(data, (server, 7))
        if bytes(sock.recv_from(65535)[0]) == data:
            whole.append(size)
    sock.close()
    return whole


def main() -> None:
    from wireguard_requests import WireGuardConfig, _native

    config, server, path, size, *others = sys.argv[1:]
    tunnel = _native.WgTunnel(WireGuardConfig.from_file(config).to_native())
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            download(tunnel, server, 10)
            break
        except Exception:
            if time.monotonic() > deadline:
                raise
    print("up", flush=True)
    seen = {
        "user": os.geteuid(),
        "name": tunnel.resolve_dns("only4.test"),
        "down": download(tunnel, server, int(size)),
        "up": upload(tunnel, server, path, int(size)),
        "udp": echo(tunnel, server),
    }
    for other in others:
        part = int(size) // 10
        seen[other] = [*download(tunnel, other, part), upload(tunnel, other, path, part)]
        seen[f"{other} udp"] = echo(tunnel, other)
    print(json.dumps(seen), flush=True)
    tunnel.close()


if __name__ == "__main__":
    main()

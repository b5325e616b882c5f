"""The loads of `python -m benchmarks.proxy`, run in a host: by SOCKS 5, or straight.

    proxy_load.py (down | up) HOST PORT SECONDS STREAMS [PROXY-PORT]    bytes a second
    proxy_load.py echo HOST PORT COUNT [PROXY-PORT]                      seconds, p50
    proxy_load.py hold HOST PORT COUNT [PROXY-PORT]                      waits to be ended

A connection by SOCKS is begun as its fastest programs do: greeting and request at once.
"""

from __future__ import annotations

import json
import resource
import select
import signal
import socket
import sys
import time

PIECE = 1 << 18
BATCH = 64
"""Connections that `hold` opens before it asks whether each carries."""


def connect(host: str, port: int, proxy: int | None) -> socket.socket:
    """A connection that the far side has taken."""
    if proxy is None:
        sock = socket.create_connection((host, port), 30)
    else:
        sock = socket.create_connection(("127.0.0.1", proxy), 30)
        request = b"\x05\x01\x00\x01" + socket.inet_aton(host) + port.to_bytes(2, "big")
        sock.sendall(b"\x05\x01\x00" + request)
        answer = exactly(sock, 12)
        if answer[:4] != b"\x05\x00\x05\x00":
            raise SystemExit(f"the proxy said {answer.hex()}")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise SystemExit("the connection ended early")
        data += more
    return data


def bulk(up: bool, host: str, port: int, seconds: float, streams: int, proxy: int | None) -> float:
    """Bytes a second of all streams, after the first fifth, in which they get up to speed."""
    socks = [connect(host, port, proxy) for _ in range(streams)]
    poll = select.epoll()
    by_number = {}
    for sock in socks:
        sock.setblocking(False)
        by_number[sock.fileno()] = sock
        poll.register(sock, select.EPOLLOUT if up else select.EPOLLIN)
    buffer = bytearray(PIECE)
    began = time.monotonic()
    counted_from, moved = began + seconds / 5, 0
    while (now := time.monotonic()) < began + seconds:
        for number, _ in poll.poll(1):
            sock = by_number[number]
            size = sock.send(buffer) if up else sock.recv_into(buffer)
            if now >= counted_from:
                moved += size
    return moved / (seconds * 0.8)


def echo(host: str, port: int, count: int, proxy: int | None) -> float:
    """Seconds of a connect with a byte there and back, p50."""
    taken = []
    for _ in range(count):
        began = time.monotonic()
        sock = connect(host, port, proxy)
        sock.sendall(b"x")
        exactly(sock, 1)
        taken.append(time.monotonic() - began)
        sock.close()
        time.sleep(0.005)
    return sorted(taken)[count // 2]


def hold(host: str, port: int, count: int, proxy: int | None) -> None:
    held: list[socket.socket] = []
    while len(held) < count:
        fresh = [connect(host, port, proxy) for _ in range(min(BATCH, count - len(held)))]
        for sock in fresh:
            sock.sendall(b"x")
        for sock in fresh:
            exactly(sock, 1)
        held += fresh
    print(f"held {len(held)}", flush=True)
    signal.pause()


def main() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    mode, host, port, *words = sys.argv[1:]
    bulky = mode in ("down", "up")
    proxy = int(words[1 + bulky]) if len(words) > 1 + bulky else None
    if bulky:
        rate = bulk(mode == "up", host, int(port), float(words[0]), int(words[1]), proxy)
        print(json.dumps(rate), flush=True)
    elif mode == "echo":
        print(json.dumps(echo(host, int(port), int(words[0]), proxy)), flush=True)
    else:
        hold(host, int(port), int(words[0]), proxy)


if __name__ == "__main__":
    main()

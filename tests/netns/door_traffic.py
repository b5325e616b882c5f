"""A device that never stops trying: UDP, TCP and DNS over both families, until it is ended.

Each turn sends a datagram and begins a connect to every address of the
Internet in the arguments, and asks names of whatever resolv.conf says and of
the local network's own resolvers. Ten times a second it prints how often it tried.
What fails, fails; nothing waits.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time

QUESTION = bytes.fromhex("00010100000100000000000003777777076578616d706c6503636f6d0000010001")
PAUSE = 0.03
TELL = 0.1


def send(kind: int, address: str, port: int, data: bytes) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, kind) as sock:
        sock.setblocking(False)
        if kind == socket.SOCK_DGRAM:
            sock.sendto(data, (address, port))
        else:
            sock.connect((address, port))


def resolvers() -> list[str]:
    with open("/etc/resolv.conf") as file:
        return [words[1] for line in file if (words := line.split())[:1] == ["nameserver"]]


def main() -> None:
    internet, local = sys.argv[1].split(","), sys.argv[2].split(",")
    told, tries = time.monotonic(), 0
    print("trying", flush=True)
    while True:
        for address in internet:
            send(socket.SOCK_DGRAM, address, 4000, b"x" * 64)
            send(socket.SOCK_STREAM, address, 8000, b"")
        for address in {*resolvers(), *local}:
            send(socket.SOCK_DGRAM, address, 53, QUESTION)
            send(socket.SOCK_STREAM, address, 53, b"")
        tries += 1
        if time.monotonic() - told >= TELL:
            told = time.monotonic()
            print(f"tried {tries}", flush=True)
        time.sleep(PAUSE)


main()

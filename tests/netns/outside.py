"""Servers that a check asks: STUN, a resolver, and a name's own server. Prints `serving`.

    python tests/netns/outside.py ADDRESS ADDRESS ... RESOLVER

Each ADDRESS has STUN at LIES, which says 8.8.8.8, and at HOME, which says HOME_ADDRESS (that at
3478, which says what it sees, is of servers.py). RESOLVER answers names at NAMES:
`ADDRESS-with-dashes.test` has that address, and `whoami.test` has the asker's as TXT, as has the
server of the name at OWN; that at TAKEN says another's.
"""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fakes.outside import asked_by, type_of
from tests.fakes.stun import success
from tests.netstack import wires

LIES, HOME = 3479, 3480
NAMES, OWN, TAKEN = 5354, 5355, 5356
Answer = Callable[[int, bytes, str], bytes]
"""By the port that was asked, the question, and the asker's address."""
LIE, HOME_ADDRESS, OTHER = "8.8.8.8", "fd07::2", "198.51.100.53"


def stun(port: int, request: bytes, seen: str) -> bytes:
    return success(request[8:20], LIE if port == LIES else HOME_ADDRESS, 1)


def name(port: int, question: bytes, seen: str) -> bytes:
    label = question[13 : 13 + question[12]].decode()
    if label.lower() == "whoami":
        return asked_by(OTHER if port == TAKEN else seen)(question)[0]
    packed = bytes(int(part) for part in label.split("-"))
    kind = type_of(question)
    if kind == wires.A:
        return wires.reply(question, [wires.record(kind, packed)])
    if kind == wires.AAAA:
        six = socket.inet_pton(socket.AF_INET6, f"fd09::{packed[3]}")
        return wires.reply(question, [wires.record(kind, six)])
    return wires.reply(question, authority=[wires.soa()])


def opened(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, port))
    return sock


def main() -> None:
    addresses, resolver = sys.argv[1:-1], sys.argv[-1]
    socks: dict[socket.socket, tuple[Answer, int]] = {
        opened(a, port): (stun, port) for a in addresses for port in (LIES, HOME)
    }
    socks |= {opened(resolver, port): (name, port) for port in (NAMES, OWN, TAKEN)}
    print("serving", flush=True)
    while True:
        for sock in select.select(list(socks), [], [])[0]:
            datagram, sender = sock.recvfrom(4096)
            answer, port = socks[sock]
            sock.sendto(answer(port, datagram, sender[0]), sender)


if __name__ == "__main__":
    main()

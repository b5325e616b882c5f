"""A resolver that is far away: it answers UDP after a set time, TCP at once.

    python tests/netns/far_dns.py ADDRESS MILLISECONDS

Names that begin with `no` do not exist, with an SOA that says so for 60 seconds; all
others have the address 192.0.2.1. Each question is printed: transport, name.
"""

from __future__ import annotations

import select
import socket
import sys
import threading
import time
from collections import deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.netstack import wires

TRUTH = "192.0.2.1"


def answer(wire: bytes) -> bytes:
    if wire[13:15].lower() == b"no":
        return wires.reply(wire, authority=[wires.soa()], rcode=3)
    return wires.address_reply(wire)[0]


def note(transport: str, wire: bytes) -> None:
    labels, at = [], 12
    while wire[at]:
        labels.append(wire[at + 1 : at + 1 + wire[at]].decode("latin-1").lower())
        at += 1 + wire[at]
    print(transport, ".".join(labels))


def serve_tcp(address: str) -> None:
    listener = socket.create_server((address, 53), backlog=128)
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            wire = stream.read(int.from_bytes(stream.read(2), "big"))
            if len(wire) > 12:
                note("tcp", wire)
                reply = answer(wire)
                connection.sendall(len(reply).to_bytes(2, "big") + reply)


def main() -> None:
    address, delay = sys.argv[1], float(sys.argv[2]) / 1000
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((address, 53))
    threading.Thread(target=serve_tcp, args=(address,), daemon=True).start()
    print("ready", flush=True)
    waiting: deque[tuple[float, bytes, tuple[str, int]]] = deque()
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        if select.select([sock], [], [], pause)[0]:
            wire, asker = sock.recvfrom(4096)
            note("udp", wire)
            waiting.append((time.monotonic() + delay, wire, asker))
        while waiting and waiting[0][0] <= time.monotonic():
            _, wire, asker = waiting.popleft()
            sock.sendto(answer(wire), asker)
        sys.stdout.flush()


if __name__ == "__main__":
    main()

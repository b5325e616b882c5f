"""Initiations with the right mac1 at the gateway's WireGuard door, for a host of the test world.

Whoever has seen a config knows the gateway's public key, and that is all that mac1 takes. Each
message has another sender, and looks like the first one of a device until its static key is opened.
Says `ready`, and goes on until SIGTERM; then it prints how many it was.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import socket
import time
from base64 import b64decode

from wireguard.constants import INITIATION, INITIATION_SIZE, LABEL_MAC1, MACS_SIZE
from wireguard.macs import add_macs

PREPARED = 4096
SOCKETS = 8
"""A source; neighbours in time are of different ones, so that nothing is joined on the way."""


def initiations(gateway_key: bytes, number: int = PREPARED) -> list[bytes]:
    key = hashlib.blake2s(LABEL_MAC1 + gateway_key).digest()
    head = INITIATION.to_bytes(4, "little")
    size = INITIATION_SIZE - MACS_SIZE - len(head)
    return [add_macs(head + os.urandom(size), key, None) for _ in range(number)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("key", type=b64decode, help="the gateway's")
    parser.add_argument("--rate", type=float, default=0.0, help="a second; all that goes if 0")
    parser.add_argument("--source", action="append", default=[], help="own addresses, in turn")
    parser.add_argument("--cookies", action="store_true", help="with something where a cookie is")
    options = parser.parse_args()
    messages = initiations(options.key)
    if options.cookies:
        messages = [message[:-16] + os.urandom(16) for message in messages]
    socks = []
    for source in (options.source or ["0.0.0.0"]) * SOCKETS:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((source, 0))
        sock.setblocking(False)
        socks.append(sock)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    there = (options.address, options.port)
    print("ready", flush=True)
    began, sent = time.monotonic(), 0
    while not told:
        try:
            socks[sent % len(socks)].sendto(messages[sent % PREPARED], there)
        except OSError:
            pass
        sent += 1
        if options.rate:
            ahead = began + sent / options.rate - time.monotonic()
            if ahead > 0.002:
                time.sleep(ahead)
    seconds = time.monotonic() - began
    print(f"done: {sent} in {seconds:.1f} s, {sent / seconds:.0f} a second", flush=True)


if __name__ == "__main__":
    main()

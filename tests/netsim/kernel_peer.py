"""A program for a test's namespace: one kernel TCP connection that sends, receives and hashes.

Run as `kernel_peer.py connect|listen LOCAL PORT REMOTE PORT SEND_BYTES SEED`. It
sends the seeded bytes, closes its direction, reads to the end, and prints one
line of JSON: bytes and SHA-256 of what came, and the seconds from the
connection's beginning to the end of receiving.
"""

from __future__ import annotations

import hashlib
import json
import random
import socket
import sys
import threading
import time

PIECE = 1 << 16


def seeded(size: int, seed: int) -> bytes:
    """The bytes that a peer with this seed sends."""
    return random.Random(seed).randbytes(size)


def send(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def main() -> None:
    role, local, local_port, remote, remote_port, size, seed = sys.argv[1:]
    here, there = (local, int(local_port)), (remote, int(remote_port))
    data = seeded(int(size), int(seed))
    family = socket.AF_INET6 if ":" in local else socket.AF_INET
    if role == "listen":
        with socket.create_server(here, family=family) as server:
            print("ready", flush=True)
            sock = server.accept()[0]
        begin = time.monotonic()
    else:
        begin = time.monotonic()
        sock = socket.create_connection(there, timeout=60, source_address=here)
        sock.settimeout(None)
    sender = threading.Thread(target=send, args=(sock, data))
    sender.start()
    digest = hashlib.sha256()
    received = 0
    while piece := sock.recv(PIECE):
        digest.update(piece)
        received += len(piece)
    elapsed = time.monotonic() - begin
    sender.join()
    sock.close()
    print(
        json.dumps({"received": received, "sha256": digest.hexdigest(), "seconds": elapsed}),
        flush=True,
    )


if __name__ == "__main__":
    main()

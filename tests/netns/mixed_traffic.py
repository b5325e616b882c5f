"""Traffic of every kind that a client has, without end: a program for a client's namespace.

    python tests/netns/mixed_traffic.py SERVER SERVER6

In threads of their own, over IPv4 and IPv6 both: a TCP connection and a UDP port
that are kept as long as they work, new connections and new ports all the time, a
download, DNS questions over UDP and TCP for names never asked before, pings. An
error is counted and the thread goes on. On SIGTERM it prints, as JSON, how often
each kind got its answer and which errors it met.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

ECHO_PORT, SOURCE_PORT, DNS_PORT = 7, 19, 53
PATIENCE = 2.0
"""Seconds until an answer is given up."""
PACE = 0.04
"""Seconds between two actions of a thread, so that the machine has time for the others."""

Step = Callable[[], None]


def stream(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), PATIENCE)


def datagrams(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE / 4)
    sock.connect((host, port))
    return sock


def ask(sock: socket.socket) -> None:
    """Send something that nothing else sends, and wait for it to come back."""
    text = secrets.token_bytes(64)
    sock.sendall(text)
    while text:
        got = sock.recv(64)
        if not got:
            raise ConnectionError("closed")
        if sock.type == socket.SOCK_DGRAM:
            if got == text:
                return
        else:
            text = text[len(got) :]


def kept(open_: Callable[[], socket.socket]) -> Iterator[None]:
    """One socket as long as it works."""
    while True:
        with open_() as sock:
            while True:
                ask(sock)
                yield


def fresh(open_: Callable[[], socket.socket]) -> Iterator[None]:
    """A new socket each time."""
    while True:
        with open_() as sock:
            ask(sock)
        yield


def download(host: str) -> Iterator[None]:
    while True:
        with stream(host, SOURCE_PORT) as sock:
            while sock.recv(1 << 16):
                yield


def question() -> bytes:
    """An A question for a name never asked before."""
    name = secrets.token_hex(8).encode()
    header = secrets.token_bytes(2) + bytes.fromhex("01000001000000000000")
    return header + bytes([len(name)]) + name + b"\x04test\x00\x00\x01\x00\x01"


def resolver() -> str:
    """The client's resolver of the moment."""
    with open("/etc/resolv.conf") as file:
        for line in file:
            if line.startswith("nameserver"):
                return line.split()[1]
    raise OSError("no resolver")


def names_by_udp() -> Iterator[None]:
    while True:
        with datagrams(resolver(), DNS_PORT) as sock:
            wire = question()
            sock.sendall(wire)
            answer = sock.recv(4096)
            if answer[:2] != wire[:2] or answer[3] & 15 == 2:
                raise ConnectionError("no answer from the resolver")
        yield


def names_by_tcp() -> Iterator[None]:
    while True:
        with stream(resolver(), DNS_PORT) as sock:
            wire = question()
            sock.sendall(len(wire).to_bytes(2, "big") + wire)
            if len(sock.recv(4096)) < 14:
                raise ConnectionError("closed")
        yield


def ping(host: str) -> Iterator[None]:
    while True:
        subprocess.run(["ping", "-n", "-c", "1", "-W", "1", host], check=True, capture_output=True)
        yield


def kinds(server: str, server6: str) -> dict[str, Callable[[], Iterator[None]]]:
    """Every kind of traffic by its name."""
    found: dict[str, Callable[[], Iterator[None]]] = {
        "dns udp": names_by_udp,
        "dns tcp": names_by_tcp,
    }
    for version, host in ((4, server), (6, server6)):
        tcp, udp = partial(stream, host, ECHO_PORT), partial(datagrams, host, ECHO_PORT)
        found |= {
            f"old tcp{version}": partial(kept, tcp),
            f"new tcp{version}": partial(fresh, tcp),
            f"old udp{version}": partial(kept, udp),
            f"new udp{version}": partial(fresh, udp),
            f"download{version}": partial(download, host),
            f"ping{version}": partial(ping, host),
        }
    return found


def main() -> None:
    served: Counter[str] = Counter()
    failed: Counter[str] = Counter()

    def run(name: str, begin: Callable[[], Iterator[None]]) -> None:
        while True:
            try:
                for _ in begin():
                    served[name] += 1
                    time.sleep(PACE)
            except (OSError, subprocess.CalledProcessError) as error:
                failed[f"{name}: {type(error).__name__}"] += 1
                time.sleep(PACE)

    def report(*_: object) -> None:
        print(json.dumps({"served": served, "failed": failed}), flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, report)
    for name, begin in kinds(*sys.argv[1:]).items():
        threading.Thread(target=run, args=(name, begin), daemon=True).start()
    print("ready", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()

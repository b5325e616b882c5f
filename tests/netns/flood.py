"""A stranger's flood, as a program for a host of the test world.

Opens connections and begins handshakes as fast as asked, holds as many half
open as it may, and sends first messages over UDP, each of which looks like
another client's. Says `enough` after so many attempts and goes on until SIGTERM;
then it prints what it did.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import signal
import socket
import struct
import time
from collections import deque

from vshp.config import Capability, Hello
from vshp.datagram_session import DatagramClientSession
from vshp.session import ClientSession

HELD = 900
"""Half-open connections held at once."""
TEMPLATES = 64
_INDEX = struct.Struct("<I")


def first_messages() -> tuple[list[bytes], list[bytes]]:
    """Genuine first messages: over a stream, over datagrams."""
    hello = Hello("flood", "linux", Capability.IPV6, 1500)
    streams, datagrams = [], []
    for _ in range(TEMPLATES):
        stream = ClientSession(os.urandom(32), None, hello, now=0.0)
        streams.append(bytes(stream.writer.output()))
        datagram = DatagramClientSession(os.urandom(32), None, hello, address="", now=0.0)
        ((data, _),) = datagram.datagrams_to_send()
        datagrams.append(bytes(data))
    return streams, datagrams


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("number", type=int, help="attempts after which it is enough")
    parser.add_argument("--rate", type=float, default=1000.0, help="attempts a second")
    parser.add_argument("--source", action="append", default=[], help="own addresses, in turn")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    streams, datagrams = first_messages()
    sources = options.source or ["0.0.0.0"]
    there = (options.address, options.port)
    held: deque[socket.socket] = deque()
    udp = []
    for source in sources:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((source, 0))
        sock.setblocking(False)
        udp.append(sock)
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    print("ready", flush=True)
    began = time.monotonic()
    refused = 0
    for number in itertools.count():
        if number == options.number:
            print("enough", flush=True)
        if told:
            break
        source = sources[number % len(sources)]
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        stream.bind((source, 0))
        stream.settimeout(0.2)
        try:
            stream.connect(there)
            # A third each: silent, half a message, a whole first message and no second.
            message = streams[number % TEMPLATES]
            stream.send(message[: (0, 7, len(message))[number % 3]])
            held.append(stream)
        except OSError:
            refused += 1
            stream.close()
        while len(held) > HELD:
            held.popleft().close()
        data = bytearray(datagrams[number % TEMPLATES])
        _INDEX.pack_into(data, 4, number)
        try:
            udp[number % len(udp)].sendto(data, there)
        except OSError:
            refused += 1
        ahead = began + number / options.rate - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
    seconds = time.monotonic() - began
    print(f"done: {number} connects and first messages in {seconds:.1f} s, "
          f"{refused} refused, {len(held)} held", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

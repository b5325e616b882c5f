"""Garbage at the gateway's door as fast as it goes, as a program for a host of the test world.

`udp`: datagrams that belong to nobody. `first`: first messages that look like many
clients'. `tcp`: connections that say what no client says. Says `ready`, and goes on until
SIGTERM; then it prints how much it was.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import time

from tests.netns.flood import first_messages

SENDERS = 64


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("udp", "first", "tcp"))
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    there = (options.address, options.port)
    began, sent = time.monotonic(), 0
    print("ready", flush=True)
    if options.kind == "tcp":
        while not told:
            try:
                with socket.create_connection(there, 0.2) as stream:
                    stream.send(os.urandom(600))
                    sent += 1
            except OSError:
                pass
    else:
        datagrams = first_messages()[1] if options.kind == "first" else [b"\6" + os.urandom(63)]
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SENDERS)]
        while not told:
            # One by one, and each from another sender: nothing to join on the way.
            data = bytearray(datagrams[sent % len(datagrams)])
            data[4:8] = os.urandom(4)
            try:
                socks[sent % SENDERS].sendto(data, there)
            except OSError:
                pass
            sent += 1
    seconds = time.monotonic() - began
    print(f"done: {sent} in {seconds:.1f} s, {sent / seconds:.0f} a second", flush=True)


if __name__ == "__main__":
    main()

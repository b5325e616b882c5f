"""Strangers who fill the desk, as a program for a host of the test world.

From each of its addresses it asks to be let in as often as it may, goes as far as a
request that waits for the owner, holds it, and begins anew when it is turned away.
Says `full` when it has not got any further for a second.
"""

from __future__ import annotations

import argparse
import selectors
import signal
import socket
import time

from sealing.errors import ProtocolError
from sealing.identity import generate_identity
from vshp.config import Capability, Hello
from vshp.events import ApprovalPending
from vshp.session import ClientSession

EACH = 4
"""Attempts at once from an address."""
PAUSE = 0.2
"""Seconds from a refusal to the next attempt."""


class Stranger:
    """One attempt after the other from one address."""

    def __init__(self, source: str, there: tuple[str, int]) -> None:
        self.source, self.there = source, there
        self.again = 0.0
        self.waits = False
        self.sock: socket.socket | None = None

    def begin(self, selector: selectors.BaseSelector, now: float) -> None:
        self.sock = sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        hello = Hello("Honest newcomer", "linux", Capability.IPV6, 1500)
        self.session = ClientSession(generate_identity(), None, hello, now=now)
        try:
            sock.bind((self.source, 0))
            sock.settimeout(1.0)
            sock.connect(self.there)
            self.flush()
        except OSError:
            self.end(selector, now)
            return
        selector.register(sock, selectors.EVENT_READ, self)

    def flush(self) -> None:
        assert self.sock is not None
        output = bytes(self.session.writer.output())
        self.session.writer.consumed(len(output))
        if output:
            self.sock.sendall(output)

    def read(self, selector: selectors.BaseSelector, now: float) -> None:
        assert self.sock is not None
        try:
            n = self.sock.recv_into(self.session.receive_buffer())
            if n:
                self.session.received(n, now)
                self.flush()
        except (ProtocolError, OSError):
            n = 0
        while (event := self.session.next_event()) is not None:
            self.waits |= isinstance(event, ApprovalPending)
        if not n or self.session.closed:
            self.end(selector, now)

    def end(self, selector: selectors.BaseSelector, now: float) -> None:
        assert self.sock is not None
        if self.sock in selector.get_map():
            selector.unregister(self.sock)
        self.sock.close()
        self.sock, self.waits, self.again = None, False, now + PAUSE


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("source", nargs="+")
    options = parser.parse_args()
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    there = (options.address, options.port)
    crowd = [Stranger(source, there) for source in options.source for _ in range(EACH)]
    selector = selectors.DefaultSelector()
    most, since, said = 0, time.monotonic(), False
    while not told:
        now = time.monotonic()
        for stranger in crowd:
            if stranger.sock is None and stranger.again <= now:
                stranger.begin(selector, now)
        for found, _ in selector.select(0.05):
            found.data.read(selector, now)
        waiting = sum(stranger.waits for stranger in crowd)
        if waiting > most:
            most, since = waiting, now
        if not said and most and now - since > 1.0:
            said = True
            print("full", flush=True)
    print(f"done: {waiting} wait, {most} at most", flush=True)


if __name__ == "__main__":
    main()

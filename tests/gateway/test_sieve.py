"""What strangers may cost, and the kernel's filter for when it is more."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from gateway.sieve import (
    COARSE,
    MAX_DEBT,
    MAX_INDICES,
    SAVED_SECONDS,
    SHARE,
    Budget,
    Sieve,
    program,
)
from tests.netns.flood import first_messages
from vshp.constants import DATAGRAM_DATA, DATAGRAM_FINISH

FIRST = first_messages()[1][0]


class Wire:
    """A datagram socket with a sieve, and who sends to it."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.sender = socket.socket(family, socket.SOCK_DGRAM)
        self.sieve = Sieve(self.sock)

    def arrived(self, *datagrams: bytes) -> list[bytes]:
        """Which of these the kernel lets through."""
        found = []
        for data in datagrams:
            self.sender.sendto(data, self.sock.getsockname())
            try:
                found.append(self.sock.recv(2048))
            except BlockingIOError:
                continue
        return found


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    wire = Wire(request.param)
    yield wire
    wire.sock.close()
    wire.sender.close()


def named(kind: int, index: int) -> bytes:
    return struct.pack("<BBHI", kind, 0, 0, index) + os.urandom(24)


def test_the_kernel_drops_what_names_no_session(wire: Wire) -> None:
    ours = [0x01020304, 0xFFFFFFFF, 0, 0x80000001]
    good = [named(kind, index) for kind in (DATAGRAM_DATA, DATAGRAM_FINISH) for index in ours]
    bad = [
        named(DATAGRAM_DATA, 0x04030201),
        named(DATAGRAM_FINISH, 5),
        *(named(kind, ours[0]) for kind in (0, 2, 4, 5, 7, 255)),
        FIRST.replace(b"VSHP", b"VSHQ"),
        b"",
        b"\x06",
        b"\x01" * 20,
        os.urandom(1200),
    ]
    wire.sieve.set(1, ours)
    assert wire.sieve.level == 1
    assert wire.arrived(*good, *bad, FIRST) == [*good, FIRST]
    wire.sieve.set(1, ours[:1])
    assert wire.arrived(*good) == [good[0], good[4]]
    wire.sieve.set(0, [])
    assert wire.arrived(named(DATAGRAM_DATA, 77), b"\x09") != []


def test_of_a_flood_of_first_messages_few_are_let_through(wire: Wire) -> None:
    wire.sieve.set(COARSE, [7])
    data = named(DATAGRAM_DATA, 7)
    through = wire.arrived(*[FIRST] * 8000)
    # 31 on average: less than 5 or more than 100 is no chance.
    assert 5 <= len(through) <= 100
    assert wire.arrived(data, named(DATAGRAM_DATA, 8)) == [data]


def test_more_sessions_than_a_filter_can_name_are_all_let_through(wire: Wire) -> None:
    wire.sieve.set(1, range(MAX_INDICES))
    assert wire.arrived(named(DATAGRAM_DATA, 1), named(DATAGRAM_DATA, MAX_INDICES)) != []
    assert len(wire.arrived(named(DATAGRAM_DATA, MAX_INDICES - 1))) == 1
    wire.sieve.set(1, range(MAX_INDICES + 1))
    assert len(wire.arrived(named(DATAGRAM_DATA, 99_999), b"\x09" * 40)) == 1
    assert len(program(range(MAX_INDICES), True)) < 4096


def test_the_budget_is_a_share_with_something_saved_and_little_debt() -> None:
    budget = Budget(0.0)
    assert budget.charge(SAVED_SECONDS * 0.9, 0.0)
    assert not budget.charge(100.0, 0.0)
    assert budget.wait() == pytest.approx(MAX_DEBT / SHARE)
    assert budget.charge(0.0, 1.01 * MAX_DEBT / SHARE)
    used = 0.0
    for tick in range(10_000):
        if budget.charge(0.0, 1000.0 + tick / 100):
            budget.charge(0.002, 1000.0 + tick / 100)
            used += 0.002
    assert used == pytest.approx(SAVED_SECONDS + 100 * SHARE, rel=0.05)

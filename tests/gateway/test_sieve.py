"""What strangers may cost, and the kernel's filter for when it is more."""

from __future__ import annotations

import itertools
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from gateway.sieve import (
    COARSE,
    MAX_DEBT,
    MAX_INDICES,
    MAX_SIEVE_SECONDS,
    SAVED_SECONDS,
    SETTLE_SECONDS,
    SHARE,
    SIEVE_SECONDS,
    Budget,
    Sieve,
    Sifting,
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
    wire.sieve.set(1, program(ours, False))
    assert wire.sieve.level == 1
    assert wire.arrived(*good, *bad, FIRST) == [*good, FIRST]
    wire.sieve.set(1, program(ours[:1], False))
    assert wire.arrived(*good) == [good[0], good[4]]
    wire.sieve.set(0, [])
    assert wire.arrived(named(DATAGRAM_DATA, 77), b"\x09") != []


def test_of_a_flood_of_first_messages_few_are_let_through(wire: Wire) -> None:
    wire.sieve.set(COARSE, program([7], True))
    data = named(DATAGRAM_DATA, 7)
    through = wire.arrived(*[FIRST] * 32000)
    # 31 on average: less than 5 or more than 100 is no chance.
    assert 5 <= len(through) <= 100
    assert wire.arrived(data, named(DATAGRAM_DATA, 8)) == [data]


def test_more_sessions_than_a_filter_can_name_are_all_let_through(wire: Wire) -> None:
    wire.sieve.set(1, program(range(MAX_INDICES), False))
    assert wire.arrived(named(DATAGRAM_DATA, 1), named(DATAGRAM_DATA, MAX_INDICES)) != []
    assert len(wire.arrived(named(DATAGRAM_DATA, MAX_INDICES - 1))) == 1
    wire.sieve.set(1, program(range(MAX_INDICES + 1), False))
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


def test_after_a_pause_a_flood_gets_no_more_than_a_seconds_share() -> None:
    budget = Budget(0.0)
    budget.forgo(100.0)
    assert budget.charge(SHARE * 0.99, 100.0)
    assert not budget.charge(SHARE * 0.02, 100.0)


def flooded(sifting: Sifting, coarse: int, begin: float, end: float) -> list[float]:
    """When it is looked for a flood that needs the sieve so coarse, and is there all the time."""
    looks, now = [], begin
    while now < end:
        if sifting.at is not None and now >= sifting.at:
            sifting.look(now)
            looks.append(now)
        if sifting.level < coarse:
            sifting.overspent(now)
        now += 1 / 64
    return looks


@pytest.mark.parametrize("coarse", [1, COARSE])
def test_a_flood_that_goes_on_is_looked_for_ever_more_rarely(coarse: int) -> None:
    sifting = Sifting()
    looks = flooded(sifting, coarse, 0.0, 100.0)
    pauses = [later - sooner for sooner, later in itertools.pairwise(looks)]
    assert looks[0] <= SIEVE_SECONDS + 2 * SETTLE_SECONDS + 3 / 64
    assert pauses[:3] == pytest.approx([2 * SIEVE_SECONDS, 4 * SIEVE_SECONDS, 8.0], abs=0.05)
    assert max(pauses) <= MAX_SIEVE_SECONDS + 0.05
    assert sifting.level == coarse


def test_when_the_flood_has_ended_the_sieve_comes_off_and_the_next_one_finds_it_new() -> None:
    sifting = Sifting()
    flooded(sifting, COARSE, 0.0, 100.0)
    looks = flooded(sifting, 0, 100.0, 200.0)
    assert len(looks) == COARSE + 1, "a step back at a time, and one that finds nothing"
    assert looks[-1] < 100.0 + (COARSE + 1) * MAX_SIEVE_SECONDS + 1
    assert (sifting.level, sifting.at) == (0, None)
    assert sifting.overspent(300.0)
    assert sifting.at == 300.0 + SIEVE_SECONDS


def test_what_was_in_the_socket_before_the_sieve_makes_it_no_coarser() -> None:
    sifting = Sifting()
    assert sifting.overspent(1.0)
    assert not sifting.overspent(1.0 + SETTLE_SECONDS / 2)
    assert sifting.level == 1
    assert sifting.overspent(1.0 + 2 * SETTLE_SECONDS)
    assert not sifting.overspent(2.0)
    assert sifting.level == COARSE

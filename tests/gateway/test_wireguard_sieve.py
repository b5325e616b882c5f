"""The kernel's filter at a WireGuard door, level by level, and who is loud."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.bpf import MAX_INSTRUCTIONS, Program
from gateway.gateway import Gateway
from gateway.model import MemoryStore
from gateway.sieve import MAX_INDICES, Sieve
from gateway.wireguard_sieve import (
    CHANCES,
    LEVELS,
    LOUD,
    MAX_ADDRESSES,
    MAX_SENDERS,
    Loud,
    program,
    sender_of,
)
from sealing.identity import generate_identity
from tests.fakes.ports import free_port
from tests.fakes.waiting import settle
from tests.gateway.devices import CONFIG
from tests.gateway.wireguard_app import let_in
from tests.netns.wireguard_flood import initiations
from wireguard.constants import COOKIE_REPLY, DATA, RESPONSE

OURS = [0x01020304, 0xFFFFFFFF, 0, 0x80000001]
FIRST = initiations(generate_identity(), 1)[0]
WITH_COOKIE = FIRST[:-16] + bytes(15) + b"\x01"
QUIET, NOISY, DEVICE = "127.0.0.1", "127.0.0.2", "127.0.0.3"


class Wire:
    """A datagram socket with a sieve, and senders to it."""

    def __init__(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.host, self.family = host, family
        self.sock = self._socket(host)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.sieve = Sieve(self.sock)

    def _socket(self, host: str) -> socket.socket:
        sock = socket.socket(self.family, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        sock.setblocking(False)
        return sock

    def set(self, program: Program) -> None:
        self.sieve.set(1, program)
        assert self.sieve.level == 1

    def arrived(self, *datagrams: bytes, source: str = "") -> list[bytes]:
        """Which of these the kernel lets through."""
        found = []
        with self._socket(source or self.host) as sender:
            for data in datagrams:
                sender.sendto(data, self.sock.getsockname())
                try:
                    found.append(self.sock.recv(2048))
                except BlockingIOError:
                    continue
        return found


@pytest.fixture(params=["127.0.0.1", "::1"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    wire = Wire(request.param)
    yield wire
    wire.sock.close()


def named(kind: int, index: int, at: int = 4) -> bytes:
    data = bytearray(struct.pack("<I", kind) + os.urandom(60))
    struct.pack_into("<I", data, at, index)
    return bytes(data)


@pytest.mark.parametrize("level", range(1, LEVELS + 1))
def test_what_names_an_index_of_ours_passes_at_every_level_and_no_other(
    wire: Wire, level: int
) -> None:
    good = [named(kind, index) for kind in (DATA, COOKIE_REPLY) for index in OURS]
    good += [named(RESPONSE, index, 8) for index in OURS]
    bad = [
        named(DATA, 0x04030201),
        named(COOKIE_REPLY, 5),
        named(RESPONSE, 0x05050505, 8),
        named(DATA, 0x05050505)[:4],
        *(named(kind, OURS[0]) for kind in (0, 5, 6, 255)),
        b"\x04\x00\x01\x00" + named(DATA, OURS[0])[4:],
        b"\x01\x00\x00\x01" + FIRST[4:],
        b"",
        b"\x04",
        os.urandom(1200),
    ]
    wire.set(program(level, OURS, [], []))
    assert wire.arrived(*good, *bad) == good
    wire.set(program(level, OURS[:1], [], []))
    assert len(wire.arrived(*good)) == 3


@pytest.mark.parametrize("level", [1, 2])
def test_initiations_pass_as_long_as_that_can_be(wire: Wire, level: int) -> None:
    wire.set(program(level, OURS, [], []))
    assert wire.arrived(*[FIRST] * 50) == [FIRST] * 50


@pytest.mark.parametrize("level", CHANCES)
def test_few_strangers_pass_by_chance(wire: Wire, level: int) -> None:
    wire.set(program(level, OURS, [], []))
    most = 32000
    share = len(wire.arrived(*[FIRST] * most)) / most
    fair = 2.0 ** -CHANCES[level]
    # Six standard deviations: no chance.
    assert abs(share - fair) < 6 * (fair * (1 - fair) / most) ** 0.5


@pytest.mark.parametrize("level", [3, 4, 5])
def test_who_heard_a_cookie_passes_until_all_look_like_that(wire: Wire, level: int) -> None:
    wire.set(program(level, OURS, [], []))
    for at in range(1, 17):
        one = FIRST[:-16] + bytes(at - 1) + b"\x80" + bytes(16 - at)
        assert wire.arrived(one) == [one]
    wire.set(program(LEVELS, OURS, [], []))
    assert len(wire.arrived(*[WITH_COOKIE] * 200)) < 20


def test_the_loud_are_out_and_devices_in() -> None:
    wire = Wire(QUIET)
    loud, devices = [sender_of(NOISY)], [sender_of(DEVICE)]
    for level in range(2, LEVELS + 1):
        wire.set(program(level, OURS, loud, devices))
        assert wire.arrived(FIRST, WITH_COOKIE, source=NOISY) == []
        assert wire.arrived(named(DATA, OURS[0]), source=NOISY) != []
    for level in (3, 4, 5):
        wire.set(program(level, OURS, loud, devices))
        assert wire.arrived(*[FIRST] * 20, source=DEVICE) == [FIRST] * 20
    wire.set(program(1, OURS, loud, devices))
    assert wire.arrived(FIRST, source=NOISY) == [FIRST]
    wire.sock.close()


def test_of_ipv6_the_network_counts() -> None:
    wire = Wire("::1")
    assert sender_of("fe80::1%lo") == bytes.fromhex("fe80000000000000")
    other = sender_of("2001:db8::1")
    near = sender_of("::2:0:0:0:1")
    wire.set(program(2, OURS, [near, other], []))
    assert wire.arrived(FIRST) == [FIRST]
    wire.set(program(2, OURS, [near, other, sender_of("::77")], []))
    assert wire.arrived(FIRST) == []
    wire.sock.close()


@pytest.mark.parametrize("size", [4, 8])
def test_the_largest_program_is_one_that_kernels_take(size: int) -> None:
    many = [os.urandom(size) for _ in range(2 * MAX_ADDRESSES)]
    largest = program(LEVELS - 1, range(MAX_INDICES), many, many)
    assert len(largest) < MAX_INSTRUCTIONS
    wire = Wire(QUIET)
    wire.set(largest)
    assert wire.arrived(named(DATA, MAX_INDICES - 1), named(DATA, MAX_INDICES)) != []
    wire.set(program(LEVELS - 1, range(MAX_INDICES + 1), many, many))
    assert len(wire.arrived(named(DATA, 99_999))) == 1, "too many to name: all pass"
    wire.sock.close()


# --- who is loud ---------------------------------------------------------------------------------


def test_loud_is_who_sends_more_in_two_seconds_than_a_household_of_devices() -> None:
    loud = Loud()
    for n in range(LOUD):
        loud.note(b"loud", n / LOUD)
        if n:
            loud.note(b"less", n / LOUD)
    for n in range(120):
        # An app that tries for ten minutes, as all do.
        loud.note(b"slow", 5.0 * n)
    loud.judge()
    assert loud.senders == set()
    for n in range(LOUD):
        loud.note(b"loud", 1000.9 + n / LOUD / 2)
        if n:
            loud.note(b"less", 1000.9 + n / LOUD / 2)
    loud.judge()
    assert loud.senders == {b"loud"}
    loud.forget()
    assert loud.senders == set()


def test_the_loudest_are_named_and_no_more_than_the_filter_holds() -> None:
    loud = Loud()
    for n in range(2 * MAX_ADDRESSES):
        for _ in range(LOUD + n):
            loud.note(n.to_bytes(4, "big"), 5.0)
    loud.judge()
    assert loud.senders == {n.to_bytes(4, "big") for n in range(MAX_ADDRESSES, 2 * MAX_ADDRESSES)}
    loud.judge()
    assert len(loud.senders) == MAX_ADDRESSES


def test_senders_that_are_counted_are_bounded() -> None:
    loud = Loud()
    for n in range(3 * MAX_SENDERS):
        loud.note(n.to_bytes(4, "big"), 1.5 * n / MAX_SENDERS)
    assert len(loud._counts) <= MAX_SENDERS and len(loud._before) <= MAX_SENDERS
    loud.judge()
    assert loud.senders == set()


# --- at a gateway --------------------------------------------------------------------------------


async def test_a_flood_is_sifted_and_devices_go_on_and_begin_new_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that no look takes it off meanwhile.
    monkeypatch.setattr("gateway.sieve.SIEVE_SECONDS", 60.0)
    # So that a flood of a loop that has little of a core to itself costs more than that, too.
    monkeypatch.setattr("gateway.sieve.SHARE", 0.01)
    gateway = Gateway(replace(CONFIG, wireguard=free_port()), MemoryStore())
    await gateway.start()
    app = await let_in(gateway)
    flood = initiations(gateway.snapshots.wireguard.public_key, 100)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((NOISY, 0))
        counts = gateway.counters.counts

        def pour() -> bool:
            for message in flood:
                sock.sendto(message, app.gate)
            return counts["wireguard__flood__first_sifted"] > 0

        gateway.snapshots.wireguard.doors.budget.forgo(gateway.snapshots.now())
        await settle(pour)
        device = gateway.snapshots.wireguard.device
        (door,) = gateway.snapshots.wireguard.doors._doors

        def calm() -> bool:
            pour()
            # With the flood out, something is saved up again for who is no part of it.
            return door.strangers.level > 1 and door.strangers._budget.charge(
                0.0, gateway.snapshots.now()
            )

        await settle(calm)
        assert await app.asks() is not None
        answered = device.counters["initiation__answered"]
        old = app.peer.pairs.current
        app.peer._sent_at = -1e9
        app.peer.begin(asyncio.get_running_loop().time())
        assert await app.asks() is not None
        assert device.counters["initiation__answered"] == answered + 1
        assert app.peer.pairs.current is not old and await app.asks() is not None
    app.close()
    await gateway.stop()

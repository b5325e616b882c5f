"""Names at the lease's resolver, and which of several addresses is taken (RFC 8305)."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from client.outlet.proxy.dial import ATTEMPT_DELAY, RESOLUTION_DELAY
from client.outlet.proxy.outcome import Outcome
from netstack.dns import FLAG_TC, MalformedMessage, wire_name
from tests.client.outlet.proxy.tunnel import HOST4, HOST6, Tunnel
from tests.fakes.outward import FakeStream
from tests.netsim.simulation import Direction
from tests.netstack import wires

Answer = Callable[[bytes, bool], bytes | None]
NXDOMAIN, SERVFAIL = 3, 2


def asked(wire: bytes) -> int:
    """The type that a question asks for."""
    return int.from_bytes(wire[-4:-2], "big")


def answers(four: list[bytes] | int | None, six: list[bytes] | int | None) -> Answer:
    """A resolver: addresses, an error, or silence, for each family."""

    def answer(wire: bytes, by_tcp: bool) -> bytes | None:
        kind = asked(wire)
        known = four if kind == wires.A else six
        if known is None:
            return None
        if isinstance(known, int):
            return wires.reply(wire, [], rcode=known)
        return wires.reply(wire, [wires.record(kind, address, 60) for address in known])

    return answer


def dialled(tunnel: Tunnel, seconds: float = 30.0) -> Outcome | None:
    wish = tunnel.dial("www.example.com", 443)
    tunnel.run(seconds, lambda: wish.outcome is not None)
    assert wish.told <= 1
    return wish.outcome


@pytest.fixture
def tunnel() -> Tunnel:
    made = Tunnel()
    made.open()
    return made


def test_ipv6_goes_first_and_ipv4_is_asked_as_well(tunnel: Tunnel) -> None:
    tunnel.answer = answers([HOST4], [HOST6])
    assert dialled(tunnel) is Outcome.OPENED
    tunnel.run(2)
    assert [stream.host for stream in tunnel.outward.streams] == [HOST6]


def test_a_name_with_one_family_is_not_held_up(tunnel: Tunnel) -> None:
    tunnel.answer = answers([HOST4], [])
    began = tunnel.now
    assert dialled(tunnel) is Outcome.OPENED
    assert tunnel.now - began < 0.05
    assert [stream.host for stream in tunnel.outward.streams] == [HOST4]


def test_addresses_of_ipv4_wait_a_moment_for_those_of_ipv6(tunnel: Tunnel) -> None:
    tunnel.answer = answers([HOST4], None)
    began = tunnel.now
    assert dialled(tunnel) is Outcome.OPENED
    assert RESOLUTION_DELAY <= tunnel.now - began < RESOLUTION_DELAY + 0.1
    assert [stream.host for stream in tunnel.outward.streams] == [HOST4]


def test_a_host_that_refuses_by_ipv6_is_tried_by_ipv4_at_once(tunnel: Tunnel) -> None:
    def connected(stream: FakeStream) -> None:
        if stream.host == HOST6:
            stream.refuse(errno.ECONNREFUSED, tunnel.now)
        else:
            stream.connected(tunnel.now)

    tunnel.connected = connected
    tunnel.answer = answers([HOST4], [HOST6])
    began = tunnel.now
    assert dialled(tunnel) is Outcome.OPENED
    assert tunnel.now - began < ATTEMPT_DELAY
    assert [stream.host for stream in tunnel.outward.streams] == [HOST6, HOST4]


def test_a_silent_one_is_overtaken_and_given_up(tunnel: Tunnel) -> None:
    def connected(stream: FakeStream) -> None:
        if stream.host == HOST4:
            stream.connected(tunnel.now)

    tunnel.connected = connected
    tunnel.answer = answers([HOST4], [HOST6])
    began = tunnel.now
    assert dialled(tunnel) is Outcome.OPENED
    assert ATTEMPT_DELAY <= tunnel.now - began < ATTEMPT_DELAY + 0.1
    assert len(tunnel.stack.tcp) == 1


def test_the_families_take_turns(tunnel: Tunnel) -> None:
    tunnel.connected = lambda stream: None
    six = [HOST6[:15] + bytes((n,)) for n in range(3)]
    four = [HOST4[:3] + bytes((n,)) for n in range(3)]
    tunnel.answer = answers(four, six)
    wish = tunnel.dial("www.example.com")
    tunnel.run(6 * ATTEMPT_DELAY + 0.2)
    hosts = [stream.host for stream in tunnel.outward.streams]
    assert hosts == [six[0], four[0], six[1], four[1], six[2], four[2]]
    assert wish.outcome is None


@pytest.mark.parametrize(
    ("six", "four", "outcome"),
    [
        (errno.ECONNREFUSED, errno.EHOSTUNREACH, Outcome.REFUSED),
        (errno.EHOSTUNREACH, errno.ECONNREFUSED, Outcome.REFUSED),
        (errno.ENETUNREACH, errno.EHOSTUNREACH, Outcome.HOST_UNREACHABLE),
        (errno.ENETUNREACH, errno.EACCES, Outcome.PROHIBITED),
    ],
)
def test_the_most_telling_failure_is_told(
    tunnel: Tunnel, six: int, four: int, outcome: Outcome
) -> None:
    tunnel.connected = lambda stream: stream.refuse(
        six if stream.host == HOST6 else four, tunnel.now
    )
    tunnel.answer = answers([HOST4], [HOST6])
    assert dialled(tunnel) is outcome


@pytest.mark.parametrize(
    ("four", "six", "outcome"),
    [
        (NXDOMAIN, NXDOMAIN, Outcome.NO_SUCH_NAME),
        ([], [], Outcome.NO_SUCH_NAME),
        (SERVFAIL, SERVFAIL, Outcome.NAMES_FAILED),
        (SERVFAIL, [], Outcome.NAMES_FAILED),
        (None, None, Outcome.NAMES_FAILED),
    ],
)
def test_a_name_that_leads_nowhere(
    tunnel: Tunnel, four: list[bytes] | int | None, six: list[bytes] | int | None,
    outcome: Outcome,
) -> None:  # fmt: skip
    tunnel.answer = answers(four, six)
    assert dialled(tunnel) is outcome
    assert len(tunnel.resolver) == 0
    assert tunnel.outward.streams == []


def test_what_does_not_fit_a_datagram_is_asked_by_tcp(tunnel: Tunnel) -> None:
    ways: list[bool] = []
    many = [HOST4[:3] + bytes((n,)) for n in range(200)]

    def answer(wire: bytes, by_tcp: bool) -> bytes:
        if asked(wire) != wires.A:
            return wires.reply(wire, [])
        ways.append(by_tcp)
        if not by_tcp:
            return wires.reply(wire, [], flags=0x8180 | FLAG_TC)
        return wires.reply(wire, [wires.record(wires.A, address, 60) for address in many])

    tunnel.answer = answer
    assert dialled(tunnel) is Outcome.OPENED
    assert ways == [False, True]
    tunnel.run(60)
    assert len(tunnel.stack.tcp) == 1, "the resolver's connection is over"


def test_an_answer_that_was_not_asked_for_is_nothing(tunnel: Tunnel) -> None:
    """Another name under the right id; the right one comes after it."""

    def answer(wire: bytes, by_tcp: bool) -> bytes:
        if asked(wire) != wires.A:
            return wires.reply(wire, [])
        other = wires.question("evil.example.com", wires.A, id_=int.from_bytes(wire[:2], "big"))
        seen.append(wire)
        if len(seen) == 1:
            return wires.reply(other, [wires.record(wires.A, bytes((6, 6, 6, 6)), 60)])
        return wires.reply(wire, [wires.record(wires.A, HOST4, 60)])

    seen: list[bytes] = []
    tunnel.answer = answer
    assert dialled(tunnel) is Outcome.OPENED
    assert [stream.host for stream in tunnel.outward.streams] == [HOST4]


@pytest.mark.parametrize("seed", range(6))
def test_questions_are_asked_again_over_a_link_that_loses(seed: int) -> None:
    lossy = Direction(loss=0.3, delay=0.02)
    tunnel = Tunnel(reliable=False, seed=seed, up=lossy, down=Direction(loss=0.3, delay=0.02))
    tunnel.open()
    tunnel.answer = answers([HOST4], [HOST6])
    rng = random.Random(seed)
    good = sum(dialled(tunnel, 60) is Outcome.OPENED for _ in range(10))
    assert good >= 9, rng
    tunnel.run(30)
    assert len(tunnel.resolver) == 0


def test_a_cancelled_dial_asks_no_more(tunnel: Tunnel) -> None:
    tunnel.answer = answers(None, None)
    wish = tunnel.dial("www.example.com")
    tunnel.run(0.5)
    assert len(tunnel.resolver) == 2 and wish.dial is not None
    wish.dial.cancel(tunnel.now)
    assert len(tunnel.resolver) == 0
    tunnel.run(30)
    assert wish.told == 0


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "x" * 64 + ".com", ".".join(["y" * 60] * 5), "bücher.example"]
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(MalformedMessage):
        wire_name(text)


def test_a_name_on_the_wire() -> None:
    assert wire_name("www.Example.com.") == b"\x03www\x07Example\x03com\0"
    assert len(wire_name(".".join(["z" * 63] * 3) + "." + "z" * 61)) == 255


def test_a_lease_that_ends_is_the_end_of_all_attempts(tunnel: Tunnel) -> None:
    """Also of addresses that were not tried yet: they are not tried under the next lease."""
    tunnel.connected = lambda stream: None
    tunnel.answer = answers([HOST4, HOST4[:3] + b"\x51"], [HOST6])
    wish = tunnel.dial("www.example.com")
    assert tunnel.run(1, lambda: len(tunnel.outward.streams) == 1)
    tunnel.stack.end_all(tunnel.now)
    assert (wish.outcome, wish.told) == (Outcome.AWAY, 1)
    assert not tunnel.stack.tcp

"""What the client remembers of its endpoints, its links, and its kill switch."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from pathlib import Path

import pytest

from client.dial import AllUnreachable, Race, connect
from client.endpoints import MAX_ENDPOINTS, EndpointBook, Outcome
from client.guard import Guards, GuardState, GuardWatch
from client.history import CLOSED_HERE, MAX_LINKS, MOVED, History
from client.model import ClientState, EndpointKind, TransportEndpoint
from tests.client.gateway_double import GatewayDouble
from tests.client.test_client import Device
from tests.fakes.ports import free_port
from tests.gateway.vpn.namespace import fresh_namespace, needs_namespaces
from vshp.config import CloseReason
from vshp.endpoints import Endpoint

A = TransportEndpoint("tcp", "192.0.2.1", 47800)
B = TransportEndpoint("udp", "192.0.2.1", 47800)


class PretendLink:
    """As much of a link as the history looks at."""

    received_packets_bytes = 0
    sent_packets_bytes = 0

    def __init__(self, endpoint: TransportEndpoint) -> None:
        self.endpoint = endpoint


# The book


def test_the_book_keeps_the_order_and_what_was_learnt() -> None:
    book = EndpointBook()
    book.know((A, B, A))
    assert [(r.endpoint, r.outcome) for r in book.read()] == [
        (A, Outcome.UNTRIED),
        (B, Outcome.UNTRIED),
    ]
    book.note(A, Outcome.REFUSED, "Connection refused", 0.01, 1000.0)
    as_usb = TransportEndpoint("tcp", "192.0.2.1", 47800, EndpointKind.USB)
    book.know((B, as_usb))
    first, second = book.read()
    assert first.endpoint is B
    assert second.endpoint is as_usb, "its kind as it is now"
    assert (second.outcome, second.why, second.took, second.at) == (
        Outcome.REFUSED, "Connection refused", 0.01, 1000.0,
    )  # fmt: skip
    book.know((B,))
    assert [r.endpoint for r in book.read()] == [B]
    book.clear()
    assert book.read() == ()


def test_the_book_is_bounded() -> None:
    book = EndpointBook()
    many = [TransportEndpoint("tcp", "192.0.2.1", port) for port in range(1, 100)]
    book.know(many)
    for endpoint in many:
        book.note(endpoint, Outcome.WON, "", 0.1, 1.0)
    assert len(book.read()) == MAX_ENDPOINTS


async def test_a_race_tells_who_came_too_late_and_who_failed() -> None:
    told: dict[str, tuple[Outcome, str, bool]] = {}

    def tell(
        endpoint: TransportEndpoint, outcome: Outcome, why: str, seconds: float | None
    ) -> None:
        assert seconds is None or 0 <= seconds < 5
        told[str(endpoint)] = outcome, why, seconds is not None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    first, second = [await asyncio.start_server(serve, "127.0.0.1", 0) for _ in range(2)]
    good, late = (
        TransportEndpoint("tcp", "127.0.0.1", server.sockets[0].getsockname()[1])
        for server in (first, second)
    )
    refused = TransportEndpoint("tcp", "127.0.0.1", free_port())
    datagram = TransportEndpoint("udp", "127.0.0.1", 9)
    race = Race((refused, good, late, datagram), 0, 5.0, tell)
    sock, endpoint = await race.next()
    assert endpoint == good
    async with asyncio.timeout(5):
        while race.seconds(datagram) == 0:
            await asyncio.sleep(0.01)
    await race.close(decided=True)
    sock.close()
    assert told == {
        str(refused): (Outcome.REFUSED, "Connection refused", True),
        str(late): (Outcome.SLOWER, "", True),
    }, "good is its taker's to tell; nothing was asked over UDP"
    race = Race((late,), 0, 5.0, tell)
    told.clear()
    await race.close()
    assert told == {}, "given up is no outcome"
    with pytest.raises(AllUnreachable):
        await race.next()
    for server in (first, second):
        server.close()


async def test_who_never_answered_is_told_without_a_time() -> None:
    told: list[tuple[TransportEndpoint, Outcome, str, float | None]] = []
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Two that nobody accepts fill the queue; the kernel then leaves a SYN without an answer.
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        mute = TransportEndpoint("tcp", *full.getsockname())
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        good = TransportEndpoint("tcp", *server.sockets[0].getsockname())
        race = Race((mute, good), 0, 5.0, lambda *outcome: told.append(outcome))
        sock, endpoint = await race.next()
        assert endpoint == good
        await race.close(decided=True)
        sock.close()
        server.close()
    assert told == [(mute, Outcome.SLOWER, "no answer so far", None)]


def take_ports_of(low: int, high: int) -> None:
    """Have the kernel give connects no other ports, in this namespace."""
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"{low} {high}")


@needs_namespaces
async def test_a_socket_that_met_itself_is_nobody_there() -> None:
    """A connect to a port of our own that is also the port it is given succeeds, alone."""
    with fresh_namespace():
        take_ports_of(47800, 47801)
        with socket.socket() as sock:
            assert sock.connect_ex(("127.0.0.1", 47800)) == 0
            assert sock.getpeername() == sock.getsockname()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with pytest.raises(ConnectionRefusedError, match="Connection refused"):
            await connect(TransportEndpoint("tcp", "127.0.0.1", 47800), 0, 5.0)


async def test_every_endpoint_of_a_connection_has_its_outcome(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        dead = Endpoint.of("tcp", "127.0.0.1", free_port())
        mute = socket.create_server(("127.0.0.1", 0))  # nobody accepts
        silent = Endpoint.of("tcp", "127.0.0.1", mute.getsockname()[1])
        await device.client.connect(gateway.uri(dead, silent))
        now = await device.client.wait(10)
        mute.close()
        found = {str(r.endpoint): r for r in device.client.endpoints()}
        assert now.endpoint is not None
        assert found[now.endpoint].outcome is Outcome.WON
        refused = found[f"tcp:127.0.0.1:{dead.port}"]
        assert (refused.outcome, refused.why) == (Outcome.REFUSED, "Connection refused")
        slow = found[f"tcp:127.0.0.1:{silent.port}"]
        assert (slow.outcome, slow.why) == (Outcome.TIMED_OUT, "handshake timeout")
        assert slow.took is not None and slow.took > 1
        assert all(r.at is not None for r in found.values())


async def test_an_impostor_is_named_in_the_book(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, GatewayDouble() as impostor, Device(tmp_path) as device:
        await device.client.connect(gateway.uri(Endpoint.of("tcp", "127.0.0.1", impostor.port)))
        assert (await device.client.wait(10)).state is ClientState.CONNECTED
        found = {str(r.endpoint): r for r in device.client.endpoints()}
        assert found[f"tcp:127.0.0.1:{impostor.port}"].outcome is Outcome.REFUSED
        assert found[f"tcp:127.0.0.1:{gateway.port}"].outcome is Outcome.WON


# The history


def test_a_link_from_its_beginning_to_its_end() -> None:
    history = History()
    history.run_begins()
    link = PretendLink(A)
    history.begun(link, "phone", False, 100.0, 5000.0)
    history.begun(link, "phone", False, 101.0, 5001.0)
    link.received_packets_bytes = 7
    (running,) = history.read(110.0)
    assert (running.id, running.began, running.seconds, running.ended) == (1, 5000.0, 10.0, None)
    assert (running.away, running.from_tunnel_bytes) == (None, 7)
    history.ended(link, "link_lost", 120.0)
    history.ended(None, "unreachable", 121.0)
    history.ended(PretendLink(B), "link_lost", 122.0)
    second = PretendLink(B)
    history.begun(second, "phone", True, 123.5, 5023.5)
    newest, oldest = history.read(130.0)
    assert (newest.id, newest.endpoint, newest.resumed) == (2, B, True)
    assert (newest.away, newest.attempts) == (3.5, 2)
    assert (oldest.ended, oldest.seconds) == ("link_lost", 20.0)


def test_the_history_is_bounded_and_a_new_run_has_no_pause_before_it() -> None:
    history = History()
    for number in range(MAX_LINKS + 5):
        link = PretendLink(A)
        history.begun(link, "phone", False, number, number)
        history.ended(link, "link_lost", number + 0.5)
    assert len(history.read(0)) == MAX_LINKS
    assert history.read(0)[0].id == MAX_LINKS + 5
    history.run_begins()
    history.begun(PretendLink(A), "phone", False, 900, 900)
    assert history.read(901)[0].away is None


async def test_breaks_and_the_goodbye_are_in_the_history(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        gateway.guests[-1].cut()
        await gateway.heard(2)
        await device.until(lambda: device.state is ClientState.CONNECTED)
        newest, oldest = device.client.history()
        assert (oldest.resumed, oldest.ended, oldest.away) == (False, "link_lost", None)
        assert (newest.resumed, newest.ended) == (True, None)
        assert newest.away is not None and 0 <= newest.away < 5
        assert str(newest.endpoint) == device.client.status().endpoint
        assert newest.gateway == "phone"
        await device.client.disconnect()
        assert device.client.history()[0].ended == CLOSED_HERE
        await device.client.connect()
        await device.client.wait(5)
        assert device.client.history()[0].away is None
        gateway.guests[-1].close(CloseReason.REVOKED)
        await device.until(lambda: device.state is ClientState.FAILED)
        assert device.client.history()[0].ended == "revoked"


async def test_a_set_up_that_fails_is_an_attempt_not_a_link(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        device.host.fail_at = "set_up"
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        assert device.client.history() == ()


async def test_a_better_way_is_a_link_of_its_own(tmp_path: Path) -> None:
    """The same gateway, now by USB: the new link takes over beside the old one."""
    async with GatewayDouble() as gateway, Device(tmp_path) as device:
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        current = device.client._pursuit.round
        assert current is not None
        before = time.monotonic()
        better = TransportEndpoint("tcp", "127.0.0.1", gateway.port, EndpointKind.USB)
        current.improve((better,))
        await gateway.heard(2)
        await device.until(lambda: len(device.client.history()) == 2)
        newest, oldest = device.client.history()
        assert (oldest.ended, newest.ended, newest.resumed) == (MOVED, None, True)
        assert newest.away is not None and 0 <= newest.away <= time.monotonic() - before
        assert device.client.endpoints()[0].outcome is Outcome.WON


# The kill switch


def test_the_kill_switch_is_off_armed_or_holding_and_says_since_when() -> None:
    watch = GuardWatch()
    rules = Guards(("ip -4 rule",))
    assert watch.look(Guards(), False, 1.0).state is GuardState.OFF
    assert watch.look(Guards(), False, 2.0).since is None
    armed = watch.look(rules, True, 3.0)
    assert (armed.state, armed.since) == (GuardState.ARMED, 3.0)
    assert watch.look(rules, True, 4.0).since == 3.0
    strict = watch.look(Guards((*rules.rules, "nft"), strict=True), True, 5.0)
    assert (strict.since, strict.guards.strict) == (3.0, True), "more of it, not another state"
    holding = watch.look(rules, False, 6.0)
    assert (holding.state, holding.since) == (GuardState.HOLDING, 6.0)
    assert watch.look(Guards(), False, 7.0).state is GuardState.OFF


async def test_the_kill_switch_follows_the_link(tmp_path: Path) -> None:
    async with GatewayDouble() as gateway, Device(tmp_path) as device:

        def guard() -> GuardState:
            return device.client.status().guard.state

        assert guard() is GuardState.OFF
        await device.client.connect(gateway.uri())
        await device.client.wait(5)
        assert guard() is GuardState.ARMED
        await gateway.deafen()
        gateway.guests[0].cut()
        await device.until(lambda: device.state is ClientState.RECONNECTING)
        assert guard() is GuardState.HOLDING
        assert device.client.status().guard.guards.rules == ("ip rule",)
        await device.client.disconnect()
        assert guard() is GuardState.OFF

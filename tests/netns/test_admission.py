"""Nobody gets in without approval: unapproved clients, bad secrets, garbage on the port."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Iterator

import pytest

from tests.netns.conftest import Tunnel
from tests.netns.hosts import Host
from tests.netns.processes import wait_for
from tests.netns.product import PORT, Client
from tests.netns.world import GATEWAY_LAN, SERVER
from vshp.uri import PairingUri


@pytest.fixture
def second(tunnel: Tunnel) -> Host:
    host = tunnel.world.second
    assert host is not None
    return host


@pytest.fixture
def stranger(tunnel: Tunnel, second: Host) -> Iterator[Client]:
    """A client that nobody has approved, with a new identity for each test."""
    name = f"stranger-{os.urandom(4).hex()}"
    with Client(tunnel.world, second, name) as client:
        yield client.start()


def addresses(host: Host) -> list[str]:
    """Each interface's addresses and the routes: what a lease would add to."""
    state = host.state()
    used = [f"{link['ifname']} {link['addr_info']}" for link in state["links"] if link["addr_info"]]
    return [*used, *state["routes"], *state["routes6"]]


def still_works(tunnel: Tunnel) -> None:
    """The approved client is served as before."""
    with tunnel.world.client.connect(SERVER, 7) as connection:
        connection.sendall(b"still here")
        assert connection.recv(100) == b"still here"


def test_a_client_that_is_not_approved_gets_nothing(
    tunnel: Tunnel, stranger: Client, second: Host
) -> None:
    before = addresses(second)
    attempt = stranger.begin_connect(tunnel.gateway.pair())
    request = tunnel.gateway.wait_for_request()
    wait_for(lambda: stranger.peek()["state"] == "waiting", "the stranger to be told")
    assert stranger.status()["lease"] is None
    assert len(tunnel.gateway.leases()) == 1
    assert addresses(second) == before
    assert second.run(["ping", "-c", "2", "-W", "1", SERVER], check=False).returncode
    tunnel.gateway.command("deny", str(request["id"]))
    assert attempt.popen.wait(15) != 0
    assert "denied" in attempt.tail().lower()
    assert stranger.status()["error"] == "denied"
    assert len(tunnel.gateway.leases()) == 1
    still_works(tunnel)


def test_a_wrong_secret_is_named(tunnel: Tunnel, stranger: Client) -> None:
    offer = PairingUri.decode(tunnel.gateway.pair())
    forged = dataclasses.replace(offer, secret=os.urandom(len(offer.secret))).encode()
    attempt = stranger.begin_connect(forged)
    assert attempt.popen.wait(15) != 0
    assert attempt.tail().strip()
    assert stranger.status()["error"] == "secret_unknown"
    assert tunnel.gateway.requests() == []


def test_a_used_secret_is_named(tunnel: Tunnel, stranger: Client, second: Host) -> None:
    offer = tunnel.gateway.pair()
    with Client(tunnel.world, second, f"first-{os.urandom(4).hex()}") as first:
        first.start()
        attempt = first.begin_connect(offer)
        tunnel.gateway.command("deny", str(tunnel.gateway.wait_for_request()["id"]))
        assert attempt.popen.wait(15) != 0
    attempt = stranger.begin_connect(offer)
    assert attempt.popen.wait(15) != 0
    assert attempt.tail().strip()
    assert stranger.status()["error"] == "secret_used"


def test_an_expired_secret_is_named(tunnel: Tunnel, stranger: Client) -> None:
    offer = tunnel.gateway.pair(seconds=1)
    time.sleep(1.5)
    attempt = stranger.begin_connect(offer)
    assert attempt.popen.wait(15) != 0
    assert attempt.tail().strip()
    assert stranger.status()["error"] == "secret_expired"
    assert tunnel.gateway.requests() == []


def test_garbage_on_the_port_changes_nothing(tunnel: Tunnel, second: Host) -> None:
    before = {key: tunnel.gateway.status()[key] for key in ("peers", "connected", "requests")}
    pieces = (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"VSHP",
        b"VSHP" + os.urandom(200),
        os.urandom(65536),
        b"",
        bytes(100_000),
    )
    opened = []
    for piece in pieces * 3:
        connection = second.connect(GATEWAY_LAN, PORT)
        opened.append(connection)
        try:
            connection.sendall(piece)
        except OSError:
            pass  # It may hang up on us as soon as it has seen enough.
    still_works(tunnel)
    for connection in opened[::2]:
        connection.close()
    still_works(tunnel)
    for connection in opened[1::2]:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    wait_for(
        lambda: {key: tunnel.gateway.peek()[key] for key in before} == before,
        "the gateway to be as it was",
    )
    still_works(tunnel)

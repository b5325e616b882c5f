"""Corners of TCP and UDP between a device's kernel and a far host's, through the gateway."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.netns import world as hosts
from tests.netns.conftest import Tunnel
from tests.netns.test_programs import binding

pytestmark = pytest.mark.usefixtures("nothing_leaks")

QUIET = 0.5
"""Seconds in which what is sent would long have arrived."""

KINDS = {4: socket.AF_INET, 6: socket.AF_INET6}
SERVERS = {4: hosts.SERVER, 6: hosts.SERVER6}
OTHERS = {4: hosts.SERVER_OTHER, 6: hosts.SERVER6_OTHER}


# ---- UDP: who may send to a device's port


@pytest.fixture
def port(tunnel: Tunnel, family: int) -> Iterator[socket.socket]:
    """A UDP socket of the device."""
    with tunnel.world.client.open_socket(KINDS[family], socket.SOCK_DGRAM) as one:
        yield one


@pytest.fixture
def stranger(tunnel: Tunnel, family: int) -> Iterator[socket.socket]:
    """A UDP socket of a far host's other address."""
    with tunnel.world.server.open_socket(KINDS[family], socket.SOCK_DGRAM) as one:
        one.bind((OTHERS[family], 0))
        yield one


def hears(one: socket.socket) -> bytes:
    """What arrives, or nothing."""
    one.settimeout(QUIET)
    try:
        return one.recv(100)
    except TimeoutError:
        return b""
    finally:
        one.settimeout(10)


def test_only_hosts_that_were_sent_to_may_send_unless_the_owner_opens_the_ports(
    tunnel: Tunnel, family: int, port: socket.socket, stranger: socket.socket
) -> None:
    mapped = binding(port, SERVERS[family])
    stranger.sendto(b"unasked", mapped)
    assert hears(port) == b""
    tunnel.gateway.command("set", "gateway.udp_filtering", "endpoint-independent")
    try:
        stranger.sendto(b"unasked", mapped)
        assert hears(port) == b"unasked"
    finally:
        tunnel.gateway.command("set", "gateway.udp_filtering", "address-dependent")
    stranger.sendto(b"unasked", mapped)
    assert hears(port) == b""
    # Once the device has sent to the host, that host may send from any of its ports.
    assert binding(port, OTHERS[family]) == mapped
    stranger.sendto(b"other port", mapped)
    assert hears(port) == b"other port"
    assert binding(port, SERVERS[family]) == mapped


def test_a_stray_datagram_ends_no_call(
    tunnel: Tunnel, family: int, port: socket.socket, stranger: socket.socket
) -> None:
    """RFC 4787 REQ-12: the device's kernel answers the stray with port unreachable."""
    mapped = binding(port, SERVERS[family])
    assert binding(port, OTHERS[family]) == mapped
    port.connect((SERVERS[family], 7))
    stranger.sendto(b"stray", mapped)
    assert hears(port) == b""
    port.send(b"the call goes on")
    assert hears(port) == b"the call goes on"
    port.connect((SERVERS[family], 3478))
    assert binding(port, SERVERS[family]) == mapped

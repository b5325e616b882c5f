"""Corners of TCP and UDP between a device's kernel and a far host's, through the gateway."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.netns import world as hosts
from tests.netns.capture import Capture
from tests.netns.conftest import Tunnel
from tests.netns.test_programs import binding

pytestmark = pytest.mark.usefixtures("nothing_leaks")

QUIET = 0.5
"""Seconds in which what is sent would long have arrived."""

SIOCATMARK = 0x8905

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


# ---- TCP: urgent data


Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends(tunnel: Tunnel, family: int) -> Iterator[Ends]:
    """Both ends of a connection: the device's and the far host's, in the hands of two kernels."""
    with ExitStack() as stack:
        yield connection(tunnel, family, stack)


def connection(tunnel: Tunnel, family: int, stack: ExitStack) -> Ends:
    listener = stack.enter_context(
        tunnel.world.server.open_socket(KINDS[family], socket.SOCK_STREAM)
    )
    listener.bind((SERVERS[family], 0))
    listener.listen()
    near = stack.enter_context(
        tunnel.world.client.connect(SERVERS[family], listener.getsockname()[1])
    )
    far = stack.enter_context(listener.accept()[0])
    far.settimeout(10)
    return near, far


def at_mark(one: socket.socket) -> bool:
    return bool(int.from_bytes(fcntl.ioctl(one, SIOCATMARK, bytes(4)), "little"))


def read(one: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = one.recv(size - len(data))
        if not piece:
            break
        data += piece
    return data


@pytest.mark.parametrize("down", [True, False], ids=["down", "up"])
class TestUrgent:
    """As a telnet session's ^C: an interrupt in the stream, and bytes after it."""

    def test_beside_the_stream(self, ends: Ends, down: bool) -> None:
        one, other = ends[::-1] if down else ends
        one.sendall(b"before")
        one.send(b"!", socket.MSG_OOB)
        one.sendall(b"after")
        assert read(other, 6) == b"before"
        assert other.recv(1, socket.MSG_OOB) == b"!"
        assert at_mark(other)
        assert read(other, 5) == b"after"

    def test_within_the_stream(self, ends: Ends, down: bool) -> None:
        one, other = ends[::-1] if down else ends
        other.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        for round_ in range(50):
            one.sendall(b"x" * round_)
            one.send(b"!", socket.MSG_OOB)
            assert read(other, round_) == b"x" * round_
            while not at_mark(other):
                # The byte itself may still be on its way, and the mark with it.
                assert other.recv(1, socket.MSG_PEEK) == b"!"
            assert other.recv(1) == b"!"
            one.sendall(b"after")
            assert read(other, 5) == b"after"
            assert not at_mark(other)

    def test_in_the_midst_of_much(self, ends: Ends, down: bool) -> None:
        one, other = ends[::-1] if down else ends
        other.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        data = os.urandom(1_000_000)

        def send() -> None:
            for at in range(0, len(data), 100_000):
                one.sendall(data[at : at + 99_999])
                one.send(data[at + 99_999 : at + 100_000], socket.MSG_OOB)
            one.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = b""
        while piece := other.recv(65536):
            got += piece
        sender.join()
        assert got == data


# ---- TCP: keep-alive


def test_the_devices_keep_alive_reaches_the_host_and_a_dead_one_is_told(tunnel: Tunnel) -> None:
    """So a NAT on the way, the VPN's, sees that the connection is in use."""
    world = tunnel.world
    with ExitStack() as stack:
        pairs = [connection(tunnel, family, stack) for family in KINDS]
        ports = [far.getsockname()[1] for _, far in pairs]
        seen = " or ".join(f"tcp dst port {port}" for port in ports)
        for near, far in pairs:
            near.sendall(b"x")
            assert far.recv(1) == b"x"
        time.sleep(QUIET)
        with Capture.of(world.server, "net0", seen) as before:
            time.sleep(1.5)
            assert before.count() == 0, "who does not ask for it sends nothing"
        for near, _ in pairs:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        began = time.monotonic()
        with Capture.of(world.server, "net0", seen) as after:
            time.sleep(3)
            probes = after.count()
            # One a second each, however long the machine took over it.
            assert len(pairs) <= probes <= len(pairs) * (1 + time.monotonic() - began)
        world.server.nft(DEAD.replace("PORTS", f"{ports[0]}, {ports[1]}"))
        stack.callback(world.server.nft, "delete table inet dead")
        for near, _ in pairs:
            near.settimeout(20)
            with pytest.raises(ConnectionResetError):
                near.recv(1)


DEAD = """table inet dead {
    chain input {
        type filter hook input priority 0
        tcp dport { PORTS } drop
    }
}
"""

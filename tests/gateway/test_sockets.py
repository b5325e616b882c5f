"""The outward sockets against the real kernel, on loopback."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventloop.poller import Poller
from eventloop.streams import PROBE_INTERVAL, SIOCATMARK, PolledStream
from gateway.model import VpnNetwork, VpnState
from gateway.nat.ports import ORIGIN_ICMP, ORIGIN_LOCAL
from gateway.sockets import Sockets
from splice.ports import FAILED, PEER_CLOSED, READABLE, URGENT, WRITABLE

CLONE_NEWNET = 0x40000000
LOOPBACK = {4: socket.inet_aton("127.0.0.1"), 6: socket.inet_pton(socket.AF_INET6, "::1")}
NAMES = {4: "127.0.0.1", 6: "::1"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


class LoopbackFactory:
    """Opens sockets without tying them to anything: loopback is the network here."""

    network = VpnNetwork(VpnState.ACTIVE, interface="lo", ipv4=True, ipv6=True)

    def open(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        return sock


class Watcher:
    """A handler that keeps what it was told."""

    def __init__(self) -> None:
        self.masks: list[int] = []

    def ready(self, mask: int, now: float) -> None:
        self.masks.append(mask)

    def wait(self, poller: Poller, bits: int) -> None:
        """Run the poller until one of `bits` was reported; then forget all reports."""
        for _ in range(100):
            if any(mask & bits for mask in self.masks):
                self.masks.clear()
                return
            poller.select(0.1)
        raise AssertionError(f"no event {bits:#x}")


@pytest.fixture
def poller() -> Iterator[Poller]:
    poller = Poller()
    yield poller
    poller.close()


@pytest.fixture(params=[4, 6])
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


def listener(version: int) -> socket.socket:
    server = socket.socket(FAMILIES[version], socket.SOCK_STREAM)
    server.bind((NAMES[version], 0))
    server.listen()
    server.settimeout(5)
    return server


def test_a_stream_connects_carries_and_ends(poller: Poller, version: int) -> None:
    watcher = Watcher()
    with listener(version) as server:
        port = server.getsockname()[1]
        stream = Sockets(LoopbackFactory(), poller).connect(
            version, LOOPBACK[version], port, watcher
        )
        watcher.wait(poller, WRITABLE)
        assert stream.connect_error() == 0
        assert stream.device == "lo"
        with server.accept()[0] as far:
            local = stream.local()
            assert local is not None
            assert local == (LOOPBACK[version], far.getpeername()[1])
            assert stream.send(b"question") == 8
            assert far.recv(100) == b"question"
            far.sendall(b"answer")
            watcher.wait(poller, READABLE)
            buffer = bytearray(100)
            assert stream.recv_into(memoryview(buffer), 100) == 6
            assert buffer[:6] == b"answer"
            with pytest.raises(BlockingIOError):
                stream.recv_into(memoryview(buffer), 100)
            stream.shutdown_write()
            assert far.recv(100) == b""
            far.close()
            watcher.wait(poller, PEER_CLOSED)
            assert stream.recv_into(memoryview(buffer), 100) == 0
    stream.close()
    assert poller.watched() == 0


def test_a_refusal_is_the_outcome_of_the_connect(poller: Poller, version: int) -> None:
    with listener(version) as server:
        port = server.getsockname()[1]
    watcher = Watcher()
    try:
        stream = Sockets(LoopbackFactory(), poller).connect(
            version, LOOPBACK[version], port, watcher
        )
    except ConnectionRefusedError:
        return
    watcher.wait(poller, FAILED | WRITABLE)
    assert stream.connect_error() == errno.ECONNREFUSED
    stream.close()


def test_abort_sends_a_reset(poller: Poller, version: int) -> None:
    watcher = Watcher()
    with listener(version) as server:
        stream = Sockets(LoopbackFactory(), poller).connect(
            version, LOOPBACK[version], server.getsockname()[1], watcher
        )
        watcher.wait(poller, WRITABLE)
        with server.accept()[0] as far:
            stream.abort()
            with pytest.raises(ConnectionResetError):
                far.recv(1)


def test_a_socket_that_fails_to_open_leaves_nothing(poller: Poller) -> None:
    before = len(os.listdir("/proc/self/fd"))
    sockets = Sockets(LoopbackFactory(), poller)
    with pytest.raises(OSError):
        # TCP to a multicast address has no route.
        sockets.connect(4, socket.inet_aton("224.0.0.1"), 80, Watcher())
    assert poller.watched() == 0
    assert len(os.listdir("/proc/self/fd")) == before


def test_datagrams_go_and_come(poller: Poller, version: int) -> None:
    watcher = Watcher()
    datagrams = Sockets(LoopbackFactory(), poller).open_datagram(version, watcher)
    with socket.socket(FAMILIES[version], socket.SOCK_DGRAM) as far:
        far.bind((NAMES[version], 0))
        far.settimeout(5)
        address = datagrams.address(LOOPBACK[version], far.getsockname()[1])
        assert datagrams.host(address) == (LOOPBACK[version], far.getsockname()[1])
        datagrams.send(b"one", address)
        data, back = far.recvfrom(100)
        assert data == b"one"
        datagrams.send_with_ttl(b"two", address, 3)
        assert far.recvfrom(100) == (b"two", back)
        far.sendto(b"three", back)
        watcher.wait(poller, READABLE)
        buffer = memoryview(bytearray(65536))
        n, size, source = datagrams.recv_into(buffer)
        assert (bytes(buffer[:n]), size, source) == (b"three", 0, address)
    datagrams.close()


def test_segments_arrive_as_datagrams_and_joined_ones_are_told_apart(
    poller: Poller, version: int
) -> None:
    sockets = Sockets(LoopbackFactory(), poller)
    if not (sockets.segmentation and sockets.joining):
        pytest.skip("the kernel has no UDP segmentation offload")
    sender, watcher = Watcher(), Watcher()
    near = sockets.open_datagram(version, sender)
    far = sockets.open_datagram(version, watcher)
    with socket.socket(FAMILIES[version], socket.SOCK_DGRAM) as anyone:
        # The first datagram gives the far socket its port.
        anyone.bind((NAMES[version], 0))
        far.send(b"x", far.address(LOOPBACK[version], anyone.getsockname()[1]))
    local = far.local()
    assert local is not None
    payload = bytes(range(250)) * 10 + b"end"
    near.send_segments(payload, 500, near.address(LOOPBACK[version], local[1]))
    watcher.wait(poller, READABLE)
    buffer = memoryview(bytearray(65536))
    received = b""
    while len(received) < len(payload):
        n, size, _ = far.recv_into(buffer)
        assert size in (0, 500)
        received += buffer[:n]
    assert received == payload
    near.close()
    far.close()


def test_segmentation_that_is_not_there_is_an_error(poller: Poller) -> None:
    sockets = Sockets(LoopbackFactory(), poller)
    sockets.segmentation = False
    near = sockets.open_datagram(4, Watcher())
    with pytest.raises(OSError, match="segmentation"):
        near.send_segments(b"x" * 100, 10, near.address(LOOPBACK[4], 9))
    near.close()


def test_port_unreachable_comes_out_of_the_error_queue(poller: Poller, version: int) -> None:
    watcher = Watcher()
    datagrams = Sockets(LoopbackFactory(), poller).open_datagram(version, watcher)
    with socket.socket(FAMILIES[version], socket.SOCK_DGRAM) as taken:
        taken.bind((NAMES[version], 0))
        port = taken.getsockname()[1]
    datagrams.send(b"anyone there?", datagrams.address(LOOPBACK[version], port))
    watcher.wait(poller, FAILED)
    error = datagrams.recv_error()
    assert error is not None
    assert error.errno == errno.ECONNREFUSED
    assert (error.type, error.code) == ((3, 3) if version == 4 else (1, 4))
    assert (error.host, error.port) == (LOOPBACK[version], port)
    assert error.offender == LOOPBACK[version]
    assert error.payload == b"anyone there?"
    assert error.origin in (ORIGIN_ICMP, 3)
    assert datagrams.recv_error() is None
    datagrams.close()


def test_what_must_not_be_fragmented_and_is_too_big_tells_the_path_mtu(
    poller: Poller, version: int
) -> None:
    datagrams = Sockets(LoopbackFactory(), poller).open_datagram(version, Watcher())
    address = datagrams.address(LOOPBACK[version], 9)
    with open("/sys/class/net/lo/mtu", encoding="ascii") as file:
        mtu = int(file.read())
    if mtu > 65500:
        # Loopback's usual MTU holds any datagram but the largest.
        payload = bytes(65535 - (28 if version == 4 else 8))
        expected = mtu if version == 4 and mtu < 65535 else None
    else:
        payload = bytes(mtu)
        expected = mtu
    datagrams.set_fragmentation(False)
    try:
        datagrams.send(payload, address)
    except OSError as failed:
        assert failed.errno == errno.EMSGSIZE
        error = datagrams.recv_error()
        if expected is not None:
            assert error is not None
            assert (error.origin, error.errno) == (ORIGIN_LOCAL, errno.EMSGSIZE)
            assert error.info == expected
    datagrams.set_fragmentation(True)
    datagrams.close()


def ping_allowed() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
    except OSError:
        return False
    return True


@pytest.fixture
def pings() -> Iterator[None]:
    """Where ping sockets are allowed: here, or else in a network namespace of the test's own."""
    if ping_allowed():
        yield
        return
    if os.geteuid():
        pytest.skip("net.ipv4.ping_group_range forbids ping sockets, and only root may change it")
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as home:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")
            yield
        finally:
            if libc.setns(home.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")


@pytest.mark.usefixtures("pings")
def test_echo_comes_back_with_its_ttl(poller: Poller, version: int) -> None:
    watcher = Watcher()
    echo = Sockets(LoopbackFactory(), poller).open_echo(version, watcher)
    kind = 8 if version == 4 else 128
    message = struct.pack("!BBHHH", kind, 0, 0, 1, 77) + b"payload"
    echo.set_fragmentation(False)
    echo.send(message, echo.address(LOOPBACK[version]), 33)
    watcher.wait(poller, READABLE)
    buffer = memoryview(bytearray(2048))
    n, host, ttl = echo.recv_into(buffer)
    assert host == LOOPBACK[version]
    assert 1 <= ttl <= 255
    assert buffer[0] == (0 if version == 4 else 129)
    assert bytes(buffer[6:n]) == b"\x00\x4dpayload"
    echo.close()


def test_where_an_urgent_byte_is(poller: Poller, version: int) -> None:
    watcher = Watcher()
    with listener(version) as server:
        stream = Sockets(LoopbackFactory(), poller).connect(
            version, LOOPBACK[version], server.getsockname()[1], watcher
        )
        far, _ = server.accept()
    with far:
        watcher.wait(poller, WRITABLE)
        assert stream.urgent_ahead() is None
        far.sendall(b"x" * 100_000)
        far.send(b"!", socket.MSG_OOB)
        watcher.wait(poller, URGENT)
        # Too far ahead for a pointer, then within its reach, then next.
        assert stream.urgent_ahead() is None
        buffer = bytearray(100_000)
        left = 100_000
        while left > 10:
            left -= stream.recv_into(buffer, min(left - 10, 1000))
        assert stream.urgent_ahead() == 10
        far.sendall(b"after")
        assert (stream.recv_into(buffer), stream.urgent_ahead()) == (10, 0)
        assert stream.recv_into(buffer, 1) == 1
        assert buffer[:1] == b"!"
        assert stream.urgent_ahead() is None
        assert stream.send_urgent(b"?") == 1
        far.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        far.settimeout(5)
        assert far.recv(1, socket.MSG_PEEK) == b"?"
        assert fcntl.ioctl(far, SIOCATMARK, bytes(4)) == struct.pack("=i", 1)
        stream.close()


def test_keep_alive_probes_at_once_what_has_been_silent_for_as_long(
    poller: Poller, version: int
) -> None:
    watcher = Watcher()
    with listener(version) as server:
        stream = Sockets(LoopbackFactory(), poller).connect(
            version, LOOPBACK[version], server.getsockname()[1], watcher
        )
        assert isinstance(stream, PolledStream)
        far, _ = server.accept()
    with far:
        watcher.wait(poller, WRITABLE)
        assert stream._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        time.sleep(1.2)
        before = segments_received(far)
        stream.keep_alive(1)
        time.sleep(0.5)
        assert segments_received(far) == before + 1
        stream.keep_alive(7200)
        option = stream._sock.getsockopt
        assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7200
        assert option(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == PROBE_INTERVAL
        stream.close()


def segments_received(sock: socket.socket) -> int:
    """tcpi_segs_in (linux/tcp.h)."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from("=I", info, 140)[0])

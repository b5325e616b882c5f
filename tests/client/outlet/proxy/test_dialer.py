"""The dialer on a real loop with real local sockets, and the Linux kernel's TCP as the far host.

    local socket -- Dialer and stack -- TUN -- namespace: the kernel's TCP and UDP, a server

The link is a stand-in that puts each packet into the TUN and takes each out of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from client.outlet.port import Intake
from client.outlet.proxy.dialer import Dialer
from client.outlet.proxy.handles import Bound, Dialing
from client.outlet.proxy.outcome import Outcome
from client.reconnect import Ending
from eventloop.poller import Poller, running_poller
from netstack.heads import OFFLOAD_HEADER
from tests.client.outlet.proxy.link_log import LinkLog
from tests.fakes.backlog import backlog
from tests.fakes.waiting import settle
from tests.netsim.kernel_peer import seeded
from tests.netsim.out import Packet
from tests.netsim.tun import KernelHost, kernel_host, why_not
from tests.vshp.dialogue import LEASE

FAR4, FAR6 = "10.99.0.1", "fd99::1"
OURS4, OURS6 = "10.99.0.2", "fd99::2"
ROOM = 256 * 1024
SERVER = str(Path(__file__).with_name("far_server.py"))
MEGABYTE = 1_000_000

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


LEASED = replace(
    LEASE, ipv4=packed(OURS4), ipv6=packed(OURS6), gateway_ipv4=packed(FAR4),
    gateway_ipv6=packed(FAR6), mtu=1500, offload=True, offload_udp=False,
)  # fmt: skip


class Link:
    """A `Carrier` whose tunnel is a TUN device with virtio headers."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.poller: Poller = running_poller()
        self.writer = LinkLog(offload=True, room=ROOM)
        self.writer.offload_udp = False
        self.offload = True
        self.received_packets_bytes = 0
        self.pushed = 0
        self.intake: Intake | None = None
        self.poller.watch(descriptor, self, select.EPOLLIN)

    def ready(self, mask: int, now: float) -> None:
        buffer = memoryview(bytearray(OFFLOAD_HEADER + 65536))
        for _ in range(64):
            try:
                n = os.readv(self.descriptor, [buffer])
            except BlockingIOError:
                break
            assert self.intake is not None
            self.intake.packet(buffer, OFFLOAD_HEADER, n, True)
        assert self.intake is not None and self.intake.done is not None
        self.intake.done()

    def push(self) -> None:
        self.writer.left = ROOM
        for packet in self.writer.take():
            self.pushed += 1
            os.write(self.descriptor, _header(packet) + packet.data)

    def count(self, name: str) -> None:
        raise AssertionError(name)

    def wait_for_room(self) -> None:
        raise AssertionError("this link has room")

    def end(self, ending: Ending) -> None:
        raise AssertionError(ending)

    def close(self) -> None:
        self.poller.unwatch(self.descriptor)


def _header(packet: Packet) -> bytes:
    return bytes((1 if packet.csum_start else 0, packet.gso_type)) + b"".join(
        value.to_bytes(2, "little")
        for value in (packet.hdr_len, packet.gso_size, packet.csum_start, packet.csum_offset)
    )


@pytest.fixture(scope="module")
def far() -> Iterator[KernelHost]:
    """The kernel, and a server on it; one for all tests of the file."""
    with kernel_host("p", FAR4, FAR6, offload=True) as kernel:
        server = kernel.popen(sys.executable, SERVER, FAR4, FAR6)
        try:
            assert server.stdout is not None and server.stdout.readline() == b"ready\n"
            yield kernel
        finally:
            server.kill()
            server.wait()


class World:
    """A dialer with a link to the far kernel."""

    def __init__(self, far: KernelHost) -> None:
        self.link = Link(far.descriptor)
        self.dialer = Dialer()
        self.link.intake = self.dialer.attach(self.link, LEASED)
        self.ends: list[socket.socket] = []

    def pair(self, tcp: bool) -> tuple[socket.socket, socket.socket]:
        """A program's socket, and its other end, which the proxy has accepted."""
        if tcp:
            with socket.create_server(("127.0.0.1", 0)) as server:
                program = socket.create_connection(server.getsockname())
                accepted = server.accept()[0]
        else:
            program, accepted = socket.socketpair()
        for sock in (program, accepted):
            sock.setblocking(False)
        self.ends.append(program)
        return program, accepted

    async def dial(
        self, host: str, port: int, tcp: bool = True, early: bytes = b"", reply: bytes = b""
    ) -> tuple[Outcome, socket.socket, Dialing]:
        program, accepted = self.pair(tcp)
        told: list[tuple[Outcome, Bound | None]] = []

        def on_outcome(outcome: Outcome, bound: Bound | None) -> None:
            told.append((outcome, bound))
            if outcome is Outcome.OPENED:
                accepted.send(reply)
            else:
                accepted.close()

        before = self.link.pushed
        dialing = self.dialer.connect(accepted, packed(host), port, on_outcome, early)
        assert told == [], "never from within"
        assert self.link.pushed == before + 1, "the SYN is on its way"
        await settle(lambda: told)
        ((outcome, bound),) = told
        if outcome is Outcome.OPENED:
            assert bound is not None and bound[0][:2] in (LEASED.ipv4[:2], LEASED.ipv6[:2])
            assert dialing.local == bound and dialing.host == packed(host)
        return outcome, program, dialing

    async def close(self) -> None:
        self.dialer.close()
        self.link.close()
        for sock in self.ends:
            sock.close()
        assert not self.dialer.stack.tcp


@contextlib.asynccontextmanager
async def world(far: KernelHost) -> AsyncIterator[World]:
    made = World(far)
    try:
        yield made
    finally:
        await made.close()


async def read_all(sock: socket.socket) -> bytes:
    """All until the end of the stream."""
    loop = asyncio.get_running_loop()
    found = bytearray()
    async with asyncio.timeout(30):
        while piece := await loop.sock_recv(sock, 1 << 16):
            found += piece
    return bytes(found)


async def send_all(sock: socket.socket, data: bytes, finish: bool = True) -> None:
    async with asyncio.timeout(30):
        await asyncio.get_running_loop().sock_sendall(sock, data)
    if finish:
        sock.shutdown(socket.SHUT_WR)


HASH, ECHO, SOURCE, CLOSED = 7001, 7002, 7003, 7999
"""Ports of the far server: digests what comes; echoes; sends 3 MB; nobody."""


@pytest.mark.parametrize("tcp", [True, False])
@pytest.mark.parametrize("host", [FAR4, FAR6])
async def test_bytes_each_way_and_each_half_closed_by_itself(
    far: KernelHost, host: str, tcp: bool
) -> None:
    async with world(far) as w:
        outcome, program, dialing = await w.dial(host, HASH, tcp, early=b"early ", reply=b"reply")
        assert outcome is Outcome.OPENED
        data = seeded(3 * MEGABYTE, 1)
        _, answer = await asyncio.gather(send_all(program, data), read_all(program))
        assert answer == b"reply" + hashlib.sha256(b"early " + data).hexdigest().encode()
        assert dialing.to_tunnel_bytes == 6 + len(data)
        assert dialing.from_tunnel_bytes == 64

        outcome, program, dialing = await w.dial(host, SOURCE, tcp)
        over: list[bool] = []
        dialing.on_over = lambda: over.append(True)
        assert await read_all(program) == seeded(3 * MEGABYTE, 2)
        # The far side has closed; ours still speaks, and is heard to the end.
        assert not over
        await send_all(program, b"thanks")
        await settle(lambda: over)
        assert dialing.state == "closed"
        assert w.link.received_packets_bytes > 3 * MEGABYTE
        assert w.link.writer.packet_bytes > 3 * MEGABYTE


def forbid(far: KernelHost) -> None:
    """The far kernel routes from now on, and has a network that cannot be reached."""
    for command in (
        ["ip", "-n", far.namespace, "route", "replace", "unreachable", "198.51.100.0/24"],
        ["ip", "netns", "exec", far.namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1"],
    ):
        subprocess.run(command, check=True)


async def test_what_the_far_kernel_says(far: KernelHost) -> None:
    async with world(far) as w:
        for host in (FAR4, FAR6):
            outcome, program, dialing = await w.dial(host, CLOSED)
            assert (outcome, dialing.state) == (Outcome.REFUSED, "closed")
            assert await read_all(program) == b"", "the socket stayed its caller's"
        forbid(far)
        outcome, _, _ = await w.dial("198.51.100.7", 80)
        assert outcome is Outcome.HOST_UNREACHABLE


async def test_a_program_that_goes_away_resets_the_far_side(far: KernelHost) -> None:
    async with world(far) as w:
        _, program, dialing = await w.dial(FAR4, ECHO)
        over: list[bool] = []
        dialing.on_over = lambda: over.append(True)
        program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        program.close()
        await settle(lambda: over)
        assert not w.dialer.stack.tcp


async def test_a_connection_is_aborted_for_both_sides(far: KernelHost) -> None:
    async with world(far) as w:
        _, program, dialing = await w.dial(FAR4, ECHO)
        await send_all(program, b"hello", finish=False)
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(program, 9), 10)
        dialing.abort()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(program, 9), 10)
        assert not w.dialer.stack.tcp


async def test_a_slow_program_holds_up_the_far_side_and_not_our_memory(far: KernelHost) -> None:
    async with world(far) as w:
        # A UNIX socket holds no more than the kernel's default, unlike TCP's of the loopback.
        _, slow, dialing = await w.dial(FAR4, SOURCE, tcp=False)
        stack = w.dialer.stack
        await settle(lambda: backlog(stack))
        _, program, _ = await w.dial(FAR4, ECHO)
        await send_all(program, b"x" * 1000)
        assert await read_all(program) == b"x" * 1000, "others are not held up"
        assert backlog(stack) < 2 * stack.limits.receive_window_max
        assert dialing.from_tunnel_bytes < 3 * MEGABYTE
        assert await read_all(slow) == seeded(3 * MEGABYTE, 2)
        await settle(lambda: not backlog(stack))


async def test_the_link_goes_and_comes_back_under_a_transfer(far: KernelHost) -> None:
    async with world(far) as w:
        _, program, dialing = await w.dial(FAR4, ECHO)
        data = seeded(2 * MEGABYTE, 3)
        both = asyncio.gather(send_all(program, data), read_all(program))
        for part in (1, 2):
            await settle(partial(lambda n: dialing.to_tunnel_bytes > n * MEGABYTE // 2, part))
            w.link.close()
            w.dialer.detach()
            w.dialer.detach()
            w.link = Link(far.descriptor)
            w.link.intake = w.dialer.attach(w.link, replace(LEASED, resumed=True))
        _, answer = await both
        assert answer == data


async def test_another_lease_resets_what_was_open(far: KernelHost) -> None:
    async with world(far) as w:
        _, program, _ = await w.dial(FAR4, ECHO)
        w.link.close()
        w.dialer.detach()
        w.link = Link(far.descriptor)
        other = replace(LEASED, session_id=b"another session.", ipv4=packed("10.99.0.3"))
        w.link.intake = w.dialer.attach(w.link, other)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(asyncio.get_running_loop().sock_recv(program, 9), 10)
        outcome, program, dialing = await w.dial(FAR4, ECHO)
        assert outcome is Outcome.OPENED
        assert dialing.local is not None and dialing.local[0] == packed("10.99.0.3")


async def test_datagrams_and_what_is_said_of_them(far: KernelHost) -> None:
    async with world(far) as w:
        got: list[tuple[bytes, int, bytes]] = []
        errors: list[tuple[bytes, int, Outcome]] = []
        association = w.dialer.associate(
            lambda host, port, payload: got.append((host, port, bytes(payload))),
            lambda host, port, outcome: errors.append((host, port, outcome)),
        )
        assert association is not None
        for host in (FAR4, FAR6):
            for size in (0, 10, 1400, 9000, 60_000):
                data = seeded(size, size)
                assert association.send(packed(host), ECHO, data)
                await settle(lambda: got)
                assert got.pop() == (packed(host), ECHO, data)
            association.send(packed(host), CLOSED, b"anybody?")
            await settle(lambda: errors)
            assert errors.pop() == (packed(host), CLOSED, Outcome.REFUSED)
        association.close()


async def test_no_lease_no_name_and_what_was_cancelled() -> None:
    dialer = Dialer()
    told: list[Outcome] = []

    def on_outcome(outcome: Outcome, bound: Bound | None) -> None:
        assert bound is None
        told.append(outcome)

    answered: list[tuple[Outcome, list[bytes]]] = []
    program, accepted = socket.socketpair()
    with program, accepted:
        assert not dialer.available()
        dialer.connect(accepted, packed(FAR4), 80, on_outcome)
        dialer.connect(accepted, "localhost", 80, on_outcome)
        dialer.connect(accepted, "a..b", 80, on_outcome)
        dialer.connect(accepted, packed(FAR4), 80, on_outcome).cancel()
        dialer.resolve("www.example.com", lambda *what: answered.append(what))
        dialer.resolve("a..b", lambda *what: answered.append(what))
        dialer.resolve("www.example.com", lambda *what: answered.append(what)).cancel()
        assert told == [] and answered == []
        await settle(lambda: len(told) == 3 and len(answered) == 2)
        assert sorted(outcome.name for outcome in told) == ["AWAY", "NO_SUCH_NAME", "NO_SUCH_NAME"]
        assert answered == [(Outcome.AWAY, []), (Outcome.NO_SUCH_NAME, [])]
        assert accepted.fileno() >= 0
    dialer.close()
    dialer.close()

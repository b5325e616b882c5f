"""TCP that is tied by its scope is TCP: it connects, carries bytes and names its ends."""

from __future__ import annotations

import asyncio
import os
import socket

from gateway.vpn.detector import VpnDetector
from gateway.vpn.egress import tie
from gateway.vpn.guard import EgressGuard
from gateway.vpn.ties import SO_BINDTODEVICE, SO_BINDTOIFINDEX, Ties
from tests.fakes.addresses import wait_for_ipv6
from tests.fakes.waiting import settle
from tests.gateway.vpn.namespace import fresh_namespace, inside, needs_namespaces, run

pytestmark = needs_namespaces


class OldKernel(Ties):
    """Device binding needs a privilege that we do not have."""

    def set_option(self, sock: socket.socket, level: int, option: int, value: bytes | int) -> None:
        if option in (SO_BINDTOIFINDEX, SO_BINDTODEVICE):
            raise PermissionError(1, "refused")
        super().set_option(sock, level, option, value)


def listener(family: int, host: str) -> socket.socket:
    sock = socket.create_server((host, 0), family=family)
    sock.setblocking(False)
    return sock


async def test_both_families_carry_bytes() -> None:
    """gateway (g1: 10.3.0.1, fd03::1) --- veth --- server (g2: 10.3.0.2, fd03::2)"""
    with fresh_namespace():
        far = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        with fresh_namespace():
            run("ip link add g1 type veth peer name g2")
            run(f"ip link set g2 netns /proc/{os.getpid()}/fd/{far}")
            run("ip addr add 10.3.0.1/24 dev g1")
            run("ip addr add fd03::1/64 dev g1 nodad")
            run("ip link set g1 up")
            near = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            near_detector = VpnDetector("g1")
            await near_detector.start()
        run("ip addr add 10.3.0.2/24 dev g2")
        run("ip addr add fd03::2/64 dev g2 nodad")
        run("ip link set g2 up")
        wait_for_ipv6()
        with inside(near):
            wait_for_ipv6()
        servers = [
            (socket.AF_INET, "10.3.0.1", listener(socket.AF_INET, "10.3.0.2")),
            (socket.AF_INET6, "fd03::1", listener(socket.AF_INET6, "fd03::2")),
        ]
        await settle(lambda: near_detector.network.usable)
        guard = EgressGuard(near_detector, ties=OldKernel())
        assert guard.streams == "scope"
        loop = asyncio.get_running_loop()
        for family, own, server in servers:
            with inside(near):
                sock = guard.tcp_socket(family)
            address = server.getsockname()[:2]
            error = sock.connect_ex(address)
            assert os.strerror(error) == "Operation now in progress"
            accepted, peer = await asyncio.wait_for(loop.sock_accept(server), 2)
            assert peer[0] == own
            assert sock.getpeername()[:2] == address
            assert sock.getsockname()[:2] == peer[:2]
            with inside(near):
                assert tie(sock).device == "g1"
            await loop.sock_sendall(sock, b"to the server")
            assert await loop.sock_recv(accepted, 100) == b"to the server"
            await loop.sock_sendall(accepted, b"and back")
            assert await loop.sock_recv(sock, 100) == b"and back"
            for open_socket in (sock, accepted, server):
                open_socket.close()
        await near_detector.stop()
        os.close(near)
        os.close(far)

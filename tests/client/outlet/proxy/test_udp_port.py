"""UDP ports of the stack, against the gateway's NAT."""

from __future__ import annotations

import errno
import random

import pytest

from client.outlet.proxy import stack as stack_module
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.udp_port import UdpPort
from gateway.nat.ports import ORIGIN_ICMP, ORIGIN_ICMP6, ORIGIN_LOCAL, NetworkError
from netstack import icmp
from tests.client.outlet.proxy.tunnel import HOST4, Tunnel, host


class Program:
    """Who has a port."""

    def __init__(self, tunnel: Tunnel) -> None:
        self.got: list[tuple[bytes, int, bytes]] = []
        self.errors: list[tuple[bytes, int, Outcome]] = []
        port = tunnel.stack.open_udp(
            lambda host, port, payload: self.got.append((host, port, bytes(payload))),
            lambda host, port, outcome: self.errors.append((host, port, outcome)),
        )
        assert port is not None
        self.port: UdpPort = port


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [0, 1, 1000, 1372, 1373, 9000, 40_000])
def test_there_and_back(version: int, offload: bool, size: int) -> None:
    """Also what exceeds the link's MTU of 1400 by far."""
    tunnel = Tunnel(offload=offload)
    tunnel.open()
    program = Program(tunnel)
    data = random.Random(size).randbytes(size)
    assert program.port.send(host(version), 5000, data)
    tunnel.run(0.1)
    (socket,) = tunnel.outward.datagrams
    assert [(sent.data, sent.host, sent.port) for sent in socket.sent] == [
        (data, host(version), 5000)
    ]
    socket.receive(data[::-1], host(version), 5000, now=tunnel.now)
    tunnel.run(0.1)
    assert program.got == [(host(version), 5000, data[::-1])]
    assert (program.port.to_tunnel_bytes, program.port.from_tunnel_bytes) == (size, size)


@pytest.mark.parametrize("offload", [False, True])
def test_a_run_that_arrives_as_one_packet_comes_datagram_by_datagram(offload: bool) -> None:
    tunnel = Tunnel(offload=offload)
    tunnel.open()
    program = Program(tunnel)
    program.port.send(HOST4, 5000, b"begin")
    tunnel.run(0.1)
    run = random.Random(1).randbytes(10 * 1200 + 34)
    tunnel.outward.datagrams[0].receive(run, HOST4, 5000, size=1200, now=tunnel.now)
    tunnel.run(0.1)
    assert [payload for _, _, payload in program.got] == [
        run[at : at + 1200] for at in range(0, len(run), 1200)
    ]


@pytest.mark.parametrize("version", [4, 6])
def test_nobody_there_is_told(version: int) -> None:
    tunnel = Tunnel()
    tunnel.open()
    program = Program(tunnel)
    program.port.send(host(version), 5000, b"hello")
    tunnel.run(0.1)
    (socket,) = tunnel.outward.datagrams
    origin, kind, code = (
        (ORIGIN_ICMP, icmp.UNREACHABLE, icmp.PORT_UNREACHABLE)
        if version == 4
        else (ORIGIN_ICMP6, icmp.UNREACHABLE6, icmp.PORT_UNREACHABLE6)
    )
    error = NetworkError(
        errno.ECONNREFUSED, origin, kind, code, 0, host(version), host(version), 5000, b"hello"
    )
    socket.report(error, tunnel.now)
    tunnel.run(0.1)
    assert program.errors == [(host(version), 5000, Outcome.REFUSED)]


@pytest.mark.parametrize("version", [4, 6])
def test_a_narrow_path_is_remembered(version: int) -> None:
    """The gateway's kernel says EMSGSIZE to what must not be fragmented; the next one may be."""
    tunnel = Tunnel(mtu=9000)
    tunnel.open()
    program = Program(tunnel)
    program.port.send(host(version), 5000, b"small")
    tunnel.run(0.1)
    (socket,) = tunnel.outward.datagrams
    socket.failures.append(errno.EMSGSIZE)
    socket.errors.append(
        NetworkError(errno.EMSGSIZE, ORIGIN_LOCAL, 0, 0, 1400, None, host(version), 5000, b"")
    )
    program.port.send(host(version), 5000, bytes(3000))
    tunnel.run(0.1)
    assert [len(sent.data) for sent in socket.sent] == [5]
    assert program.errors == [] and tunnel.counts["udp__icmp_error__too_big"] == 1
    assert socket.fragmentation is False
    program.port.send(host(version), 5000, bytes(3000))
    tunnel.run(0.1)
    assert [len(sent.data) for sent in socket.sent] == [5, 3000]
    assert socket.fragmentation is True
    program.port.send(host(version), 5000, bytes(1000))
    tunnel.run(0.1)
    assert socket.fragmentation is False


def test_what_cannot_be_sent_is_dropped_and_said() -> None:
    tunnel = Tunnel(room=10_000)
    program = Program(tunnel)
    assert not program.port.send(HOST4, 5000, b"no lease")
    tunnel.open()
    assert not program.port.send(HOST4, 5000, bytes(65_508))
    assert all(program.port.send(HOST4, 5000, bytes(1000)) for _ in range(10))
    assert not program.port.send(HOST4, 5000, bytes(1000)), "no room on the link"
    tunnel.run(0.1)
    assert program.port.send(HOST4, 5000, b"again")
    tunnel.cut()
    assert not program.port.send(HOST4, 5000, b"no link")
    tunnel.open()
    program.port.close()
    program.port.close()
    assert not program.port.send(HOST4, 5000, b"closed")
    assert len(tunnel.stack.udp) == 1, "the resolver's"


def test_ports_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    tunnel = Tunnel()
    monkeypatch.setattr(stack_module, "MAX_UDP_PORTS", 3)
    first, second = Program(tunnel), Program(tunnel)
    assert first.port.port != second.port.port
    assert tunnel.stack.open_udp(lambda *_: None, lambda *_: None) is None
    first.port.close()
    assert tunnel.stack.open_udp(lambda *_: None, lambda *_: None) is not None

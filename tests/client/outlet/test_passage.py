"""Ways into the tunnel for datagrams of this process's own: what they carry, and their bounds."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import pytest

from client.outlet.namespace.passage import NamespacePassage
from client.outlet.nic.passage import NicPassage
from client.outlet.passage import ELSEWHERE
from client.outlet.proxy.outcome import Outcome
from client.outlet.proxy.passage import MAX_OPEN, ProxyPassage
from tests.fakes.waiting import settle

HOST, PORT = "192.0.2.1", 3478
PACKED = bytes((192, 0, 2, 1))
OnDatagram = Callable[[bytes, int, memoryview], None]
OnError = Callable[[bytes, int, Outcome], None]


class Port:
    """A UDP port of a stack."""

    def __init__(self, on_datagram: OnDatagram, on_error: OnError) -> None:
        self.on_datagram = on_datagram
        self.on_error = on_error
        self.sent: list[tuple[bytes, int, bytes]] = []
        self.closed = False

    def send(self, host: bytes, port: int, payload: bytes) -> bool:
        self.sent.append((host, port, bytes(payload)))
        return True

    def close(self) -> None:
        self.closed = True


class Stack:
    """Gives out ports."""

    def __init__(self) -> None:
        self.ports: list[Port] = []
        self.full = False

    def associate(self, on_datagram: OnDatagram, on_error: OnError) -> Port | None:
        if self.full:
            return None
        self.ports.append(Port(on_datagram, on_error))
        return self.ports[-1]


async def test_a_datagram_and_its_answer_go_by_the_proxys_stack() -> None:
    stack = Stack()
    passage = ProxyPassage(stack.associate)
    with passage.open(HOST, PORT) as sock:
        (port,) = stack.ports
        sock.send(b"question")
        await settle(lambda: bool(port.sent))
        assert port.sent == [(PACKED, PORT, b"question")]
        # What another host or port sends is no answer to this socket, as with the kernel's.
        port.on_datagram(bytes((192, 0, 2, 9)), PORT, memoryview(b"a stranger's"))
        port.on_datagram(PACKED, PORT + 1, memoryview(b"a neighbour's"))
        port.on_error(PACKED, PORT, Outcome.REFUSED)
        port.on_datagram(PACKED, PORT, memoryview(b"answer"))
        assert sock.recv(100) == b"answer"
        with pytest.raises(BlockingIOError):
            sock.recv(100)
        passage.close()
        assert port.closed
        port.on_datagram(PACKED, PORT, memoryview(b"late"))
        passage.close()
    assert passage.beside(4) == passage.beside(6) == ""


async def test_a_socket_that_is_closed_gives_its_port_back() -> None:
    stack = Stack()
    passage = ProxyPassage(stack.associate)
    passage.open(HOST, PORT).close()
    await settle(lambda: stack.ports[0].closed)
    passage.close()


async def test_a_reader_that_does_not_read_loses_and_holds_up_nobody() -> None:
    stack = Stack()
    passage = ProxyPassage(stack.associate)
    with passage.open(HOST, PORT):
        for _ in range(10_000):
            stack.ports[0].on_datagram(PACKED, PORT, memoryview(bytes(100)))
    passage.close()


async def test_a_stack_without_a_port_and_a_passage_without_end() -> None:
    stack = Stack()
    passage = ProxyPassage(stack.associate)
    opened = [passage.open(HOST, PORT) for _ in range(MAX_OPEN)]
    with pytest.raises(OSError) as caught:
        passage.open(HOST, PORT)
    assert caught.value.errno == errno.EMFILE
    passage.close()
    stack.full = True
    with pytest.raises(OSError) as caught:
        passage.open(HOST, PORT)
    assert caught.value.errno == errno.EMFILE
    assert len(stack.ports) == MAX_OPEN and all(port.closed for port in stack.ports)
    for sock in opened:
        sock.close()


def test_sockets_of_another_network_are_given_out_once() -> None:
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    numbers = {each.fileno() for each in made}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        host, port = server.getsockname()
        passage = NamespacePassage(made)
        first, second = passage.open(host, port), passage.open(host, port)
        with first, second:
            assert {first.fileno(), second.fileno()} == numbers
            assert not first.getblocking()
            first.send(b"x")
            assert server.recvfrom(10) == (b"x", first.getsockname())
            for none_is_left in (host, "::1"):
                with pytest.raises(OSError) as caught:
                    passage.open(none_is_left, port)
                assert caught.value.errno == errno.EMFILE
    rest = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    passage = NamespacePassage([rest])
    passage.close()
    assert rest.fileno() == -1 and passage.beside(6) == ""


def test_a_nic_that_is_not_there_is_no_way() -> None:
    passage = NicPassage("vshpgone9", ())
    with pytest.raises(OSError):
        passage.open(HOST, PORT)
    assert set(ELSEWHERE) == {4, 6}

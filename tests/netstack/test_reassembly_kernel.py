"""What Linux makes of the fragments that our reassembly is tested with.

namespace tcp-...-r:  UDP sockets -- kernel -- TUN -- fragments from here
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from tests.gateway.vpn.namespace import inside
from tests.netsim.tun import kernel_host, why_not
from tests.netstack.fragment_cases import CASES, ENDS, PORT, Case, Heard, whole

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

END = b"that was all"
MOST = 65535
IP_RECVTTL = 12


class Host:
    """A kernel's sockets, and the wire to it."""

    def __init__(self, wire: int) -> None:
        self._wire = wire
        self._sockets = {4: _receiver(socket.AF_INET), 6: _receiver(socket.AF_INET6)}

    def heard(self, case: Case) -> list[Heard]:
        """What arrives of the packets: all there is before a datagram that is sent after them."""
        for packet in [*case.packets, whole(case.version, END)]:
            os.write(self._wire, packet)
        heard: list[Heard] = []
        while (told := self._next(case.version)).data != END:
            heard.append(told)
        return heard

    def _next(self, version: int) -> Heard:
        data, told, _, _ = self._sockets[version].recvmsg(MOST, 256)
        numbers = {(level, kind): value[0] for level, kind, value in told}
        if version == 4:
            of_ip = socket.IPPROTO_IP
            return Heard(data, numbers[of_ip, socket.IP_TTL], numbers[of_ip, socket.IP_TOS])
        of_ip = socket.IPPROTO_IPV6
        hop_limit, traffic_class = socket.IPV6_HOPLIMIT, socket.IPV6_TCLASS
        return Heard(data, numbers[of_ip, hop_limit], numbers[of_ip, traffic_class])

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()


def _receiver(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(30)
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        sock.bind((ENDS[4][0], PORT))
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        sock.bind((ENDS[6][0], PORT))
    return sock


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with kernel_host("r", ENDS[4][0], ENDS[6][0]) as kernel:
        namespace = os.open(f"/run/netns/{kernel.namespace}", os.O_RDONLY)
        try:
            with inside(namespace):
                sockets = Host(kernel.descriptor)
        finally:
            os.close(namespace)
        yield sockets
        sockets.close()


@pytest.mark.parametrize("case", CASES, ids=[f"IPv{case.version}: {case.name}" for case in CASES])
def test_the_kernel_hears_the_same(host: Host, case: Case) -> None:
    assert host.heard(case) == ([] if case.heard is None else [case.heard])

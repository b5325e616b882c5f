"""The kernel's socket list: what is asked, and what is read from captured answers.

`captured/sock_diag.json` holds a kernel's answers (Linux 6.18) for five sockets on
10.77.0.2 and fd77::2: TCP over each family with 1,000 bytes sent and 5,000 received,
an IPv6 socket with mapped addresses, a connected UDP socket and one that is only bound.
"""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.system.inet_diag import (
    CLOSE,
    ESTABLISHED,
    LIVE_STATES,
    SYN_SENT,
    DiagError,
    DiagSocket,
    parse,
    request,
)

CAPTURED = json.loads((Path(__file__).parent / "captured" / "sock_diag.json").read_text())
V4, V6 = socket.inet_aton("10.77.0.2"), socket.inet_pton(socket.AF_INET6, "fd77::2")
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP


def captured(family: int, protocol: int) -> list[bytes]:
    for each in CAPTURED:
        if (each["family"], each["protocol"]) == (family, protocol):
            return [bytes.fromhex(text) for text in each["datagrams"]]
    raise AssertionError("not captured")


def read(family: int, protocol: int) -> list[DiagSocket]:
    found: list[DiagSocket] = []
    done = False
    for datagram in captured(family, protocol):
        assert not done
        more, done = parse(datagram, protocol)
        found += more
    assert done, "the last one says so"
    return found


def test_a_connection() -> None:
    (each,) = read(socket.AF_INET, TCP)
    assert (each.protocol, each.state) == (TCP, ESTABLISHED)
    assert (each.source, each.source_port) == (V4, 55631)
    assert (each.destination, each.destination_port) == (socket.inet_aton("10.77.0.1"), 40403)
    assert (each.cookie, each.uid, each.inode) == (131, 0, 5610047)
    figures = each.figures
    assert figures is not None
    assert (figures.sent, figures.received, figures.retransmits) == (1000, 5000, 0)
    assert figures.rtt == pytest.approx(31e-6)
    assert figures.idle == pytest.approx(0.304)


def test_ipv6_and_mapped_ipv4() -> None:
    mapped, own = read(socket.AF_INET6, TCP)
    assert (mapped.source, mapped.destination) == (V4, socket.inet_aton("10.77.0.1"))
    assert own.source == V6
    assert own.figures is not None and own.figures.received == 5000


def test_udp_has_no_figures() -> None:
    (connected,) = read(socket.AF_INET, UDP)
    assert (connected.state, connected.figures) == (ESTABLISHED, None)
    assert connected.destination_port == 53
    (bound,) = read(socket.AF_INET6, UDP)
    assert (bound.state, bound.destination, bound.destination_port) == (CLOSE, bytes(16), 0)


def test_an_older_kernel_has_a_shorter_tcp_info() -> None:
    """Before Linux 4.1 there were no byte counters: then there are no figures."""
    (datagram, _) = captured(socket.AF_INET, TCP)
    at = datagram.index(struct.pack("=HH", 284, 2))
    shorter = bytearray(datagram[: at + 4 + 104])
    struct.pack_into("=H", shorter, at, 108)
    struct.pack_into("=I", shorter, 0, len(shorter))
    ((each,), done) = parse(bytes(shorter), TCP)
    assert (each.figures, done) == (None, False)


def test_a_request_by_its_bytes() -> None:
    asked = request(socket.AF_INET, TCP, 1 << ESTABLISHED | 1 << SYN_SENT, [V4], 7)
    assert asked == (
        struct.pack("=IHHII", 92, 20, 0x301, 7, 0)
        + bytes((2, 6, 2, 0))
        + struct.pack("=I", 0b110)
        + bytes(48)
        + struct.pack("=HH", 20, 1)
        + struct.pack("=BBH", 7, 16, 20)
        + struct.pack("=BBxxi", 2, 32, -1)
        + V4
    )


def run(program: bytes, source: bytes) -> bool:
    """`inet_diag_bc_run` of the kernel, for conditions on the source."""
    at, left = 0, len(program)
    while left > 0:
        code, yes, no = struct.unpack_from("=BBH", program, at)
        if code == 7:
            _, bits, port = struct.unpack_from("=BBxxi", program, at + 4)
            assert port == -1 and bits % 8 == 0
            passed = program[at + 12 : at + 12 + bits // 8] == source
        else:
            assert code == 1
            passed = False
        step = yes if passed else no
        left, at = left - step, at + step
    return left == 0


def test_the_filter_passes_either_address_and_no_other() -> None:
    asked = request(socket.AF_INET6, TCP, LIVE_STATES, [V4, V6])
    program = asked[16 + 56 + 4 :]
    assert run(program, V4) and run(program, V6)
    assert not run(program, socket.inet_aton("10.77.0.3"))
    assert not run(program, bytes(16))


def error(number: int) -> bytes:
    return struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -number) + bytes(16)


def test_a_refusal_names_its_number() -> None:
    with pytest.raises(DiagError, match=r"error 2\)"):
        parse(error(2), TCP)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_cut_off_anywhere_it_is_an_error_or_less(family: int, protocol: int) -> None:
    for datagram in captured(family, protocol):
        whole, _ = parse(datagram, protocol)
        for end in range(len(datagram)):
            try:
                found, _ = parse(datagram[:end], protocol)
            except DiagError:
                continue
            assert len(found) <= len(whole)


@given(
    data=st.binary(max_size=600),
    at=st.integers(0, 500),
    which=st.sampled_from([(each["family"], each["protocol"]) for each in CAPTURED]),
)
def test_junk_raises_nothing_else(data: bytes, at: int, which: tuple[int, int]) -> None:
    real = captured(*which)[0]
    for datagram in (data, real[:at] + data + real[at + len(data) :], real + data):
        try:
            parse(datagram, which[1])
        except DiagError:
            pass

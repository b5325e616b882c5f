"""The reader of the kernel's messages: captured bytes, cut bytes, junk."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.vpn import rtnetlink as rt

# RTM_NEWLINK of a TUN device, from a 6.18 kernel, less the attributes after IFLA_LINKINFO's.
LINK_HEAD = struct.pack("=BxHiII", 0, 65534, 4, 0x110D1, 0)
LINK = LINK_HEAD + bytes.fromhex(
    "0900030076706e3000000000"  # IFLA_IFNAME "vpn0"
    "08000d00f4010000"  # IFLA_TXQLEN 500
    "10001200080001 0074756e0004000200".replace(" ", "")  # IFLA_LINKINFO { KIND "tun", DATA }
)
# RTM_NEWADDR of 10.8.0.2 peer 10.8.0.1 on it: IFA_ADDRESS is the far end.
ADDRESS = bytes.fromhex("021880000400000008000100 0a080001 08000200 0a080002".replace(" ", ""))
# RTM_NEWADDR of fd08::2, tentative by IFA_FLAGS.
TENTATIVE = (
    struct.pack("=BBBBi", 10, 64, 0xC0, 0, 4)
    + bytes.fromhex("14000100fd080000000000000000000000000002")
    + bytes.fromhex("08000800c0000000")
)


def message(type_: int, payload: bytes) -> rt.Message:
    return rt.Message(type_, 0, 1, memoryview(payload))


def test_link() -> None:
    link = rt.parse_link(message(rt.RTM_NEWLINK, LINK))
    assert (link.index, link.name, link.kind, link.stats) == (4, "vpn0", "tun", None)
    assert link.flags & 0x51 == 0x51


def test_address_of_a_point_to_point_link_is_the_local_one() -> None:
    found = rt.parse_address(message(rt.RTM_NEWADDR, ADDRESS))
    assert found is not None
    assert (found.index, found.packed, found.prefix, found.usable) == (4, b"\n\x08\0\2", 24, True)


def test_tentative_address() -> None:
    found = rt.parse_address(message(rt.RTM_NEWADDR, TENTATIVE))
    assert found is not None
    assert not found.usable


def test_the_kernels_own_answers_are_read() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.bind((0, 0))
        sock.send(rt.get_link(7, 1))
        (answer,) = rt.messages(memoryview(sock.recv(65536)))
        link = rt.parse_link(answer)
        assert (link.index, link.name) == (1, "lo")
        assert link.stats is not None
        sock.send(rt.get_route(8, bytes([127, 0, 0, 1])))
        (answer,) = rt.messages(memoryview(sock.recv(65536)))
        assert answer.seq == 8
        assert rt.parse_route(answer).type == 2, "RTN_LOCAL"


def test_two_messages_in_a_datagram() -> None:
    datagram = rt.request(1, 0, 5, b"abc") + b"\0" + rt.request(2, 0, 6, b"")
    assert [(m.type, m.seq, bytes(m.payload)) for m in rt.messages(memoryview(datagram))] == [
        (1, 5, b"abc"),
        (2, 6, b""),
    ]


@pytest.mark.parametrize("length", [0, 15, 17, 0xFFFFFFFF])
def test_a_length_that_does_not_fit_is_an_error(length: int) -> None:
    with pytest.raises(rt.NetlinkError):
        list(rt.messages(memoryview(struct.pack("=IHHII", length, 16, 0, 1, 0))))


def test_attributes_without_end_are_an_error() -> None:
    with pytest.raises(rt.NetlinkError):
        rt.attributes(memoryview(rt.attribute(1, b"") * (rt.MAX_ATTRIBUTES + 1)), 0)
    with pytest.raises(rt.NetlinkError):
        rt.attributes(memoryview(struct.pack("=HH", 3, 1)), 0)


@pytest.mark.parametrize("parse", [rt.parse_link, rt.parse_address, rt.parse_route])
@pytest.mark.parametrize("whole", [LINK, ADDRESS, TENTATIVE])
def test_cut_anywhere_only_our_error_comes_out(parse: object, whole: bytes) -> None:
    assert callable(parse)
    for end in range(len(whole)):
        with contextlib.suppress(rt.NetlinkError):
            parse(message(0, whole[:end]))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_junk(junk: bytes) -> None:
    with contextlib.suppress(rt.NetlinkError):
        for found in rt.messages(memoryview(junk)):
            for parse in (rt.parse_link, rt.parse_address, rt.parse_route):
                with contextlib.suppress(rt.NetlinkError):
                    parse(found)

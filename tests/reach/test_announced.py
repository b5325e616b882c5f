"""An announcement of a gateway, read without a library; zeroconf's own packets are the oracle."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reach.announced import FILTER, GROUP, MAX_PLACES, PORT, QUERY, Place, read

FINGERPRINT = "0123456789abcdef"
zeroconf = pytest.importorskip("zeroconf")


def announcement(*addresses: str, port: int = 47800, lifetime: int | None = None) -> bytes:
    """As a gateway makes it."""
    info = zeroconf.ServiceInfo(
        "_vshp._udp.local.",
        f"{FINGERPRINT}._vshp._udp.local.",
        addresses=[ipaddress.ip_address(address).packed for address in addresses],
        port=port,
        properties={"v": "1", "name": "phone", "fp": "01:23:45:67:89:ab:cd:ef"},
        server=f"{FINGERPRINT}.local.",
    )
    said = zeroconf.DNSOutgoing(0x8400)
    said.add_answer_at_time(info.dns_pointer(override_ttl=lifetime), 0)
    said.add_answer_at_time(info.dns_service(override_ttl=lifetime), 0)
    said.add_answer_at_time(info.dns_text(override_ttl=lifetime), 0)
    for record in info.dns_addresses(override_ttl=lifetime):
        said.add_answer_at_time(record, 0)
    [packet] = said.packets()
    return bytes(packet)


def test_what_zeroconf_announces_is_read() -> None:
    places = read(announcement("192.168.1.7", "fd00::7"), "192.168.1.7")
    assert places == (
        Place(FINGERPRINT, "192.168.1.7", 47800), Place(FINGERPRINT, "fd00::7", 47800),
    )  # fmt: skip


def test_who_names_no_address_is_where_it_came_from() -> None:
    assert read(announcement(port=1), "192.168.1.9") == (Place(FINGERPRINT, "192.168.1.9", 1),)


def test_a_goodbye_is_no_place() -> None:
    assert read(announcement("192.168.1.7", lifetime=0), "192.168.1.7") == ()


def test_places_are_few() -> None:
    many = announcement(*(f"192.168.1.{n}" for n in range(1, 30)))
    assert len(read(many, "192.168.1.1")) == MAX_PLACES


def test_zeroconf_reads_the_question() -> None:
    [question] = zeroconf.DNSIncoming(QUERY).questions
    assert (question.name, question.type, question.unicast) == ("_vshp._udp.local.", 12, False)


def test_others_services_are_none() -> None:
    packet = announcement("192.168.1.7")
    assert read(packet.replace(b"_vshp", b"_http"), "192.168.1.7") == ()
    assert read(packet.replace(FINGERPRINT.encode(), b"my kitchen phone"), "192.168.1.7") == ()
    assert read(b"\0\0\0\0" + packet[4:], "192.168.1.7") == (), "a question"


def test_every_cut_and_every_flipped_byte_is_survived() -> None:
    packet = announcement("192.168.1.7", "fd00::7")
    for at in range(len(packet)):
        read(packet[:at], "192.168.1.7")
        for bit in range(8):
            spoilt = bytearray(packet)
            spoilt[at] ^= 1 << bit
            for place in read(bytes(spoilt), "192.168.1.7"):
                ipaddress.ip_address(place.host)
                assert 0 < place.port < 65536 and len(place.fingerprint) == 16


@pytest.mark.parametrize("pointer", [b"\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\xff\xff"])
def test_names_that_lead_to_themselves_end(pointer: bytes) -> None:
    head = struct.pack(">HHHHHH", 0, 0x8400, 0, 2, 0, 0)
    assert read(head + pointer + bytes(10) + pointer, "192.168.1.7") == ()


@given(st.binary(max_size=512))
def test_junk(data: bytes) -> None:
    assert read(b"\0\0\x84\0\0\0" + data, "192.168.1.7") is not None


def test_the_kernel_lets_announcements_through_and_nothing_else() -> None:
    """On two sockets of loopback, with the filter that the listener has."""
    code = b"".join(struct.pack("HBBI", *step) for step in FILTER)
    hold = bytearray(code)
    import ctypes

    address = ctypes.addressof(ctypes.c_char.from_buffer(hold))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth,
    ):
        ear.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", len(FILTER), address))
        ear.bind(("127.0.0.1", 0))
        ear.settimeout(5)
        said = announcement("192.168.1.7")
        for packet in (
            QUERY, said.replace(b"_vshp", b"_http"), b"x", bytes(300), said[:14], said,
        ):  # fmt: skip
            mouth.sendto(packet, ear.getsockname())
        assert ear.recv(2048) == said
        assert (GROUP, PORT) == ("224.0.0.251", 5353)

"""Every decoder: round trip, truncation at each offset, trailing bytes, junk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealing.errors import LocalMisuse
from tests.vshp.dialogue import HELLO, LEASE
from vshp import frames
from vshp.config import Capability, Carrier, CloseReason, GatewayStatus, Hello, Resume, Route
from vshp.constants import MAX_FIELDS, MAX_ROUTES, MAX_TICKET
from vshp.endpoints import Endpoint, decode_endpoints, encode_endpoints
from vshp.errors import FrameInvalid, FrameMisplaced, FrameTruncated, FrameUnknown
from vshp.fields import decode_fields

RICH_LEASE = replace(
    LEASE,
    mtu=65000,
    offload=True,
    offload_udp=True,
    expires_in=2**32 - 1,
    routes=(Route(bytes((10, 0, 0, 0)), 8), Route(bytes(16), 0)),
    name="Telefon größer",
    ticket=bytes(MAX_TICKET),
    resumed=True,
    ipv6_internet=False,
    endpoints=(Endpoint.of("any", "10.0.0.1", 1), Endpoint.of("udp", "fd00::1", 65535)),
)
CASES: list[tuple[str, Callable[[Any], bytes], Callable[[bytes], Any], Any]] = [
    ("hello", frames.encode_hello, frames.decode_hello, replace(HELLO, mtu=9000)),
    (
        "hello over usb",
        frames.encode_hello,
        frames.decode_hello,
        replace(HELLO, carrier=Carrier.USB),
    ),
    (
        "hello of a device with networks",
        frames.encode_hello,
        frames.decode_hello,
        replace(HELLO, networks=(Route(bytes((10, 187, 0, 0)), 16), Route(bytes(16), 64))),
    ),
    ("resume", frames.encode_resume, frames.decode_resume, Resume(bytes(range(16)), b"ticket")),
    ("auth", lambda v: frames.encode_auth(*v), frames.decode_auth, (frames.AUTH_PENDING, 120)),
    ("config", frames.encode_config, lambda b: frames.decode_config(b, None), RICH_LEASE),
    (
        "ping",
        lambda v: frames.encode_ping(*v),
        frames.decode_ping,
        (bytes(range(16)), 2**32 - 1, 2**64 - 1, 7),
    ),
    ("status", frames.encode_status, frames.decode_status, GatewayStatus(False, True, False, 9)),
    (
        "status_shut_out",
        frames.encode_status,
        frames.decode_status,
        GatewayStatus(quota_left=0, shut_out="This device is paused by the owner."),
    ),
    (
        "close",
        lambda v: frames.encode_close(*v),
        frames.decode_close,
        (CloseReason.REVOKED, "the owner said so"),
    ),
    ("share", lambda v: v, frames.decode_share, bytes(range(32))),
]
IDS = [case[0] for case in CASES]
FRAME_ERRORS = (FrameInvalid, FrameTruncated)


@pytest.mark.parametrize(("name", "encode", "decode", "value"), CASES, ids=IDS)
def test_round_trip(name: str, encode: Any, decode: Any, value: Any) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize(("name", "encode", "decode", "value"), CASES, ids=IDS)
def test_truncated_at_each_offset(name: str, encode: Any, decode: Any, value: Any) -> None:
    body = encode(value)
    for cut in range(len(body)):
        try:
            assert decode(body[:cut]) != value
        except FRAME_ERRORS as error:
            assert error.reason


@pytest.mark.parametrize(("name", "encode", "decode", "value"), CASES, ids=IDS)
def test_trailing_bytes(name: str, encode: Any, decode: Any, value: Any) -> None:
    """Fixed bodies refuse them; in open-ended ones they are part of the text or the ticket."""
    body = encode(value) + b"z"
    if name in ("close", "resume"):
        assert decode(body) != value
    else:
        with pytest.raises(FRAME_ERRORS):
            decode(body)


@pytest.mark.parametrize(("name", "encode", "decode", "value"), CASES, ids=IDS)
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_junk(name: str, encode: Any, decode: Any, value: Any, data: st.DataObject) -> None:
    """Nothing but the frame errors comes out, whatever goes in."""
    body = bytearray(encode(value))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    for attempt in (bytes(body), data.draw(st.binary(max_size=200))):
        try:
            decode(attempt)
        except FRAME_ERRORS as error:
            assert error.reason.isidentifier()


def test_delta_carries_only_what_differs() -> None:
    changed = replace(RICH_LEASE, mtu=1400, ticket=b"next")
    body = frames.encode_config(changed, RICH_LEASE)
    assert len(body) < 30 + len(encode_endpoints(RICH_LEASE.endpoints))
    assert frames.decode_config(body, RICH_LEASE) == changed
    with pytest.raises(FrameInvalid, match="delta_without_base"):
        frames.decode_config(body, None)


def test_fields_unknown_repeated_missing_and_too_many() -> None:
    known = frozenset({1})
    assert decode_fields(b"\x81\x01\x00x\x01\x01\x00y", known) == {1: b"y"}
    with pytest.raises(FrameInvalid, match="field_unknown"):
        decode_fields(b"\x02\x00\x00", known)
    with pytest.raises(FrameInvalid, match="field_repeated"):
        decode_fields(b"\x01\x00\x00\x01\x00\x00", known)
    with pytest.raises(FrameInvalid, match="field_too_many"):
        decode_fields(b"\x81\x00\x00" * (MAX_FIELDS + 1), known)
    with pytest.raises(FrameInvalid, match="field_missing"):
        frames.decode_config(b"\x00", None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x02", "config_kind"),
        (b"\x01\x04\x02\x00\xff\x04", "mtu_too_small"),
        (b"\x01\x02\x09\x00" + bytes(8) + b"\x21", "prefix_too_long"),
        (b"\x01\x07\x06\x00\x04\x21" + bytes(4), "prefix_too_long"),
        (b"\x01\x07\x03\x00\x05\x00\x00", "route_family"),
        (b"\x01\x08\x01\x00\xff", "text_not_utf8"),
        (b"\x01\x08\x41\x00" + b"a" * 65, "text_too_long"),
        (b"\x01\x09\xc1\x00" + bytes(193), "ticket_too_long"),
        (b"\x01\x8a\x07\x00\x03\x00\x00" + bytes(4), "endpoint_port"),
        (b"\x01\x8a\x3f\x00" + b"\x03\x01\x00\x0a\x00\x00\x01" * 9, "endpoints_too_many"),
        (b"\x01\x07\x66\x00" + b"\x04\x08\x0a\x00\x00\x00" * (MAX_ROUTES + 1), "routes_too_many"),
    ],
)
def test_config_values_out_of_bounds(body: bytes, reason: str) -> None:
    with pytest.raises(FrameInvalid) as caught:
        frames.decode_config(body, LEASE)
    assert caught.value.reason == reason


def test_hello_of_a_later_version_and_of_a_joker() -> None:
    body = frames.encode_hello(Hello("a\x1b[31m\u202eb", "li\nnux", Capability(0xFFFFFFF7)))
    hello = frames.decode_hello(body)
    assert hello.label == "a(31mb"
    assert hello.platform == "li nux"
    assert hello.capabilities == Capability.OFFLOAD | Capability.OFFLOAD_UDP | Capability.IPV6


def test_an_endpoint_or_a_carrier_of_a_later_version_is_left_out() -> None:
    body = b"\x01\x8a\x1a\x00" + b"\x89\x01\x00" + bytes(16) + b"\x01\x02\x00\x0a\x00\x00\x01"
    told = frames.decode_config(body, LEASE).endpoints
    assert told == (Endpoint.of("tcp", "10.0.0.1", 2),)
    for cut in (b"\x83\x01\x00" + bytes(15), b"\x03\x01"):
        with pytest.raises(FrameTruncated, match="field_truncated"):
            decode_endpoints(cut)
    hello = frames.decode_hello(frames.encode_hello(HELLO) + b"\x85\x01\x00\x63")
    assert hello == HELLO and hello.carrier is Carrier.UNKNOWN


def test_close_codes_are_stable_and_unknown_ones_read_as_protocol_error() -> None:
    assert frames.CLOSE_CODES[CloseReason.DISCONNECTED] == 1
    assert frames.CLOSE_CODES[CloseReason.SHARING_OFF] == 22
    assert frames.CLOSE_CODES[CloseReason.LISTENER_CLOSED] == 23
    assert frames.decode_close(b"\xff") == (CloseReason.PROTOCOL_ERROR, "")


def test_frames_unknown_misplaced_and_truncated_are_three_errors() -> None:
    assert frames.split_frames(frames.encode_frame(5, b"ab") + frames.encode_frame(6)) == [
        (5, b"ab"),
        (6, b""),
    ]
    for junk in (b"\x01", b"\x01\x01\x00\x00"):
        with pytest.raises(FrameTruncated):
            frames.split_frames(junk)
    with pytest.raises(FrameUnknown):
        frames.require_known(0x7F)
    assert frames.require_known(0xFF) is False
    assert not issubclass(FrameMisplaced, FrameUnknown | FrameTruncated)
    with pytest.raises(LocalMisuse):
        frames.encode_config(replace(LEASE, ticket=bytes(MAX_TICKET + 1)))

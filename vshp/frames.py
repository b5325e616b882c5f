"""Frames: what a record's plaintext is made of, and how each kind's body is written and read.

A frame is a u32 header (type in the low byte, length of the body above it) and
its body; integers are little-endian everywhere. A type with the bit 0x80 is
optional: who does not know it skips it. Bodies are either fixed structures, or
tagged fields (tag u8, length u16, value) where later versions will add some;
tags know the same optional bit. Decoders check, parse, judge, and raise nothing
but the four frame errors.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from enum import IntEnum

from sealing.errors import LocalMisuse
from vshp.config import (
    Capability,
    Carrier,
    CloseReason,
    GatewayStatus,
    Hello,
    LeaseConfig,
    Resume,
    Route,
)
from vshp.constants import (
    FRAME_HEADER_SIZE,
    FRAME_OPTIONAL,
    MAX_DETAIL,
    MAX_LABEL,
    MAX_NAME,
    MAX_PLATFORM,
    MAX_ROUTES,
    MAX_TICKET,
    MIN_MTU,
    NONCE_SIZE,
    SESSION_ID_SIZE,
)
from vshp.endpoints import decode_endpoints, encode_endpoints
from vshp.errors import FrameInvalid, FrameTruncated, FrameUnknown
from vshp.fields import decode_fields, encode_fields, number, sized, text
from vshp.labels import clip_utf8


class FrameType(IntEnum):
    HELLO = 0x01
    AUTH = 0x02
    CONFIG = 0x03
    IP_PACKET = 0x04
    IP_PACKET_OFFLOAD = 0x05
    PING = 0x06
    PONG = 0x07
    RESUME = 0x08
    STATUS = 0x09
    CLOSE = 0x0A
    CODE_COMMIT = 0x0B
    CODE_NONCE = 0x0C
    CODE_REVEAL = 0x0D
    REKEY = 0x0E
    RELIABLE = 0x0F
    ACK = 0x10
    PROBE = 0x11
    PROBE_ACK = 0x12
    CODE_AGREED = 0x13
    PATH_CHALLENGE = 0x14
    PATH_RESPONSE = 0x15
    PADDING = 0x90


_HEADER = struct.Struct("<I")
_AUTH = struct.Struct("<BI")
_PING = struct.Struct("<16sIQQ")
_MAX_BODY = (1 << 24) - 1

AUTH_APPROVED = 1
AUTH_PENDING = 2

CLOSE_CODES = {reason: code for code, reason in enumerate(CloseReason, start=1)}
"""Wire codes of the reasons, in the order of their definition."""
_CLOSE_REASONS = {code: reason for reason, code in CLOSE_CODES.items()}


def encode_frame(kind: int, body: bytes = b"") -> bytes:
    """Header and body."""
    if len(body) > _MAX_BODY:
        raise LocalMisuse("frame_too_long", str(len(body)))
    return _HEADER.pack(kind | len(body) << 8) + body


def split_frames(data: bytes) -> list[tuple[int, bytes]]:
    """All frames of a small plaintext (a handshake payload): (type, body) each."""
    frames = []
    at, end = 0, len(data)
    while at < end:
        if at + FRAME_HEADER_SIZE > end:
            raise FrameTruncated("frame_truncated")
        (word,) = _HEADER.unpack_from(data, at)
        at += FRAME_HEADER_SIZE
        stop = at + (word >> 8)
        if stop > end:
            raise FrameTruncated("frame_truncated")
        frames.append((word & 0xFF, data[at:stop]))
        at = stop
    return frames


def require_known(kind: int) -> bool:
    """True for a type of this version, False for one to be skipped, else FrameUnknown."""
    if kind in _KNOWN:
        return True
    if kind & FRAME_OPTIONAL:
        return False
    raise FrameUnknown("frame_unknown", hex(kind))


_KNOWN = frozenset(int(kind) for kind in FrameType)


# --- HELLO, RESUME, AUTH ---------------------------------------------------------------------

_HELLO_LABEL, _HELLO_PLATFORM, _HELLO_CAPABILITIES, _HELLO_MTU = 1, 2, 3, 4
_HELLO_CARRIER = 5 | FRAME_OPTIONAL
_HELLO_NETWORKS = 6 | FRAME_OPTIONAL
_HELLO_TAGS = frozenset({1, 2, 3, 4, _HELLO_CARRIER, _HELLO_NETWORKS})

_CARRIERS = {int(carrier): carrier for carrier in Carrier}


def encode_hello(hello: Hello) -> bytes:
    fields = [
        (_HELLO_LABEL, clip_utf8(hello.label, MAX_LABEL)),
        (_HELLO_PLATFORM, clip_utf8(hello.platform, MAX_PLATFORM)),
        (_HELLO_CAPABILITIES, int(hello.capabilities).to_bytes(4, "little")),
        (_HELLO_MTU, hello.mtu.to_bytes(2, "little")),
    ]
    if hello.carrier is not Carrier.UNKNOWN:
        fields.append((_HELLO_CARRIER, bytes((hello.carrier,))))
    if len(hello.networks) > MAX_ROUTES:
        raise LocalMisuse("too_many_networks", str(len(hello.networks)))
    if hello.networks:
        fields.append((_HELLO_NETWORKS, _encode_routes(hello.networks)))
    return encode_fields(fields)


def decode_hello(body: bytes) -> Hello:
    """Texts come out cleaned; capabilities and a carrier we do not know are left out."""
    fields = decode_fields(body, _HELLO_TAGS)
    capabilities = number(fields.get(_HELLO_CAPABILITIES, bytes(4)), 4)
    mtu = number(fields.get(_HELLO_MTU, b"\xff\xff"), 2)
    if mtu < MIN_MTU:
        raise FrameInvalid("mtu_too_small", str(mtu))
    return Hello(
        label=text(fields.get(_HELLO_LABEL, b""), MAX_LABEL),
        platform=text(fields.get(_HELLO_PLATFORM, b""), MAX_PLATFORM),
        capabilities=Capability(capabilities & int(~Capability.NONE)),
        mtu=mtu,
        carrier=_CARRIERS.get(number(fields.get(_HELLO_CARRIER, b"\0"), 1), Carrier.UNKNOWN),
        networks=_decode_routes(fields.get(_HELLO_NETWORKS, b"")),
    )


def encode_resume(resume: Resume) -> bytes:
    return resume.session_id + resume.ticket


def decode_resume(body: bytes) -> Resume:
    if len(body) <= SESSION_ID_SIZE:
        raise FrameTruncated("resume_truncated")
    if len(body) > SESSION_ID_SIZE + MAX_TICKET:
        raise FrameInvalid("ticket_too_long")
    return Resume(body[:SESSION_ID_SIZE], body[SESSION_ID_SIZE:])


def encode_auth(status: int, expires_in: float = 0) -> bytes:
    return _AUTH.pack(status, max(0, min(round(expires_in), 0xFFFFFFFF)))


def decode_auth(body: bytes) -> tuple[int, int]:
    """(AUTH_APPROVED or AUTH_PENDING, seconds until the request expires)."""
    status, expires_in = _AUTH.unpack(sized(body, _AUTH.size))
    if status not in (AUTH_APPROVED, AUTH_PENDING):
        raise FrameInvalid("auth_status", str(status))
    return status, expires_in


# --- CONFIG ----------------------------------------------------------------------------------

_CONFIG_FULL, _CONFIG_DELTA = 0, 1
_SESSION, _IPV4, _IPV6, _MTU, _FLAGS, _EXPIRES, _ROUTES, _NAME, _TICKET = range(1, 10)
_ENDPOINTS = 10 | FRAME_OPTIONAL
_CONFIG_TAGS = frozenset({*range(1, 10), _ENDPOINTS})
_CONFIG_REQUIRED = frozenset({_SESSION, _IPV4, _IPV6, _MTU, _FLAGS, _EXPIRES})
_FLAG_OFFLOAD, _FLAG_OFFLOAD_UDP, _FLAG_IPV6_INTERNET, _FLAG_RESUMED = 1, 2, 4, 8


def _config_fields(lease: LeaseConfig) -> list[tuple[int, bytes]]:
    flags = (
        (_FLAG_OFFLOAD if lease.offload else 0)
        | (_FLAG_OFFLOAD_UDP if lease.offload_udp else 0)
        | (_FLAG_IPV6_INTERNET if lease.ipv6_internet else 0)
        | (_FLAG_RESUMED if lease.resumed else 0)
    )
    return [
        (_SESSION, lease.session_id),
        (_IPV4, lease.ipv4 + lease.gateway_ipv4 + bytes((lease.prefix_ipv4,))),
        (_IPV6, lease.ipv6 + lease.gateway_ipv6 + bytes((lease.prefix_ipv6,))),
        (_MTU, lease.mtu.to_bytes(2, "little")),
        (_FLAGS, bytes((flags,))),
        (_EXPIRES, lease.expires_in.to_bytes(4, "little")),
        (_ROUTES, _encode_routes(lease.routes)),
        (_NAME, clip_utf8(lease.name, MAX_NAME)),
        (_TICKET, lease.ticket),
        (_ENDPOINTS, encode_endpoints(lease.endpoints)),
    ]


def encode_config(lease: LeaseConfig, base: LeaseConfig | None = None) -> bytes:
    """The lease whole, or only what differs from `base` (flags, expiry and endpoints always)."""
    if len(lease.routes) > MAX_ROUTES or len(lease.ticket) > MAX_TICKET:
        raise LocalMisuse("lease_too_large")
    fields = _config_fields(lease)
    kind = _CONFIG_FULL
    if base is not None:
        kind = _CONFIG_DELTA
        known = dict(_config_fields(base))
        # Endpoints, since the client may have lost its link before it was told of new ones.
        always = (_FLAGS, _EXPIRES, _ENDPOINTS)
        fields = [(tag, value) for tag, value in fields if tag in always or known[tag] != value]
    return bytes((kind,)) + encode_fields(fields)


def decode_config(body: bytes, base: LeaseConfig | None) -> LeaseConfig:
    """The lease whole, or `base` with the delta applied."""
    if not body:
        raise FrameTruncated("config_truncated")
    fields = decode_fields(body[1:], _CONFIG_TAGS)
    if body[0] == _CONFIG_FULL:
        if not fields.keys() >= _CONFIG_REQUIRED:
            raise FrameInvalid("field_missing")
        base = None
    elif body[0] == _CONFIG_DELTA:
        if base is None:
            raise FrameInvalid("delta_without_base")
    else:
        raise FrameInvalid("config_kind", str(body[0]))
    lease = base or LeaseConfig(bytes(16), bytes(4), bytes(16), bytes(4), bytes(16), routes=())
    for tag, value in fields.items():
        lease = _apply(lease, tag, value)
    return lease


def _apply(lease: LeaseConfig, tag: int, value: bytes) -> LeaseConfig:
    match tag:
        case 1:  # _SESSION
            return replace(lease, session_id=sized(value, SESSION_ID_SIZE))
        case 2:  # _IPV4
            sized(value, 9)
            prefix = _prefix(value[8], 32)
            return replace(lease, ipv4=value[:4], gateway_ipv4=value[4:8], prefix_ipv4=prefix)
        case 3:  # _IPV6
            sized(value, 33)
            prefix = _prefix(value[32], 128)
            return replace(lease, ipv6=value[:16], gateway_ipv6=value[16:32], prefix_ipv6=prefix)
        case 4:  # _MTU
            mtu = number(value, 2)
            if mtu < MIN_MTU:
                raise FrameInvalid("mtu_too_small", str(mtu))
            return replace(lease, mtu=mtu)
        case 5:  # _FLAGS
            flags = number(value, 1)
            return replace(
                lease,
                offload=bool(flags & _FLAG_OFFLOAD),
                offload_udp=bool(flags & _FLAG_OFFLOAD_UDP),
                ipv6_internet=bool(flags & _FLAG_IPV6_INTERNET),
                resumed=bool(flags & _FLAG_RESUMED),
            )
        case 6:  # _EXPIRES
            return replace(lease, expires_in=number(value, 4))
        case 7:  # _ROUTES
            return replace(lease, routes=_decode_routes(value))
        case 8:  # _NAME
            return replace(lease, name=text(value, MAX_NAME))
        case 9:  # _TICKET
            if len(value) > MAX_TICKET:
                raise FrameInvalid("ticket_too_long")
            return replace(lease, ticket=value)
        case _:  # _ENDPOINTS
            return replace(lease, endpoints=decode_endpoints(value))


def _prefix(value: int, most: int) -> int:
    if value > most:
        raise FrameInvalid("prefix_too_long", str(value))
    return value


def _encode_routes(routes: tuple[Route, ...]) -> bytes:
    return b"".join(bytes((len(r.address), r.prefix)) + r.address for r in routes)


def _decode_routes(value: bytes) -> tuple[Route, ...]:
    routes: list[Route] = []
    at = 0
    while at < len(value):
        if len(routes) == MAX_ROUTES:
            raise FrameInvalid("routes_too_many")
        if at + 2 > len(value):
            raise FrameTruncated("field_truncated")
        size, prefix = value[at], value[at + 1]
        if size not in (4, 16):
            raise FrameInvalid("route_family", str(size))
        address = value[at + 2 : at + 2 + size]
        if len(address) != size:
            raise FrameTruncated("field_truncated")
        routes.append(Route(address, _prefix(prefix, size * 8)))
        at += 2 + size
    return tuple(routes)


# --- PING, STATUS, CLOSE, pairing code -------------------------------------------------------


def encode_ping(session_id: bytes, number: int, sent: int, received: int) -> bytes:
    """PING and PONG: session id, number of the PING, records sent and received so far."""
    return _PING.pack(session_id, number, sent, received)


def decode_ping(body: bytes) -> tuple[bytes, int, int, int]:
    session_id, number, sent, received = _PING.unpack(sized(body, _PING.size))
    return session_id, number, sent, received


_STATUS_FLAGS, _STATUS_QUOTA = 1, 2
_STATUS_SHUT_OUT = 3 | FRAME_OPTIONAL
_STATUS_TAGS = frozenset({_STATUS_FLAGS, _STATUS_QUOTA, _STATUS_SHUT_OUT})


def encode_status(status: GatewayStatus) -> bytes:
    flags = status.vpn_up | status.sharing << 1 | status.ipv6_internet << 2
    fields = [(_STATUS_FLAGS, bytes((flags,)))]
    if status.quota_left is not None:
        fields.append((_STATUS_QUOTA, status.quota_left.to_bytes(8, "little")))
    if status.shut_out:
        fields.append((_STATUS_SHUT_OUT, clip_utf8(status.shut_out, MAX_DETAIL)))
    return encode_fields(fields)


def decode_status(body: bytes) -> GatewayStatus:
    fields = decode_fields(body, _STATUS_TAGS)
    if _STATUS_FLAGS not in fields:
        raise FrameInvalid("field_missing")
    flags = number(fields[_STATUS_FLAGS], 1)
    quota = fields.get(_STATUS_QUOTA)
    return GatewayStatus(
        vpn_up=bool(flags & 1),
        sharing=bool(flags & 2),
        ipv6_internet=bool(flags & 4),
        quota_left=None if quota is None else number(quota, 8),
        shut_out=text(fields.get(_STATUS_SHUT_OUT, b""), MAX_DETAIL),
    )


def encode_close(reason: CloseReason, detail: str = "") -> bytes:
    return bytes((CLOSE_CODES[reason],)) + clip_utf8(detail, MAX_DETAIL)


def decode_close(body: bytes) -> tuple[CloseReason, str]:
    """A code of a later version reads as PROTOCOL_ERROR: the session is over either way."""
    if not body:
        raise FrameTruncated("close_truncated")
    return close_reason(body[0]), text(body[1:], MAX_DETAIL)


def close_reason(code: int) -> CloseReason:
    return _CLOSE_REASONS.get(code, CloseReason.PROTOCOL_ERROR)


def decode_share(body: bytes) -> bytes:
    """The body of CODE_COMMIT, CODE_NONCE and CODE_REVEAL: 32 bytes."""
    return sized(body, NONCE_SIZE)

"""Where a gateway listens, as pairing URIs and CONFIG say it.

An endpoint is kind u8 (1 TCP, 2 UDP, 3 both on the same port; 0x80 set for
IPv6), port u16 little-endian, address 4 or 16 bytes.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from sealing.errors import LocalMisuse
from vshp.constants import MAX_ENDPOINTS
from vshp.errors import FrameInvalid, FrameTruncated

_IPV6 = 0x80
_KINDS = {"tcp": 1, "udp": 2, "any": 3}
_TRANSPORTS = {kind: transport for transport, kind in _KINDS.items()}
_HEAD_SIZE = 3


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a gateway listens."""

    transport: str
    """`tcp`, `udp`, or `any` for both on the same port."""
    address: bytes
    """4 or 16 bytes."""
    port: int

    @classmethod
    def of(cls, transport: str, host: str, port: int) -> Endpoint:
        """From an address in text. Raises ValueError for a host name."""
        return cls(transport, ipaddress.ip_address(host).packed, port)

    @property
    def host(self) -> str:
        """The address in text."""
        return str(ipaddress.ip_address(self.address))


def encode_endpoint(endpoint: Endpoint) -> bytes:
    """Raises ValueError for an address of another size."""
    kind = _KINDS[endpoint.transport]
    if len(endpoint.address) == 16:
        kind |= _IPV6
    elif len(endpoint.address) != 4:
        raise ValueError("an address of 4 or 16 bytes")
    return bytes((kind,)) + endpoint.port.to_bytes(2, "little") + endpoint.address


def endpoint_size(kind: int) -> int:
    """Bytes of an endpoint that begins with this one."""
    return _HEAD_SIZE + (16 if kind & _IPV6 else 4)


def take_endpoint(data: bytes) -> tuple[Endpoint | None, int]:
    """The first endpoint (None for a kind that is not known) and its size in bytes.

    Raises FrameTruncated, and FrameInvalid for port 0.
    """
    if not data:
        raise FrameTruncated("field_truncated")
    size = endpoint_size(data[0])
    if len(data) < size:
        raise FrameTruncated("field_truncated")
    transport = _TRANSPORTS.get(data[0] & ~_IPV6)
    port = int.from_bytes(data[1:_HEAD_SIZE], "little")
    if transport is None:
        return None, size
    if port == 0:
        raise FrameInvalid("endpoint_port")
    return Endpoint(transport, data[_HEAD_SIZE:size], port), size


def encode_endpoints(endpoints: tuple[Endpoint, ...]) -> bytes:
    """One after the other."""
    if len(endpoints) > MAX_ENDPOINTS:
        raise LocalMisuse("too_many_endpoints", str(len(endpoints)))
    return b"".join(encode_endpoint(endpoint) for endpoint in endpoints)


def decode_endpoints(data: bytes) -> tuple[Endpoint, ...]:
    """All of them, but for kinds of later versions. Raises FrameTruncated, FrameInvalid."""
    found: list[Endpoint] = []
    count = at = 0
    while at < len(data):
        count += 1
        if count > MAX_ENDPOINTS:
            raise FrameInvalid("endpoints_too_many")
        endpoint, size = take_endpoint(data[at:])
        if endpoint is not None:
            found.append(endpoint)
        at += size
    return tuple(found)

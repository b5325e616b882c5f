"""What resuming needs, as bytes for the store: the last lease, with its ticket.

A gateway answers a resume with a delta against the lease the client holds, so
the whole lease is kept. The text is versioned; what cannot be read is simply
not resumed.
"""

from __future__ import annotations

import json
import logging
from dataclasses import fields

from vshp.config import LeaseConfig, Resume, Route
from vshp.endpoints import Endpoint

log = logging.getLogger(__name__)

_VERSION = 1
_BYTES = frozenset({"session_id", "ipv4", "ipv6", "gateway_ipv4", "gateway_ipv6", "ticket"})


def encode(lease: LeaseConfig) -> bytes | None:
    """The lease for the store; None when the gateway offers no resuming."""
    if not lease.ticket:
        return None
    values: dict[str, object] = {"version": _VERSION}
    for field in fields(lease):
        value = getattr(lease, field.name)
        if field.name in _BYTES:
            value = value.hex()
        elif field.name == "routes":
            value = [[route.address.hex(), route.prefix] for route in value]
        elif field.name == "endpoints":
            value = [[e.transport, e.address.hex(), e.port] for e in value]
        values[field.name] = value
    return json.dumps(values).encode()


def decode(text: bytes | None) -> Resume | None:
    """The wish to resume, or None when there is nothing (readable) to resume."""
    if text is None:
        return None
    try:
        values = json.loads(text)
        if values.pop("version") != _VERSION:
            return None
        for name in _BYTES:
            values[name] = bytes.fromhex(values[name])
        values["routes"] = tuple(Route(bytes.fromhex(a), p) for a, p in values["routes"])
        values["endpoints"] = tuple(
            Endpoint(transport, bytes.fromhex(address), port)
            for transport, address, port in values.get("endpoints", ())
        )
        lease = LeaseConfig(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("the stored session cannot be resumed: %s", error)
        return None
    return Resume(lease.session_id, lease.ticket, lease)

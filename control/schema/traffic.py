"""What goes through the tunnel now, and what went through."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flow:
    """One TCP connection, UDP mapping or ping session of a client.

    From the client service: one of its host's sockets that use the tunnel.
    There `peer_id` and `label` are the program's name (`?` when it is not
    known), `age` counts from when it was first seen, and `from_tunnel` is what
    the program received.
    """

    id: int
    peer_id: str
    label: str
    protocol: str
    """`tcp`, `udp`, `icmp`."""
    state: str
    source: str
    destination: str
    """`host:port`, of pings the address alone; IPv6 in brackets; `*` for a UDP mapping with many
    remotes."""
    age: float
    idle: float
    from_tunnel_bytes: int
    to_tunnel_bytes: int
    from_tunnel_rate: float = 0.0
    to_tunnel_rate: float = 0.0
    device: str | None = None
    """The interface its socket is bound to."""
    local: str | None = None
    """The local address it left by."""
    pid: int | None = None
    """From the client: the process that holds it."""
    rtt_ms: float | None = None
    """From the client, with TCP; likewise the retransmissions."""
    retransmits: int | None = None
    counted: bool = True
    """Whether its bytes are known; the client's kernel does not count those of UDP."""
    name: str = ""
    """From the gateway: the name that the device had asked for and been told the destination's
    address before it opened this; empty where it is not known, as while `privacy.names` is off."""


@dataclass(frozen=True, slots=True)
class Flows:
    """A page of flows, and how many there were before the limit."""

    total: int
    flows: list[Flow]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through in the last minutes, as the service remembers it: since its start."""

    interval: float
    """Seconds of one sample."""
    newest: int
    """The number of the newest sample; it grows by one each interval, so that who draws several
    as one column can always begin with the same."""
    from_tunnel: list[int]
    """Bytes in each interval, the oldest first; the newest is the last whole one."""
    to_tunnel: list[int]
    peer: str | None = None
    """Whose it is, by id; None: everybody's."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one device used in one stretch of time, in bytes of IP packets with their headers."""

    peer_id: str
    label: str
    period: str
    """`2026-11-27T14:00+01:00` (an hour), `2026-11-27`, `2026-11`, by the gateway's calendar; empty
    in a row for all of the time."""
    begins_at: float
    """Unix time; 0 in a row for all that there ever was."""
    from_tunnel_bytes: int
    """What the device sent, whatever became of it."""
    to_tunnel_bytes: int
    """What was sent to it, also what it did not get and was sent again."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What devices have used, up to now."""

    by: str
    """`device`, `hour`, `day` or `month`."""
    since: float
    """When the first hour or day begins that counts, Unix time; 0: all that there ever was."""
    rows: list[UsageRow]
    """The latest last; by device, who used most first."""
    from_tunnel_bytes: int
    """The sum of all rows, also of those that are left out; likewise the next."""
    to_tunnel_bytes: int
    left_out: int = 0
    """Earlier rows that the limit left no room for."""
    today: str = ""
    """The day that it is for the gateway, `2026-11-27`: whoever asks may have another."""

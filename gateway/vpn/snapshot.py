"""What an operating system tells about its interfaces, as values.

The sources (`linux`, `android`) fill these in; `classify` judges them. Nothing
here does input or output, so the judgement can be tested on written tables.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

INET = 4
INET6 = 6

IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_POINTOPOINT = 0x10
IFF_RUNNING = 0x40

MAX_INTERFACES = 1024
"""More are not looked at: a table that long is not a phone's or a laptop's."""
MAX_ADDRESSES = 256
"""Of one interface."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address of an interface."""

    packed: bytes
    """4 or 16 bytes."""
    prefix: int
    usable: bool = True
    """False while it may not be a source: tentative, or a duplicate (RFC 4862)."""

    @property
    def version(self) -> int:
        return INET if len(self.packed) == 4 else INET6

    @property
    def scoped(self) -> bool:
        """Loopback, link-local and unspecified addresses reach no further than the link."""
        address = ipaddress.ip_address(self.packed)
        return address.is_loopback or address.is_link_local or address.is_unspecified

    @property
    def network(self) -> bytes:
        """The prefix, with the host bits cleared."""
        bits = len(self.packed) * 8
        mask = ((1 << self.prefix) - 1) << (bits - self.prefix)
        return (int.from_bytes(self.packed, "big") & mask).to_bytes(len(self.packed), "big")

    def __str__(self) -> str:
        return str(ipaddress.ip_address(self.packed))


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface."""

    index: int
    name: str
    flags: int
    kind: str = ""
    """The kernel's name of its driver (`tun`, `wireguard`, `veth`...), where it is told."""
    addresses: tuple[Address, ...] = ()
    port: bool = False
    """Whether it belongs to a bridge or bond, which has the addresses that count."""

    @property
    def loopback(self) -> bool:
        return bool(self.flags & IFF_LOOPBACK)

    @property
    def running(self) -> bool:
        """Up, and with a carrier: for a tunnel device, held open by its program."""
        return self.flags & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING

    def sources(self, version: int) -> tuple[Address, ...]:
        """The addresses of a family that Internet traffic may carry as its source."""
        return tuple(
            a for a in self.addresses if a.version == version and a.usable and not a.scoped
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All interfaces at one moment, and where this process's own traffic would go."""

    interfaces: tuple[Interface, ...] = ()
    default: dict[int, int] = field(default_factory=dict)
    """Per family, the index of the interface that takes all Internet traffic; absent if none."""
    reaches: frozenset[tuple[int, int]] = frozenset()
    """(family, index) of those through which a socket tied to them can reach the Internet."""
    elsewhere: frozenset[int] = frozenset()
    """Indexes that have a default route which the rules do not let this process use."""

    def named(self, name: str) -> Interface | None:
        return next((i for i in self.interfaces if i.name == name), None)

    def indexed(self, index: int) -> Interface | None:
        return next((i for i in self.interfaces if i.index == index), None)


@dataclass(frozen=True, slots=True)
class Attached:
    """What a client must not reach through us: this host, and networks outside the VPN."""

    own: tuple[bytes, ...] = ()
    """Every address of this host, on any interface."""
    networks: tuple[tuple[bytes, int], ...] = ()
    """(prefix, length) of each network attached to an interface other than the VPN and loopback."""
    link_local: tuple[bytes, ...] = ()
    """The addresses by which this host is reached where it has no other: on a cable, say."""


def attached(snapshot: Snapshot, vpn_index: int | None) -> Attached:
    """Collect what `Attached` names. Loopback is not listed: policy knows it as such."""
    own: dict[bytes, None] = {}
    networks: dict[tuple[bytes, int], None] = {}
    alone: dict[bytes, None] = {}
    for interface in snapshot.interfaces:
        if interface.index != vpn_index and _on_link_only(interface):
            alone.update((a.packed, None) for a in interface.addresses if a.usable)
        for address in interface.addresses:
            own[address.packed] = None
            if interface.index != vpn_index and not interface.loopback:
                networks[(address.network, address.prefix)] = None
    return Attached(tuple(own), tuple(networks), tuple(alone))


def _on_link_only(interface: Interface) -> bool:
    """A network of hosts, on which this one has link-local addresses and no others."""
    alone = not interface.loopback and not interface.port and interface.running
    return (
        alone
        and not interface.flags & IFF_POINTOPOINT
        and all(address.scoped for address in interface.addresses)
    )

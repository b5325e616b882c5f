"""Devices that come by a WireGuard app."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WireguardConfig:
    """A device for a WireGuard app that was made just now; not to be had again."""

    id: str
    """Of the device, once it is let in; empty for an invitation."""
    label: str
    text: str
    """What the app's file or QR code holds. It has the private key, unless the device has it."""
    tunnel: str
    """A name that every app takes for the tunnel: for the file's name."""
    endpoint: str
    """Where the app will look for the gateway."""
    expires_in: float
    """Seconds within which it has to be used for the first time."""


@dataclass(frozen=True, slots=True)
class WireguardDevice:
    """A device that comes by a WireGuard app."""

    id: str
    label: str
    key: str
    """Public, as the apps show it; empty where a device is invited to bring its own."""
    state: str
    """`offered` (made, not used yet), `invited` (for the next key), `asking`, `connected`, `quiet`
    (let in; no session now)."""
    ipv4: str
    ipv6: str
    told: str
    """Where its config says the gateway is."""
    endpoint: str | None = None
    """Where it was heard last."""
    handshake_age: float | None = None
    """Seconds since the latest handshake; None before the first since the gateway's start."""
    received_bytes: int = 0
    """Datagrams of the device, as `wg show` counts them; likewise the other."""
    sent_bytes: int = 0
    expires_in: float | None = None
    """Seconds in which an unused config is forgotten."""
    renews: str | None = None
    """The id of the device that this will be, once its new key is used."""
    asking: list[str] = field(default_factory=list)
    """The keys that ask to be the invited device."""


@dataclass(frozen=True, slots=True)
class WireguardTrouble:
    """Why a device that comes by a WireGuard app is not there."""

    cause: str
    """`shared`, `clock`, `unconfirmed`, `endpoint`, `gateway_key`, `unknown_key`, `revoked` or
    `silence`."""
    device: str | None
    """Its id; None where no more than an address is known."""
    found: str
    advice: str


@dataclass(frozen=True, slots=True)
class Wireguard:
    """The gateway's WireGuard side."""

    key: str
    """The gateway's public key."""
    port: int
    """0 where it is off."""
    listen: list[str]
    """Empty until there is a device."""
    devices: list[WireguardDevice]
    troubles: list[WireguardTrouble] = field(default_factory=list)
    """At most one a device or stranger, the likeliest first."""

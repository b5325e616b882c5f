"""What a WireGuard app is given: the text of a config file, which a QR code holds as well.

The writer keeps to what all of the official apps and wg-quick take: no blanks, no
comments, lines in one order, each key once, and DNS always (without it an app goes on
asking a resolver that it can no longer reach). The reader is as strict as the
strictest app: an unknown key is an error, as Android's, Apple's and Windows' parsers
have it.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from sealing.records import KEY_SIZE
from wireguard.constants import MTU

EVERYTHING = ("0.0.0.0/0", "::/0")
MAX_NAME = 15
"""Characters of a tunnel's name: Linux's bound for an interface."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_=+.-]+")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


class ProfileError(ValueError):
    """A config text that an app would not take; the text says why."""


def spell_key(key: bytes) -> str:
    """A key as the apps show it."""
    return base64.b64encode(key).decode()


def parse_key(text: str) -> bytes:
    """The reverse of `spell_key`, as strict as the apps. Raises ProfileError."""
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE or spell_key(key) != text:
        raise ProfileError("a key is 44 characters, the last of them =")
    return key


def short_key(key: bytes) -> str:
    """A key for people to compare with what their app shows: `xTIBAA...pz4g=`."""
    text = spell_key(key)
    return f"{text[:6]}...{text[-5:]}"


def tunnel_name(label: str) -> str:
    """A name that every app takes for a tunnel, made of a device's label."""
    name = _NOT_IN_NAMES.sub("-", label).strip("-.")[:MAX_NAME].rstrip("-.")
    return name or "vpnshare"


def spell_endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_endpoint(text: str) -> tuple[str, int]:
    """(host, port) of `host:port` or `[v6]:port`. Raises ProfileError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ProfileError(f"{text!r} is no HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            IPv6Address(host)
        except ValueError:
            raise ProfileError(f"{host!r} is no IPv6 address") from None
        if "%" in host:
            raise ProfileError("an address with a zone works on one device only")
    elif not _HOST_NAME.fullmatch(host) or len(host) > 253:
        raise ProfileError(f"{host!r} is neither an address nor a host name")
    return host, int(port)


@dataclass(frozen=True, slots=True)
class Profile:
    """One tunnel of an app."""

    private_key: bytes | None
    """None where the owner of the device puts in one of his own."""
    ipv4: bytes
    ipv6: bytes
    dns: tuple[bytes, ...]
    gateway_key: bytes
    host: str
    port: int
    mtu: int = MTU
    keepalive: int = 0
    """Seconds; 0 is off."""
    psk: bytes | None = None
    allowed: tuple[str, ...] = EVERYTHING
    """What goes through the tunnel."""

    def text(self) -> str:
        """The config, without a newline at its end."""
        key = "" if self.private_key is None else spell_key(self.private_key)
        lines = [
            "[Interface]",
            f"PrivateKey={key}",
            f"Address={ip_address(self.ipv4)},{ip_address(self.ipv6)}",
            f"DNS={','.join(str(ip_address(server)) for server in self.dns)}",
            f"MTU={self.mtu}",
            "[Peer]",
            f"PublicKey={spell_key(self.gateway_key)}",
            f"AllowedIPs={','.join(self.allowed)}",
            f"Endpoint={spell_endpoint(self.host, self.port)}",
        ]
        if self.psk is not None:
            lines.insert(7, f"PresharedKey={spell_key(self.psk)}")
        if self.keepalive:
            lines.append(f"PersistentKeepalive={self.keepalive}")
        return "\n".join(lines)


_SECTIONS = {
    "interface": frozenset({"privatekey", "address", "dns", "mtu"}),
    "peer": frozenset({
        "publickey", "presharedkey", "allowedips", "endpoint", "persistentkeepalive",
    }),
}  # fmt: skip
_OPTIONAL = frozenset({"presharedkey", "persistentkeepalive"})


def parse_profile(text: str) -> Profile:
    """The profile of a text like `Profile.text` writes, from any hand. Raises ProfileError."""
    found: dict[str, dict[str, str]] = {}
    section: dict[str, str] | None = None
    known: frozenset[str] = frozenset()
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        if line.startswith("["):
            name = line.strip("[]").lower()
            if line.lower() != f"[{name}]" or name not in _SECTIONS or name in found:
                raise ProfileError(f"line {number}: {name!r} is no section, or is there twice")
            section, known = found.setdefault(name, {}), _SECTIONS[name]
            continue
        key, equals, value = line.partition("=")
        key = key.strip().lower()
        if section is None or not equals or key not in known or key in section:
            raise ProfileError(f"line {number}: {key!r} does not belong here")
        section[key] = value.strip()
    for name, keys in _SECTIONS.items():
        for key in sorted(keys - _OPTIONAL - found.get(name, {}).keys()):
            raise ProfileError(f"[{name}] has no {key}")
    interface, peer = found["interface"], found["peer"]
    host, port = parse_endpoint(peer["endpoint"])
    ipv4, ipv6 = _addresses(interface["address"])
    return Profile(
        private_key=parse_key(interface["privatekey"]) if interface["privatekey"] else None,
        ipv4=ipv4,
        ipv6=ipv6,
        dns=tuple(_address(part).packed for part in interface["dns"].split(",")),
        gateway_key=parse_key(peer["publickey"]),
        host=host,
        port=port,
        mtu=_number(interface["mtu"], 576, 65535),
        keepalive=_number(peer.get("persistentkeepalive", "0"), 0, 65535),
        psk=parse_key(peer["presharedkey"]) if "presharedkey" in peer else None,
        allowed=tuple(_network(part) for part in peer["allowedips"].split(",")),
    )


def _addresses(text: str) -> tuple[bytes, bytes]:
    """One IPv4 and one IPv6 address, with or without the mask of a single host."""
    parts = [part.strip() for part in text.split(",")]
    hosts = [_address(part.removesuffix("/32").removesuffix("/128")) for part in parts]
    v4 = [host.packed for host in hosts if isinstance(host, IPv4Address)]
    v6 = [host.packed for host in hosts if isinstance(host, IPv6Address)]
    if len(v4) != 1 or len(v6) != 1:
        raise ProfileError("Address is one of IPv4 and one of IPv6")
    return v4[0], v6[0]


def _address(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text.strip())
    except ValueError:
        raise ProfileError(f"{text!r} is no address") from None


def _network(text: str) -> str:
    try:
        return str(ip_network(text.strip()))
    except ValueError:
        raise ProfileError(f"{text!r} is no network") from None


def _number(text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
        raise ProfileError(f"{text!r} is no number from {least} to {most}")
    return int(text)

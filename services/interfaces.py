"""The network interfaces that a setting may name: which are there now, with a word about each.

An interface may come later than the setting that names it (a VPN is switched on,
a cable is put in), so a name that nobody has now is taken, and told of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from control.schema import Suggestion
from gateway.vpn.classify import tunnel_kind
from gateway.vpn.snapshot import INET, INET6, Interface
from services.config import LOCAL_INTERFACES, VPN_INTERFACE

MOST = 6
"""Interfaces that a sentence names; the rest are counted."""
_KINDS = {"tun": "tunnel", "wireguard": "WireGuard", "ppp": "PPP", "ipsec": "IPsec"}


def look() -> tuple[Interface, ...]:
    """All interfaces of this host now; none when they cannot be read."""
    from gateway.vpn.detector import system_source

    source = system_source()
    try:
        return source.snapshot().interfaces
    except OSError:
        return ()
    finally:
        source.stop()


def nameable(interfaces: Sequence[Interface]) -> list[Interface]:
    """Those that an owner may mean: tunnels first, and what runs before what is down."""
    found = [each for each in interfaces if not each.loopback and not each.port]
    return sorted(found, key=lambda each: (tunnel_kind(each) is None, not each.running, each.index))


def there_are(interfaces: Sequence[Interface]) -> str:
    """`there are: tun0, wlan0 and 2 more`."""
    names = [each.name for each in nameable(interfaces)]
    if not names:
        return "there is none that can be named"
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"there {'is' if len(names) == 1 else 'are'}: {', '.join(names[:MOST])}{more}"


def sentence(interfaces: Sequence[Interface]) -> str:
    """The same, as a sentence of its own."""
    words = there_are(interfaces)
    return f"{words[0].upper()}{words[1:]}."


def about(interface: Interface) -> str:
    """What an owner knows an interface by: `WireGuard, 10.8.0.2`."""
    kind = _KINDS.get(tunnel_kind(interface) or "", "")
    addresses = interface.sources(INET) or interface.sources(INET6)
    words = (
        kind,
        "" if interface.running else "down",
        str(addresses[0]) if addresses else "no address",
    )
    return ", ".join(filter(None, words))


def suggestions(key: str, value: Any, interfaces: Sequence[Interface]) -> list[Suggestion]:
    """What the setting `key`, which is `value` now, may be; none for a setting of other things."""
    if key == VPN_INTERFACE:
        found = [Suggestion("", "find the VPN by itself")]
        chosen = [value] if value else []
    elif key == LOCAL_INTERFACES:
        found = [Suggestion("", "all private networks"), Suggestion("none", "no network")]
        chosen = [name for name in value if name != "none"]
    else:
        return []
    found += [Suggestion(each.name, about(each)) for each in nameable(interfaces)]
    known = {each.value for each in found}
    return found + [Suggestion(name, "not there now") for name in chosen if name not in known]


def note(key: str, value: Any, interfaces: Sequence[Interface]) -> str:
    """What becomes of a name that no interface has now; empty where nothing is to be said."""
    named = key == VPN_INTERFACE and value and interfaces
    if not named or any(each.name == value for each in interfaces):
        return ""
    return f"There is no interface {value} now; {there_are(interfaces)}. Sharing waits for it."

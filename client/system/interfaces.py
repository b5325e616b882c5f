"""What a network interface is: a phone's USB tethering, a radio, another link, or none of these.

Read from sysfs, without sending anything. A driver says more than a name: a phone's tethering
is `usb0`, `rndis0`, `ncm0` or `enx...`, and a wired adapter may be called like that, too. Where
sysfs cannot be read the name alone has to do.

Sources: Documentation/ABI/testing/sysfs-class-net; linux/if_arp.h (ARPHRD_ETHER); the `driver`
link of a device, drivers/net/usb of Linux.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path


class Nature(Enum):
    """Behind what kind of link a gateway may sit."""

    USB = "usb"
    """Ethernet over USB as phones speak it when they share their network by cable."""
    WIRELESS = "wireless"
    WIRED = "wired"
    """Any other link to neighbours: a cable, Bluetooth, a bridge with one of these in it."""
    NONE = "none"
    """No link on which a gateway is the router: a tunnel, loopback, a modem, the bridge of
    containers or of virtual machines."""


TETHERING = frozenset({"rndis_host", "cdc_ncm", "cdc_ether", "cdc_eem", "cdc_subset", "ipheth"})
"""Drivers of phones that share their network over USB."""
MODEMS = frozenset({"qmi_wwan", "cdc_mbim", "sierra_net", "huawei_cdc_ncm"})
"""Drivers of mobile modems: the router behind one is the provider's."""
_ETHERNET = "1"
"""ARPHRD_ETHER. Tunnels, PPP and WireGuard are of other types."""
_VIRTUAL = ("lo", "vshp", "tun", "tap", "wg", "ppp", "docker", "podman", "cni", "virbr", "lxcbr")
"""Beginnings of names, for where sysfs is silent."""


def nature(name: str, system: Path = Path("/")) -> Nature:
    """What the interface is. `system` is the root of sysfs."""
    if not name or "/" in name or name.startswith("."):
        return Nature.NONE
    folder = system / "sys/class/net" / name
    if not folder.exists():
        return Nature.NONE if name.startswith(_VIRTUAL) else Nature.WIRED
    words = _words(folder / "uevent")
    driver = _driver(folder)
    if _text(folder / "type") not in ("", _ETHERNET) or (folder / "tun_flags").exists():
        return Nature.NONE
    if name == "lo" or words.get("DEVTYPE") == "wwan" or driver in MODEMS:
        return Nature.NONE
    if (folder / "bridge").exists():
        return _bridge(folder, system)
    # A radio first: many hang on USB.
    if (folder / "wireless").exists() or (folder / "phy80211").exists():
        return Nature.WIRELESS
    return Nature.USB if driver in TETHERING else Nature.WIRED


def _bridge(folder: Path, system: Path) -> Nature:
    """A bridge is as good as what is real in it; one of containers has virtual ports alone."""
    try:
        ports = sorted(port.name for port in (folder / "brif").iterdir())
    except OSError:
        ports = []
    real = any((system / "sys/class/net" / port / "device").exists() for port in ports)
    return Nature.WIRED if real else Nature.NONE


def _driver(folder: Path) -> str:
    try:
        return (folder / "device/driver").resolve(strict=True).name
    except OSError:
        return ""


def _words(path: Path) -> dict[str, str]:
    """The assignments of an uevent file."""
    return dict(line.split("=", 1) for line in _text(path).splitlines() if "=" in line)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""

"""What hangs on this machine's USB, as sysfs tells it: no phone is asked, no right is needed.

A phone is known by the interface of its debugging. Without that one it is known by what phones
have for a cable, file transfer (MTP, PTP) or tethering, together with a maker of phones: a
camera has the first, a memory stick of the same maker has neither.

Sources: Linux, Documentation/ABI/stable/sysfs-bus-usb; USB class codes of usb.org (06/01/01
still image; e0/01/03 and ef/04/01 RNDIS; 02/0d NCM); vendor ids: usb.ids.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from reach.cable import MAX_MODEL, MAX_PHONES, is_serial
from reach.usb_pipes import INTERFACES
from vshp.labels import clean_label

DEVICES = "sys/bus/usb/devices"
MAX_DEVICES = 256
"""Devices looked at; USB allows 127 on each bus."""
MAX_TEXT = 512
"""Bytes of one attribute; a string descriptor has 126 characters."""
MAX_PROCESSES = 4096
"""Processes looked at for who holds a phone."""

_PHONE_MAKERS = frozenset((
    0x0421, 0x0489, 0x04E8, 0x05C6, 0x0BB4, 0x0E8D, 0x0FCE, 0x1004, 0x109B, 0x12D1, 0x17EF,
    0x18D1, 0x19D2, 0x1BBB, 0x1F3A, 0x1FC9, 0x2207, 0x22B8, 0x22D9, 0x2717, 0x2916, 0x2A45,
    0x2A47, 0x2A70, 0x2AE5, 0x2D95, 0x2E04, 0x339B,
))  # fmt: skip
_CABLE_KINDS = frozenset(((0x06, 0x01, 0x01), (0xE0, 0x01, 0x03), (0xEF, 0x04, 0x01)))
_NCM = (0x02, 0x0D)


@dataclass(frozen=True, slots=True)
class UsbPhone:
    """A phone on the bus."""

    serial: str
    """Its own, or where it hangs when that is none or another's, too."""
    model: str
    bus: int
    address: int
    debugging: bool
    """Whether it has the interface of its debugging now."""
    taken: bool
    """Whether some program has claimed that interface."""

    def node(self, system: Path) -> Path:
        """The file that it is opened by."""
        return system / f"dev/bus/usb/{self.bus:03}/{self.address:03}"


def phones(system: Path = Path("/")) -> list[UsbPhone]:
    """Phones on the bus, in the order of their places. `system` is the root of sysfs."""
    folder = system / DEVICES
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    inner: dict[str, list[str]] = {}
    for name in names[: 16 * MAX_DEVICES]:
        device, colon, _ = name.partition(":")
        if colon:
            inner.setdefault(device, []).append(name)
    found: dict[str, UsbPhone] = {}
    for device in list(inner)[:MAX_DEVICES]:
        phone = _phone(folder, device, inner[device])
        if phone is not None and len(found) < MAX_PHONES:
            serial = phone.serial if phone.serial not in found else device
            found[serial] = UsbPhone(
                serial, phone.model, phone.bus, phone.address, phone.debugging, phone.taken
            )
    return list(found.values())


def _phone(folder: Path, device: str, interfaces: list[str]) -> UsbPhone | None:
    kinds = {name: _kind(folder / name) for name in interfaces}
    debugging = next((name for name, kind in kinds.items() if kind in INTERFACES), None)
    here = folder / device
    if debugging is None:
        has_cable = any(kind in _CABLE_KINDS or kind[:2] == _NCM for kind in kinds.values())
        if not has_cable or _number(here / "idVendor", 16) not in _PHONE_MAKERS:
            return None
    serial = _text(here / "serial")
    driver = ""
    if debugging is not None:
        with contextlib.suppress(OSError):
            driver = os.readlink(folder / debugging / "driver").rpartition("/")[2]
    return UsbPhone(
        serial if is_serial(serial) else device,
        clean_label(_text(here / "product"), MAX_MODEL),
        _number(here / "busnum", 10),
        _number(here / "devnum", 10),
        debugging is not None,
        bool(driver),
    )


def holder(phone: UsbPhone, system: Path = Path("/")) -> str:
    """Which program has opened a phone: `NAME (pid N)`; empty when that cannot be seen."""
    node = str(phone.node(Path("/")))
    own = os.getpid()
    with contextlib.suppress(OSError):
        for process in sorted(os.listdir(system / "proc"))[:MAX_PROCESSES]:
            if not process.isdecimal() or int(process) == own:
                continue
            here = system / "proc" / process
            with contextlib.suppress(OSError):
                for fd in os.listdir(here / "fd"):
                    if os.readlink(here / "fd" / fd) == node:
                        return f"{clean_label(_text(here / 'comm'), 32)} (pid {process})"
    return ""


def _kind(interface: Path) -> tuple[int, int, int]:
    return (
        _number(interface / "bInterfaceClass", 16),
        _number(interface / "bInterfaceSubClass", 16),
        _number(interface / "bInterfaceProtocol", 16),
    )


def _number(path: Path, base: int) -> int:
    """An attribute; -1 for none."""
    try:
        return int(_text(path), base)
    except ValueError:
        return -1


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_TEXT).decode(errors="replace").strip()
    except OSError:
        return ""

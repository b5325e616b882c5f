"""The port to phones on this machine's USB: which there are, and a stream to one's own loopback.

What speaks to the phones is behind it; the rest of the program knows a phone's
serial number, its state, and the reasons below for there being none to use.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

MAX_PHONES = 16
"""Phones listed."""
MAX_MODEL = 64
"""Characters of a model's name."""

CABLE_PATIENCE = 2.0
"""Seconds for the phones on the cable to be listed."""

PHONE_SHELL = "adb shell"
"""How a person has a command of Android's run from the machine at the other end of the cable."""

_SERIAL = re.compile(r"[A-Za-z0-9._-]{1,64}")


class PhoneState(StrEnum):
    """What may be done with a phone; the nearest to use first."""

    READY = "ready"
    NOT_ALLOWED = "not_allowed"
    """The person at the phone has not allowed this machine."""
    OFFLINE = "offline"
    """It hangs there, and does not answer."""
    HELD = "held"
    """Another program has it; `detail` says which."""
    NO_RIGHT = "no_right"
    """This user may not open it."""
    UNSUPPORTED = "unsupported"
    """Nothing is installed here that could speak to it."""
    DEBUGGING_OFF = "debugging_off"
    """It has nothing that could be spoken to."""


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone on the cable."""

    serial: str
    state: PhoneState
    model: str = ""
    detail: str = ""
    """What belongs into the sentence about it (`advice`)."""


class CableError(OSError):
    """The phone cannot be reached by the cable: an errno, a text that says why, and which
    reason of `LACKS` that is."""

    def __init__(self, number: int, text: str, reason: str = "phone_offline") -> None:
        super().__init__(number, text)
        self.reason = reason


class Cable(Protocol):
    """What speaks to the phones. Every method is called on one loop."""

    async def phones(self) -> list[Phone]:
        """Phones now, MAX_PHONES at most. Raises OSError when nothing here speaks to phones."""

    async def open_stream(self, serial: str, port: int) -> socket.socket:
        """A connected, non-blocking stream socket to the phone's 127.0.0.1:`port`.

        Raises OSError when nothing here speaks to phones, CableError (an OSError) when the
        phone is gone or nobody listens there.
        """

    async def track(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever a phone comes, goes or changes state; until cancelled.

        Costs nothing while nothing happens. Raises OSError when nothing here tells.
        """

    def counted(self) -> dict[str, int]:
        """What was counted so far, by the counters' names."""

    async def forget(self) -> None:
        """Remove the key that phones know this machine by, and end what it has opened.

        Raises OSError.
        """

    async def close(self) -> None:
        """Give back what is held; streams that are open end."""


WITHOUT_USB_LIBRARY = "phones on a cable are reached by an adb server only"
"""What is missed without pyusb."""
UDEV_RULE = (
    'SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", ENV{ID_USB_INTERFACES}=="*:ff4201:*", '
    'TAG+="uaccess"'
)
"""Gives the phones to whoever sits at this machine (systemd-logind)."""
UDEV_FILE = "/etc/udev/rules.d/70-vpnshare.rules"
"""Before 73-seat-late.rules, which hands them out."""

OTHER_KEY = (
    "An adb server that runs here has a key of its own; phones that it serves go on knowing that."
)
"""What forgetting the key does not change."""

STATES = {
    PhoneState.READY: "ready",
    PhoneState.NOT_ALLOWED: "asks its owner",
    PhoneState.OFFLINE: "does not answer",
    PhoneState.HELD: "in use by another program",
    PhoneState.NO_RIGHT: "not this user's to open",
    PhoneState.UNSUPPORTED: "a library is missing",
    PhoneState.DEBUGGING_OFF: "USB debugging is off",
}
"""The states in words."""

LACKS = {
    "phone_not_allowed": (
        "Unlock the phone, and press Allow there (USB debugging). That grants this device all "
        "that a computer may do with a phone; take it back with: vpnshare usb forget"
    ),
    "phone_offline": (
        "The phone on USB does not answer. Unplug it and plug it in again; if that does not "
        "help, turn USB debugging off and on there."
    ),
    "phone_garbled": (
        "The phone on USB does not keep to the protocol of USB debugging. Unplug it and plug it in "
        "again; if that does not help, restart the phone."
    ),
    "phone_held": (
        "Another program speaks to the phone on USB. End it, or have adb's server run, which "
        "this device then uses."
    ),
    "phone_no_right": (
        f"This user may not open the phone on USB. As root, write into {UDEV_FILE}: {UDEV_RULE}, "
        "then plug the phone in again."
    ),
    "phone_closed": (
        "The phone is on the cable, and nobody listens on it. Share there: ./vpnshare up"
    ),
    "usb_key": (
        "The key that phones know this device by cannot be used. Make another: vpnshare usb forget"
    ),
    "usb_absent": (
        "Nothing here can speak to a phone on USB: neither does an adb server answer, nor are "
        "pyusb and libusb installed. What is missing is named by: vpnshare doctor; libusb alone, "
        "on Debian: apt install libusb-1.0-0"
    ),
    "phone_debugging_off": (
        "A phone is on the cable, and USB debugging is off on it. There: Settings > About phone, "
        "tap Build number seven times, then Developer options > USB debugging."
    ),
    "phone_absent": (
        "No phone is seen on USB. A cable that only charges brings nothing: take another, or "
        "another port, and turn USB debugging on on the phone."
    ),
}
"""Why no phone on the cable can be used: stable names, and sentences for people."""

_LACK_OF = {
    PhoneState.NOT_ALLOWED: "phone_not_allowed",
    PhoneState.OFFLINE: "phone_offline",
    PhoneState.HELD: "phone_held",
    PhoneState.NO_RIGHT: "phone_no_right",
    PhoneState.UNSUPPORTED: "usb_absent",
    PhoneState.DEBUGGING_OFF: "phone_debugging_off",
}
_NEARNESS = {state: place for place, state in enumerate(PhoneState)}


def is_serial(text: str) -> bool:
    """Whether `text` may be a phone's serial number."""
    return _SERIAL.fullmatch(text) is not None


def nearest(phones: list[Phone]) -> Phone | None:
    """The phone that is nearest to being used."""
    return min(phones, key=lambda phone: _NEARNESS[phone.state], default=None)


def lack(phones: list[Phone]) -> str:
    """The reason of `LACKS` that none of these can be used; empty when one can."""
    phone = nearest(phones)
    return "phone_absent" if phone is None else _LACK_OF.get(phone.state, "")


def advice(phone: Phone) -> str:
    """What to do about a phone, as one sentence; empty when it is ready."""
    reason = _LACK_OF.get(phone.state)
    if reason is None:
        return ""
    return f"{LACKS[reason]} ({phone.detail})" if phone.detail else LACKS[reason]

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

PHONE_SHELL = "adb shell"
"""How a person has a command of Android's run from the machine at the other end of the cable."""

_SERIAL = re.compile(r"[A-Za-z0-9._-]{1,64}")


class PhoneState(StrEnum):
    """What may be done with a phone."""

    READY = "ready"
    NOT_ALLOWED = "not_allowed"
    """The person at the phone has not allowed this machine."""
    OFFLINE = "offline"
    """It hangs there, and does not answer."""


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone on the cable."""

    serial: str
    state: PhoneState
    model: str = ""


class CableError(OSError):
    """The phone cannot be reached by the cable; the text says why."""


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


LACKS = {
    "usb_absent": (
        "No adb server answers on this device, and USB needs one. Install it (apt install adb), "
        "start it (adb start-server), and turn USB debugging on on the phone."
    ),
    "phone_absent": (
        "No phone is seen on USB. Does the cable carry data, and is USB debugging on on the phone?"
    ),
    "phone_not_ready": (
        "A phone on USB does not let this device in. Unlock the phone, and allow USB debugging "
        "on its screen."
    ),
}
"""Why no phone on the cable can be used: stable names, and sentences for people."""


def is_serial(text: str) -> bool:
    """Whether `text` may be a phone's serial number."""
    return _SERIAL.fullmatch(text) is not None


def lack(phones: list[Phone]) -> str:
    """The reason of `LACKS` that none of these can be used; empty when one can."""
    if not phones:
        return "phone_absent"
    return "" if any(phone.state is PhoneState.READY for phone in phones) else "phone_not_ready"

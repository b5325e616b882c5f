"""This machine's USB (a `bus.Bus`): sysfs to look, the kernel's news, pyusb to speak."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reach import sysfs, uevents
from reach.bus import Pipes
from reach.cable import CableError, Phone, PhoneState, advice, lack
from reach.sysfs import UsbPhone
from reach.usb_pipes import UsbPipes, library


class UsbBus:
    """See `bus.Bus`."""

    def __init__(self, backend: Any = None, system: Path = Path("/")) -> None:
        """`backend` stands for libusb, `system` is the root of sysfs, procfs and /dev."""
        self._backend = backend
        self._system = system

    def usable(self) -> bool:
        return library(self._backend) is not None

    def phones(self) -> list[Phone]:
        return [self._seen(phone) for phone in sysfs.phones(self._system)]

    def open(self, serial: str) -> Pipes:
        found = next((p for p in sysfs.phones(self._system) if p.serial == serial), None)
        if found is None:
            raise CableError(errno.ENODEV, "the phone was unplugged", "phone_absent")
        backend = library(self._backend)
        if backend is None:
            raise _refused(errno.ENOSYS, Phone(serial, PhoneState.UNSUPPORTED))
        try:
            return UsbPipes(backend, found.bus, found.address)
        except CableError:
            raise
        except OSError as error:
            state, detail = _refusal(error), ""
            if state is PhoneState.HELD:
                detail = sysfs.holder(found, self._system)
            phone = Phone(serial, state, found.model, detail)
            raise _refused(error.errno or errno.EIO, phone) from error

    async def track(self, changed: Callable[[], None]) -> None:
        await uevents.track(changed)

    def _seen(self, phone: UsbPhone) -> Phone:
        state, detail = PhoneState.READY, ""
        node = phone.node(self._system)
        if not phone.debugging:
            state = PhoneState.DEBUGGING_OFF
        elif phone.taken:
            state, detail = PhoneState.HELD, sysfs.holder(phone, self._system)
        elif node.exists() and not os.access(node, os.R_OK | os.W_OK):
            state = PhoneState.NO_RIGHT
        elif not self.usable():
            state = PhoneState.UNSUPPORTED
        return Phone(phone.serial, state, phone.model, detail)


def _refused(number: int, phone: Phone) -> CableError:
    return CableError(number, advice(phone), lack([phone]))


def _refusal(error: OSError) -> PhoneState:
    match error.errno:
        case errno.EBUSY:
            return PhoneState.HELD
        case errno.EACCES | errno.EPERM:
            return PhoneState.NO_RIGHT
        case _:
            return PhoneState.OFFLINE

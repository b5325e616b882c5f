"""The bulk pipes of a phone's debugging interface, by `pyusb` (libusb), which is optional.

No kernel driver and no configuration is touched: the interface has no driver on
Linux, and a phone's other interfaces stay as they are.
"""

from __future__ import annotations

import array
import contextlib
import errno
from typing import Any

from reach.cable import CableError

INTERFACES = ((0xFF, 0x42, 0x01), (0xDC, 0x02, 0x01))
"""Class, subclass and protocol of adb's interface; the second is a USB debug cable's."""
_DIRECTION_IN = 0x80
_PACKETS = (64, 512, 1024)
"""What USB 1.1, 2 and 3 allow for a bulk endpoint (USB 2.0, 5.8.3; USB 3.2, 8.12.1)."""


def library(backend: Any = None) -> Any:
    """pyusb's backend: by the system's libusb, or by the one that `libusb-package` brings.

    None where there is neither, or no pyusb.
    """
    if backend is not None:
        return backend
    try:
        import usb.backend.libusb1
    except ImportError:
        return None
    found = usb.backend.libusb1.get_backend()
    if found is not None:
        return found
    try:
        import libusb_package
    except ImportError:
        return None
    return libusb_package.get_libusb1_backend()


class UsbPipes:
    """The pipes of one interface (`bus.Pipes`)."""

    def __init__(self, backend: Any, bus: int, address: int) -> None:
        """Claims the interface of the device at a bus. Raises CableError, or OSError as libusb
        says it: EBUSY when another program has it, EACCES when this user may not."""
        import usb.core
        import usb.util

        self._device: Any = usb.core.find(
            backend=backend, custom_match=lambda d: d.bus == bus and d.address == address
        )
        if self._device is None:
            raise CableError(errno.ENODEV, "the phone was unplugged", "phone_absent")
        self._util = usb.util
        self._timeout: type[OSError] = usb.core.USBTimeoutError
        self._buffers: dict[int, array.array[int]] = {}
        try:
            self._claim()
        except BaseException:
            self.close()
            raise

    def _claim(self) -> None:
        interface = next((i for i in self._device[0] if kind_of(i) in INTERFACES), None)
        if interface is None:
            raise CableError(
                errno.ENODEV, "USB debugging was turned off on the phone", "phone_debugging_off"
            )
        ends = {bool(e.bEndpointAddress & _DIRECTION_IN): e for e in interface}
        if len(ends) != 2 or any(e.wMaxPacketSize not in _PACKETS for e in interface):
            raise CableError(
                errno.EPROTO, "the phone's debugging interface is none", "phone_garbled"
            )
        self.packet_size: int = ends[True].wMaxPacketSize
        self._in: int = ends[True].bEndpointAddress
        self._out: int = ends[False].bEndpointAddress
        self._util.claim_interface(self._device, interface)
        # A phone that was cut off in a transfer gives that up.
        for end in ends.values():
            with contextlib.suppress(OSError):
                self._device.clear_halt(end.bEndpointAddress)

    def read(self, size: int, timeout: float) -> memoryview:
        buffer = self._buffers.get(size)
        if buffer is None:
            # One for headers, and one for payloads of the present size.
            for other in [other for other in self._buffers if other != self.packet_size]:
                del self._buffers[other]
            buffer = self._buffers[size] = array.array("B", bytes(size))
        try:
            got = self._device.read(self._in, buffer, max(1, int(timeout * 1000)))
        except self._timeout as error:
            raise TimeoutError(errno.ETIMEDOUT, "nothing came") from error
        return memoryview(buffer)[:got]

    def write(self, data: bytes | bytearray | memoryview, timeout: float) -> None:
        # An array is sent as it is; of a memoryview pyusb would copy item by item.
        try:
            sent = self._device.write(self._out, array.array("B", bytes(data)), int(timeout * 1000))
        except self._timeout as error:
            raise TimeoutError(errno.ETIMEDOUT, "it was not taken") from error
        if sent != len(data):
            raise TimeoutError(errno.ETIMEDOUT, "it was not taken whole")

    def reset(self) -> None:
        with contextlib.suppress(OSError):
            # Where the phone comes back as another device, that is told as an error.
            self._device.reset()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._util.dispose_resources(self._device)


def kind_of(interface: Any) -> tuple[int, int, int]:
    """Class, subclass and protocol of an interface."""
    return (
        interface.bInterfaceClass,
        interface.bInterfaceSubClass,
        interface.bInterfaceProtocol,
    )

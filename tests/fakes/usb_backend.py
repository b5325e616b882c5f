"""A backend of pyusb's for one emulated phone: below pyusb's API, above the model of two pipes.

No kernel here has a USB bus of its own to test with; so pyusb itself runs, and what it asks of
libusb is answered by `BulkPipes`, with libusb's error numbers.
"""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any, Protocol

import usb.backend
import usb.core

from tests.fakes.adbd import Gone

NO_DEVICE, BUSY, TIMED_OUT, OVERFLOW = -4, -6, -7, -8
"""libusb's own numbers."""


class BulkPipes(Protocol):
    """A phone's two pipes and its port, as `UsbWire` has them."""

    packet_size: int

    def host_out(self, data: bytes, timeout: float) -> int: ...

    def host_in(self, size: int, timeout: float) -> bytes: ...

    def reset(self) -> None: ...


class FakeBackend(usb.backend.IBackend):
    """One phone at bus 1, device 2."""

    def __init__(self, wire: BulkPipes) -> None:
        super().__init__()
        self.wire = wire
        self.refuse: int | None = None
        """The errno that a claim or an open gets."""
        self.claimed = 0
        self.most_claimed = 0
        self.halts_cleared: list[int] = []

    def enumerate_devices(self) -> Any:
        yield "phone"

    def get_device_descriptor(self, dev: Any) -> Any:
        return SimpleNamespace(
            bLength=18, bDescriptorType=1, bcdUSB=0x200, bDeviceClass=0, bDeviceSubClass=0,
            bDeviceProtocol=0, bMaxPacketSize0=64, idVendor=0x18D1, idProduct=0x4EE7,
            bcdDevice=0x440, iManufacturer=1, iProduct=2, iSerialNumber=3, bNumConfigurations=1,
            address=2, bus=1, port_number=1, port_numbers=(1,), speed=3,
        )  # fmt: skip

    def get_configuration_descriptor(self, dev: Any, config: int) -> Any:
        if config:
            raise IndexError
        return SimpleNamespace(
            bLength=9, bDescriptorType=2, wTotalLength=55, bNumInterfaces=2, bConfigurationValue=1,
            iConfiguration=0, bmAttributes=0x80, bMaxPower=250, extra_descriptors=[],
        )  # fmt: skip

    def get_interface_descriptor(self, dev: Any, intf: int, alt: int, config: int) -> Any:
        """The first is for files (MTP), the second is adb's."""
        if intf > 1 or alt or config:
            raise IndexError
        kind = ((6, 1, 1), (255, 0x42, 1))[intf]
        return SimpleNamespace(
            bLength=9, bDescriptorType=4, bInterfaceNumber=intf, bAlternateSetting=0,
            bNumEndpoints=2 * intf, bInterfaceClass=kind[0], bInterfaceSubClass=kind[1],
            bInterfaceProtocol=kind[2], iInterface=5, extra_descriptors=[],
        )  # fmt: skip

    def get_endpoint_descriptor(self, dev: Any, ep: int, intf: int, alt: int, config: int) -> Any:
        if ep > 1 or intf != 1:
            raise IndexError
        return SimpleNamespace(
            bLength=7, bDescriptorType=5, bEndpointAddress=(0x81, 0x01)[ep], bmAttributes=2,
            wMaxPacketSize=self.wire.packet_size, bInterval=0, bRefresh=0, bSynchAddress=0,
            extra_descriptors=[],
        )  # fmt: skip

    def open_device(self, dev: Any) -> str:
        if self.refuse == errno.EACCES:
            raise usb.core.USBError("Access denied", -3, errno.EACCES)
        return "handle"

    def close_device(self, dev_handle: Any) -> None: ...

    def get_configuration(self, dev_handle: Any) -> int:
        return 1

    def set_configuration(self, dev_handle: Any, config_value: int) -> None:
        raise AssertionError("that would take every other interface of the phone away")

    def claim_interface(self, dev_handle: Any, intf: int) -> None:
        assert intf == 1
        if self.refuse is not None:
            raise usb.core.USBError("Resource busy", BUSY, self.refuse)
        self.claimed += 1

    def release_interface(self, dev_handle: Any, intf: int) -> None:
        self.claimed -= 1

    def clear_halt(self, dev_handle: Any, ep: int) -> None:
        self.halts_cleared.append(ep)

    def is_kernel_driver_active(self, dev_handle: Any, intf: int) -> bool:
        return False

    def reset_device(self, dev_handle: Any) -> None:
        self.wire.reset()

    def bulk_write(self, dev_handle: Any, ep: int, intf: int, data: Any, timeout: int) -> int:
        try:
            return self.wire.host_out(data.tobytes(), timeout / 1000)
        except TimeoutError:
            raise usb.core.USBTimeoutError("timed out", TIMED_OUT, errno.ETIMEDOUT) from None
        except Gone:
            raise usb.core.USBError("No such device", NO_DEVICE, errno.ENODEV) from None

    def bulk_read(self, dev_handle: Any, ep: int, intf: int, buff: Any, timeout: int) -> int:
        try:
            got = self.wire.host_in(len(buff), timeout / 1000)
        except TimeoutError:
            raise usb.core.USBTimeoutError("timed out", TIMED_OUT, errno.ETIMEDOUT) from None
        except OverflowError:
            raise usb.core.USBError("Overflow", OVERFLOW, errno.EOVERFLOW) from None
        except Gone:
            raise usb.core.USBError("No such device", NO_DEVICE, errno.ENODEV) from None
        memoryview(buff)[: len(got)] = memoryview(got)
        return len(got)

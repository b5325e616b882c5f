"""What hangs on a machine's USB, as the files of sysfs, procfs and /dev."""

from __future__ import annotations

from pathlib import Path

ADB, MTP, STORAGE, KEYBOARD = (0xFF, 0x42, 1), (6, 1, 1), (8, 6, 0x50), (3, 1, 1)


class Sysfs:
    """A machine's USB as files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.devices = root / "sys/bus/usb/devices"
        self.devices.mkdir(parents=True)

    def plug(
        self, place: str, *interfaces: tuple[int, int, int], address: int = 2, **texts: str
    ) -> None:
        values = {"busnum": "1", "devnum": str(address), "idVendor": "18d1", **texts}
        self._write(self.devices / place, values)
        for number, (kind, sub, protocol) in enumerate(interfaces):
            names = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
            numbers = (f"{n:02x}" for n in (kind, sub, protocol))
            there = self.devices / f"{place}:1.{number}"
            self._write(there, dict(zip(names, numbers, strict=True)))
        node = self.root / f"dev/bus/usb/001/{address:03}"
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch(mode=0o600)

    def take(self, interface: str, process: int | None = None, name: str = "adb") -> None:
        """Some program claims an interface."""
        driver = self.root / "sys/bus/usb/drivers/usbfs"
        driver.mkdir(parents=True, exist_ok=True)
        (self.devices / interface / "driver").symlink_to(driver)
        if process is not None:
            here = self.root / f"proc/{process}"
            (here / "fd").mkdir(parents=True)
            (here / "comm").write_text(name + "\n")
            (here / "fd/7").symlink_to("/dev/bus/usb/001/002")

    @staticmethod
    def _write(folder: Path, values: dict[str, str]) -> None:
        folder.mkdir()
        for name, value in values.items():
            (folder / name).write_text(value + "\n")

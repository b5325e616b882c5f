"""The client's service for `benchmarks.cable`: a phone below a double of pyusb's backend, and one
that adb has by TCP and that is taken for one on the cable. Which of them hangs there is read in
FOLDER/on-the-cable: usb, adb, or anything else for none. What the double costs this process is
written to FOLDER/backend-seconds.

    python benchmarks/cable_client.py FOLDER SERIAL ADDRESS vpnshare client ARGUMENTS...
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> int:
    from cli.main import main as command
    from reach import usb
    from reach.adb_server import AdbServer
    from reach.cable import Phone, PhoneState
    from reach.usb_bus import UsbBus
    from tests.fakes.remote_usb import RemoteWire
    from tests.fakes.usb_backend import FakeBackend

    folder, serial, address = Path(sys.argv[1]), *sys.argv[2:4]
    there = folder / "on-the-cable"

    class Attached(AdbServer):
        """An adb server whose phone by TCP counts as one on the cable."""

        async def phones(self) -> list[Phone]:
            await super().phones()
            return [Phone(serial, PhoneState.READY)] if there.read_text() == "adb" else []

        async def open_stream(self, serial: str, port: int) -> socket.socket:
            return await super().open_stream(address, port)

    class Plugged(UsbBus):
        """A bus whose phone is plugged in and out by the file."""

        def phones(self) -> list[Phone]:
            return super().phones() if there.read_text() == "usb" else []

    class Weighed(RemoteWire):
        """Pipes that tell what processor time they take."""

        spent = 0.0
        lock = threading.Lock()
        file = os.open(folder / "backend-seconds", os.O_WRONLY | os.O_CREAT)

        def host_out(self, data: bytes, timeout: float) -> int:
            began = time.thread_time()
            try:
                return super().host_out(data, timeout)
            finally:
                self.add(time.thread_time() - began)

        def host_in(self, size: int, timeout: float) -> bytes:
            began = time.thread_time()
            try:
                return super().host_in(size, timeout)
            finally:
                self.add(time.thread_time() - began)

        def add(self, seconds: float) -> None:
            with self.lock:
                self.spent += seconds
                os.pwrite(self.file, f"{self.spent:.6f}".encode(), 0)

    backend = FakeBackend(Weighed(folder / "usb"))
    sys.argv = sys.argv[4:]
    with (
        patch.object(usb, "AdbServer", Attached),
        patch.object(usb, "UsbBus", lambda: Plugged(backend, folder / "machine")),
    ):
        return command()


if __name__ == "__main__":
    sys.exit(main())

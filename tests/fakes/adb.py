"""A scripted adb server on a loopback port."""

from __future__ import annotations

import asyncio
from pathlib import Path

from reach.adb_key import load_key
from reach.adb_server import AdbServer
from reach.usb import UsbCable
from reach.usb_bus import UsbBus

DEVICES = (
    "R58M123\tdevice usb:1-1 product:a52 model:SM_A525F device:a52q transport_id:1\n"
    "192.168.1.5:5555      device product:x model:y transport_id:2\n"
    "emulator-5554         offline transport_id:3\n"
    "ZY22 unauthorized usb:1-2 transport_id:4\n"
)


def served_cable(folder: Path) -> UsbCable:
    """A cable on which there is what this machine's adb server lists, and nothing else."""
    nothing = folder / "no-usb"
    return UsbCable(AdbServer(), UsbBus(None, nothing), lambda: load_key(folder, "test"))


class FakeAdb:
    """Speaks adb's host protocol for one phone: on any of its ports an echo, or `phone_port`."""

    def __init__(self, phone_port: int | None = None) -> None:
        self.phone_port = phone_port
        """A port of this machine that stands for the phone's."""
        self.devices = DEVICES
        self.asked: list[str] = []
        self.changes = asyncio.Event()
        self.closed = False
        """Nobody listens on the phone."""
        self.answer_with: bytes | None = None
        """Instead of an honest answer."""
        self._connected: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> FakeAdb:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()

    def drop(self) -> None:
        """End, with all connections, as a server that is told to."""
        self._server.close()
        for writer in self._connected:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connected.append(writer)
        try:
            while True:
                size = int(await reader.readexactly(4), 16)
                request = (await reader.readexactly(size)).decode()
                self.asked.append(request)
                if self.answer_with is not None:
                    writer.write(self.answer_with)
                    break
                if request == "host:devices-l":
                    writer.write(b"OKAY" + _block(self.devices))
                    break
                if request == "host:track-devices":
                    writer.write(b"OKAY" + _block("R58M123\tdevice\n"))
                    await self.changes.wait()
                    writer.write(_block(""))
                    break
                if request == "host:transport:R58M123":
                    writer.write(b"OKAY")
                elif request.startswith("tcp:") and self.closed:
                    writer.write(b"FAIL" + _block("closed"))
                    break
                elif request.startswith("tcp:"):
                    writer.write(b"OKAY")
                    if self.phone_port is None:
                        await _copy(reader, writer)
                    else:
                        there = await asyncio.open_connection("127.0.0.1", self.phone_port)
                        ways = {
                            asyncio.create_task(_copy(reader, there[1])),
                            asyncio.create_task(_copy(there[0], writer)),
                        }
                        # As adb does: the end of either way is the end of the stream.
                        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                        there[1].close()
                        for way in ways:
                            way.cancel()
                        await asyncio.gather(*ways, return_exceptions=True)
                    break
                else:
                    writer.write(b"FAIL" + _block(f"device '{request[15:]}' not found"))
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def _block(text: str) -> bytes:
    return b"%04x" % len(text) + text.encode()

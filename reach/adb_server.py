"""USB through adb: a stream to a port on the phone's own loopback.

The client talks to the adb server of its machine (127.0.0.1:5037), which holds
the USB connection. Of adb's protocol three requests are enough:

    host:devices-l        the devices, one a line, with their properties
    host:transport:SERIAL the rest of this connection is that device's
    tcp:PORT              ... and is from now on a stream to its 127.0.0.1:PORT

A request is four hexadecimal digits of length and the text; the answer is
`OKAY`, or `FAIL` with a length and a reason. Nothing is forwarded, so nothing
has to be cleaned up: closing the socket is all. On the phone adbd dials its own
loopback, which no VPN app's filter touches.

Source: AOSP packages/modules/adb, OVERVIEW.TXT and SERVICES.TXT.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from collections.abc import Callable

from reach.cable import MAX_MODEL, MAX_PHONES, CableError, Phone, PhoneState, is_serial

DEFAULT_SERVER = ("127.0.0.1", 5037)
SERVER_VARIABLE = "ANDROID_ADB_SERVER_PORT"
"""adb's own variable for another port of the server."""
MAX_ANSWER = 64 * 1024
"""Bytes of one answer."""

_STATES = {
    "device": PhoneState.READY,
    "unauthorized": PhoneState.NOT_ALLOWED,
    "authorizing": PhoneState.NOT_ALLOWED,
}
"""adb's words for a device's state; any other is a device that cannot be spoken to."""
_REFUSALS = (
    ("closed", "phone_closed"),
    ("not found", "phone_absent"),
    ("unauthorized", "phone_not_allowed"),
    ("authorizing", "phone_not_allowed"),
    ("no permissions", "phone_no_right"),
)
"""Words of adb's in its refusals, and what they mean."""
_USB_PATH = re.compile(r"usb:\S+|[0-9]+-[0-9]+(\.[0-9]+)*")
"""Where a device hangs: `usb:1-1.2`, on macOS `usb:336592896X`, by a server on libusb `1-1.2`."""


class AdbError(CableError):
    """The adb server or the device refused; the text says why."""

    def __init__(self, text: str) -> None:
        reason = next((name for word, name in _REFUSALS if word in text), "phone_offline")
        super().__init__(errno.ECONNREFUSED, text, reason)


class AdbServer:
    """The phones of this machine's adb server (a `Cable`)."""

    async def phones(self) -> list[Phone]:
        sock = await _dial()
        try:
            await _request(sock, "host:devices-l")
            return parse_devices(await _block(sock))
        finally:
            sock.close()

    async def open_stream(self, serial: str, port: int) -> socket.socket:
        sock = await _dial()
        try:
            await _request(sock, f"host:transport:{serial}")
            await _request(sock, f"tcp:{port}")
        except BaseException:
            sock.close()
            raise
        return sock

    async def track(self, changed: Callable[[], None]) -> None:
        sock = await _dial()
        try:
            await _request(sock, "host:track-devices")
            while True:
                await _block(sock)
                changed()
        finally:
            sock.close()

    def counted(self) -> dict[str, int]:
        """The server does all that could be counted."""
        return {}

    async def forget(self) -> None:
        """The server has a key of its own, which is its owner's."""

    async def close(self) -> None:
        """Nothing is held."""


def server() -> tuple[str, int]:
    """Where the adb server is on this machine."""
    port = os.environ.get(SERVER_VARIABLE, "")
    if port.isdigit() and 0 < int(port) < 65536:
        return DEFAULT_SERVER[0], int(port)
    return DEFAULT_SERVER


def parse_devices(text: str) -> list[Phone]:
    """The phones on a cable in the answer to `host:devices-l`.

    A line is `SERIAL STATE [PATH] [NAME:VALUE]...`. Emulators and devices by Wi-Fi are left
    out, and so are lines that are none.
    """
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or not is_serial(words[0]) or not _USB_PATH.fullmatch(words[2]):
            continue
        if words[0].startswith("emulator-") or words[0].endswith("._adb-tls-connect._tcp"):
            continue
        properties = dict(word.split(":", 1) for word in words[3:] if ":" in word)
        state = _STATES.get(words[1], PhoneState.OFFLINE)
        found.append(Phone(words[0], state, properties.get("model", "")[:MAX_MODEL]))
    return found[:MAX_PHONES]


async def _dial() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, server())
    except BaseException:
        sock.close()
        raise
    return sock


async def _request(sock: socket.socket, text: str) -> None:
    """Send a request and take its OKAY. Raises AdbError."""
    body = text.encode()
    await asyncio.get_running_loop().sock_sendall(sock, b"%04x" % len(body) + body)
    status = await _exactly(sock, 4)
    if status == b"FAIL":
        raise AdbError(await _block(sock))
    if status != b"OKAY":
        raise AdbError("what answers on adb's port is not an adb server")


async def _block(sock: socket.socket) -> str:
    """Text with its length in front."""
    try:
        size = int(await _exactly(sock, 4), 16)
    except ValueError:
        raise AdbError("the adb server's answer has no length") from None
    if size > MAX_ANSWER:
        raise AdbError("the adb server's answer is too long")
    return (await _exactly(sock, size)).decode(errors="replace")


async def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await asyncio.get_running_loop().sock_recv(sock, size - len(data))
        if not piece:
            raise AdbError("the adb server closed the connection")
        data += piece
    return data

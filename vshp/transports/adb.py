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
from dataclasses import dataclass

DEFAULT_SERVER = ("127.0.0.1", 5037)
SERVER_VARIABLE = "ANDROID_ADB_SERVER_PORT"
"""adb's own variable for another port of the server."""
MAX_ANSWER = 64 * 1024
"""Bytes of one answer."""
MAX_DEVICES = 16

_SERIAL = re.compile(r"[A-Za-z0-9._-]{1,64}")


class AdbError(OSError):
    """The adb server or the device refused; the text says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ECONNREFUSED, reason)


@dataclass(frozen=True, slots=True)
class Device:
    """A device that the adb server knows."""

    serial: str
    state: str
    """`device` when it may be used; else `unauthorized`, `offline`..."""
    usb: bool
    """Whether it hangs on a USB cable (adb also speaks over Wi-Fi)."""
    model: str


def is_serial(text: str) -> bool:
    """Whether `text` may be a device's serial number."""
    return _SERIAL.fullmatch(text) is not None


def server() -> tuple[str, int]:
    """Where the adb server is on this machine."""
    port = os.environ.get(SERVER_VARIABLE, "")
    if port.isdigit() and 0 < int(port) < 65536:
        return DEFAULT_SERVER[0], int(port)
    return DEFAULT_SERVER


async def devices() -> list[Device]:
    """Devices now. Raises OSError when no adb server runs, AdbError when it refuses."""
    sock = await _dial()
    try:
        await _request(sock, "host:devices-l")
        return parse_devices(await _block(sock))
    finally:
        sock.close()


async def open_stream(serial: str, port: int) -> socket.socket:
    """A connected, non-blocking stream socket to the device's 127.0.0.1:`port`.

    Raises OSError when no adb server runs, AdbError (an OSError) when the
    device is gone or nobody listens there.
    """
    sock = await _dial()
    try:
        await _request(sock, f"host:transport:{serial}")
        await _request(sock, f"tcp:{port}")
    except BaseException:
        sock.close()
        raise
    return sock


async def track(changed: Callable[[], None]) -> None:
    """Call `changed` whenever a device comes, goes or changes state; until cancelled.

    Costs nothing while nothing happens. Raises OSError when the server is not there or ends.
    """
    sock = await _dial()
    try:
        await _request(sock, "host:track-devices")
        while True:
            await _block(sock)
            changed()
    finally:
        sock.close()


def parse_devices(text: str) -> list[Device]:
    """The answer to `host:devices-l`; lines that are none are left out."""
    found = []
    for line in text.splitlines()[:MAX_DEVICES]:
        words = line.split()
        if len(words) < 2 or not is_serial(words[0]):
            continue
        properties = dict(word.split(":", 1) for word in words[2:] if ":" in word)
        model = properties.get("model", "")
        found.append(Device(words[0], words[1], "usb" in properties, model[:64]))
    return found


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

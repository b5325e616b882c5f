"""netd's resolver socket, played: `dnsproxyd` with its framing, and the VPN's resolver behind.

    python tests/netns/fake_netd.py FOLDER DEVICE RESOLVER

Listens on FOLDER/dnsproxyd. A question is asked of RESOLVER by way of DEVICE while
that is up; when it is not, by whatever way there is, as netd would use the default
network for an app that has no VPN. Each question is printed.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
import sys
import threading
from pathlib import Path

TIMEOUT = 2.0
ETIMEDOUT = 110


def resolve(message: bytes, device: str, resolver: str) -> bytes:
    """Ask over UDP, and over TCP when the answer is truncated. Raises OSError."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.settimeout(TIMEOUT)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            except OSError:
                pass  # No VPN: the default network.
            sock.connect((resolver, 53))
            if kind == socket.SOCK_DGRAM:
                sock.send(message)
                answer = sock.recv(65535)
                if not answer[2] & 2:
                    return answer
            else:
                sock.sendall(struct.pack("!H", len(message)) + message)
                with sock.makefile("rb") as stream:
                    return stream.read(int.from_bytes(stream.read(2), "big"))
    raise OSError("unreachable")


def serve(connection: socket.socket, device: str, resolver: str) -> None:
    with connection, connection.makefile("rb") as stream:
        command = b""
        while not command.endswith(b"\0"):
            piece = stream.read(1)
            if not piece:
                return
            command += piece
        verb, network, flags, text = command[:-1].split(b" ")
        print(verb.decode(), network.decode(), flags.decode(), flush=True)
        if verb != b"resnsend":
            return
        try:
            answer = resolve(base64.b64decode(text, validate=True), device, resolver)
        except OSError:
            connection.sendall(struct.pack("!i", -ETIMEDOUT))
            return
        connection.sendall(struct.pack("!ii", answer[3] & 15, len(answer)) + answer)


def main() -> None:
    folder, device, resolver = sys.argv[1:]
    path = Path(folder) / "dnsproxyd"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    os.chmod(path, 0o666)
    listener.listen(256)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, device, resolver), daemon=True).start()


if __name__ == "__main__":
    main()

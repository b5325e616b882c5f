"""A server in threads that sends back what it gets, as a phone's gateway is another process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading


class Echo:
    """On a port of 127.0.0.1."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.taken: list[socket.socket] = []
        self.echoing = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.taken.append(sock)
                if self.echoing:
                    threading.Thread(target=self._echo, args=(sock,), daemon=True).start()

    def _echo(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            while data := sock.recv(65536):
                sock.sendall(data)

    def close(self) -> None:
        self._listener.close()
        for sock in self.taken:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


async def exchange(sock: socket.socket, data: bytes) -> bytes:
    """What comes back for `data`, as much as was sent."""
    loop = asyncio.get_running_loop()

    async def receive() -> bytes:
        got = bytearray()
        while len(got) < len(data):
            piece = await loop.sock_recv(sock, 1 << 18)
            if not piece:
                break
            got += piece
        return bytes(got)

    async with asyncio.timeout(30):
        answer = asyncio.ensure_future(receive())
        await loop.sock_sendall(sock, data)
        return await answer

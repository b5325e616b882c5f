"""A program for a test's namespace: what the tests of the dialer connect to.

Run as `far_server.py ADDRESS...`; says `ready` when all ports are open.
"""

from __future__ import annotations

import hashlib
import socket
import socketserver
import sys
import threading

from tests.netsim.kernel_peer import seeded

HASH, ECHO, SOURCE = 7001, 7002, 7003


class Hash(socketserver.BaseRequestHandler):
    """Reads to the end, then says the digest of it all."""

    def handle(self) -> None:
        digest = hashlib.sha256()
        while piece := self.request.recv(1 << 16):
            digest.update(piece)
        self.request.sendall(digest.hexdigest().encode())


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while piece := self.request.recv(1 << 16):
            self.request.sendall(piece)


class Source(socketserver.BaseRequestHandler):
    """Sends, closes its direction, and reads to the end."""

    def handle(self) -> None:
        self.request.sendall(seeded(3_000_000, 2))
        self.request.shutdown(socket.SHUT_WR)
        while self.request.recv(1 << 16):
            pass


class EchoDatagram(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(data, self.client_address)


def main() -> None:
    for address in sys.argv[1:]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET

        class Tcp(socketserver.ThreadingTCPServer):
            address_family = family
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A connection that was reset is what some tests want."""

        class Udp(socketserver.UDPServer):
            address_family = family
            max_packet_size = 65536

        servers: list[socketserver.BaseServer] = [
            Tcp((address, HASH), Hash), Tcp((address, ECHO), Echo),
            Tcp((address, SOURCE), Source), Udp((address, ECHO), EchoDatagram),
        ]  # fmt: skip
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()

"""`vpnshare metrics`: an exporter for Prometheus.

It is a client of the control API like every other command: the services open no socket for it,
and hold no HTTP. What it has read it answers with for a second, so that ten scrapers cost the
services what one does; at most `MAX_SCRAPERS` are served at a time, each for a few seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import hmac
import ipaddress
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer

from cli.services import dial
from control.errors import Code, ControlError, ServiceUnavailable
from control.exits import Exit
from control.lacking import install
from services.metrics import State, exposition

FRESH = 1.0
"""Seconds for which what was read is answered again."""
MAX_SCRAPERS = 16
SECONDS = 5.0
"""That a scraper may take to ask, and to take its answer."""
UNIX = "unix:"
"""What a path stands behind, where an address could be."""
LEAST_TOKEN = 16
"""Characters."""
CONTENT = "text/plain; version=0.0.4; charset=utf-8"


def metrics(args: argparse.Namespace) -> int:
    try:
        if args.listen is None:
            state = _read()
            sys.stdout.write(exposition(state).decode())
            return Exit.OK if state.gateway or state.client else Exit.NOT_RUNNING
        return _serve(args.listen, _token(args.token_file))
    except ImportError:
        raise ControlError(
            Code.FAILED, "The package prometheus_client is not installed.",
            f"Install it: {install('prometheus_client')}", "package_missing",
        ) from None  # fmt: skip


def _read() -> State:
    """What both services say; those that do not run say nothing. Raises `ControlError`."""
    gateway = client = dns = None
    peers, leases = [], []
    try:
        with dial("gateway") as service:
            gateway, dns = service.call("status"), service.call("dns")
            peers, leases = service.call("peers"), service.call("leases")
    except ServiceUnavailable:
        gateway = dns = None
    try:
        with dial("client") as service:
            client = service.call("status")
    except ServiceUnavailable:
        client = None
    return State(gateway, client, peers, leases, dns)


class Exporter:
    """The newest exposition, read again when it is asked for and not fresh."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = -FRESH
        self._text = b""

    def text(self) -> bytes:
        """Raises `ControlError`."""
        with self._lock:
            if time.monotonic() - self._at >= FRESH:
                self._text = exposition(_read())
                self._at = time.monotonic()
            return self._text


def _token(path: str | None) -> str | None:
    """What a scraper has to know. Raises `ControlError`, `OSError`."""
    if path is None:
        return None
    token = Path(path).read_text(encoding="utf-8", errors="replace").strip()
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable():
        raise ControlError(
            Code.INVALID_PARAMS,
            f"A token is a line of at least {LEAST_TOKEN} printable ASCII characters.",
            "Make one: openssl rand -hex 32",
        )
    return token


def _place_of(text: str) -> tuple[str, int]:
    """Address and port; 0: a free one. Raises `ControlError`."""
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError
    except ValueError:
        raise ControlError(
            Code.INVALID_PARAMS, f"--listen: {text[:80]!r} is no address to listen on.",
            "Like this: 127.0.0.1:9478, [::1]:9478, or unix:/run/user/1000/metrics",
        ) from None  # fmt: skip
    return str(address), int(port)


def _serve(listen: str, token: str | None) -> int:
    if listen.startswith(UNIX):
        return _serve_at(Path(listen.removeprefix(UNIX)).absolute(), token)
    host, port = _place_of(listen)
    if token is None and not ipaddress.ip_address(host).is_loopback:
        raise ControlError(
            Code.REFUSED, f"{host} is reached from other machines: that needs a token.",
            "Give one, --token-file FILE, or listen on 127.0.0.1",
        )  # fmt: skip
    exposition(State())  # what is missing is said now, not to the first scraper
    with _Server(host, port, Exporter(), token) as server:
        print(f"Metrics on http://{_place(server)}/metrics", file=sys.stderr, flush=True)
        server.serve_forever()
    return Exit.OK


def _serve_at(path: Path, token: str | None) -> int:
    """On a Unix socket, which only this user may open."""
    exposition(State())
    with _at_path(path) as listener, _Server("127.0.0.1", 0, Exporter(), token, listener) as server:
        print(f"Metrics on {UNIX}{path}", file=sys.stderr, flush=True)
        server.serve_forever()
    return Exit.OK


@contextlib.contextmanager
def _at_path(path: Path) -> Iterator[socket.socket]:
    """A socket bound there, mode 0600, until the end. Raises `ControlError`, `OSError`."""
    from control.server import SocketInUse, bind_private

    try:
        listener = bind_private(path)
    except SocketInUse as error:
        raise ControlError(Code.CONFLICT, str(error)) from None
    listener.setblocking(True)
    try:
        yield listener
    finally:
        path.unlink(missing_ok=True)


def _place(server: ThreadingHTTPServer) -> str:
    host, port = server.server_address[:2]
    return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self,
        host: str,
        port: int,
        exporter: Exporter,
        token: str | None,
        listener: socket.socket | None = None,
    ) -> None:
        """`listener`: a socket that is bound already, in the place of the address."""
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.exporter = exporter
        self.token = token
        self._places = threading.BoundedSemaphore(MAX_SCRAPERS)
        super().__init__((host, port), _Answer, bind_and_activate=listener is None)
        if listener is not None:
            self.socket.close()
            self.socket = listener
            self.server_activate()

    def server_bind(self) -> None:
        # HTTPServer's own asks for the host's name besides, by DNS.
        TCPServer.server_bind(self)

    def process_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A scraper that went away, or was too slow."""


class _Answer(BaseHTTPRequestHandler):
    timeout = SECONDS
    server: _Server
    server_version = "vpnshare"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self._say(404, b"Metrics are at /metrics.\n")
        elif not self._known():
            self._say(401, b"A token is needed: Authorization: Bearer TOKEN\n")
        else:
            try:
                self._say(200, self.server.exporter.text())
            except (ControlError, OSError) as error:
                self._say(503, f"{error}\n".encode())

    def _known(self) -> bool:
        token = self.server.token
        if token is None:
            return True
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(errors="replace"), token.encode()
        )

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", CONTENT)
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """No line for each scrape."""

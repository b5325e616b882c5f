"""The demonstration's Internet and what its device does there: two programs on plain sockets.

    python -m services.demo_traffic serve    in the namespace of the pretend Internet
    python -m services.demo_traffic use      in the device's namespace, without end

A TCP request is two big-endian 64-bit numbers: how many bytes follow, and how
many shall be sent back. UDP on port 3478 answers with what came. DNS answers
every name with one of the pretend hosts, except those below `missing.example`.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator

HOSTS = 16
"""Hosts of the pretend Internet: the first addresses of these networks (RFC 5737, RFC 3849)."""
HOST4 = "198.51.100."
HOST6 = "2001:db8::"
RESOLVER = f"{HOST4}53"
TCP_PORTS = (22, 80, 443, 993)
CALL_PORT = 3478
CHUNK = bytes(1 << 16)
MAX_REQUEST = 1 << 30
"""Bytes that a request may ask for."""
_REQUEST = struct.Struct(">QQ")
SITES = ("news", "shop", "maps", "wiki", "photos", "music", "weather", "code", "mail", "bank")


def addresses() -> list[str]:
    """All addresses of the pretend Internet, with the resolver's."""
    numbers = range(1, HOSTS + 1)
    return [RESOLVER, *(f"{HOST4}{n}" for n in numbers), *(f"{HOST6}{n:x}" for n in numbers)]


# ---- the Internet


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


def _answer(connection: socket.socket) -> None:
    """Requests of one connection until it is closed."""
    with connection, contextlib.suppress(OSError):
        while True:
            coming, wanted = _REQUEST.unpack(_exactly(connection, _REQUEST.size))
            if max(coming, wanted) > MAX_REQUEST:
                return
            while coming:
                part = len(connection.recv(min(coming, len(CHUNK))))
                if not part:
                    return
                coming -= part
            while wanted:
                wanted -= connection.send(memoryview(CHUNK)[:wanted])


def _accept(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _echo(sock: socket.socket) -> None:
    while True:
        with contextlib.suppress(OSError):
            sock.sendto(*sock.recvfrom(2048))


def answer_name(query: bytes) -> bytes | None:
    """The answer to a DNS question (RFC 1035 section 4.1); None to what is none."""
    labels = []
    at = 12
    try:
        while length := query[at]:
            if length > 63:
                return None
            labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
            at += 1 + length
        (kind,) = struct.unpack_from(">H", query, at + 1)
    except (IndexError, struct.error):
        return None
    end = at + 5
    name = ".".join(labels)
    number = 1 + zlib.crc32(name.encode()) % HOSTS
    rcode, record = 0, b""
    if name.endswith("missing.example"):
        rcode = 3
    elif kind == 1:
        record = socket.inet_aton(f"{HOST4}{number}")
    elif kind == 28:
        record = socket.inet_pton(socket.AF_INET6, f"{HOST6}{number:x}")
    answer = query[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, bool(record), 0, 0)
    answer += query[12:end]
    if record:
        answer += struct.pack(">HHHIH", 0xC00C, kind, 1, 30, len(record)) + record
    return answer


def _names(sock: socket.socket) -> None:
    while True:
        with contextlib.suppress(OSError):
            query, sender = sock.recvfrom(2048)
            if (answer := answer_name(query)) is not None:
                sock.sendto(answer, sender)


def serve() -> None:
    """Be the Internet until killed."""
    for port in TCP_PORTS:
        listener = socket.create_server(("::", port), family=socket.AF_INET6, backlog=256,
                                        dualstack_ipv6=True)  # fmt: skip
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind((RESOLVER, 53))
    threading.Thread(target=_names, args=(names,), daemon=True).start()
    for address in addresses():
        sock = socket.socket(
            socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM
        )
        sock.bind((address, CALL_PORT))
        threading.Thread(target=_echo, args=(sock,), daemon=True).start()
    signal.pause()


# ---- the device


def _request(connection: socket.socket, up: int, down: int, pace: float = 0.0) -> None:
    """One request; `pace`: bytes a second of what is sent, 0 for as fast as it goes."""
    connection.sendall(_REQUEST.pack(up, down))
    while up:
        sent = connection.send(memoryview(CHUNK)[: min(up, 8192)])
        up -= sent
        if pace:
            time.sleep(sent / pace)
    while down:
        part = len(connection.recv(min(down, len(CHUNK))))
        if not part:
            raise ConnectionError("closed")
        down -= part


def _dial(name: str, port: int = 443) -> socket.socket:
    return socket.create_connection((name, port), 5)


def video() -> Iterator[float]:
    """Pieces of a film, each as fast as it comes, then a pause."""
    with _dial("video.example") as connection:
        while True:
            _request(connection, 400, random.randint(2_000_000, 9_000_000))
            yield random.uniform(1.5, 3.0)


def pages() -> Iterator[float]:
    """A page of some site: a few connections, some names that do not exist."""
    while True:
        site = random.choice(SITES)
        opened = []
        try:
            for part in ("www", "static", "img")[: random.randint(1, 3)]:
                connection = _dial(f"{part}.{site}.example", random.choice((443, 443, 80)))
                opened.append(connection)
                _request(connection, random.randint(300, 900), random.randint(9_000, 600_000))
            if random.random() < 0.2:
                with contextlib.suppress(OSError):
                    socket.getaddrinfo(f"{site}.missing.example", 443)
            yield random.uniform(0.5, 4.0)
        finally:
            for connection in opened:
                connection.close()


def backup() -> Iterator[float]:
    """Photos that go up slowly."""
    with _dial("photos.example") as connection:
        while True:
            _request(connection, random.randint(300_000, 3_000_000), 64, 250_000)
            yield random.uniform(0.0, 2.0)


def mail() -> Iterator[float]:
    """A connection on which little happens."""
    with _dial("mail.example", 993) as connection:
        while True:
            _request(connection, 40, 90)
            yield random.uniform(5.0, 15.0)


def shell() -> Iterator[float]:
    """Somebody types."""
    with _dial("server.example", 22) as connection:
        while True:
            _request(connection, 36, random.choice((36, 36, 52, 900)))
            yield random.uniform(0.1, 1.5)


def call() -> Iterator[float]:
    """A voice call: 50 datagrams a second each way."""
    host = socket.getaddrinfo("call.example", CALL_PORT, type=socket.SOCK_DGRAM)[0]
    with socket.socket(host[0], socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        sock.connect(host[4])
        while True:
            sock.send(bytes(160))
            with contextlib.suppress(TimeoutError):
                sock.recv(2048)
            yield 0.02


def _without_end(habit: Callable[[], Iterator[float]]) -> None:
    while True:
        with contextlib.suppress(OSError):
            for pause in habit():
                time.sleep(pause)
        time.sleep(1.0)


def use() -> None:
    """Use the Internet as a device does, until killed; what fails is begun anew."""
    for habit in (video, pages, pages, pages, backup, mail, shell, call):
        threading.Thread(target=_without_end, args=(habit,), daemon=True).start()
    signal.pause()


if __name__ == "__main__":
    {"serve": serve, "use": use}[sys.argv[1]]()

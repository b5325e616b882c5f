"""Android's resolver: raw questions to netd over its Unix socket `dnsproxyd`.

The only way for an app to ask the VPN's own resolvers with any record type
(Android 10 and up): netd knows them, and Private DNS, and picks the network of
this app's user (network id 0), which is the VPN while it includes the app.

    to netd      "resnsend <netid> <flags> <base64 of the message>" NUL
    from netd    int32 (big-endian) >= 0: rcode; < 0: -errno, and nothing more
                 int32 length, then the answer

One question a connection. netd would use the default network when the VPN has
gone, and no socket option of ours reaches it: so the VPN is confirmed right
before each question. (netd, DnsProxyListener.cpp: ResNSendCommand.)
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import socket
from struct import Struct

from gateway.dns.relay import Done
from gateway.dns.streams import MAX_ANSWER, StreamAttempt
from gateway.vpn.detector import VpnDetector
from netstack.dns import (
    HEADER_SIZE,
    Answer,
    MalformedMessage,
    Query,
    parse_answer,
    whole_error,
)

SOCKET = "/dev/socket/dnsproxyd"
NETWORK_ID = 0
FLAGS = 0
MAX_QUERY = 700
"""Bytes of a message: base64 of it fits Android 10's commands of 1024."""
TIMEOUT = 8.0
"""Seconds; netd tries the VPN's resolvers itself meanwhile."""

_INT32 = Struct("!i")


def present(path: str = SOCKET) -> bool:
    """Whether this system has netd's socket."""
    return os.path.exists(path)


def command(wire: bytes) -> bytes:
    return b"resnsend %d %d %s\0" % (NETWORK_ID, FLAGS, base64.b64encode(wire))


def framing(received: bytearray) -> bytes | None:
    """See `streams.Framing`."""
    if len(received) < _INT32.size:
        return None
    code = _INT32.unpack_from(received)[0]
    if code < 0:
        raise ValueError(f"netd refused the question: {os.strerror(-code)}")
    if len(received) < 2 * _INT32.size:
        return None
    length = _INT32.unpack_from(received, _INT32.size)[0]
    if not HEADER_SIZE <= length <= MAX_ANSWER:
        raise ValueError("netd's answer has no possible length")
    end = 2 * _INT32.size + length
    return bytes(received[2 * _INT32.size : end]) if len(received) >= end else None


class NetdRelay:
    """Asks netd; the same shape as `relay.Relay`."""

    def __init__(self, detector: VpnDetector, counters: dict[str, int], path: str = SOCKET) -> None:
        self._detector = detector
        self._counters = counters
        self._path = path

    def ask(self, wire: bytes, query: Query, done: Done) -> NetdExchange | None:
        if not self._detector.confirm():
            self.count("dns__netd__vpn_absent")
            return None
        if len(wire) > MAX_QUERY:
            self.count("dns__netd__too_long")
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.count("dns__netd__sent")
        return NetdExchange(self, sock, self._path, wire, query, done)

    def describe(self) -> tuple[str, ...]:
        return ("Android's resolver (netd)",)

    def count(self, name: str) -> None:
        self._counters[name] = self._counters.get(name, 0) + 1


class NetdExchange:
    """One question at netd."""

    def __init__(
        self,
        relay: NetdRelay,
        sock: socket.socket,
        path: str,
        wire: bytes,
        query: Query,
        done: Done,
    ) -> None:
        self._relay = relay
        # The ID is what netd may use on its own way.
        self._wire = wire = secrets.token_bytes(2) + wire[2:]
        self._query = query
        self._done = done
        self._timer = asyncio.get_running_loop().call_later(TIMEOUT, self._on_timeout)
        self._stream = StreamAttempt(sock, path, command(wire), framing, self._on_answer)

    def close(self) -> None:
        self._timer.cancel()
        self._stream.close()

    def _on_timeout(self) -> None:
        self._relay.count("dns__netd__timeout")
        self.close()
        self._done(None, None)

    def _on_answer(self, wire: bytes | None) -> None:
        self._timer.cancel()
        answer: Answer | None = None
        end = self._query.question_end
        try:
            if wire is None:
                raise MalformedMessage("no answer")
            answer = parse_answer(wire)
            if answer.bare:  # netd is on no network: nobody else can have said that.
                wire = whole_error(wire, self._wire[HEADER_SIZE:end])
                answer = parse_answer(wire)
            name, asked = wire[HEADER_SIZE:end].lower(), self._wire[HEADER_SIZE:end].lower()
            if name != asked:
                raise MalformedMessage("not the answer to this question")
        except MalformedMessage:
            self._relay.count("dns__netd__failed")
            self._done(None, None)
            return
        self._relay.count("dns__netd__answered")
        self._done(self._wire[0:2] + wire[2:] if wire is not None else None, answer)

"""The server's side of an HTTP proxy, pure, on h11: which request this is, and what is passed on.

Theory of operation. h11 reads the program's half of the connection and keeps its states (RFC 9112);
here it is decided what a request wants. CONNECT asks for a stream: when it is answered with 2xx,
what follows is the stream's own. A target in absolute form (`GET http://host/path`) asks that the
request be passed on: `onward` is it as the origin is to see it. A target in origin form is for us:
there is the file that configures browsers, and nothing else.

What is passed on is the message without what concerns one hop only (RFC 9110, 7.6.1): the fields
that Connection names, the proxy's own, and offers to change the protocol. `Host` says what the
target says (RFC 9112, 3.2.2). No `Via` is added: an origin sees what it would see if the program
used the network interface, and loops cannot arise, since what we dial is beyond the gateway.

Bounds: a head of 64 KiB, as browsers' cookies may be long; bodies pass in pieces.
"""

from __future__ import annotations

import base64
import binascii
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

import h11

from client.outlet.proxy.asking import Destination, Misspoken, parse_host
from client.outlet.proxy.outcome import Outcome

MAX_HEAD = 64 * 1024
"""Bytes of a request's head, and of an answer's."""
FIRST_BYTES = frozenset((string.ascii_letters + "!#$%&'*+-.^_`|~").encode())
"""What a method may begin with (RFC 9110, 5.6.2: token), but for digits, which no method has."""
REALM = b'Basic realm="VPN Share proxy", charset="UTF-8"'
PAC_PATH = b"/proxy.pac"

ANSWERS = {
    Outcome.REFUSED: (502, "refused the connection"),
    Outcome.HOST_UNREACHABLE: (502, "cannot be reached: the network says that it is not there"),
    Outcome.NET_UNREACHABLE: (502, "cannot be reached: there is no way to its network"),
    Outcome.PROHIBITED: (403, "is not allowed: the gateway does not let this device go there"),
    Outcome.TIMED_OUT: (504, "does not answer"),
    Outcome.NO_SUCH_NAME: (502, "is not known: its name has no address"),
    Outcome.NAMES_FAILED: (504, "cannot be looked up: the name's resolver does not answer"),
    Outcome.AWAY: (503, "cannot be reached: the tunnel is away at the moment"),
    Outcome.BUSY: (503, "has to wait: this proxy has too many connections"),
}
"""What each outcome is in HTTP, and the sentence, whose subject is the destination."""

_HOP_FIELDS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization",
     b"proxy-authenticate", b"te", b"trailer", b"upgrade")
)  # fmt: skip
"""For one hop; Transfer-Encoding is h11's own, which writes the body anew."""
_CODED = b"transfer-encoding"


class Wish(IntEnum):
    """What a request asks of us."""

    STREAM = 0
    """CONNECT: a stream to the destination."""
    ONWARD = 1
    """That it be passed on."""
    FILE = 2
    """The proxy's configuration file."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    wish: Wish
    destination: Destination | None
    onward: h11.Request | None = None
    """With ONWARD: as the origin is to see it."""
    without_body: bool = False
    """HEAD: an answer has no body."""


class HttpServer:
    """One program's connection: its requests, one after the other."""

    __slots__ = ("_known", "_right", "conn")

    def __init__(self, known: bool, right: Callable[[bytes, bytes], bool]) -> None:
        """`known`: who asks may do so without a password. `right`: is this name and password?"""
        self.conn = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._known = known
        self._right = right

    @property
    def early(self) -> bytes:
        """What came behind a CONNECT."""
        return self.conn.trailing_data[0]

    def receive(self, data: bytes) -> Asked | None:
        """Take what the program sent; the request, once its head is complete. Raises Misspoken.

        Nothing at all (`b""`) is no end of the stream: it looks at what is there.
        """
        try:
            if data:
                self.conn.receive_data(data)
            event = self.conn.next_event()
        except h11.RemoteProtocolError as error:
            # h11's own word on it: 431 for a head that is too long, 501 for an unknown coding.
            raise refusal("malformed", error.error_status_hint) from None
        if not isinstance(event, h11.Request):
            return None
        if not event.http_version.startswith(b"1."):
            raise refusal("version_unsupported", 505)
        fields = dict(event.headers)
        self._judge_password(fields.get(b"proxy-authorization"))
        if event.method == b"CONNECT":
            if not isinstance(self.conn.next_event(), h11.EndOfMessage):
                raise refusal("malformed", 400)
            return Asked(Wish.STREAM, _authority(event.target, None))
        without_body = event.method == b"HEAD"
        if event.target.startswith(b"/"):
            if event.target.partition(b"?")[0] != PAC_PATH or event.method not in (b"GET", b"HEAD"):
                raise refusal("not_a_proxy_request", 404)
            return Asked(Wish.FILE, None, without_body=without_body)
        scheme, colons, rest = event.target.partition(b"://")
        if not colons or scheme.lower() != b"http":
            raise refusal("scheme_unsupported", 400)
        end = min((at for at in map(rest.find, (b"/", b"?", b"#")) if at >= 0), default=len(rest))
        authority, path = rest[:end], rest[end:].partition(b"#")[0]
        authority = authority.rpartition(b"@")[2]
        destination = _authority(authority, 80)
        if not path.startswith(b"/"):
            path = (b"*" if event.method == b"OPTIONS" and not path else b"/") + path
        headers = [(b"host", authority), *passed_on(event.headers, (b"host",))]
        try:
            onward = h11.Request(method=event.method, target=path, headers=headers)
        except h11.LocalProtocolError:
            raise refusal("malformed", 400) from None
        return Asked(Wish.ONWARD, destination, onward, without_body)

    def accept_stream(self) -> bytes:
        """The answer to CONNECT: from its end on the connection is the stream."""
        established = h11.Response(status_code=200, headers=[], reason=b"Connection established")
        return self.conn.send(established) or b""

    def answer(
        self, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = (),
        kind: bytes = b"text/plain; charset=utf-8", without_body: bool = False,
    ) -> bytes:  # fmt: skip
        """A whole answer of our own, after which the connection ends."""
        body = text.encode()
        fields = [
            (b"content-type", kind),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *headers,
        ]
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return b""
        head = self.conn.send(h11.Response(status_code=status, headers=fields)) or b""
        rest = b"" if without_body else self.conn.send(h11.Data(data=body)) or b""
        return head + rest + (self.conn.send(h11.EndOfMessage()) or b"" if rest else b"")

    def refuse(self, error: Misspoken) -> bytes:
        """The answer to what was wrong."""
        status, sentence, headers = _REFUSALS.get(error.reason, _MALFORMED)
        return self.answer(_status_of(error) or status, sentence + "\n", headers)

    def fail(self, outcome: Outcome, destination: Destination) -> bytes:
        """The answer where a destination was not reached."""
        status, sentence = ANSWERS[outcome]
        return self.answer(status, f"{destination} {sentence}.\n")

    def _judge_password(self, given: bytes | None) -> None:
        """A password that is given has to be right, also where none is needed."""
        if given is None:
            if not self._known:
                raise refusal("password_missing", 407)
            return
        scheme, _, coded = given.partition(b" ")
        if scheme.lower() == b"basic":
            try:
                name, colon, password = base64.b64decode(coded.strip(), validate=True).partition(
                    b":"
                )
            except binascii.Error:
                colon = b""
            if colon and self._right(name, password):
                return
        raise refusal("password_wrong", 407)


class HttpRefusal(Misspoken):
    """A request that is answered with `status`."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


def refusal(reason: str, status: int) -> HttpRefusal:
    return HttpRefusal(reason, status)


def _status_of(error: Misspoken) -> int:
    return error.status if isinstance(error, HttpRefusal) else 0


_ASK = ((b"proxy-authenticate", REALM),)
_MALFORMED: tuple[int, str, tuple[tuple[bytes, bytes], ...]] = (
    400, "This proxy cannot read the request.", ()
)  # fmt: skip
_REFUSALS: dict[str, tuple[int, str, tuple[tuple[bytes, bytes], ...]]] = {
    "password_missing": (
        407, "This proxy needs a password: its user has it in proxy-token, in the client's folder.",
        _ASK,
    ),
    "password_wrong": (
        407, "This is not the proxy's password, which its user has in proxy-token, in the client's "
        "folder.", _ASK,
    ),
    "not_a_proxy_request": (
        404, "This is a proxy for HTTP and SOCKS 5, not a web server: use it as a proxy.", ()
    ),
    "scheme_unsupported": (
        400, "This proxy passes on http:// alone; https:// goes through it by CONNECT.", ()
    ),
    "version_unsupported": (505, "This proxy speaks HTTP/1.0 and HTTP/1.1.", ()),
    "name_malformed": (400, "This is not the name of a host.", ()),
    "address_malformed": (400, "This is not an address.", ()),
    "port_malformed": (400, "This is not a port.", ()),
}  # fmt: skip


def _authority(authority: bytes, port: int | None) -> Destination:
    """`host:port`; `port` where none stands there. Raises Misspoken."""
    try:
        text = authority.decode("ascii")
    except UnicodeDecodeError:
        raise Misspoken("name_malformed") from None
    host, colon, digits = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, digits = text, ""
    if digits or port is None:
        if not (digits.isdecimal() and len(digits) <= 5 and 0 < int(digits) < 65536):
            raise Misspoken("port_malformed")
        port = int(digits)
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise Misspoken("address_malformed")
    return Destination(parse_host(host), port)


def passed_on(
    headers: Iterable[tuple[bytes, bytes]], without: Iterable[bytes] = ()
) -> list[tuple[bytes, bytes]]:
    """The fields that concern more than one hop. Names are in lower case, as h11 gives them."""
    fields = list(headers)
    named = {
        word.strip().lower()
        for name, value in fields
        if name == b"connection"
        for word in value.split(b",")
    }
    # Framing is h11's, and no Connection field may take it away (RFC 9110, 7.6.1).
    gone = (_HOP_FIELDS | named | frozenset(without)) - {_CODED, b"content-length"}
    return [(name, value) for name, value in fields if name not in gone]

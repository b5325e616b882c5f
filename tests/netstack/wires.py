"""DNS messages written by hand, so that the tests' bytes are not the code's own."""

from __future__ import annotations

import struct

A, NS, CNAME, SOA, TXT, AAAA, OPT, HTTPS = 1, 2, 5, 6, 16, 28, 41, 65


def name(text: str) -> bytes:
    labels = [label.encode() for label in text.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def opt(size: int = 1232, do: bool = False, options: bytes = b"") -> bytes:
    return b"\0" + struct.pack("!HHIH", OPT, size, 0x8000 if do else 0, len(options)) + options


def question(
    text: str, type_: int = A, id_: int = 0x1234, flags: int = 0x0100, edns: bytes = b""
) -> bytes:
    header = struct.pack("!6H", id_, flags, 1, 0, 0, 1 if edns else 0)
    return header + name(text) + struct.pack("!HH", type_, 1) + edns


def record(type_: int, data: bytes, ttl: int = 300, owner: bytes = b"\xc0\x0c") -> bytes:
    return owner + struct.pack("!HHIH", type_, 1, ttl, len(data)) + data


def soa(ttl: int = 900, minimum: int = 60) -> bytes:
    data = name("ns.test") + name("root.test") + struct.pack("!5I", 1, 2, 3, 4, minimum)
    return record(SOA, data, ttl, name("test"))


def question_end(wire: bytes) -> int:
    end = 12
    while wire[end]:
        end += 1 + wire[end]
    return end + 5


def reply(
    asked: bytes,
    answers: list[bytes] | None = None,
    authority: list[bytes] | None = None,
    rcode: int = 0,
    flags: int = 0x8180,
    edns: bytes = b"",
) -> bytes:
    """The answer to a question, its ID and spelling kept."""
    answers, authority = answers or [], authority or []
    header = asked[0:2] + struct.pack(
        "!5H", flags | rcode, 1, len(answers), len(authority), 1 if edns else 0
    )
    body = asked[12 : question_end(asked)] + b"".join(answers) + b"".join(authority)
    return header + body + edns


def address_reply(asked: bytes, over_tcp: bool = False, ttl: int = 300) -> list[bytes]:
    """A script: 192.0.2.1 to everything."""
    return [reply(asked, [record(A, bytes([192, 0, 2, 1]), ttl)])]


def rcode(wire: bytes) -> int:
    return wire[3] & 15


def counts(wire: bytes) -> tuple[int, int, int, int]:
    qd, an, ns, ar = struct.unpack_from("!4H", wire, 4)
    return qd, an, ns, ar

"""DNS messages on the wire (RFC 1035, 6891), as far as a relay must read them: pure.

A relay reads the header, the one question, the EDNS record, and of an answer
every record's place and TTL. Record data stays as it is, whatever its type,
but for the SOA that bounds a negative answer (RFC 2308). Names are walked with
bounds; a compression pointer must point backward, and further back each time,
so a loop cannot be written.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

HEADER_SIZE = 12
MAX_MESSAGE = 65535
MAX_NAME = 255
"""Bytes of a name with its length bytes (RFC 1035 2.3.4)."""
MAX_LABEL = 63
MAX_POINTERS = 64
"""Jumps in one name: each goes further back, honest servers use one or two."""
MAX_RECORDS = 4096
"""Records of one answer; 64 KiB cannot hold many more, at 11 bytes and up."""

FLAG_QR = 0x8000
FLAG_AA = 0x0400
FLAG_TC = 0x0200
FLAG_RD = 0x0100
FLAG_RA = 0x0080
FLAG_AD = 0x0020
FLAG_CD = 0x0010
OPCODE_MASK = 0x7800
RCODE_MASK = 0x000F

NOERROR = 0
FORMERR = 1
SERVFAIL = 2
NXDOMAIN = 3
NOTIMP = 4
REFUSED = 5

CLASS_IN = 1

TYPE_A = 1
TYPE_CNAME = 5
TYPE_SOA = 6
TYPE_AAAA = 28
TYPE_DNAME = 39
TYPE_OPT = 41
TYPE_SVCB = 64
TYPE_HTTPS = 65
TYPE_TKEY = 249
TYPE_TSIG = 250
TYPE_IXFR = 251
TYPE_AXFR = 252

OPTION_COOKIE = 10
OPTION_KEEPALIVE = 11
OPTION_PADDING = 12
HOP_BY_HOP = frozenset((OPTION_COOKIE, OPTION_KEEPALIVE, OPTION_PADDING))
"""EDNS options between two neighbours (RFC 7873, 7828, 7830): a relay must not pass them on."""

OPTION_ERROR = 15
"""Extended DNS Errors (RFC 8914)."""
BLOCKED = 15
"""Its code for a name that whoever runs the resolver refuses (RFC 8914 4.16)."""
FILTERED = 17
"""Its code for an answer that policy withholds (RFC 8914 4.18)."""
PROHIBITED = 18
"""Its code for a client who may ask nothing (RFC 8914 4.19)."""

EDNS_DO = 0x8000
EDNS_VERSION = 0x00FF0000

ADDRESS_SIZES = {TYPE_A: 4, TYPE_AAAA: 16}
"""Bytes of the address that a record of a type is."""
_ADDRESSES = frozenset((TYPE_A, TYPE_AAAA, TYPE_SVCB, TYPE_HTTPS))
_ALIASES = {TYPE_CNAME: 0, TYPE_DNAME: 0, TYPE_SVCB: 2, TYPE_HTTPS: 2}
"""Types whose data names where the answer is to be looked for, and where in it the name is."""

_HEADER = Struct("!6H")
_TYPE_CLASS = Struct("!HH")
_RECORD = Struct("!HHIH")
_OPTION = Struct("!HH")
_U16 = Struct("!H")
_U32 = Struct("!I")


class MalformedMessage(ValueError):
    """Not a DNS message that may be relayed; the text says why."""


@dataclass(slots=True)
class Edns:
    """The OPT record (RFC 6891 6.1)."""

    start: int
    end: int
    size: int
    """The largest UDP answer that the sender takes."""
    flags: int
    """Its TTL field: extended rcode, version, DO and reserved bits."""
    options: bytes
    """Raw, without those that are hop by hop."""
    hop_by_hop: bool
    """Whether such were there."""

    @property
    def dnssec(self) -> bool:
        return bool(self.flags & EDNS_DO)


@dataclass(slots=True)
class Query:
    """A question as a client sent it."""

    id: int
    flags: int
    question_end: int
    name_end: int
    type: int
    class_: int
    edns: Edns | None
    plain: bool
    """Nothing but a question and perhaps EDNS: it may be rewritten, cached and joined."""


@dataclass(slots=True)
class Answer:
    """What a relay needs of an answer; offsets are into its bytes."""

    id: int
    flags: int
    rcode: int
    question_end: int
    ttls: tuple[int, ...]
    """Offsets of the TTL fields (without OPT's, which is none)."""
    ttl: int
    """Seconds that it may be kept: the least of its TTLs; -1 when it may not be kept."""
    edns: Edns | None
    records: int
    """How many answer the question."""
    addresses: tuple[tuple[bool, int, int, int], ...]
    """Records that hold addresses: whether in the additional section, type, data's start and
    end."""

    @property
    def bare(self) -> bool:
        """Whether the question is not repeated, as servers may leave it out of an error."""
        return self.question_end == HEADER_SIZE


def wire_name(text: str) -> bytes:
    """A host's name as it stands in a message. Raises MalformedMessage if it is none.

    What is not ASCII has to be encoded already (RFC 5890).
    """
    if text.endswith("."):
        text = text[:-1]
    try:
        labels = text.encode("ascii").split(b".")
    except UnicodeEncodeError:
        raise MalformedMessage("name is not ASCII") from None
    if not all(0 < len(label) <= MAX_LABEL for label in labels):
        raise MalformedMessage("label of no or too many characters")
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if len(name) > MAX_NAME:
        raise MalformedMessage("name too long")
    return name


def address_question(ident: int, name: bytes, kind: int) -> bytes:
    """A question for the addresses of `name` (as on the wire), recursion desired."""
    return _HEADER.pack(ident, FLAG_RD, 1, 0, 0, 0) + name + _TYPE_CLASS.pack(kind, CLASS_IN)


def skip_name(wire: bytes, offset: int) -> int:
    """The offset after the name at `offset`, without following a pointer."""
    end = len(wire)
    start = offset
    while offset < end:
        length = wire[offset]
        if length == 0:
            return offset + 1
        if length >= 0xC0:
            if offset + 2 > end:
                break
            return offset + 2
        if length > MAX_LABEL:
            raise MalformedMessage("unknown label type")
        offset += 1 + length
        if offset - start >= MAX_NAME:
            raise MalformedMessage("name too long")
    raise MalformedMessage("name runs past the end")


def check_name(wire: bytes, offset: int) -> int:
    """As `skip_name`, with the pointers followed and judged."""
    end = skip_name(wire, offset)
    floor = offset
    total = jumps = 0
    position = offset
    while True:
        length = wire[position]
        if length == 0:
            return end
        if length >= 0xC0:
            target = _U16.unpack_from(wire, position)[0] & 0x3FFF
            jumps += 1
            if target >= floor or target < HEADER_SIZE or jumps > MAX_POINTERS:
                raise MalformedMessage("compression pointer that does not point back")
            floor = position = target
            skip_name(wire, position)
            continue
        total += 1 + length
        if total >= MAX_NAME:
            raise MalformedMessage("name too long")
        position += 1 + length


def read_name(wire: bytes, offset: int) -> bytes:
    """The name at `offset` without compression. Raises MalformedMessage."""
    check_name(wire, offset)
    parts: list[bytes] = []
    while (length := wire[offset]) != 0:
        if length >= 0xC0:
            offset = _U16.unpack_from(wire, offset)[0] & 0x3FFF
            continue
        parts.append(wire[offset : offset + 1 + length])
        offset += 1 + length
    parts.append(b"\0")
    return b"".join(parts)


def named(wire: bytes, answer: Answer) -> tuple[set[bytes], set[bytes]]:
    """Names in an answer that was parsed: those that it leads to, and those beside it.

    It leads to the owners of its records, and to what aliases and service bindings (RFC 9460)
    name. Beside it are the owners of addresses in the additional section. Names are without
    compression. Raises MalformedMessage where one cannot be read.
    """
    leads: set[bytes] = set()
    beside: set[bytes] = set()
    _id, _flags, _questions, answers, authorities, additionals = _HEADER.unpack_from(wire)
    offset = answer.question_end
    for number in range(answers + authorities + additionals):
        start = offset
        offset = skip_name(wire, offset)
        type_, _class, _ttl, length = _RECORD.unpack_from(wire, offset)
        data, offset = offset + 10, offset + 10 + length
        if number < answers:
            leads.add(read_name(wire, start))
            at = _ALIASES.get(type_)
            if at is not None:
                leads.add(read_name(wire, data + at))
        elif number >= answers + authorities and type_ in _ADDRESSES:
            beside.add(read_name(wire, start))
    return leads, beside


def parse_query(wire: bytes) -> Query:
    """Read a client's question. Raises MalformedMessage."""
    if len(wire) < HEADER_SIZE:
        raise MalformedMessage("shorter than a header")
    id_, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(wire)
    if flags & FLAG_QR:
        raise MalformedMessage("an answer where a question is due")
    if questions != 1:
        raise MalformedMessage("not one question")
    name_end = skip_name(wire, HEADER_SIZE)
    question_end = name_end + 4
    if question_end > len(wire):
        raise MalformedMessage("question runs past the end")
    if wire[name_end - 1] != 0:
        raise MalformedMessage("compressed question")
    type_, class_ = _TYPE_CLASS.unpack_from(wire, name_end)
    edns: Edns | None = None
    plain = answers == 0 and authorities == 0
    if plain and additionals:
        edns = _edns_at(wire, question_end)
        plain = (
            additionals == 1
            and edns is not None
            and edns.end == len(wire)
            and not edns.flags & EDNS_VERSION
        )
    elif plain:
        plain = question_end == len(wire)
    return Query(id_, flags, question_end, name_end, type_, class_, edns, plain)


def _edns_at(wire: bytes, offset: int) -> Edns | None:
    """The OPT record at `offset`, or None if something else is there."""
    if wire[offset : offset + 3] != b"\0\0\x29":
        return None
    if offset + 11 > len(wire):
        raise MalformedMessage("record runs past the end")
    _type, size, flags, length = _RECORD.unpack_from(wire, offset + 1)
    end = offset + 11 + length
    if end > len(wire):
        raise MalformedMessage("record runs past the end")
    if not length:
        return Edns(offset, end, size, flags, b"", False)
    kept = bytearray()
    removed = False
    position = offset + 11
    while position < end:
        if position + 4 > end:
            raise MalformedMessage("EDNS option runs past its record")
        option, option_length = _OPTION.unpack_from(wire, position)
        after = position + 4 + option_length
        if after > end:
            raise MalformedMessage("EDNS option runs past its record")
        if option in HOP_BY_HOP:
            removed = True
        else:
            kept += wire[position:after]
        position = after
    return Edns(offset, end, size, flags, bytes(kept), removed)


def parse_answer(wire: bytes) -> Answer:
    """Walk an answer from end to end. Raises MalformedMessage.

    An error may come as a header alone, with an EDNS record at most, from servers that gave
    the question up before they had read it (RFC 6891 7, RFC 1035 4.1.1).
    """
    if len(wire) < HEADER_SIZE:
        raise MalformedMessage("shorter than a header")
    id_, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(wire)
    if not flags & FLAG_QR:
        raise MalformedMessage("a question where an answer is due")
    rcode = flags & RCODE_MASK
    bare = not questions and not answers and not authorities and rcode not in (NOERROR, NXDOMAIN)
    if questions != 1 and not bare:
        raise MalformedMessage("not one question")
    if answers + authorities + additionals > MAX_RECORDS:
        raise MalformedMessage("too many records")
    offset = question_end = HEADER_SIZE if bare else skip_name(wire, HEADER_SIZE) + 4
    ttls: list[int] = []
    addresses: list[tuple[bool, int, int, int]] = []
    least = -1
    soa = -1
    edns: Edns | None = None
    end = len(wire)
    for number in range(answers + authorities + additionals):
        start = offset
        offset = check_name(wire, offset)
        if offset + 10 > end:
            raise MalformedMessage("record runs past the end")
        type_, _class, ttl, length = _RECORD.unpack_from(wire, offset)
        data = offset + 10
        if data + length > end:
            raise MalformedMessage("record runs past the end")
        if type_ == TYPE_OPT:
            if edns is not None or number < answers + authorities:
                raise MalformedMessage("misplaced EDNS record")
            edns = _edns_at(wire, start)
            if edns is None:
                raise MalformedMessage("EDNS record with a name")
            rcode |= (edns.flags >> 20) & 0xFF0
        else:
            ttls.append(offset + 4)
            # RFC 2181 8: a TTL with the top bit set means zero.
            seconds = ttl if ttl < 0x80000000 else 0
            least = seconds if least < 0 else min(least, seconds)
            if type_ == TYPE_SOA and answers <= number < answers + authorities:
                soa = min(seconds, _soa_minimum(wire, data, data + length))
            elif type_ in _ADDRESSES:
                addresses.append((number >= answers + authorities, type_, data, data + length))
        offset = data + length
    return Answer(
        id_,
        flags,
        rcode,
        question_end,
        tuple(ttls),
        _keep(flags, rcode, answers, least, soa),
        edns,
        answers,
        tuple(addresses),
    )


def _keep(flags: int, rcode: int, answers: int, least: int, soa: int) -> int:
    """How long an answer may be kept, by RFC 1035 and, if it denies, RFC 2308 5."""
    if flags & FLAG_TC or rcode not in (NOERROR, NXDOMAIN):
        return -1
    if rcode == NXDOMAIN or answers == 0:
        return min(soa, least) if soa >= 0 else -1
    return least


def _soa_minimum(wire: bytes, start: int, end: int) -> int:
    offset = check_name(wire, check_name(wire, start))
    if offset + 20 > end:
        raise MalformedMessage("short SOA")
    return int(_U32.unpack_from(wire, offset + 16)[0])


def error_reply(
    wire: bytes, rcode: int, extended: int | None = None, text: str = ""
) -> bytes | None:
    """A reply without records to whatever has a header; None where none is due.

    The question is returned if it can be read, else left out. Who understands EDNS is
    given the `extended` error (RFC 8914), if any, and the text for people that goes with it.
    """
    if len(wire) < HEADER_SIZE:
        return None
    id_, flags, _questions, _answers, _authorities, _additionals = _HEADER.unpack_from(wire)
    if flags & FLAG_QR:
        return None
    kept = flags & (OPCODE_MASK | FLAG_RD | FLAG_CD)
    try:
        query = parse_query(wire)
    except MalformedMessage:
        return _HEADER.pack(id_, FLAG_QR | FLAG_RA | kept | rcode, 0, 0, 0, 0)
    tail = options = b""
    if extended is not None:
        options = _OPTION.pack(OPTION_ERROR, 2 + len(text)) + _U16.pack(extended) + text.encode()
    if query.edns is not None:
        tail = edns_record(query.edns.flags & EDNS_DO, options=options)
    header = _HEADER.pack(id_, FLAG_QR | FLAG_RA | kept | rcode, 1, 0, 0, 1 if tail else 0)
    return header + wire[HEADER_SIZE : query.question_end] + tail


def truncated_reply(answer: bytes | bytearray, question_end: int, edns: bool) -> bytes:
    """An answer that does not fit, as header, question and TC: the client asks by TCP."""
    id_, flags, *_counts = _HEADER.unpack_from(answer)
    tail = edns_record(0) if edns else b""
    header = _HEADER.pack(id_, flags | FLAG_TC, 1, 0, 0, 1 if tail else 0)
    return header + bytes(answer[HEADER_SIZE:question_end]) + tail


def edns_record(flags: int, size: int = 1232, options: bytes = b"") -> bytes:
    """An OPT record."""
    return b"\0" + _RECORD.pack(TYPE_OPT, size, flags, len(options)) + options


def without_edns(wire: bytes, edns: Edns) -> bytes:
    """The message with its OPT record, which must be the last, cut off."""
    message = bytearray(wire[: edns.start])
    count = _U16.unpack_from(message, 10)[0]
    _U16.pack_into(message, 10, count - 1)
    return bytes(message)


def without_additional(wire: bytes, edns: Edns | None) -> bytes:
    """The message with nothing in its additional section but its own EDNS record.

    Compression pointers point backward, so what comes before needs no change.
    """
    _id, _flags, _questions, answers, authorities, _ = _HEADER.unpack_from(wire)
    end = skip_name(wire, HEADER_SIZE) + 4
    for _ in range(answers + authorities):
        end = skip_name(wire, end)
        end += 10 + int(_U16.unpack_from(wire, end + 8)[0])
    message = bytearray(wire[:end])
    if edns is not None:
        message += wire[edns.start : edns.end]
    _U16.pack_into(message, 10, 0 if edns is None else 1)
    return bytes(message)


def canonical_query(wire: bytes, query: Query) -> bytes:
    """A plain question in the bits that may change its answer, and in no others.

    That is: the name in lower case, type, class, RD, AD and CD, and of an EDNS record DO and
    the options that are not hop by hop. All else is set as by ourselves, so that equal
    canonical questions have equal answers.
    """
    edns = query.edns
    header = _HEADER.pack(
        0, query.flags & (FLAG_RD | FLAG_AD | FLAG_CD), 1, 0, 0, 0 if edns is None else 1
    )
    name = wire[HEADER_SIZE : query.name_end].lower()
    tail = b"" if edns is None else edns_record(edns.flags & EDNS_DO, options=edns.options)
    # Length bytes are below 64, so `lower` leaves them alone; type and class it would not.
    return header + name + wire[query.name_end : query.question_end] + tail


def whole_error(wire: bytes, question: bytes) -> bytes:
    """A bare error with the question (name, type and class) put in."""
    id_, flags, *_counts = _HEADER.unpack_from(wire)
    if not flags & RCODE_MASK:
        flags |= SERVFAIL  # An extended code, whose other half stood in the EDNS record.
    return _HEADER.pack(id_, flags & ~(FLAG_AA | FLAG_TC), 1, 0, 0, 0) + question


def name_text(wire: bytes) -> str:
    """The question's name for people: what is not a letter, digit, `-` or `_` is escaped."""
    parts: list[str] = []
    offset = HEADER_SIZE
    end = skip_name(wire, offset)
    while offset < end - 1:
        length = wire[offset]
        label = wire[offset + 1 : offset + 1 + length]
        parts.append(
            "".join(
                chr(c) if c < 128 and (chr(c).isalnum() or c in b"-_") else f"\\{c:03d}"
                for c in label
            )
        )
        offset += 1 + length
    return ".".join(parts) or "."

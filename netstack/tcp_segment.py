"""TCP segments as they arrive (RFC 9293, 3.1): checked, then parsed into a slots object.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------------------------------+-------------------------------+
    |          Source port          |       Destination port        |
    |                        Sequence number                        |
    |                    Acknowledgement number                     |
    | Offset| Rsrvd |C|E|U|A|P|R|S|F|            Window             |
    |           Checksum            |        Urgent pointer         |
    |                        [Options] Payload                      |
    +---------------------------------------------------------------+

The payload is not copied: a segment points into the buffer it came in, so it
is good for the time of one call. The caller may give the same `TcpSegment`
again and again; the layout that nearly every segment of a running connection
has (no options, or NOP NOP TIMESTAMPS) is parsed without a loop, and so is the one that a SYN
of Linux has, of which there is one a connection.
"""

from __future__ import annotations

from struct import Struct

from netstack import checksum
from netstack.tcp.errors import MalformedSegment

FIN = 0x01
SYN = 0x02
RST = 0x04
PSH = 0x08
ACK = 0x10
URG = 0x20

HEADER = 20
"""Bytes of a header without options."""

STAMPED_HEADER = 32
"""Bytes of a header with NOP NOP TIMESTAMPS."""

OPTION_END = 0
OPTION_NOP = 1
OPTION_MSS = 2
OPTION_WINDOW_SCALE = 3
OPTION_SACK_PERMITTED = 4
OPTION_SACK = 5
OPTION_TIMESTAMPS = 8

MAX_WINDOW_SHIFT = 14
"""RFC 7323, 2.3: a greater shift counts as 14."""

NOP_NOP_TIMESTAMPS = 0x0101080A
"""The first word of the options layout that RFC 7323, appendix A, recommends."""

SYN_OPTIONS = 20
"""Bytes of MSS, SACK permitted, timestamps, NOP and window scale."""
SYN_LAYOUT = (0x0204, 0x0402, 0x080A, 0x0103, 3)
"""Their kinds, lengths and the NOP in that order, in which Linux, so Android, too, sends them
(tcp_options_write)."""

_header = Struct(">HHIIHHHH").unpack_from
_three_words = Struct(">III").unpack_from
_two_words = Struct(">II").unpack_from
_syn_options = Struct(">HHHHIIHBB").unpack_from
_half = Struct(">H").unpack_from


class TcpSegment:
    """One received segment. `mss`, `window_shift`, `sack_permitted` hold if SYN is in `flags`."""

    __slots__ = (
        "ack",
        "buf",
        "destination_port",
        "end",
        "flags",
        "has_timestamps",
        "mss",
        "sack",
        "sack_permitted",
        "seq",
        "source_port",
        "start",
        "ts_echo",
        "ts_value",
        "urgent",
        "window",
        "window_shift",
    )

    source_port: int
    destination_port: int
    seq: int
    ack: int
    flags: int
    """The low eight flag bits (FIN is 1, CWR is 128)."""
    window: int
    """As in the header, not scaled."""
    urgent: int
    """The urgent pointer, if URG is in `flags`: how many bytes after `seq` the urgent one ends."""
    buf: bytes | bytearray | memoryview
    start: int
    """Offset of the payload in `buf`."""
    end: int
    """Offset after the payload in `buf`."""
    has_timestamps: bool
    ts_value: int
    ts_echo: int
    sack: tuple[tuple[int, int], ...]
    """Blocks (left edge, right edge), in the order of the option."""
    mss: int
    """0 if the SYN has none."""
    window_shift: int
    """-1 if the SYN has none."""
    sack_permitted: bool

    def __init__(self) -> None:
        self.source_port = self.destination_port = 0
        self.seq = self.ack = self.flags = self.window = self.urgent = 0
        self.buf = b""
        self.start = self.end = 0
        self.has_timestamps = False
        self.ts_value = self.ts_echo = 0
        self.sack = ()
        self.mss = 0
        self.window_shift = -1
        self.sack_permitted = False

    @property
    def span(self) -> int:
        """Sequence numbers occupied: the payload's bytes, one for SYN and one for FIN."""
        return self.end - self.start + (self.flags >> 1 & 1) + (self.flags & 1)

    def __repr__(self) -> str:
        names = "".join(
            letter
            for bit, letter in zip((2, 16, 1, 4, 8, 32), "SAFRPU", strict=True)
            if self.flags & bit
        )
        return (
            f"<{self.source_port}>{self.destination_port} {names} seq={self.seq} ack={self.ack} "
            f"win={self.window} len={self.end - self.start}>"
        )


def tcp_sum_ok(buf: bytes | bytearray | memoryview, start: int, end: int, pseudo: int) -> bool:
    """Whether the checksum of `buf[start:end]` is good; `pseudo` as in `parse_tcp`."""
    return not (pseudo + checksum.add(memoryview(buf)[start:end])) % 65535


def parse_tcp(
    buf: bytes | bytearray | memoryview,
    start: int,
    end: int,
    pseudo: int | None = None,
    segment: TcpSegment | None = None,
) -> TcpSegment:
    """Parse the segment in `buf[start:end]`, into `segment` if one is given.

    `pseudo` is the residue of the pseudo-header (`checksum.pseudo_header`), with which the
    checksum is verified; None where it is known to be good or not filled in yet (offload).

    Raises MalformedSegment with the reason `too_short`, `bad_checksum`, `bad_offset` or
    `bad_option`.
    """
    if end - start < HEADER:
        raise MalformedSegment("too_short")
    if pseudo is not None and not tcp_sum_ok(buf, start, end, pseudo):
        raise MalformedSegment("bad_checksum")
    seg = segment if segment is not None else TcpSegment()
    (
        seg.source_port,
        seg.destination_port,
        seg.seq,
        seg.ack,
        offset_flags,
        seg.window,
        _checksum,
        seg.urgent,
    ) = _header(buf, start)
    options_end = start + (offset_flags >> 12) * 4
    options = start + HEADER
    if not options <= options_end <= end:
        raise MalformedSegment("bad_offset")
    seg.flags = flags = offset_flags & 0xFF
    seg.buf = buf
    seg.start = options_end
    seg.end = end
    seg.sack = ()
    if options_end - options == 12:
        word, seg.ts_value, seg.ts_echo = _three_words(buf, options)
        if word == NOP_NOP_TIMESTAMPS and not flags & SYN:
            seg.has_timestamps = True
            return seg
    seg.has_timestamps = False
    if flags & SYN:
        seg.mss = 0
        seg.window_shift = -1
        seg.sack_permitted = False
        if options_end - options == SYN_OPTIONS and _linux_syn(seg, buf, options):
            return seg
    if options_end > options:
        _parse_options(seg, buf, options, options_end)
    return seg


def _linux_syn(seg: TcpSegment, buf: bytes | bytearray | memoryview, at: int) -> bool:
    """Take the options of a SYN that are laid out as Linux does; False if they are not."""
    first, mss, second, third, value, echo, fourth, fifth, shift = _syn_options(buf, at)
    if (first, second, third, fourth, fifth) != SYN_LAYOUT:
        return False
    seg.mss = mss
    seg.sack_permitted = seg.has_timestamps = True
    seg.ts_value = value
    seg.ts_echo = echo
    seg.window_shift = shift if shift < MAX_WINDOW_SHIFT else MAX_WINDOW_SHIFT
    return True


def _parse_options(seg: TcpSegment, buf: bytes | bytearray | memoryview, at: int, end: int) -> None:
    """Walk the options of `buf[at:end]`. Unknown kinds are skipped (RFC 9293, MUST-6)."""
    syn = seg.flags & SYN
    while at < end:
        kind = buf[at]
        if kind == OPTION_END:
            return
        if kind == OPTION_NOP:
            at += 1
            continue
        length = buf[at + 1] if at + 1 < end else 0
        if length < 2 or at + length > end:
            raise MalformedSegment("bad_option")
        if kind == OPTION_TIMESTAMPS:
            if length != 10:
                raise MalformedSegment("bad_option")
            seg.ts_value, seg.ts_echo = _two_words(buf, at + 2)
            seg.has_timestamps = True
        elif kind == OPTION_SACK:
            if length < 10 or (length - 2) % 8:
                raise MalformedSegment("bad_option")
            seg.sack = tuple(_two_words(buf, block) for block in range(at + 2, at + length, 8))
        elif kind == OPTION_MSS and syn:
            if length != 4:
                raise MalformedSegment("bad_option")
            (seg.mss,) = _half(buf, at + 2)
        elif kind == OPTION_WINDOW_SCALE and syn:
            if length != 3:
                raise MalformedSegment("bad_option")
            seg.window_shift = min(buf[at + 2], MAX_WINDOW_SHIFT)
        elif kind == OPTION_SACK_PERMITTED and syn:
            if length != 2:
                raise MalformedSegment("bad_option")
            seg.sack_permitted = True
        at += length

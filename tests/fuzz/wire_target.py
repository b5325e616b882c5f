"""Coverage-guided fuzzing of what strangers and peers can send, with atheris.

Every decoder of VSHP and of WireGuard, whole sessions of either, and announcements.

atheris is not a dependency; in an environment that has it beside this project:

    pip install atheris
    python -m tests.fuzz.wire_target -max_total_time=600 -max_len=2048

The first byte picks what is fed. Only the named errors may come out; anything
else is a finding, and atheris writes the input beside the working directory.
`play` without atheris replays one such file: `python -m tests.fuzz.wire_target FILE`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from reach import announced
from sealing.errors import AuthFailed, PeerViolation
from tests.vshp.dialogue import GATEWAY_KEY, LEASE, connected, drain, feed, pair
from tests.vshp.lossy import World
from tests.vshp.lossy import connected as datagrams_connected
from tests.wireguard.pipe import Pair, Side, Spot, packet
from vshp import frames
from vshp.constants import MAX_EARLY_RECORD_PLAINTEXT
from vshp.datagram_listener import DatagramListener
from vshp.errors import FrameInvalid, FrameTruncated, Refused
from vshp.preamble import decode_preamble
from vshp.reliable import ControlReceiver, decode_ack
from vshp.session import GatewaySession
from vshp.tickets import TicketBook
from vshp.uri import PairingUri, UriError
from wireguard import constants, messages
from wireguard.constants import (
    COOKIE_REPLY,
    COOKIE_REPLY_SIZE,
    DATA,
    DATA_OVERHEAD,
    INITIATION,
    INITIATION_SIZE,
    MACS_SIZE,
    MTU,
    RESPONSE,
    RESPONSE_SIZE,
)
from wireguard.macs import add_macs

EXPECTED = (PeerViolation, AuthFailed, Refused, UriError, FrameInvalid, FrameTruncated)
BOOK = TicketBook(bytes(32))


def no_secret(name: bytes) -> bytes:
    raise Refused("secret_unknown")


def at_the_port(data: bytes) -> None:
    """A stranger's bytes at a fresh gateway."""
    feed(GatewaySession(GATEWAY_KEY, no_secret, 0.0), data)


def inside_a_stream(data: bytes) -> None:
    """Frames of a peer that holds the keys, toward either side."""
    for side in ("client", "gateway"):
        both = connected()
        near = both.client if side == "client" else both.gateway
        far = both.gateway if side == "client" else both.client
        near.writer.buffer[: len(data)] = data
        near.writer._fill = len(data)
        near.writer.flush()
        feed(far, drain(near))


def while_pending(data: bytes) -> None:
    """The same before there is a lease."""
    both = pair()
    both.exchange()
    both.gateway.pending(60, 0.0)
    both.exchange()
    data = data[:MAX_EARLY_RECORD_PLAINTEXT]
    both.client.writer.buffer[: len(data)] = data
    both.client.writer._fill = len(data)
    both.client.writer.flush()
    feed(both.gateway, drain(both.client))


def stream_bytes(data: bytes) -> None:
    """Damage on the way in an open session."""
    both = connected()
    both.client.writer.reserve_packet(40)
    both.client.writer.flush()
    feed(both.gateway, drain(both.client) + data)
    feed(both.client, data)


def datagram_at_the_door(data: bytes) -> None:
    listener = DatagramListener(GATEWAY_KEY, no_secret, 0.0)
    listener.receive_datagram(memoryview(data), ("192.0.2.1", 1), 0.0)
    listener.receive_datagram(memoryview(data.ljust(1200, b"\0")), ("192.0.2.1", 1), 0.0)


def inside_datagrams(data: bytes) -> None:
    world = datagrams_connected()
    data = data[:1200]
    world.client.writer.buffer[: len(data)] = data
    world.client.writer._fill = len(data)
    world.client.writer.flush()
    world.run(0.1)


def answers_to_a_client(data: bytes) -> None:
    world = World()
    index = world.client.index.to_bytes(4, "little")
    answer = data[:4] + index + data[4:]
    world.client.receive_datagram(memoryview(answer), ("192.0.2.1", 1), 0.0)


def text(data: bytes) -> None:
    PairingUri.decode("VSHP:" + data.decode("latin-1"))


def judged(pair: Pair, side: Side, datagram: bytes, where: Spot | None = None) -> None:
    """Datagrams are counted or answered: no error at all comes out."""
    try:
        pair.deliver(side, datagram, where)
    except EXPECTED as error:
        raise AssertionError("a datagram raised") from error


def at_the_wireguard_door(data: bytes) -> None:
    """A stranger's datagram, and messages that are made of it and know the gateway's key."""
    door = Pair()
    stranger = Spot("192.0.2.1", 1)
    judged(door, door.gateway, data or b"\0", stranger)
    judged(door, door.gateway, bytes((DATA, 0, 0, 0)) + data, stranger)
    for kind, size in ((INITIATION, INITIATION_SIZE), (RESPONSE, RESPONSE_SIZE)):
        body = (bytes((kind, 0, 0, 0)) + data)[: size - MACS_SIZE].ljust(size - MACS_SIZE, b"\0")
        key = door.gateway.device.identity.mac1_key
        judged(door, door.gateway, add_macs(body, key, None), stranger)


def inside_wireguard(data: bytes) -> None:
    """What a peer that holds the keys seals, and damage on the way of its datagrams."""
    tunnel = Pair()
    tunnel.connect()
    assert tunnel.send(tunnel.client, data[:MTU])
    tunnel.run(0.1)
    assert tunnel.send(tunnel.client, packet(2, b"still"))
    tunnel.run(0.1)
    assert tunnel.gateway.packets[-1] == packet(2, b"still"), "the session goes on"


def wireguard_answers(data: bytes) -> None:
    """Responses, cookies and data for a client that waits for an answer."""
    asking = Pair()
    asking.send(asking.client, packet(2))
    index = asking.log[-1][1][4:8]
    for kind, at, size in (
        (RESPONSE, 8, RESPONSE_SIZE - MACS_SIZE),
        (COOKIE_REPLY, 4, COOKIE_REPLY_SIZE),
        (DATA, 4, DATA_OVERHEAD + len(data) // 16 * 16),
    ):
        message = bytearray((bytes((kind, 0, 0, 0)) + data)[:size].ljust(size, b"\0"))
        message[at : at + 4] = index
        if kind == RESPONSE:
            message[:] = add_macs(bytes(message), asking.client.device.identity.mac1_key, None)
        judged(asking, asking.client, bytes(message))


def wireguard_fields(data: bytes) -> None:
    """A message as it is cut into fields, once its size is that of its type."""
    match messages.kind_of(data):
        case constants.INITIATION:
            messages.parse_initiation(data)
        case constants.RESPONSE:
            messages.parse_response(data)
        case constants.COOKIE_REPLY:
            messages.parse_cookie_reply(data)


def announcement(data: bytes) -> None:
    """At once, and as the records of an answer."""
    announced.read(data, "192.0.2.1")
    head = b"\0\0\x84\0\0\0" + bytes((0, len(data) % 7 + 1)) + bytes(4)
    for place in announced.read(head + data, "192.0.2.1"):
        assert place.port and len(place.fingerprint) == 16


TARGETS: list[Callable[[bytes], object]] = [
    at_the_port,
    inside_a_stream,
    while_pending,
    stream_bytes,
    datagram_at_the_door,
    inside_datagrams,
    answers_to_a_client,
    text,
    at_the_wireguard_door,
    inside_wireguard,
    wireguard_answers,
    wireguard_fields,
    announcement,
    decode_preamble,
    frames.split_frames,
    frames.decode_hello,
    frames.decode_resume,
    frames.decode_auth,
    lambda data: frames.decode_config(data, None),
    lambda data: frames.decode_config(data, LEASE),
    frames.decode_ping,
    frames.decode_status,
    frames.decode_close,
    decode_ack,
    lambda data: ControlReceiver().take(data),
    lambda data: BOOK.open(data, bytes(16), bytes(32), 0.0),
]


def play(data: bytes) -> None:
    """Feed one input; what is expected to come out is swallowed."""
    if not data:
        return
    try:
        TARGETS[data[0] % len(TARGETS)](data[1:])
    except EXPECTED:
        return


def main() -> None:
    if len(sys.argv) == 2 and Path(sys.argv[1]).is_file():
        play(Path(sys.argv[1]).read_bytes())
        return
    atheris = importlib.import_module("atheris")
    atheris.instrument_all()
    atheris.Setup(sys.argv, play)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

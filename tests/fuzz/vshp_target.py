"""Coverage-guided fuzzing of every VSHP decoder and of whole sessions, with atheris.

atheris is not a dependency; in an environment that has it beside this project:

    pip install atheris
    python -m tests.fuzz.vshp_target -max_total_time=600 -max_len=2048

The first byte picks what is fed. Only the named errors may come out; anything
else is a finding, and atheris writes the input beside the working directory.
`play` without atheris replays one such file: `python -m tests.fuzz.vshp_target FILE`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from sealing.errors import AuthFailed, PeerViolation
from tests.vshp.dialogue import GATEWAY_KEY, LEASE, connected, drain, feed, pair
from tests.vshp.lossy import World
from tests.vshp.lossy import connected as datagrams_connected
from vshp import frames
from vshp.constants import MAX_EARLY_RECORD_PLAINTEXT
from vshp.datagram_listener import DatagramListener
from vshp.errors import FrameInvalid, FrameTruncated, Refused
from vshp.preamble import decode_preamble
from vshp.reliable import ControlReceiver, decode_ack
from vshp.session import GatewaySession
from vshp.tickets import TicketBook
from vshp.uri import PairingUri, UriError

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


TARGETS: list[Callable[[bytes], object]] = [
    at_the_port,
    inside_a_stream,
    while_pending,
    stream_bytes,
    datagram_at_the_door,
    inside_datagrams,
    answers_to_a_client,
    text,
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

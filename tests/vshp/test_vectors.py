"""VSHP's own vectors: what this code writes today is what the file says, and it reads it back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sealing.identity import public_key
from sealing.records import RecordKey
from tests.vectors import generate
from vshp.config import Carrier, CloseReason, Pattern, Suite
from vshp.events import HelloReceived, LeaseGranted, PeerClosed
from vshp.frames import decode_config, decode_hello, split_frames
from vshp.uri import PairingUri

FILE: dict[str, Any] = json.loads(generate.PATH.read_text())
STREAMS = [(entry["pattern"], entry["suite"]) for entry in FILE["streams"]]


def test_the_file_is_what_the_code_writes() -> None:
    assert generate.build() == FILE


@pytest.mark.parametrize(("pattern", "suite"), STREAMS)
def test_streams_read_back(pattern: str, suite: str) -> None:
    """Each side alone, fed the other's recorded bytes."""
    entry = next(e for e in FILE["streams"] if (e["pattern"], e["suite"]) == (pattern, suite))
    turns = [bytes.fromhex(turn) for turn in entry["turns"]]
    xx = pattern == Pattern.XX.name
    # The gateway alone.
    client, gateway = generate.stream_ends(pattern, Suite[suite])
    packets: list[bytes] = []
    gateway.on_packet = lambda buf, start, end, offload: packets.append(bytes(buf[start:end]))
    client_turns = [0, 2, 4] if xx else [0]
    for n in client_turns:
        generate.give(gateway, turns[n])
    hello = gateway.next_event()
    assert isinstance(hello, HelloReceived)
    assert hello.code == entry["code"]
    assert hello.public_key == public_key(generate.CLIENT)
    rest = client_turns[-1] + 1
    if pattern == "IK":
        assert hello.resume is not None
        gateway.approve(
            replace(generate.LEASE, resumed=True, ticket=b"next"),
            0.0,
            base=generate.LEASE,
        )
        rest += 1
    else:
        gateway.pending(120.0, 0.0)
        generate.give(gateway, turns[rest + 1])
        gateway.approve(generate.LEASE, 0.0)
        rest += 3
    for turn in (turns[rest], turns[rest + 1], turns[-1]):
        generate.give(gateway, turn)
    assert packets == [generate.PACKET] * 2
    events = []
    while (event := gateway.next_event()) is not None:
        events.append(event)
    assert events[-1] == PeerClosed(CloseReason.DISCONNECTED)
    # The client alone.
    received: list[bytes] = []
    client.on_packet = lambda buf, start, end, offload: received.append(bytes(buf[start:end]))
    before = rest - 1
    for n in range(1, before + 1, 2):
        if xx and n == before:
            client.agree(0.0)
        generate.give(client, turns[n])
    for turn in turns[rest + 2 : rest + 4]:
        generate.give(client, turn)
    assert received == [generate.PACKET] * 2
    events = []
    while (event := client.next_event()) is not None:
        events.append(event)
    (granted,) = [event for event in events if isinstance(event, LeaseGranted)]
    assert granted.lease.ipv4 == generate.LEASE.ipv4
    assert granted.lease.resumed == (pattern == "IK")


def test_single_values_read_back() -> None:
    ((_, body),) = split_frames(bytes.fromhex(FILE["frames"]["HELLO"]))
    assert decode_hello(body) == generate.HELLO
    ((_, body),) = split_frames(bytes.fromhex(FILE["frames"]["CONFIG"]))
    assert decode_config(body, None) == generate.LEASE
    ((_, body),) = split_frames(bytes.fromhex(FILE["frames"]["HELLO over USB"]))
    assert decode_hello(body).carrier is Carrier.USB
    ((_, body),) = split_frames(bytes.fromhex(FILE["frames"]["CONFIG delta, endpoints"]))
    assert decode_config(body, generate.LEASE).endpoints == generate.ENDPOINTS
    uri = PairingUri.decode(FILE["pairing"]["uri"])
    assert uri.secret.hex() == FILE["pairing"]["secret"]
    assert uri.public_key.hex() == FILE["keys"]["gateway_public"]
    for name, entry in FILE["rekey"].items():
        key = RecordKey(Suite[name].cipher, bytes.fromhex(entry["key"])).successor()
        assert key._key.hex() == entry["next"]

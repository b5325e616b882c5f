"""What one learns who listens on the path, and who steals a key later."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag

from sealing.errors import AuthFailed
from sealing.records import RecordKey
from tests.vshp.dialogue import (
    GATEWAY_KEY,
    GATEWAY_PUBLIC,
    HELLO,
    LEASE,
    Pair,
    Session,
    connected,
    drain,
    events,
    feed,
    pair,
)
from vshp.config import Pattern, Resume, Suite
from vshp.events import LeaseGranted
from vshp.pairing import OneTimeSecrets, secret_id
from vshp.preamble import decode_preamble
from vshp.session import GatewaySession

MESSAGE = b"a packet that nobody else shall read"
TICKET = b"T" * 80


def no_secret(name: bytes) -> bytes:
    raise AssertionError(name)


def record_of(session: Session) -> bytes:
    """The record in which the session sends `MESSAGE`."""
    session.writer.send_packet(bytearray(64) + MESSAGE, 64, 64 + len(MESSAGE))
    session.writer.flush()
    return drain(session)


def recorded(both: Pair) -> tuple[bytes, bytes]:
    """Let the pair get its lease and say `MESSAGE` both ways; what a listener has of it."""
    up = drain(both.client)
    feed(both.gateway, up)
    both.hello()
    both.gateway.approve(LEASE, 0.0)
    down = drain(both.gateway)
    feed(both.client, down)
    up += drain(both.client)
    return up + record_of(both.client), down + record_of(both.gateway)


def test_what_a_listener_sees() -> None:
    secrets = OneTimeSecrets(GATEWAY_PUBLIC)
    secret = secrets.issue(0.0)
    up, down = recorded(pair(secret=secret, secrets=secrets))
    decoded = decode_preamble(up)
    assert decoded is not None
    preamble, _ = decoded
    assert preamble.pattern is Pattern.IK_PSK1 and preamble.secret_id == secret_id(secret)
    for inside in (secret, HELLO.label.encode(), LEASE.name.encode(), LEASE.ticket, MESSAGE):
        assert inside not in up + down


def test_a_stolen_static_key_opens_old_hellos_and_no_packet() -> None:
    """The first message is for the static key alone; all else needs keys that were thrown away."""
    both = pair(resume=Resume(LEASE.session_id, TICKET, LEASE))
    first = drain(both.client)
    feed(both.gateway, first)
    both.hello()
    both.gateway.approve(LEASE, 0.0)
    feed(both.client, drain(both.gateway))
    later = drain(both.client) + record_of(both.client)

    thief = GatewaySession(GATEWAY_KEY, no_secret, 0.0)
    opened: list[bytes] = []
    thief.on_packet = lambda buf, start, end, offload: opened.append(bytes(buf[start:end]))
    feed(thief, first)
    hello = Pair(both.client, thief).hello()
    assert hello.label == HELLO.label and hello.resume is not None
    assert hello.resume.ticket == TICKET
    thief.approve(LEASE, 0.0)
    with pytest.raises(AuthFailed, match="record_forged"):
        feed(thief, later)
    assert MESSAGE not in b"".join(opened)


def test_who_holds_the_gateways_key_is_the_gateway() -> None:
    both = pair()
    both.gateway = GatewaySession(GATEWAY_KEY, no_secret, 0.0)
    both.exchange()
    both.hello()
    both.gateway.approve(LEASE, 0.0)
    both.exchange()
    assert any(isinstance(event, LeaseGranted) for event in events(both.client))


@pytest.mark.parametrize("suite", list(Suite))
def test_the_key_in_use_opens_nothing_from_before_its_rekeying(suite: Suite) -> None:
    before = connected(suite=suite).gateway._key
    assert before is not None
    nonce = before.nonce(0, 7)
    sealed = bytearray(len(MESSAGE) + 16)
    before.encrypt_into(nonce, MESSAGE, None, memoryview(sealed))

    def opens(key: RecordKey) -> bytes:
        plain = bytearray(len(MESSAGE))
        key.decrypt_into(nonce, sealed, None, memoryview(plain))
        return bytes(plain)

    assert opens(before) == MESSAGE
    stolen = before.successor()
    for _ in range(100):
        with pytest.raises(InvalidTag):
            opens(stolen)
        stolen = stolen.successor()

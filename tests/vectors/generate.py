"""Writes `vshp.json`: VSHP's own test vectors, from fixed keys and fixed shares.

Run it only when the protocol changes on purpose: `python -m tests.vectors.generate`.
The tests replay the file in both directions; another implementation can too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sealing.identity import public_key
from sealing.records import RecordKey
from vshp.config import (
    Capability,
    Carrier,
    CloseReason,
    GatewayStatus,
    Hello,
    LeaseConfig,
    Resume,
    Route,
    Suite,
)
from vshp.datagram_listener import DatagramListener
from vshp.datagram_session import DatagramClientSession
from vshp.endpoints import Endpoint
from vshp.frames import (
    AUTH_PENDING,
    FrameType,
    encode_auth,
    encode_close,
    encode_config,
    encode_frame,
    encode_hello,
    encode_ping,
    encode_resume,
    encode_status,
)
from vshp.pairing import code_commitment, derive_psk, pairing_code, secret_id
from vshp.session import ClientSession, GatewaySession
from vshp.uri import PairingUri

PATH = Path(__file__).with_name("vshp.json")
CLIENT = bytes(range(1, 33))
GATEWAY = bytes(range(33, 65))
CLIENT_EPHEMERAL = bytes(range(65, 97))
GATEWAY_EPHEMERAL = bytes(range(97, 129))
SECRET = bytes(range(0xA0, 0xB0))
HELLO = Hello("laptop", "linux", Capability.OFFLOAD | Capability.IPV6, 65535)
LEASE = LeaseConfig(
    session_id=bytes(range(16)),
    ipv4=bytes((10, 77, 0, 2)),
    ipv6=bytes.fromhex("fd770000000000000000000000000002"),
    gateway_ipv4=bytes((10, 77, 0, 1)),
    gateway_ipv6=bytes.fromhex("fd770000000000000000000000000001"),
    mtu=1400,
    offload=True,
    expires_in=3600,
    routes=(Route(bytes(4), 0), Route(bytes(16), 0)),
    name="phone",
    ticket=bytes(range(40)),
)
ENDPOINTS = (Endpoint.of("any", "192.168.1.7", 47800), Endpoint.of("tcp", "fd00::1", 443))
PACKET = bytes.fromhex("4500001c000100004001000000000000ffffffff0800f7fe00000001")
ADDRESS = ("192.0.2.1", 47800)


def counting(start: int) -> Callable[[int], bytes]:
    """A 'random' source that counts: each call gives bytes one value higher."""
    state = start

    def rng(n: int) -> bytes:
        nonlocal state
        state += 1
        return bytes((state & 0xFF,)) * n

    return rng


def take(session: ClientSession | GatewaySession) -> bytes:
    data = bytes(session.writer.output())
    session.writer.consumed(len(data))
    return data


def give(session: ClientSession | GatewaySession, data: bytes) -> None:
    buffer = session.receive_buffer()
    buffer[: len(data)] = data
    session.received(len(data), 0.0)


def stream_ends(
    pattern: str, suite: Suite, on_gateway: Callable[[GatewaySession], None] | None = None
) -> tuple[ClientSession, GatewaySession]:
    """Client and gateway of a stream vector."""
    resume = Resume(LEASE.session_id, LEASE.ticket, LEASE) if pattern == "IK" else None
    client = ClientSession(
        CLIENT,
        None if pattern == "XX" else public_key(GATEWAY),
        HELLO,
        now=0.0,
        secret=SECRET if pattern == "IKpsk1" else None,
        resume=resume,
        suite=suite,
        rng=counting(0x10),
        ephemeral=CLIENT_EPHEMERAL,
    )
    gateway = GatewaySession(
        GATEWAY,
        lambda name: derive_psk(SECRET, public_key(GATEWAY)),
        0.0,
        rng=counting(0x80),
        ephemeral=GATEWAY_EPHEMERAL,
    )
    return client, gateway


def stream(pattern: str, suite: Suite) -> dict[str, Any]:
    """A whole session: every byte each side writes, turn by turn, the client first."""
    client, gateway = stream_ends(pattern, suite)
    turns: list[str] = []

    def turn(sender: ClientSession | GatewaySession) -> None:
        data = take(sender)
        turns.append(data.hex())
        give(gateway if sender is client else client, data)

    turn(client)
    if pattern == "XX":
        turn(gateway)
        turn(client)
        turn(gateway)
        turn(client)
    hello = next_hello(gateway)
    if pattern == "IK":
        gateway.approve(replace(LEASE, resumed=True, ticket=b"next"), 0.0, base=LEASE)
    else:
        gateway.pending(120.0, 0.0)
        turn(gateway)
        if pattern == "XX":
            client.agree(0.0)
        turn(client)
        gateway.approve(LEASE, 0.0)
    turn(gateway)
    for session in (client, gateway):
        at = session.writer.reserve_packet(len(PACKET), csum_start=20, csum_offset=2)
        session.writer.buffer[at : at + len(PACKET)] = PACKET
        session.writer.flush()
        turn(session)
        session.writer.rekey()
        at = session.writer.reserve_packet(len(PACKET))
        session.writer.buffer[at : at + len(PACKET)] = PACKET
        session.writer.flush()
        turn(session)
    client.close(CloseReason.DISCONNECTED, 0.0)
    turn(client)
    return {"pattern": pattern, "suite": suite.name, "code": hello.code, "turns": turns}


def next_hello(gateway: Any) -> Any:
    """The HELLO among the gateway's events."""
    return gateway.next_event()


def datagrams(suite: Suite) -> dict[str, Any]:
    """A datagram session over IK: every datagram, in order."""
    client = DatagramClientSession(
        CLIENT,
        public_key(GATEWAY),
        HELLO,
        address=ADDRESS,
        now=0.0,
        suite=suite,
        rng=counting(0x10),
        ephemeral=CLIENT_EPHEMERAL,
    )
    listener = DatagramListener(GATEWAY, lambda name: bytes(32), 0.0, counting(0x80))
    listener.ephemeral = GATEWAY_EPHEMERAL
    sent: list[dict[str, str]] = []

    def send(name: str, runs: list[tuple[memoryview, int]]) -> list[bytes]:
        found = [bytes(run[at : at + n]) for run, n in runs for at in range(0, len(run), n)]
        sent.extend({"from": name, "datagram": data.hex()} for data in found)
        return found

    (question,) = send("client", client.datagrams_to_send())
    session = listener.receive_datagram(memoryview(question), ADDRESS, 0.0)
    assert session is not None
    session.approve(replace(LEASE, offload=False), 0.0)
    for data in send("gateway", session.datagrams_to_send()):
        client.receive_datagram(memoryview(data), ADDRESS, 0.0)
    client.writer.rekey()
    at = client.writer.reserve_packet(len(PACKET))
    client.writer.buffer[at : at + len(PACKET)] = PACKET
    client.writer.flush()
    for data in send("client", client.datagrams_to_send()):
        session.receive_datagram(memoryview(data), ADDRESS, 0.0)
    session.status(GatewayStatus(vpn_up=False), 0.0)
    for data in send("gateway", session.datagrams_to_send()):
        client.receive_datagram(memoryview(data), ADDRESS, 0.0)
    send("client", client.datagrams_to_send())
    return {"suite": suite.name, "datagrams": sent}


def build() -> dict[str, Any]:
    """The whole file."""
    frames = {
        "HELLO": (FrameType.HELLO, encode_hello(HELLO)),
        "AUTH pending 120 s": (FrameType.AUTH, encode_auth(AUTH_PENDING, 120)),
        "CONFIG": (FrameType.CONFIG, encode_config(LEASE)),
        "CONFIG delta, mtu 1300": (
            FrameType.CONFIG,
            encode_config(replace(LEASE, mtu=1300), LEASE),
        ),
        "CONFIG delta, endpoints": (
            FrameType.CONFIG,
            encode_config(replace(LEASE, endpoints=ENDPOINTS), LEASE),
        ),
        "HELLO over USB": (FrameType.HELLO, encode_hello(replace(HELLO, carrier=Carrier.USB))),
        "PING": (FrameType.PING, encode_ping(LEASE.session_id, 7, 1000, 2000)),
        "RESUME": (FrameType.RESUME, encode_resume(Resume(LEASE.session_id, LEASE.ticket))),
        "STATUS no VPN, 1 GiB left": (
            FrameType.STATUS,
            encode_status(GatewayStatus(False, True, True, 1 << 30)),
        ),
        "CLOSE revoked": (FrameType.CLOSE, encode_close(CloseReason.REVOKED, "by the owner")),
    }
    uri = PairingUri(
        public_key(GATEWAY),
        SECRET,
        "phone",
        ENDPOINTS,
    )
    shares = (bytes([0xC1]) * 32, bytes([0xC2]) * 32)
    return {
        "keys": {
            "client_private": CLIENT.hex(),
            "client_public": public_key(CLIENT).hex(),
            "gateway_private": GATEWAY.hex(),
            "gateway_public": public_key(GATEWAY).hex(),
            "client_ephemeral": CLIENT_EPHEMERAL.hex(),
            "gateway_ephemeral": GATEWAY_EPHEMERAL.hex(),
        },
        "pairing": {
            "secret": SECRET.hex(),
            "secret_id": secret_id(SECRET).hex(),
            "psk": derive_psk(SECRET, public_key(GATEWAY)).hex(),
            "uri": uri.encode(),
            "handshake_hash": bytes(32).hex(),
            "client_share": shares[0].hex(),
            "client_commitment": code_commitment(shares[0]).hex(),
            "gateway_share": shares[1].hex(),
            "code": pairing_code(bytes(32), *shares),
        },
        "rekey": {
            suite.name: {
                "key": bytes(range(32)).hex(),
                "next": RecordKey(suite.cipher, bytes(range(32))).successor()._key.hex(),
            }
            for suite in Suite
        },
        "frames": {name: encode_frame(*frame).hex() for name, frame in frames.items()},
        "streams": [
            stream(pattern, suite) for pattern in ("IK", "IKpsk1", "XX") for suite in Suite
        ],
        "datagrams": [datagrams(suite) for suite in Suite],
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=1) + "\n")

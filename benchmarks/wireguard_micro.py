"""What WireGuard costs: a handshake beside noiseprotocol's, a packet beside its cipher, and a
packet's whole way through a gateway up to the socket.

Prints microseconds, the best of several rounds. Run it alone on the machine:
`python -m benchmarks.wireguard_micro`.
"""

from __future__ import annotations

from time import perf_counter

from benchmarks.nat_micro import CLIENT, World
from benchmarks.vshp_micro import best
from netstack.join import SegmentJoiner
from sealing.identity import generate_identity, public_key
from sealing.records import Cipher, RecordKey
from tests.wireguard.oracles import noise_library
from tests.wireguard.pipe import Pair, packet
from wireguard.constants import NO_PSK
from wireguard.noise import (
    Identity,
    PeerKeys,
    ephemeral,
    finish,
    initiate,
    open_static,
    open_timestamp,
    respond,
)
from wireguard.peer import Peer
from wireguard.timestamps import tai64n

STAMP = tai64n(1_800_000_000.0)
SIZE = 1420
RUN = 32
STAMPS = bytes.fromhex("0101080a0000000100000002")


def handshakes() -> None:
    private, other = generate_identity(), generate_identity()
    client, gateway = Identity(private), Identity(other)
    to_gateway, to_client = PeerKeys(client, gateway.public), PeerKeys(gateway, client.public)
    message, state = initiate(client, to_gateway, 1, STAMP, ephemeral())

    def responder() -> None:
        opened = open_static(gateway, message)
        accepted = open_timestamp(opened, message, to_client.static_static)
        respond(accepted, message, to_client, 2, ephemeral())

    opened = open_static(gateway, message)
    accepted = open_timestamp(opened, message, to_client.static_static)
    response, _ = respond(accepted, message, to_client, 2, ephemeral())

    def initiator() -> None:
        initiate(client, to_gateway, 1, STAMP, ephemeral())
        finish(client, state, response, to_gateway)

    def library() -> None:
        noise = noise_library(False, other, None, NO_PSK)
        noise.read_message(first)
        noise.write_message(b"")

    first = bytes(noise_library(True, private, public_key(other), NO_PSK).write_message(STAMP))

    def look_up() -> None:
        open_static(gateway, message)

    for name, work in (
        ("responder, whole handshake", responder),
        ("responder, until the key is looked up", look_up),
        ("responder by noiseprotocol", library),
        ("initiator, whole handshake", initiator),
    ):
        print(f"{name:40} {best(work, 100):8.1f} us")


def packets() -> None:
    pair = Pair()
    pair.connect()
    peer, device = pair.client.peer, pair.gateway.device
    one = packet(2, bytes(SIZE - 20))
    pair.gateway.peer.on_packet = lambda buf, start, end: None
    runs: list[bytes] = []

    def seal() -> None:
        for _ in range(RUN):
            at = peer.writer.reserve_packet(SIZE)
            peer.writer.buffer[at : at + SIZE] = one
        runs.append(b"".join(peer.take(0.0)[0][0:1]))

    sealing = best(seal, 20) / RUN
    fresh = iter(runs)

    def unseal() -> None:
        device.receive(memoryview(next(fresh)), SIZE + 32, pair.client.spot, 0.0)

    opening = best(unseal, 15) / RUN
    key = RecordKey(Cipher.CHACHAPOLY, bytes(32))
    plain, sealed = memoryview(bytearray(SIZE)), memoryview(bytearray(SIZE + 16))
    nonce = key.nonce(0, 1)
    cipher = best(lambda: key.encrypt_into(nonce, plain, None, sealed), 500)
    for name, cost in (("seal", sealing), ("open", opening)):
        print(
            f"{name} a packet of {SIZE:<23} {cost:8.2f} us {cost - cipher:8.2f} us beside the AEAD"
        )


def uploads() -> None:
    """A TCP upload by an app that sends runs: opened, joined, through the NAT into a socket that
    takes everything."""
    both, world = Pair(), World(offload=True)
    both.connect()
    both.gateway.peer.ipv4 = CLIENT
    writer = both.client.peer.writer
    server, sequence = world.open(1024), 1000

    def packet_out(buf: memoryview, start: int, end: int, offload: bool) -> None:
        world.peer.from_tunnel(buf, start, end, offload, world.now)

    joiner = SegmentJoiner(packet_out)
    carry(both.gateway.peer, joiner)
    device = both.gateway.device
    cost = 1e9
    for _ in range(300):
        runs = []
        for length in (45, 2):
            for _ in range(length):
                data = world.tcp(1024, 16, sequence, server, SIZE - 52, STAMPS)[10:]
                sequence += SIZE - 52
                at = writer.reserve_packet(SIZE)
                writer.buffer[at : at + SIZE] = data
            writer.flush()
            runs.append(b"".join(run for run, _ in both.client.peer.take(0.0)))
        world.out.space = 1 << 20
        start = perf_counter()
        for run in runs:
            device.receive(memoryview(run), SIZE + 32, both.client.spot, 0.0)
        joiner.flush()
        world.peer.end_batch(world.now)
        cost = min(cost, perf_counter() - start)
    assert world.peer.from_tunnel_bytes > 300 * 47 * (SIZE - 52)
    print(f"{'upload, a packet of ' + str(SIZE):40} {cost / 47 * 1e6:8.2f} us")


def carry(peer: Peer, joiner: SegmentJoiner) -> None:
    """As a link does it."""
    take = joiner.take
    peer.on_packet = lambda buf, start, end: take(buf, start, end, False)
    peer.on_row = joiner.take_row


if __name__ == "__main__":
    handshakes()
    packets()
    uploads()

"""A client whose NIC does no offload: the gateway cuts segments and fills in every checksum.

Only such a client shows complete checksums to tcpdump: with offload both
directions carry partial ones, which the kernel completes later.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterator

import pytest

from tests.netns.capture import Capture
from tests.netns.conftest import Tunnel, connected, opened
from tests.netns.servers import FILE_NAME
from tests.netns.world import ABSENT, ABSENT6

SIZE = 20_000_000
BAD_CHECKSUM = re.compile(r"incorrect|bad (udp |tcp |hdr )?cksum|wrong icmp|bad cksum")


@pytest.fixture(scope="module")
def plain() -> Iterator[Tunnel]:
    with opened() as world, connected(world, "[client]\noffload = false\n") as pair:
        assert not pair.client.status()["lease"]["offload"]
        yield pair


def url(server: str, path: str) -> str:
    return f"http://{f'[{server}]' if ':' in server else server}:8000/{path}"


def test_files_pass_whole_both_ways(plain: Tunnel, server: str) -> None:
    file = plain.world.directory / FILE_NAME
    with file.open("rb") as content:
        data = content.read(SIZE)
    sample = plain.world.directory / "sample"
    sample.write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    down = plain.world.client.run(
        ["sh", "-c", f"curl -sS -g {url(server, f'bytes/{SIZE}')} | sha256sum"]
    )
    assert down.stdout.split()[0] == expected
    up = plain.world.client.run(["curl", "-sS", "-g", "-T", str(sample), url(server, "up")])
    assert up.stdout == expected


def test_no_packet_has_a_bad_checksum(plain: Tunnel, family: int, server: str) -> None:
    client = plain.world.client
    interface = plain.client.status()["interface"]
    with Capture.of(client, interface) as capture:
        client.run(["curl", "-sS", "-g", "-o", "/dev/null", url(server, "bytes/300000")])
        client.run(["curl", "-sS", "-g", "-d", "x" * 50_000, url(server, "up")])
        client.run(["dig", "server.test", "TXT"])
        client.run(["dig", "+tcp", "server.test", "AAAA"])
        client.run(["ping", "-c", "3", "-i", "0.2", "-s", "3000", server])
        absent = ABSENT if family == 4 else ABSENT6
        client.run(["ping", "-c", "1", "-W", "4", absent], check=False)
        with pytest.raises(ConnectionRefusedError):
            client.connect(server, 4444)
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with client.open_socket(kind, socket.SOCK_DGRAM) as datagrams:
            for size in (0, 1, 1400, 5000):
                datagrams.sendto(os.urandom(size), (server, 7))
                datagrams.recv(65535)
            datagrams.connect((server, 4444))
            datagrams.send(b"anyone?")
            with pytest.raises(ConnectionRefusedError):
                datagrams.recv(100)
        lines = capture.lines("-vv", "-t")
    assert len(lines) > 100
    assert [line for line in lines if BAD_CHECKSUM.search(line)] == []

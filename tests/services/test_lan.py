"""Hearing the local network, with and without Android's filter on what comes in.

    [ doc-phone  lan0 192.168.77.7 ] ======= [ lan1 192.168.77.1  doc-router ]

The filter drops whatever arrives by another interface than the VPN's and
loopback; what the phone sends still goes out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PHONE, ROUTER = "doc-phone", "doc-router"
HEARS = (
    "import asyncio, socket; from services.doctor.lan import hears;"
    "print(asyncio.run(hears('lan0', socket.if_nametoindex('lan0'), '192.168.77.7', 24)))"
)
ANSWERS = (
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
    "s.bind(('192.168.77.1', 53)); print('ready', flush=True)\n"
    "while True: s.sendto(b'no', s.recvfrom(512)[1])"
)
pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nft"),
        reason="needs root, ip and nft",
    ),
]


def run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, timeout=30)
    return done.stdout.strip()


@pytest.fixture
def router() -> Iterator[None]:
    """The two hosts, and somebody who answers on the router."""
    for name in (PHONE, ROUTER):
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        run("ip", "netns", "add", name)
    try:
        run(
            "ip", "-n", PHONE, "link", "add", "lan0", "type", "veth",
            "peer", "name", "lan1", "index", "1000", "netns", ROUTER,
        )  # fmt: skip
        for name, link, address in ((PHONE, "lan0", "7"), (ROUTER, "lan1", "1")):
            run("ip", "-n", name, "address", "add", f"192.168.77.{address}/24", "dev", link)
            run("ip", "-n", name, "link", "set", link, "up")
        answering = subprocess.Popen(
            ["ip", "netns", "exec", ROUTER, sys.executable, "-c", ANSWERS], stdout=subprocess.PIPE
        )
        assert answering.stdout is not None
        answering.stdout.readline()
        yield
        answering.kill()
        answering.communicate()
    finally:
        for name in (PHONE, ROUTER):
            run("ip", "netns", "del", name)


def hears() -> str:
    return run("ip", "netns", "exec", PHONE, sys.executable, "-c", HEARS)


@pytest.mark.usefixtures("router")
def test_a_neighbour_is_heard_unless_the_filter_is_on() -> None:
    assert hears() == "True"
    chain = 'type filter hook input priority 0; iifname "lan0" drop;'
    run("ip", "netns", "exec", PHONE, "nft", f"table inet bpf {{ chain in {{ {chain} }}; }}")
    assert hears() == "False"
    run("ip", "-n", PHONE, "address", "del", "192.168.77.7/24", "dev", "lan0")
    assert hears() == "None", "nothing can be asked"

"""One transfer between our TCP and the kernel's, or between two kernels, over the seeded link."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from netstack.tcp.config import CloseReason, TcpConfig
from tests.netsim.kernel_peer import seeded
from tests.netsim.relay import HostEnd, TunEnd, relay
from tests.netsim.simulation import PORTS, Direction, Host
from tests.netsim.tun import KernelHost, kernel_host

PEER = str(Path(__file__).with_name("kernel_peer.py"))
IPV4 = ("10.99.0.1", "10.99.0.2")
IPV6 = ("fd99::1", "fd99::2")


@dataclass(frozen=True, slots=True)
class Result:
    """What a transfer came to; `intact`: both directions arrived with equal hashes."""

    seconds: float
    lost: int
    intact: bool


def start_peer(
    kernel: KernelHost, index: int, role: str, version: int, size: int, seed: int
) -> subprocess.Popen[bytes]:
    """Start the kernel's side as host `index`; a listener is ready on return."""
    addresses = IPV4 if version == 4 else IPV6
    peer = kernel.popen(
        sys.executable, PEER, role,
        addresses[index], str(PORTS[index]), addresses[1 - index], str(PORTS[1 - index]),
        str(size), str(seed),
    )  # fmt: skip
    if role == "listen":
        assert peer.stdout is not None
        assert peer.stdout.readline() == b"ready\n"
    return peer


def report(peer: subprocess.Popen[bytes], expected: bytes) -> tuple[float, bool]:
    """What a peer reports at its end: seconds, and whether it received `expected`."""
    output, _ = peer.communicate(timeout=60)
    result = json.loads(output.splitlines()[-1])
    return result["seconds"], result["sha256"] == hashlib.sha256(expected).hexdigest()


def ours_and_kernel(
    to_us: int,
    from_us: int,
    link: Direction,
    *,
    seed: int = 1,
    version: int = 4,
    offload: bool = False,
    active: bool = False,
    config: TcpConfig | None = None,
    timeout: float = 900.0,
) -> Result:
    """The kernel sends `to_us` bytes to our TCP, which sends `from_us`. `active`: we connect."""
    config = replace(config or TcpConfig(reliable=False), time_wait=0.1)
    ab, ba = replace(link), replace(link)
    to_us_data, from_us_data = seeded(to_us, seed), seeded(from_us, seed + 1)
    with kernel_host("a", IPV4[0], IPV6[0], offload=offload) as kernel:
        # An initial number just below the wrap: every long transfer crosses it.
        host = Host(
            time.monotonic, 1, config, 0xFFFF_8000, from_us_data, version=version, offload=offload
        )
        role = "listen" if active else "connect"
        begin = time.monotonic()
        peer = start_peer(kernel, 0, role, version, to_us, seed)
        if active:
            host.conn.connect(time.monotonic())
            host.pump()
        try:
            relay(
                TunEnd(kernel.descriptor, offload),
                HostEnd(host),
                ab,
                ba,
                seed,
                lambda: host.reason is not None,
                timeout,
            )
            seconds, intact = report(peer, from_us_data)
        finally:
            peer.kill()
            peer.wait()
    if to_us:
        seconds = max(seconds, host.fin_at - begin)
    intact = intact and host.digest.digest() == hashlib.sha256(to_us_data).digest()
    return Result(seconds, ab.lost + ba.lost, intact and host.reason is CloseReason.FINISHED)


def kernel_and_kernel(
    size: int,
    link: Direction,
    *,
    seed: int = 1,
    congestion: str | None = None,
    timeout: float = 900.0,
) -> Result:
    """One kernel sends `size` bytes to another: the measure for what the link allows."""
    ab, ba = replace(link), replace(link)
    data = seeded(size, seed)
    with (
        kernel_host("a", IPV4[0], IPV6[0], congestion=congestion) as sending,
        kernel_host("b", IPV4[1], IPV6[1]) as receiving,
    ):
        receiver = start_peer(receiving, 1, "listen", 4, 0, seed)
        sender = start_peer(sending, 0, "connect", 4, size, seed)
        try:
            relay(
                TunEnd(sending.descriptor),
                TunEnd(receiving.descriptor),
                ab,
                ba,
                seed,
                lambda: receiver.poll() is not None,
                timeout,
            )
            seconds, intact = report(receiver, data)
        finally:
            for peer in (sender, receiver):
                peer.kill()
                peer.wait()
    return Result(seconds, ab.lost + ba.lost, intact)

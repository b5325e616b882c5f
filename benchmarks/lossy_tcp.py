"""Our TCP against the kernel's on a lossy link: integrity in full length, and goodput.

Run as root: `python -m benchmarks.lossy_tcp [--size MB] [--goodput-size MB] [--seed N]`.

First 50 MB go each way between our TCP and the kernel's at 0, 1 and 5 % loss
with reordering and duplication, and hashes are compared. Then our sender's
goodput to a kernel is put beside a kernel's to the same kernel, over the same
seeded relay, at 1 % loss and 20 ms: with the machine's congestion control and
with Reno, on links of several rates. Exits with 1 if a hash differs or our
goodput is less than half of the kernel's.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from netstack.tcp.config import TcpConfig
from tests.netsim.kernel_transfer import kernel_and_kernel, ours_and_kernel
from tests.netsim.simulation import Direction
from tests.netsim.tun import why_not

RATES = (0, 100, 50, 20)
"""Mbit/s of the link; 0 is as fast as the relay runs."""


def integrity(size: int, seed: int) -> bool:
    """The transfers of both directions; True if all arrived as they were sent."""
    print(f"{size / 1e6:.0f} MB between our TCP and the kernel's; 2 % reordered, 1 % duplicated")
    good = True
    for loss in (0.0, 0.01, 0.05):
        link = Direction(loss=loss, reorder=0.02, duplicate=0.01, delay=0.002, reorder_delay=0.001)
        for title, to_us, from_us in (("to us", size, 0), ("from us", 0, size)):
            begin = time.monotonic()
            result = ours_and_kernel(to_us, from_us, link, seed=seed, timeout=1800)
            good &= result.intact
            print(
                f"  {loss:4.0%} loss, {title:8} {time.monotonic() - begin:7.1f} s, "
                f"{result.lost:6} packets lost, "
                f"hashes {'equal' if result.intact else 'DIFFER'}",
                flush=True,
            )
    return good


def goodput(size: int, seed: int) -> bool:
    """Our sender beside the kernel's; True if it is never slower than by a factor of 2."""
    default = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    print(f"goodput in Mbit/s at 1 % loss and 20 ms RTT, {size / 1e6:.0f} MB a transfer")
    print(f"  {'link':>12} {'ours':>8} {'kernel (' + default + ')':>14} {'ratio':>6}")
    good = True
    for rate in RATES:
        link = Direction(loss=0.01, delay=0.01, rate=rate * 125_000, queue=512 * 1024)
        ours = ours_and_kernel(0, size, link, seed=seed, config=TcpConfig(reliable=False))
        kernel = kernel_and_kernel(size, link, seed=seed)
        ratio = kernel.seconds / ours.seconds
        good &= ours.intact and ratio >= 0.5
        name = f"{rate} Mbit/s" if rate else "unlimited"
        print(
            f"  {name:>12} {size * 8e-6 / ours.seconds:8.1f} "
            f"{size * 8e-6 / kernel.seconds:14.1f} {ratio:6.2f}",
            flush=True,
        )
    link = Direction(loss=0.01, delay=0.01)
    small = size // 2
    config = TcpConfig(reliable=False, congestion="cubic")
    ours = ours_and_kernel(0, small, link, seed=seed, config=config)
    kernel = kernel_and_kernel(small, link, seed=seed, congestion="reno")
    print(
        f"  loss-based:  ours (cubic) {small * 8e-6 / ours.seconds:.1f}, "
        f"kernel (reno) {small * 8e-6 / kernel.seconds:.1f}, "
        f"ratio {kernel.seconds / ours.seconds:.2f}"
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="benchmarks.lossy_tcp")
    parser.add_argument("--size", type=float, default=50, help="MB for the hashes; 0: leave out")
    parser.add_argument("--goodput-size", type=float, default=16, help="MB; 0: leave out")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    good = True
    if arguments.size:
        good &= integrity(int(arguments.size * 1e6), arguments.seed)
    if arguments.goodput_size:
        good &= goodput(int(arguments.goodput_size * 1e6), arguments.seed)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

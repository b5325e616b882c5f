"""Our TCP against the Linux kernel's, over a lossy link in real time.

    namespace tcp-...-a:  kernel TCP -- TUN --+-- loss, delay, reordering, duplicates --+-- our TCP

The long form, and the comparison of goodput with the kernel's own, is
`python -m benchmarks.lossy_tcp`.
"""

from __future__ import annotations

import pytest

from netstack.tcp.config import TcpConfig
from tests.netsim.kernel_transfer import ours_and_kernel
from tests.netsim.simulation import Direction
from tests.netsim.tun import why_not

MEGABYTE = 1_000_000

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


def link(loss: float) -> Direction:
    """2 ms each way; with loss also 2 % held back by a millisecond and 1 % twice."""
    troubled = bool(loss)
    return Direction(
        loss=loss,
        reorder=0.02 * troubled,
        duplicate=0.01 * troubled,
        delay=0.002,
        reorder_delay=0.001,
    )


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("direction", ["to us", "from us", "both ways"])
def test_transfer(direction: str, loss: float, version: int) -> None:
    to_us = MEGABYTE if direction != "from us" else 0
    from_us = MEGABYTE if direction != "to us" else 0
    result = ours_and_kernel(to_us, from_us, link(loss), version=version, timeout=60)
    assert result.intact
    assert bool(result.lost) is bool(loss)


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_active_open(loss: float) -> None:
    assert ours_and_kernel(MEGABYTE, MEGABYTE, link(loss), active=True, timeout=60).intact


@pytest.mark.parametrize("version", [4, 6])
def test_segmentation_offload(version: int) -> None:
    """64 KiB segments and partial checksums both ways through a TUN with virtio headers."""
    result = ours_and_kernel(
        10 * MEGABYTE,
        10 * MEGABYTE,
        Direction(delay=0.001),
        version=version,
        offload=True,
        config=TcpConfig(),
        timeout=60,
    )
    assert result.intact


@pytest.mark.parametrize(
    "config",
    [
        TcpConfig(reliable=False, timestamps=False),
        TcpConfig(reliable=False, sack=False),
        TcpConfig(reliable=False, window_scaling=False),
        TcpConfig(reliable=False, congestion="cubic"),
        TcpConfig(reliable=False, mss=536),
    ],
    ids=["no timestamps", "no SACK", "no scaling", "CUBIC", "MSS 536"],
)
def test_options(config: TcpConfig) -> None:
    result = ours_and_kernel(MEGABYTE // 2, MEGABYTE // 2, link(0.02), config=config, timeout=60)
    assert result.intact

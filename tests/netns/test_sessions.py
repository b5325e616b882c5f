"""Links that break without loss: one download through every kind of cut.

The suite runs a short form. The long one (500 MB, 20 cuts, then the same over UDP):

    VPNSHARE_CUTS=20 VPNSHARE_CUT_MEGABYTES=500 python -m pytest -s tests/netns/test_sessions.py
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from tests.netns import cuts
from tests.netns.cuts import Cut, Download
from tests.netns.product import Client, Gateway
from tests.netns.world import World

CUTS = int(os.environ.get("VPNSHARE_CUTS", "9"))
SIZE = int(os.environ.get("VPNSHARE_CUT_MEGABYTES", "180")) * 1_000_000
VISIBLE_SECONDS = 3.0
SILENT_SECONDS = 10.0


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(CUTS * 30 + 240)
@pytest.mark.parametrize(
    ("transport", "kinds", "number"),
    [("auto", cuts.ALL, CUTS), ("udp", cuts.DATAGRAM, max(5, CUTS // 2))],
    ids=["tcp", "udp"],
)
def test_a_download_lives_through_every_cut(
    fresh_world: World, tmp_path: Path, transport: str, kinds: tuple[Cut, ...], number: int
) -> None:
    world = fresh_world
    expected = cuts.content(world, SIZE)
    with world.serving(secure=False), Gateway(world) as gateway, Client(world) as client:
        gateway.share()
        client.start().join(gateway, "--transport", transport)
        download = Download(world, SIZE, tmp_path / "got")
        download.start()
        for cut in itertools.islice(itertools.cycle(kinds), number):
            time.sleep(0.5)
            assert download.running(), "the download was over before the cuts were"
            stall = download.suffer(cut, gateway, client)
            print(
                f"{stall.name:20} {stall.seconds:6.2f} s without a byte, on by {stall.transport}",
                flush=True,
            )
        assert download.finish() == expected
        assert len(gateway.leases()) == 1
        for stall in download.stalls:
            assert stall.seconds < (SILENT_SECONDS if stall.silent else VISIBLE_SECONDS), stall

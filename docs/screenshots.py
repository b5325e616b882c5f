"""Make the documents' pictures of the console from running services with real traffic.

A gateway, a VPN, servers behind it and two devices are built from network
namespaces (root, Linux); one device uses the VPN, the second asks to be let
in. What the console shows of them is written as SVG, and removed with them
when done.

Run: python -m docs.screenshots [--out docs/pictures] [--png]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import html
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from rich.cells import cell_len
from textual.pilot import Pilot

from tests.netns.hosts import Host
from tests.netns.product import PORT, Client, Gateway
from tests.netns.world import PROJECT, SERVER, Shape, World
from tui.app import ConsoleApp
from tui.link import connector

PHONE, LAPTOP, DESK = (45, 24), (80, 24), (120, 34)
HISTORY = 100.0
"""Seconds of traffic on the rate lines of the first picture."""
DOWNLOADS = ("900k", "3M", "400k", "6M", "1500k", "200k", "4M", "2500k")
"""Rates that a device's downloads go through, bytes a second, three seconds each."""


def traffic(host: Host, first: int) -> None:
    """Let a device do what devices do: downloads, an upload, names, a ping."""
    rates = " ".join(DOWNLOADS[first:] + DOWNLOADS[:first])
    fetch = "curl -sk -o /dev/null -m 3 --limit-rate"
    for forever in (
        f"for rate in {rates}; do {fetch} $rate https://server.test:8443/bytes/60000000; done",
        f"{fetch} 90k -4 https://server.test:8443/bytes/60000000",
        f"{fetch} 12k http://server.test:8000/bytes/60000000",
        "head -c 4000000 /dev/zero | curl -s -o /dev/null --limit-rate 150k -T - "
        "http://server.test:8000/",
        "for name in server only4 only6 mail text no-such-name; do "
        "dig +short +tries=1 $name.test >/dev/null; sleep 1; done",
        f"ping -c 60 -i 1 {SERVER} >/dev/null",
    ):
        host.start(["bash", "-c", f"while :; do {forever}; sleep 0.3; done"])


@contextlib.contextmanager
def living(world: World, home: Path | None = None) -> Iterator[tuple[Gateway, Client, Client]]:
    """The gateway with its first device at work; the second has not asked yet."""
    assert world.second is not None
    with (
        world.serving(records=(f"--address=/example.com/{SERVER}",)),
        Gateway(world, home=home) as gateway,
        Client(world) as tv,
        Client(world, world.second, "second") as laptop,
    ):
        gateway.configure("[dns]\nrecent = 50\n")
        gateway.share("--name", "Pixel 8", listen="0.0.0.0")
        tv.start("--label", "Living-room TV")
        tv.join(gateway)
        traffic(tv.host, 0)
        laptop.start("--label", "Work laptop")
        yield gateway, tv, laptop


BLOCKS = {character: (8 - eighths, eighths) for eighths, character in enumerate("▁▂▃▄▅▆▇█", 1)}
"""First eighth from the top and number of eighths of a cell that a block character fills."""
BLOCKS["▀"] = (0, 4)
CELL_WIDTH, LINE_HEIGHT, BASELINE = 12.2, 24.4, 18.5
"""Pixels of the exported picture: its font is 20 high."""


def sturdy(svg: str) -> str:
    """The picture such that every viewer draws the same, whatever its fonts.

    Viewers differ in what they do with runs of blanks and with glyphs that are to fill
    their cell. So each word is put where it belongs, and blocks become rectangles. The
    fonts are the reader's: a picture in a document loads nothing from the network.
    """
    svg = re.sub(r"\s*@font-face\s*{[^}]*}|\s*<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", "Fira Code, DejaVu Sans Mono, monospace")
    text = (
        r'<text class="([^"]*)" x="([\d.]+)" y="([\d.]+)" textLength="[\d.]+"[^>]*>([^<]*)</text>'
    )
    return re.sub(text, _sturdy_text, svg)


def _sturdy_text(match: re.Match[str]) -> str:
    style, left, bottom = match[1], float(match[2]), float(match[3])
    content = html.unescape(match[4])
    made = []
    for run in re.finditer(
        r"([▀▁▂▃▄▅▆▇█])\1*|[^▀▁▂▃▄▅▆▇█\xa0]+(?:\xa0[^▀▁▂▃▄▅▆▇█\xa0]+)*", content
    ):
        x, width = left + CELL_WIDTH * run.start(), CELL_WIDTH * cell_len(run[0])
        if run[1]:
            skipped, eighths = BLOCKS[run[1]]
            y = bottom - BASELINE + LINE_HEIGHT * skipped / 8
            made.append(
                f'<rect class="{style}" x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" '
                f'height="{LINE_HEIGHT * eighths / 8:.2f}" shape-rendering="crispEdges"/>'
            )
        else:
            made.append(
                f'<text class="{style}" x="{x:.1f}" y="{bottom:g}" textLength="{width:.1f}">'
                f"{html.escape(run[0])}</text>"
            )
    return "".join(made)


class Photographer:
    """Writes what a console shows."""

    def __init__(self, out: Path, png: bool) -> None:
        self._out = out
        self._png = png

    def take(self, app: ConsoleApp, name: str) -> None:
        path = self._out / f"{name}.svg"
        svg = sturdy(app.export_screenshot(title="VPN Share"))
        path.write_text(svg, encoding="utf-8")
        print(f"{path}  {len(svg) / 1024:.0f} KiB")
        if self._png:
            drawn = ["rsvg-convert", str(path), "-o", str(path.with_suffix(".png"))]
            subprocess.run(drawn, check=True)


@asynccontextmanager
async def console(
    service: Gateway | Client, section: str, size: tuple[int, int]
) -> AsyncIterator[tuple[ConsoleApp, Pilot[int]]]:
    """A console without a terminal, on a live service."""
    reach = connector(str(service.home / f"{service.role}.sock"), service.role)
    app = ConsoleApp({service.role: reach}, service.role, section=section)
    async with app.run_test(size=size) as pilot:
        yield app, pilot


async def stay(pilot: Pilot[int], seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await pilot.pause(0.25)


async def pictures(photographer: Photographer, parts: tuple[Gateway, Client, Client]) -> None:
    """All of them, in the order in which an owner would see them."""
    gateway, tv, laptop = parts
    async with console(gateway, "overview", DESK) as (overview, watching):
        async with console(gateway, "overview", LAPTOP) as (app, pilot):
            laptop.begin_connect(f"10.1.1.1:{PORT}")
            code = gateway.wait_for_request()["code"]
            await stay(pilot, 20)
            photographer.take(app, "request")
        gateway.approve_next()
        agreed = laptop.begin_connect(f"10.1.1.1:{PORT}", "--code", code)
        await asyncio.to_thread(agreed.popen.wait, 30)
        traffic(laptop.host, 3)
        await stay(watching, HISTORY)
        photographer.take(overview, "overview")
    async with console(gateway, "pair", PHONE) as (app, pilot):
        await stay(pilot, 3)
        photographer.take(app, "pair")
    async with console(gateway, "flows", LAPTOP) as (app, pilot):
        await stay(pilot, 5)
        photographer.take(app, "flows")
    async with console(tv, "tunnel", LAPTOP) as (app, pilot):
        await stay(pilot, 60)
        photographer.take(app, "tunnel")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=PROJECT / "docs/pictures")
    parser.add_argument("--png", action="store_true", help="draw them, too, to look at them here")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with World(Shape(second_client=True)) as world, living(world) as parts:
        asyncio.run(pictures(Photographer(options.out, options.png), parts))


if __name__ == "__main__":
    main()

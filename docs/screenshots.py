"""Make the pictures of the console from running services.

Run: python docs/screenshots.py --gateway H/gateway.sock [--client H/client.sock]
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from textual.pilot import Pilot

from tui import actions
from tui.app import ConsoleApp
from tui.link import connector

SIZES = {"phone": (45, 24), "laptop": (80, 24), "desk": (120, 34)}
HERE = Path(__file__).parent


async def picture(
    socket: str, role: str, section: str, name: str, theme: str, out: Path, wait: float
) -> None:
    """One section at one size, after `wait` seconds of history."""
    app = ConsoleApp({role: connector(socket, role)}, role, section=section, theme=theme)
    async with app.run_test(size=SIZES[name]) as pilot:
        await _seconds(pilot, wait)
        suffix = "" if theme == "dark" else f"-{theme}"
        path = out / f"{role}-{section}-{name}{suffix}.svg"
        path.write_text(app.export_screenshot(title="VPN Share"), encoding="utf-8")
        print(path)


async def _seconds(pilot: Pilot[int], wait: float) -> None:
    end = asyncio.get_running_loop().time() + wait
    while asyncio.get_running_loop().time() < end:
        await pilot.pause(0.25)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--gateway", help="the gateway's control socket")
    parser.add_argument("--client", help="the client's control socket")
    parser.add_argument("--out", type=Path, default=HERE / "pictures")
    parser.add_argument("--wait", type=float, default=4.0, help="seconds of history")
    parser.add_argument("--history", type=float, default=60.0, help="the same, for the overview")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for role, socket in (("gateway", options.gateway), ("client", options.client)):
        if socket is None:
            continue
        for section in actions.sections(role):
            for name in ("phone", "laptop"):
                wait = options.history if section.id in ("overview", "tunnel") else options.wait
                await picture(socket, role, section.id, name, "dark", options.out, wait)
    if options.gateway:
        for theme in ("light", "high-contrast", "mono"):
            await picture(
                options.gateway, "gateway", "flows", "desk", theme, options.out, options.wait
            )


if __name__ == "__main__":
    asyncio.run(main())

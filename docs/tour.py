"""Record the tour: the real console on running services, with keys pressed and captions told.

Gateway, VPN, servers and two devices are built from network namespaces (root,
Linux), as for the pictures (`docs.screenshots`). The console runs in a
terminal of its own, and a short story is played with it. It is written as
tour.cast (asciicast v2, to be played by asciinema) and tour.svg, which moves
by itself in a README; all else is removed when done.

Run: sudo .venv/bin/python -m docs.tour [--out docs/pictures] [--stills FOLDER]
     .venv/bin/python -m docs.tour --draw     (only tour.svg, from tour.cast)
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from docs.cast import Cast, Recorder, frames
from docs.moving_picture import MovingPicture
from docs.screenshots import living, traffic
from tests.netns.product import EXECUTABLE, PORT, Client, Gateway
from tests.netns.world import PROJECT, Shape, World

COLUMNS, ROWS = 100, 28
TITLE = "VPN Share: a tour of the console"
HISTORY = 30.0
"""Seconds of traffic on the rate lines when the story begins."""
HOME = Path("/run/vpnshare-gateway")
"""The gateway's folder: its name is on the screen now and then."""
ESCAPE, ENTER, DOWN = "\x1b", "\r", "\x1b[B"


def one_home(world: World, gateway: Gateway, client: Client) -> Path:
    """A folder in which a console finds both services, as on a machine that runs both."""
    home = world.directory / "console-home"
    home.mkdir(mode=0o700)
    for service in (gateway, client):
        (home / f"{service.role}.sock").symlink_to(service.home / f"{service.role}.sock")
    return home


@contextlib.contextmanager
def removed(folder: Path) -> Iterator[None]:
    """Have nothing left of a folder in the end."""
    try:
        yield
    finally:
        shutil.rmtree(folder)


def agree(laptop: Client) -> None:
    """The laptop's own user has compared the digits, too."""
    laptop.begin_connect(f"10.1.1.1:{PORT}", "--code", laptop.status()["code"]).popen.wait(30)


def story(tape: Recorder, world: World, gateway: Gateway, laptop: Client) -> None:
    """What is shown, in order."""
    tape.caption("The phone that has the VPN: what it shares, with whom, and the proof")
    tape.wait_for("Living-room TV")
    tape.hold(5)

    tape.caption("Pair a device: it scans the code, which renews itself")
    tape.press("2")
    tape.wait_for("VSHP")
    tape.hold(3.5)

    tape.caption("Another way in: a laptop asks by the phone's address, with a code to compare")
    laptop.begin_connect(f"10.1.1.1:{PORT}")
    tape.wait_for("Work laptop")
    tape.hold(4)
    tape.caption("Same code on both screens: a lets it in")
    tape.press("a")
    with tape.cut():
        agree(laptop)
        traffic(laptop.host, 3)
    tape.hold(2.5)

    tape.caption("Devices: usage, lease, transport, round trip")
    tape.press("3")
    tape.hold(4)

    tape.caption("Every connection through the VPN, live")
    tape.press("4")
    tape.wait_for("flows")
    tape.hold(4)
    tape.caption("/ filters, o sorts, enter tells all of one flow")
    tape.press("/", *"laptop tcp", ENTER, pause=0.15)
    tape.hold(2)
    tape.press("o")
    tape.hold(2)
    tape.press(DOWN, ENTER, pause=0.5)
    tape.hold(3.5)
    tape.press(ESCAPE, pause=0.5)
    tape.press(ESCAPE, pause=0.5)

    tape.caption("The VPN drops: everything stops. Nothing falls back to the bare network")
    tape.press("1")
    tape.hold(1)
    world.vpn_down()
    tape.wait_for("waiting for VPN")
    tape.hold(4.5)
    tape.caption("The service examines itself: what is wrong, and the one thing to do about it")
    tape.press("7")
    tape.wait_for("broken")
    tape.hold(5)
    tape.caption("The VPN is back: so is the sharing, and nobody pairs again")
    tape.press("1")
    world.vpn_up()
    tape.wait_for("● sharing")
    tape.hold(5)

    tape.caption("Themes are tried on as the cursor comes to them")
    tape.press("t", pause=0.5)
    tape.hold(1)
    for _ in range(3):
        tape.press(DOWN)
        tape.hold(1.3)
    tape.press(ESCAPE)
    tape.hold(1)

    tape.caption("The laptop's own console: its tunnel, and the links it has had")
    tape.press("w")
    tape.wait_for("Pixel 8")
    tape.hold(4)
    tape.press("3")
    tape.hold(3.5)


def record() -> Cast:
    """Build it all, play the story, remove it all."""
    cast = Cast(COLUMNS, ROWS, TITLE)
    HOME.mkdir(mode=0o700)
    with (
        removed(HOME),
        World(Shape(second_client=True)) as world,
        living(world, HOME) as (gateway, _, laptop),
    ):
        home = one_home(world, gateway, laptop)
        tape = Recorder(cast)
        env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ} | {
            "VPNSHARE_HOME": str(home),
            "HOME": str(home),
        }
        with tape.running([str(EXECUTABLE), "console"], env):
            with tape.cut():
                tape.wait_for("Living-room TV")
                time.sleep(HISTORY)
            story(tape, world, gateway, laptop)
            played = len(cast.events)
        # The end of the program, which clears the screen, is no part of the story.
        del cast.events[played:]
    return cast.without_idle()


def draw(cast: Cast, out: Path, stills: Path | None) -> None:
    """Write tour.svg, and if wanted each caption's last frame as a picture of its own."""
    shown = frames(cast)
    path = out / "tour.svg"
    path.write_text(MovingPicture(cast.width, cast.height).of(shown, cast.title), "utf-8")
    print(f"{path}  {path.stat().st_size / 1024:.0f} KiB, {len(shown)} frames, "
          f"{shown[-1].at - shown[0].at:.0f} s")  # fmt: skip
    if stills is None:
        return
    stills.mkdir(parents=True, exist_ok=True)
    for number, (frame, later) in enumerate(zip(shown, [*shown[1:], None], strict=True)):
        if later is None or later.caption != frame.caption:
            still = MovingPicture(cast.width, cast.height).still(frame, cast.title)
            (stills / f"{number:03}.svg").write_text(still, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=PROJECT / "docs/pictures")
    parser.add_argument("--draw", action="store_true", help="do not record, draw tour.cast")
    parser.add_argument("--stills", type=Path, help="also some frames as pictures, to look at")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "tour.cast"
    if not options.draw:
        record().save(path)
    draw(Cast.load(path), options.out, options.stills)


if __name__ == "__main__":
    main()

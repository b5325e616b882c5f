"""The console's whole way with a WireGuard app, in tmux, with wireguard-go as the app.

A device is made, its code read off the screen or out of the picture, asked for, let in,
watched and revoked, on a phone's terminal and on a common one.
"""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.netns.conftest import opened
from tests.netns.processes import Failed, wait_for
from tests.netns.product import EXECUTABLE, Gateway
from tests.netns.terminal import Terminal, read_qr
from tests.netns.wireguard_app import App, asking, missing
from tests.netns.world import GATEWAY_LAN, SERVER, World

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

ZOOMED = (70, 34)


@dataclass(frozen=True)
class Desk:
    world: World
    gateway: Gateway


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    with opened() as world, world.serving(secure=False), Gateway(world) as gateway:
        gateway.share()
        yield Desk(world, gateway)


def off_the_screen(console: Terminal, folder: Path) -> str:
    """Zoom out until the code shows itself; what a camera reads."""
    columns, rows = console.columns, console.rows
    console.resize(*ZOOMED)
    found = ""

    def read() -> bool:
        nonlocal found
        try:
            found = read_qr(console.picture(), folder / "screen.png")
        except Failed:
            return False
        return True

    wait_for(read, "a code that can be read")
    console.resize(columns, rows)
    return found


def out_of_the_picture(console: Terminal, folder: Path) -> str:
    """Have it saved; what a scanner reads in the file."""
    file = folder / "code.png"
    console.press("s")
    console.wait_for_text("Write the picture")

    def emptied() -> bool:
        console.press("C-u")
        return ".png" not in console.text()

    wait_for(emptied, "an empty line", every=0.3)
    console.press("-l", str(file))
    console.press("Enter")
    # The message may be of two lines.
    wait_for(lambda: re.search(r"is\W+written", console.text()), "the picture")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return read_qr(Image.open(file), folder / "read.png")


@pytest.mark.parametrize(
    ("columns", "rows", "read"), [(45, 24, off_the_screen), (80, 24, out_of_the_picture)],
    ids=["phone", "common"],
)  # fmt: skip
def test_made_read_approved_watched_revoked(
    desk: Desk, tmp_path: Path, columns: int, rows: int, read: object
) -> None:
    assert callable(read)
    world, gateway, name = desk.world, desk.gateway, f"tablet-{columns}"
    home = tmp_path / "t"
    home.mkdir()
    argv = [str(EXECUTABLE), "console", "--role", "gateway"]
    with Terminal.running(home, argv, gateway.environment(), columns, rows) as console:
        console.wait_for_text("1 Overview", 20)
        console.press("2")
        console.wait_for_text("2 Pair")
        console.press("g")
        console.wait_for_text("device's name")
        console.press("-l", name)
        console.press("Enter")
        console.wait_for_text("Zoom out")
        said = " ".join(console.text().split())
        assert re.search(
            rf"needs (57|61|65) columns and \d\d lines; here are {columns} and {rows}\.", said
        ), said
        text = read(console, tmp_path)
        assert f"\nEndpoint={GATEWAY_LAN}:51820" in text and "\nDNS=" in text
        config = tmp_path / f"w{columns}-{world.run_name[-11:]}.conf"
        config.write_text(text)
        app = App(world, world.client, config)
        app.up()
        try:
            ask = asking(app)
            wait_for(gateway.requests, "the device to ask")
            # The code has made way for the question.
            wait_for(lambda: "Zoom out" not in console.text(), "the code to go")
            console.wait_for_text(name)

            # A key that was on its way when the request appeared approves nothing: press again.
            def approved() -> bool:
                if gateway.requests():
                    console.press("a")
                    return False
                return True

            wait_for(approved, "the console's approval", every=0.5)
            ask.kill()
            # Turned off and on, as people do, it knocks at once instead of after some seconds.
            app.down()
            app.up()
            ask = asking(app)
            wait_for(app.handshakes, "the first handshake", 15.0)
            ask.kill()
            console.press("3")
            console.wait_for_text("● here")
            row = next(line for line in console.text().splitlines() if "● here" in line)
            assert name in row and " wg " in row and " ms" not in row
            wait_for(
                lambda: re.search(r"Handshake +(now|\d+[sm] ago)", console.text()),
                "the age of the handshake",
            )
            console.wait_for_text("10.1.0.2:")
            console.press("x")
            console.wait_for_text("needs a new config")
            console.press("y")
            wait_for(lambda: gone(gateway, name), "the device to be revoked")
            console.wait_for_text("✗ revoked")
            failed = world.client.run(["ping", "-c", "1", "-W", "1", SERVER], check=False)
            assert failed.returncode != 0
            app.down()
            app.up()
            knock = asking(app)
            wait_for(lambda: revoked(gateway, name), "the trouble to be seen", 30.0)
            console.press("7")
            console.wait_for_text("WireGuard devices", 20)
            knock.kill()
            assert f"{name} was revoked" in gateway.command("wireguard").stdout
        finally:
            app.down()


def gone(gateway: Gateway, name: str) -> bool:
    return any(peer["revoked"] for peer in gateway.peers() if peer["label"] == name)


def revoked(gateway: Gateway, name: str) -> bool:
    troubles = gateway.peek("wireguard")["troubles"]
    return any(t["cause"] == "revoked" and t["found"].startswith(name) for t in troubles)


def test_a_config_that_names_an_address_of_yesterday(desk: Desk, tmp_path: Path) -> None:
    gateway, file = desk.gateway, tmp_path / "old.conf"
    gateway.command(
        "wireguard", "add", "moved", "--conf", str(file), "--endpoint", "192.168.43.1"
    )  # fmt: skip
    found = [t for t in gateway.peek("wireguard")["troubles"] if t["found"].count("moved")]
    assert [(t["cause"], t["advice"]) for t in found] == [
        ("endpoint", f"Edit the tunnel in its app: Endpoint = {GATEWAY_LAN}:51820")
    ]
    examined = gateway.command("doctor", check=False).stdout
    assert "The config of moved names 192.168.43.1:51820" in examined

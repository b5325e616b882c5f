"""The console in a real terminal against live services: what an owner does to let a device in."""

from __future__ import annotations

import shutil

import pytest

from tests.netns.processes import wait_for
from tests.netns.product import EXECUTABLE, Client, Gateway
from tests.netns.terminal import Terminal, read_qr
from tests.netns.world import SERVER, World

LABEL = "kitchen-tablet"


@pytest.mark.parametrize(("columns", "rows"), [(45, 24), (120, 40)])
def test_a_device_is_paired_from_the_screen(fresh_world: World, columns: int, rows: int) -> None:
    if shutil.which("tmux") is None or shutil.which("zbarimg") is None:
        pytest.skip("needs tmux and zbarimg (Debian's packages tmux and zbar-tools)")
    world = fresh_world
    with (
        world.serving(secure=False),
        Gateway(world) as gateway,
        Client(world) as client,
    ):
        client.configure(f'[client]\nlabel = "{LABEL}"\n')
        gateway.share()
        client.start()
        argv = [str(EXECUTABLE), "console"]
        with Terminal.running(
            world.directory, argv, gateway.environment(), columns, rows
        ) as terminal:
            terminal.wait_for_text("1", 20)
            terminal.press("p")
            terminal.wait_for_text("▀")
            uri = read_qr(terminal.picture(), world.directory / "screen.png")
            terminal.press("y")
            assert uri.startswith("VSHP:")
            wait_for(lambda: terminal.clipboard() == uri, "the URI on the clipboard")

            attempt = client.begin_connect(uri)
            terminal.wait_for_text(LABEL)
            assert gateway.leases() == []

            # A key that was on its way when the request appeared approves nothing: press again.
            def approved() -> bool:
                terminal.press("a")
                return not attempt.running()

            wait_for(approved, "the approval", 20.0, every=0.5)
            assert attempt.popen.returncode == 0, attempt.tail()
            terminal.wait_for_text(f"used by {LABEL}")
            terminal.press("1")
            lease = gateway.leases()[0]
            assert lease["connected"]
            terminal.wait_for_text(LABEL)
            terminal.wait_for_text("1 connected")
            assert "1 received" in world.client.run(["ping", "-c", "1", SERVER]).stdout

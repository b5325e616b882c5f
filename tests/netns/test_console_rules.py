"""What a device may do, by the console in a real terminal: a template as it is let in, its page
at every width, a rule that is changed, a pause. Each step is held against the service and packets.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

import pytest

from tests.netns.processes import Failed, wait_for
from tests.netns.product import EXECUTABLE, Client, Gateway
from tests.netns.terminal import Terminal
from tests.netns.world import SERVER, SERVER_OTHER, World
from tui.formats import size

LABEL = "kitchen-tablet"
PHONE, COMMON, WIDE = (45, 24), (80, 24), (120, 40)
QUOTA = 8_000_000
CONFIG = f"""
[console]
refresh = 0.25

[gateway.templates.visitor]
quota = "{QUOTA // 10**6}MB"
destinations = ["deny {SERVER_OTHER}"]
"""
DENIED = {"destinations": [f"deny {SERVER_OTHER}"]}
MOVED = 5_000_000
CURL_NO_CONNECTION = 7
CHART_ROWS = 3


@dataclass(frozen=True)
class Desk:
    """A gateway with its console, and the device that asks to be let in."""

    gateway: Gateway
    client: Client
    console: Terminal

    @property
    def device(self) -> dict[str, Any]:
        """What the gateway says of its only device."""
        (peer,) = self.gateway.peek("peers")
        assert isinstance(peer, dict) and peer["label"] == LABEL
        return peer

    def rules(self) -> dict[str, Any]:
        rules: dict[str, Any] = self.gateway.ask("rules", LABEL)["rules"]
        return rules

    def left(self, quota: int) -> int:
        """What is left of a quota for all it ever used, which is told as of now."""
        peer = self.device
        used: int = peer["from_tunnel_bytes"] + peer["to_tunnel_bytes"]
        assert used > MOVED and peer["quota_left"] == quota - used
        return quota - used

    def curl(self, address: str, count: int) -> int:
        """Have the device fetch so many bytes; curl's exit status."""
        url = f"http://{address}:8000/bytes/{count}"
        argv = ["curl", "-s", "-m", "30", "-o", "/dev/null", url]
        return self.client.host.run(argv, check=False).returncode

    def press_until(self, key: str, shows: str) -> None:
        """Press a key, again if it was too early to mean anything, until a text is shown."""

        def shown() -> bool:
            self.console.press(key)
            try:
                self.console.wait_for_text(shows, 1.0)
            except Failed:
                return False
            return True

        wait_for(shown, f"{shows!r} after {key}", 20.0)

    def choose(self, shows: str, *keys: str) -> None:
        """Open the list of what may be done with the device's rules, and choose from it."""
        self.console.press("l")
        self.console.wait_for_text(shows)
        self.console.press(*keys)
        self.gone(shows)

    def write(self, text: str) -> None:
        """Type into the dialog's line, as often as it takes until it is there."""

        def there() -> bool:
            self.console.press("C-u")
            self.console.press("-l", text)
            try:
                wait_for(lambda: text in self.dialog(), f"{text!r} in the dialog", 2.0)
            except Failed:
                return False
            return True

        wait_for(there, f"{text!r} in the dialog's line", 20.0)

    def gone(self, text: str) -> None:
        wait_for(lambda: text not in self.console.text(), f"{text!r} to leave the screen")

    def dialog(self) -> list[str]:
        """The lines of what stands in front of the section, without its edges."""
        lines = [line.split("│") for line in self.console.text().splitlines()]
        return [parts[1].strip() for parts in lines if len(parts) == 3]

    def shows(self, *parts: str) -> None:
        """Wait until the device's page says what the gateway does, and has these parts."""

        def told() -> bool:
            found = self.dialog()
            wanted = [self._told(part) for part in parts]
            return all(any(line.startswith(each) for line in found) for each in wanted)

        try:
            wait_for(told, f"{parts} on the page", 25.0)
        except Failed as problem:
            raise Failed(f"{problem}; it shows:\n{self.console.text()}") from None

    def _told(self, part: str) -> str:
        peer = self.device
        match part:
            case "Quota":
                return f"Quota   {size(peer['quota_left'])} left"
            case "In all" | "48 hours" | "30 days":
                wide = 8 if part == "In all" else 10
                return f"{part:<{wide}}↓ {size(peer['to_tunnel_bytes'])}  ↑ "
        return part

    def column(self, title: str) -> None:
        """Wait for a column of full height in a chart: that of the hour or day that was used."""

        def drawn() -> bool:
            found = self.dialog()
            at = next((at for at, line in enumerate(found) if line.startswith(title)), None)
            return at is not None and all(
                "█" in line for line in found[at + 1 : at + 1 + CHART_ROWS]
            )

        wait_for(drawn, f"a column below {title}")


def test_a_device_is_ruled_from_the_screen(fresh_world: World) -> None:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    world = fresh_world
    with world.serving(secure=False), Gateway(world) as gateway, Client(world) as client:
        gateway.configure(CONFIG)
        gateway.share()
        client.start("--label", LABEL)
        argv = [str(EXECUTABLE), "console", "--role", "gateway"]
        with Terminal.running(world.directory, argv, gateway.environment(), *COMMON) as console:
            desk = Desk(gateway, client, console)
            console.wait_for_text("1 Overview", 20)

            # The template is the last of the list, behind those that are shipped.
            attempt = client.begin_connect(gateway.pair())
            console.wait_for_text("A with rules")
            desk.press_until("A", "visitor  8MB/total; 1 destination")
            console.press("End", "Enter")
            assert attempt.popen.wait(20) == 0, attempt.tail()
            assert desk.rules() == {"quota": "8MB/total", **DENIED}
            assert desk.curl(SERVER_OTHER, 10) == CURL_NO_CONNECTION
            assert desk.curl(SERVER, MOVED) == 0
            left = desk.left(QUOTA)
            # Its device is told by parts of 1 %, or 64 KiB.
            wait_for(
                lambda: 0 <= (client.peek()["quota_left"] or 0) - left < max(QUOTA // 100, 65_536),
                "the device to be told",
            )

            # Its page, where there is room for all of it and where there is not.
            console.press("3")
            console.wait_for_text("Paired ")
            console.press("Enter")
            desk.shows("Rules   8MB/total; 1 destination", "Quota", "In all", "48 hours")
            desk.column("48 hours")
            console.resize(*PHONE)
            console.wait_for_text("-48h        -24h     now")
            desk.shows("Rules   8MB/total; 1 destination", "Quota", "In all")
            console.press("End")
            desk.shows("30 days", "f: its flows   esc: close")
            desk.column("30 days")
            console.resize(*WIDE)
            desk.shows(LABEL, "Quota", "48 hours", "30 days", "f: its flows   esc: close")
            console.resize(*COMMON)
            console.press("Escape")
            desk.gone("48 hours")

            desk.choose("Write one", "j", "Enter")
            console.wait_for_text("One rule")
            desk.write("quota 12MB")
            console.press("Enter")
            console.wait_for_text("12MB/total; 1 destination")
            desk.gone("One rule")
            assert desk.rules() == {"quota": "12MB/total", **DENIED}
            desk.left(12_000_000)

            console.resize(*PHONE)
            desk.choose("Pause", "Enter")
            console.wait_for_text("▲ paused")
            assert desk.device["gate"] == "paused"
            wait_for(lambda: "paused" in client.peek()["shut_out"], "the device to be told")
            assert desk.curl(SERVER, 10) == CURL_NO_CONNECTION
            desk.choose("Resume", "Enter")
            console.wait_for_text("● here")
            assert desk.rules() == {"quota": "12MB/total", **DENIED}
            assert desk.curl(SERVER, 10) == 0

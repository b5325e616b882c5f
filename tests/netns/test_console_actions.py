"""The consoles of both services on a phone's terminal, key by key, against live services.

One world serves all tests of this module; each begins by going to its section, and
what a test takes from the device it gives back, but for the last, which revokes it.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from control.exits import Exit
from tests.netns.conftest import opened
from tests.netns.hosts import Host
from tests.netns.processes import Failed, wait_for
from tests.netns.product import EXECUTABLE, PORT, Client, Gateway
from tests.netns.terminal import Terminal
from tests.netns.world import SERVER, Shape, World

COLUMNS, ROWS = 45, 24
LABEL, STRANGER = "kitchen-tablet", "a-stranger"


@dataclass(frozen=True)
class Desk:
    """A gateway with its device, a stranger beside it, and a console of each service."""

    world: World
    gateway: Gateway
    client: Client
    stranger: Client
    console: Terminal
    client_console: Terminal

    def gone(self, text: str, console: Terminal | None = None) -> None:
        """Wait until a text is not on the screen any more."""
        terminal = console or self.console
        wait_for(lambda: text not in terminal.text(), f"{text!r} to leave the screen")

    def type(self, text: str) -> None:
        self.console.press("-l", text)

    def section(self, tab: str, shows: str) -> None:
        """Go to a section by its key; `tab` is what stands on its tab."""
        self.console.press(tab[0])
        self.console.wait_for_text(tab)
        self.console.wait_for_text(shows)

    def filter(self, words: str) -> None:
        """Show only what contains these words."""
        self.console.press("/")
        self.console.wait_for_text("enter keep")
        self.type(words)
        self.console.wait_for_text(words)
        self.console.press("Enter")
        self.gone("enter keep")

    def replace(self, text: str) -> None:
        """Type over what stands in the dialog's line, as often as it takes until it is there."""

        def there() -> bool:
            self.console.press("End", *["BSpace"] * 8)
            self.type(text)
            try:
                wait_for(
                    lambda: any(
                        line.strip(" │") == text for line in self.console.text().splitlines()
                    ),
                    f"{text!r} in the dialog",
                    2.0,
                )
            except Failed:
                return False
            return True

        wait_for(there, f"{text!r} in the dialog's line", 20.0)

    def escape(self, shows: str) -> None:
        """Escape, alone: with another key at its heels it would be read as that key with alt."""
        self.console.press("Escape")
        self.console.wait_for_text(shows)


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    argv = [str(EXECUTABLE), "console", "--role"]
    with opened(Shape(second_client=True)) as world:
        client_home = world.directory / "terminals"
        client_home.mkdir()
        with (
            world.serving(secure=False),
            Gateway(world) as gateway,
            Client(world) as client,
            Client(world, world.second, "stranger") as stranger,
        ):
            gateway.share(listen="0.0.0.0")
            client.start("--label", LABEL)
            client.join(gateway)
            stranger.start("--label", STRANGER)
            with (
                Terminal.running(
                    world.directory, [*argv, "gateway"], gateway.environment(), COLUMNS, ROWS
                ) as console,
                Terminal.running(
                    client_home, [*argv, "client"], client.environment(), COLUMNS, ROWS
                ) as client_console,
            ):
                console.wait_for_text(LABEL, 20)
                client_console.wait_for_text("connected", 20)
                yield Desk(world, gateway, client, stranger, console, client_console)


@pytest.fixture
def flows(desk: Desk) -> Iterator[dict[int, socket.socket]]:
    """Two connections of the device, by their port."""
    host: Host = desk.world.client
    found = {port: host.connect(SERVER, port) for port in (7, 9)}
    yield found
    for connection in found.values():
        connection.close()


def test_deny_from_wherever_one_is(desk: Desk) -> None:
    desk.section("3 Peers", LABEL)
    attempt = desk.stranger.begin_connect(f"10.1.1.1:{PORT}")
    desk.console.wait_for_text(STRANGER)
    code = desk.gateway.wait_for_request()["code"]
    desk.console.wait_for_text(f"{code[:3]} {code[3:]}")
    desk.console.press("d")
    assert attempt.popen.wait(20) == Exit.UNCONFIRMED
    wait_for(lambda: desk.stranger.peek()["error"] == "denied", "the stranger to be told")
    desk.console.wait_for_text(f"{STRANGER} is denied.")
    assert desk.gateway.requests() == []
    assert [peer["label"] for peer in desk.gateway.peers()] == [LABEL]


def test_filter_and_follow_flows(desk: Desk, flows: dict[int, socket.socket]) -> None:
    desk.section("4 Flows", f"{SERVER}:7")
    desk.console.wait_for_text(f"{SERVER}:9")
    desk.filter(f"{SERVER}:9")
    desk.gone(f"{SERVER}:7")
    desk.console.wait_for_text("1 flow ")
    desk.console.press("f")
    desk.console.wait_for_text("following")
    desk.console.press("f")
    desk.gone("following")
    desk.escape(f"{SERVER}:7")


def test_close_a_flow(desk: Desk, flows: dict[int, socket.socket]) -> None:
    desk.section("4 Flows", f"{SERVER}:9")
    desk.filter(f"{SERVER}:9")
    desk.gone(f"{SERVER}:7")
    desk.console.press("x")
    desk.console.wait_for_text(f"Close tcp to {SERVER}:9?")
    desk.console.press("n")
    desk.gone("Close tcp to")
    flows[9].sendall(b"still open")
    desk.console.press("x")
    desk.console.wait_for_text(f"Close tcp to {SERVER}:9?")
    desk.console.press("y")
    with pytest.raises(ConnectionResetError):
        flows[9].recv(1)
    desk.escape(f"{SERVER}:7")
    flows[7].sendall(b"x")
    assert flows[7].recv(1) == b"x"


def test_change_a_setting(desk: Desk) -> None:
    desk.section("8 Settings", "[gateway]")
    desk.filter("gateway.mtu")
    desk.gone("auto_approve_qr")
    desk.console.press("Home", "j", "e")
    desk.console.wait_for_text("enter: set")
    desk.replace("12")
    desk.console.press("Enter")
    desk.console.wait_for_text("must be 1280")
    desk.replace("1400")
    desk.console.press("Enter")
    desk.gone("enter: set")
    assert "mtu = 1400" in (desk.gateway.home / "config.toml").read_text()
    settings = {each["key"]: each["value"] for each in desk.gateway.ask("settings")}
    assert settings["gateway.mtu"] == 1400


def test_switch_the_theme(desk: Desk) -> None:
    desk.section("1 Overview", LABEL)
    before = desk.console.picture()
    desk.console.press("t")
    desk.console.wait_for_text("enter: keep")
    desk.console.press("Down", "Enter")
    desk.gone("enter: keep")
    config = desk.gateway.home / "config.toml"
    wait_for(lambda: "theme = " in config.read_text(), "the theme in the configuration")
    wait_for(
        lambda: desk.console.picture().getpixel((2, 300)) != before.getpixel((2, 300)),
        "another background",
    )


def test_the_doctor_examines(desk: Desk) -> None:
    desk.section("7 Doctor", "ok")
    desk.console.press("e")
    desk.console.wait_for_text("now")
    desk.console.wait_for_text("VPN")


def test_lose_and_regain_the_service(desk: Desk) -> None:
    desk.section("1 Overview", LABEL)
    assert desk.gateway.stop() == 0
    desk.console.wait_for_text("retrying")
    assert LABEL in desk.console.text(), "the last data stays"
    desk.gateway.share(listen="0.0.0.0")
    desk.console.press("r")
    desk.gone("retrying")
    desk.console.wait_for_text("1 connected", 30)


def test_the_devices_own_flows(desk: Desk, flows: dict[int, socket.socket]) -> None:
    console = desk.client_console
    console.wait_for_text("● connected", 30)
    flows[7].sendall(b"x" * 5_000)
    console.press("4")
    console.wait_for_text("4 Flows")
    console.wait_for_text(f"{SERVER}:7")
    console.wait_for_text(f"{SERVER}:9")
    console.press("/")
    console.wait_for_text("enter keep")
    console.press("-l", ":7")
    console.press("Enter")
    desk.gone(f"{SERVER}:9", console)
    console.press("Enter")
    console.wait_for_text("Program   python")
    console.wait_for_text("5.0 kB")
    page = desk.client.ask("flows", "--role", "client", "--filter", f"{SERVER}:7")
    (flow,) = page["flows"]
    assert flow["protocol"] == "tcp" and flow["to_tunnel_bytes"] == 5_000
    console.press("Escape")
    desk.gone("Program   python", console)


def test_past_links_and_the_kill_switch(desk: Desk) -> None:
    console = desk.client_console
    console.wait_for_text("● connected", 30)
    assert desk.gateway.stop() == 0
    console.press("1")
    console.wait_for_text("▲ holding")
    desk.gateway.share(listen="0.0.0.0")
    console.wait_for_text("● connected", 30)
    console.press("3")
    console.wait_for_text("3 Links")
    console.wait_for_text("● in use")
    console.wait_for_text("shutdown")
    assert any(each["in_use"] for each in desk.client.ask("endpoints"))
    # The first to answer may be UDP, which is left for TCP as soon as that answers, too.
    links = desk.client.peek("history")
    ended = [link["ended"] for link in links]
    back = ended.index("shutdown") - 1
    assert ended[: back + 1] in ([None], [None, "moved"])
    assert links[back]["away"] > 0
    console.press("Enter")
    console.wait_for_text("without a link")
    console.press("Escape")
    desk.gone("without a link", console)
    console.press("1")
    console.wait_for_text("● armed")
    assert desk.client.status()["kill_switch"]["state"] == "armed"


def test_a_lost_vpn_stands_in_every_section_of_both_consoles(desk: Desk) -> None:
    """`ip link set g1 down`, as its app may do it; then it comes back."""
    console, far = desk.console, desk.client_console
    desk.section("2 Pair", "y copy")
    desk.world.vpn_down()
    console.wait_for_text("✗ VPN lost")
    console.wait_for_text("· 7 Doctor")
    far.wait_for_text("✗ Gateway's VPN lost")
    console.press("7")
    console.wait_for_text("7 Doctor ")
    console.wait_for_text("✗ VPN lost")
    desk.escape("Doctor")
    desk.gone("VPN lost")
    desk.world.vpn_up()
    console.wait_for_text("● VPN is back", 20)
    far.wait_for_text("● Gateway's VPN is back", 20)
    desk.gone("Gateway's VPN lost", far)
    lines = [line for line in desk.gateway.ask("logs") if line["logger"] == "gateway.journal"]
    told = [line["message"] for line in lines if line["message"].startswith("the VPN is")]
    assert "lost" in told[-2] and "there" in told[-1]


def test_disconnect_and_connect_from_the_clients_console(desk: Desk) -> None:
    console = desk.client_console
    console.wait_for_text("● connected", 30)
    console.press("c")
    console.wait_for_text("Disconnect from “")
    console.press("y")
    console.wait_for_text("○ idle")
    console.wait_for_text("○ off  nothing is in force")
    assert desk.client.status()["state"] == "idle"
    console.press("c")
    console.wait_for_text("● connected", 20)
    assert "1 received" in desk.world.client.run(["ping", "-c", "1", SERVER]).stdout


def test_revoke_after_a_question(desk: Desk) -> None:
    desk.section("3 Peers", LABEL)
    desk.console.press("x")
    desk.console.wait_for_text(f"Revoke “{LABEL}”?")
    desk.console.press("n")
    desk.gone("Revoke “")
    assert desk.client.status()["state"] == "connected"
    desk.console.press("x")
    desk.console.wait_for_text(f"Revoke “{LABEL}”?")
    desk.console.press("y")
    desk.console.wait_for_text("✗ revoked")
    wait_for(lambda: desk.client.peek()["state"] == "failed", "the client to notice")
    desk.client_console.wait_for_text("✗ failed")
    assert desk.gateway.leases() == []

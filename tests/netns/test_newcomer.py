"""Two people who have just cloned this, and the README: from there to the first byte.

What they type is taken from the README. Each has an empty home; the device's user has sudo
with a password. What their pip would fetch lies in a folder, since there is no network to
fetch it by: their pip's own configuration says so.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.netns.conftest import opened
from tests.netns.people import Person, somebody
from tests.netns.processes import wait_for
from tests.netns.terminal import Terminal
from tests.netns.world import SERVER, Shape, World
from tests.packages.conftest import packed

ROOT = Path(__file__).resolve().parents[2]
SET_UP_SECONDS = 120.0
AS_ONE_MACHINE = 'mount -t tmpfs x /run && mount -t tmpfs x /var/lib && exec "$@"'
"""Root's services keep their things there: these are not this machine's."""


@dataclass
class Newcomer:
    """Somebody at a terminal, and what they had to do."""

    terminal: Terminal
    commands: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)

    def types(self, line: str) -> None:
        self.terminal.press("-l", line)
        self.terminal.press("Enter")

    def runs(self, command: str) -> None:
        self.commands.append(command)
        self.types(command)

    def sees(self, text: str, seconds: float = 20.0) -> None:
        self.terminal.wait_for_text(text, seconds)

    def is_asked(self, text: str) -> None:
        """The command is over, with these words, and the shell asks for the next."""
        self.sees(text)
        wait_for(lambda: self.terminal.text().rstrip().endswith("\n>"), "the shell", 20)


def lines_of_the_readme() -> tuple[str, str]:
    """What it says to type on the gateway, and on the device."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Share a VPN") : text.index("## Run the tests")]
    gateway, device = re.findall(r"^```sh\n(.+)\n```$", section, re.MULTILINE)
    return gateway, device


def shown_uri(terminal: Terminal) -> str:
    """The pairing URI as it stands on the screen, in the pieces that it is broken into."""
    lines = terminal.text().splitlines()
    row = next(n for n, line in enumerate(lines) if "VSHP:" in line)
    column = lines[row].index("VSHP:")
    uri = ""
    for line in lines[row:]:
        piece = re.match(r"[A-Z0-9:]+", line[column:])
        if piece is None:
            break
        uri += piece[0]
    return uri


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with opened(Shape(vpn_kind="tun")) as world, world.serving(secure=False):
        # As a VPN app takes over: more specific than the route that was there.
        world.gateway.ip(
            *(f"-4 route add {half} via 10.8.0.1 dev g1" for half in ("0.0.0.0/1", "128.0.0.0/1")),
            *(f"-6 route add {half} via fd08::1 dev g1" for half in ("::/1", "8000::/1")),
        )
        yield world


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone, and `wheels` beside it."""
    folder = tmp_path_factory.mktemp("newcomer")
    packed(folder / "clone")
    shutil.move(folder / "clone" / "wheels", folder / "wheels")
    return folder


def moves_in(person: Person, clone: Path) -> None:
    """Give somebody their clone, and a pip that knows where packages are."""
    shutil.copytree(clone / "clone", person.home / "vpnshare")
    shutil.copytree(clone / "wheels", person.home / ".wheels")
    config = person.home / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True)
    config.write_text(f"[global]\nno-index = true\nfind-links = {person.home}/.wheels\n")
    subprocess.run(["chown", "-R", f"{person.name}:", person.home], check=True)


@pytest.mark.skipif(not shutil.which("sudo"), reason="needs sudo")
def test_two_lines_of_the_readme_and_two_decisions(world: World, clone: Path) -> None:
    on_gateway, on_device = lines_of_the_readme()
    before = world.client.state()
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    with (
        somebody("g", sudo=False) as owner,
        somebody("d", sudo=True) as guest,
        stopped_after(world, owner),
    ):
        for person in (owner, guest):
            moves_in(person, clone)
        shell = ["sh", "-c", 'cd ~/vpnshare && PS1="> " exec sh']
        alone = ["unshare", "--mount", "sh", "-c", AS_ONE_MACHINE, "sh"]
        (world.directory / "g").mkdir()
        (world.directory / "d").mkdir()
        with (
            Terminal.running(world.directory / "g", world.gateway.argv(owner.argv(*shell)), env,
                             100, 40) as first,
            Terminal.running(world.directory / "d",
                             world.client.argv([*alone, *guest.argv(*shell)]), env, 100,
                             40) as second,
        ):  # fmt: skip
            gateway, device = Newcomer(first), Newcomer(second)
            gateway.runs(on_gateway)
            device.runs(on_device)  # at the same time: each sets itself up
            gateway.sees("Pair a device", SET_UP_SECONDS)
            device.sees(f"password for {guest.name}", SET_UP_SECONDS)
            device.types(guest.password)
            device.sees("HOST:PORT [")
            device.types("u")
            device.sees("Pairing URI")
            wait_for(lambda: "VSHP:" in first.text(), "the code on the gateway's screen", 20)
            device.types(shown_uri(first))
            device.decisions.append("which gateway: its code")
            gateway.sees("wants to join")
            # What came a moment ago is not approved by a key that was meant for something else.

            def let_in() -> bool:
                first.press("a")
                return "wants to join" not in first.text()

            wait_for(let_in, "the device to be let in", 10, every=0.5)
            gateway.decisions.append("let it in")
            device.sees("Tunnel")
            wait_for(lambda: surfs(world), "the first byte", 20)
            assert gateway.commands + device.commands == ["./vpnshare up", "./vpnshare join"]
            assert len(gateway.decisions) + len(device.decisions) <= 2
            # And back, by the hints that stand on the screens.
            second.press("q")
            device.is_asked("End it: ")
            device.types(_hint(second, "End it: "))
            device.sees("Disconnected; all changes to the system are undone.", 40)
            first.press("q")
            gateway.is_asked("Stop it with: ")
            gateway.types(_hint(first, "Stop it with: "))
            gateway.sees("The gateway service has stopped.", 40)
            for terminal in (first, second):
                terminal.press("C-d")
    after = world.client.state()
    assert [k for k in before if k != "sockets" and before[k] != after[k]] == []


def surfs(world: World) -> bool:
    argv = ["curl", "-sf", "-m", "5", "-o", "/dev/null", f"http://{SERVER}:8000/bytes/9"]
    return world.client.run(argv, check=False).returncode == 0


@contextlib.contextmanager
def stopped_after(world: World, owner: Person) -> Iterator[None]:
    """Whatever becomes of the test, the owner's service is stopped before the owner goes."""
    try:
        yield
    finally:
        down = owner.argv(str(owner.home / "vpnshare" / "vpnshare"), "down")
        world.gateway.run(down, check=False)


def _hint(terminal: Terminal, before: str) -> str:
    line = next(line for line in terminal.text().splitlines() if before in line)
    return line.partition(before)[2].strip()

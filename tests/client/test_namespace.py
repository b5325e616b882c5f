"""A network of its own: who gets in at the door, where names are asked, and why there is none.

The kernel's part is in tests/netns/test_private.py.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from client.model import ClientError
from client.outlet.namespace import door, network
from client.outlet.namespace.door import Door
from client.outlet.namespace.enter import Visit, hosts_by_dns
from client.outlet.namespace.maker import Made, Order
from client.outlet.namespace.network import PrivateNetwork, explain

SECONDS = 10.0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "hosts: files dns\n"),
        ("passwd: files\nhosts: files resolve [!UNAVAIL=return] dns\nnetworks: files\n",
         "passwd: files\nnetworks: files\nhosts: files dns\n"),
        ("  hosts :\tmdns4\n#hosts: dns\nshadow: files",
         "#hosts: dns\nshadow: files\nhosts: files dns\n"),
        ("hosts: nis\nhosts: wins", "hosts: files dns\n"),
    ],
)  # fmt: skip
def test_hosts_have_two_sources(text: str, wanted: str) -> None:
    assert hosts_by_dns(text) == wanted


class Threshold:
    """A door with two descriptors behind it, and what it has told."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "door"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        listener.listen()
        self.namespaces: tuple[int, int] | None = None
        self.unused = asyncio.Event()
        self.door = Door(listener, lambda: self.namespaces, Path("/resolver"), self.unused.set)
        self.door.open()

    async def ask(self, line: bytes) -> bytes:
        """What a visitor is answered; empty when it is hung up on, before or after the question."""
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        try:
            writer.write(line)
            return await asyncio.wait_for(reader.readline(), SECONDS)
        except (BrokenPipeError, ConnectionResetError):
            return b""
        finally:
            writer.close()


@pytest.fixture
async def threshold(tmp_path: Path) -> AsyncIterator[Threshold]:
    made = Threshold(tmp_path)
    yield made
    made.door.close()


async def test_the_last_who_stayed_ends_its_use(threshold: Threshold) -> None:
    """By the end of their processes, however often they came."""
    program = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "[(s.send(b'stay\\n'), s.recv(9)) for _ in range(2)];"
        "s.close(); print(flush=True); sys.stdin.read()"
    )
    stayers = []
    for _ in range(2):
        stayer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(threshold.path),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert stayer.stdout is not None
        await asyncio.wait_for(stayer.stdout.readline(), SECONDS)
        stayers.append(stayer)
    for stayer in stayers:
        assert not threshold.unused.is_set()
        stayer.kill()
        await stayer.wait()
        # Told by the loop: what was readable before is dealt with before this.
        await threshold.ask(b"enter\n")
    await asyncio.wait_for(threshold.unused.wait(), SECONDS)


@pytest.mark.parametrize("line", [b"open\n", b"\0\n", b"x" * 1000])
async def test_who_says_something_else_is_hung_up_on(threshold: Threshold, line: bytes) -> None:
    assert await threshold.ask(line) == b""
    assert json.loads(await threshold.ask(b"enter\n"))["problem"]


async def test_visitors_are_bounded(threshold: Threshold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_VISITORS", 2)
    held = [await asyncio.open_unix_connection(str(threshold.path)) for _ in range(2)]
    for reader, writer in held:
        writer.write(b"enter\n")
        assert await asyncio.wait_for(reader.readline(), SECONDS)
    assert await threshold.ask(b"enter\n") == b""
    held.pop()[1].close()
    async with asyncio.timeout(SECONDS):
        # A place that is left is given again, as soon as the door has seen that.
        while not await threshold.ask(b"enter\n"):
            await asyncio.sleep(0.01)
    held.pop()[1].close()


ASKS = """
import os, socket, sys
visitor = socket.socket(socket.AF_UNIX)
visitor.settimeout(10)
os.chdir(sys.argv[1])
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
try:
    visitor.connect("door")
    visitor.send(b"enter\\n")
    print(len(socket.recv_fds(visitor, 9999, 2)[1]))
except (BrokenPipeError, ConnectionResetError):
    print(0)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, and another user")
async def test_another_user_is_let_in_nowhere(threshold: Threshold) -> None:
    threshold.path.parent.chmod(0o755)
    threshold.path.chmod(0o666)
    held = (os.open("/proc/self/ns/user", os.O_RDONLY), os.open("/proc/self/ns/net", os.O_RDONLY))
    threshold.namespaces = held
    for user, descriptors in (("12345", b"0"), ("0", b"2")):
        asks = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ASKS, str(threshold.path.parent), user,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        said, problem = await asyncio.wait_for(asks.communicate(), SECONDS)
        assert said.strip() == descriptors, problem
    for each in held:
        os.close(each)


def test_where_nobody_answers_there_is_no_visit(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Visit(tmp_path / "door")


@pytest.mark.parametrize(
    ("step", "number", "files", "says", "fix"),
    [
        ("unshare", errno.ENOSPC, {"_MAX": "0"}, "turned off", "user.max_user_namespaces="),
        ("unshare", errno.ENOSPC, {"_MAX": "9"}, "as many", "user.max_user_namespaces="),
        ("unshare", errno.EPERM, {"_CLONE": "0"}, "only root", "unprivileged_userns_clone=1"),
        ("map", errno.EACCES, {"_APPARMOR": "1"}, "AppArmor", "userns, }"),
        ("unshare", errno.EPERM, {}, "a container", "vpnshare join"),
        ("map", errno.EPERM, {"_APPARMOR": "0", "_MAX": "9"}, "a container", "vpnshare join"),
    ],
)
def test_what_the_system_refuses_is_said_with_the_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    step: str, number: int, files: dict[str, str], says: str, fix: str,
) -> None:  # fmt: skip
    for name in ("_MAX", "_CLONE", "_APPARMOR"):
        path = tmp_path / name
        if name in files:
            path.write_text(f"{files[name]}\n")
        monkeypatch.setattr(network, name, path)
    error = explain(Made(refused=step, errno=number))
    assert error.name == "namespace_refused"
    assert says in error.message and fix in error.hint and "vpnshare client --proxy" in error.hint


def test_a_maker_that_fails_is_told_by_its_last_words() -> None:
    for program in ("raise SystemExit('out of luck')", "print()"):
        made = PrivateNetwork([sys.executable, "-c", program])
        with pytest.raises(ClientError) as caught:
            made.open_nic(Order("vshp%d", True))
        assert caught.value.name == "namespace_refused"
        assert ("out of luck" in caught.value.message) == ("luck" in program)
        made.close()

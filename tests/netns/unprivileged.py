"""A user without any right in a test world, who runs commands through the tunnel."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.netns.hosts import Host
from tests.netns.processes import Process, wait_for
from tests.netns.product import EXECUTABLE, Gateway
from tests.netns.world import World

UID = 1234

WITH_TUN = """
if [ -e /dev/net/tun ] && [ "$(stat -c %a /dev/net/tun)" != 666 ]; then
    mount -t tmpfs -o mode=755 none /dev/net && mknod -m 666 /dev/net/tun c 10 200
fi
exec "$@"
"""
"""Gives the program's own mount namespace what udev gives a machine that has it: the device that
makes networks is everybody's (50-udev-default.rules)."""


class User:
    """Somebody with a home of their own on the client's host, and no right but to that."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.host: Host = world.client
        self.home = world.directory / name
        self.home.mkdir(mode=0o700)
        os.chown(self.home, UID, UID)

    def environment(self) -> Mapping[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, "VPNSHARE_HOME": str(self.home), "HOME": str(self.home)}

    def argv(self, *words: str) -> list[str]:
        """The command line that runs `words` as this user."""
        return [
            "sh", "-c", WITH_TUN, "sh",
            "setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--bounding-set=-all",
            "sh", "-c", 'cd "$0" && exec "$@"', str(self.home), *words,
        ]  # fmt: skip

    def vpnshare(self, *words: str, check: bool = True) -> str:
        """Run `vpnshare WORDS` to its end; what it wrote."""
        done = self.host.run(
            self.argv(str(EXECUTABLE), *words), env=self.environment(), check=check
        )
        return done.stdout + done.stderr

    def status_of(self, *words: str) -> tuple[int, str, str]:
        """The same: exit status, standard output, standard error."""
        done = self.host.run(
            self.argv(str(EXECUTABLE), *words), env=self.environment(), check=False
        )
        return done.returncode, done.stdout, done.stderr

    def start(self, *words: str, name: str = "run") -> Process:
        """Run `vpnshare WORDS` beside the test."""
        argv = self.argv(str(EXECUTABLE), *words)
        return self.host.start(argv, name=name, env=self.environment())

    def pair(self, gateway: Gateway, *command: str) -> Process:
        """Begin with a command for which it is paired first."""
        process = self.start("run", "--to", gateway.pair(), "--", *command)
        gateway.approve_next(30)
        return process

    def service(self) -> int:
        """The pid of the client service of this home."""
        return int(json.loads(self.vpnshare("status", "--role", "client", "--json"))["pid"])

    def wait_until_alone(self) -> None:
        """Wait until no service of this home runs any more."""
        wait_for(lambda: not (self.home / "client.sock").exists(), "the service to be gone", 20)


def processes_of(uid: int) -> list[int]:
    """Of all hosts."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if each.stat().st_uid == uid:
                found.append(int(each.name))
        except OSError:
            continue
    return found


def mounts(host: Host, *folders: str) -> Sequence[str]:
    """What is mounted at or below `folders`, on the host. Elsewhere other tests mount things."""
    lines = host.run(["cat", "/proc/self/mountinfo"]).stdout.splitlines()
    # Numbers are given anew to each look, which has a mount namespace of its own.
    found = [line.split(" ", 3)[3] for line in lines]
    return sorted(each for each in found if each.split()[1].startswith(folders))

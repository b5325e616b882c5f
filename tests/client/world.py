"""Two hosts of our own for the root tests, as network namespaces.

    client  c0 10.201.0.2/24  fd20:201::2/64
      |
    router  r0 10.201.0.1/24  fd20:201::1/64   (the gateway's endpoint, on the link)
            lo 198.51.100.1, 2001:db8:51::1    (the Internet)
            lo 203.0.113.9                     (a gateway beyond the router)

The client's default routes lead to the router.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.addresses import wait_for_ipv6

NEEDS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/net/tun") or shutil.which("ip") is None,
    reason="needs root, /dev/net/tun and iproute2: it builds network namespaces",
)
RESOLV_CONF = "nameserver 192.0.2.53\nsearch example.net\n"
ROOT = Path(__file__).resolve().parents[2]


class World:
    def __init__(self) -> None:
        self.client = f"cl-c{os.getpid()}"
        self.router = f"cl-r{os.getpid()}"
        self.resolv_conf = Path("/etc/netns") / self.client / "resolv.conf"

    def build(self) -> None:
        self.destroy()
        self.resolv_conf.parent.mkdir(parents=True)
        self.resolv_conf.write_text(RESOLV_CONF)
        _ip("netns add", self.client)
        _ip("netns add", self.router)
        # With two numbers its carrier is taken up at once (tests/netns/world.py says why).
        _ip(f"-n {self.client} link add c0 type veth peer name r0 index 1000 netns {self.router}")
        for line in (
            "link set lo up",
            "link set c0 addrgenmode none",
            "link set c0 up",
            "addr add 10.201.0.2/24 dev c0",
            "addr add fd20:201::2/64 dev c0 nodad",
            "route add default via 10.201.0.1",
            "-6 route add default via fd20:201::1",
        ):
            _ip(f"-n {self.client} {line}")
        for line in (
            "link set lo up",
            "link set r0 addrgenmode none",
            "link set r0 up",
            "addr add 10.201.0.1/24 dev r0",
            "addr add fd20:201::1/64 dev r0 nodad",
            "addr add 198.51.100.1/32 dev lo",
            "addr add 203.0.113.9/32 dev lo",
            "addr add 2001:db8:51::1/128 dev lo nodad",
        ):
            _ip(f"-n {self.router} {line}")
        for name in (self.client, self.router):
            wait_for_ipv6(name)

    def destroy(self) -> None:
        for name in (self.client, self.router):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        shutil.rmtree(self.resolv_conf.parent, ignore_errors=True)

    def python(self, *arguments: str, where: str | None = None) -> subprocess.Popen[str]:
        """A Python program in the client's namespace, with pipes."""
        return subprocess.Popen(
            ["ip", "netns", "exec", where or self.client, sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def run(self, *argv: str, where: str | None = None) -> str:
        """A program in the client's namespace, to its end; standard output and error."""
        done = subprocess.run(
            ["ip", "netns", "exec", where or self.client, *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=20,
        )
        return done.stdout

    def picture(self) -> dict[str, str]:
        """Everything the client may change, as text."""
        return {
            "rules": self.run("ip", "rule"),
            "rules6": self.run("ip", "-6", "rule"),
            "routes": self.run("ip", "route", "show", "table", "all"),
            "routes6": self.run("ip", "-6", "route", "show", "table", "all"),
            "addresses": self.run("ip", "-br", "addr"),
            "nft": self.run("nft", "list", "ruleset") if shutil.which("nft") else "",
            "resolver": self.resolv_conf.read_text(),
        }

    def route(self, address: str, mark: int = 0) -> str:
        """Where the client's kernel sends a packet: a device, or the error."""
        answer = self.run("ip", "route", "get", address, "mark", str(mark))
        words = answer.split()
        return words[words.index("dev") + 1] if "dev" in words else answer.strip()


def _ip(*words: str) -> None:
    argv = ["ip", *" ".join(words).split()]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")

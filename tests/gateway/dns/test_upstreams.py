"""Where the VPN's resolvers are read from, in a file system of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.dns.upstreams import REST, Server, Upstreams, parse_server
from gateway.vpn.detector import VpnDetector
from tests.gateway.dns.world import VPN
from tests.gateway.vpn.fakes import ScriptedSource


@pytest.fixture
async def detector() -> VpnDetector:
    found = VpnDetector(source=ScriptedSource(VPN))
    await found.start()
    return found


def write(root: Path, path: str, text: str, age: int = 0) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    os.utime(target, ns=(age, age))


def names(upstreams: Upstreams, now: float = 0.0) -> list[str]:
    return [str(s) for s in upstreams.servers(now)]


async def test_order_of_the_sources(detector: VpnDetector, tmp_path: Path) -> None:
    def read() -> list[str]:
        return names(Upstreams(detector, root=str(tmp_path)))

    assert read() == []
    write(tmp_path, "run/systemd/resolve/resolv.conf", "nameserver 10.0.0.4\n")
    write(tmp_path, "etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0\n")
    assert read() == ["10.0.0.4:53"], "the stub's real list"
    write(tmp_path, "etc/resolv.conf", "# x\nnameserver 10.0.0.3\nnameserver ::1\nnameserver zz\n")
    assert read() == ["10.0.0.3:53"]
    write(tmp_path, "run/resolvconf/interfaces/tun.tun0", "nameserver fd00::53\n")
    write(tmp_path, "run/resolvconf/interfaces/eth0", "nameserver 192.168.1.1\n")
    assert read() == ["[fd00::53]:53"]
    write(tmp_path, "run/systemd/resolve/netif/7", "SERVERS=10.0.0.1 10.0.0.2:5353%tun0#dns.test\n")
    assert read() == ["10.0.0.1:53", "10.0.0.2:5353"]
    setting = (Server("127.0.0.1", 5300),)
    assert names(Upstreams(detector, setting, str(tmp_path))) == ["127.0.0.1:5300"]


async def test_read_again_when_the_file_or_the_vpn_changes(
    detector: VpnDetector, tmp_path: Path
) -> None:
    upstreams = Upstreams(detector, root=str(tmp_path))
    write(tmp_path, "etc/resolv.conf", "nameserver 10.0.0.1\n", age=1)
    assert names(upstreams, 0.0) == ["10.0.0.1:53"]
    write(tmp_path, "etc/resolv.conf", "nameserver 10.0.0.2\n", age=2)
    assert names(upstreams, 1.0) == ["10.0.0.1:53"]
    assert names(upstreams, 2.5) == ["10.0.0.2:53"]
    write(tmp_path, "etc/resolv.conf", "nameserver 10.0.0.3\n", age=3)
    detector.generation += 1
    assert names(upstreams, 2.6) == ["10.0.0.3:53"]


async def test_a_silent_server_rests_behind_the_others(detector: VpnDetector) -> None:
    first, second = Server("10.0.0.1"), Server("10.0.0.2")
    upstreams = Upstreams(detector, (first, second))
    assert upstreams.servers(0.0) == (first, second)
    upstreams.failed(first, 0.0)
    assert upstreams.servers(0.0) == (first, second)
    upstreams.failed(first, 0.0)
    assert upstreams.servers(1.0) == (second, first)
    assert upstreams.servers(REST + 1) == (first, second)
    upstreams.failed(first, REST + 2)
    upstreams.answered(first)
    assert upstreams.servers(REST + 3) == (first, second)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("9.9.9.9", Server("9.9.9.9")),
        ("9.9.9.9:5353", Server("9.9.9.9", 5353)),
        ("2620:FE::FE", Server("2620:fe::fe")),
        ("[2620:fe::fe]:53", Server("2620:fe::fe")),
    ],
)
def test_addresses(text: str, server: Server) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize("text", ["", "dns.test", "9.9.9.9:", "9.9.9.9:0x", "9.9.9.9:70000",
                                  "[::1", "[::1]5", "::", "224.0.0.251"])  # fmt: skip
def test_not_addresses(text: str) -> None:
    if text == "9.9.9.9:":
        assert parse_server(text).port == 53
        return
    with pytest.raises(ValueError, match="not a resolver"):
        parse_server(text)

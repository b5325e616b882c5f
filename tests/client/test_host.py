"""The host as a whole: what goes beside is shown, and it is taken back though a tool fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from client.block import Force
from client.guard import Guards
from client.model import ClientConfig
from client.outlet.nic.host import LinuxHost
from client.system.routes import TunnelAddresses
from client.system.run import CommandError
from tests.client.kernel import Kernel

LEASE = TunnelAddresses("10.7.0.2", "fd07::2", "10.7.0.1", "fd07::1")


class Brittle(Kernel):
    """A kernel one of whose tools fails, whatever it is asked."""

    broken = ""

    def run(self, argv: Sequence[str], stdin: str = "") -> str:
        if argv[0] == self.broken:
            raise CommandError("tool_failed", "The system refused.", stderr="Not supported")
        return super().run(argv, stdin)

    def ours(self) -> int:
        return sum(rule.protocol == 178 for family in (4, 6) for rule in self.rules[family])


@pytest.fixture
def kernel(tmp_path: Path) -> Brittle:
    kernel = Brittle(tmp_path / "proc")
    kernel.add_link("lan0", "192.168.1.2/24", "fd01::2/64")
    kernel.add_route("default", "lan0", "192.168.1.1")
    return kernel


def carrying(kernel: Brittle, path: Path, strict: bool) -> LinuxHost:
    host = made(kernel, path, strict)
    host.prepare()
    nic = host.open_nic()
    host.set_up(nic, LEASE)
    host.enforce(Force.TUNNEL, nic, LEASE)
    assert kernel.ours() and host.guards().rules
    return host


def made(kernel: Brittle, path: Path, strict: bool, *local: str) -> LinuxHost:
    config = ClientConfig(
        path, kill_switch=strict, local_interfaces=local, resolv_conf=path / "resolv.conf"
    )
    return LinuxHost(config, kernel, config.resolv_conf, kernel.open_nic, kernel.proc)


@pytest.mark.parametrize("strict", [False, True])
def test_the_routes_go_though_the_firewall_cannot_be_asked(
    kernel: Brittle, tmp_path: Path, strict: bool
) -> None:
    host = carrying(kernel, tmp_path, strict)
    kernel.broken = "nft"
    host.undo()
    assert kernel.ours() == 0
    if strict:
        [rule] = host.guards().rules
        assert rule.startswith("nft table inet vpnshare_")
        kernel.broken = ""
        host.undo()
        assert kernel.tables == {}
    assert host.guards() == Guards()


def test_the_firewalls_table_goes_though_ip_fails(kernel: Brittle, tmp_path: Path) -> None:
    host = carrying(kernel, tmp_path, True)
    kernel.broken = "ip"
    host.undo()
    assert kernel.tables == {} and kernel.ours()
    assert host.guards().rules and all(rule.startswith("ip ") for rule in host.guards().rules)
    kernel.broken = ""
    host.undo()
    assert kernel.ours() == 0 and host.guards() == Guards()


@pytest.mark.parametrize("broken", ["ip", "nft"])
def test_what_stands_is_found_by_the_tool_that_works(
    kernel: Brittle, tmp_path: Path, broken: str
) -> None:
    carrying(kernel, tmp_path, True)
    kernel.broken = broken
    assert made(kernel, tmp_path, True).found()


@pytest.mark.parametrize("strict", [False, True])
def test_where_nothing_is_local_what_the_routes_cannot_hold_is_named(
    kernel: Brittle, tmp_path: Path, strict: bool
) -> None:
    host = made(kernel, tmp_path, strict, "none")
    host.enforce(Force.BLOCK)
    assert host.guards().beside == (() if strict else ("IPv6 multicast",))

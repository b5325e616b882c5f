"""The Linux source against the real kernel, with devices and rules of a namespace."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.model import VpnState
from gateway.vpn.android import AndroidSource
from gateway.vpn.detector import VpnDetector, system_source
from gateway.vpn.linux import LinuxSource
from gateway.vpn.snapshot import INET, INET6
from tests.fakes.waiting import settle
from tests.gateway.vpn.namespace import Tunnel, Uplink, fresh_namespace, needs_namespaces, run

pytestmark = needs_namespaces

SETTLED = 0.12
NOBODY = 65534


@contextlib.asynccontextmanager
async def detector(name: str | None = None) -> AsyncIterator[VpnDetector]:
    with fresh_namespace():
        found = VpnDetector(name)
        await found.start()
        try:
            yield found
        finally:
            await found.stop()


async def test_a_vpn_appears_step_by_step() -> None:
    async with detector() as d:
        Uplink()
        tunnel = Tunnel()
        await asyncio.sleep(SETTLED)
        assert d.network.state is VpnState.ABSENT
        tunnel.up(routes=False)
        await asyncio.sleep(SETTLED)
        assert "--vpn-interface vpn0" in (d.network.reason or "")
        tunnel.route()
        await asyncio.sleep(SETTLED)
        assert d.network.usable
        assert (d.network.kind, d.network.ipv4, d.network.ipv6) == ("tun", True, True)
        assert d.network.addresses == ("10.8.0.2", "fd08::2")
        sent, received, dropped = d.counters() or (-1, -1, -1)
        assert min(sent, received, dropped) >= 0
        tunnel.close()
        await asyncio.sleep(SETTLED)
        assert d.network.state is VpnState.ABSENT
        assert d.counters() is None


async def test_half_a_default_route_is_not_all_traffic() -> None:
    async with detector() as d:
        Uplink()
        tunnel = Tunnel().up(routes=False)
        run("ip route add 0.0.0.0/1 dev vpn0")
        await asyncio.sleep(SETTLED)
        assert not d.network.usable
        run("ip route add 128.0.0.0/1 dev vpn0")
        await asyncio.sleep(SETTLED)
        assert (d.network.ipv4, d.network.ipv6) == (True, False)
        tunnel.close()


async def test_rules_of_wg_quick() -> None:
    async with detector() as d:
        Uplink()
        tunnel = Tunnel("wg0").up(routes=False)
        run("ip route add default dev wg0 table 51820")
        run("ip rule add not fwmark 51820 table 51820")
        run("ip rule add table main suppress_prefixlength 0")
        await asyncio.sleep(SETTLED)
        assert d.network.usable
        assert (d.network.interface, d.network.ipv4, d.network.ipv6) == ("wg0", True, False)
        run("ip rule del not fwmark 51820 table 51820")
        await asyncio.sleep(SETTLED)
        assert d.network.state is VpnState.EXCLUDED
        tunnel.close()


async def test_rules_by_user_as_on_android() -> None:
    """netd sends the users of a VPN into its table; who is not among them is left out."""
    async with detector() as d:
        Uplink()
        tunnel = Tunnel().up(routes=False)
        run("ip route add default dev vpn0 table 1021")
        run("ip rule add uidrange 10000-19999 table 1021 pref 13000")
        await asyncio.sleep(SETTLED)
        assert d.network.state is VpnState.EXCLUDED
        run(f"ip rule add uidrange {os.geteuid()}-{os.geteuid()} table 1021 pref 13001")
        await asyncio.sleep(SETTLED)
        assert d.network.usable
        assert AndroidSource().snapshot().default[INET] == tunnel_index(d)
        tunnel.close()


def add_routes(count: int) -> None:
    lines = "".join(f"route add 10.{100 + n // 250}.{n % 250}.0/24 dev up0\n" for n in range(count))
    subprocess.run(["ip", "-batch", "-"], input=lines.encode(), check=True)


def tunnel_index(d: VpnDetector) -> int:
    assert d.index is not None
    return d.index


async def test_named_interface_of_any_kind() -> None:
    async with detector("g1") as d:
        assert "no interface g1" in (d.network.reason or "")
        run("ip link add g1 type veth peer name g2")
        run("ip link set g2 up")
        run("ip link set g1 up")
        await asyncio.sleep(SETTLED)
        assert "no address" in (d.network.reason or "")
        run("ip addr add 10.3.0.1/24 dev g1")
        await asyncio.sleep(SETTLED)
        assert (d.network.kind, d.network.ipv4, d.network.ipv6) == ("named", True, False)
        run("ip addr add fd03::1/64 dev g1 nodad")
        await asyncio.sleep(SETTLED)
        assert d.network.ipv6
        run("ip link set g2 down")
        await asyncio.sleep(SETTLED)
        assert d.network.state is VpnState.ABSENT
        run("ip link set g2 up")
        await asyncio.sleep(SETTLED)
        assert d.network.usable
        run("ip link set g1 name g9")
        await asyncio.sleep(SETTLED)
        assert "no interface g1" in (d.network.reason or "")


async def test_both_sources_see_the_same_host() -> None:
    with fresh_namespace():
        Uplink()
        tunnel = Tunnel().up()
        linux, android = LinuxSource(), AndroidSource()
        ours, theirs = linux.snapshot(), android.snapshot()
        linux.stop()
        assert ours.default == theirs.default == {INET: 4, INET6: 4}
        assert {i.name for i in ours.interfaces} == {i.name for i in theirs.interfaces}
        for interface in ours.interfaces:
            other = theirs.named(interface.name)
            assert other is not None
            assert (interface.index, interface.running) == (other.index, other.running)
            ours_of, theirs_of = (
                {(a.packed, a.prefix) for a in i.addresses} for i in (interface, other)
            )
            assert ours_of == theirs_of
        tunnel.close()


async def test_the_phones_way_polls_only_while_sharing() -> None:
    with fresh_namespace():
        Uplink()
        d = VpnDetector(source=AndroidSource(poll=0.05))
        await d.start()
        tunnel = Tunnel().up()
        await asyncio.sleep(0.15)
        assert not d.network.usable
        d.attend(True)
        assert d.network.usable
        tunnel.close()
        await settle(lambda: not d.network.usable)
        await d.stop()


async def test_a_burst_of_changes_is_survived() -> None:
    async with detector() as d:
        Uplink()
        tunnel = Tunnel().up()
        add_routes(5000)
        await asyncio.sleep(SETTLED)
        assert d.network.usable
        tunnel.close()
        await asyncio.sleep(SETTLED)
        assert not d.network.usable


def test_an_unprivileged_user_under_seccomp_has_the_fall_backs() -> None:
    """The real refusal, in a process of its own: a filter instead of an old kernel."""
    program = (
        "from gateway.vpn.detector import VpnDetector\n"
        "from gateway.vpn.guard import EgressGuard\n"
        "import os\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "guard = EgressGuard(VpnDetector())\n"
        "print(guard.strength, guard.streams)\n"
    )
    folder = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, str(folder / "seccomp.py"), sys.executable, "-c", program],
        cwd=folder.parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.stderr == ""
    assert result.stdout.split() == ["unicast-if", "scope"]


def test_an_unprivileged_user_binds_to_devices() -> None:
    program = (
        "import os, socket\n"
        "from gateway.vpn.ties import Ties, bound_device\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "ties = Ties()\n"
        "sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "ties.by_index(sock, 1)\n"
        "print(ties.probe_index(), ties.probe_name(), bound_device(sock))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.stderr == ""
    assert result.stdout.split() == ["True", "True", "lo"]


def test_the_factory_takes_netlink_where_it_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(system_source(), LinuxSource)
    monkeypatch.setattr(LinuxSource, "available", staticmethod(lambda: False))
    assert isinstance(system_source(), AndroidSource)
    monkeypatch.setattr(sys, "platform", "android")
    assert isinstance(system_source(), AndroidSource)

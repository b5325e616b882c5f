"""On a phone: no privilege, no netlink, no /proc/net, no resolv.conf, nothing optional there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.netns import netd, phone_probe
from tests.netns.conftest import opened
from tests.netns.phone import APP, Phone, resolver
from tests.netns.processes import Process, wait_for
from tests.netns.product import PORT, Client
from tests.netns.terminal import Terminal
from tests.netns.vpn_loss import Bench, Outside, lease_addresses
from tests.netns.world import GATEWAY_LAN, SERVER, SERVER6, Shape, World


@dataclass(frozen=True)
class Setting:
    """A phone that shares, and a client of it."""

    world: World
    phone: Phone
    client: Client
    netd: Process
    old_kernel: bool


@pytest.fixture(scope="module", params=[False, True], ids=["new kernel", "old kernel"])
def setting(request: pytest.FixtureRequest) -> Iterator[Setting]:
    old_kernel: bool = request.param
    with opened(Shape(vpn_kind="tun")) as world:
        netd.phone_routes(world)
        netd.vpn_up(world)
        folder = world.directory / "netd"
        with (
            resolver(world, folder) as process,
            world.serving(secure=False),
            Phone(world, folder, old_kernel) as phone,
            Client(world) as client,
        ):
            phone.start("--listen", f"{GATEWAY_LAN}:{PORT}", "--share")
            client.start().join(phone)
            yield Setting(world, phone, client, process, old_kernel)


def test_the_jail_is_as_tight_as_a_phone(setting: Setting) -> None:
    probe = setting.phone.jailed(phone_probe.__file__)
    found = json.loads(setting.world.gateway.run(probe).stdout)
    assert found["platform"] == "android"
    assert (found["user"], found["groups"]) == ([APP] * 3, [])
    assert all(found["files"].values()), found["files"]
    assert found["netlink"] == "PermissionError"
    assert found["tie"] == ("PermissionError" if setting.old_kernel else "")
    assert found["socket"] == ["dnsproxyd"]
    modules = found["modules"]
    assert all(modules[name] == "ModuleNotFoundError" for name in phone_probe.OPTIONAL), modules
    assert not any(modules[name] for name in phone_probe.REQUIRED), modules


def test_a_phone_finds_its_vpn_and_serves(setting: Setting) -> None:
    world, phone = setting.world, setting.phone
    bench = Bench(world, phone, setting.client, named=False)
    vpn = phone.ask("status")["vpn"]
    assert (vpn["state"], vpn["interface"], vpn["kind"]) == ("active", netd.VPN, "tun")
    assert vpn["ipv4"] and vpn["ipv6"]
    assert vpn["guard"] == ("unicast-if" if setting.old_kernel else "device")
    with Outside.of(world, lease_addresses(phone)) as outside:
        assert bench.all_served()
        long = world.client.run(["dig", "+short", "text.test", "TXT"]).stdout
        assert long == '"first string" "second string"\n'
        assert "NXDOMAIN" in world.client.run(["dig", "nobody.test", "A"]).stdout
        assert outside.packets() == []
    assert "resnsend 0 0" in setting.netd.tail()
    assert phone.status()["counters"]["dns__netd__answered"] > 0


def test_a_phone_whose_vpn_goes_sends_nothing(setting: Setting) -> None:
    world, phone = setting.world, setting.phone
    bench = Bench(world, phone, setting.client, named=False)
    with Outside.of(world, lease_addresses(phone)) as outside:
        netd.vpn_down(world)
        try:
            # At once, before a phone that must look by itself has looked.
            assert not any(bench.serves(s) or bench.answers(s) for s in (SERVER, SERVER6))
            # A name that is not in the cache: netd would ask for it by the default network.
            dig = ["dig", "+tries=1", "+time=3", "only4.test"]
            assert SERVER not in world.client.run(dig, check=False).stdout
            wait_for(
                lambda: bench.sharing() == ("unavailable", "unavailable"),
                "both sides to say that the VPN is lost",
            )
        finally:
            netd.vpn_up(world)
        wait_for(bench.all_served, "service after the VPN's return")
        assert outside.packets() == []


def test_the_console_runs_on_the_phone(setting: Setting) -> None:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux (Debian's package tmux)")
    world, phone = setting.world, setting.phone
    argv = world.gateway.argv(phone.jailed("vpnshare", "console"))
    with Terminal.running(world.directory, argv, phone.environment(), 45, 24) as terminal:
        terminal.wait_for_text("1 connected", 30)
        terminal.wait_for_text(netd.VPN)
        terminal.press("?")
        terminal.wait_for_text("Help")
        terminal.press("escape", "q")

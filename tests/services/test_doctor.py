"""The doctor: each check is made to fail, and told by its advice."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from client.guard import Guards, GuardSnapshot, GuardState
from client.model import ClientError, ClientSnapshot, ClientState, LeaseSnapshot
from client.outlet.outlet import OutletKind
from client.system.resolv_conf import LOST, MARKER
from control import paths
from control.exits import Exit
from control.schema import Finding, Unwritten
from gateway.model import VpnNetwork, VpnState
from gateway.proof import EgressReport
from gateway.records import Knocks
from gateway.vpn.snapshot import Address, Interface
from gateway.wireguard_diagnosis import Cause, Trouble
from reach.cable import Phone, PhoneState
from services.client_store import ClientDatabase
from services.config import SETTINGS, Config
from services.doctor import addresses, checks, machine
from services.doctor import client as client_side
from services.doctor import doctor as whole
from services.doctor import gateway as gateway_side
from services.doctor.checks import Checks, Outcome, ok
from services.doctor.client import ClientFacts
from services.doctor.doctor import Doctor
from services.doctor.gateway import GatewayFacts, WireguardFacts
from services.doctor.machine import Machine
from services.doctor.system import System
from services.gateway_store import GatewayDatabase
from services.hooks import Hook
from services.room import Room
from services.wireguard_words import SWITCHES
from tests.fakes.services import PretendClient, PretendGateway


class Pretended(System):
    """A system that is as the test says."""

    def __init__(self, **what: Any) -> None:
        self.what = what

    @property
    def termux(self) -> bool:
        return bool(self.what.get("termux", False))

    def android_api(self) -> int | None:
        return int(self.what.get("api", 34)) if self.termux else None

    def python(self) -> tuple[int, int]:
        major, minor = self.what.get("python", (3, 13))
        return major, minor

    def has(self, module: str) -> bool:
        return module not in self.what.get("missing", ())

    def which(self, program: str) -> str | None:
        places: dict[str, str] = self.what.get("places", {})
        default = places.get(program, f"/bin/{program}")
        return None if program in self.what.get("missing", ()) else default

    def exists(self, path: str) -> bool:
        return path not in self.what.get("absent", ())

    def owner(self, path: Path) -> int | None:
        owners: dict[str, int] = self.what.get("owners", {})
        return owners.get(path.name, super().owner(path))

    def room(self, folder: Path) -> Room | None:
        default = Room(1 << 30, 1000, read_only=False)
        there: Room | None = self.what.get("room", {}).get(folder.name, default)
        return there

    def usable(self, path: str) -> bool:
        return path not in self.what.get("unusable", ())

    def installed(self) -> str | None:
        version: str | None = self.what.get("installed", super().installed())
        return version

    def read(self, path: str) -> str | None:
        default = None if path.startswith("/proc") else super().read(path)
        files: dict[str, str] = self.what.get("files", {})
        return files.get(Path(path).name, default)

    async def said(self, program: str, *args: str) -> str | None:
        answers: dict[str, str] = self.what.get("said", {})
        return answers.get(" ".join((program, *args)), answers.get(program))

    def wall(self) -> float:
        return float(self.what.get("wall", time.time()))

    async def own_network(self) -> ClientError | None:
        refused: ClientError | None = self.what.get("own_network")
        return refused

    def net_admin(self) -> bool:
        return bool(self.what.get("net_admin", True))


def interface(index: int, name: str, *addresses: str, flags: int = 0x41) -> Interface:
    pairs = (text.split("/") for text in addresses)
    return Interface(
        index, name, flags,
        addresses=tuple(Address(ip_address(a).packed, int(prefix)) for a, prefix in pairs),
    )  # fmt: skip


VPN = VpnNetwork(VpnState.ACTIVE, "tun0", "tun", ("10.8.0.2",), ipv4=True, ipv6=True)


async def resolved() -> str:
    return "NXDOMAIN"


async def heard(*_: object) -> bool | None:
    return True


async def deaf(*_: object) -> bool | None:
    return False


def says(answer: str) -> Callable[[], Any]:
    async def ask() -> str:
        return answer

    return ask


@pytest.fixture
def subject(tmp_path: Path) -> Machine:
    return Machine("gateway", paths.find({"VPNSHARE_HOME": str(tmp_path)}), Pretended())


@pytest.fixture
def facts(subject: Machine) -> GatewayFacts:
    """A gateway with nothing wrong."""
    return GatewayFacts(
        machine=subject,
        now=100.0,
        vpn=VPN,
        guard="device",
        streams="device",
        bypass=False,
        sharing="on",
        egress=EgressReport(3, 90.0, 5000, 5000, 4000, 4000),
        countable=True,
        listen=(("0.0.0.0", 47800), ("::", 47800)),
        interfaces=(
            interface(1, "lo", "127.0.0.1/8", flags=0x49),
            interface(2, "wlan0", "192.168.1.7/24", "fe80::1/64"),
            interface(3, "tun0", "10.8.0.2/24"),
        ),
        knocks=(Knocks("tcp", "192.168.1.7", 2, 60.0),),
        resolvers=("10.8.0.1:53",),
        vpn_mtu=1420,
        lease_mtu=1500,
        descriptors=32768,
        version_refused=0,
        wake_lock="none",
        slept=0.0,
        ask=resolved,
        hear=heard,
    )


PHONE = {"termux": True, "said": {"getprop": "false\n"}}


def on(facts: GatewayFacts, **what: Any) -> GatewayFacts:
    """The same on another system."""
    return replace(facts, machine=replace(facts.machine, system=Pretended(**what)))


async def test_wireguard_devices(facts: GatewayFacts) -> None:
    """That each trouble is found where it is: test_wireguard_diagnosis."""
    check = partial(gateway_side.CHECKS.run_one, "wireguard")
    fine = WireguardFacts(51820, ("0.0.0.0:51820",), known=2, offered=1, connected=1)
    trouble = Trouble(Cause.CLOCK, b"k" * 32, "phone", "192.168.1.9", count=3, seconds=9000.0)
    for own, status, found in (
        (WireguardFacts(), "skipped", "Off."),
        (replace(fine, known=0, offered=0, listen=()), "skipped", "None was made."),
        (replace(fine, listen=()), "broken", "UDP port 51820 cannot be listened on"),
        (fine, "ok", "1 of 2 connected, 1 made and not let in yet."),
        (replace(fine, troubles=(trouble,)), "warn", "The clock of phone went back by 2 hours"),
        (replace(fine, troubles=(trouble, trouble)), "warn", "1 more: vpnshare wireguard."),
    ):
        outcome = await check(replace(facts, wireguard=own))
        assert (outcome.status, found in outcome.found) == (status, True), outcome
        assert (outcome.advice is None) is (status in ("ok", "skipped"))
    outcome = await check(replace(facts, sharing="stopped", wireguard=fine))
    assert outcome.status == "skipped"


async def test_the_addresses_of_wireguard_devices_may_clash() -> None:
    (well,) = await addresses.CHECKS.run(None)
    assert well.status == "ok"
    (found,) = await addresses.CHECKS.run(("10.187.61.0/24", "10.187.0.0/16"))
    assert (found.id, found.status) == ("wireguard-addresses", "warn")
    assert "10.187.61.0/24" in found.found and "10.187.0.0/16" in found.found
    assert found.advice is not None and "revoke these devices and add them again" in found.advice


async def test_a_healthy_gateway(facts: GatewayFacts) -> None:
    for each in (facts, on(replace(facts, wake_lock="held"), **PHONE)):
        found = await gateway_side.CHECKS.run(each)
        assert [f.id for f in found if f.status in ("warn", "broken")] == []
        assert len(found) == len({f.id for f in found}) == len(gateway_side.CHECKS.all)


ABSENT = VpnNetwork(VpnState.ABSENT, reason="No VPN is up.")
EXCLUDED = VpnNetwork(VpnState.EXCLUDED, "tun0", "tun", reason="There is one for others.")
LAN = tuple(where for _, where in SWITCHES)


@pytest.mark.parametrize(
    ("id", "status", "change", "advice"),
    [
        ("vpn", "broken", {"vpn": ABSENT}, "Turn the VPN on"),
        ("vpn", "broken", {"vpn": EXCLUDED}, "gateway.vpn_interface NAME"),
        ("families", "warn", {"vpn": replace(VPN, ipv6=False)}, "Turn IPv6 on in the VPN"),
        ("families", "warn", {"vpn": replace(VPN, ipv4=False)}, "Turn IPv4 on in the VPN"),
        ("families", "broken", {"vpn": replace(VPN, ipv4=False, ipv6=False)}, "Reconnect the VPN"),
        ("bypass", "warn", {"bypass": True}, "vpnshare set gateway.bypass off"),
        ("guard", "warn", {"guard": "unicast-if", "streams": "address"}, "A kernel of 5.7"),
        ("guard", "warn", {"guard": "address", "streams": "address"}, "A kernel of 5.7"),
        (
            "egress", "broken", {"egress": EgressReport(alarms=("egress__sent_outside_vpn",))},
            "vpnshare share",
        ),
        ("sharing", "warn", {"sharing": "off"}, "vpnshare share"),
        ("listeners", "broken", {"listen": ()}, "vpnshare set gateway.listen"),
        ("listeners", "warn", {"listen": (("127.0.0.1", 1),)}, "vpnshare set gateway.listen"),
        ("listeners", "broken", {"listen": (("192.168.9.9", 1),)}, "vpnshare set gateway.listen"),
        ("reachable", "warn", {"knocks": (), "hear": deaf}, "port 47800 through the firewall"),
        ("reachable", "warn", {"knocks": (), "interfaces": ()}, "turn on the hotspot"),
        ("dns", "broken", {"resolvers": ()}, "vpnshare set dns.servers"),
        ("dns", "broken", {"ask": says("silence")}, "vpnshare set dns.servers"),
        ("dns", "broken", {"ask": says("SERVFAIL")}, "vpnshare set dns.servers"),
        ("mtu", "warn", {"vpn_mtu": 1200}, "Raise the VPN's MTU"),
        ("mtu", "broken", {"vpn_mtu": 500, "vpn": replace(VPN, ipv6=False)}, "Raise the VPN's MTU"),
        ("descriptors", "warn", {"descriptors": 256}, "LimitNOFILE="),
        ("client-versions", "warn", {"version_refused": 2}, "same version of VPN Share"),
        ("wake-lock", "warn", {"wake_lock": "free"}, "vpnshare set gateway.wake_lock on"),
        ("wake-lock", "warn", {"wake_lock": "termux-wake-lock is missing"}, "termux-tools"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_gateway(
    facts: GatewayFacts, id: str, status: str, change: dict[str, Any], advice: str
) -> None:
    finding = await gateway_side.CHECKS.run_one(id, replace(facts, **change))
    assert finding.status == status and finding.found
    assert finding.advice is not None and advice in finding.advice


@pytest.mark.parametrize(
    ("id", "change", "system", "advice"),
    [
        ("vpn", {"vpn": EXCLUDED}, {}, "let Termux use the VPN"),
        ("battery", {"slept": 60.0, "wake_lock": "held"}, {}, "Battery > Unrestricted"),
        ("phantom", {}, {"said": {}}, "settings_enable_monitor_phantom_procs false"),
        ("phantom", {}, {"said": {"getprop": "\n"}}, "Disable child process restrictions"),
        ("termux-api", {}, {"missing": ["termux-notification"]}, "pkg install termux-api"),
        ("reachable", {"knocks": (), "hear": deaf}, {}, "vpnshare join usb"),
    ],
)
async def test_what_is_wrong_with_a_phone(
    facts: GatewayFacts, id: str, change: dict[str, Any], system: dict[str, Any], advice: str
) -> None:
    finding = await gateway_side.CHECKS.run_one(id, on(replace(facts, **change), **PHONE | system))
    assert finding.status in ("warn", "broken")
    assert finding.advice is not None and advice in finding.advice


async def test_a_deaf_phone_is_told_apart(facts: GatewayFacts) -> None:
    """A VPN that takes all; one that is down; loopback (adb) still works: three advices."""
    silent = replace(facts, knocks=(), hear=deaf)
    by_cable = replace(silent, knocks=(Knocks("tcp", "127.0.0.1", 5, 99.0),))
    for each in (silent, by_cable):
        finding = await gateway_side.CHECKS.run_one("reachable", on(each, **PHONE))
        assert finding.advice is not None and all(where in finding.advice for where in LAN)
    down = await gateway_side.CHECKS.run_one("reachable", on(replace(silent, vpn=ABSENT), **PHONE))
    assert down.advice is not None and "firewall" in down.advice and LAN[0] not in down.advice
    good = await gateway_side.CHECKS.run_one("reachable", on(replace(facts, knocks=()), **PHONE))
    assert good.status == "ok" and "wlan0 can be heard" in good.found
    came = await gateway_side.CHECKS.run_one("reachable", facts)
    assert came.found == "Devices came in by tcp to 192.168.1.7 (wlan0), 40 s ago."


# Either side


@pytest.mark.parametrize(
    ("id", "status", "system", "advice"),
    [
        ("packages", "broken", {"python": (3, 9)}, "Use Python 3.11 to 3.14."),
        ("packages", "broken", {"python": (3, 15)}, "Use Python 3.11 to 3.14."),
        ("packages", "broken", {"missing": ["cryptography"]}, "-m pip install cryptography"),
        ("packages", "broken", {"missing": ["noise"]}, "pip install noiseprotocol"),
        ("extras", "warn", {"missing": ["qrcode"]}, "pip install qrcode"),
        ("extras", "warn", {"missing": ["zeroconf", "textual"]}, "pip install textual zeroconf"),
        ("clock", "broken", {"wall": 1e9}, "date and time to automatic"),
        ("version", "warn", {"installed": "9.0"}, "vpnshare restart --role "),
    ],
)
async def test_what_is_wrong_with_a_machine(
    subject: Machine, id: str, status: str, system: dict[str, Any], advice: str
) -> None:
    assert (await machine.CHECKS.run_one(id, subject)).status in ("ok", "skipped")
    finding = await machine.CHECKS.run_one(id, replace(subject, system=Pretended(**system)))
    assert finding.status == status
    assert finding.advice is not None and advice in finding.advice


async def test_a_broken_configuration(subject: Machine) -> None:
    subject.paths.config.write_text("[gateway]\nnmae = 1\n")
    finding = await machine.CHECKS.run_one("config", subject)
    assert finding.status == "broken" and "line 2" in finding.found
    assert finding.advice == f"Mend that line of {subject.paths.config}."


SECRETS = [each.name for each in SETTINGS if each.secret]


@pytest.mark.parametrize("role", ["gateway", "client"])
@pytest.mark.parametrize("name", SECRETS)
async def test_a_secret_in_a_configuration_that_others_may_read(
    subject: Machine, role: str, name: str
) -> None:
    """As an editor writes it; the command that the advice is mends it."""
    subject = replace(subject, role=role)
    path = subject.paths.config
    section, _, key = name.partition(".")
    path.write_text(f'[{section}]\n{key} = "correct-horse-battery"\n')
    for mode in (0o644, 0o640, 0o604):
        path.chmod(mode)
        finding = await machine.CHECKS.run_one("config", subject)
        assert (finding.status, finding.advice) == ("broken", f"chmod 600 {path}")
        assert name in finding.found and f"{mode:04o}" in finding.found
        assert "correct-horse-battery" not in finding.found
    roots = replace(subject, system=Pretended(owners={path.name: os.geteuid() + 1}))
    finding = await machine.CHECKS.run_one("config", roots)
    assert finding.advice is not None and f"chown {os.geteuid()} {path} " in finding.advice
    path.chmod(0o644)
    advice = (await machine.CHECKS.run_one("config", subject)).advice
    assert advice is not None
    mending = await asyncio.create_subprocess_exec(*shlex.split(advice))
    assert await mending.wait() == 0
    assert (await machine.CHECKS.run_one("config", subject)).status == "ok"


@pytest.mark.parametrize("text", ["", '[client]\nproxy_password = ""\nproxy = "127.0.0.1:1080"\n'])
async def test_a_configuration_without_a_secret_is_for_all_to_read(
    subject: Machine, text: str
) -> None:
    subject.paths.config.write_text(text)
    subject.paths.config.chmod(0o644)
    assert (await machine.CHECKS.run_one("config", subject)).status == "ok"


@pytest.mark.parametrize("role", ["gateway", "client"])
async def test_the_store(subject: Machine, role: str) -> None:
    subject = replace(subject, role=role)
    assert (await machine.CHECKS.run_one("store", subject)).status == "skipped"
    path = subject.paths.store(role)
    (GatewayDatabase if role == "gateway" else ClientDatabase)(path).close()
    assert (await machine.CHECKS.run_one("store", subject)).status == "ok"
    assert (await machine.CHECKS.run_one("clock", subject)).status == "ok"
    path.chmod(0o644)
    open_to_all = await machine.CHECKS.run_one("store", subject)
    assert open_to_all.advice == f"chmod 600 {path}"
    path.chmod(0o600)
    damage(path)
    damaged = await machine.CHECKS.run_one("store", subject)
    assert damaged.status == "broken" and damaged.advice is not None
    assert "pair the devices again" in damaged.advice


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:300] = b"\xff" * 200
    path.write_bytes(data)


async def test_a_clock_behind_what_was_seen(subject: Machine) -> None:
    path = subject.paths.store("gateway")
    GatewayDatabase(path).close()
    with sqlite3.connect(path) as db:
        row = (b"k", "TV", "linux", 0.0, time.time() + 10 * 86400, 0, "vshp")
        db.execute(
            "INSERT INTO peer (public_key, label, platform, first_seen, last_seen, revoked,"
            " kind) VALUES (?, ?, ?, ?, ?, ?, ?)",
            row,
        )
    finding = await machine.CHECKS.run_one("clock", subject)
    assert finding.status == "broken" and finding.advice == "Set the date and time to automatic."


ROOM = Room(1 << 30, 1000, read_only=False)


@pytest.mark.parametrize(
    ("id", "status", "system", "advice"),
    [
        ("room", "broken", {"room": {"state": replace(ROOM, free=0)}}, "Make room: df -h"),
        ("room", "broken", {"room": {"run": replace(ROOM, files=0)}}, "df -i"),
        ("room", "broken", {"room": {"state": replace(ROOM, read_only=True)}}, "remount,rw"),
        ("room", "warn", {"room": {"state": replace(ROOM, free=9 << 20)}}, "Make room: df -h"),
        ("rights", "broken", {"owners": {"state": 4321}}, "chown"),
        ("rights", "broken", {"owners": {"gateway.db": 4321}}, "chown"),
    ],
)
async def test_room_and_rights(
    tmp_path: Path, id: str, status: str, system: dict[str, Any], advice: str
) -> None:
    folders = [tmp_path / name for name in ("config", "state", "run")]
    there = paths.Paths(*folders)
    there.make()
    GatewayDatabase(there.store("gateway")).close()
    healthy = await machine.CHECKS.run_one(id, Machine("gateway", there, Pretended()))
    assert healthy.status == "ok"
    finding = await machine.CHECKS.run_one(id, Machine("gateway", there, Pretended(**system)))
    assert finding.status == status
    assert finding.advice is not None and advice in finding.advice


async def test_files_that_others_may_write(subject: Machine) -> None:
    path = subject.paths.store("gateway")
    GatewayDatabase(path).close()
    path.chmod(0o666)
    finding = await machine.CHECKS.run_one("rights", subject)
    assert (finding.status, finding.advice) == ("broken", f"chmod go-w {path}")
    unusable = replace(subject, system=Pretended(unusable=[str(path.parent)]))
    path.chmod(0o600)
    finding = await machine.CHECKS.run_one("rights", unusable)
    assert finding.status == "broken" and "may not read and write" in finding.found


async def test_what_waits_to_be_stored(subject: Machine) -> None:
    told = [Unwritten("In force, but not stored yet: the revocation of TV.", "Make room.")]
    finding = await machine.CHECKS.run_one("unwritten", replace(subject, told=lambda: told))
    assert (finding.status, finding.found, finding.advice) == (
        "broken", told[0].found, told[0].advice,
    )  # fmt: skip
    told.clear()
    finding = await machine.CHECKS.run_one("unwritten", replace(subject, told=lambda: told))
    assert finding.status == "ok"


# Nothing good is said of what was not looked at


async def test_a_locked_store_is_neither_sound_nor_damaged(subject: Machine) -> None:
    path = subject.paths.store("gateway")
    GatewayDatabase(path).close()
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        finding = await machine.CHECKS.run_one("store", subject)
        assert finding.status == "skipped" and "could not be looked at" in finding.found
    other.close()


async def test_an_empty_store_is_not_called_sound(subject: Machine) -> None:
    subject.paths.store("gateway").touch(0o600)
    assert (await machine.CHECKS.run_one("store", subject)).status == "skipped"


async def test_without_a_service_nothing_is_said_of_one(subject: Machine) -> None:
    for id in ("unwritten", "store"):
        assert (await machine.CHECKS.run_one(id, subject)).status == "skipped", id


async def test_what_is_installed_and_cannot_be_read(subject: Machine) -> None:
    blind = replace(subject, system=Pretended(installed=None))
    assert (await machine.CHECKS.run_one("version", blind)).status == "skipped"


@pytest.mark.parametrize(
    ("id", "system"),
    [
        ("routes", {"said": {}}),
        ("routes", {"said": {"ip": "[]"}}),
        ("resolver", {"files": {"resolv.conf": None}}),
        ("resolver", {"files": {"resolv.conf": "nameserver 127.0.0.53\n"}, "said": {}}),
    ],
)
async def test_a_client_that_cannot_be_looked_at(
    connected: ClientFacts, id: str, system: dict[str, Any]
) -> None:
    blind = replace(connected.machine, system=Pretended(**GOOD | system))
    finding = await client_side.CHECKS.run_one(id, replace(connected, machine=blind))
    assert finding.status == "skipped"


async def test_one_family_without_a_route_is_not_called_good(connected: ClientFacts) -> None:
    said = {"ip": '[{"dev": "vshp0"}]', "ip -j route get 2001:db8::1": "[]"}
    system = Pretended(**GOOD | {"said": said})
    facts = replace(connected, machine=replace(connected.machine, system=system))
    finding = await client_side.CHECKS.run_one("routes", facts)
    assert finding.found == (
        "IPv4 goes into vshp0; the other shows no route; 1 go beside it: lan0 10.1.0.0/24."
    )


async def test_a_journal_of_changes_is_read_and_not_judged(
    subject: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """Entries mean something to the client only; the doctor sees that there are some."""
    journal = subject.paths.state_dir / whole.JOURNAL_NAME
    client = replace(subject, role="client")

    async def leftovers() -> Finding:
        found = await whole.of_client(None, client, Config({}))
        return next(each for each in found if each.id == "leftovers")

    assert (await leftovers()).status == "ok"
    journal.write_text('{"kind": "rule", "preference": 51830}\n')
    assert (await leftovers()).status == "warn"
    journal.unlink()
    journal.mkdir()
    assert (await leftovers()).status == "skipped"
    assert caplog.text == ""


async def test_without_a_vpn_the_interfaces_that_could_be_named_are(facts: GatewayFacts) -> None:
    none = VpnNetwork(VpnState.ABSENT, reason="No VPN is up.", unnamed=True)
    finding = await gateway_side.CHECKS.run_one("vpn", replace(facts, vpn=none))
    assert finding.found == "No VPN is up. There are: tun0, wlan0."


async def test_without_a_vpn_bypass_is_no_vpn(facts: GatewayFacts) -> None:
    none = VpnNetwork(VpnState.ABSENT, reason="There is no VPN.")
    finding = await gateway_side.CHECKS.run_one("vpn", replace(facts, vpn=none, bypass=True))
    assert finding.status == "skipped"


@pytest.mark.parametrize("id", ["client-versions", "wake-lock", "listeners", "reachable"])
async def test_a_gateway_that_does_not_run(facts: GatewayFacts, id: str) -> None:
    """Nothing good is said of it: neither that it listens nor that it can be reached."""
    finding = await gateway_side.CHECKS.run_one(id, replace(facts, sharing="stopped", knocks=()))
    assert finding.status == "skipped" and "does not run" in finding.found


# The client

LEASE = LeaseSnapshot(
    "10.47.0.2", "fd00::2", "10.47.0.1", "fd00::1", ("10.47.0.1", "fd00::1"), 1500, True, 900.0
)
CONNECTED = ClientSnapshot(
    ClientState.CONNECTED, "laptop", "aa:bb", gateway="phone", endpoint="192.168.1.7:47800",
    transport="tcp", interface="vshp0", lease=LEASE, sharing="on", rtt_ms=2.0,
    guard=GuardSnapshot(
        GuardState.ARMED, 1.0, Guards(("ip -4 rule",), True, ("lan0 10.1.0.0/24",))
    ),
)  # fmt: skip
GOOD = {
    "files": {"resolv.conf": "nameserver 10.47.0.1\n"},
    "said": {"ip": '[{"dev": "vshp0"}]', "nft": "table inet vpnshare_51830\n"},
}


@pytest.fixture
def connected(subject: Machine) -> ClientFacts:
    """A client with nothing wrong."""
    return ClientFacts(replace(subject, role="client", system=Pretended(**GOOD)), CONNECTED)


async def test_a_healthy_client(connected: ClientFacts) -> None:
    for facts in (connected, replace(connected, kill_switch=True)):
        found = await client_side.CHECKS.run(facts)
        assert [f for f in found if f.status not in ("ok", "skipped")] == []
        [said] = [f.found for f in found if f.id == "routes"]
        assert "1 go beside it: lan0 10.1.0.0/24" in said


MACHINES_OWN = ("privileges", "tools", "routes", "promise", "resolver", "kill-switch", "leftovers")
"""Checks that are about the whole machine's network."""


@pytest.mark.parametrize("outlet", ["proxy", "namespace"])
@pytest.mark.parametrize("running", [True, False])
async def test_what_is_about_the_machines_network_does_not_apply_elsewhere(
    connected: ClientFacts, outlet: str, running: bool
) -> None:
    now = replace(CONNECTED, interface=None, guard=GuardSnapshot()) if running else None
    facts = replace(connected, now=now, outlet=OutletKind(outlet))
    found = {f.id: f for f in await client_side.CHECKS.run(facts)}
    for id in (*MACHINES_OWN, *["tun"] * (outlet == "proxy")):
        assert found[id].status == "skipped", found[id]
        assert found[id].found.startswith("Does not apply. "), found[id]
    assert [f for f in found.values() if f.status not in ("ok", "skipped")] == []


async def test_what_an_earlier_client_has_left_is_told_beside_a_proxy(
    connected: ClientFacts,
) -> None:
    facts = replace(connected, outlet=OutletKind.PROXY, now=replace(CONNECTED, interface=None))
    held = await client_side.CHECKS.run_one("kill-switch", facts)
    assert held.status == "ok" and "Armed" in held.found
    lost = Pretended(**{**GOOD, "files": {"resolv.conf": LOST}})
    facts = replace(facts, machine=replace(facts.machine, system=lost), undone=False)
    assert (await client_side.CHECKS.run_one("resolver", facts)).status == "broken"
    assert (await client_side.CHECKS.run_one("leftovers", facts)).status == "warn"


async def test_on_a_phone_a_command_has_no_network_of_its_own(connected: ClientFacts) -> None:
    phone = Pretended(**GOOD, termux=True, own_network=ClientError("namespace_refused", "No."))
    facts = replace(connected, machine=replace(connected.machine, system=phone))
    assert (await client_side.CHECKS.run_one("own-network", facts)).status == "skipped"


def phone(state: PhoneState, detail: str = "") -> dict[str, Any]:
    """That one on the cable, and one that is further from use."""
    further = Phone("OTHER", PhoneState.DEBUGGING_OFF, "Old")
    return {"phones": (further, Phone("R58M123", state, "Pixel 8", detail))}


async def test_a_phone_that_can_be_used_is_well(connected: ClientFacts) -> None:
    facts = replace(connected, **phone(PhoneState.READY))
    finding = await client_side.CHECKS.run_one("cable", facts)
    assert finding.status == "ok" and "Pixel 8" in finding.found


def state(state: ClientState, **what: Any) -> dict[str, Any]:
    return {"now": replace(CONNECTED, state=state, interface=None, lease=None, **what)}


@pytest.mark.parametrize(
    ("id", "status", "change", "system", "advice"),
    [
        ("tun", "broken", {"now": None}, {"termux": True}, "vpnshare up"),
        ("tun", "broken", {"now": None}, {"absent": ["/dev/net/tun"]}, "modprobe tun"),
        ("tun", "broken", {"now": None}, {"unusable": ["/dev/net/tun"]}, "vpnshare join"),
        ("privileges", "broken", {}, {"net_admin": False}, "vpnshare join"),
        (
            "own-network", "warn", {},
            {"own_network": ClientError("namespace_refused", "No.", "sudo sysctl it")},
            "sudo sysctl it",
        ),
        ("tools", "broken", {}, {"missing": ["ip"]}, "apt install iproute2"),
        ("tools", "warn", {}, {"missing": ["nft"]}, "apt install nftables"),
        ("tools", "broken", {"kill_switch": True}, {"missing": ["nft"]}, "apt install nftables"),
        ("link", "broken", state(ClientState.FAILED, error="revoked"), {}, "Pair again"),
        ("link", "broken", state(ClientState.FAILED, error="secret_expired"), {}, "a new code"),
        (
            "link", "broken", state(ClientState.FAILED, error="version_unsupported"), {},
            "same version of VPN Share",
        ),
        ("link", "warn", state(ClientState.RECONNECTING, error="unreachable"), {}, "same network"),
        ("link", "warn", state(ClientState.WAITING), {}, "vpnshare approve"),
        ("link", "warn", state(ClientState.RECONNECTING, error="lease_clashes"), {}, "pool_ipv4"),
        ("link", "broken", state(ClientState.FAILED, error="lease_forbidden"), {}, "Do not use"),
        ("gateway-sharing", "warn", {"now": replace(CONNECTED, sharing="off")}, {}, "share"),
        (
            "gateway-sharing", "warn", {"now": replace(CONNECTED, sharing="unavailable")}, {},
            "Turn the VPN on there.",
        ),
        ("routes", "broken", {}, {"said": {"ip": '[{"dev": "eth0"}]'}}, "another VPN"),
        (
            "routes", "broken", {},
            {"said": {"ip": "[]", "ip -j route get 2001:db8::1": '[{"dev": "eth0"}]'}},
            "another VPN",
        ),
        ("routes", "warn", state(ClientState.FAILED, error="revoked"), {}, "vpnshare disconnect"),
        (
            "promise", "warn", {"now": replace(CONNECTED, guard=GuardSnapshot(
                GuardState.ARMED, guards=Guards(("r",), beside=("lan0 x", "ip -4 rule 100"))))},
            {}, "client.kill_switch true",
        ),
        (
            "promise", "warn", {"now": replace(CONNECTED, guard=GuardSnapshot(
                GuardState.OFF, open_on_failure=True))}, {}, "client.open_on_failure false",
        ),
        (
            "resolver", "broken", {}, {"files": {"resolv.conf": "nameserver 8.8.8.8\n"}},
            "network manager rewrites",
        ),
        (
            "resolver", "broken", {},
            {"files": {"resolv.conf": "nameserver 127.0.0.53\n"},
             "said": {"resolvectl": "Link 7 (vshp0): 8.8.8.8\n"}},
            "network manager rewrites",
        ),
        (
            "resolver", "broken", {},
            {"files": {"resolv.conf": f"{MARKER} 77\nnameserver 10.9.9.1\n"}},
            "Disconnect the other",
        ),
        (
            "resolver", "broken", state(ClientState.IDLE),
            {"files": {"resolv.conf": f"{MARKER} 77\nnameserver 10.47.0.1\n"}},
            "puts back what was there",
        ),
        (
            "resolver", "broken", {"now": None},
            {"files": {"resolv.conf": f"{MARKER} 77\nnameserver 10.47.0.1\n"}},
            "puts back what was there",
        ),
        (
            "resolver", "broken", {"now": None}, {"files": {"resolv.conf": LOST}},
            "nameserver ADDRESS",
        ),
        ("kill-switch", "broken", {"kill_switch": True}, {"said": {"nft": "\n"}}, "Connect again"),
        (
            "link", "warn", state(ClientState.RECONNECTING, error="usb_absent"), {},
            "vpnshare connect usb",
        ),
        ("cable", "warn", {"phones": None}, {}, "apt install libusb-1.0-0"),
        ("cable", "warn", phone(PhoneState.NOT_ALLOWED), {}, "press Allow"),
        ("cable", "warn", phone(PhoneState.HELD, "adb (pid 7)"), {}, "adb (pid 7)"),
        ("cable", "warn", phone(PhoneState.NO_RIGHT), {}, "70-vpnshare.rules"),
        ("cable", "warn", phone(PhoneState.DEBUGGING_OFF), {}, "tap Build number seven times"),
        ("cable", "warn", phone(PhoneState.OFFLINE), {}, "plug it in again"),
        (
            "client-mtu", "warn", {"now": replace(CONNECTED, lease=replace(LEASE, mtu=1000))}, {},
            "vpnshare set gateway.mtu",
        ),
        (
            "leftovers", "warn", {"now": None},
            {"said": {"ip": '[{"priority": 5, "protocol": "178"}]'}}, "vpnshare disconnect",
        ),
        (
            "leftovers", "broken",
            state(ClientState.IDLE, guard=GuardSnapshot(GuardState.HOLDING, guards=Guards(
                ("ip -4 rule pref 9",)))), {}, "vpnshare logs",
        ),
        (
            "leftovers", "warn",
            state(ClientState.IDLE, guard=GuardSnapshot()) | {"undone": False}, {},
            "it undoes what it finds",
        ),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_client(
    connected: ClientFacts, id: str, status: str, change: dict[str, Any], system: dict[str, Any],
    advice: str,
) -> None:  # fmt: skip
    pretended = Pretended(**GOOD | system)
    subject = replace(connected.machine, system=pretended)
    facts = replace(connected, machine=subject, **change)
    finding = await client_side.CHECKS.run_one(id, facts)
    assert finding.status == status
    assert finding.advice is not None and advice in finding.advice


@pytest.mark.parametrize(
    ("guard", "wanted", "status", "words"),
    [
        (GuardSnapshot(GuardState.ARMED, 1.0, Guards(("r",))), False, "ok", "Armed, by routes."),
        (GuardSnapshot(GuardState.HOLDING, 1.0, Guards(("r",))), False, "ok", "Holding, by routes"),
        (GuardSnapshot(GuardState.ARMED, 1.0, Guards(("r",), True)), True, "ok",
         "Armed, by routes and firewall."),
        (GuardSnapshot(), True, "skipped", "Off: nothing is in force."),
    ],
)  # fmt: skip
async def test_the_kill_switch_is_what_status_calls_so(
    connected: ClientFacts, guard: GuardSnapshot, wanted: bool, status: str, words: str
) -> None:
    facts = replace(connected, now=replace(CONNECTED, guard=guard), kill_switch=wanted)
    finding = await client_side.CHECKS.run_one("kill-switch", facts)
    assert finding.status == status and words in finding.found


async def test_the_ip_of_busybox_is_named(connected: ClientFacts, tmp_path: Path) -> None:
    (tmp_path / "busybox").touch()
    (tmp_path / "ip").symlink_to("busybox")
    system = Pretended(**GOOD, places={"ip": str(tmp_path / "ip")})
    facts = replace(connected, machine=replace(connected.machine, system=system))
    finding = await client_side.CHECKS.run_one("tools", facts)
    assert finding.status == "broken" and "apk add iproute2" in (finding.advice or "")


async def test_the_resolver_of_systemd_is_asked_for_its_own(connected: ClientFacts) -> None:
    system = Pretended(
        files={"resolv.conf": "nameserver 127.0.0.53\n"},
        said={"resolvectl dns vshp0": "Link 7 (vshp0): 10.47.0.1 fd00::1\n"},
    )
    facts = replace(connected, machine=replace(connected.machine, system=system))
    assert (await client_side.CHECKS.run_one("resolver", facts)).status == "ok"


def test_every_check_has_been_made_to_fail() -> None:
    text = Path(__file__).read_text()
    for each in (gateway_side.CHECKS.all, client_side.CHECKS.all, machine.CHECKS.all):
        for id in each:
            assert text.count(f'"{id}"') >= 1, id


# How checks are run


async def test_a_check_that_fails_or_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "TIMEOUT", 0.05)
    some: Checks[None] = Checks("both")

    @some.check("fails", "Fails")
    def fails(_: None) -> Outcome:
        raise RuntimeError("boom")

    @some.check("hangs", "Hangs")
    async def hangs(_: None) -> Outcome:
        await asyncio.sleep(600)
        return ok("at last")

    @some.check("good", "Good")
    def good(_: None) -> Outcome:
        return ok("fine")

    found = await some.run(None)
    assert [(f.id, f.status) for f in found] == [
        ("fails", "skipped"), ("hangs", "skipped"), ("good", "ok"),
    ]  # fmt: skip
    assert "boom" in found[0].found and "no answer" in found[1].found


async def test_who_asks_meanwhile_gets_the_same_findings() -> None:
    gate, runs = asyncio.Event(), 0

    async def examine() -> list[Finding]:
        nonlocal runs
        runs += 1
        await gate.wait()
        return []

    doctor = Doctor(examine)
    first, second = asyncio.ensure_future(doctor.run()), asyncio.ensure_future(doctor.run())
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await second == [] and runs == 1
    assert await doctor.run() == [] and runs == 2


@pytest.mark.parametrize(("code", "name"), [(0, "NOERROR"), (3, "NXDOMAIN"), (11, "RCODE 11")])
async def test_the_question(code: int, name: str) -> None:
    asked: list[bytes] = []

    def resolve(wire: bytes, reply: Callable[[bytes], None]) -> None:
        asked.append(wire)
        reply(wire[:2] + bytes((0x81, 0x80 | code)) + wire[4:])

    assert await whole.ask(resolve) == name
    await whole.ask(resolve)
    assert asked[0][12:] != asked[1][12:], "no cache may answer"


async def test_no_answer_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "ANSWER_SECONDS", 0.02)
    assert await whole.ask(lambda wire, reply: None) == "silence"


# The command


def test_the_command_shows_what_services_found(
    gateway: PretendGateway, client: PretendClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.findings = [Finding("tun", "Virtual NIC", "client", "ok", "vshp0 is there.")]
    assert main(["doctor"]) == Exit.FAILED, "the pretend resolvers do not answer"
    told = capsys.readouterr().out
    assert "✗ broken  DNS: The resolvers" in told and "dns.servers 9.9.9.9" in told
    assert "vshp0 is there." in told
    gateway.findings = gateway.findings[:1]
    assert main(["doctor", "--json"]) == Exit.OK
    assert [f["id"] for f in json.loads(capsys.readouterr().out)] == ["vpn", "tun"]
    assert main(["doctor", "--role", "client", "--json"]) == Exit.OK
    assert [f["id"] for f in json.loads(capsys.readouterr().out)] == ["tun"]


def test_the_command_without_services(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object) -> bool | None:
        return None

    monkeypatch.setattr(whole, "_hear", silent)
    (home / "config.toml").write_text("[gatway]\n")
    assert main(["doctor", "--json"]) == Exit.FAILED
    found = {(f["side"], f["id"]): f for f in json.loads(capsys.readouterr().out)}
    assert found["gateway", "gateway-service"]["advice"] == "vpnshare up"
    assert found["both", "config"]["status"] == "broken"
    assert ("client", "privileges") in found and ("gateway", "guard") in found
    assert not list(home.glob("*.db*")), "looking makes nothing"


def test_the_worst_is_told_first_and_what_was_not_looked_at_in_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object) -> bool | None:
        return None

    monkeypatch.setattr(whole, "_hear", silent)
    (home / "config.toml").write_text("[gatway]\n")
    assert main(["doctor"]) == Exit.FAILED
    told = capsys.readouterr().out.splitlines()
    findings = [line for line in told if not line.startswith(" ")]
    marks = ["✗", "▲", "●", "○"]
    ranks = [marks.index(line[0]) for line in findings]
    assert ranks == sorted(ranks) and ranks[0] == 0
    passed = [line for line in findings if line[0] == "○"]
    assert [line.split("skipped ")[1].partition(":")[0] for line in passed] == [
        "Gateway service", "Client service", "Not looked at",
    ]  # fmt: skip
    assert "Sharing" in passed[-1] and "Listening" in passed[-1]
    assert not [line for line in findings if line[0] == "●" and "Listening" in line]


@pytest.mark.parametrize(("role", "other"), [("gateway", "client"), ("client", "gateway")])
def test_a_side_that_never_ran_here_is_not_examined_unasked(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    other: str,
) -> None:
    async def silent(*_: object) -> bool | None:
        return None

    monkeypatch.setattr(whole, "_hear", silent)
    (GatewayDatabase if role == "gateway" else ClientDatabase)(paths.find().store(role)).close()
    main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {f["id"] for f in found if f["side"] == other} == {f"{other}-service"}
    assert {f["id"] for f in found if f["side"] == role} > {f"{role}-service"}
    [absent] = [f for f in found if f["id"] == f"{other}-service"]
    assert absent["advice"] == f"vpnshare doctor --role {other}"
    main(["doctor", "--role", other, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert len([f for f in found if f["side"] == other]) > 1


async def test_what_became_of_the_hook(tmp_path: Path) -> None:
    hook = Hook("gateway")
    there = paths.find({"VPNSHARE_HOME": str(tmp_path)})
    subject = Machine("gateway", there, Pretended(), hook=hook)

    async def found() -> Finding:
        return await machine.CHECKS.run_one("hook", subject)

    assert (await found()).status == "skipped"
    program = tmp_path / "hook"
    hook.path = str(program)
    assert (await found()).status == "broken"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    hook.state.done = 3
    assert "3 events told" in (await found()).found and (await found()).status == "ok"
    hook.state.failed, hook.state.last = 1, f"{program} ended with 3."
    finding = await found()
    assert finding.status == "warn" and "ended with 3." in finding.found
    assert finding.advice is not None and "set gateway.hook --default" in finding.advice

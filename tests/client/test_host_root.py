"""Routes, rules, resolver and kill switch on a real kernel, in namespaces of our own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.world import NEEDS_ROOT, RESOLV_CONF, World

pytestmark = [pytest.mark.netns, NEEDS_ROOT]

PROGRAM = "tests/client/host_program.py"
INTERNET = ("198.51.100.1", "2001:db8:51::1")
UNREACHABLE = ("Network is unreachable", "No route to host")
LINK_LOCAL = "f"
"""How the client's IPv6 address at the link begins, whichever it takes for a group."""
SEND = """
import socket, sys
host, mark = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
if mark:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
if len(sys.argv) > 3:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[3].encode())
try:
    s.connect((host, 9))
    s.send(b"x")
    print("sent")
except OSError as error:
    print(error.strerror)
"""


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.build()
    yield world
    world.destroy()


class Session:
    """A running `host_program`."""

    def __init__(self, world: World, state: Path, *settings: str) -> None:
        self.process = world.python("-m", PROGRAM[:-3].replace("/", "."), str(state), *settings)
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        assert words[:1] == ["ready"], words
        self.mark, self.nic = int(words[1]), words[2]

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"
        if line == "undo":
            assert self.process.wait(10) == 0

    def guards(self, what: str = "guards") -> list[str]:
        """What the host says keeps traffic in (or goes `beside`)."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return list(iter(lambda: self.process.stdout.readline().strip(), "ok"))  # type: ignore[union-attr]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


def run(world: World, state: Path, what: str) -> None:
    """Another process on the same state folder, that does one thing and ends."""
    process = world.python("-m", PROGRAM[:-3].replace("/", "."), str(state), f"only={what}")
    assert process.wait(20) == 0


def said(world: World, address: str, mark: int = 0, *device: str) -> str:
    """What the kernel says to a datagram to `address`."""
    return world.run("python3", "-c", SEND, address, str(mark), *device).strip()


def test_all_goes_in_but_the_link_and_the_local_network(world: World, tmp_path: Path) -> None:
    before = world.picture()
    session = Session(world, tmp_path)
    for address in INTERNET:
        assert world.route(address) == session.nic
        assert world.route(address, session.mark) == "c0"
    assert world.route("10.201.0.1") == "c0"
    assert world.route("fd20:201::1") == "c0"
    assert world.route("10.77.0.1") == session.nic
    assert world.route("fd77::1") == session.nic
    assert "10.77.0.1" in world.resolv_conf.read_text()
    assert RESOLV_CONF.split()[1] not in world.resolv_conf.read_text()
    assert "mtu 1400" in world.run("ip", "link", "show", session.nic)
    session.tell("undo")
    assert world.picture() == before
    assert list(tmp_path.iterdir()) == []


def test_a_split_default_of_another_program_does_not_win(world: World, tmp_path: Path) -> None:
    world.run("ip", "route", "add", "128.0.0.0/1", "via", "10.201.0.1")
    world.run("ip", "-6", "route", "add", "2000::/3", "via", "fd20:201::1")
    session = Session(world, tmp_path)
    for address in INTERNET:
        assert world.route(address) == session.nic
    session.tell("undo")


def test_killed_it_fails_closed_and_the_next_start_takes_over(world: World, tmp_path: Path) -> None:
    before = world.picture()
    session = Session(world, tmp_path)
    session.kill()
    for address in INTERNET:
        assert said(world, address) in UNREACHABLE
        assert said(world, address, session.mark) == "sent"
    closed = world.picture()
    run(world, tmp_path, "take over")
    assert world.picture() == closed
    run(world, tmp_path, "undo")
    assert world.picture() == before
    assert list(tmp_path.iterdir()) == []
    run(world, tmp_path, "undo")
    assert world.picture() == before


def test_a_new_start_takes_the_place_of_a_killed_one(world: World, tmp_path: Path) -> None:
    before = world.picture()
    Session(world, tmp_path).kill()
    session = Session(world, tmp_path)
    assert world.route(INTERNET[0]) == session.nic
    session.tell("undo")
    assert world.picture() == before


def test_two_clients_take_two_tables_and_leave_in_any_order(world: World, tmp_path: Path) -> None:
    before = world.picture()
    first = Session(world, tmp_path / "a")
    second = Session(world, tmp_path / "b", "lease=78")
    assert first.mark != second.mark
    assert world.route(INTERNET[0]) == second.nic
    second.tell("undo")
    assert world.route(INTERNET[0]) == first.nic
    first.tell("undo")
    assert world.picture() == before


def test_a_long_break_blocks_until_the_link_is_back(world: World, tmp_path: Path) -> None:
    before = world.picture()
    session = Session(world, tmp_path)
    session.tell("block")
    for address in INTERNET:
        assert said(world, address) in UNREACHABLE
    session.tell("block")
    session.tell("tunnel")
    for address in INTERNET:
        assert world.route(address) == session.nic
    session.tell("nothing")
    for address in INTERNET:
        assert said(world, address) == "sent"
    assert world.resolv_conf.read_text() == before["resolver"]
    session.tell("undo")
    assert world.picture() == before


@pytest.mark.parametrize(("local", "where"), [("", "c0"), ("none", "")])
def test_hosts_on_the_link_find_each_other_unless_the_user_closes_it(
    world: World, tmp_path: Path, local: str, where: str
) -> None:
    """mDNS, SSDP and broadcast by programs that name no interface."""
    session = Session(world, tmp_path, "kill_switch=on", *([f"local={local}"] if local else []))
    for group in ("224.0.0.251", "239.255.255.250", "255.255.255.255", "ff02::fb", "ff05::c"):
        seen = world.python("-c", HEAR, group, where=world.router)
        assert seen.stdout is not None and seen.stdout.readline() == "listening\n"
        world.run("python3", "-c", SHOUT, group)
        heard = {"": "", "c0": "10.201.0.2" if "." in group else LINK_LOCAL}[where]
        assert seen.stdout.readline().strip().startswith(heard or "nothing")
        assert seen.wait(10) == 0
    session.tell("undo")


def test_another_lease_moves_addresses_and_resolver(world: World, tmp_path: Path) -> None:
    before = world.picture()
    session = Session(world, tmp_path)
    session.tell("change")
    addresses = world.run("ip", "-br", "addr", "show", session.nic)
    assert "10.78.0.2/32" in addresses and "fd78::2/128" in addresses
    assert "77" not in addresses
    assert world.route("10.77.0.1") == session.nic, "by the default route now"
    assert world.route("10.78.0.1") == session.nic
    for address in INTERNET:
        assert world.route(address) == session.nic
    assert "nameserver 10.78.0.1" in world.resolv_conf.read_text()
    session.tell("undo")
    assert world.picture() == before


def test_what_is_said_to_hold_is_what_the_kernel_has(world: World, tmp_path: Path) -> None:
    strict = not subprocess.run(["which", "nft"], capture_output=True, check=False).returncode
    session = Session(world, tmp_path, f"kill_switch={'on' if strict else 'off'}")
    found = session.guards()
    assert len(found) == 4 + strict
    for line in found:
        tool, family, kind, *words = line.split()
        if tool == "nft":
            assert words == [f"vpnshare_{session.mark}"]
            assert words[0] in world.run("nft", "list", "tables")
        elif kind == "route":
            assert "unreachable default" in world.run("ip", "route", "show", "table", words[-1])
        else:
            # pref P not fwmark T (lookup T | unreachable)
            shown = world.run("ip", family, "rule", "show", "pref", words[1])
            assert kind == "rule" and "not" in shown and words[-1] in shown, shown
    session.tell("undo")


def test_a_removed_nic_leaks_nothing_until_the_next_one(world: World, tmp_path: Path) -> None:
    before = world.picture()
    session = Session(world, tmp_path)
    world.run("ip", "link", "del", session.nic)
    for address in INTERNET:
        assert said(world, address) in UNREACHABLE
    session.tell("renew")
    for address in INTERNET:
        assert world.route(address) == session.nic
    assert "nameserver 10.77.0.1" in world.resolv_conf.read_text()
    session.tell("undo")
    assert world.picture() == before


def test_news_of_the_network_is_told_once_a_burst(world: World) -> None:
    program = world.python("-c", WATCH)
    assert program.stdout is not None
    assert program.stdout.readline() == "watching True False\n"
    for number in range(5):
        world.run("ip", "addr", "add", f"10.201.0.{20 + number}/24", "dev", "c0")
    assert program.stdout.readline() == "changed\n"
    assert program.wait(20) == 0


def test_a_gateway_beyond_a_router_passes_strict_reverse_path_filtering(
    world: World, tmp_path: Path
) -> None:
    world.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    before = world.picture()
    session = Session(world, tmp_path, "endpoint=tcp:203.0.113.9:47800")
    listener = world.python("-c", LISTEN, where=world.router)
    assert listener.stdout is not None and listener.stdout.readline() == "listening\n"
    answer = world.run("python3", "-c", DIAL, "203.0.113.9", str(session.mark))
    assert answer.strip() == "connected"
    listener.kill()
    listener.wait(10)
    session.tell("undo")
    assert world.picture() == before


def test_the_kill_switch_holds_sockets_bound_to_another_interface(
    world: World, tmp_path: Path
) -> None:
    if subprocess.run(["which", "nft"], capture_output=True, check=False).returncode:
        pytest.skip("needs nftables")
    before = world.picture()
    session = Session(world, tmp_path, "kill_switch=on")
    for address in INTERNET:
        assert said(world, address, 0, "c0") in ("Operation not permitted", *UNREACHABLE)
        assert said(world, address, session.mark) == "sent"
        assert said(world, address) == "sent"
    assert said(world, "10.201.0.1") == "sent"
    session.kill()
    for address in INTERNET:
        assert said(world, address, 0, "c0") in ("Operation not permitted", *UNREACHABLE)
    run(world, tmp_path, "undo")
    assert world.picture() == before


HEAR = """
import socket, struct, sys
group = sys.argv[1]
family = socket.AF_INET6 if ":" in group else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(1)
s.bind(("::" if ":" in group else "", 5353))
index = socket.if_nametoindex("r0")
packed = socket.inet_pton(family, group)
if family == socket.AF_INET6:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + struct.pack("@I", index))
elif not group.startswith("255."):
    mreqn = packed + struct.pack("=4sI", bytes(4), index)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreqn)
print("listening", flush=True)
try:
    print(s.recvfrom(99)[1][0])
except TimeoutError:
    print("nothing")
"""
SHOUT = """
import socket, sys
group = sys.argv[1]
s = socket.socket(socket.AF_INET6 if ":" in group else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
try:
    s.sendto(b"anybody?", (group, 5353))
except OSError:
    pass
"""
WATCH = """
import asyncio
from client.system.watch import NetworkWatch, is_local
async def main():
    changed = asyncio.Event()
    watch = NetworkWatch(changed.set)
    watch.start()
    print("watching", is_local("10.201.0.2"), is_local("10.201.0.20"), flush=True)
    await asyncio.wait_for(changed.wait(), 10)
    print("changed", flush=True)
    watch.stop()
    watch.stop()
asyncio.run(main())
"""
LISTEN = """
import socket
s = socket.create_server(("203.0.113.9", 47800))
print("listening", flush=True)
c, _ = s.accept()
c.recv(1)
"""
DIAL = """
import socket, sys
s = socket.socket()
s.settimeout(5)
s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(sys.argv[2]))
try:
    s.connect((sys.argv[1], 47800))
    print("connected")
except OSError as error:
    print(error)
"""

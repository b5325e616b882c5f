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

    def guards(self) -> list[str]:
        """What the host says keeps traffic in."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("guards\n")
        self.process.stdin.flush()
        return list(iter(lambda: self.process.stdout.readline().strip(), "ok"))  # type: ignore[union-attr]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


def recover(world: World, state: Path) -> None:
    process = world.python("-m", PROGRAM[:-3].replace("/", "."), str(state), "only=recover")
    assert process.wait(20) == 0


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


def test_killed_it_fails_closed_and_the_next_start_undoes_it(world: World, tmp_path: Path) -> None:
    before = world.picture()
    session = Session(world, tmp_path)
    session.kill()
    for address in INTERNET:
        assert world.run("python3", "-c", SEND, address, "0").strip() == "No route to host"
        assert world.run("python3", "-c", SEND, address, str(session.mark)).strip() == "sent"
    recover(world, tmp_path)
    assert world.picture() == before
    assert list(tmp_path.iterdir()) == []
    recover(world, tmp_path)
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


@pytest.mark.parametrize(("block", "then"), [("on", "No route to host"), ("off", "sent")])
def test_a_long_break_blocks_or_by_choice_does_not(
    world: World, tmp_path: Path, block: str, then: str
) -> None:
    session = Session(world, tmp_path, f"block={block}")
    session.tell("hold")
    for address in INTERNET:
        assert world.run("python3", "-c", SEND, address, "0").strip() == then
    session.tell("hold")
    session.tell("release")
    for address in INTERNET:
        assert world.route(address) == session.nic
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
        elif kind == "rule":
            # pref P not fwmark T table T
            shown = world.run("ip", family, "rule", "show", "pref", words[1])
            assert "not" in shown and f"lookup {words[-1]}" in shown, shown
        else:
            assert "unreachable default" in world.run(
                "ip", family, "route", "show", "table", words[-1]
            )
    session.tell("undo")


def test_a_removed_nic_leaks_nothing_until_the_next_one(world: World, tmp_path: Path) -> None:
    before = world.picture()
    session = Session(world, tmp_path)
    world.run("ip", "link", "del", session.nic)
    for address in INTERNET:
        assert world.run("python3", "-c", SEND, address, "0").strip() == "No route to host"
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
    session = Session(world, tmp_path, "gateway=203.0.113.9")
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
        bound = world.run("python3", "-c", SEND, address, "0", "c0").strip()
        assert bound == "Operation not permitted"
        assert world.run("python3", "-c", SEND, address, str(session.mark)).strip() == "sent"
        assert world.run("python3", "-c", SEND, address, "0").strip() == "sent"
    assert world.run("python3", "-c", SEND, "10.201.0.1", "0").strip() == "sent"
    session.kill()
    recover(world, tmp_path)
    assert world.picture() == before


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

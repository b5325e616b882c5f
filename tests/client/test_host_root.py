"""Routes, rules, resolver and kill switch on a real kernel, in namespaces of our own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from tests.client.world import NEEDS_ROOT, RESOLV_CONF, World
from tests.netns.processes import wait_for

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
        lines = self.process.stdout
        return list(iter(lambda: lines.readline().strip(), "ok"))

    def ask(self, line: str) -> list[str]:
        """The words of the line that answers before the `ok`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        words = self.process.stdout.readline().split()
        assert self.process.stdout.readline() == "ok\n"
        return words

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


@pytest.mark.parametrize("order", [(1, 0), (0, 1)], ids=["last first", "first first"])
def test_two_clients_take_two_tables_and_leave_in_any_order(
    world: World, tmp_path: Path, order: tuple[int, int]
) -> None:
    """Each with a folder of its own: the one that came later has the traffic."""
    before = world.picture()
    sessions = []
    for number in (77, 78):
        (tmp_path / str(number)).mkdir()
        sessions.append(Session(world, tmp_path / str(number), f"lease={number}"))
    assert len({session.mark for session in sessions}) == 2
    for address in INTERNET:
        assert world.route(address) == sessions[1].nic
    gone, left = (sessions[each] for each in order)
    gone.tell("undo")
    for address in INTERNET:
        assert world.route(address) == left.nic
    left.tell("undo")
    assert world.picture() == before


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
    # The fence around a NIC goes with it; what closes the network is as it was.
    assert "chain enter" in closed.pop("nft")
    after = world.picture()
    assert "chain enter" not in after.pop("nft")
    assert after == closed
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


ENDS = {4: ("10.201.0.2", "198.51.100.1"), 6: ("fd20:201::2", "2001:db8:51::1")}
"""The client at its link, and somebody beyond its router."""


class Login:
    """A connection to a service of the client's, from beyond its router; `ask` has it echoed."""

    def __init__(self, world: World, family: int) -> None:
        here, far = ENDS[family]
        self.process = world.python("-c", LOGIN, here, far, where=world.router)
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().strip()
        self.there = self.said == "in"

    def ask(self, word: str) -> bool:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip() == word

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextlib.contextmanager
def service(world: World, uid: int = 0) -> Iterator[None]:
    """Echoes what it is told, on all addresses."""
    process = world.python("-c", ECHO, str(uid))
    assert process.stdout is not None and process.stdout.readline() == "listening\n"
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("strict", ["off", "on"])
def test_who_is_logged_in_from_beyond_the_router_stays_and_others_get_in(
    world: World, tmp_path: Path, family: int, strict: str
) -> None:
    world.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    # Neighbours are looked for from these.
    world.run("ip", "address", "add", "fe80::c/64", "dev", "c0", "nodad")
    world.run("ip", "address", "add", "fe80::a/64", "dev", "r0", "nodad", where=world.router)
    before = world.picture()
    with service(world):
        login = Login(world, family)
        assert login.said == "in" and login.ask("before")
        session = Session(world, tmp_path, f"kill_switch={strict}")
        assert login.ask("connected")
        later = Login(world, family)
        assert later.there and later.ask("later")
        session.tell("block")
        assert login.ask("held") and later.ask("held, too")
        ping = ["ping", "-c", "1", "-W", "2", "-I", ENDS[family][1], ENDS[family][0]]
        assert "1 received" in world.run(*ping, where=world.router)
        # Whatever begins here goes as before: nowhere, now.
        assert said(world, ENDS[family][1]) in UNREACHABLE
        assert world.run("python3", "-c", FROM, *ENDS[family]).strip() != "connected"
        session.tell("tunnel")
        assert world.run("python3", "-c", FROM, *ENDS[family]).strip() != "connected"
        assert login.ask("released") and later.ask("released, too")
        session.tell("undo")
        assert login.ask("open") and later.ask("open, too")
        login.close()
        later.close()
    assert world.picture() == before
    assert world.run("sysctl", "-n", "net.ipv4.tcp_fwmark_accept").strip() == "0"


def test_a_users_connection_goes_on_outside_for_nobody(world: World, tmp_path: Path) -> None:
    """It may have begun here, from the port that its program listens on."""
    with service(world, uid=1000):
        login = Login(world, 4)
        assert login.ask("before")
        session = Session(world, tmp_path)
        assert not login.ask("connected")
        login.close()
        session.tell("undo")


def test_where_the_local_network_is_closed_nobody_is_answered(world: World, tmp_path: Path) -> None:
    with service(world):
        login = Login(world, 4)
        assert login.ask("before")
        session = Session(world, tmp_path, "local=none")
        assert not login.ask("connected") and not Login(world, 4).there
        login.close()
        session.tell("undo")


@contextlib.contextmanager
def container(world: World) -> Iterator[str]:
    """A host behind the client, which forwards and translates for it; its namespace."""
    name = f"{world.client}-k"
    for line in (
        f"netns add {name}",
        f"-n {world.client} link add br0 type veth peer name eth0 netns {name}",
        f"-n {world.client} address add 172.18.0.1/16 dev br0",
        f"-n {world.client} link set br0 up",
        f"-n {name} address add 172.18.0.2/16 dev eth0",
        f"-n {name} link set eth0 up",
        f"-n {name} route add default via 172.18.0.1",
    ):
        subprocess.run(["ip", *line.split()], check=True)
    world.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    world.run(
        "nft",
        "add table ip nat; add chain ip nat post { type nat hook postrouting priority srcnat; }; "
        "add rule ip nat post ip saddr 172.18.0.0/16 masquerade",
    )
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def datagram(source: str, destination: str, port: int = 5353) -> str:
    header = IPv6 if ":" in destination else IP
    return bytes(header(src=source, dst=destination) / UDP(sport=53, dport=port) / Raw(
        f"{source} {destination}".encode())).hex()  # fmt: skip


def test_the_firewall_lets_nobody_in_by_the_nic_who_is_not_meant(
    world: World, tmp_path: Path
) -> None:
    """Packets that the client itself would have dropped, written to the NIC by its descriptor."""
    with container(world) as behind:
        session = Session(world, tmp_path)
        ears = [world.python("-c", EARS, where=where) for where in (world.client, behind)]
        for ear in ears:
            assert ear.stdout is not None and ear.stdout.readline() == "listening\n"
        far, far6 = "192.0.2.9", "2001:db8::9"
        good = [(far, "10.77.0.2"), (far6, "fd77::2"), ("10.77.0.1", "10.77.0.2")]
        bad = [
            *((far, to) for to in ("10.201.0.2", "172.18.0.1", "172.18.0.2", "10.201.0.255",
                                   "255.255.255.255", "224.0.0.251", "10.77.0.9")),
            *((far6, to) for to in ("fd20:201::2", "ff02::1", "fd77::9")),
            *((near, "10.77.0.2") for near in ("10.201.0.1", "172.18.0.2", "10.201.0.2")),
            *((near, "fd77::2") for near in ("fd20:201::1", "fd20:201::2", "fe80::1")),
        ]  # fmt: skip
        # Once more, when the good are remembered: bad ones by their destination, too.
        for source, destination in (bad + good) * 2:
            session.tell(f"inject {datagram(source, destination)}")
        heard = [ear.communicate("\n", timeout=10)[0].splitlines() for ear in ears]
        assert sorted(heard[0]) == sorted([f"{source} {to}" for source, to in good] * 2)
        assert heard[1] == []
        session.tell("undo")
        assert "vpnshare" not in world.run("nft", "list", "tables")


@pytest.mark.parametrize(
    ("source", "network", "own"),
    [("10.88.0.9", "10.88.0.1/24", "10.77.0.2"), ("fd88::9", "fd88::1/64", "fd77::2")],
)
def test_who_has_passed_does_not_when_the_device_gets_his_network(
    world: World, tmp_path: Path, source: str, network: str, own: str
) -> None:
    """The firewall remembers a source for a second, and no longer, however often it is heard."""
    session = Session(world, tmp_path)
    ear = world.python("-c", EARS)
    assert ear.stdout is not None and ear.stdout.readline() == "listening\n"
    packet = f"inject {datagram(source, own)}"
    session.tell(packet)
    world.run("ip", "address", "add", network, "dev", "c0", *["nodad"] * (":" in network))
    session.tell("follow")

    def dropped() -> bool:
        session.tell(packet)
        listed = world.run("nft", "list", "chain", "inet", f"vpnshare_fence_{session.mark}",
                           "enter")  # fmt: skip
        (look,) = (line for line in listed.splitlines() if "fib saddr" in line)
        return "packets 0 " not in look

    wait_for(dropped, "a packet to be dropped", 5)
    heard = ear.communicate("\n", timeout=10)[0].splitlines()
    assert heard[:1] == [f"{source} {own}"], "before, he passed"
    session.tell("undo")


@pytest.mark.parametrize("forward", ["on", "off"])
def test_what_is_behind_the_device_is_answered_and_never_reached(
    world: World, tmp_path: Path, forward: str
) -> None:
    with container(world) as behind:
        session = Session(world, tmp_path, f"forward={forward}")
        inside = world.python("-c", ASK, where=behind)
        assert inside.stdout is not None
        said_inside = inside.stdout.readline().strip()
        packets = session.ask("read")
        if forward == "off":
            assert said_inside == "refused" and packets == []
            session.tell("undo")
            return
        (packet,) = packets
        asked = IP(bytes.fromhex(packet))
        assert (said_inside, asked.src, asked.dst) == ("sent", "10.77.0.2", "192.0.2.9")
        session.tell(f"inject {datagram('192.0.2.66', '172.18.0.2', 4000)}")
        session.tell(f"inject {datagram('192.0.2.9', '10.77.0.2', asked[UDP].sport)}")
        assert inside.communicate(timeout=10)[0].splitlines() == ["192.0.2.9 10.77.0.2"]
        session.tell("undo")


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
        heard = {"": "nothing", "c0": "10.201.0.2" if "." in group else LINK_LOCAL}[where]
        assert seen.communicate("\n", timeout=10)[0].startswith(heard)
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


ECHO = """
import os, socket, sys, threading
s = socket.create_server(("::", 2222), family=socket.AF_INET6, dualstack_ipv6=True)
os.setuid(int(sys.argv[1]))
s.close()
s = socket.create_server(("::", 2222), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
def serve(c):
    while data := c.recv(99):
        c.sendall(data)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
LOGIN = """
import socket, sys
here, far = sys.argv[1:]
s = socket.socket(socket.AF_INET6 if ":" in here else socket.AF_INET)
s.settimeout(2)
s.bind((far, 0))
try:
    s.connect((here, 2222))
    print("in", flush=True)
    for line in sys.stdin:
        s.sendall(line.encode())
        print(s.recv(99).decode().strip(), flush=True)
except OSError as error:
    print(error, flush=True)
"""
FROM = """
import socket, sys
here, far = sys.argv[1:]
s = socket.socket(socket.AF_INET6 if ":" in here else socket.AF_INET)
s.settimeout(1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((here, 2223))
try:
    s.connect((far, 2225))
    print("connected")
except ConnectionRefusedError:
    print("connected")
except OSError as error:
    print(error)
"""
EARS = """
import socket, struct, sys
socks = []
for family, any in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((any, 5353))
    s.settimeout(0.3)
    socks.append(s)
print("listening", flush=True)
sys.stdin.readline()
for s in socks:
    try:
        while True:
            print(s.recv(999).decode())
    except TimeoutError:
        pass
"""
ASK = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1.5)
s.connect(("192.0.2.9", 53))
s.send(b"anybody?")
try:
    s.settimeout(0.3)
    s.recv(999)
except TimeoutError:
    print("sent", flush=True)
except OSError:
    print("refused", flush=True)
s.settimeout(3)
try:
    print(s.recv(999).decode(), flush=True)
except OSError:
    pass
"""
HEAR = """
import socket, struct, sys
group = sys.argv[1]
family = socket.AF_INET6 if ":" in group else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(0.3)
s.bind(("::" if ":" in group else "", 5353))
index = socket.if_nametoindex("r0")
packed = socket.inet_pton(family, group)
if family == socket.AF_INET6:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + struct.pack("@I", index))
elif not group.startswith("255."):
    mreqn = packed + struct.pack("=4sI", bytes(4), index)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreqn)
print("listening", flush=True)
sys.stdin.readline()
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
from client.system.watch import NetworkWatch
from eventloop.link_sockets import is_local
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

"""Ways in which the link between client and gateway breaks, and a download that lives through them.

A cut is *visible* when somebody is told (a reset, an ICMP error, an address
gone), *silent* when packets only vanish. The download is curl's, slowed down
on the server's interface; its file is watched, so that the longest time
without a new byte after each cut is known.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.netns.processes import Failed, wait_for
from tests.netns.product import PORT, Client, Gateway
from tests.netns.world import GATEWAY_LAN, SERVER, World, provide_content

WATCH_SECONDS = 0.01
FLOWING_BYTES = 256 * 1024
"""So much new content after a cut says that the download goes on."""
TABLE = "cut"
OTHER_PORT = PORT + 1


@dataclass
class Stall:
    """One cut and what the download felt of it."""

    name: str
    silent: bool
    seconds: float
    transport: str
    """That the download went on over."""


@dataclass
class Download:
    """curl at work; `stall_after` tells how long no byte came."""

    world: World
    size: int
    target: Path
    rate: str = "40mbit"
    """What comes while it is cut; the rest of it comes at full speed (`finish`)."""
    stalls: list[Stall] = field(default_factory=list)

    def start(self) -> None:
        self.world.server.run(
            ["tc", "qdisc", "replace", "dev", "net0", "root", "tbf", "rate", self.rate,
             "burst", "128kb", "latency", "50ms"]
        )  # fmt: skip
        self._process = self.world.client.start(
            ["curl", "-sS", "--fail", "-o", str(self.target),
             f"http://{SERVER}:8000/bytes/{self.size}"]
        )  # fmt: skip
        self._gap_began = time.monotonic()
        self._longest = 0.0
        self._stop = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        wait_for(lambda: self.got() > FLOWING_BYTES, "the download to begin", 20)

    def got(self) -> int:
        return self.target.stat().st_size if self.target.exists() else 0

    def running(self) -> bool:
        return self._process.running()

    def _watch(self) -> None:
        before = 0
        while not self._stop:
            now, size = time.monotonic(), self.got()
            if size != before:
                before, self._gap_began = size, now
            self._longest = max(self._longest, now - self._gap_began)
            time.sleep(WATCH_SECONDS)

    def suffer(self, cut: Cut, gateway: Gateway, client: Client) -> Stall:
        """Make the cut, wait until the download goes on, and note the longest gap."""
        before = client.status()
        self._longest = 0.0
        cut.make(self.world, gateway, client)
        try:
            # Over UDP a new address or a port that is open again leaves the session as it is.
            if cut.breaks and not (cut in (ADDRESS, REFUSED) and before["transport"] == "udp"):
                wait_for(
                    lambda: client.peek()["reconnects"] > before["reconnects"],
                    f"the link to break by {cut.name}",
                    15.0,
                )
            had = self.got()
            wait_for(
                lambda: self.got() > had + FLOWING_BYTES or not self.running(),
                f"the download to go on after {cut.name}",
                30.0,
            )
            transport = str(client.status()["transport"])
        finally:
            cut.mend(self.world, gateway, client)
        stall = Stall(cut.name, cut.silent, self._longest, transport)
        self.stalls.append(stall)
        return stall

    def finish(self, seconds: float = 240.0) -> str:
        """Let the rest come at full speed; the SHA-256 of what curl wrote."""
        self.world.server.run(["tc", "qdisc", "delete", "dev", "net0", "root"], check=False)
        status = self._process.popen.wait(seconds)
        self._stop = True
        self._thread.join()
        if status:
            raise Failed(f"curl noticed: {status}\n{self._process.tail()}")
        with self.target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def content(world: World, size: int) -> str:
    """The SHA-256 of the first `size` bytes that the server has, which are made if need be."""
    digest = hashlib.sha256()
    with provide_content(world.directory, size).open("rb") as file:
        while size:
            piece = file.read(min(size, 1 << 22))
            digest.update(piece)
            size -= len(piece)
    return digest.hexdigest()


Action = Callable[[World, Gateway, Client], None]


def _nothing(world: World, gateway: Gateway, client: Client) -> None:
    pass


@dataclass(frozen=True)
class Cut:
    """`make` breaks, `mend` puts right what would stand in the way of later cuts."""

    name: str
    silent: bool
    make: Action
    mend: Action = _nothing
    breaks: bool = True
    """Whether the link does not survive it."""


def _rules(world: World, *rules: str, answers: tuple[str, ...] = ()) -> None:
    """Rules for what reaches the gateway from its LAN, and for what it sends there."""
    world.gateway.nft(
        f"table inet {TABLE} {{ chain in {{ type filter hook input priority 0;\n"
        + "\n".join(f"iifname lan0 {rule}" for rule in rules)
        + "\n}\nchain out { type filter hook output priority 0;\n"
        + "\n".join(f"oifname lan0 {rule}" for rule in answers)
        + "\n}\n}"
    )


def _no_rules(world: World, gateway: Gateway, client: Client) -> None:
    world.gateway.nft(f"table inet {TABLE}\ndelete table inet {TABLE}")


def _endpoint_port(world: World) -> int:
    """The port that the client's link has at its own end."""
    for protocol in ("-t", "-u"):
        # Links that were swallowed before may still be closing.
        argv = ["ss", "-H", "-n", protocol, "state", "established", "dst", f"{GATEWAY_LAN}:{PORT}"]
        for line in world.client.run(argv).stdout.splitlines():
            return int(line.split()[-2].rpartition(":")[2])
    raise Failed("the client has no link")


def _kill_sockets(world: World, gateway: Gateway, client: Client) -> None:
    world.gateway.run(
        ["ss", "-K", "-H", "-n", "-t", "sport", "=", f":{PORT}", "dst", "10.1.0.0/24"]
    )


def _swallow_link(world: World, gateway: Gateway, client: Client) -> None:
    """This one connection is forgotten by everybody on the way, for good."""
    port = _endpoint_port(world)
    there = f"tcp sport {port} drop", f"udp sport {port} drop"
    back = f"tcp dport {port} drop", f"udp dport {port} drop"
    _rules(world, *there, answers=back)


def _swallow_one_way(world: World, gateway: Gateway, client: Client) -> None:
    """What the client sends is lost; what the gateway sends arrives."""
    port = _endpoint_port(world)
    _rules(world, f"tcp sport {port} drop", f"udp sport {port} drop")


def _swallow_all(world: World, gateway: Gateway, client: Client) -> None:
    _rules(world, "drop", answers=("drop",))
    time.sleep(3.0)
    _no_rules(world, gateway, client)


def _change_address(world: World, gateway: Gateway, client: Client) -> None:
    listed = world.client.run(["ip", "-4", "-o", "addr", "show", "lan0"]).stdout
    current = listed.split()[3]
    other = "10.1.0.3/24" if current.startswith("10.1.0.2/") else "10.1.0.2/24"
    world.client.ip(
        f"addr del {current} dev lan0",
        f"addr add {other} dev lan0",
        f"route replace default via {GATEWAY_LAN}",
    )


def _tcp_to_udp(world: World, gateway: Gateway, client: Client) -> None:
    _rules(world, f"tcp dport {PORT} reject with tcp reset")


def _back_to_tcp(world: World, gateway: Gateway, client: Client) -> None:
    """TCP is let through again; the client is told by its network, as when a Wi-Fi changes."""
    _no_rules(world, gateway, client)
    world.client.ip("addr add 10.1.0.99/32 dev lan0", "addr del 10.1.0.99/32 dev lan0")
    wait_for(lambda: client.peek()["transport"] == "tcp", "the move back to TCP", 30.0)


def _refuse_port(world: World, gateway: Gateway, client: Client) -> None:
    """For a second the port is refused on the way: connections are reset, datagrams refused."""
    _rules(
        world,
        f"tcp dport {PORT} reject with tcp reset",
        f"udp dport {PORT} reject with icmpx port-unreachable",
    )
    time.sleep(1.0)
    _no_rules(world, gateway, client)


def _relisten(world: World, gateway: Gateway, client: Client) -> None:
    """The gateway closes its listeners, opens them anew, and drops the links they let in."""
    before = _listening(world)
    gateway.command("relisten", "--drop")
    after = _listening(world)
    if not before.isdisjoint(after) or {port for _, port in after} != {PORT}:
        raise Failed(f"the listeners are the same: {before}, {after}")


def _move_listener(world: World, gateway: Gateway, client: Client) -> None:
    """The gateway listens at another port from now on, and drops the links it had."""
    gateway.command("set", "gateway.listen", f"{GATEWAY_LAN}:{OTHER_PORT}")
    gateway.command("relisten", "--drop")
    if {port for _, port in _listening(world)} != {OTHER_PORT}:
        raise Failed("the gateway does not listen at the other port")
    _wait_for_endpoint(client, OTHER_PORT)


def _move_back(world: World, gateway: Gateway, client: Client) -> None:
    gateway.command("set", "gateway.listen", f"{GATEWAY_LAN}:{PORT}")
    gateway.command("relisten", "--drop")
    _wait_for_endpoint(client, PORT)


def _wait_for_endpoint(client: Client, port: int) -> None:
    def there() -> bool:
        status = client.peek()
        connected = status["state"] == "connected"
        return connected and str(status["endpoint"]).endswith(f":{port}")

    wait_for(there, f"the link to port {port}")


def _kill_listener(world: World, gateway: Gateway, client: Client) -> None:
    """The system ends the listening socket and the links (SOCK_DESTROY, as Android's netd)."""
    before = _listening(world)
    world.gateway.run(["ss", "-K", "-H", "-n", "-l", "-t", "sport", "=", f":{PORT}"])
    _kill_sockets(world, gateway, client)
    wait_for(lambda: len(_listening(world)) == len(before), "the listener to be opened again")
    if before <= _listening(world):
        raise Failed("the system did not end the listener")


def _listening(world: World) -> set[tuple[int, int]]:
    """The gateway's listening sockets: inode (unique to a socket) and port."""
    found = set()
    for protocol in ("-t", "-u"):
        listed = world.gateway.run(["ss", "-H", "-n", "-l", "-e", protocol]).stdout
        for line in listed.splitlines():
            port = int(line.split()[3].rpartition(":")[2])
            inode = next(w[4:] for w in line.split() if w.startswith("ino:"))
            if port in (PORT, OTHER_PORT):
                found.add((int(inode), port))
    return found


RESET = Cut("reset", False, _kill_sockets)
SWALLOWED = Cut("link swallowed", True, _swallow_link, _no_rules)
ONE_WAY = Cut("one way swallowed", True, _swallow_one_way, _no_rules)
SILENCE = Cut("silence for 3 s", True, _swallow_all, breaks=False)
ADDRESS = Cut("address change", False, _change_address)
TO_UDP = Cut("TCP to UDP", False, _tcp_to_udp, _back_to_tcp)
REFUSED = Cut("port refused for 1 s", False, _refuse_port)
LISTENER = Cut("listener restarted", False, _relisten)
MOVED = Cut("listener moved", False, _move_listener, _move_back)
KILLED = Cut("listener ended", False, _kill_listener)
ALL = (RESET, SWALLOWED, ADDRESS, TO_UDP, LISTENER, SILENCE, MOVED, KILLED, REFUSED)
DATAGRAM = (SWALLOWED, ADDRESS, ONE_WAY, LISTENER, MOVED, SILENCE, REFUSED)

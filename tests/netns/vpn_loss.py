"""The VPN is lost in every way there is, under mixed traffic, and what is seen is judged.

    python -m tests.netns.vpn_loss --rounds 50

and the same where the VPN is named by its owner (`--named`), where the kernel refuses to tie a
socket to a device (`--refuse-binding`), and with a WireGuard device beside the client (`--app`).

In the world of `world.py` the VPN is a TUN device that, while it is up, has the
best default route for both families: when it goes, the system's own choice for
every socket that nothing ties is the underlay. Each round opens flows, takes the
VPN away, looks at what becomes of them and of new ones, gives the VPN back, and
waits until everything is served again. Meanwhile `mixed_traffic.py` runs on the
client, and tcpdump on every interface of the gateway but the VPN counts packets
of clients: the underlay must see none at all, the LAN nothing but the tunnel,
loopback nothing that speaks of a server or a lease.

Needs root. Prints a line a round; the exit status is 0 if all promises held.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.netns import mixed_traffic
from tests.netns.capture import Capture
from tests.netns.hosts import Host
from tests.netns.processes import Failed, Process, wait_for
from tests.netns.product import PORT, Client, Gateway
from tests.netns.wireguard_app import WIREGUARD_PORT, app_of
from tests.netns.world import (
    GATEWAY_LAN,
    GATEWAY_VPN,
    GATEWAY_VPN6,
    LEAK_FILTER,
    PROJECT,
    SERVER,
    SERVER6,
    Shape,
    World,
)

SECCOMP = PROJECT / "tests/gateway/vpn/seccomp.py"
ECHO_PORT = 7
IP_RECVERR, IPV6_RECVERR = 11, 25
RECOVERY_SECONDS = 3.0
"""The promise: service within this time of the VPN's return."""
PATIENCE = 15.0
"""How long a round waits for what must come, before it is called a failure."""
HELD_SECONDS = 1.0
"""How long the VPN stays away at least."""
OTHER_NAMES = ("g1", "g2")
SECOND_LAN = "10.1.1.2"

ANNOUNCEMENT = f"src host {GATEWAY_LAN} and udp port 5353 and dst host 224.0.0.251"
"""The gateway saying on the LAN, by mDNS, that it is there."""
MEMBERSHIP = f"src host {GATEWAY_LAN} and igmp and dst host 224.0.0.22 and ip[36:4] == 0xe00000fb"
"""Its kernel saying that it listens there, too (RFC 3376 section 4.2)."""
TUNNEL_ONLY = (
    f"{LEAK_FILTER} and not port {PORT} and not udp port {WIREGUARD_PORT}"
    f" and not ({ANNOUNCEMENT}) and not ({MEMBERSHIP})"
)
CLIENTS_NETWORKS = (
    "net 10.9.0.0/16 or net 10.66.0.0/15 or net fd09::/64 or net fd66::/64 or net fd67::/64"
)


class RefusedGateway(Gateway):
    """A gateway whose kernel refuses to tie a socket to a device: the fall-backs are in force."""

    def _as_user(self, argv: Sequence[str]) -> list[str]:
        return [sys.executable, str(SECCOMP), *super()._as_user(argv)]


@dataclass(frozen=True)
class Way:
    """One way of losing the VPN and of having it back."""

    name: str
    lose: Callable[[Bench], None]
    restore: Callable[[Bench], None]
    away: bool = True
    """Whether there is no VPN until `restore`."""
    survives: bool = False
    """Whether it is still the same network, so that flows go on."""


@dataclass
class Round:
    """What a round saw."""

    way: str
    recovery: float
    """Seconds from the VPN's return until everything was served."""
    errors: dict[str, str] = field(default_factory=dict)
    """What open flows were told, by kind."""


class Outside:
    """The captures on all interfaces but the VPN."""

    def __init__(self, captures: dict[str, Capture]) -> None:
        self._captures = captures

    @classmethod
    @contextlib.contextmanager
    def of(cls, world: World, leases: Sequence[str]) -> Iterator[Outside]:
        """Watch while the context lasts; `leases` are the clients' addresses in the tunnel."""
        hosts = " or ".join(f"host {address}" for address in leases)
        places = {
            "underlay": (world.underlay, "under0", LEAK_FILTER),
            "lan": (world.gateway, "lan0", TUNNEL_ONLY),
            "loopback": (world.gateway, "lo", f"{CLIENTS_NETWORKS} or {hosts}"),
        }
        if world.second is not None:
            places["second lan"] = (world.gateway, "lan1", TUNNEL_ONLY)
        with contextlib.ExitStack() as stack:
            yield cls(
                {
                    name: stack.enter_context(Capture.of(host, interface, expression))
                    for name, (host, interface, expression) in places.items()
                }
            )

    def packets(self) -> list[str]:
        """Each packet of a client's that was seen, in tcpdump's words. Ends the captures."""
        return [
            f"{name}: {line}"
            for name, capture in self._captures.items()
            for line in capture.lines("-tttt")
        ]


class Bench:
    """The pair, its traffic, and the hands that break the VPN."""

    def __init__(self, world: World, gateway: Gateway, client: Client, named: bool) -> None:
        self.world = world
        self.gateway = gateway
        self.client = client
        self.named = named
        self.interface = "g1"

    # ---- what becomes of the VPN

    def vpn_up(self, interface: str) -> None:
        with self.world.vpn_setting_up():
            self.world.vpn_up(interface)
            self.interface = interface
            take_all_traffic(self.world, interface)

    def rename(self, name: str) -> None:
        self.world.gateway.ip(f"link set {self.interface} name {name}")
        self.interface = name

    def set_up(self) -> None:
        """Give an interface that is still there what it has lost."""
        with self.world.vpn_setting_up():
            self.world.gateway.ip(
                f"link set {self.interface} up",
                f"address replace {GATEWAY_VPN}/24 dev {self.interface}",
                f"-6 address replace {GATEWAY_VPN6}/64 dev {self.interface} nodad",
            )
            self.world.vpn_routes(self.interface)
            take_all_traffic(self.world, self.interface)

    def ways(self) -> list[Way]:
        """All there are for this gateway; one that is named a name knows no other."""
        found = [DELETED, SET_DOWN, ADDRESSES_REMOVED, RENAMED, REPLACED]
        if self.named:
            found[3] = RENAMED_FROM_ITS_NAME
        else:
            found.append(REPLACED_UNDER_ANOTHER_NAME)
        return found

    # ---- looking

    def sharing(self) -> tuple[str, str]:
        """How the gateway and how the client's STATUS see it."""
        return self.gateway.peek()["sharing"], self.client.peek()["sharing"]

    def serves(self, server: str) -> bool:
        """Whether a new connection is served."""
        try:
            with self.world.client.connect(server, ECHO_PORT, timeout=1.0) as connection:
                connection.sendall(b"hello")
                return connection.recv(10) == b"hello"
        except OSError:
            return False

    def answers(self, server: str) -> bool:
        """Whether a new UDP port is served."""
        with self.datagrams(server) as sock:
            sock.settimeout(0.5)
            with contextlib.suppress(OSError):
                sock.send(b"hello")
                return sock.recv(10) == b"hello"
            return False

    def resolves(self) -> bool:
        dig = self.world.client.run(
            ["dig", "+short", "+tries=1", "+time=1", "server.test"], check=False
        )
        return dig.stdout.strip() == SERVER

    def pings(self, server: str) -> bool:
        ping = self.world.client.run(["ping", "-c", "1", "-W", "1", server], check=False)
        return "1 received" in ping.stdout

    def all_served(self) -> bool:
        return not any(True for _ in self.unserved())

    def unserved(self) -> Iterator[str]:
        """What is asked for in vain, one after the other."""
        for server in (SERVER, SERVER6):
            if not self.serves(server):
                yield f"TCP to {server}"
            if not self.answers(server):
                yield f"UDP to {server}"
        if not self.resolves():
            yield "a name"
        for server in (SERVER, SERVER6):
            if not self.pings(server):
                yield f"a ping to {server}"

    def datagrams(self, server: str) -> socket.socket:
        """A UDP socket of the client's that reports every error it is sent."""
        six = ":" in server
        family = socket.AF_INET6 if six else socket.AF_INET
        sock = self.world.client.open_socket(family, socket.SOCK_DGRAM)
        level, option = (41, IPV6_RECVERR) if six else (0, IP_RECVERR)
        sock.setsockopt(level, option, 1)
        sock.connect((server, ECHO_PORT))
        return sock

    # ---- a round

    def round(self, way: Way) -> Round:
        """Lose the VPN that way and have it back. Failed when a promise is broken."""
        with contextlib.ExitStack() as stack:
            flows = {
                f"{kind}{version}": stack.enter_context(self._open(kind, server))
                for version, server in ((4, SERVER), (6, SERVER6))
                for kind in ("tcp", "udp")
            }
            way.lose(self)
            lost = time.monotonic()
            errors = {}
            if way.away:
                wait_for(
                    lambda: self.sharing() == ("unavailable", "unavailable"),
                    f"gateway and client to say that the VPN is lost ({way.name})",
                    PATIENCE,
                )
                errors = {kind: told(kind, sock) for kind, sock in flows.items()}
                for server in (SERVER, SERVER6):
                    self._refused(server, way)
                time.sleep(max(0.0, lost + HELD_SECONDS - time.monotonic()))
            way.restore(self)
            back = time.monotonic()
            try:
                wait_for(self.all_served, f"service after the VPN's return ({way.name})", PATIENCE)
            except Failed as error:
                found = ", ".join(self.unserved()) or "nothing"
                raise Failed(f"{error}; unserved now: {found}\n{self._how_it_stands()}") from None
            recovery = time.monotonic() - back
            if not way.away and not way.survives:
                errors = {k: told(k, sock) for k, sock in flows.items() if k.startswith("tcp")}
            if way.survives:
                for kind in ("tcp4", "tcp6"):
                    mixed_traffic.ask(flows[kind])
        wait_for(
            lambda: self.sharing() == ("on", "on"), "the STATUS after the VPN's return", PATIENCE
        )
        return Round(way.name, recovery, errors)

    def _open(self, kind: str, server: str) -> socket.socket:
        if kind == "tcp":
            sock = self.world.client.connect(server, ECHO_PORT)
        else:
            sock = self.datagrams(server)
        mixed_traffic.ask(sock)
        return sock

    def _refused(self, server: str, way: Way) -> None:
        """A new connection must be told at once that there is no way."""
        try:
            connection = self.world.client.connect(server, ECHO_PORT, timeout=5.0)
        except TimeoutError:
            raise Failed(f"a new connection to {server} hung while there was no VPN") from None
        except OSError:
            return
        stands = self._how_it_stands()
        with connection:
            raise Failed(
                f"{server} was reached while there was no VPN ({way.name})\n"
                f"{connection}, which says {_what_it_says(connection)!r}\n{stands}"
            )

    def _how_it_stands(self) -> str:
        """For the report of what must not be: what both sides say, and the gateway's network."""
        gateway = self.gateway.process
        assert gateway is not None
        return "\n".join(
            (
                f"sharing: {self.sharing()}, VPN: {self.gateway.peek()['vpn']}",
                f"flows: {self.gateway.peek('flows')}",
                *(self.world.gateway.run(["ip", *words.split()]).stdout
                  for words in ("addr", "route", "-6 route")),
                self.world.client.run(["ss", "-tanoi"]).stdout,
                gateway.log.read_text()[-4000:],
            )
        )  # fmt: skip


def _what_it_says(connection: socket.socket) -> str:
    """Whether anybody is behind a connection."""
    try:
        mixed_traffic.ask(connection)
        return "what it was told"
    except OSError as error:
        return str(error)


def told(kind: str, sock: socket.socket) -> str:
    """The error that an open flow is told; Failed when it is told nothing."""
    sock.settimeout(0.5)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            sock.send(b"anybody there?")
            if not sock.recv(100):
                return "end of stream"
        except TimeoutError:
            continue
        except OSError as error:
            return type(error).__name__ if type(error) is not OSError else str(error.strerror)
    raise Failed(f"an open {kind} flow was told nothing when its VPN was lost")


def take_all_traffic(world: World, interface: str) -> None:
    """Give the VPN the best default routes, as a VPN application does."""
    world.gateway.ip(
        f"-4 route replace default via 10.8.0.1 dev {interface} metric 50",
        f"-6 route replace default via fd08::1 dev {interface} metric 50",
    )


def other_name(bench: Bench) -> str:
    return next(name for name in OTHER_NAMES if name != bench.interface)


def replace(bench: Bench, name: str) -> None:
    bench.world.vpn_down(bench.interface)
    bench.vpn_up(name)


def nothing(bench: Bench) -> None:
    """There is nothing to restore."""


DELETED = Way(
    "interface deleted",
    lambda b: b.world.vpn_down(b.interface),
    lambda b: b.vpn_up(b.interface),
)
SET_DOWN = Way(
    "set down",
    lambda b: b.world.gateway.ip(f"link set {b.interface} down"),
    lambda b: b.set_up(),
)
ADDRESSES_REMOVED = Way(
    "addresses removed",
    lambda b: b.world.gateway.ip(f"address flush dev {b.interface} scope global"),
    lambda b: b.set_up(),
)
RENAMED = Way("renamed", lambda b: b.rename(other_name(b)), nothing, away=False, survives=True)
RENAMED_FROM_ITS_NAME = Way(
    "renamed from the owner's name", lambda b: b.rename("g7"), lambda b: b.rename("g1")
)
REPLACED = Way("replaced, same name", lambda b: replace(b, b.interface), nothing, away=False)
REPLACED_UNDER_ANOTHER_NAME = Way(
    "replaced, another name", lambda b: replace(b, other_name(b)), nothing, away=False
)


@contextlib.contextmanager
def bench(
    refuse_binding: bool = False, named: bool = False, config: str = "", app: bool = False
) -> Iterator[Bench]:
    """A connected pair in a world of its own whose VPN can be lost; with `app`, the second
    client is a WireGuard device at the same gateway."""
    kind = RefusedGateway if refuse_binding else Gateway
    with World(Shape(vpn_kind="tun", second_client=app)) as world:
        take_all_traffic(world, "g1")
        with world.serving(secure=False), kind(world) as gateway, Client(world) as client:
            gateway.configure(config)
            choice = ["--vpn-interface", "g1"] if named else []
            gateway.start("--listen", f"{GATEWAY_LAN}:{PORT}", "--share", *choice)
            client.start().join(gateway)
            with contextlib.ExitStack() as stack:
                if world.second is not None:
                    stack.enter_context(app_of(gateway, world, world.second, SECOND_LAN))
                yield Bench(world, gateway, client, named)


@contextlib.contextmanager
def under_traffic(world: World, host: Host | None = None) -> Iterator[Process]:
    """Mixed traffic from the client (or `host`) while the context lasts; read it with `outcome`."""
    argv = [sys.executable, str(Path(mixed_traffic.__file__)), SERVER, SERVER6]
    process = (host or world.client).start(argv, name="traffic")
    try:
        process.wait_for_log("ready")
        yield process
    finally:
        process.kill()


@contextlib.contextmanager
def under_the_apps_traffic(bench: Bench) -> Iterator[Process | None]:
    """The same from the WireGuard device, if there is one."""
    second = bench.world.second
    with contextlib.ExitStack() as stack:
        yield None if second is None else stack.enter_context(under_traffic(bench.world, second))


def outcome(traffic: Process) -> dict[str, dict[str, int]]:
    """Stop the traffic: how often each kind was served, and the errors it met."""
    traffic.stop(signal.SIGTERM)
    answer: Any = json.loads(traffic.tail(1))
    return dict(answer)


def lease_addresses(gateway: Gateway) -> list[str]:
    return [lease[version] for lease in gateway.leases() for version in ("ipv4", "ipv6")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.netns.vpn_loss")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--refuse-binding", action="store_true", help="device binding refused")
    parser.add_argument("--app", action="store_true", help="a WireGuard device beside the client")
    parser.add_argument("--named", action="store_true", help="the VPN is named by the owner")
    options = parser.parse_args()
    slowest = 0.0
    with bench(options.refuse_binding, options.named, app=options.app) as b:
        print(f"guard: {b.gateway.status()['vpn']['guard']}", flush=True)
        with Outside.of(b.world, lease_addresses(b.gateway)) as outside:
            with under_traffic(b.world) as traffic, under_the_apps_traffic(b) as apps:
                ways = b.ways()
                for number in range(options.rounds):
                    seen = b.round(ways[number % len(ways)])
                    slowest = max(slowest, seen.recovery)
                    print(
                        f"{number + 1:3}  {seen.way:30} served again after {seen.recovery:.2f} s"
                        f"  {seen.errors or ''}",
                        flush=True,
                    )
                met = outcome(traffic)
                if apps is not None:
                    print("served the app:", json.dumps(outcome(apps)["served"]))
            packets = outside.packets()
        print("served:", json.dumps(met["served"]))
        print("errors met:", json.dumps(met["failed"]))
        print("alarms:", b.gateway.status()["alarms"])
    print("\n".join(packets[:50]))
    print(f"{options.rounds} losses; packets of clients outside the VPN: {len(packets)}; ")
    print(f"slowest recovery: {slowest:.2f} s")
    return 1 if packets or slowest > RECOVERY_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())

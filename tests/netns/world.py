"""The world in which VPN Share is tested: real hosts, real kernels, real packets.

                    LAN, 10.1.0.0/24 fd01::/64        "VPN", 10.8.0.0/24 fd08::/64
     +--------+                     +-----------+                      +-----------+
     | client |.2 lan0       lan0 .1|  gateway  |.2 g1          vpn0 .1| vpn_exit  |
     |   c    |---------------------|     g     |----------------------|    v      |
     +--------+                     |           |  (veth, or a TUN     +-----------+
     +--------+                     |           |   with a forwarder)        |.254 net0
     | second |.2 lan0       lan1 .1|           |                            | 10.9.0.0/24
     |   c2   |---------------------|           |                            | fd09::/64
     +--------+  10.1.1.0/24        +-----------+                            |.1 .2 net0
                 fd01:1::/64              |.2 under0                   +-----------+
                                          | 10.7.0.0/24 fd07::/64      |  server   |
                                          |.1 under0                   |    s      |
                                    +-----------+                      +-----------+
                                    | underlay  |
                                    |    u      |   the Internet as it is without the VPN
                                    +-----------+

The gateway's default route is the underlay (metric 100); the VPN's default
route has metric 500, so it is taken by sockets that are bound to `g1` and by
no other, as the uid rules of a real VPN do it for applications. What has the
VPN's address as its source goes there too while the VPN is up: the kernel
itself answers what arrives for a socket that is gone. Nothing in the gateway
forwards: what a client reaches, it reaches through the product.

A client's packet on the underlay is a leak. To see one in full, `u` claims to
be every server (it answers TCP with a reset), and counts what it is sent.

Beyond `v`: 10.9.0.1 and .2 (fd09::1, ::2) are the server; 10.9.0.77
(fd09::77) is a host that does not answer ARP; 10.66.0.0/16 (fd66::/64) is
unreachable by the router's own word; 10.67.0.0/16 (fd67::/64) swallows
packets in silence.

Namespaces are called `vps-RUN-HOST`. A run holds a lock file as long as it
lives; worlds whose lock is free belong to dead runs and are removed by the
next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.fakes.addresses import wait_for_ipv6, wait_for_links
from tests.netns import servers
from tests.netns.capture import Capture
from tests.netns.hosts import Host, command, remove_namespace
from tests.netns.processes import Process

PROJECT = Path(__file__).resolve().parents[2]
PREFIX = "vps"

GATEWAY_LAN = "10.1.0.1"
GATEWAY_LAN6 = "fd01::1"
GATEWAY_VPN = "10.8.0.2"
GATEWAY_VPN6 = "fd08::2"
SERVER = "10.9.0.1"
SERVER6 = "fd09::1"
SERVER_OTHER = "10.9.0.2"
SERVER6_OTHER = "fd09::2"
ABSENT = "10.9.0.77"
ABSENT6 = "fd09::77"
UNREACHABLE = "10.66.0.1"
UNREACHABLE6 = "fd66::1"
SILENT = "10.67.0.1"
SILENT6 = "fd67::1"

LEAK_FILTER = (
    "(ip or ip6) and not (ip6[6] == 58 and ip6[40] >= 133 and ip6[40] <= 137)"
    " and not (ip6[6] == 0 and ip6[40] == 58 and ip6[48] == 143)"
)
"""Every IP packet but multicast listener reports and neighbour discovery."""


@dataclass(frozen=True)
class Shape:
    """What may differ from world to world."""

    vpn_kind: str = "veth"
    """`veth`, or `tun`: a TUN device in the gateway, carried over by a forwarder."""
    vpn_mtu: int = 1500
    vpn_ipv6: bool = True
    second_client: bool = False
    third_client: bool = False


class World:
    """The hosts of one topology. Use as a context manager: leaving it removes everything."""

    def __init__(self, shape: Shape | None = None) -> None:
        self.shape = shape or Shape()
        self.directory = Path(tempfile.mkdtemp(prefix="vpnshare-world-"))
        self.directory.chmod(0o711)
        """Passable, so that an unprivileged gateway reaches its home in it."""
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        self.run_name, self._lock = _claim_run()
        self._open_hosts: list[Host] = []
        self._stack = contextlib.ExitStack()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove every process, namespace and file of this world."""
        self._stack.close()
        for host in reversed(self._open_hosts):
            host.remove()
        self._open_hosts.clear()
        shutil.rmtree(self.directory, ignore_errors=True)
        path = self._lock.name
        self._lock.close()
        Path(path).unlink(missing_ok=True)

    # ---- building

    def _host(self, name: str) -> Host:
        host = Host(name, f"{PREFIX}-{self.run_name}-{name}", self.logs)
        self._open_hosts.append(host)
        return host

    def _build(self) -> None:
        self.client = self._host("c")
        self.gateway = self._host("g")
        self.vpn_exit = self._host("v")
        self.server = self._host("s")
        self.underlay = self._host("u")

        _link(self.client, "lan0", self.gateway, "lan0")
        _address(self.client, "lan0", "10.1.0.2/24", "fd01::2/64")
        _address(self.gateway, "lan0", f"{GATEWAY_LAN}/24", f"{GATEWAY_LAN6}/64")
        self.client.ip(
            f"-4 route add default via {GATEWAY_LAN}", f"-6 route add default via {GATEWAY_LAN6}"
        )
        self.client.resolver(GATEWAY_LAN)
        self.second = self._another_client(1) if self.shape.second_client else None
        self.third = self._another_client(2) if self.shape.third_client else None

        _link(self.gateway, "under0", self.underlay, "under0")
        _address(self.gateway, "under0", "10.7.0.2/24", "fd07::2/64")
        _address(self.underlay, "under0", "10.7.0.1/24", "fd07::1/64")
        self.underlay.ip(
            *(f"-4 route add local {prefix} dev lo" for prefix in ("10.9.0.0/16", "10.66.0.0/15")),
            *(f"-6 route add local fd{n}::/64 dev lo" for n in ("09", "66", "67")),
        )
        self.gateway.ip(
            "-4 route add default via 10.7.0.1 metric 100",
            "-6 route add default via fd07::1 metric 100",
        )
        self.gateway.resolver(SERVER)
        self.gateway.sysctl(
            {
                "net.ipv4.ip_forward": 0,
                "net.ipv6.conf.all.forwarding": 0,
                "net.ipv4.ping_group_range": "0 2147483647",
                "net.ipv4.conf.all.rp_filter": 0,
            }
        )

        self.vpn_exit.sysctl(
            {
                "net.ipv4.ip_forward": 1,
                "net.ipv6.conf.all.forwarding": 1,
                "net.ipv4.icmp_ratelimit": 0,
                "net.ipv4.icmp_msgs_per_sec": 100_000,
                "net.ipv6.icmp.ratelimit": 0,
                "net.ipv4.conf.all.rp_filter": 0,
            }
        )
        self.vpn_up()

        _link(self.vpn_exit, "net0", self.server, "net0")
        _address(self.vpn_exit, "net0", "10.9.0.254/24", "fd09::254/64")
        _address(
            self.server, "net0", f"{SERVER}/24", f"{SERVER_OTHER}/24", f"{SERVER6}/64",
            f"{SERVER6_OTHER}/64",
        )  # fmt: skip
        self.server.ip(
            "-4 route add default via 10.9.0.254",
            "-6 route add default via fd09::254",
            # The server speaks as its first address unless it is asked at the second.
            f"-6 route add fd08::/64 via fd09::254 src {SERVER6}",
        )
        self.server.sysctl({"net.ipv4.icmp_ratelimit": 0, "net.ipv6.icmp.ratelimit": 0})
        self.vpn_exit.ip(
            "-4 route add unreachable 10.66.0.0/16",
            "-6 route add unreachable fd66::/64",
            "-4 route add blackhole 10.67.0.0/16",
            "-6 route add blackhole fd67::/64",
        )
        self.server.resolver("127.0.0.1")
        for host in self._open_hosts:
            host.inside(_wait_for_network)

    def _another_client(self, number: int) -> Host:
        """A client on a LAN of its own: 10.1.1.0/24 is the second's, 10.1.2.0/24 the third's."""
        host = self._host(f"c{number + 1}")
        _link(host, "lan0", self.gateway, f"lan{number}")
        four, six = f"10.1.{number}", f"fd01:{number}::"
        _address(host, "lan0", f"{four}.2/24", f"{six}2/64")
        _address(self.gateway, f"lan{number}", f"{four}.1/24", f"{six}1/64")
        host.ip(f"-4 route add default via {four}.1", f"-6 route add default via {six}1")
        host.resolver(f"{four}.1")
        return host

    def vpn_up(self, interface: str = "g1", routes: bool = True) -> None:
        """Make the VPN, as a VPN application does when it connects."""
        shape = self.shape
        if shape.vpn_kind == "tun":
            self._forwarder = self.gateway.start(
                [sys.executable, str(PROJECT / "tests/netns/tun_forwarder.py"), interface,
                 f"/run/netns/{self.vpn_exit.namespace}", "vpn0"]
            )  # fmt: skip
            self._forwarder.wait_for_log("ready")
        else:
            _link(self.gateway, interface, self.vpn_exit, "vpn0")
        ipv6 = [f"{GATEWAY_VPN6}/64"] if shape.vpn_ipv6 else []
        _address(self.vpn_exit, "vpn0", "10.8.0.1/24", *["fd08::1/64"] * bool(ipv6))
        _address(self.gateway, interface, f"{GATEWAY_VPN}/24", *ipv6)
        for host, name in ((self.vpn_exit, "vpn0"), (self.gateway, interface)):
            host.ip(f"link set {name} mtu {shape.vpn_mtu}")
            host.inside(wait_for_ipv6)
        if routes:
            self.vpn_routes(interface)

    @contextlib.contextmanager
    def vpn_setting_up(self) -> Iterator[None]:
        """The VPN carries nothing before it is set up, as a VPN application's does not.

        Else a server's late segment could arrive between address and route, and the
        gateway's kernel would answer for the connection that is gone by its other route.
        Segments that wait for the gateway's link address are past the filter: they go too.
        """
        self.vpn_exit.nft(HOLD)
        self.vpn_exit.ip("neighbour flush all")
        try:
            yield
        finally:
            self.vpn_exit.nft("delete table inet hold")

    def vpn_routes(self, interface: str = "g1") -> None:
        """Set the VPN's routes; they vanish when its interface goes or is set down."""
        for version, address, router in (
            (4, GATEWAY_VPN, "10.8.0.1"),
            *([(6, GATEWAY_VPN6, "fd08::1")] if self.shape.vpn_ipv6 else []),
        ):
            route = f"default via {router} dev {interface}"
            self.gateway.ip(
                f"-{version} route replace {route} metric 500",
                f"-{version} route replace {route} table 61",
            )
            if f"from {address}" not in self.gateway.run(["ip", f"-{version}", "rule"]).stdout:
                self.gateway.ip(f"-{version} rule add from {address} lookup 61")

    def vpn_down(self, interface: str = "g1") -> None:
        """Take the VPN's interface away, as its application does when it disconnects."""
        if self.shape.vpn_kind == "tun":
            self._forwarder.stop()
        else:
            self.gateway.ip(f"link delete {interface}")

    # ---- servers

    @contextlib.contextmanager
    def serving(self, secure: bool = True, records: Sequence[str] = ()) -> Iterator[Process]:
        """Run the servers of `s` (see servers.py) and its DNS, which knows `records`, too."""
        provide_content(self.directory, servers.FILE_SIZE)
        argv = [sys.executable, str(Path(servers.__file__)), "--directory", str(self.directory)]
        if secure:
            key, certificate = self.certificate()
            argv += ["--key", str(key), "--certificate", str(certificate)]
        process = self.server.start(argv, name="servers", cwd=PROJECT)
        dns = self.server.start(
            ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts",
             "--conf-file=/dev/null", "--user=root", "--pid-file=", "--log-facility=-",
             "--bind-dynamic", "--local-ttl=60", *DNS_RECORDS, *records]
        )  # fmt: skip
        try:
            process.wait_for_log("ready", 60.0)
            dns.wait_for_log("started")
            yield process
        finally:
            dns.kill()
            process.kill()

    def certificate(self) -> tuple[Path, Path]:
        """A key and a self-signed certificate for `server.test`."""
        key, certificate = self.directory / "key.pem", self.directory / "certificate.pem"
        if not key.exists():
            command(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                 "-subj", "/CN=server.test", "-addext",
                 f"subjectAltName=DNS:server.test,IP:{SERVER},IP:{SERVER6}",
                 "-keyout", str(key), "-out", str(certificate)]
            )  # fmt: skip
        return key, certificate

    # ---- looking

    def leaks(self) -> contextlib.AbstractContextManager[Capture]:
        """Capture what reaches the underlay; `count()` of it must be zero."""
        return Capture.of(self.underlay, "under0", LEAK_FILTER)

    def allow_direct(self) -> None:
        """Let the gateway forward, so that the client reaches the server without the product."""
        self.forward("lan0", "10.1.0.0/24", "fd01::/64")

    def forward(self, interface: str, *sources: str) -> None:
        """Let the gateway forward what comes in by `interface` from `sources` into the VPN."""
        self.gateway.sysctl({"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1})
        for version, router in ((4, "10.8.0.1"), (6, "fd08::1")):
            self.gateway.ip(
                f"-{version} rule add iif {interface} lookup 60",
                f"-{version} route add default via {router} dev g1 table 60",
            )
        for source in sources:
            version, router = (6, GATEWAY_VPN6) if ":" in source else (4, GATEWAY_VPN)
            self.vpn_exit.ip(f"-{version} route add {source} via {router}")

    def forbid_direct(self) -> None:
        """Undo `allow_direct`."""
        self.gateway.sysctl({"net.ipv4.ip_forward": 0, "net.ipv6.conf.all.forwarding": 0})
        self.gateway.ip(
            "-4 rule delete lookup 60", "-6 rule delete lookup 60",
            "-4 route flush table 60", "-6 route flush table 60",
        )  # fmt: skip
        self.vpn_exit.ip("-4 route delete 10.1.0.0/24", "-6 route delete fd01::/64")

    def log_tails(self, lines: int = 40) -> str:
        """The end of every log, for the report of a failed test."""
        parts = []
        for log in sorted(self.logs.glob("*.log")):
            text = log.read_text(errors="replace").splitlines()[-lines:]
            if text:
                parts.append("\n".join([f"--- {log.stem}", *text]))
        return "\n".join(parts)


@functools.cache
def _content() -> tempfile.TemporaryDirectory[str]:
    """Where the file is that the servers of all worlds of this process have, until it ends."""
    directory = tempfile.TemporaryDirectory(prefix="vpnshare-content-")
    servers.make_file(Path(directory.name) / servers.FILE_NAME, servers.FILE_SIZE)
    return directory


def provide_content(directory: Path, size: int) -> Path:
    """The file of at least so many random bytes that servers of `directory` have."""
    path = directory / servers.FILE_NAME
    if not path.exists():
        if size <= servers.FILE_SIZE:
            path.hardlink_to(Path(_content().name) / servers.FILE_NAME)
        else:
            servers.make_file(path, size)
    return path


_indices = itertools.count(1000)

HOLD = """table inet hold {
    chain forwarded { type filter hook forward priority 0; policy drop; }
}
"""

DNS_RECORDS = [
    f"--address=/server.test/{SERVER}",
    f"--address=/server.test/{SERVER6}",
    f"--host-record=only4.test,{SERVER}",
    f"--host-record=only6.test,{SERVER6}",
    "--cname=alias.test,only4.test",
    "--txt-record=text.test,first string,second string",
    f"--txt-record=long.test,{','.join('x' * 200 for _ in range(10))}",
    "--mx-host=mail.test,mx.mail.test,10",
    "--srv-host=_service._tcp.test,server.test,8000,1,2",
    "--local=/test/",
]


def _link(one: Host, one_name: str, other: Host, other_name: str) -> None:
    """A cable, whose other end has a number that the kernel gives to no device by itself.

    News of a carrier is taken up at once where a device's number is not that of the device below
    it, which a veth's other end is, and else once a second at most (net/core/link_watch.c).
    """
    command(
        ["ip", "link", "add", one_name, "netns", one.namespace, "type", "veth", "peer", "name",
         other_name, "index", str(next(_indices)), "netns", other.namespace]
    )  # fmt: skip


def _address(host: Host, interface: str, *addresses: str) -> None:
    host.ip(
        *(
            f"address add {address} dev {interface}" + (" nodad" if ":" in address else "")
            for address in addresses
        ),
        f"link set {interface} up",
    )


def _wait_for_network() -> None:
    wait_for_links()
    wait_for_ipv6(link_local=True)


# ---- runs and their locks


def _claim_run() -> tuple[str, IO[str]]:
    """Remove the worlds of dead runs; a name for this world and its held lock."""
    remove_stale_worlds()
    while True:
        name = secrets.token_hex(3)
        lock = open(_lock_path(name), "a")  # noqa: SIM115, held as long as the world
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return name, lock


def _lock_path(run_name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{PREFIX}-world-{run_name}.lock"


def remove_stale_worlds() -> None:
    """Remove namespaces of runs that ended without doing so themselves."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    names = {line.split()[0] for line in listed.splitlines() if line.strip()}
    etc = Path("/etc/netns")
    if etc.is_dir():
        names |= {entry.name for entry in etc.iterdir()}
    for namespace in names:
        match = re.fullmatch(rf"{PREFIX}-([0-9a-f]{{6}})-\w+", namespace)
        if match and not _run_lives(match[1]):
            remove_namespace(namespace)


def _run_lives(run_name: str) -> bool:
    path = _lock_path(run_name)
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    path.unlink(missing_ok=True)
    return False

"""Which resolvers to ask: those of the VPN, in the order in which they serve.

Sources, first one that names any:

1. the owner's own setting;
2. systemd-resolved's and resolvconf's records for the VPN's interface;
3. systemd-resolved's list of real servers, when `/etc/resolv.conf` is its stub;
4. `/etc/resolv.conf`.

A resolver on loopback (systemd-resolved's stub, a local dnsmasq) is skipped in
2 to 4: it would look names up by the host's own routes, and so perhaps outside
the VPN. The owner may name one in the setting, who thereby says that it uses
the VPN; sockets to it cannot leave the host. All other servers are asked
through the VPN only, whatever network their address seems to belong to. There
is no built-in public resolver.

Files are read again when the VPN or their time of change differs.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.vpn.detector import VpnDetector

DNS_PORT = 53
MAX_SERVERS = 6
MAX_FILE = 64 * 1024
RECHECK = 2.0
"""Seconds between looks at the files' times."""
REST = 30.0
"""Seconds that a server which did not answer stands behind the others."""
FAILURES = 2
"""Time-outs in a row until then."""

ETC_RESOLV_CONF = "etc/resolv.conf"
RESOLVED_LINK = "run/systemd/resolve/netif/{index}"
RESOLVED_LIST = "run/systemd/resolve/resolv.conf"
RESOLVCONF_FOLDERS = (
    "run/resolvconf/interfaces",
    "run/resolvconf/interface",
    "run/resolvconf/keys",
)


@dataclass(frozen=True, slots=True)
class Server:
    """A resolver's address."""

    address: str
    port: int = DNS_PORT

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.address).is_loopback

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


@dataclass(slots=True)
class Health:
    """How a server has served of late."""

    failures: int = 0
    rest_until: float = 0.0
    lowers_case: int = 0
    """Times in a row that a TCP answer proved that it does not keep the name's case."""


def parse_server(text: str) -> Server:
    """`9.9.9.9`, `9.9.9.9:5353`, `2620:fe::fe`, `[2620:fe::fe]:5353`. Raises ValueError."""
    host, port = text, ""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"not a resolver's address: {text!r}")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = ipaddress.ip_address(host)
        number = int(port) if port else DNS_PORT
    except ValueError:
        raise ValueError(f"not a resolver's address: {text!r}") from None
    if not 0 < number < 65536 or address.is_multicast or address.is_unspecified:
        raise ValueError(f"not a resolver's address: {text!r}")
    return Server(str(address), number)


class Upstreams:
    """The list, kept current. `root` is where the file system begins (a seam for tests)."""

    def __init__(
        self, detector: VpnDetector, setting: tuple[Server, ...] = (), root: str = "/"
    ) -> None:
        self._detector = detector
        self._setting = setting[:MAX_SERVERS]
        self._root = Path(root)
        self._servers: tuple[Server, ...] = ()
        self._health: dict[Server, Health] = {}
        self._seen: tuple[object, ...] | None = None
        self._checked = float("-inf")
        self.source = "setting" if setting else ""
        """Where the list is from: `setting`, or a file's path."""

    def servers(self, now: float) -> tuple[Server, ...]:
        """Whom to ask, best first; empty when the VPN names none."""
        self._refresh(now)
        health = self._health
        if len(self._servers) < 2 or not any(h.rest_until > now for h in health.values()):
            return self._servers
        return tuple(sorted(self._servers, key=lambda s: health[s].rest_until > now))

    def answered(self, server: Server) -> None:
        health = self._health.get(server)
        if health is not None:
            health.failures, health.rest_until = 0, 0.0

    def failed(self, server: Server, now: float) -> None:
        health = self._health.get(server)
        if health is not None:
            health.failures += 1
            if health.failures >= FAILURES:
                health.rest_until = now + REST

    def health(self, server: Server) -> Health:
        return self._health.get(server) or Health()

    def _refresh(self, now: float) -> None:
        detector = self._detector
        identity = (detector.generation, detector.index, detector.network.interface)
        if self._seen is not None and self._seen[0] == identity and now < self._checked + RECHECK:
            return
        self._checked = now
        seen = (identity, self._times())
        if seen == self._seen:
            return
        self._seen = seen
        servers = self._setting or self._read()
        if servers != self._servers:
            self._servers = servers
            self._health = {s: self._health.get(s, Health()) for s in servers}

    def _candidates(self) -> Iterator[tuple[str, bool]]:
        """(path below the root, whether it is resolved's own format), in order."""
        index, name = self._detector.index, self._detector.network.interface
        if index is not None:
            yield RESOLVED_LINK.format(index=index), True
        if name is not None:
            for folder in RESOLVCONF_FOLDERS:
                for entry in sorted(self._list(folder)):
                    # `wg0`, `wg0.wg-quick`, or with openresolv's order prefix `tun.wg0`.
                    if name in (entry, entry.split(".", 1)[0], entry.split(".", 1)[-1]):
                        yield f"{folder}/{entry}", False
        yield ETC_RESOLV_CONF, False
        yield RESOLVED_LIST, False

    def _list(self, folder: str) -> list[str]:
        try:
            return os.listdir(self._root / folder)[:256]
        except OSError:
            return []

    def _times(self) -> tuple[tuple[str, int], ...]:
        times = []
        for path, _ in self._candidates():
            try:
                times.append((path, (self._root / path).stat().st_mtime_ns))
            except OSError:
                continue
        return tuple(times)

    def _read(self) -> tuple[Server, ...]:
        for path, of_resolved in self._candidates():
            try:
                with open(self._root / path, encoding="utf-8", errors="replace") as file:
                    text = file.read(MAX_FILE)
            except OSError:
                continue
            found = tuple(
                server
                for server in (resolved_servers(text) if of_resolved else resolv_conf_servers(text))
                if not server.loopback
            )
            if found:
                self.source = f"/{path}"
                return found[:MAX_SERVERS]
        self.source = ""
        return ()


def resolv_conf_servers(text: str) -> Iterator[Server]:
    """The `nameserver` lines; what is not an address is passed over, as resolvers do."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            yield from _server(words[1])


def resolved_servers(text: str) -> Iterator[Server]:
    """The `SERVERS=` line of systemd-resolved's record of a link."""
    for line in text.splitlines():
        if line.startswith("SERVERS="):
            for word in line.removeprefix("SERVERS=").split():
                # An address, with a port, an interface and a TLS name where given.
                yield from _server(word.split("#")[0].split("%")[0])


def _server(text: str) -> Iterator[Server]:
    """Link-local servers (`fe80::1%eth0`) are of a link that is not the VPN's: left out."""
    try:
        server = parse_server(text)
    except ValueError:
        return
    if not ipaddress.ip_address(server.address).is_link_local:
        yield server

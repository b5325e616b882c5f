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
CASE_PROOFS = 3
"""Times in a row that a server must have shown how it treats letters' case to be believed."""
PLAIN_TIME = 600.0
"""Seconds that it is then asked in lower case, before it is tried again."""
NO_TCP_TIME = 60.0
"""Seconds that a server whose TCP failed is not waited for there, if there is another way."""

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
    """How a server has served of late, and how it treats the letters' case of a name.

    It is asked in lower case, which costs a part of what makes an answer hard to forge, only
    after what nobody off the path can bring about: it writes every question in lower case
    (none came back as it was sent meanwhile), or it has never yet found a name in mixed case
    but several in lower case. Who owns a name can have it denied in mixed case, and that must
    not count: one name that was found in mixed case rules the second out for good.
    """

    failures: int = 0
    rest_until: float = 0.0
    plain_until: float = 0.0
    no_tcp_until: float = 0.0
    lowered: int = 0
    """Exchanges in a row that proved that it does not keep the name's case."""
    lower_only: int = 0
    """Names that it found in lower case only."""
    found_mixed: bool = False
    """It has found a name in mixed case."""

    def keeps_case(self, found: bool) -> None:
        """It repeated a name in mixed case to the letter, and `found` it or not."""
        self.lowered = 0
        if found:
            self.found_mixed, self.lower_only = True, 0

    def lowers_case(self, now: float) -> None:
        """It is proven to have changed the case of a question."""
        self.lowered += 1
        if self.lowered >= CASE_PROOFS:
            # One more proof will do at the end of that time.
            self.plain_until, self.lowered = now + PLAIN_TIME, CASE_PROOFS - 1

    def finds_lower_only(self, now: float) -> None:
        """It is proven to have found a name in lower case that it had not in mixed case."""
        if self.found_mixed:
            return
        self.lower_only += 1
        if self.lower_only >= CASE_PROOFS:
            self.plain_until, self.lower_only = now + PLAIN_TIME, CASE_PROOFS - 1


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
        if self._seen is not None and self._seen[0] != identity:
            self._health.clear()  # An address may be another server's in another network.
        self._seen = seen
        servers = self._setting or self._read()
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

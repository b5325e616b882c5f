"""A network of its own as the client's host: what `LinuxHost` is for the whole machine.

Theory of operation. The programs in the network have nothing but the NIC: no other interface, no
route beside it. So nothing has to be blocked. Without a tunnel there is no route, or one that
says at once that nothing is reached; nothing of this machine is changed, and nothing has to be
undone. The resolver is a file of the instance; whoever enters the network sees it in the place of
/etc/resolv.conf (see `enter`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from client.block import Force
from client.guard import Guards
from client.judgement import HostFacts
from client.model import ClientConfig, ClientError, TransportEndpoint
from client.outlet.namespace import rtnetlink
from client.outlet.namespace.maker import Order
from client.outlet.namespace.network import PrivateNetwork, PrivateNic
from client.outlet.namespace.passage import NamespacePassage
from client.outlet.namespace.rtnetlink import RouteKind
from client.outlet.nic.nic import Nic
from client.outlet.outlet import OutletKind
from client.outlet.passage import Passage
from client.system.facts import FactsReader
from client.system.routes import TunnelAddresses
from client.system.run import Runner, SystemRunner
from storage import own

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EACCES, errno.EOPNOTSUPP)
"""From a kernel without IPv6, or with it turned off."""


class NamespaceHost:
    """See `client.outlet.nic.host.Host`."""

    kind = OutletKind.NAMESPACE

    def __init__(
        self,
        config: ClientConfig,
        maker: Sequence[str],
        resolver: Path,
        runner: Runner | None = None,
    ) -> None:
        """`maker` is the command that runs the module of that name, `resolver` the file."""
        self._config = config
        self.resolver = resolver
        self.network = PrivateNetwork(maker)
        runner = SystemRunner() if runner is None else runner
        self._facts = FactsReader(runner, config.resolv_conf)
        self._nic: PrivateNic | None = None

    def found(self) -> bool:
        return False

    def prepare(self) -> int:
        return 0

    def open_nic(self) -> Nic:
        """See `Host`. Raises ClientError `namespace_refused`."""
        order = Order(self._config.interface, self._config.offload)
        self._nic = self.network.open_nic(order)
        return self._nic

    def look(self, nic: Nic | None) -> HostFacts:
        """What the machine is, where the links are."""
        return self._facts.read(None)

    def set_up(
        self, nic: Nic, addresses: TunnelAddresses, before: TunnelAddresses | None = None
    ) -> None:
        """See `Host`. Raises ClientError."""
        index = self._of(nic).index
        held = () if before is None else (before.ipv4, before.ipv6)
        wanted = (addresses.ipv4, addresses.ipv6)
        with _explained():
            self._ask(rtnetlink.link_up(index))
            for text in wanted:
                if text is not None and text not in held:
                    self._address(index, text, True)
            for text in held:
                if text is not None and text not in wanted:
                    self._address(index, text, False)

    def enforce(
        self, force: Force, nic: Nic | None = None, addresses: TunnelAddresses | None = None
    ) -> None:
        """See `Host`. Raises ClientError."""
        if self.network.namespaces is None:
            return
        with _explained():
            for family in _FAMILIES:
                # After every other: what has no way is told so at once.
                self._route(family, RouteKind.UNREACHABLE, 0, True)
        if nic is None:
            return
        held = () if addresses is None else (addresses.ipv4, addresses.ipv6)
        index = self._of(nic).index
        with _explained():
            for family, own_address in zip(_FAMILIES, held, strict=False):
                into = force is Force.TUNNEL and own_address is not None
                self._route(family, RouteKind.UNICAST, index, into)

    def reach(self, endpoints: Sequence[TransportEndpoint]) -> bool:
        """Links are on the machine's own network."""
        return False

    def set_resolver(self, nic: Nic, addresses: TunnelAddresses) -> None:
        """Write the file in its place: programs that run have it mounted."""
        servers = (addresses.gateway_ipv4, addresses.gateway_ipv6)
        text = "".join(f"nameserver {server}\n" for server in servers if server)
        descriptor = own.open_own(self.resolver, os.O_RDWR | os.O_CREAT)
        try:
            written = os.pwrite(descriptor, text.encode(), 0)
            os.ftruncate(descriptor, written)
        finally:
            os.close(descriptor)

    def keep_resolver(self, nic: Nic, addresses: TunnelAddresses) -> None:
        self.set_resolver(nic, addresses)

    def undo(self) -> None:
        """There is nothing: the NIC goes, and the network with its last program."""

    def passage(self, nic: Nic, held: Sequence[str]) -> Passage:
        """See `Host`. Raises ClientError `namespace_refused`."""
        return NamespacePassage(self.network.open_datagrams())

    def guards(self) -> Guards:
        """None are needed: there is no other way out."""
        return Guards()

    def _of(self, nic: Nic) -> PrivateNic:
        assert nic is self._nic and self._nic is not None
        return self._nic

    def _address(self, index: int, text: str, add: bool) -> None:
        try:
            self._ask(rtnetlink.address(index, text, add))
        except OSError as error:
            gone = not add and error.errno == errno.EADDRNOTAVAIL
            if not gone and not (":" in text and error.errno in _NO_IPV6):
                raise

    def _route(self, family: int, kind: RouteKind, index: int, add: bool) -> None:
        try:
            self._ask(rtnetlink.default_route(family, kind, index, add))
        except OSError as error:
            gone = not add and error.errno in (errno.ESRCH, errno.ENODEV)
            if not gone and not (family == socket.AF_INET6 and error.errno in _NO_IPV6):
                raise

    def _ask(self, request: bytes) -> None:
        rtnetlink.ask(self.network.route, request)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ClientError(
            "host_setup",
            f"The network of its own could not be set up: {(error.strerror or '').lower()}.",
            "Try again: vpnshare connect",
        ) from error

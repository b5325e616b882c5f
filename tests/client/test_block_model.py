"""Random lives of a device: its network is open only when its user wants it open.

The real tables, the real tunnel and the real host driver, over a model of the
kernel (`kernel.py`) that knows nothing of them. After every step packets of
each kind are asked where they would go.

The suite runs a short form. The long one:

    VPNSHARE_LIVES=2000 python -m pytest -s tests/client/test_block_model.py
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from client.block import Phase
from client.model import ClientConfig, ClientError
from client.outlet.nic.host import LinuxHost
from client.outlet.nic.outlet import NicOutlet
from client.wish import Wish
from tests.client.gateway_double import LEASE
from tests.client.kernel import Kernel, Killed

T = TypeVar("T")
LIVES = int(os.environ.get("VPNSHARE_LIVES", "60"))

pytestmark = pytest.mark.timeout(300 + LIVES / 4)

INTERNET = ("93.184.215.14", "2606:2800:21f::1", "10.20.0.5", "fd99::1")
RESOLVERS = ("192.168.1.1", "fd01::1", "8.8.8.8", "2001:4860:4860::8888")
OUTSIDE = ("lan0", "wifi0")
ROUTES = (
    ("10.0.0.0/8", "192.168.1.66"),
    ("93.184.215.0/24", "192.168.1.66"),
    ("93.184.215.14/32", None),
    ("128.0.0.0/1", "192.168.1.66"),
    ("0.0.0.0/1", None),
    ("2606::/16", "fe80::66"),
    ("fd99::/16", "fe80::66"),
    ("2000::/3", None),
)
ADDRESSES = (
    "10.9.0.2/24",
    "93.184.215.200/24",
    "2.0.0.1/1",
    "fd55::2/64",
    "2606:2800:21f::99/64",
    "fd99::9/7",
)


class Life(RuleBasedStateMachine):
    """One device, and what befalls it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="vpnshare-block-"))
        self.resolv_conf = self.folder / "resolv.conf"
        self.resolv_conf.write_text("nameserver 192.168.1.1\n")
        self.kernel = Kernel(self.folder / "proc")
        self.kernel.add_link("lan0", "192.168.1.2/24", "fd01::2/64")
        self.routers()
        self.loop = asyncio.Runner()
        self.full = False
        self.running = True
        self.promised = False
        """Whether the user was promised a closed network, and has not taken the wish back."""
        self.weaker = False
        self.noted: str | None = None
        """The wish as the store has it on the disk."""

    @initialize(strict=st.booleans(), ipv6=st.booleans())
    def born(self, strict: bool, ipv6: bool) -> None:
        self.kernel.set_ipv6(ipv6)
        self.config = ClientConfig(
            self.folder / "state", kill_switch=strict, resolv_conf=self.resolv_conf
        )
        self.begin()

    def begin(self) -> None:
        """A run of the service: what `Client.start` does with what an earlier one left."""
        self.host = LinuxHost(
            self.config, self.kernel, self.resolv_conf, self.kernel.open_nic, self.kernel.proc
        )
        self.outlet = NicOutlet(self.host, self.config)
        wish = Wish.parse(self.noted)
        if self.do(self.outlet.found()) and wish is None:
            wish = Wish()
        if wish is None:
            self.do(self.outlet.open())
            if self.weaker:
                # With nothing in the kernel while there is no tunnel, and no room on the disk to
                # note it: this promise ended with the process.
                self.promised = self.weaker = False
        else:
            self.promised, self.weaker = True, wish.open_on_failure
            self.do(self.outlet.wish(True, wish.open_on_failure))
        self.running = True

    def do(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Carry out on the loop; what the host refuses is what a client would log."""

        def full(fd: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        write = os.write
        try:
            with (
                mock.patch("os.write", full if self.full else write),
                mock.patch("os.fsync", self.sync),
            ):
                return self.loop.run(work)
        except ClientError:
            return None

    def sync(self, fd: int) -> None:
        """Durability costs time, and this disk lives for a second."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def routers(self) -> None:
        self.kernel.add_route("default", "lan0", "192.168.1.1")
        self.kernel.add_route("default", "lan0", "fd01::1")

    # ---- the user

    @precondition(lambda self: self.running)
    @rule(known=st.booleans(), weaker=st.integers(0, 4).map(lambda n: n == 0))
    def connect(self, known: bool, weaker: bool) -> None:
        self.promised |= known
        self.weaker = weaker
        self.do(self.outlet.prepare())
        self.do(self.outlet.wish(known, weaker))
        if self.outlet.promised:
            self.keep()

    @precondition(lambda self: self.running)
    @rule()
    def disconnect(self) -> None:
        self.do(self.outlet.open())
        self.noted = None
        self.promised = self.weaker = False
        assert not [r for f in (4, 6) for r in self.kernel.rules[f] if r.protocol == 178]
        assert self.kernel.tables == {}

    def keep(self) -> None:
        if not self.full:
            self.noted = Wish(None, self.weaker).text()

    # ---- the gateway

    @precondition(
        lambda self: self.running and self.outlet.phase not in (Phase.OPEN, Phase.REFUSED)
    )
    @rule(other=st.booleans())
    def grant(self, other: bool) -> None:
        lease = replace(LEASE, ipv4=bytes((10, 77, 0, 9))) if other else LEASE
        self.promised = True
        self.keep()
        self.do(self.outlet.apply(lease))

    @precondition(
        lambda self: (
            self.running and self.outlet.phase in (Phase.CARRYING, Phase.PAUSED, Phase.HOLDING)
        )
    )
    @rule()
    def cut(self) -> None:
        self.do(self.outlet.broken())

    @precondition(lambda self: self.running and self.outlet.phase in (Phase.PAUSED, Phase.HOLDING))
    @rule()
    def long(self) -> None:
        self.do(self.outlet.hold())

    @precondition(lambda self: self.running and self.outlet.phase is not Phase.OPEN)
    @rule()
    def refuse(self) -> None:
        self.do(self.outlet.refuse())
        if not self.outlet.promised:
            self.noted = None

    # ---- the machine

    @precondition(lambda self: self.running)
    @rule()
    def kill(self) -> None:
        self.do(self.outlet.stop())
        for name in [name for name in self.kernel.links if name.startswith("vshp")]:
            self.kernel.remove_link(name)
        self.running = False

    @precondition(lambda self: self.running)
    @rule(lines=st.integers(0, 12), what=st.sampled_from(["grant", "connect", "follow", "refuse"]))
    def kill_in_the_middle(self, lines: int, what: str) -> None:
        """The process dies while it is changing the host."""
        phase, before = self.outlet.phase, (self.promised, self.weaker)
        self.kernel.die_after = lines
        try:
            if what == "grant" and phase not in (Phase.OPEN, Phase.REFUSED):
                self.grant(False)
            elif what == "connect":
                self.connect(True, False)
            elif what == "follow":
                self.do(self.outlet.follow())
            elif phase is not Phase.OPEN:
                self.refuse()
        except Killed:
            # What was not answered was not promised; the next run may find it, and keep it.
            self.promised, self.weaker = before
        self.kernel.die_after = None
        self.kill()

    @precondition(lambda self: not self.running)
    @rule()
    def restart(self) -> None:
        self.begin()

    @rule(full=st.booleans())
    def disk(self, full: bool) -> None:
        self.full = full

    # ---- the host and its network

    def followed(self) -> None:
        if self.running:
            self.do(self.outlet.follow())

    @rule(up=st.booleans())
    def interface(self, up: bool) -> None:
        if up and not self.kernel.links["lan0"].up:
            self.kernel.set_link("lan0", True)
            self.routers()
            self.check()
        elif not up:
            self.kernel.set_link("lan0", False)
        self.followed()

    @rule()
    def another_interface(self) -> None:
        if "wifi0" not in self.kernel.links:
            self.kernel.add_link("wifi0", "172.16.5.2/24")
            self.kernel.add_route("default", "wifi0", "172.16.5.1")
            self.check()
            self.followed()

    @rule(address=st.sampled_from(ADDRESSES))
    def address(self, address: str) -> None:
        if address.split("/")[0] not in [a for a, _ in self.kernel.links["lan0"].addresses]:
            self.kernel.add_address("lan0", address)
            self.check()
            self.followed()

    @rule(on=st.booleans())
    def family(self, on: bool) -> None:
        if on != self.kernel.ipv6:
            self.kernel.set_ipv6(on)
            self.kernel.add_route("default", "lan0", "fd01::1")
            if on and self.kernel.links["lan0"].up:
                self.kernel.add_address("lan0", "fd01::2/64")
            self.check()
            self.followed()

    @rule(route=st.sampled_from(ROUTES))
    def announced(self, route: tuple[str, str | None]) -> None:
        if self.kernel.links["lan0"].up:
            self.kernel.add_route(route[0], "lan0", route[1])
            self.check()
            self.followed()

    @precondition(lambda self: self.running)
    @rule()
    def rules_flushed(self) -> None:
        """Another program removes what it does not know; our look comes after."""
        for family in (4, 6):
            self.kernel.rules[family] = [r for r in self.kernel.rules[family] if r.protocol != 178]
        self.kernel.tables.clear()
        self.followed()

    # ---- what holds

    def check(self) -> None:
        """At every moment, also before the client has heard of a change."""
        places = {
            self.kernel.decide(address, protocol=protocol)
            for address in INTERNET
            for protocol in ("tcp", "udp")
        } | {
            self.kernel.decide(address, protocol=protocol, port=53)
            for address in RESOLVERS
            for protocol in ("tcp", "udp")
        }
        out = places & set(OUTSIDE)
        if self.promised and not self.weaker:
            assert not out, (out, self.outlet.phase)

    @invariant()
    def settled(self) -> None:
        self.check()
        if not self.promised and self.running and self.kernel.links["lan0"].up:
            assert self.kernel.decide(INTERNET[0]) in OUTSIDE, "nobody wished for a closed network"
        if self.promised and self.running and self.outlet.phase is Phase.CARRYING:
            assert self.kernel.decide(INTERNET[0]).startswith("vshp")
        if self.running and self.promised and self.kernel.links["lan0"].up:
            assert self.kernel.decide("192.168.1.9") == "lan0", "neighbours are direct"
            mark = self.host.prepare()
            assert self.kernel.decide("203.0.113.9", mark=mark) in OUTSIDE, "the link's own"

    def teardown(self) -> None:
        self.do(self.outlet.stop())
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)


TestLives = Life.TestCase
TestLives.settings = settings(
    max_examples=LIVES,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_a_weaker_wish_that_no_disk_took_ends_with_the_process() -> None:
    life = Life()
    try:
        life.born(strict=False, ipv6=False)
        life.disk(full=True)
        life.connect(known=True, weaker=True)
        assert life.outlet.promised
        life.kill()
        life.restart()
        life.connect(known=False, weaker=False)
        assert life.outlet.phase is Phase.ASKING and not life.outlet.promised
        life.settled()
    finally:
        life.teardown()

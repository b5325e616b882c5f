"""VpnDetector: which network is the VPN now, and a call when that changes.

Theory of operation. A *source* knows the operating system: it takes snapshots
of the interfaces and calls `wake` when something may have changed (Linux: the
kernel's own notices, at once; Android: a look every second or so, and only
while someone shares). The detector judges each snapshot (`classify`), keeps
the verdict, and tells `on_change` when the network as the owner sees it
differs from before. It never sends a packet.

`generation` counts *networks*: it rises when sockets opened so far can no
longer be trusted to work - the VPN went away, came back as another interface
(even of the same name), or lost an address. Whoever holds sockets compares the
number and closes those of an older one. A family or an address that is added
does not raise it.

A source that fails (out of descriptors, refused by a policy) is a VPN that is
not there: the verdict becomes absent, with the error as its reason.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Protocol

from gateway.model import VpnNetwork, VpnState
from gateway.vpn.classify import Verdict, judge
from gateway.vpn.snapshot import Attached, Interface, Snapshot, attached

SETTLE = 0.05
"""Seconds between two looks at the system while notices keep coming in."""


class Source(Protocol):
    """Where snapshots come from."""

    def start(self, wake: Callable[[], None]) -> None:
        """Begin to call `wake` (in the running loop) when something may have changed."""

    def stop(self) -> None: ...

    def attend(self, sharing: bool) -> None:
        """Whether changes matter now; a source without notices polls only then."""

    def snapshot(self) -> Snapshot:
        """Look now. Raises OSError."""

    def still(self, addresses: tuple[str, ...]) -> bool:
        """Quickly: does this process's traffic still leave from one of the VPN's addresses?

        Always true where notices arrive at once and sockets are tied to the device.
        """

    def counters(self, index: int) -> tuple[int, int, int] | None:
        """Bytes sent and received and packets dropped by an interface, where readable."""


class VpnDetector:
    """See the module's text. Methods other than `start` may be called at any time."""

    def __init__(self, name: str | None = None, source: Source | None = None) -> None:
        self.network = VpnNetwork(VpnState.ABSENT, reason="The VPN has not been looked for yet.")
        self.index: int | None = None
        """The VPN interface's index, while it is active."""
        self.link_local: str | None = None
        """Its own IPv6 link-local address, if it has one."""
        self.interfaces: tuple[Interface, ...] = ()
        """All interfaces of this host at the last look."""
        self.generation = 0
        self.on_change: Callable[[VpnNetwork], None] = _ignore
        self.on_attached: Callable[[Attached], None] = _ignore
        self._name = name
        self._source = source
        self._attached = Attached()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_look = 0.0

    async def start(self) -> None:
        """Look once, so that `network` holds on return, then watch."""
        self._loop = asyncio.get_running_loop()
        if self._source is None:
            self._source = system_source()
        self._source.start(self._wake)
        self.look()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._source is not None:
            self._source.stop()
        self._loop = None

    def attached(self) -> Attached:
        """This host's addresses and the networks it is attached to outside the VPN."""
        return self._attached

    def attend(self, sharing: bool) -> None:
        """Tell whether someone shares: a phone's detector polls only then."""
        if self._source is not None:
            self._source.attend(sharing)
            if sharing:
                self.look()

    def confirm(self) -> bool:
        """Whether the VPN is there at this very moment, for uses that no socket option guards."""
        network = self.network
        if self._source is None or network.state is not VpnState.ACTIVE:
            return False
        return self._source.still(network.addresses) or self.look().usable

    def choose(self, name: str | None) -> None:
        """Change the owner's choice of interface (None: find the VPN)."""
        self._name = name
        self.look()

    def counters(self) -> tuple[int, int, int] | None:
        """The VPN interface's bytes sent, bytes received, packets dropped; None if unknown."""
        if self.index is None or self._source is None:
            return None
        try:
            return self._source.counters(self.index)
        except OSError:
            return None

    def survey(self) -> tuple[Interface, ...]:
        """All interfaces of this host now, for the doctor; none when they cannot be read."""
        if self._source is None:
            return ()
        try:
            return self._source.snapshot().interfaces
        except OSError:
            return ()

    def look(self) -> VpnNetwork:
        """Judge afresh, at once: for callers about to rely on the answer."""
        if self._source is None:
            return self.network
        if self._loop is not None:
            self._last_look = self._loop.time()
        try:
            snapshot = self._source.snapshot()
            verdict = judge(snapshot, self._name, self.index)
            now_attached = attached(snapshot, verdict.index)
            self.interfaces = snapshot.interfaces
        except OSError as error:
            verdict = Verdict(
                VpnNetwork(VpnState.ABSENT, reason=f"The interfaces cannot be read: {error}.")
            )
            now_attached = self._attached
        self._settle(verdict, now_attached)
        return self.network

    def _wake(self) -> None:
        """Look at once; while notices pour in, only every `SETTLE` seconds."""
        if self._loop is None or self._timer is not None:
            return
        delay = self._last_look + SETTLE - self._loop.time()
        if delay <= 0:
            self.look()
        else:
            self._timer = self._loop.call_later(delay, self._look_late)

    def _look_late(self) -> None:
        self._timer = None
        self.look()

    def _settle(self, verdict: Verdict, now_attached: Attached) -> None:
        before, self.network = self.network, verdict.network
        was_index, self.index = self.index, verdict.index
        self.link_local = verdict.link_local
        lost_address = not set(before.addresses) <= set(verdict.network.addresses)
        if was_index is not None and (verdict.index != was_index or lost_address):
            self.generation += 1
        if now_attached != self._attached:
            self._attached = now_attached
            self.on_attached(now_attached)
        if verdict.network != before or verdict.index != was_index:
            self.on_change(verdict.network)


def system_source() -> Source:
    """The source that fits this system: netlink where it may be used, else the phone's way."""
    if sys.platform == "linux":
        from gateway.vpn.linux import LinuxSource

        if LinuxSource.available():
            return LinuxSource()
    from gateway.vpn.android import AndroidSource

    return AndroidSource()


def _ignore(_: object) -> None:
    """The default listener: nobody."""

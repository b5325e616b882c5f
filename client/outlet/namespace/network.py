"""A network of its own: two namespaces and the NIC in them, as descriptors of this process.

Theory of operation. `maker`, a program of a moment, makes it; what is kept is descriptors, and
from then on no other process is needed. The kernel ends the network with the last descriptor and
the last process in it, so there is nothing to undo, whoever is killed. Addresses and routes are
set by sockets that were opened inside: the kernel looks at whose namespace the socket is of, and
lets its owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path

from client.model import ClientError
from client.outlet.namespace.maker import (
    DESCRIPTORS,
    MAX_DATAGRAMS,
    MAX_MESSAGE,
    Made,
    Order,
)
from client.outlet.nic.nic import OFFLOAD_TCP, OFFLOAD_UDP, SIOCSIFMTU, TUNSETOFFLOAD
from client.outlet.outlet import MAX_MTU, MIN_MTU

REFUSED = "namespace_refused"
"""The name of the error where the system allows no network of one's own."""
_LEFT = 65536
_MAKER_SECONDS = 20.0
_SIOCGIFINDEX = 0x8933
_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_CLONE = Path("/proc/sys/kernel/unprivileged_userns_clone")
_MAX = Path("/proc/sys/user/max_user_namespaces")
OTHERWISE = (
    "Or receive by a proxy, for which no right is needed: vpnshare client --proxy. Or have the "
    "whole device use the tunnel: sudo vpnshare join"
)


class PrivateNic:
    """The NIC in a network of its own (see `client.outlet.nic.nic.Nic`)."""

    vnet_header: bool

    def __init__(self, made: Made, offload: bool, descriptor: int, control: socket.socket) -> None:
        """`control`: a socket of that network, for its ioctls."""
        self.name = made.name
        self.vnet_header = offload
        self.offload_udp = made.offload_udp
        self._fd = descriptor
        self._control = control
        self.index = self._index()

    def fileno(self) -> int:
        return self._fd

    def set_offload(self, tcp: bool, udp: bool) -> None:
        """See `Nic`. Raises OSError if the device is gone."""
        if self.vnet_header:
            flags = (OFFLOAD_TCP if tcp else 0) | (OFFLOAD_UDP if tcp and udp else 0)
            fcntl.ioctl(self._fd, TUNSETOFFLOAD, flags)

    def set_mtu(self, mtu: int) -> None:
        """Set the MTU in bytes. Raises ClientError `nic_mtu`."""
        try:
            if not MIN_MTU <= mtu <= MAX_MTU:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            request = struct.pack("16si20x", self.name.encode(), mtu)
            fcntl.ioctl(self._control, SIOCSIFMTU, request)
        except OSError as error:
            raise ClientError(
                "nic_mtu",
                f"The system does not let {self.name} have an MTU of {mtu}.",
                "Set another: vpnshare set client.mtu 1400",
            ) from error

    def close(self) -> None:
        """Remove the device. Safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _index(self) -> int:
        answer = fcntl.ioctl(
            self._control, _SIOCGIFINDEX, struct.pack("16s24x", self.name.encode())
        )
        index: int = struct.unpack_from("=i", answer, 16)[0]
        return index


class PrivateNetwork:
    """The namespaces, once they are made."""

    def __init__(self, maker: Sequence[str]) -> None:
        """`maker`: the command that runs the module `maker`."""
        self._maker = maker
        self._sockets: list[socket.socket] = []
        self._looking = asyncio.Lock()
        self.namespaces: tuple[int, int] | None = None
        """Descriptors of the user and the network namespace; None before the first NIC."""

    @property
    def route(self) -> socket.socket:
        """rtnetlink, in there."""
        return self._sockets[0]

    @contextlib.asynccontextmanager
    async def diag(self) -> AsyncIterator[socket.socket]:
        """sock_diag, in there: one socket for all who look, one at a time. Raises `OSError`."""
        async with self._looking:
            if not self._sockets:
                raise OSError(errno.ENONET, os.strerror(errno.ENONET))
            sock = self._sockets[2]
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                # What is left of a look that was given up.
                while sock.recv(_LEFT):
                    pass
            yield sock

    def open_nic(self, order: Order) -> PrivateNic:
        """Make a NIC, and first the network if there is none.

        Raises ClientError `namespace_refused`, `nic_unavailable`.
        """
        made, descriptors = self._order(order)
        if made.refused:
            raise explain(made)
        nic, *sockets, user, network = descriptors
        opened = [socket.socket(fileno=each) for each in sockets]
        if self.namespaces is None:
            self.namespaces, self._sockets = (user, network), opened
        else:
            for each in (user, network):
                os.close(each)
            for sock in opened:
                sock.close()
        return PrivateNic(made, order.offload, nic, self._sockets[1])

    def open_datagrams(self) -> list[socket.socket]:
        """UDP sockets in there, as many of each family as a request may want.

        Raises ClientError `namespace_refused`, or `nic_lost` while there is no network.
        """
        if self.namespaces is None:
            raise ClientError("nic_lost", "The network of its own is gone.")
        made, descriptors = self._order(Order("", False, MAX_DATAGRAMS))
        if made.refused:
            raise explain(made)
        return [socket.socket(fileno=each) for each in descriptors]

    def _order(self, order: Order) -> tuple[Made, list[int]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                process = subprocess.Popen(
                    self._maker,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
            with process:
                try:
                    ours.settimeout(_MAKER_SECONDS)
                    socket.send_fds(ours, [json.dumps(asdict(order)).encode()], self._handed())
                    answer, descriptors, _, _ = socket.recv_fds(
                        ours, MAX_MESSAGE, max(DESCRIPTORS, 2 * MAX_DATAGRAMS)
                    )
                except OSError as error:
                    process.kill()
                    answer, descriptors = b"", []
                    failure: OSError | None = error
                else:
                    failure = None
                words = process.stderr.read().decode("utf-8", "replace") if process.stderr else ""
        if not answer:
            last = (words.strip().splitlines() or [str(failure or "it ended at once")])[-1]
            raise ClientError(
                REFUSED, f"A network of its own could not be made: {last}.", OTHERWISE
            )
        return Made(**json.loads(answer)), descriptors

    def _handed(self) -> list[int]:
        return [] if self.namespaces is None else list(self.namespaces)

    def close(self) -> None:
        """Let go of it: it ends with the last program in it. Safe to call twice."""
        namespaces, self.namespaces = self.namespaces, None
        for each in namespaces or ():
            os.close(each)
        for sock in self._sockets:
            sock.close()
        self._sockets = []


def try_to_make(maker: Sequence[str]) -> None:
    """Make one and let go of it at once. Raises ClientError `namespace_refused`."""
    network = PrivateNetwork(maker)
    try:
        network.open_nic(Order("vshp%d", True)).close()
    finally:
        network.close()


def explain(made: Made) -> ClientError:
    """What the system refused, as a sentence with the way round."""
    if made.refused == "nic":
        hint = made.hint if "sudo vpnshare client" not in made.hint else ""
        return ClientError(REFUSED, made.sentence, hint or OTHERWISE)
    reason = os.strerror(made.errno).lower()
    if _value(_MAX) == 0:
        why, fix = "user namespaces are turned off", "sudo sysctl user.max_user_namespaces=15000"
    elif _value(_CLONE) == 0:
        why, fix = (
            "only root may make user namespaces",
            "sudo sysctl kernel.unprivileged_userns_clone=1",
        )
    elif _value(_APPARMOR) == 1:
        return ClientError(
            REFUSED,
            "This system lets no program make a network of its own that AppArmor has no profile "
            f"for ({reason}).",
            f"Allow it to this Python, once, as root: {apparmor()} {OTHERWISE}",
        )
    elif made.errno in (errno.ENOSPC, errno.EUSERS):
        why, fix = (
            "it has as many user namespaces as it allows",
            "sudo sysctl user.max_user_namespaces=15000",
        )
    else:
        return ClientError(
            REFUSED,
            f"This system lets no user make a network of one's own ({made.refused}: {reason}): "
            "this is a container, or a service with fewer rights.",
            OTHERWISE,
        )
    return ClientError(
        REFUSED,
        f"This system lets no user make a network of one's own: {why}.",
        f"Allow it, as root: {fix}. {OTHERWISE}",
    )


def apparmor() -> str:
    """The commands that give this Python the right, where AppArmor keeps it (Ubuntu)."""
    program = os.path.realpath("/proc/self/exe")
    profile = (
        f"abi <abi/4.0>, include <tunables/global> profile vpnshare {program} "
        "flags=(unconfined) { userns, }"
    )
    return (
        f"echo '{profile}' | sudo tee /etc/apparmor.d/vpnshare, then: "
        "sudo apparmor_parser -r /etc/apparmor.d/vpnshare."
    )


def _value(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None

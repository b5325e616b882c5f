"""A program of a moment: makes a network of its own with a NIC in it, hands both over, ends.

Theory of operation. Only a process without threads may enter a user namespace, so the client's
service does not do it itself. This program gets a socket as standard input. With no descriptors in
the first message it makes a user and a network namespace; with two it enters those. It opens a
NIC there, and sends back what stands for all of it: descriptors of the NIC, of sockets by which the
network is set up from outside (the kernel lets the user who made the user namespace do that),
and of the two namespaces. They are alive as long as a descriptor or a process is in them, and so
there is nothing to undo. Asked for datagram sockets, it enters, and opens those alone.

The user keeps the own uid and gid: files are read and written as ever, and nobody is root.

Sources: user_namespaces(7), network_namespaces(7), tun(4).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from client.model import ClientError
from client.outlet.namespace import linux, rtnetlink
from client.outlet.nic.nic import QUEUE_LENGTH, TunDevice

MAX_MESSAGE = 4096
NAMESPACES = 2
"""Descriptors in a request to open another NIC: of the user and of the network namespace."""
DESCRIPTORS = 6
"""In an answer: NIC, rtnetlink, ioctl, sock_diag, user namespace, network namespace."""
MAX_DATAGRAMS = 48
"""UDP sockets of each family in an answer to who wants those (SCM_RIGHTS carries 253)."""
_NETLINK_SOCK_DIAG = 4


@dataclass(frozen=True, slots=True)
class Order:
    """What NIC is wanted; or, in namespaces that are there, how many UDP sockets of each family."""

    name: str
    offload: bool
    datagrams: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """What was made; or which step was refused, with the system's number or the NIC's words."""

    name: str = ""
    offload_udp: bool = False
    refused: str = ""
    """`unshare`, `map`, `enter`, `nic` or `network`."""
    errno: int = 0
    sentence: str = ""
    hint: str = ""


class _Refused(Exception):
    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(step)
        self.step = step
        self.number = error.errno or 0


@contextlib.contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _Refused(name, error) from error


def main() -> int:
    """Serve the one request on standard input."""
    with socket.socket(fileno=os.dup(0)) as asker:
        text, descriptors, _, _ = socket.recv_fds(asker, MAX_MESSAGE, NAMESPACES)
        try:
            made, found = _make(Order(**json.loads(text)), descriptors)
        except _Refused as refused:
            made, found = Made(refused=refused.step, errno=refused.number), []
        except ClientError as error:
            made, found = Made(refused="nic", sentence=error.message, hint=error.hint), []
        socket.send_fds(asker, [json.dumps(asdict(made)).encode()], found)
    return 0


def _make(order: Order, namespaces: list[int]) -> tuple[Made, list[int]]:
    """The NIC, in namespaces that are there or in others. Raises `_Refused`, ClientError."""
    if namespaces:
        with _step("enter"):
            for descriptor, kind in zip(
                namespaces, (linux.CLONE_NEWUSER, linux.CLONE_NEWNET), strict=True
            ):
                linux.setns(descriptor, kind)
    else:
        _make_namespaces()
    if order.datagrams:
        with _step("network"):
            return Made(), _datagrams(min(order.datagrams, MAX_DATAGRAMS))
    nic = TunDevice(order.name, order.offload)
    with _step("network"):
        route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
        rtnetlink.ask(route, rtnetlink.queue_length(socket.if_nametoindex(nic.name), QUEUE_LENGTH))
        user, network = (os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in ("user", "net"))
    sockets = [each.detach() for each in (route, control, diag)]
    return Made(nic.name, nic.offload_udp), [os.dup(nic.fileno()), *sockets, user, network]


def _datagrams(number: int) -> list[int]:
    """As many UDP sockets of each family; where there is no IPv6, of IPv4 alone."""
    opened = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(number)]
    with contextlib.suppress(OSError):
        opened += [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(number)]
    return [each.detach() for each in opened]


def _make_namespaces() -> None:
    uid, gid = os.geteuid(), os.getegid()
    with _step("unshare"):
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNET)
    with _step("map"):
        # Without this a group could be dropped that keeps this user from a file.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    with (
        _step("network"),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route,
    ):
        rtnetlink.ask(route, rtnetlink.link_up(socket.if_nametoindex("lo")))
    for name, value in (
        ("ipv4/ping_group_range", f"{gid} {gid}"),
        ("ipv6/conf/default/disable_ipv6", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
    ):
        # Where /proc/sys may not be written, ping needs rights that nobody has in there.
        with contextlib.suppress(OSError):
            (Path("/proc/sys/net") / name).write_text(value)


if __name__ == "__main__":
    sys.exit(main())

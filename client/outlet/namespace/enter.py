"""How a process gets into a network of its own and becomes a command there.

Theory of operation. The process asks at the door (`door`), enters the user and the network
namespace, and makes a mount namespace of its own, a copy of what it has: the working folder and
all files stay. In that copy it puts what names would leave by out of reach, gives up the rights
that the user namespace gave it, for good, and runs the command in its own place.

Names are asked of the file that the service writes, in the place of resolv.conf. Unix sockets are
no part of a network namespace, so those of resolvers on the machine (systemd-resolved, nscd,
Avahi) lie under empty folders; and nsswitch.conf names no other source of hosts than files and
DNS. What else is reached by such sockets - D-Bus, X, PulseAudio, ssh-agent - stays reachable:
this keeps a command's traffic in, not a command that wants to get out.

Sources: user_namespaces(7), mount_namespaces(7), nsswitch.conf(5).
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from client.model import ClientError
from client.outlet.namespace import linux
from client.outlet.namespace.maker import NAMESPACES, Made
from client.outlet.namespace.network import explain
from storage.sockets import reachable

SIDE_DOORS = ("/run/systemd/resolve", "/run/nscd", "/var/run/nscd", "/run/avahi-daemon")
"""Folders with sockets of resolvers that are outside."""
RESOLV_CONF, NSSWITCH = "/etc/resolv.conf", "/etc/nsswitch.conf"
_HOSTS = "hosts: files dns\n"
_SECONDS = 10.0
_MAX_ANSWER = 8192
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class Visit:
    """A connection to the door of a service. Closed when the command takes this process's place."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError` where no service with a network of its own answers."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_SECONDS)
        try:
            with reachable(os.fspath(path)) as name:
                self._socket.connect(name)
            self._ask(b"stay\n")
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Not to become a command: whoever was started for it may end."""
        self._socket.close()

    def go_in(self) -> None:
        """Be in the network, from now on and for good; nothing if this process is there already.

        Raises ClientError `namespace_refused`, or `network_absent` when it is not made yet.
        """
        answer, descriptors = self._ask(b"enter\n")
        if len(descriptors) != NAMESPACES:
            raise ClientError(
                "network_absent",
                str(answer.get("problem", "The service has no network to enter.")),
                "Connect first: vpnshare connect",
            )
        user, network = descriptors
        if os.path.samestat(os.fstat(network), os.stat("/proc/self/ns/net")):
            return
        step = "enter"
        try:
            linux.setns(user, linux.CLONE_NEWUSER)
            linux.setns(network, linux.CLONE_NEWNET)
            step = "mount"
            linux.unshare(linux.CLONE_NEWNS)
            _close_side_doors(str(answer["resolver"]))
            step = "give up rights"
            linux.give_up_rights()
        except OSError as error:
            raise explain(Made(refused=step, errno=error.errno or 0)) from error

    def _ask(self, line: bytes) -> tuple[dict[str, object], list[int]]:
        self._socket.sendall(line)
        text, descriptors, _, _ = socket.recv_fds(self._socket, _MAX_ANSWER, NAMESPACES)
        if not text:
            raise ConnectionResetError("the service has hung up")
        return json.loads(text), descriptors


def _close_side_doors(resolver: str) -> None:
    """Have names go to the tunnel's resolver and nowhere else. Raises `OSError`."""
    # Nothing that is mounted on the machine later lies over this.
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    target = os.path.realpath(RESOLV_CONF)
    covered = _folders(SIDE_DOORS)
    for folder in covered:
        linux.mount("tmpfs", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    if not os.path.exists(target) and os.path.dirname(target) in covered:
        # It was in one of those. Where there was none, none is made: that place is the machine's.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    if os.path.exists(target):
        linux.mount(resolver, target, None, linux.MS_BIND)
    sources = os.path.realpath(NSSWITCH)
    if os.path.exists(sources):
        _put(hosts_by_dns(Path(sources).read_text(errors="surrogateescape")), sources,
             os.path.dirname(resolver))  # fmt: skip


def _folders(paths: Iterable[str]) -> list[str]:
    """Those that there are, each once."""
    real = (os.path.realpath(path) for path in paths)
    return list(dict.fromkeys(path for path in real if os.path.isdir(path)))


def hosts_by_dns(text: str) -> str:
    """A nsswitch.conf(5) in which names of hosts have no other source than files and DNS."""
    kept = [
        line
        for line in text.splitlines(True)
        if line.split("#")[0].split(":")[0].strip() != "hosts"
    ]
    return "".join(kept) + ("" if not kept or kept[-1].endswith("\n") else "\n") + _HOSTS


def _put(text: str, target: str, folder: str) -> None:
    """Mount a file with that text over `target`. It lies on no disk: `folder` is the instance's
    own, in this mount namespace covered for a moment."""
    linux.mount("tmpfs", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    try:
        file = Path(folder) / "file"
        file.write_text(text, errors="surrogateescape")
        file.chmod(0o644)
        linux.mount(os.fspath(file), target, None, linux.MS_BIND)
    finally:
        linux.unmount(folder, linux.MNT_DETACH)


def become(command: Sequence[str]) -> NoReturn:
    """Run `command` in place of this process. Raises `OSError` when there is no such program."""
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], list(command))

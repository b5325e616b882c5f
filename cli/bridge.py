"""`vpnshare control`: the control socket on standard input and output.

Not for people: `vpnshare console --host` runs it on the far machine by ssh.
It copies bytes and knows nothing of what they mean. The socket's own check of
the user holds here as for every other client.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import threading

from cli.services import running, socket_of
from control.errors import ServiceUnavailable
from control.exits import Exit
from control.oneshot import unavailable
from control.protocol import GREETING
from control.schema import API_VERSION
from services.version import running as running_version
from storage.sockets import reachable

PIECE = 65536


def control(args: argparse.Namespace) -> int:
    if args.probe:
        roles = []
        with contextlib.suppress(ServiceUnavailable):
            for service in running():
                roles.append(service.role)
                service.close()
        print(json.dumps({"vpnshare": running_version(), "api": API_VERSION, "roles": roles}))
        return Exit.OK
    path = socket_of(args.role)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            with reachable(path) as name:
                sock.connect(name)
        except OSError as exc:
            raise unavailable(path, args.role, exc) from None
        _write(1, GREETING + b"\n")
        if not _copy(sock):
            raise ServiceUnavailable(f"The {args.role} service went away.")
    return Exit.OK


def _copy(sock: socket.socket) -> bool:
    """Copy both ways; True when our input ended, False when the service hung up."""
    over = threading.Event()
    # A thread for each way: neither may wait for the other's reader.
    threading.Thread(target=_upward, args=(sock, over), daemon=True).start()
    while data := sock.recv(PIECE):
        _write(1, data)
    return over.is_set()


def _upward(sock: socket.socket, over: threading.Event) -> None:
    try:
        while data := os.read(0, PIECE):
            sock.sendall(data)
        over.set()
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the service hung up: the other way sees it, too


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

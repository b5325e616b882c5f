"""What a program finds in the phone's jail, as JSON: the jail's own test."""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
from collections.abc import Callable
from functools import partial

OPTIONAL = ("pytun", "zeroconf", "ifaddr", "usb", "aiodns", "pycares", "pytest", "scapy")
REQUIRED = ("cryptography", "noise", "textual", "rich", "qrcode")


def error_of(action: Callable[[], object]) -> str:
    """The name of the error that `action` ends with; empty when it succeeds."""
    try:
        action()
    except (OSError, ImportError) as error:
        return type(error).__name__
    return ""


def look(path: str) -> None:
    """Into a file or a folder."""
    if os.path.isdir(path):
        os.listdir(path)
    else:
        open(path).close()


def bind_netlink() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.bind((0, 1))


def tie() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")


def main() -> None:
    files = ("/proc/net/route", "/proc/self/net/route", "/proc/self/net", "/proc/stat",
             "/etc/resolv.conf", "/etc/passwd", "/dev/net/tun")  # fmt: skip
    found = {
        "platform": sys.platform,
        "user": os.getresuid(),
        "groups": os.getgroups(),
        "files": {path: error_of(partial(look, path)) for path in files},
        "modules": {
            name: error_of(partial(importlib.import_module, name))
            for name in (*OPTIONAL, *REQUIRED)
        },
        "netlink": error_of(bind_netlink),
        "tie": error_of(tie),
        "socket": os.listdir("/dev/socket"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

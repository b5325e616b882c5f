"""Links and IPv6 addresses that the kernel has taken up, which it does after `ip` has returned.

Who has a carrier it goes through once a second at most; until then a link is not said to
have one and has no link-local address. Routes of an address, `nodad` or not, are the work
of another worker; until then a connect to the address finds no route, and packets to it
are not for this host.
"""

from __future__ import annotations

import json
import subprocess
import time

TABLES = ("if_inet6", "ipv6_route")
RTF_LOCAL = 0x80000000
GLOBAL, LINK = "00", "20"


def wait_for_links(seconds: float = 20.0) -> None:
    """Wait until the links of this thread's namespace that have a carrier are known for it."""
    deadline = time.monotonic() + seconds
    while True:
        answer = subprocess.run(["ip", "-j", "link"], check=True, capture_output=True, text=True)
        late = [
            link["ifname"]
            for link in json.loads(answer.stdout)
            if {"LOWER_UP", "NO-CARRIER"} <= set(link["flags"])
        ]
        if not late:
            return
        assert time.monotonic() < deadline, f"the kernel does not take up {', '.join(late)}"
        time.sleep(0.02)


def wait_for_ipv6(
    namespace: str | None = None, seconds: float = 20.0, *, link_local: bool = False
) -> None:
    """Wait until all global IPv6 addresses have their local routes, or link-local ones too.

    `namespace` is one that `ip netns` knows; None: that of this thread. Addresses of a
    device that is down or has no carrier do not get their routes.
    """
    deadline = time.monotonic() + seconds
    scopes = {GLOBAL, LINK} if link_local else {GLOBAL}
    while not _are_taken_up(scopes, *(_read(table, namespace) for table in TABLES)):
        assert time.monotonic() < deadline, "the kernel does not take up an IPv6 address"
        time.sleep(0.005)


def _read(table: str, namespace: str | None) -> list[list[str]]:
    path = f"/proc/thread-self/net/{table}"
    if namespace is None:
        with open(path) as file:
            text = file.read()
    else:
        command = ["ip", "netns", "exec", namespace, "cat", path]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.split() for line in text.splitlines()]


def _are_taken_up(scopes: set[str], addresses: list[list[str]], routes: list[list[str]]) -> bool:
    wanted = {(words[0], words[5]) for words in addresses if words[3] in scopes}
    local = {(words[0], words[9]) for words in routes if int(words[8], 16) & RTF_LOCAL}
    return wanted <= local

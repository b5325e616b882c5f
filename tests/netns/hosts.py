"""One host of a test world: a network namespace with a resolver file of its own."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.netns.processes import Failed, Process

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

VOLATILE_ADDRESS_FIELDS = ("valid_life_time", "preferred_life_time")
CLOSING_STATES = ("TIME-WAIT", "FIN-WAIT", "LAST-ACK", "CLOSING")
"""Connections that their program has closed: the kernel's business, for minutes if need be."""


def command(argv: Sequence[str], text: str | None = None) -> str:
    """Run a set-up command; its standard output, or Failed with its standard error."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Host:
    """A namespace in which programs run.

    `ip netns exec` mounts the files of /etc/netns/NAME over those of /etc, so
    each host has a resolv.conf that programs can change without touching the
    machine's own.
    """

    def __init__(self, name: str, namespace: str, logs: Path) -> None:
        self.name = name
        self.namespace = namespace
        self.logs = logs
        self.processes: list[Process] = []
        self.etc = Path("/etc/netns") / namespace
        command(["ip", "netns", "add", namespace])
        self.etc.mkdir(parents=True, exist_ok=True)
        self.resolver("")
        self.sysctl({"net.ipv6.conf.all.disable_ipv6": 0, "net.ipv6.conf.default.accept_dad": 0})
        self.ip("link set lo up")

    # ---- set-up

    def ip(self, *commands: str) -> None:
        """Run `ip` commands, one a string."""
        for words in commands:
            command(["ip", "-n", self.namespace, *words.split()])

    def nft(self, rules: str) -> None:
        """Load nftables rules."""
        command(self.argv(["nft", "-f", "-"]), rules)

    def sysctl(self, values: Mapping[str, object]) -> None:
        """Set kernel parameters of this namespace."""
        command(self.argv(["sysctl", "-qw", *(f"{name}={values[name]}" for name in values)]))

    def resolver(self, *addresses: str) -> None:
        """Write resolv.conf; its inode stays, since running programs have it mounted."""
        text = "".join(f"nameserver {address}\n" for address in addresses if address)
        (self.etc / "resolv.conf").write_text(text)

    # ---- programs

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` here."""
        return ["ip", "netns", "exec", self.namespace, *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 60.0,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; Failed if `check` and it reports an error."""
        try:
            done = subprocess.run(
                self.argv(argv),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                input=text,
                env=None if env is None else dict(env),
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name}: {' '.join(argv)} took over {timeout:g} s") from None
        if check and done.returncode:
            raise Failed(
                f"{self.name}: {' '.join(argv)} ended with {done.returncode}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done

    def start(
        self,
        argv: Sequence[str],
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start a program that runs until it is stopped."""
        name = name or Path(argv[0]).name
        log = self.logs / f"{self.name}-{name}-{len(self.processes)}.log"
        process = Process(f"{self.name}:{name}", self.argv(argv), log, env, cwd)
        self.processes.append(process)
        return process

    # ---- sockets of the test itself

    def inside(self, action: Callable[[], T]) -> T:
        """Call `action` on a thread that is in this namespace.

        A socket stays in the namespace that it was opened in, so what `action`
        opens can be used by the test afterwards.
        """
        outcome: list[T] = []
        failure: list[BaseException] = []

        def body() -> None:
            try:
                with open(f"/run/netns/{self.namespace}") as handle:
                    if _libc.setns(handle.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                outcome.append(action())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this host, with a time-out of ten seconds."""
        opened = self.inside(lambda: socket.socket(family, kind, protocol))
        opened.settimeout(10.0)
        return opened

    def connect(self, address: str, port: int, timeout: float = 10.0) -> socket.socket:
        """A TCP connection from this host.

        An ICMP error wakes who waits for the connection before the kernel has noted the error
        (`ip_icmp_error`, then `tcp_done_with_error`): once in 30,000 times Python looks in between,
        finds none, and takes the socket for connected.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        opened = self.open_socket(family, socket.SOCK_STREAM)
        opened.settimeout(timeout)
        try:
            opened.connect((address, port))
            opened.getpeername()
        except BaseException:
            opened.close()
            raise
        return opened

    # ---- what there is to see

    def state(self) -> dict[str, Any]:
        """All that a program could leave behind in this network: for before and after."""
        links = json.loads(command(["ip", "-n", self.namespace, "-j", "addr"]))
        for link in links:
            for address in link["addr_info"]:
                for volatile in VOLATILE_ADDRESS_FIELDS:
                    address.pop(volatile, None)

        def show(*words: str) -> list[str]:
            lines = command(["ip", "-n", self.namespace, *words]).splitlines()
            return sorted(line.rstrip() for line in lines)

        return {
            "links": links,
            "routes": show("-4", "route", "show", "table", "all"),
            "routes6": show("-6", "route", "show", "table", "all"),
            "rules": show("-4", "rule") + show("-6", "rule"),
            "nftables": self.run(["nft", "list", "ruleset"]).stdout,
            "sockets": sorted(
                " ".join(line.split()[:5])
                for line in self.run(["ss", "-H", "-a", "-n", "-t", "-u", "-w"]).stdout.splitlines()
                if not line.split()[1].startswith(CLOSING_STATES)
            ),
            "resolver": self.run(["cat", "/etc/resolv.conf"]).stdout,
            "resolver files": sorted(os.listdir(self.etc)),
            "sysctl": self.run(
                ["sysctl", "net.ipv4.ip_forward", "net.ipv4.conf.all.src_valid_mark",
                 "net.ipv4.conf.all.rp_filter", "net.ipv6.conf.all.disable_ipv6",
                 "net.ipv6.conf.all.forwarding"]
            ).stdout,
        }  # fmt: skip

    def received_bytes(self, interface: str) -> int:
        """Bytes that an interface has received since it was made."""
        answer = command(["ip", "-n", self.namespace, "-j", "-s", "link", "show", interface])
        return int(json.loads(answer)[0]["stats64"]["rx"]["bytes"])

    # ---- the end

    def stop_processes(self) -> None:
        for process in reversed(self.processes):
            process.kill()
        self.processes.clear()

    def remove(self) -> None:
        """Kill what still runs here and remove the namespace and its files."""
        self.stop_processes()
        remove_namespace(self.namespace)


def remove_namespace(namespace: str) -> None:
    """Remove a namespace with its processes and its files under /etc/netns."""
    pids = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True)
    for pid in pids.stdout.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)
    shutil.rmtree(Path("/etc/netns") / namespace, ignore_errors=True)

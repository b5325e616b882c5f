"""`vpnshare console --host USER@PHONE`: the console here, the service there, ssh between.

The first ssh runs in the terminal, so it may ask for a password or about a
host key; it also says which services run there. It leaves a shared connection
behind (ControlMaster) which all later ones use without asking anything, and
which ends with the console. Nothing has to be configured on either side.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from control.client import ClientControl, ControlClient, GatewayControl
from control.errors import Code, ControlError, ServiceUnavailable
from control.paths import ROLES
from control.remote import explain

PERSIST = 60
"""Seconds that the shared connection stays without a user."""
SEARCH = '"$HOME/.local/bin:$HOME/vpnshare:$PATH"'
"""Where the far vpnshare is looked for; the middle one is a clone of that name."""
_HOST = re.compile(r"(?P<host>[^\s:/-][^\s:/]*|[^\s:/-][^\s:/]*@\[[^\]\s]+\])(:(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Far:
    """A machine that ssh reaches."""

    host: str
    port: int | None
    control_path: str

    def ssh(self, *args: str, batch: bool) -> list[str]:
        """The ssh command that runs `vpnshare ARGS` there."""
        script = f"PATH={SEARCH} exec vpnshare {shlex.join(args)}"
        return [*self._ssh(batch), "--", self.host, f"sh -c {shlex.quote(script)}"]

    def leave(self) -> list[str]:
        """The ssh command that ends the shared connection."""
        return [*self._ssh(True), "-O", "exit", "--", self.host]

    def _ssh(self, batch: bool) -> list[str]:
        options = {
            "ControlMaster": "auto",
            "ControlPath": self.control_path,
            "ControlPersist": str(PERSIST),
            "ServerAliveInterval": "10",
            "BatchMode": "yes" if batch else "no",
        }
        command = ["ssh", "-T"]
        for name, value in options.items():
            command += ["-o", f"{name}={value}"]
        return command if self.port is None else [*command, "-p", str(self.port)]


def parse_host(text: str) -> tuple[str, int | None]:
    """`USER@HOST` or `USER@HOST:PORT`. Raises `ControlError`."""
    found = _HOST.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port < 65536):
        raise ControlError(
            Code.INVALID_PARAMS, f"{text[:80]!r} is no host for ssh.",
            "vpnshare console --host user@phone (Termux: user@phone:8022)",
        )  # fmt: skip
    host = found["host"]
    if "@[" in host:
        host = host.replace("[", "").replace("]", "")
    return host, port


@contextmanager
def reach(text: str) -> Iterator[tuple[Far, list[str]]]:
    """The far machine and the roles of the services that run there. Raises `ControlError`."""
    host, port = parse_host(text)
    if shutil.which("ssh") is None:
        raise ControlError(Code.FAILED, "ssh is not installed.", "apt install openssh-client")
    with tempfile.TemporaryDirectory(prefix="vpnshare-") as folder:
        far = Far(host, port, f"{folder}/ssh")
        try:
            yield far, _probe(far)
        finally:
            subprocess.run(
                far.leave(), check=False, stdin=subprocess.DEVNULL, timeout=10,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip


def _probe(far: Far) -> list[str]:
    # Its standard error stays the terminal's: the shared connection keeps it open.
    done = subprocess.run(
        far.ssh("control", "--probe", batch=False), check=False, stdout=subprocess.PIPE
    )
    if done.returncode != 0:
        raise explain(done.returncode, None, far.host, "vpnshare")
    for line in reversed(done.stdout.decode("utf-8", "replace").splitlines()):
        try:
            answer = json.loads(line)
            roles = [role for role in ROLES if role in answer["roles"]]
        except (ValueError, LookupError, TypeError):
            continue
        if not roles:
            hint = "Start it there: vpnshare up"
            raise ServiceUnavailable(f"No service runs on {far.host}.", hint)
        return roles
    raise ControlError(Code.FAILED, f"What {far.host} answers is not VPN Share.")


def connectors(far: Far, roles: list[str], read_only: bool) -> Mapping[str, Callable[[], Any]]:
    """How the console reaches each of the far services."""
    return {role: _connector(far, role, read_only) for role in roles}


def _connector(far: Far, role: str, read_only: bool) -> Callable[[], Any]:
    control = GatewayControl if role == "gateway" else ClientControl
    command = far.ssh("control", "--role", role, batch=True)

    async def connect() -> ControlClient:
        return await control.connect_command(command, far.host, "console", read_only)

    return connect
